"""Plain SGD on flat parameters, with everything measured that the theorems on it speak of.

A *task* here is a function ``losses(theta)`` from flat parameters (P,) to the losses of its n samples (n,); ``flat_losses``
makes one of a model and its data. Everything is a plain function of ``theta``, so ``torch.func`` can batch it.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from . import bounds
from ._checks import (
    require,
    require_callable,
    require_finite,
    require_integer,
    require_kind,
    require_number,
    require_tensor,
    require_values,
    shown,
)
from .duality import SHANNON, Generator, fenchel_young_loss, require_generator
from .structure import lanczos

Task = Callable[[Tensor], Tensor]


def flat_losses(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Generator = SHANNON) -> tuple[Task, Tensor]:
    """The losses of a model's samples as a function of its flat parameters.

    Args:
        model: An ``nn.Module`` whose samples do not interact.
        inputs: (n, ...).
        targets: Labels (n,) or mean vectors (n, K).
        generator: Of the loss.

    Returns:
        (losses, theta): a function (P,) -> (n,), and the model's parameters now, (P,).

    Raises:
        TypeError: If the model is no module, inputs or targets are no tensors, or ``generator`` is no ``Generator``.
        ValueError: If there is not one target an input.

    Example:
        >>> losses, theta = flat_losses(nn.Linear(2, 3), torch.ones(5, 2), torch.zeros(5, dtype=torch.long))
        >>> theta.shape, losses(theta).shape
        (torch.Size([9]), torch.Size([5]))
    """
    require_kind("model", model, nn.Module, "an nn.Module")
    for name, given in (("inputs", inputs), ("targets", targets)):
        require_kind(name, given, Tensor, "a tensor with one row a sample", "Wrap it in `torch.as_tensor`.")
        require(given.ndim >= 1 and len(given) >= 1, f"{name} of shape {tuple(given.shape)}", "at least one sample")
    require(len(inputs) == len(targets), f"{len(inputs)} inputs and {len(targets)} targets", "one target an input")
    require_generator(generator)
    parameters = dict(model.named_parameters())
    sizes = [p.numel() for p in parameters.values()]

    def losses(theta: Tensor) -> Tensor:
        require(theta.shape == (sum(sizes),), f"theta of shape {tuple(theta.shape)}", f"the model's parameters, ({sum(sizes)},)")
        parts = {name: part.view_as(p) for (name, p), part in zip(parameters.items(), theta.split(sizes), strict=True)}
        return fenchel_young_loss(generator, targets, functional_call(model, parts, (inputs,)))

    return losses, torch.cat([p.detach().flatten() for p in parameters.values()])


def draw_batches(n: int, batch_size: int, num_steps: int, seed: int = 0) -> Tensor:
    """Fresh uniform batches, without replacement within each.

    Args:
        n: Number of samples.
        batch_size: m, from 1 to n.
        num_steps: Number N of steps.
        seed: Of the draw.

    Returns:
        Indices of the samples of each step, (N, m).

    Raises:
        ValueError: On numbers that are no integers or out of range.

    Example:
        >>> batches = draw_batches(n=5, batch_size=5, num_steps=2)
        >>> batches.sort().values
        tensor([[0, 1, 2, 3, 4],
                [0, 1, 2, 3, 4]])
    """
    require_integer("n", n, 1)
    require_integer("batch_size", batch_size)
    require(1 <= batch_size <= n, f"batch_size={batch_size} with n={n}", "1 ≤ batch_size ≤ n")
    require_integer("num_steps", num_steps, 1)
    require_integer("seed", seed)
    random = torch.Generator().manual_seed(seed)
    return torch.rand(num_steps, n, generator=random).argsort(-1)[:, :batch_size]


@dataclass(frozen=True)
class Run:
    """A run of SGD with constant step and what it met on its way.

    Attributes:
        theta: The parameters at the end, (P,).
        losses: Of every sample at θ_0 … θ_N, (N+1, n).
        gradient_norms: ‖∇L_{B_k}(θ_k)‖², (N,).
        smoothness: Of the batch loss on each segment [θ_k, θ_{k+1}], see ``segment_smoothness``; (N,).
        batches: (N, m).
        step: α.

    Example:
        >>> losses = lambda theta: 0.5 * (theta[0] - torch.tensor([1.0, 3.0])) ** 2
        >>> met = run(losses, torch.zeros(1), torch.tensor([[0, 1], [0, 1]]), step=0.5)
        >>> met.losses.mean(1)  # the risk along the way
        tensor([2.5000, 1.0000, 0.6250])
    """

    theta: Tensor
    losses: Tensor
    gradient_norms: Tensor
    smoothness: Tensor
    batches: Tensor
    step: float

    @property
    def drop(self) -> float:
        """R̂(θ_0) − R̂(θ_N)."""
        return (self.losses[0] - self.losses[-1]).mean().item()

    @property
    def interference(self) -> Tensor:
        """R_out(θ_{k+1}) − R_out(θ_k), the change of the samples outside the batch at each step, (N,); zero for a full batch."""
        n, m = self.losses.shape[1], self.batches.shape[1]
        change = self.losses[1:] - self.losses[:-1]
        if m == n:
            return change.new_zeros(len(change))
        return (change.sum(-1) - change.gather(1, self.batches).sum(-1)) / (n - m)

    def gradient_bound(self, smoothness: float | None = None) -> float:
        """``bounds.sgd_gradient_bound`` of this run, with its own interference and, unless given, its own largest smoothness."""
        smoothness = self.smoothness.max().item() if smoothness is None else smoothness
        return bounds.sgd_gradient_bound(self.drop, self.interference.mean().item(), n=self.losses.shape[1],
                                         batch_size=self.batches.shape[1], smoothness=smoothness, step=self.step,
                                         num_steps=len(self.batches))


def run(losses: Task, theta: Tensor, batches: Tensor, step: float, points: int = 4) -> Run:
    """Plain SGD: θ_{k+1} = θ_k − α ∇L_{B_k}(θ_k), no momentum, no weight decay.

    Args:
        losses: A task, (P,) -> (n,).
        theta: Where to start, (P,).
        batches: Indices of the samples of each step, (N, m).
        step: α.
        points: How many points of each segment to measure its smoothness at; 0 for none (it is then nan).

    Returns:
        A ``Run``.

    Raises:
        TypeError: If ``losses`` is no function, or ``theta`` or ``batches`` are no tensors.
        ValueError: On shapes that do not fit, indices out of range, or a step that is not positive.

    Example:
        >>> losses = lambda theta: 0.5 * (theta[0] - torch.tensor([1.0, 3.0])) ** 2
        >>> met = run(losses, torch.zeros(1), torch.tensor([[0, 1]]), step=0.5)
        >>> met.theta  # half the way to the mean, 2
        tensor([1.])
    """
    require_callable("losses", losses, "a function of θ that returns the samples' losses, such as `flat_losses` makes")
    _check_parameters("theta", theta)
    require_number("step", step, "(0, ∞)")
    require_integer("points", points, 0)
    first = losses(theta)
    require(isinstance(first, Tensor) and first.ndim == 1 and len(first) >= 1, f"`losses` that returns {shown(first)}",
            "the losses of the samples, a tensor (n,)")
    values, norms, smoothness = [first.detach()], [], []
    _check_batches(batches, len(values[0]))
    batches = batches.to(first.device)
    for batch in batches:
        gradient = grad(lambda t: losses(t)[batch].mean())
        direction = gradient(theta)
        after = theta - step * direction
        smoothness.append(segment_smoothness(gradient, theta, after, points) if points else float("nan"))
        norms.append(direction.square().sum())
        values.append(losses(after).detach())
        theta = after
    return Run(theta, torch.stack(values), torch.stack(norms), torch.tensor(smoothness).to(theta), batches, step)


def _check_parameters(name: str, theta: Tensor) -> None:
    require_tensor(name, theta, dims=1)
    require(theta.ndim == 1 and len(theta) >= 1, f"{name} of shape {tuple(theta.shape)}", "flat parameters (P,)")
    require_values(name, theta)
    require_finite(name, theta)


def _check_batches(batches: Tensor, n: int) -> None:
    require_kind("batches", batches, Tensor, "a tensor of indices (N, m)", "`draw_batches` makes one.")
    require(batches.ndim == 2 and batches.numel() > 0 and not batches.is_meta and batches.dtype in (torch.int64, torch.int32),
            f"batches: {shown(batches)}", "indices of shape (N, m)", "`draw_batches` makes one.")
    require(bool((batches >= 0).all() & (batches < n).all()), f"batches with indices from {batches.min()} to {batches.max()}",
            f"from 0 to {n - 1}")


def segment_smoothness(gradient: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, points: int = 4) -> float:
    """The largest ‖∇F(θ_t) − ∇F(θ_0)‖ / ‖θ_t − θ_0‖ on the way from θ_0 to θ_1: all that ``descent-lemma`` asks of L.

    Args:
        gradient: ∇F, a function (P,) -> (P,).
        start, end: θ_0 and θ_1, (P,).
        points: How many evenly spaced points of (θ_0, θ_1] to look at; the largest ratio between them is missed.

    Returns:
        A number; 0 if the two ends are the same.

    Raises:
        TypeError: If ``gradient`` is no function, or a point is no tensor.
        ValueError: On points of different shape, or not finite.

    Example:
        >>> round(segment_smoothness(lambda theta: 3 * theta, torch.zeros(2), torch.ones(2)), 3)  # F = 3/2 ‖θ‖²
        3.0
    """
    require_callable("gradient", gradient, "a function (P,) -> (P,)")
    _check_parameters("start", start)
    _check_parameters("end", end)
    require(start.shape == end.shape, f"start of shape {tuple(start.shape)} and end of shape {tuple(end.shape)}", "equal shapes")
    require_integer("points", points, 1)
    shift = end - start
    if not shift.any():
        return 0.0
    t = torch.linspace(0, 1, points + 1, dtype=start.dtype, device=start.device)[1:]
    change = vmap(gradient)(start + t[:, None] * shift) - gradient(start)
    return (change.norm(dim=-1) / (t * shift.norm())).max().item()


def hessian_norm(loss: Task, theta: Tensor, tolerance: float = 1e-4, max_products: int = 200, seed: int = 0) -> float:
    """The largest absolute eigenvalue of the Hessian, whatever its sign, by Lanczos' method and without forming the Hessian.

    Args:
        loss: F, a function (P,) -> number, twice differentiable at theta.
        theta: Where, (P,).
        tolerance: The error, as a share of the result, see below; at most 0.01.
        max_products: Products of the Hessian with a vector, at most; each costs about two gradients.
        seed: Of the first vector.

    Returns:
        λ, never above the norm by more than rounding, with an eigenvalue of absolute value ν such that |λ − ν| ≤ ``tolerance``·λ. Only
        if the random first vector is all but orthogonal to what belongs to the largest is ν another one. Whatever the spectrum, that
        after k products λ falls short by more than a share ε of its width has a probability of at most 3.3 √P exp(−(2k−1)√ε)
        (Kuczyński and Woźniakowski, 1992, for both ends).

    Warns:
        UserWarning: With the error reached, if ``max_products`` do not do; λ is then a lower bound of the norm.

    Raises:
        TypeError: If ``loss`` is no function, or ``theta`` no tensor.
        ValueError: On a ``theta`` that is not flat and finite, or numbers out of range.

    Example:
        >>> round(hessian_norm(lambda t: 0.5 * t[0] ** 2 - 2 * t[1] ** 2, torch.zeros(2)), 3)
        4.0
    """
    require_callable("loss", loss, "a function (P,) -> number")
    _check_parameters("theta", theta)
    require_number("tolerance", tolerance, "(0, 0.01]", "A larger one would take a smaller eigenvalue for the largest.")
    require_integer("max_products", max_products, 1)
    require_integer("seed", seed)
    gradient = grad(loss)

    def product(v: Tensor) -> Tensor:
        v = v.to(theta.dtype)
        return grad(lambda t: gradient(t) @ v)(theta).double()

    low, high, error = lanczos(product, len(theta), tolerance=tolerance, max_steps=max_products, seed=seed, device=theta.device)
    norm = max(abs(low), abs(high))
    if error > tolerance * norm and max_products < len(theta):
        warnings.warn(f"Given: {max_products} products, after which the norm is {norm:.3g} with an error of {error:.1g}. "
                      f"Expected: an error of at most {tolerance * norm:.1g}. Allow more with `max_products`, or a larger `tolerance`.",
                      stacklevel=2)
    return norm
