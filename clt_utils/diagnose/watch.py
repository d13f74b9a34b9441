"""A watch for training loops: it measures along the way and keeps to a share of the time."""

import time

import numpy as np
from torch import Tensor, nn

from .._checks import require_integer, require_kind, require_number
from ..duality import SHANNON, Generator, require_generator
from ..interval import risk_interval, together
from ..structure import probe
from .samples import Plain


class Watch:
    """A callback that measures along training and keeps to a share of the time, which a single measurement may exceed.

    Call it once a step; it measures when its own time so far is below ``share`` of the time since it was made::

        watch = Watch(model, inputs, targets)
        for step in range(1000):
            ...
            watch(step)

    The model is measured in evaluation mode, and every submodule put back into its own.

    Args:
        model: As in ``diagnose``.
        inputs, targets: A few samples to measure on; 8 are enough for a picture.
        generator: The generator of the loss.
        share: Largest share of the elapsed time to spend, below ½.

    Attributes:
        rows: One dict a measurement: step, risk, energy, lam_min, lam_max, lower, upper.
        spent: Seconds spent measuring.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> watch = Watch(nn.Linear(2, 2), torch.eye(2), torch.tensor([0, 1]))
        >>> watch(step=0)
        >>> list(watch.rows[0])
        ['step', 'risk', 'energy', 'lam_min', 'lam_max', 'lower', 'upper']
    """

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor, generator: Generator = SHANNON,
                 share: float = 0.2) -> None:
        require_kind("model", model, nn.Module, "an `nn.Module`")
        require_generator(generator)
        require_number("share", share, "(0, 0.5)")
        require_kind("inputs", inputs, Tensor, "a tensor (B, ...)")
        require_kind("targets", targets, Tensor, "a tensor of labels (B,) or mean vectors (B, K)")
        self._model, self._generator, self._share = Plain(model), generator, share
        self._data = inputs.detach().clone(), targets.detach().clone()  # the loop may fill the same buffer again
        self.rows: list[dict[str, float]] = []
        self.spent, self._started = 0.0, time.perf_counter()

    def __call__(self, step: int) -> None:
        require_integer("step", step)
        if self.spent > self._share * (time.perf_counter() - self._started):
            return
        started, modes = time.perf_counter(), [(m, m.training) for m in self._model.modules()]
        try:
            for module, _ in modes:
                module.training = False  # not by `eval`, which a model may have made do more
            seen = probe(self._model, *self._data, self._generator)
        finally:
            for module, mode in modes:
                module.training = mode
        whole = together(seen)
        lower, upper = risk_interval(whole, self._generator)
        self.rows.append({"step": step, "risk": whole.loss.item(), "energy": whole.energy.item(), "lam_min": whole.lam_min.item(),
                          "lam_max": whole.lam_max.item(), "lower": lower.item(), "upper": upper.item()})
        self.spent += time.perf_counter() - started

    def trace(self) -> dict[str, np.ndarray]:
        """The measurements as columns, as the figures of ``clt_utils.plots`` want them."""
        return {name: np.array([row[name] for row in self.rows]) for name in self.rows[0]} if self.rows else {}
