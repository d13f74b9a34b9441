"""What a sample can tell: sufficiency, exponential families, and what a summary loses."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy import special
from torch import distributions

from ..duality import BINARY, POISSON, SHANNON, SQUARED, fenchel_young_loss
from .core import at_least, at_most, coverage, identity, rate, statement
from .instances import normal

CHAPTER = "foundations/what-a-sample-can-tell"


@statement("sufficiency-principle", "Samples with the same sufficient statistic say the same about the parameter",
           kind="principle", paper="Theorem 1", chapter=CHAPTER, trials=60,
           assumptions=("T is sufficient for θ in the family considered", "the family is right"), words="0e095333")
def sufficiency_principle(rng):
    n = int(rng.integers(4, 12))
    prior = rng.dirichlet(np.ones(9))
    for name, (grid, log_density, pair) in _PAIRS.items():
        first, second = (_log_likelihood(log_density, grid, x) for x in pair(rng, n))
        yield identity(f"likelihood ratios ({name})", first, second)
        yield identity(f"posterior ({name})", special.softmax(np.log(prior) + first), special.softmax(np.log(prior) + second))


def _log_likelihood(log_density, grid, sample):
    """log L(θ) − log L(θ_0) over the grid: what the sample says about θ, all that does not depend on θ left out."""
    values = np.array([log_density(theta, sample).sum() for theta in grid])
    return values - values[0]


def _coins(rng, n):
    heads = int(rng.integers(1, n))
    return [rng.permutation(np.arange(n) < heads) for _ in range(2)]


def _counts(rng, n):
    """Two samples of counts with one sum."""
    total = int(rng.integers(n, 4 * n))
    return [rng.multinomial(total, rng.dirichlet(np.ones(n))) for _ in range(2)]


def _same_mean_and_spread(rng, n):
    """Two real samples with the same sum and sum of squares: the residuals of one are turned inside 1^⊥."""
    x, direction = rng.standard_normal((2, n))
    residual, direction = x - x.mean(), direction - direction.mean()
    return [x, x.mean() + direction * np.linalg.norm(residual) / np.linalg.norm(direction)]


_PAIRS = {
    "Bernoulli": (np.linspace(0.1, 0.9, 9), lambda p, x: np.where(x, np.log(p), np.log1p(-p)), _coins),
    "Poisson": (np.linspace(0.5, 4.5, 9), lambda m, x: x * np.log(m) - m - special.gammaln(x + 1), _counts),
    "normal": ([(m, s) for m in (-1, 0, 1) for s in (0.5, 1, 2)],
               lambda t, x: -0.5 * ((x - t[0]) / t[1]) ** 2 - np.log(t[1]), _same_mean_and_spread),
}


def _mean_only(rng, log_density):
    """Two samples of five with one mean but different spread, seen by a location family."""
    x, wider = (rng.normal() + spread * np.array([-1.0, -0.4, 0.1, 0.3, 1.0]) for spread in (1, 3))
    wider += x.mean() - wider.mean()
    grid = x.mean() + np.linspace(-2, 2, 9)
    yield identity("likelihood ratios", *(_log_likelihood(log_density, grid, s) for s in (x, wider)))


@sufficiency_principle.breaks("The mean is not sufficient: Laplace location")
def _(rng):
    yield from _mean_only(rng, lambda t, x: -np.abs(x - t))


@sufficiency_principle.breaks("The mean is not sufficient: Cauchy location")
def _(rng):
    yield from _mean_only(rng, lambda t, x: -np.log1p((x - t) ** 2))


@statement("fisher-neyman", "A statistic is sufficient exactly when the density factors through it", kind="theorem",
           assumptions=("the family is dominated by one σ-finite measure",), chapter=CHAPTER, words="1f20d800")
def fisher_neyman(rng):
    points, values, thetas = 12, 4, 5
    T = np.concatenate([np.arange(values), rng.integers(values, size=points - values)])
    g, h = rng.uniform(0.1, 1, (thetas, values)), rng.uniform(0.1, 1, points)
    factored = g[:, T] * h
    factored /= factored.sum(1, keepdims=True)
    yield from _same_conditional("factors ⇒ sufficient", factored, T)
    # four tosses of a coin that may be biased, and statistics of which some are sufficient
    tosses = np.array(list(itertools.product([0, 1], repeat=4)))
    heads = rng.uniform(0.1, 0.9, thetas)[:, None]
    densities = np.prod([np.where(t, heads, 1 - heads) for t in tosses.T], axis=0)
    for name, statistic in _TOSSES.items():
        T = np.unique([statistic(t) for t in tosses], return_inverse=True)[1]
        sufficient = next(_same_conditional("", densities, T)).slack >= 0
        if sufficient:  # then g = P_θ(T = t) and h = P(x | T) are factors
            law = np.stack([np.bincount(T, p) for p in densities])
            yield identity("sufficient ⇒ factors", law[:, T] * (densities[0] / law[0, T]), densities)
        rank_one = all(numerical_rank(densities[:, t == T]) == 1 for t in np.unique(T))  # p_θ(x) = g_θ(t) h(x) where T(x) = t
        yield identity(f"exactly when ({name})", float(sufficient), float(rank_one))
        yield identity(f"exactly when ({name})", float(sufficient), float(name in _SUFFICIENT))


_SUFFICIENT = ("sum", "sum and first", "all")
_TOSSES = {"sum": lambda t: t.sum(), "sum and first": lambda t: 5 * t[0] + t.sum(), "all": lambda t: t @ [8, 4, 2, 1],
           "first": lambda t: t[0], "largest": lambda t: t.max(), "runs": lambda t: np.abs(np.diff(t)).sum()}


def _same_conditional(name, densities, T):
    """P_θ(x | T(x)) is the same for every θ; densities (θs, points)."""
    conditional = np.stack([p / np.bincount(T, p)[T] for p in densities])
    yield identity(name, conditional, conditional[:1])


@fisher_neyman.breaks("No factorization: the first of three tosses leaves the other two depending on θ")
def _(rng):
    tosses = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1)
    heads = rng.uniform([0.1, 0.6], [0.4, 0.9])[:, None]
    densities = np.prod([np.where(t, heads, 1 - heads) for t in tosses], axis=0)
    yield from _same_conditional("factors ⇒ sufficient", densities, tosses[0])


@statement("exponential-family-duality", "The log-partition function is the conjugate that carries mean, covariance and loss",
           kind="theorem", chapter=CHAPTER, trials=40,
           assumptions=("p(y; f) = h(y) exp(⟨T(y), f⟩ − Φ*(f))", "f in the interior of dom Φ*",
                        "for the MLE: the mean of T is in the relative interior of the convex support"), words="167a0e7c")
def exponential_family_duality(rng):
    T, log_h = normal(rng, 7, 2), 0.5 * normal(rng, 7)

    def log_partition(f):
        return torch.logsumexp(log_h + T @ f, 0)

    f, g = normal(rng, 2, 2)
    p = torch.softmax(log_h + T @ f, 0)
    yield identity("gradient = mean", torch.func.grad(log_partition)(f), p @ T)
    yield identity("Hessian = covariance", torch.func.jacrev(torch.func.grad(log_partition))(f), torch.cov(T.mT, aweights=p, correction=0))
    yield at_most("convex", log_partition((f + g) / 2), (log_partition(f) + log_partition(g)) / 2, unit=1.0)
    constraints = torch.cat([T, torch.ones(7, 1)], 1)
    direction = torch.linalg.svd(constraints.mT).Vh[3:].mT @ normal(rng, 4)  # keeps total mass and mean
    other = p + rng.uniform(0.1, 0.9) * direction / (-direction / p).max()
    yield at_most("entropy is largest", _entropy(other, log_h), _entropy(p, log_h))
    yield identity("and is −Φ(mean)", _entropy(p, log_h), _fit_loss(moment_matching(T, log_h, p @ T), T, log_h, p @ T))
    weights = torch.from_numpy(rng.dirichlet(np.full(7, 3.0)))
    fit = moment_matching(T, log_h, weights @ T)
    yield identity("MLE matches the moments", torch.softmax(log_h + T @ fit, 0) @ T, weights @ T)
    yield at_least("no better point on the ray", _fit_loss(2 * fit, T, log_h, weights @ T), _fit_loss(fit, T, log_h, weights @ T))
    for name, generator, log_likelihood, y, base in _noise_models(rng):
        outputs = normal(rng, *y.shape)
        yield identity(f"negative log-likelihood ({name})", -log_likelihood(outputs, y),
                       fenchel_young_loss(generator, y, outputs) + base)


def _entropy(p, log_h):
    """Entropy relative to the base measure, in nats."""
    return -(torch.special.xlogy(p, p) - p * log_h).sum()


def moment_matching(T, log_h, mean, steps=25):
    """Newton's method with halving for the f at which E_f T = mean: the MLE of a finite exponential family."""
    f = torch.zeros(T.shape[1], dtype=T.dtype)
    for _ in range(steps):
        p = torch.softmax(log_h + T @ f, 0)
        move = torch.linalg.lstsq(torch.cov(T.mT, aweights=p, correction=0), mean - p @ T).solution
        now = _fit_loss(f, T, log_h, mean)
        while _fit_loss(f + move, T, log_h, mean) > now and move.norm() > 1e-12:
            move = move / 2
        f = f + move
    return f


def _fit_loss(f, T, log_h, mean):
    """Mean negative log-likelihood, up to the base measure, of data with this mean of T."""
    return torch.logsumexp(log_h + T @ f, 0) - mean @ f


def _noise_models(rng):
    """(name, generator, log-likelihood of targets at outputs, targets (5, 3), −log h − Φ of the targets) for four noises."""
    bits = torch.from_numpy(rng.integers(2, size=(5, 3))).double()
    labels = torch.eye(3, dtype=torch.float64)[rng.integers(3, size=5)]
    counts = torch.from_numpy(rng.poisson(2.0, size=(5, 3))).double()
    yield ("Gaussian → squared", SQUARED, lambda f, y: distributions.Normal(f, 1.0).log_prob(y).sum(-1),
           normal(rng, 5, 3), 1.5 * np.log(2 * np.pi))
    yield "categorical → Shannon", SHANNON, lambda f, y: distributions.OneHotCategorical(logits=f).log_prob(y), labels, 0.0
    yield "Bernoulli → binary", BINARY, lambda f, y: distributions.Bernoulli(logits=f).log_prob(y).sum(-1), bits, 0.0
    yield ("Poisson → Poisson", POISSON, lambda f, y: distributions.Poisson(f.exp()).log_prob(y).sum(-1),
           counts, torch.lgamma(counts + 1).sum(-1) - POISSON.value(counts))


@exponential_family_duality.witness("Parameters, laws and fits close to each other")
def _(rng):
    T, log_h = normal(rng, 7, 2), 0.5 * normal(rng, 7) + 1
    f, g = torch.zeros(2, dtype=torch.float64), torch.full((2,), 0.01, dtype=torch.float64)
    middle, ends = torch.logsumexp(log_h + T @ (f + g) / 2, 0), [torch.logsumexp(log_h + T @ x, 0) for x in (f, g)]
    yield at_most("convex", middle, sum(ends) / 2)
    p = torch.softmax(log_h, 0)
    direction = torch.linalg.svd(torch.cat([T, torch.ones(7, 1)], 1).mT).Vh[3]
    yield at_most("entropy is largest", _entropy(p + 0.01 * direction * p.min(), log_h), _entropy(p, log_h))
    fit = moment_matching(T, log_h, p @ T + 0.1)
    yield at_least("no better point on the ray", *(_fit_loss(x, T, log_h, p @ T + 0.1) for x in (1.01 * fit, fit)))


@exponential_family_duality.breaks("The mean of T is a corner of its support (separable data): the likelihood has no maximum")
def _(rng):
    T, log_h = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    corner = T[int(rng.integers(3))]
    fit = moment_matching(T, log_h, corner, steps=6)
    yield at_least("no better point on the ray", _fit_loss(2 * fit, T, log_h, corner), _fit_loss(fit, T, log_h, corner))


@statement("boundary-statistic", "Where Φ(T(y)) is infinite a likelihood is no Fenchel–Young loss, and has the gradient of one",
           kind="proposition", chapter=CHAPTER, trials=40,
           assumptions=("p(y; f) = h(y) exp(⟨T(y), f⟩ − Φ*(f)), f in the interior of dom Φ*",
                        "p(y; ·) unbounded, for Φ(T(y)) = ∞"), words="aadc026f")
def boundary_statistic(rng):
    concentration = np.geomspace(1e4, 1e8, 9)
    for name, family in UNBOUNDED.items():
        f, other, y = family.natural(rng), family.natural(rng), family.draw(rng)
        loss = lambda f, family=family, y=y: -family.law(f).log_prob(y)
        T = family.statistic(y)
        yield identity(f"gradient = ŷ − T(y) ({name})", torch.func.grad(loss)(f), family.mean(family.law(f)) - T)
        partition = lambda f, family=family: family.log_partition(f)
        yield identity(f"differences are those of Φ* − ⟨T, ·⟩ ({name})", loss(f) - loss(other),
                       partition(f) - T @ f - partition(other) + T @ other)
        peak = [family.law(family.around(y, c)).log_prob(y).exp() for c in concentration]
        yield rate(f"Φ(T(y)) = ∞: p(y; f) has no bound ({name})", concentration, torch.stack(peak), slope=0.5, tol=0.01)
        mean = family.mean(family.law(other))  # inside, where Φ is finite and its slope is ``other``
        inside = (mean @ other - partition(other)) + partition(f) - mean @ f
        yield identity(f"inside: d_Φ = KL ({name})", inside, distributions.kl_divergence(family.law(other), family.law(f)))
        yield identity(f"T(y) on the border ({name})", 1 + family.slack(T), 1.0)
        yield at_least(f"means inside ({name})", float(family.slack(mean) > 1e-6), bound=1.0)


class Unbounded(NamedTuple):
    """An exponential family in which a law can concentrate on any observation."""

    natural: Callable  # rng -> natural parameters (2,)
    draw: Callable  # rng -> an observation
    law: Callable  # natural parameters -> distribution
    statistic: Callable  # observation -> T(y), (2,)
    mean: Callable  # distribution -> E T, (2,)
    log_partition: Callable  # natural parameters -> Φ*, with a base measure that depends on y alone
    around: Callable  # (observation, concentration) -> natural parameters of a law that concentrates on it
    slack: Callable  # mean vector -> how far inside the mean set it lies, 0 on the border


def _number(value):
    return torch.as_tensor(value, dtype=torch.float64)


def _numbers(*values):
    return torch.stack([_number(v) for v in values])


def _normal_law(f):
    variance = -0.5 / f[1]
    return distributions.Normal(f[0] * variance, variance.sqrt())


def _beta_mean(law):
    a, b = law.concentration1, law.concentration0
    return torch.stack([a.digamma(), b.digamma()]) - (a + b).digamma()


UNBOUNDED = {
    "normal": Unbounded(
        lambda rng: _numbers(rng.normal(), -rng.uniform(0.2, 2)), normal, _normal_law,
        lambda y: torch.stack([y, y.square()]), lambda law: torch.stack([law.mean, law.mean.square() + law.variance]),
        lambda f: -f[0].square() / (4 * f[1]) - 0.5 * (-2 * f[1]).log(),
        lambda y, c: _numbers(c * y, -c / 2), lambda mean: mean[1] - mean[0].square()),
    "gamma": Unbounded(
        lambda rng: _numbers(rng.uniform(0.5, 4), -rng.uniform(0.5, 2)), lambda rng: _number(rng.uniform(0.3, 3)),
        lambda f: distributions.Gamma(f[0], -f[1]),
        lambda y: torch.stack([y.log(), y]), lambda law: torch.stack([law.concentration.digamma() - law.rate.log(), law.mean]),
        lambda f: torch.lgamma(f[0]) - f[0] * (-f[1]).log(),
        lambda y, c: _numbers(c, -c / y), lambda mean: mean[1].log() - mean[0]),
    "beta": Unbounded(
        lambda rng: _numbers(*rng.uniform(0.5, 4, 2)), lambda rng: _number(rng.uniform(0.1, 0.9)),
        lambda f: distributions.Beta(f[0], f[1]),
        lambda y: torch.stack([y.log(), (-y).log1p()]), _beta_mean,
        lambda f: torch.lgamma(f).sum() - torch.lgamma(f.sum()),
        lambda y, c: _numbers(c * y, c * (1 - y)), lambda mean: 1 - mean.exp().sum()),
}
"""Families in which Φ(T(y)) is infinite for every y, with T(y) = (y, y²), (log y, y) and (log y, log(1 − y))."""


def _grows_without_bound(laws, y):
    """The density of y under ever more concentrated laws."""
    concentration = np.geomspace(1e4, 1e8, 9)
    yield rate("Φ(T(y)) = ∞: p(y; f) has no bound", concentration, [float(laws(c).log_prob(y).exp()) for c in concentration],
               slope=0.5, tol=0.01)


@boundary_statistic.breaks("On the border with a bounded likelihood: one-hot labels have Φ(1_y) = 0, and cross-entropy is the loss of Φ")
def _(rng):
    y = torch.tensor(int(rng.integers(3)))
    yield from _grows_without_bound(lambda c: distributions.Categorical(logits=np.log(c) * torch.eye(3).double()[y]), y)


@boundary_statistic.breaks("The variance is known: T(y) = y lies inside, no law of the family concentrates, and Φ(y) = ½y²")
def _(rng):
    y = normal(rng)
    yield from _grows_without_bound(lambda c: distributions.Normal(y * (1 + 1 / c), 1.0), y)


@boundary_statistic.breaks("f on the border of dom Φ*: for h(y) = y⁻² on y ≥ 1 no ŷ exists at f = 0, the mean is infinite")
def _(rng):
    log_partition = lambda f: np.log(special.expn(2, -f))
    coarse, fine = ((log_partition(0.0) - log_partition(-step)) / step for step in (1e-3, 1e-6))
    yield identity("gradient = ŷ − T(y)", coarse, fine)


SMOOTH = {
    # name: (family at parameters in (0,1)^(m,2), statistic of one observation (n,) -> (k, n), interval to draw from)
    "normal": (lambda t: distributions.Normal(t[..., 0], 0.5 + t[..., 1]), lambda x: torch.stack([x, x.square()]), (-2, 2)),
    "normal, known variance": (lambda t: distributions.Normal(t[..., 0], 1.0), lambda x: x[None], (-2, 2)),
    "gamma": (lambda t: distributions.Gamma(0.5 + 3 * t[..., 0], 0.5 + t[..., 1]), lambda x: torch.stack([x, x.log()]), (0.2, 4)),
    "beta": (lambda t: distributions.Beta(0.5 + 3 * t[..., 0], 0.5 + 3 * t[..., 1]),
             lambda x: torch.stack([x.log(), (1 - x).log()]), (0.05, 0.95)),
}


def cauchy(t):
    """Cauchy densities with the locations 6t − 3, from parameters (m, 2) of which the first counts."""
    return distributions.Cauchy(6 * t[..., 0] - 3, 1.0)


class Logistic:
    """Logistic densities with these locations; they know their logarithms alone."""

    def __init__(self, location):
        self.location = location

    def log_prob(self, x):
        z = x - self.location
        return -z - 2 * torch.nn.functional.softplus(-z)


def likelihood_gradients(family, parameters, sample):
    """Gradients in the sample of the log-likelihood ratios against the first parameter, (m − 1, n)."""
    spread = sample.expand(len(parameters), -1).clone().requires_grad_()
    slopes, = torch.autograd.grad(family(parameters[:, None]).log_prob(spread).sum(), spread)
    return slopes[1:] - slopes[0]


def numerical_rank(matrix, tol=1e-8):
    """How many singular values exceed ``tol`` times the largest."""
    singular = torch.linalg.svdvals(torch.as_tensor(matrix))
    return int((singular > tol * singular[0]).sum())


def family_order(family, parameters, points):
    """Dimension of the span of the log-density ratios, constants apart: the order of the exponential family."""
    logs = family(parameters[:, None]).log_prob(points)
    ratios = logs[1:] - logs[0]
    return numerical_rank(ratios - ratios.mean(1, keepdim=True))


def _spaced(rng, low, high, n):
    """``n`` points of an interval, each in a cell of its own, so that no two nearly coincide."""
    return torch.from_numpy(low + (high - low) * (np.arange(n) + rng.uniform(0.1, 0.9, n)) / n)


@statement("pitman-darmois-koopman", "Only exponential families have smooth sufficient statistics of fixed size",
           kind="theorem", paper="Theorem 2", chapter=CHAPTER, trials=20,
           assumptions=("i.i.d. sampling", "positive Lebesgue densities on one open interval, C¹ in x",
                        "the statistic is C¹ (locally Lipschitz is enough) with k dimensions", "n > k"), words="c999db27")
def pitman_darmois_koopman(rng):
    parameters = torch.from_numpy(rng.uniform(size=(10, 2)))
    for name, (family, statistic, interval) in SMOOTH.items():
        sample, points = _spaced(rng, *interval, 8), _spaced(rng, *interval, 30)
        slopes = torch.autograd.functional.jacobian(lambda x: statistic(x).sum(1), sample)
        rows = torch.linalg.qr(slopes.mT).Q
        gradients = likelihood_gradients(family, parameters, sample)
        yield identity(f"T is sufficient ({name})", gradients @ rows @ rows.mT, gradients)
        yield at_most(f"order ({name})", family_order(family, parameters, points), bound=len(slopes))
    # no exponential family: the likelihood has as many directions as observations, so k < n numbers lose some, whatever n
    for name, family in (("Cauchy", cauchy), ("logistic", lambda t: Logistic(6 * t[..., 0] - 3))):
        for n in (3, 5, 8):
            gradients = likelihood_gradients(family, torch.from_numpy(_stratified(rng, 12)), _spaced(rng, -4, 4, n))
            yield at_least(f"{name}: every observation is needed", numerical_rank(gradients), bound=n)


def _stratified(rng, m):
    """Parameters (m, 2) whose first coordinate covers (0, 1) evenly."""
    return np.stack([(np.arange(m) + rng.uniform(0.2, 0.8, m)) / m, rng.uniform(size=m)], 1)


@pitman_darmois_koopman.breaks("The support moves: the maximum is sufficient for Uniform(0, θ), which is no exponential family")
def _(rng):
    ends = torch.from_numpy(1 + rng.uniform(size=(10, 1)))
    logs = distributions.Uniform(0.0, ends, validate_args=False).log_prob(torch.linspace(0.01, 2.5, 40, dtype=torch.float64))
    yield at_most("order", numerical_rank(logs.exp()[:, logs.isfinite().all(0)]), bound=1)
    yield identity("one support", logs.isfinite()[1:], logs.isfinite()[:1].expand(9, -1))


@pitman_darmois_koopman.breaks("The statistic is not smooth: the digits of two observations, interleaved, fit into one number")
def _(rng):
    sample = rng.integers(2**26, size=2)
    encoded = sum(((int(x) >> i) & 1) << (2 * i + j) for j, x in enumerate(sample) for i in range(26))
    decoded = [sum(((encoded >> (2 * i + j)) & 1) << i for i in range(26)) for j in range(2)]
    yield identity("the one number holds the sample", decoded, sample)
    yield at_most("order", family_order(cauchy, torch.from_numpy(_stratified(rng, 8)), _spaced(rng, -4, 4, 30)), bound=1)


@pitman_darmois_koopman.breaks("n ≤ k: the sample itself is a smooth statistic of three dimensions when n = 3")
def _(rng):
    yield at_most("order", family_order(cauchy, torch.from_numpy(_stratified(rng, 8)), _spaced(rng, -4, 4, 30)), bound=3)


CONDITIONAL = {
    # name: (law of y at natural parameters (..., k), statistic of one observation (n,) -> (k, n), k)
    "normal": (lambda eta: distributions.Normal(eta[..., 0], 1.0), lambda y: y[None], 1),
    "exponential": (lambda eta: distributions.Exponential(eta[..., 0]), lambda y: -y[None], 1),
    "gamma": (lambda eta: distributions.Gamma(1 + eta[..., 0], eta[..., 1]), lambda y: torch.stack([y.log(), -y]), 2),
}


@statement("practical-learnability", "What a smooth summary of fixed size can learn without loss is an exponential family",
           kind="proposition", paper="Proposition 7", chapter=CHAPTER, trials=20, draws_at_once=True,
           assumptions=("the summary has a fixed size and is C¹ in the labels", "no information is lost (sufficiency)",
                        "one support for every parameter"), words="6de4ccb4")
def practical_learnability(rng, trials):
    inputs, d, m = 3, 2, 12
    torch.manual_seed(int(rng.integers(2**31)))
    for _ in range(trials):
        for name, (law, statistic, k) in CONDITIONAL.items():
            x = torch.from_numpy(rng.uniform(0.2, 1.5, (inputs, d))).repeat(k * d + 1, 1)  # each seen more often than the summary is long
            W = torch.from_numpy(rng.uniform(0.2, 1.5, (m, k, d)))
            y, other = (law(x @ W[0].mT).sample() for _ in range(2))

            def family(weights):  # (m, 1, k, d) -> the law of each label under each parameter
                return law((weights * x[:, None]).sum(-1))

            gradients = likelihood_gradients(family, W, y)
            yield at_most(f"dimensions of the likelihood ({name})", numerical_rank(gradients), bound=k * d)
            score = [torch.func.grad(lambda w: law(x @ w.mT).log_prob(t).sum())(W[1]) for t in (y, other)]
            yield identity(f"the score is the summary, shifted ({name})", score[0] - score[1],
                           (statistic(y) - statistic(other)) @ x)
        x, w = torch.from_numpy(rng.uniform(0.5, 1.5, 3)).repeat(2), torch.from_numpy(_stratified(rng, 12))
        gradients = likelihood_gradients(lambda w: Logistic((6 * w[..., 0] - 3) * x), w, _spaced(rng, -4, 4, 6))
        yield at_least("logistic: no label can be spared", numerical_rank(gradients), bound=6)
    sizes, error = np.array([51, 101, 201, 401, 801, 1601]), []
    for n in sizes:
        error.append(np.square(np.median(rng.standard_cauchy((2000, n)), axis=1)).mean())
    yield rate("Cauchy median: squared error", sizes, error, slope=-1, tol=0.05)
    yield at_least("Cauchy median: no better than 2/n", sizes * np.array(error), bound=2.0)


@practical_learnability.witness("The median itself", {
    "Cauchy median: no better": "the median's variance is π²/(4n): 81 % of the information; only an efficient estimate comes to 2/n"})
def _(rng):
    yield at_least("Cauchy median: no better than 2/n", np.pi**2 / 4, bound=2.0)


@practical_learnability.breaks("Information may be lost: the median learns a Cauchy location, and that family is not exponential")
def _(rng):
    close = np.abs(np.median(rng.standard_cauchy((2000, 401)), axis=1)) < 0.3
    yield coverage("the median is within 0.3", int(close.sum()), 2000, at_least=0.99)
    gradients = likelihood_gradients(cauchy, torch.from_numpy(_stratified(rng, 12)), _spaced(rng, -4, 4, 5))
    yield at_most("dimensions of the likelihood", numerical_rank(gradients), bound=1)
