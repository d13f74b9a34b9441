"""Conjugates: a convex function and its conjugate, their gradients, and how to compute with them."""

import itertools

import numpy as np
import torch
from scipy import optimize

from ..duality import BINARY, GINI, HUBER, POISSON, SHANNON, SQUARED, ZOO, dual, power, tsallis
from .core import at_least, at_most, identity, statement
from .instances import inner, inside, means, nearly_touching, normal

CHAPTER = "foundations/conjugates"


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


@statement("fenchel-young-inequality", "A function and its conjugate lie above the inner product, and touch it at subgradients",
           kind="lemma", paper="Lemma 3, part", assumptions=("Φ proper, for the inequality", "f ∈ ∂Φ(μ), for equality"),
           chapter=CHAPTER, trials=12, words="f5e99d5a")
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
    i = int(rng.integers(len(x)))
    f = rng.choice([rng.normal() * 2, slopes[max(i - 1, 0):i + 1].mean()])  # often a slope between the two
    is_subgradient = (i == 0 or slopes[i - 1] <= f + 1e-12) and (i == len(x) - 1 or f - 1e-12 <= slopes[i])
    gap = values[i] + conjugate_of(x[:, None], values, np.array([[f]]))[0] - x[i] * f
    yield identity("equality iff subgradient", float(gap < 1e-9), float(is_subgradient))


@fenchel_young_inequality.witness("f = ∇Φ(μ), up to a millionth")
def _(rng):
    for g, mu, f in nearly_touching(rng):
        yield at_least(f"inequality ({g.name})", g.value(mu) + g.conjugate(f), inner(mu, f))


@fenchel_young_inequality.breaks("f = ∇Φ(μ) without convexity: at the hilltop of a double well the slope 0 is no subgradient")
def _(rng):
    x = np.linspace(-2, 2, 401)
    values = (x**2 - 1) ** 2
    conjugate = conjugate_of(x[:, None], values, np.zeros((1, 1)))
    yield identity("equality", 1.0 + conjugate, 0.0 * conjugate)


@statement("biconjugation", "Conjugating twice gives back exactly the closed convex functions", kind="theorem",
           paper="Lemma 3, part", assumptions=("Φ proper", "Φ convex", "Φ closed (lower semicontinuous)"),
           chapter=CHAPTER, trials=10, words="11f5951c")
def biconjugation(rng):
    x, values = random_finite_function(rng)
    hull = lower_hull(x, values)
    yield identity("Φ** is the convex hull", biconjugate_of(x, values), hull)
    yield at_most("Φ** below Φ", biconjugate_of(x, values), values, tol=1e-6)  # slopes up to 10⁴ cost four digits
    yield identity("Φ convex: Φ** = Φ", biconjugate_of(x, hull), hull)
    if (values - hull).max() > 1e-3:  # the other direction: not convex, so something is lost
        yield at_least("not convex: Φ** ≠ Φ", float((values - biconjugate_of(x, values)).max() > 1e-4), 1.0)
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
           paper="Lemma 3, part", chapter=CHAPTER, trials=12,
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


@statement("hessian-inverse", "The curvature of the conjugate is the inverse of the curvature of the generator", kind="theorem",
           assumptions=("Φ Legendre", "Φ twice continuously differentiable inside its domain, with ∇²Φ ≻ 0",
                        "on the simplex: p > 0, and the inverse is taken along the vectors that sum to zero"),
           chapter=CHAPTER, trials=12, words="1d1dc0c9")
def hessian_inverse(rng):
    K = int(rng.integers(2, 6))
    for g in (SQUARED, BINARY, POISSON, power(1.5), power(3)):
        mu = inside(rng, g, 1, K)[0]
        yield identity(f"∇²Φ*(f)∇²Φ(μ) = I ({g.name})", _hessian(g.conjugate, dual(g, mu)) @ _hessian(g.value, mu), torch.eye(K))
    B, mu = normal(rng, 6, K), normal(rng, K)  # coordinates that act on each other; the conjugate is known by its supremum alone
    def phi(x): return torch.logsumexp(B @ x, 0) + 0.5 * x.square().sum()
    yield identity("∇²Φ*(f)∇²Φ(μ) = I (coupled)", _slopes_of_prediction(phi, mu) @ _hessian(phi, mu), torch.eye(K), tol=1e-5)
    p = SHANNON.predict(normal(rng, K))
    moves = _hessian(SHANNON.conjugate, p.log())
    yield identity("simplex: diag p − ppᵀ", moves, torch.diag(p) - torch.outer(p, p))
    yield identity("simplex: Q(Qᵀ diag(1/p) Q)⁻¹Qᵀ", moves, _inverse_along_the_simplex(torch.diag(1 / p)))


def _hessian(function, x):
    return torch.func.jacrev(torch.func.grad(function))(x)


def _inverse_along_the_simplex(A):
    """Q(QᵀAQ)⁻¹Qᵀ with Q an orthonormal basis of the vectors that sum to zero."""
    Q = torch.linalg.qr(torch.cat([torch.ones(len(A), 1, dtype=A.dtype), torch.eye(len(A), dtype=A.dtype)[:, 1:]], 1)).Q[:, 1:]
    return Q @ torch.linalg.inv(Q.mT @ A @ Q) @ Q.mT


def _slopes_of_prediction(phi, mu, step=1e-4):
    """Difference quotients of the maximizer of ⟨·, f⟩ − Φ around f = ∇Φ(μ), one column for each output, (K, K)."""
    f = torch.func.grad(phi)(mu)

    def maximizer(f):
        x = mu
        for _ in range(8):  # Newton's method from close by
            x = x - torch.linalg.solve(_hessian(phi, x), torch.func.grad(phi)(x) - f)
        return x

    return torch.stack([maximizer(f + step * e) - maximizer(f - step * e) for e in torch.eye(len(mu), dtype=mu.dtype)], 1) / (2 * step)


@hessian_inverse.breaks("∇²Φ not positive: ¼μ⁴ is flat at 0, and the slope of its prediction f^(1/3) has no limit there")
def _(rng):
    coarse, fine = (float(power(4).predict(torch.tensor([step]).double())) / step for step in (1e-3, 1e-6))
    yield identity("∇²Φ*(0) exists", coarse, fine)


@hessian_inverse.breaks("Not twice differentiable: μ² + ½μ|μ| has curvature 3 on the right of 0 and 1 on the left")
def _(rng):
    grid = np.linspace(-0.5, 0.5, 2**14 + 1)
    values = grid**2 + 0.5 * grid * np.abs(grid)
    right, left = (grid[(f * grid - values).argmax()] / f for f in (0.3, -0.3))
    yield identity("one slope of the prediction", right, left)


@hessian_inverse.breaks("Not Legendre: where sparsemax has switched a class off, its prediction moves in fewer directions")
def _(rng):
    f = torch.tensor([0.2, 0.0, -3.0]).double() + 0.1 * normal(rng, 3)
    yield identity("simplex", torch.func.jacrev(GINI.predict)(f), _inverse_along_the_simplex(torch.eye(3, dtype=f.dtype)))


@hessian_inverse.breaks("The simplex taken for the orthant: (diag 1/p)⁻¹ = diag p is not the slope of softmax")
def _(rng):
    p = SHANNON.predict(normal(rng, 4))
    yield identity("simplex", _hessian(SHANNON.conjugate, p.log()), torch.diag(p))


@statement("convexity-smoothness-duality", "Φ is σ-strongly convex exactly when Φ* is 1/σ-smooth in the dual norm",
           kind="theorem", paper="Lemma 3, part", assumptions=("Φ closed, proper and convex", "the two norms are dual to each other"),
           chapter=CHAPTER, trials=12, words="4eebd7b9")
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
            below = t * g.value(mu) + (1 - t) * g.value(nu) - g.value(t[:, None] * mu + (1 - t)[:, None] * nu)
            yield at_least("Φ strongly convex (Shannon, ℓ₁)", below, 0.5 * t * (1 - t) * (mu - nu).abs().sum(-1) ** 2, unit=1.0)
    # the other direction, from a smooth conjugate to a strongly convex Φ: Φ*(f) = Σ_i log cosh(a_i f), smooth with L = Σ a_i²
    a = rng.uniform(0.2, 2, 3)
    mu, nu = torch.from_numpy(rng.uniform(-0.95, 0.95, (2, 8)) * a.sum())
    yield _strong_convexity("Φ* smooth ⇒ Φ strongly convex", lambda m: _log_cosh_value(a, m), 1 / (a**2).sum(),
                            mu[:, None], nu[:, None], t)


def _strong_convexity(name, value, sigma, mu, nu, t):
    """Φ at a point between μ and ν lies below the chord by at least (σ/2) t(1−t) ‖μ − ν‖²."""
    chord = t * value(mu) + (1 - t) * value(nu)
    below = chord - value(t[:, None] * mu + (1 - t)[:, None] * nu)
    return at_least(name, below, sigma / 2 * t * (1 - t) * (mu - nu).square().sum(-1), unit=1 + float(chord.abs().max()))


def _log_cosh_value(a, mu):
    """Φ(μ) = μf − Σ log cosh(a_i f) at the f where Σ a_i tanh(a_i f) = μ, found by bracketing; (n, 1) -> (n,)."""
    values = []
    for m in mu[:, 0].tolist():
        f = optimize.brentq(lambda x: (a * np.tanh(a * x)).sum() - m, -1e3, 1e3, xtol=1e-13)
        values.append(m * f - (np.logaddexp(a * f, -a * f) - np.log(2)).sum())
    return torch.tensor(values, dtype=mu.dtype)


@convexity_smoothness_duality.witness("Two classes close to the fair coin", {
    "Φ strongly convex (Tsallis": "σ = 1 is the constant in ℓ_s, s = 2/(3−α); in ℓ₂ 2^(2−α) seems to do, √2 here",
    "Φ* smooth (Tsallis": "as for Φ"})
def _(rng):
    t, step = torch.full((1,), 0.5, dtype=torch.float64), torch.tensor([[0.03, -0.03]], dtype=torch.float64)
    for g in (SQUARED, SHANNON, BINARY, GINI, tsallis(1.5), HUBER):
        centre = g.predict(torch.zeros(1, 2, dtype=torch.float64))
        yield _strong_convexity(f"Φ strongly convex ({g.name})", g.value, g.strong_convexity, centre + step, centre - step, t)
        yield at_most(f"Φ* smooth ({g.name})", (g.predict(step) - g.predict(-step)).norm(), 2 * step.norm() / g.strong_convexity)
    yield at_most("Φ* smooth (Shannon, ℓ₁ and ℓ∞)", (SHANNON.predict(step) - SHANNON.predict(-step)).abs().sum(), 2 * step.abs().amax())
    below = SHANNON.value(0.5 + step) - SHANNON.value(torch.full((2,), 0.5, dtype=torch.float64))
    yield at_least("Φ strongly convex (Shannon, ℓ₁)", below, 0.125 * (2 * step).abs().sum(-1) ** 2)
    a, mu = np.array([1.0, 0.5, 2.0]), torch.tensor([[0.05]], dtype=torch.float64)
    yield _strong_convexity("Φ* smooth ⇒ Φ strongly convex", lambda m: _log_cosh_value(a, m), 1 / (a**2).sum(), mu, -mu, t)


@convexity_smoothness_duality.breaks("Strictly but not strongly convex: for ¼μ⁴ the prediction f^(1/3) is infinitely steep at 0")
def _(rng):
    f = 1e-9 * normal(rng, 2, 1)
    yield at_most("Φ* smooth, σ = 10⁻³", (power(4).predict(f[0]) - power(4).predict(f[1])).abs(), (f[0] - f[1]).abs() / 1e-3)


@convexity_smoothness_duality.breaks("Norms that are not dual: σ of ½μᵀMμ in ℓ∞ with outputs measured in ℓ₂; the dual is ℓ₁")
def _(rng):
    c = rng.uniform(0.6, 0.9)
    M, f = torch.tensor([[1.0, -c], [-c, 1.0]], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    corners = torch.tensor([[1.0, s] for s in np.linspace(-1, 1, 201)], dtype=torch.float64)  # of the ball of ℓ∞, up to symmetries
    sigma = (corners @ M * corners).sum(-1).min()
    yield at_most("Φ* smooth", torch.linalg.solve(M, f).abs().amax(), f.norm() / sigma)


@statement("conjugate-calculus", "How conjugates follow scaling, shifting, sums, order and infimal convolution", kind="lemma",
           paper="Lemma 3, part", chapter=CHAPTER, trials=12,
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
    # (½‖·‖² + indicator of the box [−1, 1]^K)* = min over h of ½‖f − h‖² + ‖h‖₁
    best = f - HUBER.predict(f)
    yield identity("(Φ₁+Φ₂)* is attained", HUBER.conjugate(f), 0.5 * (f - best).square().sum(-1) + best.abs().sum(-1))
    yield at_most("(Φ₁+Φ₂)* is the smallest", HUBER.conjugate(f), 0.5 * (f - h).square().sum(-1) + h.abs().sum(-1))
    # (Σ μ log μ − μ + indicator of sums of one)* = min over c of Σ exp(f − c) + c; on the simplex the first is Shannon's Φ less 1
    best, other = SHANNON.conjugate(f), normal(rng, 5)
    yield identity("(Φ₁+Φ₂)* is attained", SHANNON.conjugate(f) + 1, POISSON.conjugate(f - best[:, None]) + best)
    yield at_most("(Φ₁+Φ₂)* is the smallest", SHANNON.conjugate(f) + 1, POISSON.conjugate(f - other[:, None]) + other)


@conjugate_calculus.witness("Two functions equal where the supremum is attained; the best h but for a thousandth")
def _(rng):
    x, u, f = rng.normal(size=(7, 2)), rng.normal(size=7), rng.normal(size=(1, 2))
    raised = u + np.where(np.arange(7) == (f @ x.T - u).argmax(), 0.0, 1.0)
    yield at_least("order reversal", conjugate_of(x, u, f), conjugate_of(x, raised, f))
    f = 2 * normal(rng, 1, 4)
    h = f - GINI.predict(f) + 1e-3
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
