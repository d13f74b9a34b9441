"""A small network fitted to some samples, all of them at every step; ``training`` is for runs that are measured and recorded."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ._checks import require, require_callable, require_integer, require_kind, require_name, require_number, require_values, shown


def fit(net: nn.Module, inputs: Tensor, targets: Tensor, steps: int, *, loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
        learning_rate: float = 0.01, weight_decay: float = 0.0, schedule: str = "constant",
        on_step: Callable[[int, Tensor], object] | None = None) -> np.ndarray:
    """Train a network in place by Adam.

    Nothing is drawn at random here: what was seeded when the network was made decides, and dropout goes on from there.

    Args:
        net: An ``nn.Module``; its mode, its precision and its device stay as they are.
        inputs: (n, ...).
        targets: (n, ...), what ``loss`` takes.
        steps: How many.
        loss: A function (outputs, targets) -> risk, a scalar tensor; by default the mean cross-entropy, of labels (n,).
        learning_rate: Of Adam, at the start.
        weight_decay: As in AdamW: before each step the parameters shrink by this share of the learning rate.
        schedule: "constant" or "cosine" (down to zero after the last step).
        on_step: Called before each step with its number, from 0 on, and the outputs there, detached.

    Returns:
        The risk before each step, (steps,).

    Raises:
        TypeError, ValueError: On arguments of the wrong kind, and if the network does not take the inputs, or ``loss`` the targets.
    """
    _check(net, inputs, targets)
    require_integer("steps", steps, 1)
    require_callable("loss", loss, "a function (outputs, targets) -> risk")
    require_number("learning_rate", learning_rate, "(0, ∞)")
    require_number("weight_decay", weight_decay, "[0, ∞)")
    require_name("schedule", schedule, ("constant", "cosine"))
    if on_step is not None:
        require_callable("on_step", on_step, "a function (step, outputs), or None")
    optimizer = torch.optim.AdamW(net.parameters(), learning_rate, weight_decay=weight_decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    risks = []
    for step in range(steps):
        outputs, risk = _forward(net, inputs, targets, loss)
        risks.append(risk.item())
        if on_step:
            on_step(step, outputs.detach())
        optimizer.zero_grad()
        risk.backward()
        optimizer.step()
        if schedule == "cosine":
            cosine.step()
    return np.array(risks)


def _forward(net: nn.Module, inputs: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    try:
        outputs = net(inputs)
        risk = loss(outputs, targets)
    except Exception as error:
        raise ValueError(f"Given: inputs {shown(inputs)} and targets {shown(targets)}, on which the network or the loss fails "
                         f"({type(error).__name__}: {error}). Expected: inputs that the network takes, targets that the loss takes. "
                         "Compare their shapes, dtypes and devices.") from error
    require(isinstance(risk, Tensor) and risk.ndim == 0 and risk.requires_grad, f"a loss that returns {shown(risk)}",
            "one number, a tensor with a gradient", "Take the mean over the samples, and do not detach.")
    return outputs, risk


def _check(net: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    require_kind("net", net, nn.Module, "an nn.Module")
    for name, given in (("inputs", inputs), ("targets", targets)):
        require_kind(name, given, Tensor, "a tensor with one row a sample", "Wrap it in `torch.as_tensor`.")
        require_values(name, given)
        require(given.ndim >= 1 and len(given) >= 1, f"{name} of shape {tuple(given.shape)}", "at least one sample")
    require(len(inputs) == len(targets), f"{len(inputs)} inputs and {len(targets)} targets", "one target an input")
    require(not any(p.is_meta for p in net.parameters()), "a network on meta, which has no values", "a device that computes")
    require(any(p.requires_grad for p in net.parameters()), "a network without trainable parameters",
            "at least one parameter with `requires_grad`")
