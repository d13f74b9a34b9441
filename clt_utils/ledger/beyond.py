"""Beyond: steps for losses that are not L-smooth."""

import numpy as np

from ..dual_steps import ball_smoothness, power_regression, power_smoothness, quadratic_smoothness, separable_smoothness
from .core import at_least, at_most, identity, statement

CHAPTER = "practice/beyond"


@statement("psi-smooth-descent", "A step of length one in the dual lowers the risk by Ψ* of the gradient", kind="theorem",
           paper="topic of the author's follow-up", chapter=CHAPTER, trials=60,
           assumptions=("F(θ+d) ≤ F(θ) + ⟨∇F(θ), d⟩ + Ψ(d)", "Ψ even, Legendre, Ψ ≥ 0 = Ψ(0)", "∇F(θ) inside the domain of Ψ*"),
           words="23ed0aa4")
def psi_smooth_descent(rng):
    dim, m = int(rng.integers(1, 5)), 6
    a, y, theta = rng.standard_normal((m, dim)), rng.standard_normal(m), 2 * rng.standard_normal(dim)
    least_squares, _ = power_regression(a, y, 2.0)
    instances = {f"power {p}": power_regression(a, y, p) for p in (1.2, 1.5, 2.0)} | {
        "matrix": (least_squares, quadratic_smoothness(a.T @ a / m + 0.01 * np.eye(dim))),
        "separable": (power_regression(np.diag(a[0]), y[:dim], 1.5)[0], separable_smoothness(2**0.5 * np.abs(a[0]) ** 1.5 / dim, 1.5)),
        "ball": (least_squares, ball_smoothness(np.square(a).sum(-1).mean(), 0.5))}
    for name, (objective, psi) in instances.items():
        value, gradient = objective(theta)
        step, drop = psi.step(gradient), psi.conjugate(gradient)
        moves = rng.standard_normal((50, dim)) * np.geomspace(1e-3, 0.05 if name == "ball" else 2, 50)[:, None]
        majorant = value + moves @ gradient + psi.value(moves)
        rises = np.array([objective(theta + d)[0] for d in moves]) - value - moves @ gradient
        yield at_most(f"majorant ({name})", rises, bound=psi.value(moves), unit=value)
        rounding = 1e-9 + 1e-15 * value / drop  # a small drop is a difference of two numbers that hold sixteen digits
        yield at_least(f"decrease ({name})", value - objective(theta - step)[0], bound=drop, tol=rounding)
        yield identity("smallest value of the majorant", value - step @ gradient + psi.value(step), value - drop)
        yield at_least("any other step", majorant, bound=value - drop, unit=value)


LOOSE = ("the constant bounds how much the gradient changes; along a step the value changes by 0.91 (p = 1.2) or 0.92 (1.5) of what "
         "that allows, found by search")


@psi_smooth_descent.witness("One residual that the step turns over, and one far away that pulls steadily", {
    f"{part} ({name}": LOOSE for part in ("majorant", "decrease") for name in ("power 1.2", "power 1.5", "separable")})
def _(rng):
    for p, turned in ((1.2, 0.075), (1.5, 0.146)):  # the residual goes from −0.146 to 1 − 0.146
        small, L = 0.05, 2 ** (2 - p) * (1 + 0.05**p) / 2
        far = ((2 * L - turned ** (p - 1)) / small) ** (1 / (p - 1))
        objective, power = power_regression(np.array([[1.0], [small]]), np.array([turned, far]), p)
        for name, psi in ((f"power {p}", power), ("separable", separable_smoothness(np.array([L]), p))):
            yield from _one_step(name, objective, psi, np.zeros(1))
    objective, power = power_regression(np.ones((1, 1)), np.zeros(1), 2.0)
    for name, psi in (("power 2.0", power), ("matrix", quadratic_smoothness(np.eye(1))), ("ball", ball_smoothness(1.0, 20.0))):
        yield from _one_step(name, objective, psi, np.ones(1))


def _one_step(name, objective, psi, theta):
    value, gradient = objective(theta)
    step = psi.step(gradient)
    after = objective(theta - step)[0]
    yield at_most(f"majorant ({name})", after - value + step @ gradient, bound=psi.value(step), tol=1e-5)  # of two large numbers
    yield at_least(f"decrease ({name})", value - after, bound=psi.conjugate(gradient), tol=1e-5)


@psi_smooth_descent.breaks("No majorant: Ψ a third of what it must be, the step overshoots")
def _(rng):
    theta = np.array([1.0])
    objective, _ = power_regression(np.eye(1), np.zeros(1), 1.5)
    psi = power_smoothness(2**0.5 / 3, 1.5)
    value, gradient = objective(theta)
    yield at_least("decrease", value - objective(theta - psi.step(gradient))[0], bound=psi.conjugate(gradient))


@psi_smooth_descent.breaks("Ψ not even: e^d − d − 1, at a θ where F(θ+d) = F(θ) − 0.9d + Ψ(d)")
def _(rng):
    psi, gradient = (lambda d: np.exp(d) - d - 1), -0.9
    step = np.log1p(gradient)  # ∇Ψ*
    yield at_least("decrease", gradient * step - psi(-step), bound=(1 + gradient) * np.log1p(gradient) - gradient)


@psi_smooth_descent.breaks("∇F outside the domain of Ψ*: Ψ = √(1+d²) − 1 has slopes below one, F = 2d has slope two")
def _(rng):
    d = -np.geomspace(1, 1e6, 20)  # the majorant has no smallest value
    majorant = 2 * d + np.sqrt(1 + d**2) - 1
    yield at_least("any other step", majorant, bound=-1e3)
