"""A small network fitted to some samples, all of them at every step, or one temperature to its outputs.

``training`` is for runs that are measured and recorded.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ._checks import (
    real_array,
    real_tensor,
    require,
    require_callable,
    require_finite,
    require_integer,
    require_kind,
    require_name,
    require_number,
    require_tensor,
    require_trainable,
    require_values,
    shown,
)
from .duality import SHANNON, Generator, as_mean, fenchel_young_loss, require_generator

Loss = Callable[[Tensor, Tensor], Tensor]


def fit(net: nn.Module, inputs: Tensor, targets: Tensor, steps: int, *, loss: Loss = cross_entropy,
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
            ``risk_of`` and ``population_risk`` are others.
        learning_rate: Of Adam, at the start.
        weight_decay: As in AdamW: before each step the parameters shrink by this share of the learning rate.
        schedule: "constant" or "cosine" (down to zero after the last step).
        on_step: Called before each step with its number, from 0 on, and the outputs there, detached.

    Returns:
        The risk before each step, (steps,).

    Raises:
        TypeError: On arguments of the wrong kind.
        ValueError: Without trainable parameters, if the network does not take the inputs or ``loss`` the targets, and on numbers
            out of range.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> inputs, targets = torch.eye(4), torch.tensor([0, 1, 1, 0])
        >>> risks = fit(nn.Linear(4, 2), inputs, targets, steps=100)
        >>> bool(risks[0] > 0.6), bool(risks[-1] < 0.4)
        (True, True)
    """
    _check(net, inputs, targets)
    require_integer("steps", steps, 1)
    require_callable("loss", loss, "a function (outputs, targets) -> risk")
    require_number("learning_rate", learning_rate, "(0, ∞)")
    require_number("weight_decay", weight_decay, "[0, ∞)")
    require_name("schedule", schedule, ("constant", "cosine"))
    require_callable("on_step", on_step, "a function (step, outputs)", optional=True)
    # one call for all parameters, where there is one: a small network spends half its time on Adam otherwise
    fused = all(parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda") for parameter in net.parameters())
    optimizer = torch.optim.AdamW(net.parameters(), learning_rate, weight_decay=weight_decay, fused=fused)
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


def risk_of(generator: Generator) -> Loss:
    """The mean of the loss that a generator makes, as ``fit`` takes it.

    Args:
        generator: The generator Φ.

    Returns:
        A function (outputs, targets) -> risk, a scalar. Outputs are (n, K); targets are labels (n,), mean vectors (n, K), or
        labels (n, m) where each sample has several.

    Raises:
        TypeError: If ``generator`` is no generator.

    Example:
        >>> from clt_utils.duality import SQUARED
        >>> risk_of(SQUARED)(torch.zeros(2, 2), torch.tensor([[0, 1, 1], [0, 0, 0]])).item()
        0.5
    """
    require_generator(generator)

    def risk(outputs: Tensor, targets: Tensor) -> Tensor:
        if not targets.is_floating_point() and targets.ndim == outputs.ndim:
            outputs = outputs[:, None].expand(-1, targets.shape[1], -1)
        return fenchel_young_loss(generator, targets, outputs).mean()

    return risk


def population_risk(outputs: Tensor, joint: Tensor) -> Tensor:
    """The cross-entropy under a known law, Σ q(x, y)(−log p_y(x)), as ``fit`` takes it.

    Args:
        outputs: For each input x, (n_x, K).
        joint: The law q, (n_x, K).

    Returns:
        A scalar.

    Raises:
        TypeError: If one is no tensor.
        ValueError: If their shapes differ.

    Example:
        >>> round(population_risk(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]])).item(), 4)  # log 2
        0.6931
    """
    for name, given in (("outputs", outputs), ("joint", joint)):
        require_tensor(name, given, 2)
        require_values(name, given)
    require(outputs.shape == joint.shape and outputs.device == joint.device, f"outputs {shown(outputs)} and a joint {shown(joint)}",
            "one shape, (n_x, K), on one device")
    return -(joint * outputs.log_softmax(-1)).sum()


def best_temperature(outputs: Tensor | np.ndarray, targets: Tensor | np.ndarray) -> float:
    """The temperature within [1/64, 64] by which outputs divided have the smallest cross-entropy (slug ``fy-temperature``).

    The risk is convex in the inverse temperature, with the slope mean ⟨p − μ, f⟩, whose sign is followed.

    Args:
        outputs: (n, K), at least two outputs a sample.
        targets: Labels (n,) or mean vectors (n, K).

    Returns:
        The temperature; above 1 where predictions are too sure.

    Raises:
        TypeError: On what is no numbers.
        ValueError: On outputs of another shape or without end, and on targets that do not fit them.

    Example:
        >>> sure = torch.tensor([[4.0, 0.0]]).repeat(4, 1)  # 98 % for the first, which is right in three cases of four
        >>> round(best_temperature(sure, torch.tensor([0, 0, 0, 1])), 3)  # 4 ÷ log 3
        3.641
    """
    f = real_tensor("outputs", outputs)
    require(f.ndim == 2 and len(f) and f.shape[1] >= 2, f"outputs {shown(outputs)}", "(n, K), at least one sample and two outputs")
    require_finite("outputs", f)
    mu = as_mean(SHANNON, targets if isinstance(targets, Tensor) else torch.from_numpy(real_array("targets", targets, dims=1)), f)
    low, high = math.log(1 / 64), math.log(64)
    for _ in range(30):
        middle = (low + high) / 2
        rising = (((math.exp(middle) * f).softmax(-1) - mu) * f).sum() > 0
        low, high = (low, middle) if rising else (middle, high)
    return math.exp(-(low + high) / 2)


def _forward(net: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
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
    require_trainable("net", net)
    for name, given in (("inputs", inputs), ("targets", targets)):
        require_kind(name, given, Tensor, "a tensor with one row a sample", "Wrap it in `torch.as_tensor`.")
        require_values(name, given)
        require(given.ndim >= 1 and len(given) >= 1, f"{name} of shape {tuple(given.shape)}", "at least one sample")
    require(len(inputs) == len(targets), f"{len(inputs)} inputs and {len(targets)} targets", "one target an input")
