"""Generators, their conjugates, the predictions they induce, and the losses they generate."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import require, require_finite


@dataclass(frozen=True)
class Generator:
    """A convex, closed, proper function Φ with what follows from it; all maps act on the last dimension K.

    Attributes:
        name: How the generator is called in tables and errors.
        value: Φ(μ), shape (..., K) -> (...,); +∞ outside the domain.
        conjugate: Φ*(f) = sup_μ ⟨μ, f⟩ − Φ(μ), shape (..., K) -> (...,).
        predict: ∇Φ*(f), the prediction, shape (..., K) -> (..., K).
        contains: Whether μ lies in the domain of Φ, shape (..., K) -> (...,) bool.
        strong_convexity: σ in the Euclidean norm, on the affine hull of the domain; 0 if none.
        smoothness: β_Φ in the Euclidean norm; inf if none.
        on_simplex: Whether the domain is the probability simplex.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    predict: Callable[[Tensor], Tensor]
    contains: Callable[[Tensor], Tensor]
    strong_convexity: float
    smoothness: float
    on_simplex: bool = False


def _on_simplex(mu, tol=1e-6):
    return (mu >= -tol).all(-1) & ((mu.sum(-1) - 1).abs() <= tol)


SQUARED = Generator(
    name="squared",
    value=lambda mu: 0.5 * mu.square().sum(-1),
    conjugate=lambda f: 0.5 * f.square().sum(-1),
    predict=lambda f: f,
    contains=lambda mu: torch.isfinite(mu).all(-1),
    strong_convexity=1.0,
    smoothness=1.0,
)

SHANNON = Generator(
    name="Shannon",
    value=lambda mu: torch.where(_on_simplex(mu), torch.special.xlogy(mu, mu).sum(-1), torch.inf),
    conjugate=lambda f: torch.logsumexp(f, -1),
    predict=lambda f: torch.softmax(f, -1),
    contains=_on_simplex,
    strong_convexity=2.0,
    smoothness=torch.inf,
    on_simplex=True,
)


def fenchel_young_loss(generator, targets, outputs):
    """d_Φ(μ; f) = Φ(μ) + Φ*(f) − ⟨μ, f⟩, the loss that Φ generates (slug ``fy-nonnegative-zero``).

    Args:
        generator: The generator Φ.
        targets: Integer labels (...,) or mean vectors (..., K) in the domain of Φ.
        outputs: Model outputs f, the dual variable, (..., K).

    Returns:
        The loss of each sample, (...,), in nats for Shannon.

    Raises:
        ValueError: On labels out of range, shapes that do not match, NaNs, or targets outside the domain.
    """
    mu = as_mean(generator, targets, outputs)
    return generator.value(mu) + generator.conjugate(outputs) - (mu * outputs).sum(-1)


def as_mean(generator, targets, outputs):
    """The targets as mean vectors (..., K) of the outputs' dtype: labels become one-hot, means are checked."""
    num_classes = outputs.shape[-1]
    require_finite("outputs", outputs, "Look for a learning rate that is too large or inputs that are not scaled.")
    if not targets.dtype.is_floating_point and targets.shape == outputs.shape[:-1]:
        low, high = (int(targets.min()), int(targets.max())) if targets.numel() else (0, 0)
        require(0 <= low and high < num_classes, f"labels from {low} to {high}", f"labels from 0 to {num_classes - 1}",
                "Give the model one output for each class, or remap the labels.")
        return torch.nn.functional.one_hot(targets.long(), num_classes).to(outputs.dtype)
    require(targets.shape == outputs.shape, f"targets of shape {tuple(targets.shape)} for outputs {tuple(outputs.shape)}",
            f"integer labels {tuple(outputs.shape[:-1])} or mean vectors {tuple(outputs.shape)}")
    mu = targets.to(outputs.dtype)
    require_finite("targets", mu)
    inside = generator.contains(mu)
    require(bool(inside.all()), f"{int((~inside).sum())} targets outside the domain of {generator.name}",
            "probabilities that are nonnegative and sum to one" if generator.on_simplex else "targets in the domain")
    return mu


def bregman_divergence(generator, mu, nu):
    """B_Φ(μ, ν) = Φ(μ) − Φ(ν) − ⟨∇Φ(ν), μ − ν⟩ for ν where Φ is differentiable; shapes (..., K) -> (...,)."""
    nu = nu.detach().requires_grad_()
    with torch.enable_grad():
        slope, = torch.autograd.grad(generator.value(nu).sum(), nu)
    return generator.value(mu) - generator.value(nu.detach()) - (slope * (mu - nu.detach())).sum(-1)
