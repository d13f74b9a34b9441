"""Fenchel–Young losses: what every one of them has, and what each assumption gives."""

import functools

import numpy as np
import torch
from torch import distributions

from ..duality import (
    BINARY,
    GINI,
    HUBER,
    POISSON,
    SHANNON,
    SQUARED,
    ZOO,
    Generator,
    bregman_divergence,
    dual,
    fenchel_young_loss,
    power,
    tsallis,
)
from ..entropy import entropy
from .core import at_least, at_most, identity, statement
from .instances import inner, inside, means, nearly_touching, normal, simplex_points

CHAPTER = "foundations/fenchel-young-losses"


def definition(g, mu, f):
    """Φ(μ) + Φ*(f) − ⟨μ, f⟩ as it stands; ``fenchel_young_loss`` computes the same without cancellation."""
    return g.value(mu) + g.conjugate(f) - inner(mu, f)


LINEAR = Generator("zero on the simplex", lambda mu: 0 * mu.sum(-1), lambda f: f.amax(-1), lambda f: torch.softmax(1e9 * f, -1),
                   SHANNON.contains, 0.0, np.inf, on_simplex=True)
"""Convex but not strictly: Φ = 0 on the simplex, Φ* = max f, the perceptron loss. A prediction is *some* maximizer."""


@statement("fy-nonnegative-zero", "A Fenchel–Young loss is nonnegative, and zero exactly at the right prediction", kind="theorem",
           paper="Lemma 4, part", assumptions=("Φ closed, proper and strictly convex, for the zero", "Φ* is the conjugate of Φ"),
           chapter=CHAPTER, trials=12, words="49398682")
def fy_nonnegative_zero(rng):
    K = int(rng.integers(2, 6))
    for g in ZOO:
        mu, f = means(rng, g, 8, K), 2 * normal(rng, 8, K)
        p = g.predict(f)
        yield at_least(f"nonnegative ({g.name})", g.value(mu) + g.conjugate(f), inner(mu, f))
        yield identity(f"the definition ({g.name})", fenchel_young_loss(g, mu, f), definition(g, mu, f))
        yield identity(f"zero at μ = ŷ ({g.name})", g.value(p) + g.conjugate(f), inner(p, f))
        differ = (mu - p).abs().amax(-1) > 1e-6
        yield at_least(f"positive elsewhere ({g.name})", (fenchel_young_loss(g, mu, f)[differ] > 0).double().sum(), differ.sum())


@fy_nonnegative_zero.witness("A prediction that misses by a millionth")
def _(rng):
    for g, mu, f in nearly_touching(rng):
        yield at_least(f"nonnegative ({g.name})", g.value(mu) + g.conjugate(f), inner(mu, f))


@fy_nonnegative_zero.breaks("Not the conjugate: Shannon's Φ with the Φ* of sparsemax goes below zero")
def _(rng):
    mu, f = torch.full((4,), 0.25, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    yield at_least("nonnegative", SHANNON.value(mu) + GINI.conjugate(f), inner(mu, f))


@fy_nonnegative_zero.breaks("Not strictly convex: the perceptron loss (Φ = 0) is zero at f = 0, whatever the target")
def _(rng):
    f = torch.zeros(3, dtype=torch.float64)
    targets = torch.eye(3, dtype=torch.float64)
    yield at_least("positive elsewhere", (definition(LINEAR, targets, f) > 0).double().sum(), 2.0)  # only one can be predicted


@statement("fy-convex-gradient", "The loss is convex in the outputs, and its gradient is prediction minus target", kind="theorem",
           paper="Lemma 4, part", chapter=CHAPTER, trials=12,
           assumptions=("Φ closed and proper; convexity needs no more", "Φ strictly convex, f inside dom Φ*, for the gradient"),
           words="f151f5be")
def fy_convex_gradient(rng):
    K = int(rng.integers(2, 6))
    for g in ZOO:
        mu, (f, h), t = means(rng, g, 8, K), 2 * normal(rng, 2, 8, K), torch.from_numpy(rng.random(8))
        between = definition(g, mu, t[:, None] * f + (1 - t)[:, None] * h)
        chord = t * definition(g, mu, f) + (1 - t) * definition(g, mu, h)
        yield at_most(f"convex ({g.name})", between, chord, unit=1.0)
        residual = g.predict(f) - mu
        for name, loss in (("definition", definition), ("stable form", fenchel_young_loss)):
            gradient = torch.func.grad(lambda x: loss(g, mu, x).sum())(f)
            yield identity(f"gradient of the {name} ({g.name})", gradient, residual)
        step, small = normal(rng, 8, K), 1e-5
        slope = (definition(g, mu, f + small * step) - definition(g, mu, f - small * step)) / (2 * small)
        yield identity(f"difference quotient ({g.name})", slope, inner(residual, step), tol=1e-4)


@fy_convex_gradient.witness("Two outputs close together")
def _(rng):
    for g in ZOO:
        mu, f = means(rng, g, 8, 3), 2 * normal(rng, 8, 3)
        h = f + 1e-3 * normal(rng, 8, 3)
        yield at_most(f"convex ({g.name})", definition(g, mu, (f + h) / 2), (definition(g, mu, f) + definition(g, mu, h)) / 2, unit=1.0)


@fy_convex_gradient.breaks("Not strictly convex: the perceptron loss max f − f_y has a kink where two outputs tie")
def _(rng):
    f, target, step = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[0], normal(rng, 3)
    right, left = ((definition(LINEAR, target, f + s * step) - definition(LINEAR, target, f)) / s for s in (1e-6, -1e-6))
    yield identity("one slope in each direction", right, left)


@fy_convex_gradient.breaks("Convex in the outputs, not in the parameters: f = θ₁θ₂ with the squared loss")
def _(rng):
    target = torch.ones(1, dtype=torch.float64)
    loss = lambda theta: definition(SQUARED, target, theta.prod(-1, keepdim=True))
    a = torch.tensor([2.0, 0.5], dtype=torch.float64)
    yield at_most("convex", loss((a - a) / 2), 0.5 * loss(a) + 0.5 * loss(-a))


@statement("canonical-link", "Prediction minus target is the gradient of a log-likelihood exactly in the natural parameter",
           kind="proposition", chapter=CHAPTER, trials=40,
           assumptions=("p(y; η) = h(y) exp(⟨T(y), η⟩ − A(η)), η = u(f) inside dom A, u differentiable",
                        "for «only if»: the differences T(y) − T(y′) span ℝ^K"), words="2e41d067")
def canonical_link(rng):
    T, log_h, u, f = normal(rng, 7, 2), normal(rng, 7), _random_link(rng), normal(rng, 2)

    def loss(link, at):  # of every y at once, (7,)
        return torch.logsumexp(log_h + T @ link(at), 0) - log_h - T @ link(at)

    gradients = torch.func.jacrev(loss, argnums=1)(u, f)
    residuals = torch.softmax(log_h + T @ u(f), 0) @ T - T
    slope = torch.func.jacrev(u)(f)
    yield identity("gradient = (∂u/∂f)ᵀ(E T − T)", gradients, residuals @ slope)
    yield identity("the gradients of all y determine ∂u/∂f", torch.linalg.lstsq(residuals, gradients).solution, slope, tol=1e-6)
    shift = normal(rng, 2)
    yield identity("∂u/∂f = I: gradient = E T − T", torch.func.jacrev(loss, argnums=1)(lambda f: f + shift, u(f) - shift), residuals)
    for name, likelihood, y, mean, natural in _linked_models(rng):
        f = normal(rng, *y.shape)
        gradient = torch.func.grad(lambda f: -likelihood(f).log_prob(y).sum())(f)
        yield identity(name, gradient, torch.func.grad(lambda f: natural(f).sum())(f) * (mean(f) - y))


def _random_link(rng):
    """A smooth map of the plane that bends and mixes, f ↦ Vf + W tanh(f)."""
    V, W = normal(rng, 2, 2, 2)
    return lambda f: V @ f + W @ f.tanh()


def _linked_models(rng):
    """(name, f ↦ law, targets, f ↦ E T, f ↦ η) for links that are in use and not canonical, T(y) = y."""
    softplus = torch.nn.functional.softplus
    coins, counts = torch.from_numpy(rng.integers(2, size=6)).double(), torch.from_numpy(rng.poisson(2.0, size=6)).double()
    yield "Bernoulli, probit", lambda f: distributions.Bernoulli(_normal_cdf(f)), coins, _normal_cdf, lambda f: _normal_cdf(f).logit()
    yield "Poisson, softplus", lambda f: distributions.Poisson(softplus(f)), counts, softplus, lambda f: softplus(f).log()


_normal_cdf = torch.special.ndtr


def _gradient_is_the_residual(loss, prediction, f, targets):
    """∇_f of the loss of each target against prediction − target."""
    gradients = torch.stack([torch.func.grad(lambda f, y=y: loss(f, y))(f) for y in targets])
    yield identity("gradient = prediction − target", gradients, prediction(f) - targets)


@canonical_link.breaks("Another link: probit regression, P(Y = 1) = the normal distribution function of f")
def _(rng):
    loss = lambda f, y: -distributions.Bernoulli(_normal_cdf(f)).log_prob(y).sum()
    yield from _gradient_is_the_residual(loss, _normal_cdf, normal(rng, 1), torch.tensor([[0.0], [1.0]]).double())


@canonical_link.breaks("Not the likelihood of its own prediction: the squared error of softmax probabilities")
def _(rng):
    loss = lambda f, y: 0.5 * (SHANNON.predict(f) - y).square().sum()
    yield from _gradient_is_the_residual(loss, SHANNON.predict, normal(rng, 3), torch.eye(3, dtype=torch.float64))


@canonical_link.breaks("«Only if» without the span: one-hot vectors do not see u(f) = log softmax f, whose ∂u/∂f is I − 1pᵀ")
def _(rng):
    f, labels = normal(rng, 3), torch.eye(3, dtype=torch.float64)
    loss = lambda f, y: fenchel_young_loss(SHANNON, y, torch.log_softmax(f, -1))
    yield from _gradient_is_the_residual(loss, SHANNON.predict, f, labels)  # this holds, and yet
    yield identity("∂u/∂f = I", torch.func.jacrev(lambda f: torch.log_softmax(f, -1))(f), labels)


@statement("fy-bregman", "A Fenchel–Young loss is a Bregman divergence in dual coordinates", kind="theorem",
           paper="Lemma 4, part",
           assumptions=("equality: Φ Legendre, ν inside dom Φ",
                        "inequality: Φ = Ψ + indicator of a closed convex C, Ψ differentiable on C"), chapter=CHAPTER, trials=12,
           words="21000ffb")
def fy_bregman(rng):
    K = int(rng.integers(2, 6))
    for g in (SQUARED, BINARY, POISSON, power(1.5), power(3), SHANNON):
        mu, nu = means(rng, g, 8, K), inside(rng, g, 8, K)
        yield identity(f"equality ({g.name})", definition(g, mu, dual(g, nu)), _bregman(g.value, mu, nu))
    alpha = rng.uniform(1.2, 3)
    for g, psi in ((GINI, SQUARED.value), (HUBER, SQUARED.value),
                   (tsallis(alpha), lambda m: (m.abs() ** alpha).sum(-1) / (alpha * (alpha - 1)))):
        mu, f = means(rng, g, 8, K), 2 * normal(rng, 8, K)
        name = g.name.split("-")[0]
        p = g.predict(f)
        yield at_least(f"inequality (restricted, {name})", definition(g, mu, f), _bregman(psi, mu, p), unit=1.0)
        price = inner(_slope(psi, p) - f, mu - p)  # what the restriction adds
        yield identity(f"price of the restriction ({name})", 1 + definition(g, mu, f), 1 + _bregman(psi, mu, p) + price)


def _bregman(psi, mu, nu):
    """Ψ(μ) − Ψ(ν) − ⟨∇Ψ(ν), μ − ν⟩ by its definition."""
    return psi(mu) - psi(nu) - inner(_slope(psi, nu), mu - nu)


def _slope(psi, nu):
    return torch.func.grad(lambda x: psi(x).sum())(nu)


@fy_bregman.witness("A prediction inside the domain: nothing overshoots, so nothing is added")
def _(rng):
    for g, psi in ((GINI, SQUARED.value), (HUBER, SQUARED.value),
                   (tsallis(1.5), lambda m: (m.abs() ** 1.5).sum(-1) / 0.75)):
        mu, f = means(rng, g, 4, 3), 0.1 * normal(rng, 4, 3)
        name = g.name.split("-")[0]
        yield at_least(f"inequality (restricted, {name})", definition(g, mu, f), _bregman(psi, mu, g.predict(f)), unit=1.0)


@fy_bregman.breaks("Equality on a restricted domain: a sparsemax output far below the others costs more than ½‖μ − ŷ‖²")
def _(rng):
    f, mu = torch.tensor([-5.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    yield identity("equality", definition(GINI, mu, f), _bregman(SQUARED.value, mu, GINI.predict(f)))


@fy_bregman.breaks("C not convex: on {−1, 1} the prediction is sign f, and the loss falls below ½(μ − ŷ)²")
def _(rng):
    f, mu = torch.tensor([0.1], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)
    loss = 0.5 + (f.abs() - 0.5) - mu * f  # Φ = ½μ² on the two points has Φ* = |f| − ½
    yield at_least("inequality", loss, 0.5 * (mu - f.sign()).square())


@statement("three-point", "Three points: what a detour costs, and Pythagoras for projections", kind="theorem", chapter=CHAPTER, trials=20,
           assumptions=("Φ convex, finite at x and differentiable at y and z",
                        "Pythagoras: y minimizes B(·, z) over a convex S that contains x; over an affine S for the equality"),
           words="3f2dce9f")
def three_point(rng):
    K = int(rng.integers(2, 6))
    for g in (SQUARED, BINARY, POISSON, power(1.5), power(3)):
        x, (y, z) = means(rng, g, 1, K)[0], inside(rng, g, 2, K)
        divergence = functools.partial(_bregman, g.value)
        yield identity(f"identity ({g.name})", divergence(x, z),
                       divergence(x, y) + divergence(y, z) + inner(x - y, dual(g, y) - dual(g, z)))
        others = inside(rng, g, 20, K)
        low, high = others.aminmax(dim=0)
        nearest = z.clamp(low, high)  # Φ is a sum over coordinates, and so is the search in a box
        yield from _pythagoras(f" (box, {g.name})", divergence, others, nearest, z)
        edge = torch.where(nearest == z, others, nearest)  # on the face of the box that y lies on
        yield identity(f"attained on a face of the box ({g.name})", *_detour(divergence, edge, nearest, z))
        A = normal(rng, 1, K)
        plane = others - (others - others[0]) @ A.mT @ torch.linalg.pinv(A).mT
        plane = plane[g.contains(plane)]
        nearest = _project_onto_plane(g, z, A, A @ others[0])
        yield identity(f"equality (plane, {g.name})", *_detour(divergence, plane, nearest, z), tol=1e-6)
    z, ones = inside(rng, POISSON, 1, K)[0], torch.ones(1, K).double()
    yield identity("the simplex: y = z / Σz", _project_onto_plane(POISSON, z, ones, ones[0]), z / z.sum())


def _detour(divergence, points, y, z):
    """B(x, z) and B(x, y) + B(y, z) for every x of the points."""
    y, z = y.expand_as(points), z.expand_as(points)
    return divergence(points, z), divergence(points, y) + divergence(y, z)


def _pythagoras(suffix, divergence, points, y, z):
    direct, detour = _detour(divergence, points, y, z)
    yield at_least("Pythagoras" + suffix, direct, detour)


def _project_onto_plane(g, z, A, b):
    """The point y with Ay = b whose B(y, z) is smallest: ∇Φ(y) = ∇Φ(z) + Aᵀλ, with λ by bisection (one constraint)."""
    at = lambda scale: g.predict(dual(g, z) + scale * A[0])
    low, high = -1.0, 1.0
    while A[0] @ at(low) > b[0]:
        low *= 2
    while A[0] @ at(high) < b[0]:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if A[0] @ at(middle) < b[0] else (low, middle)
    return at((low + high) / 2)


def _kl(a, b):
    return _bregman(POISSON.value, a, b)


@three_point.breaks("y not the nearest point of S: another point of the same interval")
def _(rng):
    s, z = torch.linspace(0.2, 0.8, 31).double(), torch.tensor([0.5]).double()
    yield from _pythagoras("", _kl, s[:, None], s[:1], z)


@three_point.breaks("S not convex: two points, and the far one is no farther than the near one by way of it")
def _(rng):
    points, z = torch.tensor([[1.0], [2.1]]).double(), torch.tensor([1.5]).double()
    nearest = min(points, key=lambda s: float(_kl(s, z)))
    yield from _pythagoras("", _kl, points, nearest, z)


@three_point.breaks("Convex and not affine: inside an interval the way by its end is shorter than equality says")
def _(rng):
    s, z = torch.linspace(1.0, 2.0, 11).double(), torch.tensor([rng.uniform(0.2, 0.8)]).double()
    yield identity("equality", *_detour(_kl, s[:, None], s[:1], z))


@three_point.breaks("The other order: y minimizes B(z, ·), as a likelihood does, and the sum of the two divergences is too large")
def _(rng):
    z, t = torch.tensor([0.2, 0.8]).double(), torch.linspace(0.01, 0.99, 197).double()
    segment = torch.stack([t * 0.9 + (1 - t) * 0.1, t * 0.6 + (1 - t) * 0.2], 1)
    nearest = min(segment, key=lambda s: float(_kl(z, s)))
    yield from _pythagoras("", _kl, segment, nearest, z)


@statement("fy-quadratic-sandwich", "Between two multiples of the squared residual", kind="theorem", paper="Lemma 4, part",
           assumptions=("lower: Φ closed and σ-strongly convex",
                        "upper: Φ finite and differentiable with f = ∇Φ(ŷ), and ∇Φ β-Lipschitz on the segment [ŷ, μ]"),
           chapter=CHAPTER, trials=12, words="554f9042")
def fy_quadratic_sandwich(rng):
    K = int(rng.integers(2, 6))
    for g in ZOO:
        mu, f = means(rng, g, 8, K), 2 * normal(rng, 8, K)
        half_square = 0.5 * (mu - g.predict(f)).square().sum(-1)
        if g.strong_convexity:
            yield at_least(f"lower ({g.name})", fenchel_young_loss(g, mu, f), g.strong_convexity * half_square)
    mu, f = normal(rng, 2, 8, K)
    yield at_most("upper (squared)", definition(SQUARED, mu, f), SQUARED.smoothness / 2 * (mu - f).square().sum(-1))
    for g, curvature in ((POISSON, lambda m: 1 / m), (BINARY, lambda m: 1 / (m * (1 - m))), (power(3), lambda m: 2 * m.abs())):
        mu, nu = inside(rng, g, 8, K), inside(rng, g, 8, K)
        loss, half_square = definition(g, mu, dual(g, nu)), 0.5 * (mu - nu).square().sum(-1)
        path = torch.stack([curvature(s * mu + (1 - s) * nu) for s in np.linspace(0, 1, 201)])
        yield at_least(f"lower, local ({g.name})", loss, path.amin((0, 2)) * half_square, tol=1e-3)
        yield at_most(f"upper, local ({g.name})", loss, path.amax((0, 2)) * half_square, tol=1e-3)


@fy_quadratic_sandwich.witness("Two classes near the fair coin; a single number that moves by a thousandth", {
    "lower (Tsallis": "σ = 1 is the constant in ℓ_s, s = 2/(3−α); in ℓ₂ 2^(2−α) seems to do, √2 here"})
def _(rng):
    f = torch.tensor([[0.05, -0.05]], dtype=torch.float64)
    for g in ZOO:
        mu = g.predict(0 * f)
        if g.strong_convexity:
            residual = mu - g.predict(f)
            yield at_least(f"lower ({g.name})", fenchel_young_loss(g, mu, f), g.strong_convexity / 2 * residual.square().sum(-1))
    for g, curvature in ((POISSON, lambda m: 1 / m), (BINARY, lambda m: 1 / (m * (1 - m))), (power(3), lambda m: 2 * m.abs())):
        nu = torch.tensor([[0.4]], dtype=torch.float64)
        mu, ends = nu + 1e-3, torch.stack([curvature(nu), curvature(nu + 1e-3)])
        yield at_least(f"lower, local ({g.name})", bregman_divergence(g, mu, nu), ends.amin() / 2 * 1e-6, tol=1e-3)
        yield at_most(f"upper, local ({g.name})", bregman_divergence(g, mu, nu), ends.amax() / 2 * 1e-6, tol=1e-3)


@fy_quadratic_sandwich.breaks("Upper half on a restricted domain: sparsemax, f = (−5, 0), first class true: d = 5, ½‖μ − ŷ‖² = 1")
def _(rng):
    f, mu = torch.tensor([-5.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    yield at_most("upper", definition(GINI, mu, f), 0.5 * (mu - GINI.predict(f)).square().sum(-1))


@fy_quadratic_sandwich.breaks("No finite β: cross-entropy exceeds 100·½‖μ − ŷ‖² once the true class has lost all probability")
def _(rng):
    f, mu = torch.tensor([-200.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    yield at_most("upper", definition(SHANNON, mu, f), 100 / 2 * (mu - SHANNON.predict(f)).square().sum(-1))


@fy_quadratic_sandwich.breaks("No σ > 0: among large counts the Poisson loss is flatter than 10⁻³·½(μ − ŷ)²")
def _(rng):
    mu, nu = torch.tensor([[2e4], [2e4 + 100]], dtype=torch.float64)
    yield at_least("lower", bregman_divergence(POISSON, mu, nu), 1e-3 / 2 * (mu - nu).square().sum(-1))


@statement("fy-temperature", "A temperature scales the generator, and turns the prediction from argmax to indifference",
           kind="proposition", paper="Lemma 4, part", chapter=CHAPTER, trials=12,
           assumptions=("τ > 0", "for the limits: Φ bounded on a compact domain",
                        "the loss grows with τ where the target maximizes Φ (one-hot targets, symmetric Φ)"), words="e6a3637e")
def fy_temperature(rng):
    K, tau = int(rng.integers(2, 6)), 10 ** rng.uniform(-1, 1)
    for g in ZOO:
        mu, f = means(rng, g, 8, K), 2 * normal(rng, 8, K)
        p = g.predict(f / tau)
        yield identity(f"(τΦ)* = τΦ*(·/τ) ({g.name})", inner(p, f) - tau * g.value(p), tau * g.conjugate(f / tau))
        yield at_least(f"it is the supremum ({g.name})", tau * g.conjugate(f / tau), inner(mu, f) - tau * g.value(mu))
        gradient = torch.func.grad(lambda x: tau * fenchel_young_loss(g, mu, x / tau).sum())(f)
        yield identity(f"gradient of τd(μ; f/τ) ({g.name})", gradient, p - mu)
        warmer = g.value(g.predict(f / (1.5 * tau)))
        yield at_least(f"Φ(ŷ) falls with τ ({g.name})", g.value(p), warmer)
        below = tau * g.value(nearby := 0.5 * (mu + p)) - tau * g.value(p) - inner(f, nearby - p)  # τΦ above its tangent with slope f
        yield at_least(f"τΦ is τσ-strongly convex ({g.name})", below, tau * g.strong_convexity / 2 * (nearby - p).square().sum(-1),
                       unit=float(1 + tau * g.value(p).abs().max() + f.abs().max() ** 2))
    for g, bound in ((SHANNON, np.log(K)), (tsallis(1.5), entropy(np.full(K, 1 / K), tsallis(1.5)))):  # Φ in [−bound, 0]
        f = 2 * normal(rng, 8, K)
        smooth = tau * g.conjugate(f / tau)
        yield at_least(f"above the maximum ({g.name})", smooth, f.amax(-1))
        yield at_most(f"within τ·max|Φ| of it ({g.name})", smooth, f.amax(-1) + tau * bound)
        target = torch.from_numpy(rng.integers(K, size=8))
        yield at_most(f"loss grows with τ ({g.name})", tau * fenchel_young_loss(g, target, f / tau),
                      1.5 * tau * fenchel_young_loss(g, target, f / (1.5 * tau)))


@fy_temperature.witness("Temperatures that differ by a thousandth, targets that are predicted, and both limits of τ", {
    "τΦ is τσ-strongly convex (Tsallis": "as in fy-quadratic-sandwich"})
def _(rng):
    f, tau = torch.tensor([[2.0, 0.5, -1.0]], dtype=torch.float64), 0.7
    coin = torch.tensor([[0.02, -0.02]], dtype=torch.float64)
    for g in ZOO:
        p = g.predict(f / tau)
        yield at_least(f"it is the supremum ({g.name})", tau * g.conjugate(f / tau), inner(p, f) - tau * g.value(p))
        yield at_least(f"Φ(ŷ) falls with τ ({g.name})", g.value(p), g.value(g.predict(f / (1.001 * tau))))
        p, q = g.predict(coin), g.predict(0 * coin)
        below = tau * (g.value(q) - g.value(p) - inner(coin, q - p))
        yield at_least(f"τΦ is τσ-strongly convex ({g.name})", below, tau * g.strong_convexity / 2 * (q - p).square().sum(-1))
    for g, bound in ((SHANNON, np.log(3)), (tsallis(1.5), entropy(np.full(3, 1 / 3), tsallis(1.5)))):
        yield at_least(f"above the maximum ({g.name})", 1e-3 * g.conjugate(f / 1e-3), f.amax(-1))
        yield at_most(f"within τ·max|Φ| of it ({g.name})", tau * g.conjugate(0 * f), tau * bound)
        yield at_most(f"loss grows with τ ({g.name})", tau * fenchel_young_loss(g, torch.tensor([2]), f / tau),
                      1.001 * tau * fenchel_young_loss(g, torch.tensor([2]), f / (1.001 * tau)))
        tied = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
        yield identity(f"τ → 0: the maximum is attained ({g.name})", g.predict(tied / 1e-4), torch.tensor([0.5, 0.5, 0.0]))
        yield identity(f"τ → ∞: the minimizer of Φ ({g.name})", g.predict(f / 1e12), torch.full((1, 3), 1 / 3, dtype=f.dtype))


@fy_temperature.breaks("The factor τ forgotten: the gradient of d(μ; f/τ) is not ŷ − μ")
def _(rng):
    f, target, tau = normal(rng, 3), torch.tensor(0), 4.0
    gradient = torch.func.grad(lambda x: fenchel_young_loss(SHANNON, target, x / tau))(f)
    yield identity("gradient", gradient, SHANNON.predict(f / tau) - torch.eye(3, dtype=f.dtype)[0])


@fy_temperature.breaks("No compact domain: for the squared generator f²/(2τ) leaves every bound as τ → 0")
def _(rng):
    tau, f = 1e-3, torch.ones(1, dtype=torch.float64)
    yield at_most("within a constant of the maximum over targets", tau * SQUARED.conjugate(f / tau), f.amax() + 10.0)


@statement("fy-calibration", "The expected loss is smallest exactly where the prediction is the mean of the target",
           kind="theorem", paper="Lemma 4, part", chapter=CHAPTER, trials=12,
           assumptions=("Φ closed, proper and strictly convex", "E‖T(Y)‖ and E|Φ(T(Y))| finite",
                        "for a minimum to exist: ∂Φ(E T(Y)) not empty"), words="73c54a6c")
def fy_calibration(rng):
    K = int(rng.integers(2, 6))
    labels = torch.eye(K, dtype=torch.float64)
    for g in ZOO:
        q, f = 0.99 * simplex_points(rng, 1, K)[0] + 0.01 / K, 2 * normal(rng, K)
        best = dual(g, q)
        expected = lambda x: q @ fenchel_young_loss(g, labels, x.expand(K, K))
        spread = float(entropy(q, g))
        yield identity(f"E d = Ent + d(mean; f) ({g.name})", expected(f), spread + fenchel_young_loss(g, q, f))
        yield identity(f"the mean attains Ent ({g.name})", expected(best), spread)
        yield identity(f"and is predicted there ({g.name})", g.predict(best), q)
        if (g.predict(f) - q).abs().max() > 1e-6:
            yield at_least(f"elsewhere larger ({g.name})", float(expected(f) > spread), 1.0)


@fy_calibration.breaks("A certain label under softmax: the infimum 0 is approached, and attained by no finite output")
def _(rng):
    f = 10 * normal(rng, 3)
    yield at_most("attained", fenchel_young_loss(SHANNON, torch.tensor(0), f), 0.0)


@fy_calibration.breaks("Not strictly convex: the perceptron loss is smallest at f = 0 for every distribution of labels")
def _(rng):
    for q in simplex_points(rng, 2, 3):
        yield identity("the mean is predicted", LINEAR.predict(torch.zeros(3, dtype=torch.float64)), q)


@fy_calibration.breaks("No mean: for Φ = e^μ and T = −|Cauchy|, Φ(T) is harmless and the mean loss at f = 1 grows with the range counted")
def _(rng):
    reach = 10.0 ** rng.integers(4, 8)
    near, far = (_mean_exponential_loss(c) for c in (reach, 100 * reach))
    yield identity("E d exists", far, near, tol=1e-2)


def _mean_exponential_loss(reach, f=1.0):
    """E d_Φ(T; f) for Φ = e^μ and T = −|X|, X Cauchy cut off at ±reach, by the trapezoidal rule in log |X|; Φ*(f) = f log f − f."""
    x = torch.logspace(-8, np.log10(reach), 20_001, dtype=torch.float64)
    loss = torch.exp(-x) + f * np.log(f) - f + x * f
    weight = 2 / np.pi * x / (1 + x.square())  # of log |X|
    return torch.trapezoid(loss * weight, x.log())
