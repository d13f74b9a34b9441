"""Steps in the dual: θ⁺ = θ − ∇Ψ*(∇F(θ)) lowers a risk that Ψ majorizes, with no step size to tune (``psi-smooth-descent``)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ._checks import real_array, require, require_callable, require_integer, require_number, require_symmetric, span

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]  # θ -> F(θ) and its gradient


@dataclass(frozen=True)
class Smoothness:
    """An even Legendre function Ψ with Ψ ≥ 0 = Ψ(0); the Ψ of F(θ+d) ≤ F(θ) + ⟨∇F(θ), d⟩ + Ψ(d).

    Attributes:
        value: Ψ(d), (..., P) -> (...,).
        conjugate: Ψ*(g), (..., P) -> (...,): by how much one step lowers F, at least.
        step: ∇Ψ*(g), (P,) -> (P,), the step itself.

    Example:
        >>> quadratic = power_smoothness(L=4.0, p=2)
        >>> print(quadratic.step(np.array([2.0, 0.0])), quadratic.conjugate(np.array([2.0, 0.0])))  # ∇F/L lowers F by ‖∇F‖²/(2L)
        [0.5 0. ] 0.5
    """

    value: Callable
    conjugate: Callable
    step: Callable


def power_smoothness(L: float, p: float) -> Smoothness:
    """Ψ(d) = (L/p)‖d‖^p: ∇F is Hölder continuous with exponent p − 1 and constant L; p = 2 is ordinary smoothness.

    Args:
        L: The constant, above 0.
        p: The power, above 1.

    Returns:
        A ``Smoothness``.

    Raises:
        ValueError: On numbers out of range.

    Example:
        >>> print(power_smoothness(L=1.0, p=1.5).value(np.array([3.0, 4.0])).round(4))  # ‖d‖ = 5
        7.4536
    """
    require_number("L", L, "(0, ∞)")
    require_number("p", p, "(1, ∞)")
    q = p / (p - 1)
    return Smoothness(lambda d: L / p * _norm(d) ** p, lambda g: L ** (1 - q) * _norm(g) ** q / q,
                      lambda g: (_norm(g) / L) ** (q - 1) * g / max(_norm(g), 1e-300))


def separable_smoothness(L: np.ndarray, p: float) -> Smoothness:
    """Ψ(d) = Σ_i (L_i/p)|d_i|^p with a constant for each coordinate: every coordinate takes a step of its own.

    Args:
        L: The constants, above 0, (P,).
        p: As in ``power_smoothness``.

    Returns:
        A ``Smoothness``.

    Raises:
        ValueError: As ``power_smoothness``.

    Example:
        >>> print(separable_smoothness(np.array([1.0, 4.0]), p=2).step(np.array([2.0, 2.0])))
        [2.  0.5]
    """
    L = real_array("L", L)
    require(bool((L > 0).all()), f"L {span(L)}", "positive numbers, one a coordinate")
    require_number("p", p, "(1, ∞)")
    q = p / (p - 1)
    return Smoothness(lambda d: (L / p * np.abs(d) ** p).sum(-1), lambda g: (L ** (1 - q) * np.abs(g) ** q / q).sum(-1),
                      lambda g: np.sign(g) * (np.abs(g) / L) ** (q - 1))


def quadratic_smoothness(H: np.ndarray) -> Smoothness:
    """Ψ(d) = ½ dᵀHd for a positive definite H: the step is −H⁻¹∇F, as if H were the Hessian.

    Args:
        H: A positive definite matrix, (P, P).

    Returns:
        A ``Smoothness``.

    Raises:
        ValueError: If H is not one symmetric and positive definite matrix.

    Example:
        >>> print(quadratic_smoothness(np.diag([1.0, 4.0])).step(np.array([2.0, 2.0])))
        [2.  0.5]
    """
    H = real_array("H", H, dims=2)
    require(H.ndim == 2 and H.dtype != np.float16, f"H {H.dtype} of shape {H.shape}", "one matrix (P, P) in float32 or float64")
    require_symmetric("H", H)
    smallest = np.linalg.eigvalsh(H).min()
    require(smallest > 0, f"H with the eigenvalue {smallest:.3g}", "a positive definite matrix",
            "Only then is Ψ convex, with a minimum at 0. Add a little of the identity to H.")
    inverse = np.linalg.inv(H)
    form = lambda M, x: 0.5 * np.einsum("...i,ij,...j->...", x, M, x)
    return Smoothness(lambda d: form(H, d), lambda g: form(inverse, g), lambda g: inverse @ g)


def ball_smoothness(L: float, radius: float) -> Smoothness:
    """Ψ(d) = Lρ²(1 − √(1 − ‖d‖²/ρ²)) for ‖d‖ ≤ ρ, ∞ beyond: no step is longer than ρ, a smooth kind of clipping.

    Args:
        L: The constant, above 0.
        radius: ρ, above 0.

    Returns:
        A ``Smoothness``.

    Raises:
        ValueError: On numbers out of range.

    Example:
        >>> step = ball_smoothness(L=1.0, radius=0.5).step
        >>> print(step(np.array([0.01])).round(3), step(np.array([100.0])).round(3))
        [0.01] [0.5]
    """
    require_number("L", L, "(0, ∞)")
    require_number("radius", radius, "(0, ∞)")
    scale = lambda g: np.sqrt((L * radius) ** 2 + _norm(g) ** 2)

    def value(d: np.ndarray) -> np.ndarray:
        inside = 1 - (_norm(d) / radius) ** 2
        return np.where(inside >= 0, L * radius**2 * (1 - np.sqrt(np.maximum(inside, 0))), np.inf)

    return Smoothness(value, lambda g: radius * (scale(g) - L * radius), lambda g: radius * g / scale(g))


def _norm(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x, axis=-1)


def power_regression(a: np.ndarray, y: np.ndarray, p: float) -> tuple[Objective, Smoothness]:
    """F(θ) = mean of |aᵢᵀθ − yᵢ|^p / p, and a Ψ for it, 1 < p ≤ 2.

    Args:
        a: Inputs, (m, P).
        y: Targets, (m,).
        p: The power.

    Returns:
        (objective, smoothness); ``objective(theta)`` returns F and its gradient.

    Raises:
        ValueError: On shapes that do not fit, or a power outside (1, 2].

    Example:
        >>> objective, smoothness = power_regression(np.array([[1.0], [2.0]]), np.array([1.0, 2.0]), p=2)
        >>> value, gradient = objective(np.array([0.0]))
        >>> print(value, gradient)
        1.25 [-2.5]
    """
    a, y = real_array("a", a, dims=2), real_array("y", y, dims=1)
    require(a.ndim == 2 and y.shape == a.shape[:1], f"a of shape {a.shape} and y of shape {y.shape}", "shapes (m, P) and (m,)")
    require_number("p", p, "(1, 2]", "Beyond 2 the gradient is not Hölder continuous on the whole space.")

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        require(np.shape(theta) == a.shape[1:], f"theta of shape {np.shape(theta)}", f"shape {a.shape[1:]}")
        r = a @ theta - y
        return (np.abs(r) ** p).mean() / p, a.T @ (np.sign(r) * np.abs(r) ** (p - 1)) / len(y)

    return objective, power_smoothness(2 ** (2 - p) * (_norm(a) ** p).mean(), p)


def descend(objective: Objective, theta: np.ndarray, step: Callable[[np.ndarray], np.ndarray], num_steps: int) -> np.ndarray:
    """F along θ⁺ = θ − step(∇F(θ)).

    Args:
        objective: A function of θ that returns F and its gradient.
        theta: Where to start, (P,).
        step: A function of the gradient, such as ``Smoothness.step``.
        num_steps: Number N of steps.

    Returns:
        The values of F, (N + 1,); inf from where it is not finite any more.

    Raises:
        TypeError: If ``objective`` or ``step`` is no function.
        ValueError: On a ``theta`` that is no vector, or a number of steps that is none.

    Example:
        >>> objective, smoothness = power_regression(np.array([[1.0], [2.0]]), np.array([1.0, 2.0]), p=2)
        >>> print(descend(objective, np.array([0.0]), smoothness.step, num_steps=2).round(6))  # there in one step
        [1.25 0.   0.  ]
    """
    require_callable("objective", objective, "a function of θ that returns F and its gradient, as `power_regression` makes one")
    require_callable("step", step, "a function of the gradient, such as `Smoothness.step`")
    require_integer("num_steps", num_steps, 0)
    theta = real_array("theta", theta, dims=1)
    values = np.full(num_steps + 1, np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(num_steps + 1):
            value, gradient = objective(theta)
            if not np.isfinite(value):
                break
            values[k] = value
            theta = theta - step(gradient)
    return values
