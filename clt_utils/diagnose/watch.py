"""A watch for training loops: it measures along the way at the cost that is allowed, and shows or writes what it finds."""

import csv
import importlib
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from IPython.display import display, update_display
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import plots
from .._checks import require, require_integer, require_kind, require_number, shown
from ..duality import SHANNON, Generator, fenchel_young_loss, require_generator
from ..interval import risk_interval, together
from ..structure import gradient_energy, probe
from . import cost
from .samples import Subject, left_as_it_was, one_line, subject_of_few

COLUMNS = ("step", "risk", "energy", "lam_min", "lam_max", "lower", "upper")
"""What a row has."""


class Watch:
    """A callback that measures along training, every so many steps and within a share of the time.

    Call it once a step; it measures when ``every`` steps have passed, and its own time so far is below ``share`` of the time since its
    first call. A single measurement may exceed that::

        watch = Watch(model, inputs, targets, every=10, share=0.05)
        for step in range(1000):
            ...
            watch(step)

    With other people's loops: ``Trainer(callbacks=[watch.lightning()])`` with Lightning, ``trainer.add_callback(watch.transformers())``
    with Hugging Face's. Whatever they do for one step, such as gathering gradients of several batches, is one step here.

    The model is measured in evaluation mode and left as it was. A measurement that fails does not end the training: it warns, and
    stands among the ``problems``.

    Args:
        model: As in ``diagnose``; the model itself, not what a trainer wraps it in.
        inputs, targets: A few samples to measure on, in any form that ``diagnose`` takes: a tensor, a dict of those that ``forward``
            has names for, or a tuple of those that it has places for; 8 are enough for a picture.
        generator: The generator of the loss.
        share: Largest share of the elapsed time to spend, below ½; None for no limit.
        every: Measure at most once in so many steps.
        live: Draw the risk between its bounds after each measurement, in place of the last drawing; a terminal gets it in words.
        csv: A file to write the rows to, each as soon as it is there; a file of this name is written anew.
        tensorboard: A folder for TensorBoard, or a writer of its own that has ``add_scalar``.

    Attributes:
        rows: One dict a measurement: step, risk, energy, lam_min, lam_max, lower, upper. With thousands of outputs, where structure
            matrices are not formed, the last four are nan.
        spent: Seconds spent measuring, drawing and writing.
        problems: What could not be measured, drawn or written, and at which step first.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> watch = Watch(nn.Linear(2, 2), torch.eye(2), torch.tensor([0, 1]))
        >>> watch(step=0)
        >>> list(watch.rows[0])
        ['step', 'risk', 'energy', 'lam_min', 'lam_max', 'lower', 'upper']
    """

    def __init__(self, model: nn.Module, inputs: Tensor | Mapping[str, Tensor] | Sequence[Tensor], targets: Tensor,
                 generator: Generator = SHANNON, share: float | None = 0.2, *, every: int = 1, live: bool = False,
                 csv: str | Path | None = None, tensorboard: Any = None) -> None:
        require_kind("model", model, nn.Module, "an `nn.Module`")
        require_generator(generator)
        require_number("share", share, "(0, 0.5)", optional=True)
        require_integer("every", every, 1)
        require_kind("live", live, bool, "True or False")
        require_kind("csv", csv, (str, Path, type(None)), "the path of a file, or None")
        parts = _parts(inputs)
        for name, part in [*parts.items(), ("targets", targets)]:
            require_kind(str(name) if name else "inputs", part, Tensor, "a tensor (B, ...)", "Wrap it in `torch.as_tensor`.")
        parts = {name: part.detach().clone() for name, part in parts.items()}  # the loop may fill the same buffer again
        for part in parts.values():
            require(part.dim() and targets.dim() and len(part) == len(targets) > 0,
                    f"{shown(part)} as inputs and {shown(targets)} as targets", "one target for each input, and at least one")
        self._model, self._given = model, (parts, targets.detach().clone(), generator)
        self._subject: Subject | None = None
        self._share, self._every, self._live = share, every, live
        self._file, self._writer = None if csv is None else Path(csv), _writer(tensorboard)
        self._started: float | None = None
        self._last: int | None = None
        self.rows: list[dict[str, float]] = []
        self.problems: list[str] = []
        self.spent = 0.0

    def __call__(self, step: int) -> None:
        require_integer("step", step)
        now = time.perf_counter()
        self._started = now if self._started is None else self._started
        soon = self._last is not None and 0 <= step - self._last < self._every
        if soon or (self._share is not None and self.spent > self._share * (now - self._started)):
            return
        self._last = step
        try:
            with left_as_it_was(self._model):
                self.rows.append({"step": step, **self._measured()})
            self._told()
        except Exception as error:  # whatever happens here must not end a training
            self._fails(f"Step {step}: {one_line(error)}")
        self.spent += time.perf_counter() - now

    def _measured(self) -> dict[str, float]:
        """What ``COLUMNS`` names, without the step."""
        device = next((p.device for p in self._model.parameters()), None)  # a trainer may have moved the model
        if self._subject is None or self._subject.device != device:
            self._subject = subject_of_few(self._model, *self._given)
        subject = self._subject
        model, inputs, targets, generator = subject.part(slice(None))
        if subject.K > cost.MOST_OUTPUTS:
            risk = fenchel_young_loss(generator, subject.targets, subject.outputs(subject.inputs).double()).mean()
            return dict(zip(COLUMNS[1:], [risk.item(), gradient_energy(model, inputs, targets, generator).mean().item(), *[math.nan] * 4]))
        whole = together(probe(model, inputs, targets, generator))
        numbers = whole.loss, whole.energy, whole.lam_min, whole.lam_max, *risk_interval(whole, generator)
        return {name: number.item() for name, number in zip(COLUMNS[1:], numbers)}

    def _told(self) -> None:
        """Write and draw the last row."""
        row = self.rows[-1]
        if self._file is not None:
            with self._file.open("w" if len(self.rows) == 1 else "a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([COLUMNS, row.values()] if len(self.rows) == 1 else [row.values()])
        if self._writer is not None:
            for name in COLUMNS[1:]:
                self._writer.add_scalar(f"watch/{name}", row[name], row["step"])
            self._writer.flush()
        if self._live:
            fig, words = self.plot(), self.words()
            (display if len(self.rows) == 1 else update_display)({"text/html": plots.svg(fig, words), "text/plain": words}, raw=True,
                                                                 display_id=f"clt-watch-{id(self)}")
            plots.plt.close(fig)

    def _fails(self, problem: str) -> None:
        """Remember what went wrong and warn, once for each thing that did."""
        what = problem.partition(": ")[2]
        if all(known.partition(": ")[2] != what for known in self.problems):
            self.problems.append(problem)
            warnings.warn(f"The watch failed, and training goes on. {problem}", stacklevel=3)

    def trace(self) -> dict[str, np.ndarray]:
        """The measurements as columns, as the figures of ``clt_utils.plots`` want them."""
        return {name: np.array([row[name] for row in self.rows]) for name in COLUMNS} if self.rows else {}

    def plot(self) -> Figure:
        """The risk between its bounds along training, so far.

        Returns:
            A matplotlib figure; ``plots.show(watch.plot(), alt=watch.words())`` displays it.

        Raises:
            ValueError: If nothing was measured yet.
        """
        require(self.rows, "a watch without measurements", "at least one", " ".join(self.problems))
        return plots.risk_between_bounds(self.trace())

    def words(self) -> str:
        """Alternative text of the figure."""
        if not self.rows:
            return "Nothing was measured yet."
        first, last = self.rows[0], self.rows[-1]
        bounds = f", between {last['lower']:.3g} and {last['upper']:.3g}" if math.isfinite(last["lower"]) else ""
        return (f"{len(self.rows)} measurements from step {first['step']} to {last['step']}: the risk was {first['risk']:.3g} and is "
                f"{last['risk']:.3g}{bounds}.")

    def lightning(self) -> Any:
        """The watch as a callback of Lightning's ``Trainer``, called after each step of its optimizer."""
        def on_train_batch_end(_: Any, trainer: Any, *args: Any, **names: Any) -> None:
            if trainer.is_global_zero:
                self(trainer.global_step)

        base = _imported("lightning.pytorch", "pytorch_lightning", install="lightning").Callback
        return type("Watching", (base,), {"on_train_batch_end": on_train_batch_end})()

    def transformers(self) -> Any:
        """The watch as a callback of Hugging Face's ``Trainer``, called after each step of its optimizer."""
        def on_step_end(_: Any, args: Any, state: Any, control: Any, **names: Any) -> None:
            if state.is_world_process_zero:
                self(state.global_step)

        base = _imported("transformers", install="transformers").TrainerCallback
        return type("Watching", (base,), {"on_step_end": on_step_end})()


def _parts(inputs: Any) -> dict[int | str, Tensor]:
    """Inputs by the name or the place by which the model takes them."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    return dict(enumerate(inputs if isinstance(inputs, (tuple, list)) else [inputs]))


def _imported(*names: str, install: str) -> Any:
    """The first of these modules that is installed."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
    require(False, f"no package {install}", "that it is installed", f"`pip install {install}`", ModuleNotFoundError)


def _writer(tensorboard: Any) -> Any:
    """What writes for TensorBoard, or None."""
    if tensorboard is None or callable(getattr(tensorboard, "add_scalar", None)):
        return tensorboard
    require_kind("tensorboard", tensorboard, (str, Path), "a folder, a writer that has `add_scalar`, or None")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        require(False, "no package tensorboard", "that it is installed, to write for TensorBoard", "`pip install tensorboard`, or write "
                "a table with `csv=`.", ModuleNotFoundError)
    return SummaryWriter(str(tensorboard))
