"""Every bound against an independent computation: numpy, scipy, enumeration; and its types, shapes and errors."""

import inspect
import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from clt_utils import bounds
from clt_utils.duality import GINI, SHANNON, SQUARED, fenchel_young_loss

seeds = st.integers(0, 2**32 - 1)


def gram(rng, K, rank):
    J = rng.standard_normal((K, rank)) * 10 ** rng.uniform(-2, 2, (K, 1))
    return J @ J.T


def distribution(rng, K):
    return scipy.special.softmax(rng.standard_normal(K) * 10 ** rng.uniform(-1, 1))


def at_most(value, bound):
    return value <= bound + 1e-9 * max(abs(value), abs(bound) if np.isfinite(bound) else 0)


# What all of them share. One valid call of each function; arguments that may be tensors come first.

SGD = dict(n=10, batch_size=3, smoothness=2.0, step=0.4, num_steps=7)
CALLS = {
    "residual_bounds": (dict(energy=2.0, lam_min=0.5, lam_max=4.0), {}),
    "risk_bounds": (dict(energy=2.0, lam_min=0.5, lam_max=4.0, p_min=0.1), dict(generator=SHANNON)),
    "ce_bounds_from_residual": (dict(residual=0.3), dict(num_classes=4)),
    "risk_bounds_sharp": (dict(energy=0.2, lam_min=0.5, lam_max=4.0, p_min=0.1), dict(num_classes=4)),
    "batch_energy": (dict(energy=2.0, gradient_norm_sq=0.5), dict(n=10, batch_size=3)),
    "sgd_gradient_bound": (dict(risk_drop=0.5, interference=-0.1), SGD),
    "sgd_energy_bound": (dict(risk_drop=0.5, interference=0.1), SGD),
    "step_limit": (dict(lam_max=4.0), dict(batch_size=3, momentum=0.9)),
    "max_loss": (dict(output_range=3.0), dict(num_classes=4)),
    "generalization_range": (dict(max_loss=2.0, entropy_population=0.5, entropy_sample=0.4), {}),
    "tv_gap_bound": (dict(max_loss=2.0, tv=0.25), {}),
    "generalization_tail": (dict(max_loss=2.0), dict(support=8, n=100, delta=0.05)),
    "fixed_predictor_tail": (dict(max_loss=2.0, entropy=1.5), dict(n=100, delta=0.05)),
    "best_of_tail": (dict(max_loss=2.0), dict(candidates=50, n=100, delta=0.05)),
}
VECTOR_CALLS = {  # these reduce the last dimension
    "chi_squared": (dict(p=[0.5, 0.5], q=[0.25, 0.75]), {}),
    "kl_upper_bound": (dict(p=[0.5, 0.5], q=[0.25, 0.75]), {}),
    "effective_sample_size": (dict(correlations=[0.5, 0.25]), dict(n=10)),
    "tv_mean_bound": (dict(probabilities=[0.5, 0.5]), dict(n=10)),
}


def test_no_bound_is_left_out():
    public = {name for name, f in inspect.getmembers(bounds, inspect.isfunction)
              if f.__module__ == bounds.__name__ and not name.startswith("_")}
    assert public == {*CALLS, *VECTOR_CALLS, "near_isometry_bounds"}


@pytest.mark.parametrize("name", CALLS)
def test_types_in_are_types_out_and_entries_are_independent(name):
    function, (values, others) = getattr(bounds, name), CALLS[name]
    pair = lambda x: x if isinstance(x, tuple) else (x,)
    alone = pair(function(**values, **others))
    assert all(type(x) is float for x in alone)
    makers = (np.array, np.ndarray), (torch.tensor, torch.Tensor), (lambda v: torch.tensor(v).double(), torch.Tensor)
    for make, kind in makers:
        batch = pair(function(**{k: make([[v, v], [v, v]]) for k, v in values.items()}, **others))
        assert len(batch) == len(alone)
        for x, y in zip(batch, alone, strict=True):
            assert isinstance(x, kind) and x.shape == (2, 2)
            np.testing.assert_allclose(np.asarray(x), y, rtol=1e-6)  # float32 inputs are rounded, no more
    first = next(iter(values))
    assert all(isinstance(x, (np.ndarray, np.generic)) for x in pair(function(**values | {first: np.array(values[first])}, **others)))
    mixed = pair(function(**values | {first: torch.tensor([values[first]])}, **others))
    assert all(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in mixed)


@pytest.mark.parametrize("name", VECTOR_CALLS)
def test_types_of_bounds_on_vectors(name):
    function, (values, others) = getattr(bounds, name), VECTOR_CALLS[name]
    array = function(**{k: np.array(v) for k, v in values.items()}, **others)
    tensor = function(**{k: torch.tensor([v, v, v]) for k, v in values.items()}, **others)
    assert isinstance(array, np.ndarray) and array.shape == ()
    assert isinstance(tensor, torch.Tensor) and tensor.shape == (3,)
    np.testing.assert_allclose(tensor, array, rtol=1e-6)


@pytest.mark.parametrize("name, argument", [(n, a) for n, c in {**CALLS, **VECTOR_CALLS}.items() for a in c[0]])
def test_nan_is_refused_by_name(name, argument):
    values, others = (CALLS | VECTOR_CALLS)[name]
    bad = np.full(np.shape(values[argument]), np.nan)
    with pytest.raises(ValueError, match=argument):
        getattr(bounds, name)(**values | {argument: bad if bad.shape else np.nan}, **others)


@pytest.mark.parametrize("name, changes, message", [
    ("residual_bounds", dict(energy=-1.0), "energy"),
    ("residual_bounds", dict(lam_max=-1.0), "lam_max"),
    ("residual_bounds", dict(lam_min=-0.1), "lam_min"),
    ("residual_bounds", dict(lam_min=5.0), "lam_min ≤ lam_max"),
    ("residual_bounds", dict(lam_min=np.array([0.1, 5.0])), "lam_min ≤ lam_max"),
    ("risk_bounds", dict(p_min=1.5), "p_min"),
    ("risk_bounds", dict(p_min=-0.5), "p_min"),
    ("risk_bounds", dict(p_min=np.array([0.5, 1.5])), "p_min"),
    ("ce_bounds_from_residual", dict(residual=2.5), "at most 2"),
    ("ce_bounds_from_residual", dict(residual=2 + 1e-7), "at most 2"),  # more than rounding
    ("ce_bounds_from_residual", dict(residual=-0.1), "residual"),
    ("ce_bounds_from_residual", dict(num_classes=1), "num_classes=1.*at least 2"),
    ("risk_bounds_sharp", dict(num_classes=1), "num_classes=1.*at least 2"),
    ("kl_upper_bound", dict(q=np.array([-0.5, 1.5])), "q"),
    ("chi_squared", dict(q=np.array([-0.5, 1.5])), "q"),
    ("batch_energy", dict(energy=-1.0), "energy"),
    ("batch_energy", dict(batch_size=0), "batch_size"),
    ("batch_energy", dict(batch_size=11), "batch_size"),
    ("batch_energy", dict(batch_size=2.5), "batch_size"),
    ("sgd_gradient_bound", dict(step=0.51), "step"),
    ("sgd_gradient_bound", dict(step=0.0), "step"),
    ("sgd_gradient_bound", dict(smoothness=-1.0), "smoothness"),
    ("sgd_gradient_bound", dict(num_steps=0), "num_steps"),
    ("sgd_energy_bound", dict(num_steps=0), "num_steps"),
    ("sgd_energy_bound", dict(batch_size=10), "full batch"),
    ("step_limit", dict(lam_max=-1.0), "lam_max"),
    ("step_limit", dict(batch_size=0), "batch_size"),
    ("step_limit", dict(momentum=1.0), "momentum"),
    ("max_loss", dict(output_range=-1.0), "output_range"),
    ("max_loss", dict(num_classes=1), "num_classes=1.*at least 2"),
    ("generalization_range", dict(entropy_sample=-0.1), "entropy_sample"),
    ("tv_gap_bound", dict(tv=1.1), "tv"),
    ("tv_gap_bound", dict(tv=np.array([0.5, 1.1])), "tv"),
    ("tv_gap_bound", dict(tv=1 + 1e-7), "tv"),
    ("tv_gap_bound", dict(tv=-0.1), "tv"),
    ("batch_energy", dict(gradient_norm_sq=2.001), "above `energy`"),
    ("batch_energy", dict(gradient_norm_sq=np.array([1.0, 2.001])), "above `energy`"),
    ("tv_mean_bound", dict(n=0), "n=0"),
    ("generalization_tail", dict(delta=1.0), "delta"),
    ("generalization_tail", dict(n=0.5), "n=0.5"),
    ("generalization_tail", dict(max_loss=-1.0), "max_loss"),
    ("generalization_tail", dict(support=0), "support"),
    ("fixed_predictor_tail", dict(delta=0.0), "delta"),
    ("fixed_predictor_tail", dict(entropy=2.5), "entropy"),
    ("fixed_predictor_tail", dict(entropy=np.array([0.5, 2.5])), "entropy"),
    ("effective_sample_size", dict(n=2), "lags"),
    ("effective_sample_size", dict(correlations=[1.5]), "numbers in"),
    ("best_of_tail", dict(candidates=0), "candidates"),
    ("best_of_tail", dict(delta=0.0), "delta"),
])
def test_bad_numbers_are_refused_in_words(name, changes, message):
    values, others = (CALLS | VECTOR_CALLS)[name]
    with pytest.raises(ValueError, match=message):
        getattr(bounds, name)(**(values | others | changes))


# Energy and structure matrix

@given(seeds, st.integers(1, 7))
def test_residual_between_its_bounds(seed, K):
    rng = np.random.default_rng(seed)
    A, e = gram(rng, K, K + 2), rng.standard_normal(K)
    lam = scipy.linalg.eigvalsh(A)
    lower, upper = bounds.residual_bounds(e @ A @ e, lam[0], lam[-1])
    assert at_most(lower, e @ e) and at_most(e @ e, upper * (1 + 1e-6))


def test_residual_bounds_at_the_border():
    assert bounds.residual_bounds(0.0, 0.0, 3.0) == (0.0, np.inf)  # no energy, but the kernel may hide a residual
    assert bounds.residual_bounds(0.0, 0.0, 0.0) == (0.0, np.inf)
    assert bounds.residual_bounds(1.0, -1e-9, 3.0) == (1 / 3, np.inf)  # an eigenvalue of zero, rounded
    lower, upper = bounds.residual_bounds(np.array([1.0, 2.0]), 0.5, np.array([[1.0], [4.0]]))
    np.testing.assert_allclose(lower, [[1, 2], [0.25, 0.5]])
    np.testing.assert_allclose(upper, [[2, 4], [2, 4]])


@given(seeds, st.integers(2, 7), st.sampled_from([SHANNON, SQUARED, GINI]))
def test_risk_between_its_bounds(seed, K, generator):
    rng = np.random.default_rng(seed)
    A, f, mu = gram(rng, K, K + 2), torch.from_numpy(3 * rng.standard_normal(K)), torch.from_numpy(distribution(rng, K))
    p = generator.predict(f).numpy()
    e, lam = p - mu.numpy(), scipy.linalg.eigvalsh(A)
    lower, upper = bounds.risk_bounds(e @ A @ e, lam[0], lam[-1], generator, p.min() if generator is SHANNON else None)
    loss = float(fenchel_young_loss(generator, mu, f))
    assert at_most(lower, loss) and at_most(loss, upper * (1 + 1e-6))
    if generator is GINI:
        assert upper == np.inf


def test_risk_bounds_without_p_min_promise_nothing_for_softmax():
    assert bounds.risk_bounds(1.0, 1.0, 2.0, SHANNON)[1] == np.inf
    assert bounds.risk_bounds(1.0, 1.0, 2.0, SHANNON, p_min=0.0)[1] == np.inf
    assert bounds.risk_bounds(1.0, 1.0, 2.0, SQUARED) == (0.25, 0.5)


def test_risk_bounds_of_what_is_no_generator():
    with pytest.raises(TypeError, match="a Generator"):
        bounds.risk_bounds(1.0, 1.0, 2.0, "SHANNON")


def test_risk_bounds_in_closed_form():
    assert bounds.risk_bounds(3.0, 0.5, 4.0, SHANNON, p_min=0.25) == (0.75, 24.0)  # g/λ_max and g/(λ_min p_min)
    assert bounds.risk_bounds(3.0, 0.5, 4.0, SQUARED) == (0.375, 3.0)
    lower, upper = bounds.risk_bounds_sharp(0.5, 1.0, 4.0, 5)
    assert lower == pytest.approx(-np.log(1 - (0.125 / 2) ** 0.5)) and upper == pytest.approx(-np.log(1 - (4 * 0.5 / 5) ** 0.5))
    assert bounds.risk_bounds_sharp(0.5, 1.0, 4.0, 5, p_min=0.9)[1] == pytest.approx(0.5 / 0.9)  # the smaller of the two
    assert bounds.risk_bounds_sharp(10.0, 1.0, 2.0, 5) == (np.inf, np.inf)  # a residual above 2, of a coarser measurement


@given(seeds, st.integers(2, 9))
@example(12272, 2)  # a first entry so close to one that its logarithm loses half of its digits
def test_cross_entropy_from_its_residual(seed, K):
    wrong = distribution(np.random.default_rng(seed), K)[1:]
    loss = -np.log1p(-wrong.sum())  # not through 1 − wrong.sum(), which rounds
    lower, upper = bounds.ce_bounds_from_residual(wrong.sum() ** 2 + (wrong**2).sum(), K)
    assert at_most(lower, loss) and at_most(loss, upper)


@given(st.floats(1e-6, 1 - 1e-6), st.integers(2, 9))
def test_cross_entropy_from_its_residual_is_attained(p, K):
    one_wrong = np.array([p, 1 - p] + [0.0] * (K - 2))
    spread = np.array([p] + [(1 - p) / (K - 1)] * (K - 1))
    for prediction, side in ((one_wrong, 0), (spread, 1)):
        bound = bounds.ce_bounds_from_residual(((prediction - np.eye(K)[0]) ** 2).sum(), K)[side]
        assert bound == pytest.approx(-np.log(p), rel=1e-6, abs=1e-12)


@given(seeds, st.integers(2, 7))
def test_sharp_risk_bounds_hold_and_are_sharper(seed, K):
    rng = np.random.default_rng(seed)
    A, p = gram(rng, K, K + 2), distribution(rng, K)
    e, lam = p - np.eye(K)[0], scipy.linalg.eigvalsh(A)
    energy, loss = e @ A @ e, -np.log(p[0])
    plain = bounds.risk_bounds(energy, lam[0], lam[-1], SHANNON, p.min())
    sharp = bounds.risk_bounds_sharp(energy, lam[0], lam[-1], K, p.min())
    assert at_most(plain[0], sharp[0]) and at_most(sharp[0], loss)
    assert at_most(loss, sharp[1] * (1 + 1e-6)) and at_most(sharp[1], plain[1])


@pytest.mark.parametrize("condition", [1.0, 11.0, 1e4])
def test_ratio_of_the_sharp_bounds_for_small_residuals_and_for_large(condition):
    """√(2κ(K−1)/K) while the residual is small; then 1/p_min enters, and the ratio knows no limit in κ alone."""
    lower, upper = bounds.risk_bounds_sharp(1e-12, 1.0, condition, 10)
    assert upper / lower == pytest.approx(np.sqrt(2 * condition * 9 / 10), rel=1e-3)
    lower, upper = bounds.risk_bounds_sharp(1.5, 1.0, condition, 10, 1e-20)
    assert upper / lower > 1e18


# Divergences

@given(seeds, st.integers(2, 9))
def test_divergence_bounds(seed, K):
    rng = np.random.default_rng(seed)
    p, q = distribution(rng, K), distribution(rng, K)
    kl, chi = scipy.special.rel_entr(p, q).sum(), bounds.chi_squared(p, q)
    assert chi == pytest.approx(((p - q) ** 2 / q).sum())
    assert kl <= np.log1p(chi) + 1e-9 and np.log1p(chi) <= chi and at_most(chi, bounds.kl_upper_bound(p, q))


def test_divergence_bounds_in_closed_form():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.6, 0.15, 0.25])
    assert bounds.kl_upper_bound(p, q) == pytest.approx((0.1**2 + 0.15**2 + 0.05**2) / 0.15)


def test_divergence_bounds_where_q_vanishes():
    p, q = np.array([0.0, 0.5, 0.5]), np.array([0.0, 1.0, 0.0])
    assert bounds.chi_squared(p, q) == np.inf and bounds.kl_upper_bound(p, q) == np.inf
    assert bounds.chi_squared(p, p) == 0.0


# Stochastic gradient descent

@given(seeds, st.integers(1, 6), st.data())
def test_batch_energy_by_enumeration(seed, n, data):
    m = data.draw(st.integers(1, n))
    gradients = np.random.default_rng(seed).standard_normal((n, 3))
    batches = [gradients[list(b)].mean(0) for b in itertools.combinations(range(n), m)]
    expected = np.mean([g @ g for g in batches])
    energy, mean = (gradients**2).sum(1).mean(), gradients.mean(0)
    assert bounds.batch_energy(energy, mean @ mean, n=n, batch_size=m) == pytest.approx(expected)


@given(seeds, st.integers(2, 5), st.floats(0.05, 1), st.data())
def test_sgd_gradient_bound_on_quadratics(seed, n, fraction, data):
    """Samples ½(θ−t)ᵀH(θ−t) with their own H ⪯ L I; everything by hand."""
    m, N, L = data.draw(st.integers(1, n)), 5, 3.0
    rng = np.random.default_rng(seed)
    H = [gram(rng, 2, 2) for _ in range(n)]
    H = [h * L * rng.uniform(0.1, 1) / scipy.linalg.eigvalsh(h)[-1] for h in H]
    targets, theta = rng.standard_normal((n, 2)), rng.standard_normal(2)
    losses = lambda x: np.array([0.5 * (x - t) @ h @ (x - t) for h, t in zip(H, targets)])
    first, norms, changes = losses(theta), [], []
    for _ in range(N):
        batch = rng.choice(n, m, replace=False)
        gradient = np.mean([H[i] @ (theta - targets[i]) for i in batch], axis=0)
        after, rest = theta - fraction / L * gradient, np.setdiff1d(np.arange(n), batch)
        norms.append(gradient @ gradient)
        changes.append((losses(after) - losses(theta))[rest].mean() if len(rest) else 0.0)
        theta = after
    drop = first.mean() - losses(theta).mean()
    bound = bounds.sgd_gradient_bound(drop, np.mean(changes), n=n, batch_size=m, smoothness=L, step=fraction / L, num_steps=N)
    assert at_most(np.mean(norms), bound)


def test_sgd_bounds_in_closed_form():
    c = 0.4 * (1 - 0.4)
    assert bounds.sgd_gradient_bound(0.5, -0.1, **SGD) == pytest.approx(10 * 0.5 / (3 * c * 7) - 7 / (3 * c) * 0.1)
    assert bounds.sgd_energy_bound(0.5, 0.1, **SGD) == pytest.approx(9 / c * (10 * 0.5 / (7 * 7) + 0.1))
    longer = dict(n=10, batch_size=3, smoothness=0.5, step=2.0, num_steps=7)  # the longest step, 1/L, is above 1: c = 1
    assert bounds.sgd_gradient_bound(0.5, 0.0, **longer) == pytest.approx(10 * 0.5 / (3 * 7))
    # the paper's step 1/(2L): (n−m)M/(mc) = (8/3) L (n−m)M/m
    assert bounds.sgd_gradient_bound(0.0, 1.0, **SGD | dict(step=0.25)) == pytest.approx(8 / 3 * 2.0 * 7 / 3)


@pytest.mark.parametrize("lam_max, batch_size, momentum", [(4.0, 1, 0.0), (65.0, 2, 0.9), (0.3, 7, 0.5)])
def test_momentum_on_a_quadratic_diverges_beyond_the_limit_of_the_step_and_not_below(lam_max, batch_size, momentum):
    limit = bounds.step_limit(lam_max, batch_size=batch_size, momentum=momentum)

    def growth(step):
        """Of the error by a step: the largest eigenvalue of (e_k, e_{k-1}) -> (e_{k+1}, e_k), on the curvature λ/m."""
        map_of_step = [[1 + momentum - step * lam_max / batch_size, -momentum], [1, 0]]
        return np.abs(np.linalg.eigvals(map_of_step)).max()

    assert growth(0.99 * limit) < 1 < growth(1.01 * limit)


# Architecture

@pytest.mark.parametrize("K, P, radius", [(2, 30, 1.0), (10, 5000, 2.0), (3, 3, 0.5)])
def test_near_isometry_bounds_in_closed_form(K, P, radius):
    lower, upper = bounds.near_isometry_bounds(K, P, radius)
    spread = (K - 1) * (6 * np.log(K) / (P - 1)) ** 0.5
    assert lower == pytest.approx(radius**2 * ((1 - 2 * np.log(K) / P) ** 2 - spread))
    assert upper == pytest.approx(radius**2 * (1 + spread))


def test_near_isometry_bounds_tighten_with_width_and_say_where_they_end():
    ends = [bounds.near_isometry_bounds(10, P) for P in (10**3, 10**4, 10**5, 10**6)]
    assert all(a[0] < b[0] < 1 < b[1] < a[1] for a, b in itertools.pairwise(ends))
    assert ends[0][0] < 0 < ends[1][0]  # 6 K² ln K is about 1400
    for arguments in ((1, 100), (2, 1), (10, 4), (2, 100, -1.0)):
        with pytest.raises(ValueError, match="Expected"):
            bounds.near_isometry_bounds(*arguments)


# Generalization

@given(seeds, st.integers(2, 8), st.floats(0, 30))
def test_max_loss_is_the_largest_and_attained(seed, K, osc):
    f = np.random.default_rng(seed).uniform(0, osc, K)
    bound = bounds.max_loss(osc, K)
    assert at_most(scipy.special.logsumexp(f) - f.min(), bound)
    worst = np.array([0.0] + [osc] * (K - 1))
    assert bound == pytest.approx(scipy.special.logsumexp(worst))
    assert bound <= np.log(K) + osc + 1e-12


def test_max_loss_does_not_overflow():
    assert bounds.max_loss(1e5, 10) == pytest.approx(1e5 + np.log(9))
    assert bounds.max_loss(0.0, 10) == pytest.approx(np.log(10))


@given(seeds, st.integers(2, 6))
def test_tv_bounds_the_gap(seed, s):
    rng = np.random.default_rng(seed)
    p, q, loss = distribution(rng, s), distribution(rng, s), rng.uniform(0, 2, s)
    assert at_most(abs((p - q) @ loss), bounds.tv_gap_bound(2.0, 0.5 * np.abs(p - q).sum()))


@given(st.floats(0.01, 0.99), st.integers(1, 40))
def test_tv_mean_bound_for_a_coin(p, n):
    """For two outcomes E TV is the mean absolute deviation of a binomial, in closed form."""
    exact = scipy.stats.binom(n, p).expect(lambda k: abs(k / n - p))
    assert at_most(exact, bounds.tv_mean_bound(np.array([p, 1 - p]), n))


def test_copies_are_worth_one_draw_and_independent_draws_all():
    assert bounds.effective_sample_size(np.ones(9), 10) == pytest.approx(1.0) and bounds.effective_sample_size(np.zeros(9), 10) == 10
    assert bounds.effective_sample_size([0.5], 4) == pytest.approx(4 / (1 + 2 * 0.75 * 0.5))


def test_tv_mean_bound_in_closed_form():
    expected = 0.5 * (0.09 / 25) ** 0.5 * 2
    assert bounds.tv_mean_bound(np.array([0.9, 0.1]), 25) == pytest.approx(expected)


def test_generalization_range_and_tail_in_closed_form():
    assert bounds.generalization_range(2.0, 0.5, 0.4) == (-1.5, 1.6)
    expected = 2 * (0.5 * (7 / 100) ** 0.5 + (np.log(20) / 200) ** 0.5)
    assert bounds.generalization_tail(2.0, 8, 100, 0.05) == pytest.approx(expected)
    assert bounds.generalization_tail(2.0, 1, 100, 0.05) == pytest.approx(2 * (np.log(20) / 200) ** 0.5)
    assert bounds.best_of_tail(3.0, 40, 200, 0.1) == pytest.approx(3 * (np.log(400) / 400) ** 0.5)
    assert bounds.tv_gap_bound(2.0, 1.0) == 2.0


@given(st.floats(0.05, 0.95), st.integers(1, 300), st.floats(0.001, 0.5))
def test_fixed_predictor_tail_covers_a_binomial(p, n, delta):
    """Loss 0 or γ with probability p: the chance of a gap above the bound, exactly."""
    bound = bounds.fixed_predictor_tail(3.0, n, delta)
    k = np.arange(n + 1)
    outside = np.abs(3 * (k / n - p)) > bound * (1 + 1e-12)
    assert scipy.stats.binom(n, p).pmf(k)[outside].sum() <= delta + 1e-12


@pytest.mark.parametrize("n, delta, entropy, variance, smallest", [
    (10, 0.05, None, 9 / 4, "Hoeffding"),
    (10, 0.4, 2.7, 2.7 * 0.3, "Chebyshev"),
    (10, 0.4, 0.3, 9 / 4, "Chebyshev"),
    (10, 0.4, 1.4, 9 / 4, "Chebyshev"),  # below γ/2 a floor says nothing about the variance
    (1000, 0.001, 2.9, 2.9 * 0.1, "Bernstein"),
])
def test_fixed_predictor_tail_in_closed_form(n, delta, entropy, variance, smallest):
    log_term = np.log(2 / delta)
    found = {"Hoeffding": 3 * (log_term / (2 * n)) ** 0.5, "Chebyshev": (variance / (n * delta)) ** 0.5,
             "Bernstein": (2 * variance * log_term / n) ** 0.5 + 2 * 3 * log_term / (3 * n)}
    assert min(found, key=found.get) == smallest
    assert bounds.fixed_predictor_tail(3.0, n, delta, entropy) == pytest.approx(found[smallest], rel=1e-12)


@given(st.floats(0.5, 1.0), st.integers(1, 300), st.floats(0.001, 0.5))
def test_fixed_predictor_tail_with_a_floor(share, n, delta):
    """The same when the risk is exactly its floor, Ent = share · γ: the smallest variance that the bound may assume."""
    gamma = 3.0
    bound = bounds.fixed_predictor_tail(gamma, n, delta, entropy=share * gamma)
    assert bound <= bounds.fixed_predictor_tail(gamma, n, delta) * (1 + 1e-12)
    k = np.arange(n + 1)
    outside = np.abs(gamma * (k / n - share)) > bound * (1 + 1e-12) + 1e-12
    assert scipy.stats.binom(n, share).pmf(k)[outside].sum() <= delta + 1e-12


@given(st.integers(1, 60), st.integers(1, 300), st.floats(0.001, 0.5), st.floats(0.05, 0.95))
def test_best_of_tail_covers_the_lowest_of_independent_candidates(candidates, n, delta, p):
    """M independent candidates, each with loss 0 or γ with probability p: the chance that the lowest is below its risk by more."""
    bound = bounds.best_of_tail(3.0, candidates, n, delta)
    below = scipy.stats.binom(n, p).cdf(np.ceil(n * (p - bound / 3) * (1 + 1e-12)) - 1)
    assert -np.expm1(candidates * np.log1p(-below)) <= delta + 1e-12
