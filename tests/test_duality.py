"""Generators and losses against independent computations: mpmath, scipy, the entmax package, finite differences."""

import functools
import math

import entmax
import mpmath
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import grad, hessian, jacrev, vmap

from clt_utils.duality import (
    BINARY,
    GINI,
    HUBER,
    POISSON,
    SHANNON,
    SQUARED,
    Generator,
    as_mean,
    bregman_divergence,
    dual,
    fenchel_young_loss,
    power,
    tsallis,
)

ZOO = [SQUARED, SHANNON, BINARY, GINI, POISSON, HUBER, tsallis(1.001), tsallis(1.5), tsallis(2), tsallis(3), power(1.5), power(3)]
DTYPES = [torch.float64, torch.float32]
every = pytest.mark.parametrize("g", ZOO, ids=lambda g: g.name)


def draw(g, shape, scale=2.0, dtype=torch.float64, seed=0):
    """Random outputs and means of the domain, (..., K), some means on its border."""
    source = torch.Generator().manual_seed(seed)
    f, other = (scale * torch.randn(shape, generator=source, dtype=torch.float64) for _ in range(2))
    mu = g.predict(other)
    if g.on_simplex:
        mu[::3] = torch.eye(shape[-1], dtype=mu.dtype)[torch.randint(shape[-1], mu[::3].shape[:-1], generator=source)]
    return mu.to(dtype), f.to(dtype)


# The conjugate pair

@every
def test_conjugate_is_the_supremum_and_the_prediction_attains_it(g, seed):
    mu, f = draw(g, (400, 3), seed=seed)
    gap = g.value(mu)[:, None] + g.conjugate(f) - mu @ f.T
    assert gap.min() >= -1e-12
    p = g.predict(f)
    torch.testing.assert_close((p * f).sum(-1) - g.value(p), g.conjugate(f), rtol=1e-12, atol=1e-12)


@every
def test_derivatives_by_finite_differences(g):
    mu, f = draw(g, (4, 3), seed=5)
    torch.autograd.gradcheck(g.conjugate, f.requires_grad_())
    torch.autograd.gradcheck(lambda x: fenchel_young_loss(g, mu, x), f)
    torch.autograd.gradcheck(g.predict, f)
    torch.autograd.gradgradcheck(lambda x: fenchel_young_loss(g, mu, x), f)


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_is_prediction_minus_target(g, dtype, seed):
    mu, f = draw(g, (200, 6), dtype=dtype, seed=seed)
    p = g.predict(f)
    slope = vmap(grad(lambda x, m: fenchel_young_loss(g, m, x)))(f, mu)
    curvature = vmap(hessian(lambda x, m: fenchel_young_loss(g, m, x)))(f, mu)
    expected = vmap(jacrev(g.predict))(f)
    condition = 1 + expected.abs().amax((-1, -2))  # what a change of the outputs by one rounding does
    if g.name == "Tsallis-3":
        condition = condition / torch.where(p > 0, p, 1).amin(-1)  # as its docstring states
    assert ((slope - (p - mu)).abs().amax(-1) <= 16 * torch.finfo(dtype).eps * condition).all()
    assert ((curvature - expected).abs().amax((-1, -2)) <= 16 * torch.finfo(dtype).eps * condition**2).all()


@every
def test_value_is_infinite_outside_and_contains_says_so(g):
    mu = torch.tensor([[-0.5, 0.5, 1.2], [float("nan"), 0.0, 1.0]], dtype=torch.float64)
    assert not g.contains(mu)[1]
    if g.domain != "ℝ^K":
        assert not g.contains(mu)[0] and g.value(mu)[0] == torch.inf


@pytest.mark.parametrize("g, border", [(BINARY, (0.0, 1.0)), (HUBER, (-1.0, 1.0)), (POISSON, (0.0, None))])
def test_a_domain_of_intervals_ends_where_it_is_said_to(g, border):
    for at, outwards in zip(border, (-1, 1)):
        if at is not None:
            inside, outside = torch.tensor([[at], [at + 0.2 * outwards]], dtype=torch.float64)
            assert g.value(inside).isfinite() and g.value(outside) == torch.inf
            assert g.contains(inside) and not g.contains(outside)


@every
def test_everything_acts_on_the_last_dimension_and_is_batched_over_the_others(g):
    mu, f = draw(g, (6, 4), seed=1)
    nu = g.predict(f)
    for one in (g.value, g.contains, lambda m: dual(g, m)):
        rows = torch.stack([one(m) for m in nu])
        torch.testing.assert_close(one(nu.reshape(2, 3, 4)).reshape(rows.shape), rows, rtol=0, atol=1e-14)
    for one in (g.conjugate, g.predict):
        rows = torch.stack([one(x) for x in f])
        torch.testing.assert_close(one(f.reshape(2, 3, 4)).reshape(rows.shape), rows, rtol=0, atol=1e-14)
    for two, x in ((fenchel_young_loss, f), (bregman_divergence, nu)):
        rows = torch.stack([two(g, *row) for row in zip(mu, x)])
        torch.testing.assert_close(two(g, mu.reshape(2, 3, 4), x.reshape(2, 3, 4)).ravel(), rows, rtol=0, atol=1e-13)


@every
def test_dual_outputs_are_predicted_back(g, seed):
    p = g.predict(draw(g, (50, 4), seed=seed)[1])
    torch.testing.assert_close(g.predict(dual(g, p)), p, rtol=1e-9, atol=1e-7 if g.name == "Tsallis-3" else 1e-12)


# Independent packages

@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_against_scipy(dtype, seed):
    mu, f = draw(SHANNON, (50, 5), scale=5, dtype=dtype, seed=seed)
    m, x, tol = mu.numpy(), f.numpy(), 30 * torch.finfo(dtype).eps
    np.testing.assert_allclose(SHANNON.conjugate(f), scipy.special.logsumexp(x, axis=-1), rtol=tol, atol=tol)  # may cancel to almost 0
    np.testing.assert_allclose(SHANNON.predict(f), scipy.special.softmax(x, axis=-1), rtol=tol)
    np.testing.assert_allclose(SHANNON.value(mu), -scipy.special.entr(m).sum(-1), rtol=tol, atol=tol)
    kl = scipy.special.rel_entr(m, scipy.special.softmax(x, axis=-1)).sum(-1)
    np.testing.assert_allclose(fenchel_young_loss(SHANNON, mu, f), kl, rtol=tol, atol=tol)
    np.testing.assert_allclose(BINARY.predict(f), scipy.special.expit(x), rtol=tol)
    np.testing.assert_allclose(BINARY.conjugate(f), np.logaddexp(0, x).sum(-1), rtol=tol)
    np.testing.assert_allclose(HUBER.conjugate(f), scipy.special.huber(1, x).sum(-1), rtol=tol)
    poisson = scipy.special.kl_div(m, np.exp(x)).sum(-1)
    np.testing.assert_allclose(fenchel_young_loss(POISSON, mu, f), poisson, rtol=tol, atol=tol)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("alpha", [1.05, 1.2, 1.5, 2, 2.5, 4])
def test_against_the_entmax_package(alpha, dtype, seed):
    g = tsallis(alpha)
    _, f = draw(g, (60, 8), scale=2, dtype=dtype, seed=seed)
    labels = torch.arange(60) % 8
    tol = 1e-6 if dtype == torch.float64 else 1e-4  # the package normalizes by float32 steps
    near_zero = 8 * torch.finfo(dtype).eps ** (1 / max(alpha - 1, 1))  # for α > 2 an entry is a root of what is rounded
    torch.testing.assert_close(g.predict(f), entmax.entmax_bisect(f, alpha, n_iter=60), rtol=tol, atol=max(tol, near_zero))
    theirs = entmax.EntmaxBisectLoss(alpha, n_iter=60, reduction="none")(f, labels)
    torch.testing.assert_close(fenchel_young_loss(g, labels, f), theirs.reshape(60), rtol=tol, atol=tol)
    if alpha == 1.5:
        torch.testing.assert_close(g.predict(f), entmax.entmax15(f), rtol=1e-5, atol=1e-6)
    if alpha == 2:
        torch.testing.assert_close(GINI.predict(f), entmax.sparsemax(f), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(g.predict(f), GINI.predict(f), rtol=1e-5, atol=10 * torch.finfo(dtype).eps)
        theirs = entmax.SparsemaxLoss(reduction="none")(f, labels)
        torch.testing.assert_close(fenchel_young_loss(GINI, labels, f), theirs.reshape(60), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tsallis_tends_to_shannon(dtype, seed):
    mu, f = draw(SHANNON, (50, 5), dtype=dtype, seed=seed)
    g, eps = tsallis(1 + 1e-9), torch.finfo(dtype).eps
    for ours, limit in [(g.predict(f), SHANNON.predict(f)), (g.conjugate(f), SHANNON.conjugate(f)),
                        (fenchel_young_loss(g, mu, f), fenchel_young_loss(SHANNON, mu, f))]:
        torch.testing.assert_close(ours, limit, rtol=20 * eps + 1e-7, atol=20 * eps + 1e-7)


# Accuracy as stated at the head of the module, against 50 digits

def exact_loss(g, mu, f):
    """d_Φ(μ; f) with mpmath, from the definition Φ(μ) + Φ*(f) − ⟨μ, f⟩."""
    mu, f = ([mpmath.mpf(x) for x in v.tolist()] for v in (mu, f))
    xlogx = lambda x: x * mpmath.log(x) if x > 0 else mpmath.mpf(0)
    inner = mpmath.fdot(mu, f)
    if g.name == "squared":
        return sum((m - x) ** 2 for m, x in zip(mu, f)) / 2
    if g.name == "Shannon":
        return sum(map(xlogx, mu)) + mpmath.log(sum(map(mpmath.exp, f))) - inner
    if g.name == "binary":
        return sum(xlogx(m) + xlogx(1 - m) + mpmath.log(1 + mpmath.exp(x)) for m, x in zip(mu, f)) - inner
    if g.name == "Poisson":
        return sum(xlogx(m) - m + mpmath.exp(x) for m, x in zip(mu, f)) - inner
    if g.name == "Huber":
        return sum(m * m / 2 + (x * x / 2 if abs(x) <= 1 else abs(x) - mpmath.mpf(1) / 2) for m, x in zip(mu, f)) - inner
    a = mpmath.mpf(2 if g.name == "Gini" else float(g.name.split("-")[1]))
    if g.name.startswith("power"):
        b = a / (a - 1)
        return sum(abs(m) ** a / a + abs(x) ** b / b for m, x in zip(mu, f)) - inner
    phi = lambda p: sum(x**a - x for x in p) / (a * (a - 1))
    entry = lambda x: x ** (1 / (a - 1)) if x > 0 else mpmath.mpf(0)
    low, high = max(f), max(f) + mpmath.log(len(f))
    for _ in range(190):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(entry(1 + (a - 1) * (x - middle)) for x in f) > 1 else (low, middle)
    p = [entry(1 + (a - 1) * (x - low)) for x in f]
    return phi(mu) + mpmath.fdot(p, f) - phi(p) - inner


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_loss_is_as_accurate_as_stated(g, dtype, seed):
    rng = np.random.default_rng(seed)
    eps = torch.finfo(dtype).eps
    with mpmath.workdps(60):
        for case in range(24):
            f = torch.tensor(rng.normal(size=4) * 10 ** rng.uniform(-1, 1.5), dtype=dtype)
            nudge = torch.tensor(rng.normal(size=4) * 10 ** rng.uniform(-8, 1), dtype=dtype)
            other = (f + nudge).clamp(max=80)  # e^80 is finite in float32
            mu = torch.eye(4, dtype=dtype)[f.argmax()] if case % 3 == 0 else g.predict(other)
            if g.on_simplex:  # exactly representable, summing to one exactly
                mu = (mu * 2**20).round() / 2**20
                mu[mu.argmax()] += 1 - mu.sum()
            loss, exact = fenchel_young_loss(g, mu, f), exact_loss(g, mu, f)
            scale, p = eps * (1 + float(f.abs().max())), g.predict(f)
            residual = float((p - mu).abs().sum()) + scale * max(1, float(p.abs().sum()))  # the exact one: p is rounded
            bound = 4 * scale * (float(exact) + residual)
            assert loss >= 0
            assert abs(mpmath.mpf(float(loss)) - exact) <= bound, (mu, f)


@pytest.mark.parametrize("g", [POISSON, power(3)], ids=lambda g: g.name)
def test_digits_are_kept_where_target_and_prediction_differ_by_a_twentieth(g):
    """The plain formula loses two hundred roundings there, so what replaces it must reach as far."""
    t = torch.linspace(0.0501, 0.06, 40, dtype=torch.float64)
    mu = torch.cat([t, -t]).exp()[:, None]
    loss, p = fenchel_young_loss(g, mu, torch.full_like(mu, float(g is not POISSON))), 3  # of the prediction 1
    with mpmath.workdps(40):
        exact = [m * mpmath.log(m) - m + 1 if g is POISSON else m**p / p + 1 - mpmath.mpf(1) / p - m
                 for m in map(mpmath.mpf, mu[:, 0].tolist())]
        error = max(abs(float(mpmath.mpf(x) / e - 1)) for x, e in zip(loss.tolist(), exact))
    assert error <= 80 * torch.finfo(torch.float64).eps


def test_cross_entropy_keeps_its_digits_where_the_textbook_form_loses_all():
    outputs = torch.tensor([40.0, 0.0], dtype=torch.float64)
    assert fenchel_young_loss(SHANNON, torch.tensor(0), outputs).item() == pytest.approx(math.log1p(math.exp(-40)), rel=1e-14)
    assert torch.logsumexp(outputs, -1) - outputs[0] == 0


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=6), st.integers(0, 5), st.sampled_from(ZOO), st.sampled_from(DTYPES))
def test_no_outputs_give_a_negative_loss_or_a_nan(f, label, g, dtype):
    f = torch.tensor(f, dtype=dtype).requires_grad_()
    loss = fenchel_young_loss(g, torch.tensor(label % len(f)), f)
    assert loss >= 0
    if g.on_simplex or g is BINARY or g is HUBER:
        slope, = torch.autograd.grad(loss, f)
        assert loss.isfinite() and slope.isfinite().all() and slope.abs().max() <= 2
    if g.on_simplex:
        p = g.predict(f)
        assert (p >= 0).all() and abs(float(p.detach().sum()) - 1) <= 8 * torch.finfo(dtype).eps


MASKABLE = [SHANNON, GINI, BINARY, POISSON, tsallis(1.001), tsallis(1.5), tsallis(2), tsallis(3)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("g", MASKABLE, ids=lambda g: g.name)
def test_masked_outputs_count_as_if_they_were_not_there(g, dtype, seed):
    mu, f = draw(g, (30, 5), dtype=dtype, seed=seed)
    there, absent = [0, 2, 3, 5, 6], [1, 4, 7]
    targets, masked = torch.zeros(30, 8, dtype=dtype), torch.full((30, 8), -torch.inf, dtype=dtype)
    targets[:, there], masked[:, there] = mu, f
    close = functools.partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 1e-8)
    close(g.predict(masked)[:, there], g.predict(f))
    assert (g.predict(masked)[:, absent] == 0).all()
    close(g.conjugate(masked), g.conjugate(f))
    loss, expected = (fenchel_young_loss(g, *pair) for pair in ((targets, masked.requires_grad_()), (mu, f.requires_grad_())))
    close(loss, expected)
    slope, = torch.autograd.grad(loss.sum(), masked)
    close(slope[:, there], torch.autograd.grad(expected.sum(), f)[0])
    assert (slope[:, absent] == 0).all()


@pytest.mark.parametrize("g, targets", [(SQUARED, [[1.0, 0.0]]), (HUBER, [[1.0, 0.0]]), (power(3), [[1.0, 0.0]]),
                                        (SHANNON, [[0.5, 0.5]]), (SHANNON, [[0.0, 1.0]]), (BINARY, [[1.0, 1.0]])],
                         ids=lambda x: getattr(x, "name", str(x)))
def test_masks_where_the_loss_is_infinite_are_refused(g, targets):
    with pytest.raises(ValueError, match="outputs with 1 of 2 entries NaN or infinite.*−∞ where the target and the prediction are 0"):
        fenchel_young_loss(g, torch.tensor(targets), torch.tensor([[0.3, -torch.inf]]))


def test_all_masked_is_refused():
    with pytest.raises(ValueError, match="2 of 2 entries"):
        fenchel_young_loss(SHANNON, torch.tensor([0]), torch.full((1, 2), -torch.inf))


@every
def test_predictions_pass_nans_on(g):
    assert g.predict(torch.tensor([[float("nan"), 1.0, 0.0], [3.0, 1.0, 0.0]]))[0].isnan().any()


# Bregman divergences

@every
def test_bregman_is_its_definition(g, seed):
    mu, other = draw(g, (100, 4), seed=seed)
    nu = g.predict(other)
    nu_leaf = nu.clone().requires_grad_()
    slope, = torch.autograd.grad(g.value(nu_leaf).sum(), nu_leaf)
    definition = g.value(mu) - g.value(nu) - (slope * (mu - nu)).sum(-1)
    torch.testing.assert_close(bregman_divergence(g, mu, nu), definition, rtol=1e-9, atol=1e-10)
    assert (bregman_divergence(g, nu, nu) <= 1e-20).all()


def test_bregman_at_the_border():
    p, q = torch.tensor([0.2, 0.8, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert bregman_divergence(SHANNON, p, q) == torch.inf
    assert bregman_divergence(SHANNON, q, p).item() == pytest.approx(-math.log(0.8))
    assert bregman_divergence(GINI, p, q).item() == pytest.approx(0.04)
    assert bregman_divergence(BINARY, q[:2], q[:2]) == 0


# The declared constants

@every
def test_strong_convexity_and_smoothness_are_as_declared(g):
    ratios = []
    for scale, nudge in [(0.1, 1e-2), (0.1, 1), (1, 1e-2), (3, 1e-2), (3, 3), (8, 1)]:
        scale = 1e3 if scale == 8 and g.domain == "ℝ^K" else scale
        for num_classes in (1, 2, 3) if not g.on_simplex else (2, 3, 6):
            f = scale * torch.randn((300, num_classes), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            mu = g.predict(f + nudge * f.flip(0))
            loss, square = fenchel_young_loss(g, mu, f), (mu - g.predict(f)).square().sum(-1)
            ratios.append((2 * loss / square)[square > 1e-12])
    ratios = torch.cat(ratios)
    assert ratios.min() >= g.strong_convexity * (1 - 1e-8)
    assert ratios.max() <= g.smoothness * (1 + 1e-8)
    if g.name not in ("Tsallis-1.001", "Tsallis-1.5"):  # see below
        assert ratios.min() <= (1.01 * g.strong_convexity if g.strong_convexity else 0.1)  # no better constant
    assert g.smoothness < math.inf or ratios.max() > 30


def test_no_better_constant_for_tsallis_than_one():
    """For 1 < α < 2, σ = 1 is the best constant only as the number of classes grows, along e₁ minus the uniform rest."""
    g, num_classes, alpha = tsallis(1.5), 10**6, 1.5
    d = torch.full((num_classes,), -1 / (num_classes - 1), dtype=torch.float64)
    d[0] = 1
    nu = d.abs() ** (2 / (3 - alpha))
    nu /= nu.sum()
    mu = nu + 1e-3 * nu[-1] * d
    assert 1 <= 2 * bregman_divergence(g, mu, nu) / (mu - nu).square().sum() <= 1.02


# The border of the package

def test_labels_and_one_hot_vectors_agree():
    for g in ZOO:
        f = torch.randn(3, 5, 4, dtype=torch.float64)
        labels = torch.randint(4, (3, 5))
        one_hot = torch.nn.functional.one_hot(labels, 4)
        torch.testing.assert_close(fenchel_young_loss(g, labels, f), fenchel_young_loss(g, one_hot, f))
        torch.testing.assert_close(fenchel_young_loss(g, labels.int(), f), fenchel_young_loss(g, one_hot.double(), f))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.bool], ids=str)
def test_labels_and_integer_means_of_every_kind(dtype):
    labels, f = torch.tensor([0, 1, 1]), torch.randn(3, 300, dtype=torch.float64)
    for g in (SHANNON, SQUARED):
        torch.testing.assert_close(fenchel_young_loss(g, labels.to(dtype), f), fenchel_young_loss(g, labels, f))
    for g in (BINARY, SQUARED, POISSON, HUBER):
        means = torch.tensor([[0], [1], [1]])
        torch.testing.assert_close(fenchel_young_loss(g, means.to(dtype), f[:, :1]), fenchel_young_loss(g, means.double(), f[:, :1]))


@pytest.mark.parametrize("g", [g for g in ZOO if not g.on_simplex], ids=lambda g: g.name)
@pytest.mark.parametrize("labels", [[0, 0], [0, 1]])
def test_one_output_takes_no_labels(g, labels):
    """As a label of one class, 0 would count as a mean of 1, which nobody means who writes 0."""
    with pytest.raises(ValueError, match=r"targets of shape \(2,\).*Expected: mean vectors \(2, 1\).*targets\[..., None\]"):
        fenchel_young_loss(g, torch.tensor(labels), torch.zeros(2, 1))


@pytest.mark.parametrize("targets, outputs, message", [
    (torch.tensor([0, 3]), torch.zeros(2, 3), "labels from 0 to 3.*labels from 0 to 2"),
    (torch.tensor([0, -1]), torch.zeros(2, 3), "labels from -1 to 0"),
    (torch.tensor([0, 1, 2]), torch.zeros(2, 3), r"shape \(3,\).*integer labels \(2,\)"),
    (torch.tensor([0.0, 1.0]), torch.zeros(2, 3), "mean vectors"),
    (torch.tensor([0, 1]), torch.tensor([[0.0, float("nan")], [1, 2]]), "outputs with 1 of 4 entries NaN"),
    (torch.tensor([0, 1]), torch.tensor([[0.0, float("inf")], [1, 2]]), "learning rate"),
    (torch.tensor([[0.5, float("nan")]]), torch.zeros(1, 2), "targets with 1 of 2 entries NaN"),
    (torch.tensor([[0.5, 0.6]]), torch.zeros(1, 2), r"outside the domain of Shannon, the first \[0.5, 0.6\].*sum to one"),
    (torch.tensor([[1.5, -0.5]]), torch.zeros(1, 2), "nonnegative"),
    (torch.tensor([0]), torch.zeros(1, 2).long(), "floating-point outputs"),
])
def test_errors_say_what_is_wrong(targets, outputs, message):
    with pytest.raises(ValueError, match=message):
        fenchel_young_loss(SHANNON, targets, outputs)


def test_more_errors():
    with pytest.raises(TypeError, match="ndarray.*torch tensor"):
        fenchel_young_loss(SHANNON, np.array([0]), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"outside the domain of Huber.*\[−1, 1\]"):
        fenchel_young_loss(HUBER, torch.tensor([[2.0]]), torch.zeros(1, 1))
    for alpha in (1, 0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"alpha=.*\(1, ∞\)"):
            tsallis(alpha)
    with pytest.raises(ValueError, match="p=1"):
        power(1)
    with pytest.raises(ValueError, match="targets on meta and outputs on cpu"):
        fenchel_young_loss(SHANNON, torch.zeros(3, dtype=torch.long, device="meta"), torch.zeros(3, 2))


@pytest.mark.parametrize("p, constants, strong, smooth", [(1.5, "σ = 0.5", 0.0, math.inf), (2, "both exact", 1.0, 1.0),
                                                          (3, "β = 2", 0.0, math.inf), (4.5, "β = 3.5", 0.0, math.inf)])
def test_constants_of_a_power_are_those_of_its_second_derivative(p, constants, strong, smooth):
    g = power(p)
    assert g.constants.startswith(constants) and (g.strong_convexity, g.smoothness) == (strong, smooth)


def test_means_with_float32_rounding_are_accepted():
    p = torch.softmax(torch.randn(100, 1000), -1)
    assert as_mean(SHANNON, p, torch.zeros(100, 1000, dtype=torch.float64)).dtype == torch.float64


def test_a_generator_of_your_own_needs_no_loss():
    scale = torch.tensor([1.0, 4.0], dtype=torch.float64)
    g = Generator("weighted", lambda mu: 0.5 * (scale * mu.square()).sum(-1), lambda f: 0.5 * (f.square() / scale).sum(-1),
                  lambda f: f / scale, lambda mu: torch.isfinite(mu).all(-1), 1.0, 4.0)
    mu, f = torch.randn(2, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(fenchel_young_loss(g, mu, f), 0.5 * (scale * (mu - f / scale).square()).sum(-1))
    torch.testing.assert_close(bregman_divergence(g, mu, f), 0.5 * (scale * (mu - f).square()).sum(-1))


@pytest.mark.parametrize("g", [SHANNON, BINARY, GINI, tsallis(1.5), power(3)], ids=lambda g: g.name)
def test_compiles_into_one_graph(g, seed):
    torch.compiler.reset()  # what was compiled before makes numbers symbols, and their guards round otherwise
    mu, f = draw(g, (8, 4), seed=seed)
    f.requires_grad_()
    loss = torch.compile(lambda x: fenchel_young_loss(g, mu, x), fullgraph=True, backend="eager")(f)
    torch.testing.assert_close(loss, fenchel_young_loss(g, mu, f))
    slope, = torch.autograd.grad(loss.sum(), f)
    torch.testing.assert_close(slope, g.predict(f) - mu)
