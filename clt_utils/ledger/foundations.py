"""Part I of the ledger: convex conjugates and Fenchel–Young losses."""

import itertools

import numpy as np
import torch
from scipy import optimize

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
from .instances import inside, normal, simplex_points

CONJUGATES = "foundations/conjugates"
LOSSES = "foundations/fenchel-young-losses"


def inner(mu, f):
    """⟨μ, f⟩ over the last dimension."""
    return (mu * f).sum(-1)


def means(rng, generator, n, K):
    """``n`` mean vectors of the domain, (n, K): predictions of random outputs, some of them on the border."""
    mu = generator.predict(2 * normal(rng, n, K))
    return torch.where(torch.from_numpy(rng.random((n, 1))) < 0.2, torch.eye(K, dtype=mu.dtype)[rng.integers(K, size=n)], mu)


# Finite functions: a function given at finitely many points (+∞ elsewhere) has an exact conjugate, a maximum

def conjugate_of(points, values, f):
    """max_i ⟨x_i, f⟩ − Φ(x_i) for a function given at points (n, d) -> at f (m, d): (m,)."""
    return (f @ points.T - values).max(-1)


def lower_hull(x, values):
    """The largest convex function below the points (x_i, v_i), x increasing, at every x_i."""
    hull = []
    for point in zip(x, values):
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    return np.interp(x, *zip(*hull))


def _turn(a, b, c):
    """Positive if the path a, b, c in the plane turns left."""
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])


def biconjugate_of(x, values):
    """Φ** at the points x of a finite function on the line: only slopes between two points matter, and ±∞."""
    i, j = np.triu_indices(len(x), 1)
    steep = 1e3 * (1 + np.ptp(values)) / np.diff(x).min()
    slopes = np.concatenate([(values[j] - values[i]) / (x[j] - x[i]), [-steep, steep]])
    return (np.outer(x, slopes) - conjugate_of(x[:, None], values, slopes[:, None])).max(-1)


def random_finite_function(rng, n=9):
    """Points on the line, increasing, (n,), and values that are not convex, (n,)."""
    return np.cumsum(rng.uniform(0.2, 1, n)), rng.normal(size=n)


# Convex conjugates

@statement("fenchel-young-inequality", "A function and its conjugate lie above the inner product, and touch it at subgradients",
           kind="lemma", paper="Lemma 3, part", assumptions=("Φ proper, for the inequality", "f ∈ ∂Φ(μ), for equality"),
           chapter=CONJUGATES, trials=12, words="f5e99d5a")
def fenchel_young_inequality(rng):
    K = int(rng.integers(2, 6))
    for g in ZOO:
        mu, f = means(rng, g, 8, K), 2 * normal(rng, 8, K)
        yield at_least(f"inequality ({g.name})", g.value(mu) + g.conjugate(f), inner(mu, f))
        p = g.predict(f)
        yield identity(f"touches at ∇Φ* ({g.name})", g.value(p) + g.conjugate(f), inner(p, f))
    # a kinked convex function: equality exactly for the slopes between the left and the right derivative
    x, values = random_finite_function(rng)
    values = lower_hull(x, values)
    slopes = np.diff(values) / np.diff(x)
    i, f = int(rng.integers(len(x))), rng.normal() * 2
    is_subgradient = (i == 0 or slopes[i - 1] <= f) and (i == len(x) - 1 or f <= slopes[i])
    gap = values[i] + conjugate_of(x[:, None], values, np.array([[f]]))[0] - x[i] * f
    yield identity("equality iff subgradient", float(gap < 1e-9), float(is_subgradient))


@fenchel_young_inequality.breaks("f = ∇Φ(μ) without convexity: at the hilltop of a double well the slope 0 is no subgradient")
def _(rng):
    x = np.linspace(-2, 2, 401)
    values = (x**2 - 1) ** 2
    conjugate = conjugate_of(x[:, None], values, np.zeros((1, 1)))
    yield identity("equality", 1.0 + conjugate, 0.0 * conjugate)


@statement("biconjugation", "Conjugating twice gives back exactly the closed convex functions", kind="theorem",
           paper="Lemma 3, part", assumptions=("Φ proper", "Φ convex", "Φ closed (lower semicontinuous)"),
           chapter=CONJUGATES, trials=10, words="5317fa7d")
def biconjugation(rng):
    x, values = random_finite_function(rng)
    hull = lower_hull(x, values)
    yield identity("Φ** is the convex hull", biconjugate_of(x, values), hull)
    yield at_most("Φ** below Φ", biconjugate_of(x, values), values, tol=1e-6)  # slopes up to 10⁴ cost four digits
    yield identity("Φ convex: Φ** = Φ", biconjugate_of(x, hull), hull)
    g = ZOO[rng.integers(len(ZOO))]
    mu = inside(rng, g, 1, int(rng.integers(2, 5)))[0]
    yield identity("zoo", _biconjugate(g, mu), g.value(mu), tol=1e-7)


def _biconjugate(g, mu):
    """sup_f ⟨μ, f⟩ − Φ*(f) by Newton's method from f = 0; uses the conjugate alone."""
    def negative(f):
        f = torch.from_numpy(f)
        return float(g.conjugate(f) - inner(mu, f)), (torch.func.grad(g.conjugate)(f) - mu).numpy()

    return -optimize.minimize(negative, np.zeros(len(mu)), jac=True, method="BFGS", options={"gtol": 1e-9}).fun


@biconjugation.breaks("Not convex: the double well (μ²−1)² comes back without its hill")
def _(rng):
    x = np.linspace(-2, 2, 41)
    values = (x**2 - 1) ** 2
    yield identity("Φ** = Φ", biconjugate_of(x, values), values)


@biconjugation.breaks("Not closed: 0 on (0, 1) and 1 at the ends comes back as 0 at the ends")
def _(rng):
    f = np.linspace(-100, 100, 2001)
    conjugate = np.max([0 * f - 1, f - 1, 0 * f, f], axis=0)  # at the two ends, and in the limit towards them
    yield identity("Φ**(0) = Φ(0)", (0 * f - conjugate).max(), 1.0)


@statement("gradient-inverse", "The gradients of a Legendre function and of its conjugate are inverse maps", kind="theorem",
           paper="Lemma 3, part", chapter=CONJUGATES, trials=12,
           assumptions=("Φ Legendre: closed, strictly convex and differentiable inside its domain, steep at its border",
                        "on the simplex: relative interior, outputs up to a constant"), words="979a27e1")
def gradient_inverse(rng):
    K = int(rng.integers(2, 6))
    for g in (SQUARED, BINARY, POISSON, power(1.5), power(3), SHANNON):
        mu, f = inside(rng, g, 5, K), 2 * normal(rng, 5, K)
        back = dual(g, g.predict(f))
        if g.on_simplex:
            f, back = f - f.mean(-1, keepdim=True), back - back.mean(-1, keepdim=True)
        yield identity(f"∇Φ*∘∇Φ ({g.name})", g.predict(dual(g, mu)), mu)
        yield identity(f"∇Φ∘∇Φ* ({g.name})", back, f, tol=1e-7)


@gradient_inverse.breaks("Not steep at the border: sparsemax forgets how far below zero an output was")
def _(rng):
    f = normal(rng, 3) + torch.tensor([5.0, 0, -5])
    back = dual(GINI, GINI.predict(f))
    yield identity("∇Φ∘∇Φ*", back - back.mean(), f - f.mean())


@gradient_inverse.breaks("Outputs themselves, not up to a constant: softmax(f + c) = softmax(f)")
def _(rng):
    f = normal(rng, 3) + 1
    yield identity("∇Φ∘∇Φ*", dual(SHANNON, SHANNON.predict(f)), f)


@statement("convexity-smoothness-duality", "Φ is σ-strongly convex exactly when Φ* is 1/σ-smooth in the dual norm",
           kind="theorem", paper="Lemma 3, part", assumptions=("Φ closed, proper and convex", "the two norms are dual to each other"),
           chapter=CONJUGATES, trials=12, words="4eebd7b9")
def convexity_smoothness_duality(rng):
    K = int(rng.integers(2, 7))
    t = torch.from_numpy(rng.uniform(0.05, 0.95, 8))
    for g in (SQUARED, SHANNON, BINARY, GINI, tsallis(1.5), HUBER):
        mu, nu = means(rng, g, 8, K), means(rng, g, 8, K)
        yield _strong_convexity(f"Φ strongly convex ({g.name})", g.value, g.strong_convexity, mu, nu, t)
        f, h = normal(rng, 2, 8, K)
        difference = f - h - (f - h).mean(-1, keepdim=True) * g.on_simplex
        yield at_most(f"Φ* smooth ({g.name})", (g.predict(f) - g.predict(h)).norm(dim=-1),
                      difference.norm(dim=-1) / g.strong_convexity)
        if g is SHANNON:
            yield at_most("Φ* smooth (Shannon, ℓ₁ and ℓ∞)", (g.predict(f) - g.predict(h)).abs().sum(-1), (f - h).abs().amax(-1))
    # the other direction, from a smooth conjugate to a strongly convex Φ: Φ*(f) = Σ_i log cosh(a_i f), smooth with L = Σ a_i²
    a = rng.uniform(0.2, 2, 3)
    mu, nu = torch.from_numpy(rng.uniform(-0.95, 0.95, (2, 8)) * a.sum())
    yield _strong_convexity("Φ* smooth ⇒ Φ strongly convex", lambda m: _log_cosh_value(a, m), 1 / (a**2).sum(),
                            mu[:, None], nu[:, None], t)


def _strong_convexity(name, value, sigma, mu, nu, t):
    """Φ at a point between μ and ν lies below the chord by at least (σ/2) t(1−t) ‖μ − ν‖²."""
    between = value(t[:, None] * mu + (1 - t)[:, None] * nu)
    return at_most(name, between + sigma / 2 * t * (1 - t) * (mu - nu).square().sum(-1), t * value(mu) + (1 - t) * value(nu))


def _log_cosh_value(a, mu):
    """Φ(μ) = μf − Σ log cosh(a_i f) at the f where Σ a_i tanh(a_i f) = μ, found by bracketing; (n, 1) -> (n,)."""
    values = []
    for m in mu[:, 0].tolist():
        f = optimize.brentq(lambda x: (a * np.tanh(a * x)).sum() - m, -1e3, 1e3, xtol=1e-13)
        values.append(m * f - (np.logaddexp(a * f, -a * f) - np.log(2)).sum())
    return torch.tensor(values, dtype=mu.dtype)


@convexity_smoothness_duality.breaks("Strictly but not strongly convex: for ¼μ⁴ the prediction f^(1/3) is infinitely steep at 0")
def _(rng):
    f = 1e-9 * normal(rng, 2, 1)
    yield at_most("Φ* smooth, σ = 10⁻³", (power(4).predict(f[0]) - power(4).predict(f[1])).abs(), (f[0] - f[1]).abs() / 1e-3)


@convexity_smoothness_duality.breaks("Norms that are not dual: Shannon's σ = 2 belongs to ℓ₂, in ℓ₁ it is 1")
def _(rng):
    f = torch.tensor([0.1, -0.1], dtype=torch.float64)
    difference = SHANNON.predict(f) - SHANNON.predict(-f)
    yield at_most("Φ* smooth", difference.abs().sum(), (2 * f).abs().amax() / 2)


@statement("conjugate-calculus", "How conjugates follow scaling, shifting, sums, order and infimal convolution", kind="lemma",
           paper="Lemma 3, part", chapter=CONJUGATES, trials=12,
           assumptions=("a > 0 for scaling", "for (Φ₁+Φ₂)* = Φ₁* □ Φ₂*: convex, and the relative interiors of the domains meet"),
           words="d00f1fbd")
def conjugate_calculus(rng):
    (x, y), (u, v) = rng.normal(size=(2, 7, 2)), rng.normal(size=(2, 7))
    f, c, a = rng.normal(size=(5, 2)), rng.normal(size=2), rng.uniform(0.2, 5)
    yield identity("scaling", conjugate_of(x, a * u, f), a * conjugate_of(x, u, f / a))
    yield identity("translation", conjugate_of(x + c, u, f), conjugate_of(x, u, f) + f @ c)
    yield identity("tilting", conjugate_of(x, u + x @ c, f), conjugate_of(x, u, f - c))
    pairs = list(itertools.product(range(7), range(7)))
    both = np.array([np.concatenate([x[i], y[j]]) for i, j in pairs]), np.array([u[i] + v[j] for i, j in pairs])
    h = rng.normal(size=(5, 2))
    joined = conjugate_of(*both, np.concatenate([f, h], 1))
    yield identity("separable sums", joined, conjugate_of(x, u, f) + conjugate_of(y, v, h))
    yield at_least("order reversal", conjugate_of(x, u, f), conjugate_of(x, u + rng.uniform(0, 1, 7), f))
    sums = np.array([x[i] + y[j] for i, j in pairs])
    yield identity("(Φ₁ □ Φ₂)*", conjugate_of(sums, both[1], f), conjugate_of(x, u, f) + conjugate_of(y, v, f))
    # (½‖·‖² + indicator of the simplex)* = min over h of ½‖f − h‖² + max h
    f, h = 2 * normal(rng, 5, 4), normal(rng, 5, 4)
    best = f - GINI.predict(f)
    yield identity("(Φ₁+Φ₂)* is attained", GINI.conjugate(f), 0.5 * (f - best).square().sum(-1) + best.amax(-1))
    yield at_most("(Φ₁+Φ₂)* is the smallest", GINI.conjugate(f), 0.5 * (f - h).square().sum(-1) + h.amax(-1))


@conjugate_calculus.breaks("Domains that meet only at their borders: exp(−√(xy)) on x, y ≥ 0 and the line x = 0")
def _(rng):
    grid = np.concatenate([[0], np.geomspace(1e-8, 1e8, 60)])
    x, y = np.meshgrid(grid, grid)
    first = np.exp(-np.sqrt(x * y))
    conjugate_of_sum = (-first[x == 0]).max()
    infimal = min((c * x - first).max() for c in (0.0, -1.0, -10.0))  # the conjugate of the line is 0 at (−c, 0), ∞ off it
    yield identity("(Φ₁+Φ₂)*", conjugate_of_sum, infimal)


@conjugate_calculus.breaks("A negative factor: −½μ² has no finite conjugate, a·Φ*(f/a) is finite")
def _(rng):
    x = np.linspace(-100, 100, 401)[:, None]
    yield identity("scaling", conjugate_of(x, -0.5 * x[:, 0] ** 2, np.ones((1, 1))), -0.5)


# Fenchel–Young losses

def definition(g, mu, f):
    """Φ(μ) + Φ*(f) − ⟨μ, f⟩ as it stands; ``fenchel_young_loss`` computes the same without cancellation."""
    return g.value(mu) + g.conjugate(f) - inner(mu, f)


LINEAR = Generator("zero on the simplex", lambda mu: 0 * mu.sum(-1), lambda f: f.amax(-1), lambda f: torch.softmax(1e9 * f, -1),
                   SHANNON.contains, 0.0, np.inf, on_simplex=True)
"""Convex but not strictly: Φ = 0 on the simplex, Φ* = max f, the perceptron loss. A prediction is *some* maximizer."""


@statement("fy-nonnegative-zero", "A Fenchel–Young loss is nonnegative, and zero exactly at the right prediction", kind="theorem",
           paper="Lemma 4, part", assumptions=("Φ closed, proper and strictly convex, for the zero", "Φ* is the conjugate of Φ"),
           chapter=LOSSES, trials=12, words="49398682")
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
           paper="Lemma 4, part", chapter=LOSSES, trials=12,
           assumptions=("Φ closed and proper; convexity needs no more", "Φ strictly convex, f inside dom Φ*, for the gradient"),
           words="f151f5be")
def fy_convex_gradient(rng):
    K = int(rng.integers(2, 6))
    for g in ZOO:
        mu, (f, h), t = means(rng, g, 8, K), 2 * normal(rng, 2, 8, K), torch.from_numpy(rng.random(8))
        between = definition(g, mu, t[:, None] * f + (1 - t)[:, None] * h)
        chord = t * definition(g, mu, f) + (1 - t) * definition(g, mu, h)
        yield at_most(f"convex ({g.name})", 1 + between, 1 + chord)  # the 1 sets the scale of rounding
        residual = g.predict(f) - mu
        for name, loss in (("definition", definition), ("stable form", fenchel_young_loss)):
            gradient = torch.func.grad(lambda x: loss(g, mu, x).sum())(f)
            yield identity(f"gradient of the {name} ({g.name})", gradient, residual)
        step, small = normal(rng, 8, K), 1e-5
        slope = (definition(g, mu, f + small * step) - definition(g, mu, f - small * step)) / (2 * small)
        yield identity(f"difference quotient ({g.name})", slope, inner(residual, step), tol=1e-3)


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


@statement("fy-bregman", "A Fenchel–Young loss is a Bregman divergence in dual coordinates", kind="theorem",
           paper="Lemma 4, part",
           assumptions=("equality: Φ Legendre, ν inside dom Φ",
                        "inequality: Φ = Ψ + indicator of a closed convex C, Ψ differentiable on C"), chapter=LOSSES, trials=12,
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
        yield at_least(f"inequality (restricted, {name})", 1 + definition(g, mu, f), 1 + _bregman(psi, mu, g.predict(f)))


def _bregman(psi, mu, nu):
    """Ψ(μ) − Ψ(ν) − ⟨∇Ψ(ν), μ − ν⟩ by its definition."""
    slope = torch.func.grad(lambda x: psi(x).sum())(nu)
    return psi(mu) - psi(nu) - inner(slope, mu - nu)


@fy_bregman.breaks("Equality on a restricted domain: a sparsemax output far below the others costs more than ½‖μ − ŷ‖²")
def _(rng):
    f, mu = torch.tensor([-5.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    yield identity("equality", definition(GINI, mu, f), _bregman(SQUARED.value, mu, GINI.predict(f)))


@fy_bregman.breaks("C not convex: on {−1, 1} the prediction is sign f, and the loss falls below ½(μ − ŷ)²")
def _(rng):
    f, mu = torch.tensor([0.1], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)
    loss = 0.5 + (f.abs() - 0.5) - mu * f  # Φ = ½μ² on the two points has Φ* = |f| − ½
    yield at_least("inequality", loss, 0.5 * (mu - f.sign()).square())


@statement("fy-quadratic-sandwich", "Between two multiples of the squared residual", kind="theorem", paper="Lemma 4, part",
           assumptions=("lower: Φ closed and σ-strongly convex",
                        "upper: Φ finite and differentiable with f = ∇Φ(ŷ), and ∇Φ β-Lipschitz on the segment [ŷ, μ]"),
           chapter=LOSSES, trials=12, words="554f9042")
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
           kind="proposition", paper="Lemma 4, part", chapter=LOSSES, trials=12,
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
    for g, bound in ((SHANNON, np.log(K)), (tsallis(1.5), entropy(np.full(K, 1 / K), tsallis(1.5)))):  # Φ in [−bound, 0]
        f = 2 * normal(rng, 8, K)
        smooth = tau * g.conjugate(f / tau)
        yield at_least(f"above the maximum ({g.name})", smooth, f.amax(-1))
        yield at_most(f"within τ·max|Φ| of it ({g.name})", smooth, f.amax(-1) + tau * bound)
        target = torch.from_numpy(rng.integers(K, size=8))
        yield at_most(f"loss grows with τ ({g.name})", tau * fenchel_young_loss(g, target, f / tau),
                      1.5 * tau * fenchel_young_loss(g, target, f / (1.5 * tau)))


@fy_temperature.breaks("The factor τ forgotten, as in most code: the gradient of d(μ; f/τ) is not ŷ − μ")
def _(rng):
    f, target, tau = normal(rng, 3), torch.tensor(0), 4.0
    gradient = torch.func.grad(lambda x: fenchel_young_loss(SHANNON, target, x / tau))(f)
    yield identity("gradient", gradient, SHANNON.predict(f / tau) - torch.eye(3, dtype=f.dtype)[0])


@fy_temperature.breaks("No compact domain: for the squared generator f²/(2τ) leaves every bound as τ → 0")
def _(rng):
    tau, f = 1e-3, torch.ones(1, dtype=torch.float64)
    yield at_most("within a constant of the maximum over targets", tau * SQUARED.conjugate(f / tau), f.amax() + 10.0)


@statement("fy-calibration", "The expected loss is smallest exactly where the prediction is the mean of the target",
           kind="theorem", paper="Lemma 4, part", chapter=LOSSES, trials=12,
           assumptions=("Φ closed, proper and strictly convex, E|Φ(T(Y))| finite",
                        "for a minimum to exist: ∂Φ(E T(Y)) not empty"), words="3493f2e8")
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
