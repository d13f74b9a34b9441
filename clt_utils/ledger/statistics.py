"""Part I of the ledger without its convex analysis: sufficiency, divergences, and conjugate learning itself."""

import numpy as np
import torch
from scipy import special
from torch import distributions

from ..bounds import ce_bounds_from_residual, chi_squared, kl_upper_bound
from ..duality import BINARY, GINI, POISSON, SHANNON, SQUARED, ZOO, bregman_divergence, dual, fenchel_young_loss, power
from ..entropy import conditional_entropy
from .core import at_least, at_most, coverage, identity, rate, statement
from .instances import inside, normal

SAMPLE = "foundations/what-a-sample-can-tell"
DIVERGENCES = "foundations/divergences"
LEARNING = "foundations/conjugate-learning"


# Random instances

def random_distribution(rng, K):
    """A point of the simplex, (K,), from nearly a vertex to nearly uniform; no entry below 1e-6."""
    p = rng.dirichlet(np.full(K, 10 ** rng.uniform(-1, 1)))
    return (p + 1e-6) / (1 + 1e-6 * K)


# Sufficiency

@statement("sufficiency-principle", "Samples with the same sufficient statistic say the same about the parameter",
           kind="principle", paper="Theorem 1", chapter=SAMPLE, trials=60,
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
           assumptions=("the family is dominated by one σ-finite measure",), chapter=SAMPLE, words="1f20d800")
def fisher_neyman(rng):
    points, values, thetas = 12, 4, 5
    T = np.concatenate([np.arange(values), rng.integers(values, size=points - values)])
    g, h = rng.uniform(0.1, 1, (thetas, values)), rng.uniform(0.1, 1, points)
    factored = g[:, T] * h
    factored /= factored.sum(1, keepdims=True)
    yield from _same_conditional("factors ⇒ sufficient", factored, T)
    conditional = rng.uniform(0.1, 1, points)
    conditional /= np.bincount(T, conditional)[T]
    sufficient = rng.dirichlet(np.ones(values), size=thetas)[:, T] * conditional
    ratio = sufficient / sufficient.mean(0)  # against a mixture of the family, which dominates it
    yield identity("sufficient ⇒ factors", ratio, np.stack([np.bincount(T, r) / np.bincount(T) for r in ratio])[:, T])


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
           kind="theorem", paper="Theorem 2", chapter=SAMPLE, trials=20,
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
    gradients = likelihood_gradients(cauchy, torch.from_numpy(_stratified(rng, 12)), _spaced(rng, -4, 4, 5))
    yield at_least("Cauchy: every observation is needed", numerical_rank(gradients), bound=5)


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


@statement("exponential-family-duality", "The log-partition function is the conjugate that carries mean, covariance and loss",
           kind="theorem", chapter=SAMPLE, trials=40,
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
    yield at_most("convex", log_partition((f + g) / 2), (log_partition(f) + log_partition(g)) / 2)
    constraints = torch.cat([T, torch.ones(7, 1)], 1)
    direction = torch.linalg.svd(constraints.mT).Vh[3:].mT @ normal(rng, 4)  # keeps total mass and mean
    other = p + rng.uniform(0.1, 0.9) * direction / (-direction / p).max()
    yield at_most("entropy is largest", _entropy(other, log_h), _entropy(p, log_h))
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


@exponential_family_duality.breaks("The mean of T is a corner of its support (separable data): the likelihood has no maximum")
def _(rng):
    T, log_h = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    corner = T[int(rng.integers(3))]
    fit = moment_matching(T, log_h, corner, steps=6)
    yield at_least("no better point on the ray", _fit_loss(2 * fit, T, log_h, corner), _fit_loss(fit, T, log_h, corner))


CONDITIONAL = {
    # name: (law of y at natural parameters (..., k), statistic of one observation (n,) -> (k, n), k)
    "normal": (lambda eta: distributions.Normal(eta[..., 0], 1.0), lambda y: y[None], 1),
    "exponential": (lambda eta: distributions.Exponential(eta[..., 0]), lambda y: -y[None], 1),
    "gamma": (lambda eta: distributions.Gamma(1 + eta[..., 0], eta[..., 1]), lambda y: torch.stack([y.log(), -y]), 2),
}


@statement("practical-learnability", "What a smooth summary of fixed size can learn without loss is an exponential family",
           kind="proposition", paper="Proposition 7", chapter=SAMPLE, trials=20, draws_at_once=True,
           assumptions=("the summary has a fixed size and is C¹ in the labels", "no information is lost (sufficiency)",
                        "one support for every parameter"), words="6de4ccb4")
def practical_learnability(rng, trials):
    n, d, m = 12, 2, 12
    for _ in range(trials):
        for name, (law, statistic, k) in CONDITIONAL.items():
            x = torch.from_numpy(rng.uniform(0.2, 1.5, (n, d)))
            W = torch.from_numpy(rng.uniform(0.2, 1.5, (m, k, d)))
            y, other = (law(x @ W[0].mT).sample() for _ in range(2))

            def family(weights):  # (m, 1, k, d) -> the law of each label under each parameter
                return law((weights * x[:, None]).sum(-1))

            gradients = likelihood_gradients(family, W, y)
            yield at_most(f"dimensions of the likelihood ({name})", numerical_rank(gradients), bound=k * d)
            score = [torch.func.grad(lambda w: law(x @ w.mT).log_prob(t).sum())(W[1]) for t in (y, other)]
            yield identity(f"the score is the summary, shifted ({name})", score[0] - score[1],
                           (statistic(y) - statistic(other)) @ x)
    sizes, error = np.array([101, 201, 401, 801]), []
    for n in sizes:
        error.append(np.square(np.median(rng.standard_cauchy((2000, n)), axis=1)).mean())
    yield rate("Cauchy median: squared error", sizes, error, slope=-1, tol=0.05)
    yield at_least("Cauchy median: squared error", sizes * np.array(error), bound=2.0)


@practical_learnability.breaks("Information may be lost: the median learns a Cauchy location, and that family is not exponential")
def _(rng):
    close = np.abs(np.median(rng.standard_cauchy((2000, 401)), axis=1)) < 0.3
    yield coverage("the median is within 0.3", int(close.sum()), 2000, at_least=0.99)
    gradients = likelihood_gradients(cauchy, torch.from_numpy(_stratified(rng, 12)), _spaced(rng, -4, 4, 5))
    yield at_most("dimensions of the likelihood", numerical_rank(gradients), bound=1)


# Divergences

@statement("kl-upper-bound", "KL is at most log(1+χ²), χ², and the squared distance over the smallest probability",
           kind="lemma", paper="Lemma 5", assumptions=("p, q probability vectors", "q > 0 in every entry"), chapter=DIVERGENCES,
           words="9996b6ca")
def kl_upper(rng):
    K = int(rng.integers(2, 12))
    p, q = random_distribution(rng, K), random_distribution(rng, K)
    chi2 = chi_squared(p, q)
    yield at_most("KL ≤ log(1+χ²)", special.rel_entr(p, q).sum(), np.log1p(chi2))
    yield at_most("log(1+χ²) ≤ χ²", np.log1p(chi2), chi2)
    yield at_most("χ² ≤ ‖p−q‖²/min q", chi2, kl_upper_bound(p, q))


@kl_upper.breaks("A constant in place of 1/min q: p = (1, 0), q = (ε, 1−ε)")
def _(rng):
    q = np.array([10.0 ** -rng.uniform(15, 30), 1.0])
    p = np.array([1.0, 0.0])
    yield at_most("KL ≤ 10‖p−q‖²", special.rel_entr(p, q).sum(), 10 * np.square(p - q).sum())


@statement("pinsker", "KL is at least half the squared ℓ₁ distance", kind="lemma", paper="Lemma 6",
           assumptions=("p, q probability vectors",), chapter=DIVERGENCES, words="367bbd28")
def pinsker(rng):
    K = int(rng.integers(2, 12))
    p, q = random_distribution(rng, K), random_distribution(rng, K)
    yield at_least("KL ≥ ½‖p−q‖₁²", special.rel_entr(p, q).sum(), 0.5 * np.abs(p - q).sum() ** 2)


@pinsker.breaks("Not normalized: the KL of positive vectors (with −p+q) grows slower than the squared distance")
def _(rng):
    p, q = rng.uniform(5, 10, 3), rng.uniform(0.5, 1, 3)
    yield at_least("KL ≥ ½‖p−q‖₁²", special.kl_div(p, q).sum(), 0.5 * np.abs(p - q).sum() ** 2)


@statement("pinsker-euclidean", "KL is at least the squared Euclidean distance, with constant one", kind="corollary",
           assumptions=("p, q probability vectors (their difference sums to zero)",), chapter=DIVERGENCES, words="cfcb3b97")
def pinsker_euclidean(rng):
    K = int(rng.integers(2, 12))
    p, q = random_distribution(rng, K), random_distribution(rng, K)
    yield at_least("‖p−q‖₁² ≥ 2‖p−q‖₂²", np.abs(p - q).sum() ** 2, 2 * np.square(p - q).sum())
    yield at_least("KL ≥ ‖p−q‖₂²", special.rel_entr(p, q).sum(), np.square(p - q).sum())


@pinsker_euclidean.breaks("The difference does not sum to zero: ‖d‖₁² ≥ 2‖d‖₂² is false for a single coordinate")
def _(rng):
    d = np.array([rng.uniform(0.5, 2), 0.0, 0.0])
    yield at_least("‖p−q‖₁² ≥ 2‖p−q‖₂²", np.abs(d).sum() ** 2, 2 * np.square(d).sum())


@pinsker_euclidean.breaks("A constant above one: two nearly equal coins violate KL ≥ 1.1‖p−q‖²")
def _(rng):
    step = rng.uniform(0.01, 0.1)
    p, q = np.array([0.5 + step, 0.5 - step]), np.array([0.5, 0.5])
    yield at_least("KL ≥ 1.1‖p−q‖₂²", special.rel_entr(p, q).sum(), 1.1 * np.square(p - q).sum())


@statement("ce-from-residual", "The residual alone encloses the cross-entropy of a one-hot target", kind="theorem",
           assumptions=("one-hot target", "for the upper side: (K−1)r/K < 1"), chapter=DIVERGENCES, words="83aed51a")
def ce_from_residual(rng):
    K = int(rng.integers(2, 12))
    others = rng.uniform(0.001, 0.999) * random_distribution(rng, K - 1) if K > 2 else rng.uniform(0.001, 0.999, 1)
    wrong = others.sum()
    yield from _between("", -np.log1p(-wrong), wrong**2 + np.square(others).sum(), K)
    one_class = 2 * wrong**2
    yield identity("lower is reached on one class", ce_bounds_from_residual(one_class, K)[0], -np.log1p(-wrong))
    spread = wrong**2 + wrong**2 / (K - 1)
    yield identity("upper is reached when spread", ce_bounds_from_residual(spread, K)[1], -np.log1p(-wrong))


def _between(suffix, loss, residual, K):
    lower, upper = ce_bounds_from_residual(residual, K)
    yield at_least("lower" + suffix, loss, lower)
    yield at_most("upper" + suffix, loss, upper)


@ce_from_residual.breaks("A soft target: at p = target the residual is zero and the cross-entropy is the target's entropy")
def _(rng):
    target = random_distribution(rng, 4) * 0.5 + 0.125
    yield from _between("", special.entr(target).sum(), 0.0, 4)


# Conjugate learning

@statement("conjugate-learning", "Statistic, generator, dual model, Fenchel–Young loss and prediction fit together",
           kind="definition", paper="Definition 1", chapter=LEARNING, trials=40,
           assumptions=("Φ closed, proper and strictly convex", "targets T(y) in dom Φ", "E|Φ(T(Y))| finite"), words="dd775d32")
def conjugate_learning(rng):
    K = int(rng.integers(2, 6))
    for generator in ZOO:
        targets, weights = inside(rng, generator, 6, K), torch.from_numpy(rng.dirichlet(np.ones(6)))
        f = normal(rng, K).requires_grad_()
        loss = weights @ fenchel_young_loss(generator, targets, f.expand(6, K))
        gradient, = torch.autograd.grad(loss, f)
        f, mean = f.detach(), weights @ targets
        yield at_least(f"prediction in the domain ({generator.name})", generator.contains(generator.predict(f)).double(), 1.0)
        yield identity(f"gradient = residual ({generator.name})", gradient, generator.predict(f) - mean)
        best = dual(generator, mean)
        yield identity(f"the mean can be predicted ({generator.name})", generator.predict(best), mean)
        yield at_least(f"the mean is best ({generator.name})", loss,
                       weights @ fenchel_young_loss(generator, targets, best.expand(6, K)))


@conjugate_learning.breaks("Another generator's prediction: softmax on top of the sparsemax loss")
def _(rng):
    f, target = normal(rng, 4).requires_grad_(), torch.tensor(int(rng.integers(4)))
    gradient, = torch.autograd.grad(fenchel_young_loss(GINI, target, f), f)
    yield identity("gradient = residual", gradient, SHANNON.predict(f.detach()) - torch.eye(4, dtype=f.dtype)[target])


@conjugate_learning.breaks("A domain without the prior: counts cannot be negative, yet the squared loss predicts below zero")
def _(rng):
    yield at_least("prediction in the domain", POISSON.contains(SQUARED.predict(normal(rng, 3) - 3)).double(), 1.0)


@statement("bregman-characterization", "A loss that every mean minimizes is the Bregman divergence of the loss itself, frozen",
           kind="theorem", paper="Theorems 8–9, by topic", chapter=LEARNING, trials=60,
           assumptions=("ℓ(y, ν) ≥ 0 on an open convex set, ℓ(y, y) = 0, C¹ in the prediction ν",
                        "E Y is the unique best prediction for every distribution with finitely many values"), words="d692aed3")
def bregman_characterization(rng):
    K = int(rng.integers(1, 4))
    for name, generator in _STRICTLY_CONVEX.items():
        points, weights = inside(rng, generator, 5, K), torch.from_numpy(rng.dirichlet(np.ones(5)))
        elsewhere, frozen = inside(rng, generator, 2, K)

        def loss(y, nu):
            return bregman_divergence(generator, y, nu.expand(y.shape))

        yield from _mean_is_best(f" ({name})", loss, points, weights, elsewhere)
        yield from _rebuilt(f" ({name})", loss, points, elsewhere, frozen)


_STRICTLY_CONVEX = {"squared": SQUARED, "binary": BINARY, "Poisson": POISSON, "power": power(3.0)}


def _mean_is_best(suffix, loss, points, weights, elsewhere):
    """E ℓ(Y, ν) ≥ E ℓ(Y, E Y)."""
    mean = weights @ points
    yield at_least("the mean is best" + suffix, weights @ loss(points, elsewhere), weights @ loss(points, mean))


def _rebuilt(suffix, loss, points, nu, frozen):
    """ℓ is the Bregman divergence of y ↦ ℓ(y, frozen)."""
    at = nu.clone().requires_grad_()
    slope, = torch.autograd.grad(loss(at[None], frozen).sum(), at)
    rebuilt = loss(points, frozen) - loss(nu[None], frozen) - (points - nu) @ slope
    yield identity("rebuilt from itself" + suffix, rebuilt.detach(), loss(points, nu))


def _scalar_loss(loss):
    return lambda y, nu: loss((y - nu)[..., 0])


def _skewed(rng):
    """Two equal values and one far above them: mean and median differ."""
    return torch.tensor([[0.0], [0.0], [3.0]]) + torch.tensor(rng.uniform(-0.1, 0.1, (3, 1))), torch.full((3,), 1 / 3).double()


@bregman_characterization.breaks("The absolute loss elicits the median")
def _(rng):
    points, weights = _skewed(rng)
    yield from _mean_is_best("", _scalar_loss(torch.abs), points, weights, points[:2].mean(0))


@bregman_characterization.breaks("A smooth loss that is no Bregman divergence: |y − ν|⁴ elicits neither mean nor median")
def _(rng):
    points, weights = _skewed(rng)
    yield from _mean_is_best("", _scalar_loss(lambda d: d**4), points, weights, torch.tensor([1.25]).double())


@bregman_characterization.breaks("The hinge loss elicits only the majority label")
def _(rng):
    points, majority = torch.tensor([[-1.0], [1.0]]).double(), rng.uniform(0.6, 0.9)
    yield from _mean_is_best("", lambda y, nu: (1 - y * nu).clamp(min=0)[..., 0], points,
                             torch.tensor([1 - majority, majority]).double(), torch.ones(1).double())


@statement("risk-decomposition", "The risk is the conditional entropy of the labels plus the loss against the label law",
           kind="theorem", paper="Theorems 8–9, by topic", chapter=LEARNING, trials=60,
           assumptions=("E|Φ(T(Y))| finite", "the loss is the one Φ generates"), words="b3e95c4c")
def risk_decomposition(rng):
    n, K = int(rng.integers(2, 7)), int(rng.integers(2, 6))
    joint, outputs = rng.dirichlet(np.full(n * K, 0.5)).reshape(n, K) + 1e-9, normal(rng, n, K)
    joint = torch.from_numpy(joint / joint.sum())
    marginal, labels = joint.sum(1), torch.arange(K).expand(n, K)
    for generator in ZOO:
        losses = fenchel_young_loss(generator, labels, outputs[:, None].expand(n, K, K))
        excess = marginal @ fenchel_young_loss(generator, joint / marginal[:, None], outputs)
        yield identity(generator.name, (joint * losses).sum(), conditional_entropy(joint, generator) + excess)


@risk_decomposition.breaks("A loss that no Φ generates: the absolute loss is not its smallest risk plus the loss at the mean")
def _(rng):
    points, weights = _skewed(rng)
    f = rng.uniform(-1, 0)
    smallest = weights @ (points - points.median()).abs()
    yield identity("absolute", weights @ (points - f).abs(), smallest + (weights @ points - f).abs())


@statement("prior-as-domain", "A closed convex domain that holds the targets holds every prediction, and costs nothing",
           kind="proposition", paper="Theorems 8–9, by topic", chapter=LEARNING, trials=60,
           assumptions=("C closed and convex", "every target in C", "Φ_C = ½‖·‖² + ι_C"), words="af685393")
def prior_as_domain(rng):
    K = int(rng.integers(2, 6))
    f = 2 * normal(rng, K)
    for name, project in PRIORS.items():
        yield from _inside_and_no_worse(f" ({name})", project, f, project(2 * normal(rng, K)))
    yield identity("sparsemax is the projection onto the simplex", GINI.predict(f), PRIORS["simplex"](f))


def _project_onto_simplex(f):
    """Nearest point of the simplex, (K,) -> (K,): bisection finds which coordinates stay positive."""
    low, high = f.detach().max() - 1, f.detach().max()
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (f - middle).clamp(min=0).sum() > 1 else (low, middle)
    stays = f > low
    return torch.where(stays, f - (f[stays].sum() - 1) / stays.sum(), 0)


PRIORS = {
    "simplex": _project_onto_simplex,
    "box": lambda f: f.clamp(0, 1),
    "ball": lambda f: f / f.norm().clamp(min=1),
    "nonnegative": lambda f: f.clamp(min=0),
    "sums to one": lambda f: f + (1 - f.sum()) / len(f),
}


def _inside_and_no_worse(suffix, project, f, target):
    """ŷ = ∇Φ_C*(f) = P_C(f) is in C, no farther from a target in C, and the loss no larger than without C."""
    f = f.clone().requires_grad_()
    nearest = project(f)
    conjugate = f @ nearest - 0.5 * nearest.square().sum()
    prediction, = torch.autograd.grad(conjugate, f)
    f, nearest = f.detach(), nearest.detach()
    yield identity("prediction = nearest point" + suffix, prediction, nearest)
    yield identity("prediction in C" + suffix, project(nearest), nearest)
    yield at_most("no farther from the target" + suffix, (nearest - target).norm(), (f - target).norm())
    yield at_most("loss no larger" + suffix, 0.5 * target.square().sum() + conjugate.detach() - target @ f,
                  0.5 * (f - target).square().sum())


@prior_as_domain.breaks("A target outside C: the prediction stays inside and moves away from it")
def _(rng):
    outside = 1.5 + torch.from_numpy(rng.uniform(0, 1, 3))
    yield from _inside_and_no_worse("", PRIORS["box"], outside + 0.1, outside)


@prior_as_domain.breaks("C is not convex: the nearest of the two points ±1 can lie farther from the target than f did")
def _(rng):
    f, target = torch.tensor([rng.uniform(0.1, 0.5)]), torch.tensor([-1.0]).double()
    yield from _inside_and_no_worse("", torch.sign, f.double(), target)
