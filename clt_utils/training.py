"""One training loop that measures the theory's quantities along the way, and what it returns: a Trace.

**Where it runs.** One place decides, ``find_device``: a GPU if torch sees one, else the CPU; the field ``device`` or the
variable CLT_DEVICE overrides it. Samples are drawn and weights initialized on the CPU and moved then, and the order of the
batches is drawn there too. So a seed means the same samples, weights and batches on every device. Measurements are
assembled in float64, which the device must have; the training itself is float32, without TF32 inside the measurements.

**What can be repeated.** On one machine's CPU, with the same versions, the same recipe gives the same numbers, bit for bit.
Another number of threads, another CPU or a GPU sums in another order. That is a difference of about 1e-7 in a step, and
training amplifies it; ``sweeps.Sweep.verify`` measures how far.
"""

import dataclasses
import functools
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import data, models
from ._checks import require, require_callable, require_integer, require_kind, require_name, require_number, shown
from ._spacing import evenly_spaced
from .bounds import step_limit
from .duality import SHANNON, SQUARED, Generator, fenchel_young_loss
from .interval import risk_interval, together
from .provenance import code_hash, provenance
from .structure import probe
from .structure.engine import full_precision

GENERATORS = {"cross-entropy": SHANNON, "squared": SQUARED}
"""The generator of each loss one can train with."""

PRESETS: dict[str, dict[str, Any]] = {
    "mini": dict(limit=16, epochs=60, batch_size=2),
    "full": dict(limit=None, epochs=20, batch_size=32, probes=200, probe_samples=64),
}
"""The two scales of the paper's recipe: a laptop's seconds, and the whole data set."""


Recipe = TypeVar("Recipe")


def _knowing_its_fields(recipe: type[Recipe]) -> type[Recipe]:
    """Decorator: a field that the recipe does not have is refused with the names that come closest."""
    plain: Any = recipe.__init__

    @functools.wraps(plain)
    def checked(self: Recipe, *values: Any, **fields: Any) -> None:
        for name in fields:
            require_name(f"field of {recipe.__name__}", name, FIELDS)
        plain(self, *values, **fields)

    recipe.__init__ = checked  # type: ignore[method-assign, assignment]
    return recipe


@_knowing_its_fields
@dataclass(frozen=True)
class TrainConfig:
    """A recipe for one training run. The defaults are the preset "mini"; every field is a plain JSON value.

    Attributes:
        dataset: A name that ``data.load`` knows.
        size: Side of the images; None for the data set's own.
        limit: Train on this many samples, balanced over the classes; None for all.
        model: A name that ``models.build`` knows; ``depth``, ``width``, ``skip``, ``norm``, ``gain`` and ``sparsity`` are passed
            on to it.
        loss: "cross-entropy" (softmax) or "squared" (½‖f − 1_y‖²).
        epochs: Passes over the data, reshuffled each time.
        steps: End after so many steps instead; None for what ``epochs`` says.
        batch_size: Samples a step; the last batch of an epoch may be smaller.
        learning_rate: Of SGD, at the start; ``momentum`` and ``weight_decay`` likewise.
        of_limit: The step at the start as a multiple of ``bounds.step_limit``, with the largest eigenvalue that the network
            starts with on the measured samples; None for ``learning_rate``.
        schedule: "cosine" (down to zero at the last step) or "constant".
        seed: Draws the samples, the initial weights and the order of the batches.
        probes: Measure at this many evenly spaced steps besides step 0; None for every step.
        probe_samples: Measure on this many of the training samples; None for all.
        held_out: Keep this many samples out of the training, and measure risk and accuracy on them too, and on as many of the
            training samples; None for none.
        device: "cpu", "cuda", ... or "auto", see ``find_device``.

    Example:
        >>> config = TrainConfig(model="model-a", depth=2, epochs=10)
        >>> config.learning_rate, config.replace(seed=1).seed
        (0.01, 1)
    """

    dataset: str = "digits"
    size: int | None = None
    limit: int | None = 16
    model: str = "lenet"
    depth: int | None = None
    width: int | None = None
    skip: bool | None = None
    norm: str | None = None
    gain: float = 1.0
    sparsity: float = 0.0
    loss: str = "cross-entropy"
    epochs: int = 60
    steps: int | None = None
    batch_size: int = 2
    learning_rate: float = 0.01
    of_limit: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    seed: int = 0
    probes: int | None = None
    probe_samples: int | None = None
    held_out: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in FIELDS:
            require_kind(name, getattr(self, name), (str, int, float, type(None)), "a plain value, as JSON knows it")
        require_name("data set", self.dataset, data.NAMES)
        require_name("model", self.model, models.NAMES)
        require_name("loss", self.loss, tuple(GENERATORS))
        require_name("schedule", self.schedule, ("cosine", "constant"))
        for name in ("size", "limit", "depth", "width", "epochs", "steps", "batch_size", "probes", "probe_samples", "held_out"):
            require_integer(name, getattr(self, name), 1, optional=name not in ("epochs", "batch_size"))
        require_integer("seed", self.seed)
        intervals = {"learning_rate": "(0, ∞)", "momentum": "[0, 1)", "weight_decay": "[0, ∞)", "gain": "(0, ∞)", "sparsity": "[0, 1)"}
        for name, interval in intervals.items():
            require_number(name, getattr(self, name), interval)
        if self.of_limit is not None:
            require_number("of_limit", self.of_limit, "(0, ∞)")
        require_kind("skip", self.skip, (bool, type(None)), "True, False or None")
        require(self.norm in (None, "layer"), f"norm={self.norm!r}", '"layer" or None')
        require_kind("device", self.device, str, 'the name of a device, such as "cpu", or "auto"')
        require(self.probe_samples is None or self.limit is None or self.probe_samples <= self.limit,
                f"probe_samples={self.probe_samples} with limit={self.limit}", "at most as many as there are training samples")

    @classmethod
    def mini(cls, **changes: Any) -> "TrainConfig":
        """The paper's recipe on 16 samples, 60 epochs in batches of 2, measured at every step; ``changes`` override it."""
        return cls(**PRESETS["mini"] | changes)

    @classmethod
    def full(cls, **changes: Any) -> "TrainConfig":
        """The paper's recipe on the whole data set, 20 epochs in batches of 32; ``changes`` override it."""
        return cls(**PRESETS["full"] | changes)

    @classmethod
    def preset(cls, **changes: Any) -> "TrainConfig":
        """The preset that the environment variable CLT_PRESET names, "mini" if it is unset; ``changes`` override it."""
        name = os.environ.get("CLT_PRESET", "").strip() or "mini"
        require_name("preset in CLT_PRESET", name, tuple(PRESETS))
        return cls(**PRESETS[name] | changes)

    def replace(self, **changes: Any) -> "TrainConfig":
        """The same recipe with some fields changed."""
        for name in changes:
            require_name("field of TrainConfig", name, FIELDS)
        return dataclasses.replace(self, **changes)


FIELDS = tuple(field.name for field in dataclasses.fields(TrainConfig))

COLUMNS = ("step", "epoch", "risk", "energy", "residual", "lam_min", "lam_max", "p_min", "grad_norm_sq", "correlation", "lower", "upper",
           "lower_sharp", "upper_sharp", "accuracy", "learning_rate")
"""What a run measures, see ``measure``."""

HELD_OUT = ("train_risk", "train_accuracy", "test_risk", "test_accuracy")
"""What it measures besides where samples are held out: on as many of the training samples, and on those."""


@dataclass(frozen=True)
class Trace:
    """What a training run measured; ``trace["risk"]`` is the column of risks.

    Attributes:
        config: The recipe.
        columns: Arrays of equal length, one entry a measurement: ``step`` and ``epoch`` (how many were done), and what
            ``measure`` returns, and ``learning_rate`` of the next step; ``HELD_OUT`` where samples are held out.
        provenance: See ``provenance.provenance``: date, seconds, processor, device, threads, versions and a hash of the code.
        stopped: Why the run ended early, or "".

    Example:
        >>> trace = train(TrainConfig.mini(epochs=2, device="cpu"))
        >>> print(len(trace), trace["epoch"][-1], trace["risk"][-1] <= trace["upper"][-1])
        17 2.0 True
    """

    config: TrainConfig
    columns: dict[str, np.ndarray]
    provenance: dict[str, Any]
    stopped: str = ""

    def __getitem__(self, name: str) -> np.ndarray:
        require_name("column", name, tuple(self.columns))
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["step"])

    def thin(self, keep: int) -> "Trace":
        """The trace at ``keep`` evenly spaced measurements or fewer, the first and the last among them."""
        require_integer("keep", keep, 2, advice="The first and the last are always kept.")
        index = evenly_spaced(len(self), keep)
        return dataclasses.replace(self, columns={name: column[index] for name, column in self.columns.items()})

    def to_dict(self, digits: int | None = None) -> dict[str, Any]:
        """Plain JSON values, numbers rounded to ``digits`` significant digits; nan and inf become strings."""
        require_integer("digits", digits, 1, 17, optional=True)

        def plain(value: float) -> int | float | str:
            value = float(value if digits is None else f"{value:.{digits}g}")
            if not math.isfinite(value):
                return str(value)
            return int(value) if value == int(value) and abs(value) < 1e15 else value
        return {"config": dataclasses.asdict(self.config),
                "columns": {name: [plain(value) for value in column] for name, column in self.columns.items()},
                "provenance": self.provenance, "stopped": self.stopped}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Trace":
        """The trace that ``to_dict`` gave; a ``ValueError`` if it is not whole."""
        require_kind("saved", saved, dict, "a run as `to_dict` gives it")
        lacking = {"config", "columns", "provenance", "stopped"} - set(saved)
        require(not lacking, f"a saved run without {', '.join(sorted(lacking))}", "a run as `to_dict` gives it")
        columns = {name: np.array([float(value) for value in column]) for name, column in saved["columns"].items()}
        missing = [name for name in COLUMNS if name not in columns]
        lengths = {len(column) for column in columns.values()}
        require(not missing and len(lengths) == 1, f"a saved run without the columns {missing}, of lengths {sorted(lengths)}",
                f"the columns {', '.join(COLUMNS)}, all of one length")
        return cls(TrainConfig(**saved["config"]), columns, saved["provenance"], saved["stopped"])


def train(config: TrainConfig, progress: bool = False, on_probe: Callable[[dict[str, float]], object] | None = None,
          should_stop: Callable[[], bool] | None = None, prepare: Callable[[nn.Module], object] | None = None) -> Trace:
    """Train by SGD as ``config`` says and measure the theory's quantities along the way.

    If the run diverges it stops with a warning and keeps what it measured.

    Args:
        config: A ``TrainConfig``.
        progress: Show a progress bar.
        on_probe: Called with each new row of the trace, a dict of numbers.
        should_stop: Called before each step; a true answer ends the run.
        prepare: Called with the model before its first step, to change its weights.

    Returns:
        A ``Trace``.

    Raises:
        TypeError: If a value of the recipe has a type that it cannot have.
        ValueError: If the samples, the model or the device cannot be had, or the model cannot be measured.

    Example:
        >>> trace = train(TrainConfig.mini(epochs=2, device="cpu"))
        >>> print(trace["step"])  # 16 samples in batches of 2, measured at every step
        [ 0.  1.  2.  3.  4.  5.  6.  7.  8.  9. 10. 11. 12. 13. 14. 15. 16.]
    """
    require_kind("config", config, TrainConfig, "a `TrainConfig`")
    require_kind("progress", progress, bool, "True or False")
    for name, call in (("on_probe", on_probe), ("should_stop", should_stop), ("prepare", prepare)):
        require_callable(name, call, "a function", optional=True)
    started = time.perf_counter()
    run = _Run(config, prepare)
    rows: list[dict[str, float]] = []
    with tqdm(total=run.num_steps, unit="step", disable=not progress) as bar:
        try:
            stopped = _follow(run, rows, bar, on_probe, should_stop)
        except (ValueError, torch.linalg.LinAlgError) as error:
            if run.step == 0:
                raise  # the same calls with the same data worked at step 0, so later it is the weights that are at fault
            stopped = (f"Diverged after {run.step} of {run.num_steps} steps; what was measured before is kept. "
                       f"Lower the learning rate, {run.first_step:g}. ({error})")
            warnings.warn(stopped, stacklevel=2)
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
    return Trace(config, columns, provenance(run.device, time.perf_counter() - started), stopped)


def _follow(run: "_Run", rows: list[dict[str, float]], bar: tqdm, on_probe: Callable[[dict[str, float]], object] | None,
            should_stop: Callable[[], bool] | None) -> str:
    """Take the steps of a run, and measure where it is time to -> why it ended early, or ""."""
    while True:
        if run.step in run.probe_steps:
            rows.append(run.measured())
            if on_probe:
                on_probe(rows[-1])
        if run.step == run.num_steps:
            return ""
        if should_stop and should_stop():
            return f"Stopped on request after {run.step} of {run.num_steps} steps."
        run.take_step()
        bar.update()


class _Run:
    """A training under way, ``step`` steps after its start: its samples, its model, and at which steps it is measured."""

    def __init__(self, config: TrainConfig, prepare: Callable[[nn.Module], object] | None) -> None:
        self.config, self.generator, self.device = config, GENERATORS[config.loss], find_device(config.device)
        samples, held_out = _samples(config)
        self.inputs, self.targets = self._here(samples)
        self.probed = self._here(samples.draw(config.probe_samples, config.seed) if config.probe_samples else samples)
        self.judged = {} if held_out is None else {"train": self._here(samples.draw(min(len(held_out), len(samples)), config.seed)),
                                                   "test": self._here(held_out)}

        self.step, self.steps_per_epoch = 0, math.ceil(len(samples) / config.batch_size)
        self.num_steps = config.steps or config.epochs * self.steps_per_epoch
        self.probe_steps = set(evenly_spaced(self.num_steps + 1, (config.probes or self.num_steps) + 1).tolist())
        self.batches = _batches(len(samples), config.batch_size, torch.Generator().manual_seed(config.seed))

        self.model = _fresh_model(config, samples)
        if prepare:
            prepare(self.model)
        self.model.to(self.device)
        self.first_step = self._first_step()
        self.optimizer = torch.optim.SGD(self.model.parameters(), self.first_step, config.momentum, weight_decay=config.weight_decay,
                                         fused=self.device.type in ("cpu", "cuda"))  # one pass over the weights instead of four

    def _here(self, samples: data.Dataset) -> tuple[Tensor, Tensor]:
        return samples.inputs.to(self.device), samples.targets.to(self.device)

    def _first_step(self) -> float:
        if self.config.of_limit is None:
            return self.config.learning_rate
        largest = probe(self.model, *self.probed, self.generator).lam_max.max().item()
        return self.config.of_limit * step_limit(largest, batch_size=self.config.batch_size, momentum=self.config.momentum)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        if self.config.schedule == "cosine":
            return self.first_step * ((1 + math.cos(math.pi * self.step / self.num_steps)) / 2)
        return self.first_step

    def measured(self) -> dict[str, float]:
        """The row of the trace that belongs here; a ``ValueError`` if the run has diverged."""
        row = measure(self.model, *self.probed, self.generator)
        require(math.isfinite(row["risk"] + row["energy"]), f"a risk of {row['risk']}", "a finite risk")
        for where, (inputs, targets) in self.judged.items():
            row[f"{where}_risk"], row[f"{where}_accuracy"] = self._judge(inputs, targets)
        return {"step": self.step, "epoch": self.step / self.steps_per_epoch, **row, "learning_rate": self.learning_rate}

    @torch.no_grad()
    def _judge(self, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """Mean loss and share of right answers."""
        outputs = torch.cat([self.model(some) for some in inputs.split(500)])
        right = outputs.argmax(-1) == targets
        return fenchel_young_loss(self.generator, targets, outputs).double().mean().item(), right.double().mean().item()

    def take_step(self) -> None:
        """One step of SGD, on the next batch."""
        batch = next(self.batches).to(self.device)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate
        self.optimizer.zero_grad()
        fenchel_young_loss(self.generator, self.targets[batch], self.model(self.inputs[batch])).mean().backward()
        self.optimizer.step()
        self.step += 1


def _samples(config: TrainConfig) -> tuple[data.Dataset, data.Dataset | None]:
    """What a run trains on, and what it holds out."""
    number = config.held_out or 0
    samples = data.load(config.dataset, size=config.size, limit=config.limit and config.limit + number, seed=config.seed)
    if not number:
        return samples, None
    require(number < len(samples), f"held_out={number}", f"fewer than the {len(samples)} samples of {config.dataset}'s training split")
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(config.seed))
    train_on, held_out = (dataclasses.replace(samples, inputs=samples.inputs[some], targets=samples.targets[some])
                           for some in (order[number:], order[:number]))
    return train_on, held_out


def _fresh_model(config: TrainConfig, samples: data.Dataset) -> nn.Module:
    """The network as the seed initializes it, whatever the global random state, which stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # `torch.manual_seed` would seed those of GPUs too
        channels, side = samples.inputs.shape[1:3]
        return models.build(config.model, samples.num_classes, channels, side, config.depth, config.width, config.skip, config.norm,
                            config.gain, config.sparsity)


def _batches(n: int, batch_size: int, random: torch.Generator) -> Iterator[Tensor]:
    """Batches of indices without end, reshuffled when all n are used up."""
    while True:
        yield from torch.randperm(n, generator=random).split(batch_size)


def measure(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Generator = SHANNON) -> dict[str, float]:
    """What the theory says about a model on some samples, as a dict of numbers.

    Args:
        model: An ``nn.Module`` whose samples do not interact.
        inputs: (n, ...).
        targets: Labels (n,).
        generator: Of the loss.

    Returns:
        ``risk``, ``energy`` and ``residual`` (means over the samples); ``lam_min`` and ``lam_max`` (extremes over the
        samples of the structure matrices' eigenvalues, on 1^⊥ for softmax, slug ``simplex-restriction``); ``p_min`` (the
        smallest predicted probability, nan without a simplex); ``grad_norm_sq`` of the risk; ``correlation`` ρ (slug
        ``gradient-correlation-factor``); ``lower`` and ``upper`` (slug ``risk-sandwich``, from means and extremes over the
        samples); ``lower_sharp`` and ``upper_sharp`` (slug ``risk-sandwich-sharp``; bounds sample by sample, averaged);
        ``accuracy``.

    Raises:
        ValueError: As ``structure.probe``.

    Example:
        >>> seen = measure(nn.Linear(2, 3), torch.ones(4, 2), torch.tensor([0, 1, 2, 2]))
        >>> seen["lower"] <= seen["risk"] <= seen["upper"]
        True
    """
    seen = probe(model, inputs, targets, generator)
    require(not targets.is_floating_point(), f"targets {shown(targets)}", "labels (n,), integers")
    with full_precision():
        outputs = model(inputs)
        risk = fenchel_young_loss(generator, targets, outputs).mean()
        gradients = torch.autograd.grad(risk, [p for p in model.parameters() if p.requires_grad])
    grad_norm_sq = sum(g.double().square().sum().item() for g in gradients)
    whole = together(seen)
    energy = whole.energy.item()
    lower, upper = risk_interval(whole, generator)
    lower_sharp, upper_sharp = risk_interval(seen, generator, outputs.shape[-1])
    return {"risk": whole.loss.item(), "energy": energy, "residual": whole.residual.item(), "lam_min": whole.lam_min.item(),
            "lam_max": whole.lam_max.item(), "p_min": whole.p_min.item() if generator.on_simplex else math.nan,
            "grad_norm_sq": grad_norm_sq, "correlation": grad_norm_sq / energy if energy else math.nan,
            "lower": lower.item(), "upper": upper.item(),
            "lower_sharp": lower_sharp.mean().item(), "upper_sharp": upper_sharp.mean().item(),
            "accuracy": (outputs.argmax(-1) == targets).double().mean().item()}


def find_device(name: str = "auto") -> torch.device:
    """The torch device of that name; "auto" is what the environment variable CLT_DEVICE names, else a GPU if there is one.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1" or another of torch's.

    Returns:
        A ``torch.device``.

    Raises:
        ValueError: If there is no such device here.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    require_kind("name", name, str, 'the name of a device, such as "cpu", or "auto"')
    given = f"the device {name!r}"
    if name == "auto":
        wanted = os.environ.get("CLT_DEVICE", "").strip()
        name = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
        given = f"the device {name!r}" + " in the variable CLT_DEVICE" * bool(wanted)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f'Given: {given}. Expected: "auto", "cpu", "cuda" or another of torch\'s.') from error
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    require(device.type != "cuda" or cards, f"{given}, but torch sees no GPU", '"cpu" or "auto"')
    require(device.type != "cuda" or (device.index or 0) < cards, f"{given}, but torch sees {cards} of them", f"up to cuda:{cards - 1}")
    require(device.type != "mps" or torch.backends.mps.is_available(), f"{given}, which this machine does not have", '"cpu" or "auto"')
    require(device.type != "meta", f"{given}, which computes nothing", '"cpu" or "auto"')
    return device


code_hash()  # now, while the files are what was imported
