"""Conjugate learning: statistic, generator, dual model, loss and prediction fit together."""

import numpy as np
import torch

from ..duality import BINARY, GINI, HUBER, POISSON, SHANNON, SQUARED, ZOO, bregman_divergence, dual, fenchel_young_loss, power
from ..entropy import conditional_entropy
from .core import at_least, at_most, identity, statement
from .instances import inside, normal

CHAPTER = "foundations/conjugate-learning"


@statement("conjugate-learning", "Statistic, generator, dual model, Fenchel–Young loss and prediction fit together",
           kind="definition", paper="Definition 1", chapter=CHAPTER, trials=40,
           assumptions=("Φ closed, proper and strictly convex", "targets T(y) in dom Φ", "E‖T(Y)‖ and E|Φ(T(Y))| finite"), words="dd775d32")
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


@conjugate_learning.witness("Outputs a thousandth away from the best ones")
def _(rng):
    for generator in ZOO:
        targets, weights = inside(rng, generator, 6, 3), torch.from_numpy(rng.dirichlet(np.ones(6)))
        best = dual(generator, weights @ targets)
        loss, least = (weights @ fenchel_young_loss(generator, targets, f.expand(6, 3)) for f in (best + 1e-3 * normal(rng, 3), best))
        yield at_least(f"the mean is best ({generator.name})", loss, least)


@conjugate_learning.breaks("Another generator's prediction: softmax on top of the sparsemax loss")
def _(rng):
    f, target = normal(rng, 4).requires_grad_(), torch.tensor(int(rng.integers(4)))
    gradient, = torch.autograd.grad(fenchel_young_loss(GINI, target, f), f)
    yield identity("gradient = residual", gradient, SHANNON.predict(f.detach()) - torch.eye(4, dtype=f.dtype)[target])


@conjugate_learning.breaks("Targets outside dom Φ: Huber's box holds every prediction, so a mean beyond it cannot be predicted")
def _(rng):
    targets = 1.5 + torch.from_numpy(rng.uniform(0, 1, (6, 3)))
    mean = targets.mean(0)
    yield identity("the mean can be predicted", HUBER.predict(dual(SQUARED, mean)), mean)


@statement("bregman-characterization", "A loss that every mean minimizes is the Bregman divergence of the loss itself, frozen",
           kind="theorem", paper="Theorems 8–9, by topic", chapter=CHAPTER, trials=60,
           assumptions=("ℓ(y, ν) ≥ 0 on an open convex set, ℓ(y, y) = 0, C¹ in the prediction ν",
                        "E Y is the unique best prediction for every distribution with finitely many values"), words="eb66d95a")
def bregman_characterization(rng):
    K = int(rng.integers(1, 4))
    for name, generator in _STRICTLY_CONVEX.items():
        points, weights = inside(rng, generator, 5, K), torch.from_numpy(rng.dirichlet(np.ones(5)))
        elsewhere, frozen = inside(rng, generator, 2, K)

        def loss(y, nu):
            return bregman_divergence(generator, y, nu.expand(y.shape))

        yield from _mean_is_best(f" ({name})", loss, points, weights, elsewhere)
        yield from _rebuilt(f" ({name})", loss, points, elsewhere, frozen)
    for name, loss in _NO_BREGMAN.items():  # so for some law the mean is not even stationary
        points, weights = _skewed(rng)
        mean = (weights @ points).requires_grad_()
        slope, = torch.autograd.grad(weights @ loss(points, mean), mean)
        not_rebuilt = next(_rebuilt("", loss, points, points.mean(0) + 0.3, points[2])).slack < -1e-3
        yield at_least(f"not rebuilt, so the mean is not best ({name})", float(not_rebuilt and slope.abs() > 0.01), 1.0)


_STRICTLY_CONVEX = {"squared": SQUARED, "binary": BINARY, "Poisson": POISSON, "power": power(3.0)}


_NO_BREGMAN = {
    "fourth power": lambda y, nu: (y - nu)[..., 0] ** 4,
    "log cosh": lambda y, nu: (y - nu)[..., 0].cosh().log(),
    "weighted square": lambda y, nu: (1 + y.square())[..., 0] * (y - nu)[..., 0].square(),
    "exponential": lambda y, nu: (y - nu)[..., 0].exp() - 1 - (y - nu)[..., 0],
}


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


@bregman_characterization.witness("A prediction close to the mean")
def _(rng):
    for name, generator in _STRICTLY_CONVEX.items():
        points, weights = inside(rng, generator, 5, 2), torch.from_numpy(rng.dirichlet(np.ones(5)))
        yield from _mean_is_best(f" ({name})", lambda y, nu: bregman_divergence(generator, y, nu.expand(y.shape)), points, weights,
                                 (weights @ points) * (1 + 1e-3))


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
           kind="theorem", paper="Theorems 8–9, by topic", chapter=CHAPTER, trials=60,
           assumptions=("E‖T(Y)‖ and E|Φ(T(Y))| finite", "the loss is the one Φ generates"), words="89856fcf")
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


@statement("erm-duality", "Regularized maximum likelihood is maximum entropy with softened moment constraints", kind="theorem",
           chapter=CHAPTER, trials=6,
           assumptions=("Φ closed, proper and strictly convex, Φ* finite everywhere", "outputs linear in the weights, f_i = X_i w",
                        "λ > 0", "μ_i, ν_i in dom Φ"), words="11d99639")
def erm_duality(rng):
    n, K, P, weight = int(rng.integers(2, 7)), int(rng.integers(2, 5)), int(rng.integers(1, 8)), 10 ** rng.uniform(-1.5, 0.5)
    X = normal(rng, n, K, P)
    for g in ZOO:
        targets, means, w = inside(rng, g, n, K), inside(rng, g, n, K), normal(rng, P)
        yield at_least(f"every ν is a certificate from below ({g.name})", 1 + primal(g, X, targets, weight, w),
                       1 + certificate(g, X, targets, weight, means))
        best = regularized_minimizer(g, X, targets, weight)
        predictions = g.predict(X @ best)
        yield identity(f"minimum = maximum, at ν = ŷ ({g.name})", 1 + primal(g, X, targets, weight, best),
                       1 + certificate(g, X, targets, weight, predictions), tol=1e-7)
        yield identity(f"w = Σ X_iᵀ(μ_i − ν_i)/(λn) ({g.name})", best, _moment_gap(X, targets, predictions) / weight, tol=1e-5)
        gradient, = torch.autograd.grad(primal(g, X, targets, weight, (v := w.clone().requires_grad_())), v)
        yield identity(f"gap at ν = ŷ(w) is ‖∇‖²/(2λ) ({g.name})", gradient.square().sum() / (2 * weight),
                       primal(g, X, targets, weight, w) - certificate(g, X, targets, weight, g.predict(X @ w)))


def primal(g, X, targets, weight, w):
    """Mean loss of the outputs X_i w, plus ½ weight ‖w‖²; X (n, K, P), targets (n, K)."""
    return fenchel_young_loss(g, targets, X @ w).mean() + weight / 2 * w.square().sum()


def certificate(g, X, targets, weight, means):
    """What mean vectors (n, K) prove: no weights have a smaller ``primal``."""
    return (g.value(targets) - g.value(means)).mean() - _moment_gap(X, targets, means).square().sum() / (2 * weight)


def _moment_gap(X, targets, means):
    """(1/n) Σ X_iᵀ(μ_i − ν_i), (P,)."""
    return torch.einsum("ikp,ik->p", X, targets - means) / len(X)


def regularized_minimizer(g, X, targets, weight):
    """The weights with the smallest ``primal``, by a quasi-Newton method that sees its values and gradients alone."""
    w = torch.zeros(X.shape[-1], dtype=X.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=1000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = primal(g, X, targets, weight, w)
        value.backward()
        return value

    optimizer.step(closure)
    return w.detach()


@erm_duality.witness("ν = ŷ at the best weights: no gap is left")
def _(rng):
    X, weight = normal(rng, 4, 3, 5), 0.3
    for g in ZOO:
        targets = inside(rng, g, 4, 3)
        best = regularized_minimizer(g, X, targets, weight)
        yield at_least(f"every ν is a certificate from below ({g.name})", 1 + primal(g, X, targets, weight, best),
                       1 + certificate(g, X, targets, weight, g.predict(X @ best)))


@erm_duality.breaks("λ = 0 on separable data: the loss can be lowered for ever, and its infimum is attained by no weights")
def _(rng):
    X, targets = torch.tensor([[[1.0], [0.0]]]).double(), torch.tensor([[1.0, 0.0]]).double()
    w = torch.tensor([rng.uniform(1, 20)]).double()
    yield at_least("no better weights", primal(SHANNON, X, targets, 0.0, 2 * w), primal(SHANNON, X, targets, 0.0, w))


@erm_duality.breaks("Outputs not linear in the weights: f = w³ has a wrong certificate at ν = ŷ(0)")
def _(rng):
    w = torch.linspace(-2, 2, 401).double()
    target = torch.tensor([rng.uniform(1.5, 3)]).double()
    smallest = (0.5 * (w**3 - target) ** 2 + 0.005 * w**2).min()
    slope = (3 * w**2)[200].reshape(1, 1, 1)  # the model at w = 0, linearized
    yield at_least("certificate from below", smallest, certificate(SQUARED, slope, target[None], 0.01, 0 * target[None]))


@erm_duality.breaks("A loss that no Φ generates: the squared error of softmax goes below what the entropies certify")
def _(rng):
    X, targets = torch.eye(2)[None].double(), torch.tensor([[1.0, 0.0]]).double()
    w = regularized_minimizer(SHANNON, X, targets, 0.01)
    brier = 0.5 * (SHANNON.predict(X @ w) - targets).square().sum(-1).mean() + 0.005 * w.square().sum()
    yield at_least("certificate from below", brier, certificate(SHANNON, X, targets, 0.01, SHANNON.predict(X @ w)))


@erm_duality.breaks("Φ* not finite everywhere: where Huber's function bounds the outputs by 1, they stop before w solves the equation")
def _(rng):
    target, outputs = rng.uniform(2.5, 4), np.linspace(-1, 1, 2001)  # Φ* = ½f² on [−1, 1], so that ŷ = f inside
    best = outputs[(0.5 * outputs**2 - target * outputs + 0.5 * outputs**2).argmin()]
    yield identity("w = Σ X_iᵀ(μ_i − ν_i)/(λn)", best, target - best)


@statement("prior-as-domain", "A closed convex domain that holds the targets holds every prediction, and raises no loss",
           kind="proposition", paper="Theorems 8–9, by topic", chapter=CHAPTER, trials=60,
           assumptions=("C closed and convex", "every target in C", "Φ_C = ½‖·‖² + ι_C"), words="af685393")
def prior_as_domain(rng):
    K = int(rng.integers(2, 6))
    f = 2 * normal(rng, K)
    for name, project in PRIORS.items():
        yield from _inside_and_no_worse(f" ({name})", project, f, project(2 * normal(rng, K)))
    yield identity("sparsemax is the projection onto the simplex", GINI.predict(f), PRIORS["simplex"](f))
    yield from _other_generators(f, PRIORS["box"](normal(rng, K)))


def _other_generators(f, target):
    """Restricting the domain of any generator keeps predictions in it and does not raise the loss, here to [0, 1]^K."""
    for name, generator in (("power", power(3.0)), ("Poisson", POISSON)):
        best = generator.predict(f).clamp(0, 1)  # coordinate by coordinate, the maximizer of μf − φ(μ) on the interval
        loss = generator.value(target) - generator.value(best) - f @ (target - best)
        yield at_most(f"loss no larger ({name})", loss, fenchel_young_loss(generator, target, f), unit=1.0)
        yield at_least(f"loss not negative ({name})", loss, 0.0, unit=1.0)


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
    loss, square = 0.5 * target.square().sum() + conjugate.detach() - target @ f, 0.5 * (f - target).square().sum()
    yield at_most("loss no larger" + suffix, loss, square)
    yield identity("it forgives ½dist²" + suffix, 1 + loss, 1 + square - 0.5 * (f - nearest).square().sum())


@prior_as_domain.witness("Outputs that all but obey the prior")
def _(rng):
    f = 2 * normal(rng, 3)
    for name, project in PRIORS.items():
        yield from _inside_and_no_worse(f" ({name})", project, project(f) + 1e-3 * normal(rng, 3), project(2 * normal(rng, 3)))
    yield from _other_generators(torch.tensor([-1.0, -2.0]).double(), torch.tensor([0.9, 0.9]).double())
    yield from _other_generators(torch.tensor([0.1, 0.2]).double(), torch.tensor([0.9, 0.9]).double())


@prior_as_domain.breaks("A target outside C: the prediction stays inside and moves away from it")
def _(rng):
    outside = 1.5 + torch.from_numpy(rng.uniform(0, 1, 3))
    yield from _inside_and_no_worse("", PRIORS["box"], outside + 0.1, outside)


@prior_as_domain.breaks("C is not convex: the nearest of the two points ±1 can lie farther from the target than f did")
def _(rng):
    f, target = torch.tensor([rng.uniform(0.1, 0.5)]), torch.tensor([-1.0]).double()
    yield from _inside_and_no_worse("", torch.sign, f.double(), target)


@prior_as_domain.breaks("Another Φ than ½‖·‖²: with ½μᵀdiag(9, 1)μ a line through the target can move the prediction away from it")
def _(rng):
    Q, line = torch.tensor([9.0, 1.0]).double(), torch.tensor([0.5, 1.5]).double()
    free = Q * line * rng.uniform(0.5, 1)  # the worst direction; the target is 0
    yield at_most("no farther from the target", (line * (line @ (Q * free)) / (line @ (Q * line))).norm(), free.norm())
