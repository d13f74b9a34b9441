"""Every bound of the book as a pure function: numbers, arrays or tensors in, the same out, float64 inside.

Where a statement has two sides the function returns ``(lower, upper)``. A side that says nothing is ``inf``.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from ._checks import (
    real_tensor,
    require,
    require_broadcast,
    require_distribution,
    require_integer,
    require_nonnegative,
    require_number,
    span,
)
from .duality import SHANNON, Generator, require_generator

Numbers = Any  # a number, an array or a tensor; the same comes out
Pair = tuple[Any, Any]  # (lower, upper), each like what came in


Arguments = ParamSpec("Arguments")
Outcome = TypeVar("Outcome")


def _pure(*names: str) -> Callable[[Callable[Arguments, Outcome]], Callable[Arguments, Outcome]]:
    """Decorator: convert the arguments ``names`` to float64 tensors, the result back to what came in."""
    def decorate(function: Callable[Arguments, Outcome]) -> Callable[Arguments, Outcome]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def converted(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Any:
            bound = signature.bind(*args, **kwargs)
            given = {k: bound.arguments[k] for k in names if k in bound.arguments
                     and not (bound.arguments[k] is None and signature.parameters[k].default is None)}
            tensors = _on_one_device(given, {k: real_tensor(k, x) for k, x in given.items()})
            require_broadcast(**tensors)
            bound.arguments.update(tensors)
            back = _as_it_is if any(isinstance(x, torch.Tensor) for x in given.values()) else (
                torch.Tensor.numpy if any(isinstance(x, np.ndarray) for x in given.values()) else _number_or_array)
            out: Any = function(*bound.args, **bound.kwargs)
            return tuple(map(back, out)) if isinstance(out, tuple) else back(out)
        return converted
    return decorate


def _on_one_device(given: dict[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Numbers and arrays go where the tensors among them lie, and so do tensors of one number."""
    device = max((x for x in given.values() if isinstance(x, torch.Tensor)), key=lambda x: x.ndim, default=torch.empty(0)).device
    return {k: x if isinstance(given[k], torch.Tensor) and x.ndim else x.to(device) for k, x in tensors.items()}


def _as_it_is(x: torch.Tensor) -> torch.Tensor:
    return x


def _number_or_array(x: torch.Tensor) -> Any:
    return x.item() if x.ndim == 0 else x.numpy()  # lists came in


def _sizes(n: int, batch_size: int) -> None:
    require_integer("n", n, 1)
    require_integer("batch_size", batch_size)
    require(1 <= batch_size <= n, f"batch_size={batch_size} with n={n}", "1 ≤ batch_size ≤ n")


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """numerator / denominator with 0/0 = 0 for the lower and x/0 = inf for x > 0."""
    return torch.where(numerator == 0, torch.zeros_like(numerator), numerator / denominator)


# Trainability: the gradient energy and the structure matrix

@_pure("energy", "lam_min", "lam_max")
def residual_bounds(energy: Numbers, lam_min: Numbers, lam_max: Numbers) -> Pair:
    """g/λ_max ≤ ‖e‖² ≤ g/λ_min (``residual-sandwich``).

    Args:
        energy: Gradient energy g ≥ 0, of a sample or a mean.
        lam_min: Smallest eigenvalue of the structure matrix; over the data for a mean. At 0 the upper side is inf.
        lam_max: Largest eigenvalue, likewise.

    Returns:
        (lower, upper) for the squared residual; the upper side is inf wherever λ_min = 0.

    Raises:
        ValueError: On numbers out of range, or shapes that do not broadcast.

    Example:
        >>> residual_bounds(energy=0.6, lam_min=0.5, lam_max=2.0)
        (0.3, 1.2)
    """
    require_nonnegative(energy=energy, lam_max=lam_max)
    energy, lam_min, lam_max = torch.broadcast_tensors(energy, lam_min, lam_max)
    require(bool((lam_min >= -1e-6 * lam_max).all()), f"`lam_min` {span(lam_min)}",
            "eigenvalues of a positive semidefinite matrix, rounding aside")
    require(bool((lam_min <= lam_max).all()), "`lam_min` above `lam_max`", "lam_min ≤ lam_max")
    return _ratio(energy, lam_max), torch.where(lam_min > 0, energy / lam_min, torch.inf)


@_pure("energy", "lam_min", "lam_max", "p_min")
def risk_bounds(energy: Numbers, lam_min: Numbers, lam_max: Numbers, generator: Generator, p_min: Numbers = None) -> Pair:
    """(σ/2) g/λ_max ≤ d ≤ (β/2) g/λ_min, for softmax d ≤ g/(λ_min p_min) (``risk-sandwich``).

    Args:
        energy: Gradient energy of a sample, or its mean.
        lam_min: Smallest eigenvalue of the structure matrix; over the data for a mean.
        lam_max: Largest eigenvalue, likewise.
        generator: The generator of the loss; its σ and β enter.
        p_min: Smallest predicted probability (over the data for a mean); only softmax cross-entropy uses it.

    Returns:
        (lower, upper) for the loss, or for the risk when means and extremes over the data came in. The upper side is
        inf for a generator without a finite β, such as sparsemax's, where no such bound is true.

    Raises:
        TypeError: If ``generator`` is no ``Generator``.
        ValueError: On numbers out of range, or shapes that do not broadcast.

    Example:
        >>> lower, upper = risk_bounds(0.6, 0.5, 2.0, SHANNON, p_min=0.1)
        >>> round(lower, 4), round(upper, 4)  # in nats
        (0.3, 12.0)
    """
    require_generator(generator)
    lower, upper = residual_bounds(energy, lam_min, lam_max)
    if generator is SHANNON:
        upper = torch.full_like(upper, torch.inf) if p_min is None else _ratio_to_p_min(upper, p_min)
    else:
        upper = torch.full_like(upper, torch.inf) if np.isinf(generator.smoothness) else generator.smoothness / 2 * upper
    return generator.strong_convexity / 2 * lower, upper


def _ratio_to_p_min(residual: torch.Tensor, p_min: torch.Tensor) -> torch.Tensor:
    require(bool(((p_min >= 0) & (p_min <= 1)).all()), f"`p_min` {span(p_min)}", "probabilities in [0, 1]")
    return torch.where(p_min > 0, residual / p_min, torch.inf)


@_pure("residual")
def ce_bounds_from_residual(residual: Numbers, num_classes: int) -> Pair:
    """−log(1−√(r/2)) ≤ −log p_y ≤ −log(1−√((K−1)r/K)) for a one-hot target (``ce-from-residual``).

    Args:
        residual: r = ‖1_y − p‖², in [0, 2].
        num_classes: K ≥ 2.

    Returns:
        (lower, upper) for the cross-entropy in nats; the upper side is inf once (K−1)r/K ≥ 1.

    Raises:
        ValueError: On numbers out of range, or shapes that do not broadcast.

    Example:
        >>> lower, upper = ce_bounds_from_residual(0.5, num_classes=10)
        >>> round(lower, 4), round(upper, 4)  # in nats
        (0.6931, 1.1112)
    """
    _classes(num_classes)
    require_nonnegative(residual=residual)
    require(bool((residual <= 2 + 1e-9).all()), f"`residual` {span(residual)}",
            "at most 2, the largest squared distance within the simplex")
    return _surprise((residual / 2).sqrt()), _surprise(((num_classes - 1) * residual / num_classes).sqrt())


def _classes(num_classes: int) -> None:
    require_integer("num_classes", num_classes, 2)


def _surprise(wrong_mass: torch.Tensor) -> torch.Tensor:
    """−log(1 − t), inf from t = 1 on."""
    return -torch.log1p(-wrong_mass.clamp(max=1.0))


@_pure("energy", "lam_min", "lam_max", "p_min")
def risk_bounds_sharp(energy: Numbers, lam_min: Numbers, lam_max: Numbers, num_classes: int, p_min: Numbers = None) -> Pair:
    """Cross-entropy between energy ratios without p_min where that is possible (``risk-sandwich-sharp``).

    Args:
        energy: Gradient energy of each sample; do not average before, average the bounds.
        lam_min: Smallest eigenvalue of each structure matrix (on 1^⊥ is allowed and sharper).
        lam_max: Largest eigenvalue, likewise.
        num_classes: K ≥ 2.
        p_min: Smallest predicted probability of each sample; where given, the smaller of both upper bounds counts.

    Returns:
        (lower, upper) for the cross-entropy of each sample, in nats.

    Raises:
        ValueError: On numbers out of range, or shapes that do not broadcast.

    Example:
        >>> lower, upper = risk_bounds_sharp(0.6, 1.0, 2.0, num_classes=10)
        >>> round(lower, 4), round(upper, 4)  # in nats
        (0.4899, 1.3274)
    """
    _classes(num_classes)
    low, high = residual_bounds(energy, lam_min, lam_max)
    lower = ce_bounds_from_residual(low.clamp(max=2.0), num_classes)[0]
    upper = ce_bounds_from_residual(high.clamp(max=2.0), num_classes)[1]
    return lower, upper if p_min is None else torch.minimum(upper, _ratio_to_p_min(high, p_min))


# Divergences

@_pure("p", "q")
def chi_squared(p: Numbers, q: Numbers) -> Numbers:
    """χ²(p‖q) = Σ (p−q)²/q (``kl-upper-bound``: KL ≤ log(1+χ²) ≤ χ²).

    Args:
        p, q: Probability vectors, (..., K).

    Returns:
        The divergence, (...,); inf where q = 0 < p.

    Raises:
        ValueError: If one is no distribution over its last dimension, or the shapes do not broadcast.

    Example:
        >>> round(chi_squared([0.5, 0.5], [0.9, 0.1]), 4)
        1.7778
    """
    _distributions(p=p, q=q)
    return torch.where(p == q, 0.0, (p - q).square() / q).sum(-1)


@_pure("p", "q")
def kl_upper_bound(p: Numbers, q: Numbers) -> Numbers:
    """KL(p‖q) ≤ ‖p−q‖²/min q (``kl-upper-bound``).

    Args:
        p, q: Probability vectors, (..., K).

    Returns:
        The bound in nats, (...,); inf where some q = 0.

    Raises:
        ValueError: If one is no distribution over its last dimension, or the shapes do not broadcast.

    Example:
        >>> round(kl_upper_bound([0.5, 0.5], [0.9, 0.1]), 4)  # KL is 0.5108
        3.2
    """
    _distributions(p=p, q=q)
    smallest = q.amin(-1)
    return torch.where(smallest > 0, (p - q).square().sum(-1) / smallest, torch.inf)


def _distributions(**values: torch.Tensor) -> None:
    for name, p in values.items():
        require_distribution(name, p, dims=1)


# Stochastic gradient descent

@_pure("energy", "gradient_norm_sq")
def batch_energy(energy: Numbers, gradient_norm_sq: Numbers, *, n: int, batch_size: int) -> Numbers:
    """E‖∇L_B‖² of a uniform batch drawn without replacement, exactly (``batch-energy-identity``).

    Args:
        energy: Mean squared norm of the per-sample gradients, Ê.
        gradient_norm_sq: Squared norm of the mean gradient, ‖∇R̂‖²; never above Ê, rounding aside (take the smaller of both where
            they were measured in float32).
        n: Number of samples.
        batch_size: m, between 1 and n.

    Returns:
        (n−m)/(m(n−1)) Ê + n(m−1)/(m(n−1)) ‖∇R̂‖².

    Raises:
        ValueError: On numbers out of range, such as ‖∇R̂‖² above Ê, or shapes that do not broadcast.

    Example:
        >>> [batch_energy(1.0, 0.25, n=5, batch_size=m) for m in (1, 5)]  # from the energy to the mean gradient
        [1.0, 0.25]
    """
    require_nonnegative(energy=energy, gradient_norm_sq=gradient_norm_sq)
    require(bool((gradient_norm_sq <= (1 + 1e-5) * energy).all()), "`gradient_norm_sq` above `energy`", "‖∇R̂‖² ≤ Ê",
            "The norm of a mean is never above the mean of the norms: look at which samples each was measured on.")
    _sizes(n, batch_size)
    if n == 1:
        return energy
    m = batch_size
    return ((n - m) * energy + n * (m - 1) * gradient_norm_sq) / (m * (n - 1))


def _descent_constant(smoothness: float, step: float, num_steps: int) -> float:
    require_integer("num_steps", num_steps, 1)
    require_number("smoothness", smoothness, "(0, ∞)")
    require_number("step", step, "(0, ∞)")
    require(smoothness > 0 and 0 < step <= 1 / smoothness * (1 + 1e-12), f"step={step:g} with smoothness={smoothness:g}",
            "0 < step ≤ 1/smoothness", "Beyond it the descent lemma gives nothing.")
    return step * (1 - smoothness * step / 2)


@_pure("risk_drop", "interference")
def sgd_gradient_bound(risk_drop: Numbers, interference: Numbers, *, n: int, batch_size: int, smoothness: float, step: float,
                       num_steps: int) -> Numbers:
    """Bound on the mean of ‖∇L_B‖² along a run of SGD (``sgd-batch-gradient``).

    Args:
        risk_drop: R̂(θ_0) − R̂(θ_N).
        interference: M, the mean change of the out-of-batch risk over a step (signed, realized).
        n: Number of samples.
        batch_size: Size m of a batch.
        smoothness: L of every batch loss on the segments visited.
        step: α ≤ 1/L.
        num_steps: Number N of steps.

    Returns:
        n·drop/(m c N) + (n−m)/(m c)·M with c = α(1 − Lα/2).

    Raises:
        ValueError: On numbers out of range, such as a step above 1/L, or shapes that do not broadcast.

    Example:
        >>> round(sgd_gradient_bound(0.5, 0.01, n=8, batch_size=2, smoothness=1.0, step=0.5, num_steps=100), 4)
        0.1333
    """
    _sizes(n, batch_size)
    scale = batch_size * _descent_constant(smoothness, step, num_steps)
    return n * risk_drop / (scale * num_steps) + (n - batch_size) / scale * interference


@_pure("risk_drop", "interference")
def sgd_energy_bound(risk_drop: Numbers, interference: Numbers, *, n: int, batch_size: int, smoothness: float, step: float,
                     num_steps: int) -> Numbers:
    """Bound on the mean expected energy along SGD with fresh uniform batches (``sgd-energy``).

    Args:
        risk_drop, interference: As in ``sgd_gradient_bound``, in expectation.
        n: Number of samples, at least 2.
        batch_size: m < n.
        smoothness, step, num_steps: As in ``sgd_gradient_bound``.

    Returns:
        (n−1)/c · (n·drop/((n−m) N) + M) with c = α(1 − Lα/2).

    Raises:
        ValueError: As ``sgd_gradient_bound``, and on a full batch.

    Example:
        >>> round(sgd_energy_bound(0.5, 0.01, n=8, batch_size=2, smoothness=1.0, step=0.5, num_steps=100), 4)
        0.3111
    """
    _sizes(n, batch_size)
    require(batch_size < n, f"batch_size={batch_size} with n={n}", "batch_size < n",
            "A full batch controls the mean gradient, not the energy.")
    c = _descent_constant(smoothness, step, num_steps)
    return (n - 1) / c * (n * risk_drop / ((n - batch_size) * num_steps) + interference)


@_pure("lam_max")
def step_limit(lam_max: Numbers, *, batch_size: int, momentum: float = 0.0) -> Numbers:
    """The step beyond which the linearized network diverges under squared loss, 2(1 + β)m/λ_max; a rule of thumb for the real one.

    Args:
        lam_max: Largest eigenvalue of the structure matrix of a sample of the batch.
        batch_size: Size m of a batch.
        momentum: β in [0, 1).

    Returns:
        The limit; below it nothing is promised.

    Raises:
        ValueError: On numbers out of range.

    Example:
        >>> round(step_limit(40.0, batch_size=2, momentum=0.9), 4)
        0.19
    """
    require_nonnegative(lam_max=lam_max)
    require_integer("batch_size", batch_size, 1)
    require_number("momentum", momentum, "[0, 1)")
    return 2 * (1 + momentum) * batch_size / lam_max


# Architecture

def near_isometry_bounds(num_outputs: int, num_parameters: int, radius: float = 1.0) -> tuple[float, float]:
    """Eigenvalues of A = JJᵀ, rows of J uniform in a ball of ℝ^P, with probability 1 − 3/(2K) (``width-near-isometry``).

    Args:
        num_outputs: K ≥ 2.
        num_parameters: P > 1 with 2 ln K ≤ P; also between the integers, to look for where the bound begins to say something.
        radius: ε of the ball.

    Returns:
        (lower, upper); the lower end is informative (positive) only for P ≳ 6K² ln K.

    Raises:
        ValueError: On numbers out of range, or with 2 ln K above P.

    Example:
        >>> lower, upper = near_isometry_bounds(num_outputs=10, num_parameters=1_000_000)
        >>> round(lower, 3), round(upper, 3)
        (0.967, 1.033)
    """
    K, P = num_outputs, num_parameters
    require_integer("num_outputs", K, 2)
    require_number("num_parameters", P, "(1, ∞)")
    require_number("radius", radius, "(0, ∞)")
    require(2 * np.log(K) <= P, f"num_outputs={K}, num_parameters={P}", "2 ln K ≤ P", "Use more parameters.")
    spread = (K - 1) * np.sqrt(6 * np.log(K) / (P - 1))
    return float(radius**2 * ((1 - 2 * np.log(K) / P) ** 2 - spread)), float(radius**2 * (1 + spread))


# Generalization

@_pure("output_range")
def max_loss(output_range: Numbers, num_classes: int) -> Numbers:
    """γ = log(1 + (K−1)e^osc), the largest cross-entropy when max f − min f ≤ osc (``max-loss``).

    Args:
        output_range: osc ≥ 0, how far the outputs of one sample may lie apart.
        num_classes: K ≥ 2.

    Returns:
        γ in nats.

    Raises:
        ValueError: On numbers out of range.

    Example:
        >>> round(max_loss(0.0, num_classes=10), 4), round(max_loss(20.0, num_classes=10), 4)  # from log 10 on
        (2.3026, 22.1972)
    """
    _classes(num_classes)
    require_nonnegative(output_range=output_range)
    return torch.nn.functional.softplus(output_range + np.log(num_classes - 1), threshold=100.0)


@_pure("max_loss", "entropy_population", "entropy_sample")
def generalization_range(max_loss: Numbers, entropy_population: Numbers, entropy_sample: Numbers) -> Pair:
    """Ent_q(Y|U) − γ ≤ R − R̂ ≤ γ − Ent_q̂(Y|U) (``generalization-range``).

    Args:
        max_loss: γ, over the population support.
        entropy_population: Ent_q(Y|U), in the unit of the loss.
        entropy_sample: Ent_q̂(Y|U), likewise.

    Returns:
        (lower, upper) for the gap R − R̂.

    Raises:
        ValueError: On numbers out of range, or shapes that do not broadcast.

    Example:
        >>> generalization_range(max_loss=4.0, entropy_population=0.5, entropy_sample=0.25)
        (-3.5, 3.75)
    """
    require_nonnegative(max_loss=max_loss, entropy_population=entropy_population, entropy_sample=entropy_sample)
    return entropy_population - max_loss, max_loss - entropy_sample


@_pure("max_loss", "tv")
def tv_gap_bound(max_loss: Numbers, tv: Numbers) -> Numbers:
    """|R − R̂| ≤ γ·TV(q_UY, q̂_UY) (``tv-bound``).

    Args:
        max_loss: γ; the loss lies in [0, γ].
        tv: The total variation of population and sample, in [0, 1].

    Returns:
        The bound, in the unit of the loss.

    Raises:
        ValueError: On numbers out of range, or shapes that do not broadcast.

    Example:
        >>> tv_gap_bound(max_loss=4.0, tv=0.125)
        0.5
    """
    require_nonnegative(max_loss=max_loss, tv=tv)
    require(bool((tv <= 1 + 1e-9).all()), f"`tv` {span(tv)}", "a total variation in [0, 1]")
    return max_loss * tv


@_pure("probabilities")
def tv_mean_bound(probabilities: Numbers, n: int) -> Numbers:
    """E TV(q, q̂_n) ≤ ½ Σ √(q(1−q)/n) (``tv-mean``).

    Args:
        probabilities: q of s outcomes, (..., s).
        n: Sample size.

    Returns:
        The bound, (...,).

    Raises:
        ValueError: If ``probabilities`` are none, or ``n`` is no positive integer.

    Example:
        >>> round(tv_mean_bound([0.5, 0.5], n=25), 4)
        0.1
    """
    _distributions(probabilities=probabilities)
    require_integer("n", n, 1)
    return 0.5 * (probabilities * (1 - probabilities) / n).clamp(min=0).sqrt().sum(-1)


@_pure("correlations")
def effective_sample_size(correlations: Numbers, n: int) -> Numbers:
    """n/(1 + 2Σ_j (1 − j/n)κ_j): how many independent draws n dependent ones are worth (``dependent-sample``).

    Args:
        correlations: κ_1, κ_2, …: at lag j no event's indicator is correlated more than that; those left out are 0, (..., at most n−1).
        n: Sample size.

    Returns:
        The number, (...,): 1 for n copies of one draw, n for independent ones.

    Raises:
        ValueError: On correlations outside [0, 1], more than n−1 of them, or an ``n`` that is no positive integer.

    Example:
        >>> round(effective_sample_size([0.5**j for j in range(1, 100)], n=100), 1)  # each draw repeats the last one half of the time
        33.8
    """
    require_integer("n", n, 1)
    require(correlations.ndim >= 1 and correlations.shape[-1] < n, f"correlations of shape {tuple(correlations.shape)} with n={n}",
            "those of lag 1, 2, …, at most n − 1", "Leave out lags that no two of the draws have.")
    require(bool(((correlations >= 0) & (correlations <= 1)).all()), f"`correlations` {span(correlations)}", "numbers in [0, 1]",
            "Below 0 no smaller number is needed; use 0.")
    lags = torch.arange(1, correlations.shape[-1] + 1, dtype=torch.float64, device=correlations.device)
    return n / (1 + 2 * ((1 - lags / n) * correlations).sum(-1))


def _confidence(n: float, delta: float) -> None:
    require_number("n", n, "[1, ∞)")  # also between the integers: readers look for where a bound becomes small enough
    require_number("delta", delta, "(0, 1)", "It is the probability with which the bound may fail.")


@_pure("max_loss")
def generalization_tail(max_loss: Numbers, support: int, n: int, delta: float) -> Numbers:
    """γ(½√((s−1)/n) + √(ln(1/δ)/(2n))), for all h at once, g fixed before the sample (``generalization-tail``).

    Args:
        max_loss: γ over the population support.
        support: s, the number of pairs (u, y) of positive probability.
        n: Sample size.
        delta: Failure probability.

    Returns:
        The bound on |R − R̂|; vacuous once it exceeds γ.

    Raises:
        ValueError: On numbers out of range.

    Example:
        >>> round(generalization_tail(max_loss=4.0, support=30, n=10_000, delta=0.05), 4)
        0.1567
    """
    require_nonnegative(max_loss=max_loss)
    _confidence(n, delta)
    require_integer("support", support, 1)
    return max_loss * (0.5 * np.sqrt((support - 1) / n) + np.sqrt(np.log(1 / delta) / (2 * n)))


@_pure("max_loss", "entropy")
def fixed_predictor_tail(max_loss: Numbers, n: int, delta: float, entropy: Numbers = None) -> Numbers:
    """Two-sided bound on |R − R̂| for a predictor fixed before the sample (``fixed-predictor-tail``).

    Args:
        max_loss: γ; the loss lies in [0, γ].
        n: Sample size.
        delta: Failure probability.
        entropy: Population Ent_Φ(Y|U) if known; above γ/2 it bounds the variance by Ent(γ−Ent).

    Returns:
        The smallest of Hoeffding's, Chebyshev's and Bernstein's bounds, each of which holds by itself with probability
        1 − δ; which is smallest depends on the arguments alone, so the choice costs nothing.

    Raises:
        ValueError: On numbers out of range, such as an entropy above γ.

    Example:
        >>> round(fixed_predictor_tail(max_loss=4.0, n=10_000, delta=0.05), 4)
        0.0543
    """
    require_nonnegative(max_loss=max_loss)
    _confidence(n, delta)
    variance = max_loss.square() / 4
    if entropy is not None:
        require(bool(((entropy >= 0) & (entropy <= max_loss)).all()), f"`entropy` {span(entropy)}",
                "0 ≤ entropy ≤ max_loss", "The entropy is a floor of the risk, which γ bounds.")
        variance = torch.where(entropy >= max_loss / 2, entropy * (max_loss - entropy), variance)
    log_term = np.log(2 / delta)
    hoeffding = max_loss * np.sqrt(log_term / (2 * n))
    chebyshev = (variance / (n * delta)).sqrt()
    bernstein = (2 * variance * log_term / n).sqrt() + 2 * max_loss * log_term / (3 * n)
    return torch.minimum(torch.minimum(hoeffding, chebyshev), bernstein)


@_pure("max_loss")
def best_of_tail(max_loss: Numbers, candidates: int, n: int, delta: float) -> Numbers:
    """γ√(ln(M/δ)/(2n)), for M predictors at once, all fixed before the held-out sample (``best-of-m``).

    Args:
        max_loss: γ; every loss lies in [0, γ]. For the error rate it is 1.
        candidates: M, how many predictors were compared on the sample; 1 if it was used once.
        n: Size of the held-out sample.
        delta: Failure probability.

    Returns:
        The one-sided bound on R − R̂, of all M and so of the one chosen, however it was chosen.

    Raises:
        ValueError: On numbers out of range.

    Example:
        >>> round(best_of_tail(1.0, candidates=1, n=10_000, delta=0.05), 4)
        0.0122
        >>> round(best_of_tail(1.0, candidates=50, n=10_000, delta=0.05), 4)
        0.0186
    """
    require_nonnegative(max_loss=max_loss)
    _confidence(n, delta)
    require_integer("candidates", candidates, 1)
    return max_loss * np.sqrt(np.log(candidates / delta) / (2 * n))
