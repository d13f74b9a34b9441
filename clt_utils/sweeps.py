"""Grids of training runs: cached, resumable, parallel, and recorded with their provenance for the chapters to read.

    python -m clt_utils.sweeps list            the sweeps of the book, how much of each is recorded and cached, and the time it took
    python -m clt_utils.sweeps run NAME        compute what is missing, and record it into book/results/NAME.json
    python -m clt_utils.sweeps verify NAME     repeat the beginning of random runs and compare it with what is recorded

NAME may also be ``mini``, all small ones on digits, ``all``, these and the ones on all digits, or ``paper``, the small ones on the
paper's data sets, which ``data`` reads or downloads. Those on whole data sets run by their names only, on a GPU if there is one.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import math
import random
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn
from tqdm.auto import tqdm

from ._checks import plain_list, real_array, require, require_integer, require_kind, require_name, require_on_axis, require_point
from .data import TORCHVISION, cache_folder, writable
from .provenance import code_hash, device_name, made_by, precision, read_record, write_json, write_record
from .training import Trace, TrainConfig, find_device, train

RESULTS = Path(__file__).resolve().parent.parent / "book" / "results"
"""Where runs are recorded; the files are part of the repository."""

ON_A_GPU = RESULTS / "h100.json"
"""Runs of the book's recipes that were made on a GPU, for cells that are worth one, where there is none."""

DIGITS = 6
"""Significant digits of a recorded number."""

EARLY = 0.05
"""The share of a run that is repeated to verify it. Processors round differently, training amplifies it, and after a while two of
them agree on nothing but the trend; see ``Sweep.verify``."""

NUDGES = {1: 15.0, 8: 2.5, 64: 2.5}
"""The beginning of a run is repeated with its weights nudged by so many times what rounding is; a record may differ by so many times what
this led to. The first shows how far rounding leads; it comes once and not at every step, hence the large multiple. The others meet the
kinks of the network that another processor may meet: there a run jumps, as far whatever pushed it."""

FLOOR = 3e-5
"""A record may always differ by so much, relative: it holds six digits, and a sum of many numbers is not rounded the same way twice."""


class Sweep:
    """A grid of training runs: every combination of the axes' values, each over all seeds.

    Args:
        name: What the recorded file is called.
        base: The recipe that all runs share.
        keep: Measurements recorded of each run, evenly spaced; None for all.
        **axes: Values of fields of ``TrainConfig``; ``seed`` is an axis too, but it does not make points.

    Raises:
        ValueError: On a name that no file can have, or an axis that is no field of the recipe, or no list of different values.

    Example:
        >>> sweep = Sweep("depths", TrainConfig(model="model-a"), depth=[2, 4], skip=[False, True], seed=range(5))
        >>> len(sweep.configs()), sweep.points()[1]
        (20, {'depth': 2, 'skip': True})
    """

    def __init__(self, name: str, base: TrainConfig, *, keep: int | None = None, **axes: Iterable[Any]) -> None:
        require_kind("name", name, str, "the name of a file")
        require(re.fullmatch(r"[\w.-]+", name), f"the name {name!r}", "letters, digits, '-', '_' and '.': it becomes the name of a file")
        require_kind("base", base, TrainConfig, "a `TrainConfig`, the recipe that all runs share")
        require_integer("keep", keep, 2, optional=True)
        lists = {axis: plain_list(axis, values) for axis, values in axes.items()}
        self.name, self.base, self.keep = name, base, keep
        self.seeds = lists.pop("seed", [base.seed])
        self.axes = lists
        self._runs: dict[TrainConfig, Trace] | None = None
        self.configs()  # a value that no recipe may have is refused here and not when it is to run

    def points(self) -> list[dict[str, Any]]:
        """Every combination of the axes but the seed, as dicts like ``{"depth": 2, "skip": True}``; the last axis runs fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def only(self, **fixed: Any) -> "Sweep":
        """The part of this sweep where these axes have these values, as a sweep over the other axes."""
        for axis, value in fixed.items():
            require_on_axis(axis, value, self.axes)
        rest = {axis: values for axis, values in self.axes.items() if axis not in fixed}
        return Sweep(self.name, self.base.replace(**fixed), keep=self.keep, seed=self.seeds, **rest)

    def configs(self, point: dict[str, Any] | None = None) -> list[TrainConfig]:
        """The recipes of a point, one for each seed; without a point those of the whole sweep."""
        if point is not None:
            require_point(point, self.axes)
        return [self.base.replace(**p, seed=seed) for p in ([point] if point is not None else self.points()) for seed in self.seeds]

    def run(self, workers: int = 2, dask: str | None = None, progress: bool = True) -> "Report":
        """Compute every run that is not in the cache; kill it at any moment and call it again.

        Every finished run is kept under ``cache_folder() / "sweeps"``. Processes that share this folder share the work: a
        run that another one computes is waited for, not repeated. A run that fails is reported and does not stop the rest.

        Args:
            workers: Processes on this machine; 1 computes in this one. Each uses one thread, so that results can be repeated.
            dask: Address of a Dask cluster to use instead, like "tcp://10.0.0.1:8786"; its workers need this package.
            progress: Show a progress bar with the time left.

        Returns:
            A ``Report``.
        """
        require_integer("workers", workers, 1)
        require_kind("dask", dask, (str, type(None)), "the address of a Dask cluster or None")
        require(dask is None or re.fullmatch(r".*\S:\d+", dask), f"dask={dask!r}", "an address with its port, like 'tcp://10.0.0.1:8786'")
        require_kind("progress", progress, bool, "True or False")
        configs = self.configs()
        outcomes = {config: _Outcome(config, "cached", trace) for config in configs if (trace := _from_cache(config))}
        with _backend(workers, dask) as parallel, tqdm(total=len(configs), initial=len(outcomes), unit="run", desc=self.name,
                                                       disable=not progress) as bar:
            for wait in (False, True):  # what another process is computing now is left for the end
                pending = [config for config in configs if config not in outcomes]
                for outcome in parallel(joblib.delayed(_compute)(config, wait, made_by()) for config in pending):
                    if outcome.kind == "busy":
                        continue
                    outcomes[outcome.config] = outcome
                    if outcome.kind == "failed":
                        tqdm.write(f"Failed: {_recipe(outcome.config)}\n{outcome.error}", file=sys.stderr)
                    elif not (kept := _folder() / outcome.file).exists():
                        write_json(kept, outcome.trace)  # computed by a cluster that has another disk
                    bar.update()
        self._runs = {config: Trace.from_dict(o.trace) for config, o in outcomes.items() if o.trace}
        return Report(*[tuple(c for c in configs if outcomes[c].kind == kind) for kind in ("computed", "cached", "failed")])

    def record(self) -> Path:
        """Write the runs of the last ``run`` to ``book/results``, thinned and rounded; refuses a sweep with gaps."""
        runs = self._runs or {}
        require(runs, "a sweep that did not run", "its runs", "Call `run()` first.")
        missing = [c for c in self.configs() if c not in runs]
        require(not missing, f"{len(missing)} of {len(self.configs())} runs missing, the first {_recipe(missing[0]) if missing else ''}",
                "all of them", "Look at the report of `run()`.")
        traces = [runs[c] if self.keep is None else runs[c].thin(self.keep) for c in self.configs()]
        write_record(self.file, {"sweep": self.name, "axes": self.axes, "seeds": self.seeds, "runs": [t.to_dict(DIGITS) for t in traces]})
        return self.file

    @property
    def file(self) -> Path:
        """Where the sweep is recorded."""
        return RESULTS / f"{self.name}.json"

    def load(self) -> dict[TrainConfig, Trace]:
        """The recorded runs, a dict from recipe to ``Trace``."""
        require(self.file.exists(), f"the sweep {self.name!r}, which is not recorded in {self.file.parent}", "a recorded sweep",
                f"Record it with `python -m clt_utils.sweeps run {self.name}`.", FileNotFoundError)
        traces = [Trace.from_dict(run) for run in read_record(self.file)["runs"]]
        return {trace.config: trace for trace in traces}

    def __getitem__(self, point: dict[str, Any]) -> list[Trace]:
        """The runs of a point, a list over the seeds, as last computed or else as recorded."""
        configs = self.configs(point)
        if self._runs is None:
            self._runs = self.load()
        found = [self._runs[config] for config in configs if config in self._runs]
        require(found, f"the point {point}, which is not recorded", f"values among {self.axes}", error=KeyError)
        return found

    def verify(self, count: int = 2, seed: int | None = None, whole: bool = False) -> list["Verified"]:
        """Repeat the beginning of some recorded runs from nothing, whatever is in the cache, and say whether the record stands.

        Two processors round differently, and training amplifies it, here by nothing and there by 10⁵ in twenty steps. So the
        yardstick is measured where it is used: each beginning is repeated once as it is, and with its first weights changed by
        as much as float32 rounds and by multiples of it, ``NUDGES``. At each measurement a column may differ from the record by
        a multiple of what these nudges did to it, or to the median column, up to then; by ``FLOOR`` it may always differ.

        Args:
            count: How many runs, drawn at random.
            seed: Of the draw; None for another one each time.
            whole: Repeat them to the end instead of the share ``EARLY``; the later, the less can be told from rounding.

        Returns:
            What was found of each run.
        """
        require_integer("count", count, 1)
        require_integer("seed", seed, optional=True)
        require_kind("whole", whole, bool, "True or False")
        recorded = self.load()
        chosen = random.Random(seed).sample(sorted(recorded, key=_recipe), min(count, len(recorded)))
        return [_verify_run(recorded[config], 1.0 if whole else EARLY) for config in chosen]


@dataclass(frozen=True)
class Verified:
    """What came of repeating the beginning of a recorded run.

    Attributes:
        config: Its recipe.
        measurements: How many were compared.
        last_step: The step of the last one.
        difference: The largest relative difference from the record.
        rounding: The largest that the nudges led to, here.
        excess: The largest difference as a multiple of what is allowed for its column and step; the record stands up to 1.

    Example:
        >>> verified = Verified(TrainConfig(), measurements=4, last_step=24, difference=2e-5, rounding=1e-5, excess=0.2)
        >>> verified.agrees
        True
    """

    config: TrainConfig
    measurements: int
    last_step: int
    difference: float
    rounding: float
    excess: float

    @property
    def agrees(self) -> bool:
        """Whether rounding can explain every difference."""
        return self.excess <= 1

    def __str__(self) -> str:
        return (f"{'agrees' if self.agrees else 'DIFFERS'}: {self.measurements} measurements up to step {self.last_step}, apart by "
                f"{self.difference:.1e} at most, {self.excess:.2g} times what is allowed; nudges lead to {self.rounding:.1e} "
                f"here: {_recipe(self.config)}")


def _verify_run(recorded: Trace, share: float) -> Verified:
    """Train again up to this share of the steps, two measurements at least, once as it was and a few times nudged."""
    length = max(2, int((recorded["step"] <= share * recorded["step"][-1]).sum()))
    expected = replace(recorded, columns={name: column[:length] for name, column in recorded.columns.items()})
    coarse = "tf32" in (recorded.provenance.get("precision"), precision(find_device(recorded.config.device)))
    again = _repeat(expected)
    rounding, allowed = 0.0, np.zeros(())
    for seed, (times, multiple) in enumerate(NUDGES.items()):
        nudged = _repeat(expected, _nudge(seed, times * 2.0 ** (-11 if coarse else -23)))
        led_to = np.maximum.accumulate(differences(again, nudged, expected["step"]), axis=1)
        rounding = max(rounding, float(led_to.max()))
        allowed = np.maximum(allowed, FLOOR + multiple * np.maximum(led_to, np.median(led_to, axis=0)))
    difference = differences(expected, again, expected["step"])
    excess = np.where(difference == 0, 0.0, difference / allowed)  # nothing can differ more than infinitely, nor be told from it
    return Verified(recorded.config, length, int(expected["step"][-1]), float(difference.max()), rounding,
                    float(np.nan_to_num(excess, nan=0.0, posinf=np.inf).max()))


def _repeat(recorded: Trace, prepare: Callable[[nn.Module], object] | None = None) -> Trace:
    """The same run again, up to the last step of this trace."""
    rows: list[dict[str, float]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a run that diverged does so again
        return _train_on_one_thread(recorded.config, on_probe=rows.append, prepare=prepare,
                                    should_stop=lambda: rows and rows[-1]["step"] >= recorded["step"][-1])


def _nudge(seed: int, size: float) -> Callable[[nn.Module], None]:
    """A function that multiplies every weight of a model by 1 + size·z, z standard normal."""
    def nudge(model: nn.Module) -> None:
        random_numbers = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weights in model.parameters():
                weights.mul_(1 + size * torch.randn(weights.shape, generator=random_numbers))
    return nudge


def live_or_recorded(sweep: Sweep, point: dict[str, Any], progress: bool = True) -> tuple[Trace, str]:
    """A run that is worth a GPU: trained here and now if torch sees one, else as it was recorded on one, or else as recorded.

    Args:
        sweep: A ``Sweep``.
        point: One of its points; its first seed is run.
        progress: Show a progress bar.

    Returns:
        The ``Trace``, and a sentence that says which of the three it is, where it was made and how long that took.

    Raises:
        KeyError: If there is no GPU, and the point is not recorded.
        FileNotFoundError: If there is no GPU, and no record of the sweep.

    Example:
        >>> trace, where = live_or_recorded(SWEEPS["lenet-digits"], {"loss": "squared"})
        >>> "recorded" in where.lower() or "here" in where
        True
    """
    require_kind("sweep", sweep, Sweep, "a `Sweep`")
    require_kind("progress", progress, bool, "True or False")
    config, device = sweep.configs(point)[0], find_device()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        trace = train(config.replace(device=str(device)), progress)
        memory = torch.cuda.max_memory_allocated(device) / 1e6
        return trace, f"Trained here, on {trace.provenance['device']}, in {trace.provenance['seconds']:.0f} s and {memory:,.0f} MB."
    found = [trace for trace in map(Trace.from_dict, read_record(ON_A_GPU)["runs"]) if _alike(trace.config, config)]
    if found:
        facts = found[0].provenance
        how = f" and {facts['memory_mb']:,.0f} MB" if facts["alone"] else " at most, as others shared the card"
        return found[0], f"No GPU here. Recorded on {facts['device']}, in {facts['seconds']:.0f} s{how}."
    trace = sweep[point][0]
    return trace, f"No GPU here, and none when it was recorded, in {trace.provenance['seconds']:.0f} s of one core of a processor."


def _alike(one: TrainConfig, other: TrainConfig) -> bool:
    """Whether two recipes differ in nothing but where they run and how often they are measured."""
    return one == other.replace(device=one.device, probes=one.probes)


def differences(first: Trace, second: Trace, steps: np.ndarray) -> np.ndarray:
    """How far two runs of one recipe are apart, column by column and step by step.

    Args:
        first: A ``Trace``.
        second: Another one.
        steps: The steps to compare at, (n,).

    Returns:
        (C, n), differences relative to the larger value, for all columns of ``first`` but the accuracy, a count that jumps by a
        whole sample where two outputs are equal up to rounding; inf where only one run was measured, or only one value is
        infinite or nan.

    Raises:
        TypeError: If one of the first two is no ``Trace``.
        ValueError: On steps that are no list.

    Example:
        >>> from clt_utils.training import train
        >>> trace = train(TrainConfig.mini(epochs=1, device="cpu"))
        >>> float(differences(trace, trace, trace["step"]).max())
        0.0
    """
    for name, trace in (("first", first), ("second", second)):
        require_kind(name, trace, Trace, "a `Trace`")
    steps = real_array("steps", steps)
    require(steps.ndim == 1, f"steps of shape {steps.shape}", "a list of steps (n,)")
    apart = []
    compared = [name for name in first.columns if name != "accuracy"]
    for name in compared:
        a, b = (dict(zip(trace["step"].tolist(), trace[name].tolist())) for trace in (first, second))
        apart.append([_apart(a.get(step), b.get(step)) for step in steps.tolist()])
    return np.array(apart)


def _apart(a: float | None, b: float | None) -> float:
    if a is None or b is None:  # not measured
        return 0.0 if a is b else math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) / max(abs(a), abs(b)) if math.isfinite(a) and math.isfinite(b) else math.inf


@dataclass(frozen=True)
class Report:
    """What became of a sweep's runs: tuples of recipes.

    Example:
        >>> print(Report(computed=(TrainConfig(),), cached=(), failed=()))
        1 computed, 0 from the cache, 0 failed
    """

    computed: tuple[TrainConfig, ...]
    cached: tuple[TrainConfig, ...]
    failed: tuple[TrainConfig, ...]

    def __str__(self) -> str:
        return f"{len(self.computed)} computed, {len(self.cached)} from the cache, {len(self.failed)} failed"


@dataclass(frozen=True)
class _Outcome:
    """What a worker sends back: ``kind`` is "computed", "cached", "busy" or "failed"; ``trace`` is a dict, ``file`` its cached file."""

    config: TrainConfig
    kind: str
    trace: dict | None = None
    file: str = ""
    error: str = ""


def _compute(config: TrainConfig, wait: bool, sender: dict[str, str]) -> _Outcome:
    """Return a run from the cache, or compute it and put it there; with ``wait`` let another process finish it first."""
    try:
        require(sender == made_by(), f"{made_by()} on this worker for a sweep started with {sender}", "the same code and versions on both",
                "Install the same version of this package and of these libraries on the cluster.")
        path = writable(_folder()) / _file_name(config)
        with FileLock(path.with_suffix(".lock"), timeout=-1 if wait else 0):  # the system frees it when a process is killed
            if trace := _from_cache(config):
                return _Outcome(config, "cached", trace, path.name)
            trace = _train_on_one_thread(config).to_dict()
            write_json(path, trace)
            return _Outcome(config, "computed", trace, path.name)
    except Timeout:
        return _Outcome(config, "busy")
    except Exception:
        return _Outcome(config, "failed", error=traceback.format_exc(limit=-3))


def _train_on_one_thread(config: TrainConfig, **options: Any) -> Trace:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(config, **options)
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _backend(workers: int, dask: str | None) -> Iterator[joblib.Parallel]:
    try:
        with joblib.parallel_config("dask", scheduler_host=dask) if dask else contextlib.nullcontext():
            yield joblib.Parallel(n_jobs=-1 if dask else workers, return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    except BrokenProcessPool as error:
        raise RuntimeError(f"Given: a worker that was killed, often by the system for lack of memory, with workers={workers}. Expected: "
                           "workers that live. What was finished is kept; run it again, with fewer workers.") from error


def _folder() -> Path:
    return cache_folder() / "sweeps"


def _file_name(config: TrainConfig) -> str:
    """The cached file of a run, named by its recipe and by all that makes its numbers: code, libraries, device."""
    try:
        device = device_name(find_device(config.device))
    except ValueError:  # it is not here; a worker of a cluster may have it
        device = config.device
    return hashlib.sha256(json.dumps([_recipe(config), made_by(), device]).encode()).hexdigest()[:16] + ".json"


def _from_cache(config: TrainConfig) -> dict[str, Any] | None:
    """The run of this recipe as a dict, or None: what cannot be read, is not whole or is another run's is not there."""
    try:
        saved = json.loads((_folder() / _file_name(config)).read_text(encoding="utf-8"))
        return saved if Trace.from_dict(saved).config == config else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _recipe(config: TrainConfig) -> str:
    return json.dumps(asdict(config), sort_keys=True)


# Models A and B on images of 12×12, one batch size and shape, from which the sweeps over one property start
_BLOCKS = TrainConfig.mini(model="model-a", size=12, depth=4, width=16, batch_size=4, probes=20, device="cpu")

_RESNET18 = TrainConfig.mini(model="resnet18", size=16, learning_rate=0.001, probes=80, device="cpu")
_VIT = TrainConfig.mini(model="vit", depth=4, width=64, size=16, probes=80, device="cpu")

OF_LIMIT = [1 / 64, 1 / 16, 0.25, 0.5, 1.0, 2.0, 4.0]

SWEEPS = {sweep.name: sweep for sweep in [
    Sweep("lenet-digits", TrainConfig.mini(device="cpu"), loss=["cross-entropy", "squared"], seed=range(5)),
    # two larger models on images of 16×16, so that a laptop records each in minutes; at ten times its step, LeNet's, ResNet-18
    # diverges with squared loss
    Sweep("resnet18-digits", _RESNET18, loss=["cross-entropy", "squared"], seed=range(5)),
    Sweep("vit-digits", _VIT, loss=["cross-entropy", "squared"], seed=range(5)),
    Sweep("architecture-digits", _BLOCKS, depth=[2, 4, 8], batch_size=[1, 4, 16], skip=[False, True], width=[4, 16],
          loss=["cross-entropy", "squared"], seed=range(5)),
    Sweep("width-digits", _BLOCKS, width=[4, 8, 16, 32], skip=[False, True], seed=range(5)),
    Sweep("gain-digits", _BLOCKS, gain=[0.5, 1.0, 1.5, 2.0], skip=[False, True], seed=range(5)),
    Sweep("sparsity-digits", _BLOCKS, sparsity=[0.0, 0.3, 0.6, 0.9], skip=[False, True], seed=range(5)),
    Sweep("norm-digits", _BLOCKS, norm=[None, "layer"], depth=[2, 4, 8], skip=[False, True], seed=range(5)),
    Sweep("sgd-digits", TrainConfig.mini(epochs=120, momentum=0.0, weight_decay=0.0, schedule="constant", probes=40, device="cpu"),
          batch_size=[1, 4, 16], learning_rate=[0.03, 0.1], loss=["cross-entropy", "squared"], seed=range(5)),
    # the preset "full": all digits, for a processor without a GPU on images of 16×16 again; one seed of ResNet-18 takes long enough
    Sweep("lenet-digits-full", TrainConfig.full(device="cpu"), loss=["cross-entropy", "squared"], seed=range(5)),
    Sweep("resnet18-digits-full", TrainConfig.full(model="resnet18", size=16, learning_rate=0.001, probes=40, device="cpu"),
          loss=["cross-entropy", "squared"]),
    Sweep("vit-digits-full", TrainConfig.full(model="vit", depth=4, width=64, size=16, device="cpu"),
          loss=["cross-entropy", "squared"], seed=range(5)),
    # depth apart from initialization: 1 is PyTorch's default, whose weights have a sixth of He's variance, √6 is He's
    Sweep("initialization-digits", _BLOCKS, depth=[2, 4, 8, 16], gain=[1.0, 2.0, math.sqrt(6)], skip=[False, True], seed=range(5)),
    # batch sizes at equal numbers of steps; where the step grows with the batch, read it along the diagonal
    Sweep("batch-digits", _BLOCKS.replace(steps=240), batch_size=[1, 4, 16], learning_rate=[0.0025, 0.01, 0.04], skip=[False, True],
          seed=range(5)),
    # steps below and above the limit that the first structure matrices name
    *(Sweep(f"step-{base.model}-digits", base.replace(probes=20), loss=["cross-entropy", "squared"], of_limit=OF_LIMIT,
            seed=range(seeds))
      for base, seeds in ((TrainConfig.mini(device="cpu"), 10), (_VIT, 10), (_RESNET18, 3))),
    # the paper's data sets at their own size: sixteen images of each, and LeNet on all; a hundred outputs cost ten times as much
    *(Sweep(f"{model}-{dataset}", TrainConfig.mini(model=model, dataset=dataset, learning_rate=step, probes=probes[dataset == "cifar100"]),
            loss=["cross-entropy", "squared"], seed=range(5))
      for model, step, probes in (("lenet", 0.01, (80, 80)), ("resnet18", 0.001, (40, 20)), ("vit", 0.001, (40, 20)))
      for dataset in TORCHVISION),
    *(Sweep(f"{model}-{dataset}-full", TrainConfig.full(model=model, dataset=dataset, learning_rate=step, held_out=2000),
            loss=["cross-entropy", "squared"], seed=range(3))
      for dataset in TORCHVISION for model, step in (("lenet", 0.01), ("resnet18", 0.001), ("vit", 0.001))),
]}
"""Every sweep of the book, by name."""


GROUPS: dict[str, Callable[[TrainConfig], bool]] = {
    "mini": lambda base: base.dataset == "digits" and base.limit is not None,
    "all": lambda base: base.dataset == "digits",
    "paper": lambda base: base.dataset != "digits" and base.limit is not None,
}
"""Names for several sweeps at once, by what they start from."""


def _named(name: str) -> list[Sweep]:
    """The sweeps that a name stands for: itself, or a group."""
    require_name("sweep", name, (*SWEEPS, *GROUPS))
    return [SWEEPS[name]] if name in SWEEPS else [sweep for sweep in SWEEPS.values() if GROUPS[name](sweep.base)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: Its words; those of this process by default.

    Returns:
        The exit status: 0 if all went well, 1 if a run failed or a record does not stand, 2 if nothing could be done.

    Example:
        >>> main(["verify", "no-such-sweep"])
        2
    """
    parser = argparse.ArgumentParser(prog="python -m clt_utils.sweeps", description="Compute, record and verify the book's sweeps.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is")
    run = commands.add_parser("run", help="compute what is missing and record it")
    run.add_argument("--workers", type=int, default=2, help="processes on this machine (default 2)")
    run.add_argument("--dask", metavar="ADDRESS", help="address of a Dask cluster to use instead")
    verify = commands.add_parser("verify", help="repeat the beginning of random runs and compare it with the record")
    verify.add_argument("--count", type=int, default=2, help="how many runs (default 2)")
    verify.add_argument("--whole", action="store_true", help="to their ends; the later, the less can be told from rounding")
    for command in (run, verify):
        command.add_argument("name", help=", ".join([*SWEEPS, *GROUPS]))
    options = parser.parse_args(arguments)
    if options.command == "list":
        for sweep in SWEEPS.values():
            print(_summary(sweep))
        return 0
    try:
        do = _run if options.command == "run" else _verify
        return max(do(sweep, options) for sweep in _named(options.name))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _summary(sweep: Sweep) -> str:
    configs = sweep.configs()
    recorded = sweep.load() if sweep.file.exists() else {}
    old = sum(trace.provenance["code"] != code_hash() for trace in recorded.values())
    cached = sum(_from_cache(config) is not None for config in configs)
    seconds = sum(trace.provenance["seconds"] for trace in recorded.values())
    return (f"{sweep.name}: {len(configs)} runs, {sum(c in recorded for c in configs)} recorded"
            f"{f' ({old} by other code)' if old else ''}{f' in {seconds:.0f} s of one core' if recorded else ''}, {cached} cached")


def _run(sweep: Sweep, options: argparse.Namespace) -> int:
    started = time.perf_counter()
    report = sweep.run(options.workers, options.dask)
    print(f"{sweep.name}: {report}, in {time.perf_counter() - started:.0f} s")
    if not report.failed:
        print(f"recorded in {sweep.record()}")
    return 1 if report.failed else 0


def _verify(sweep: Sweep, options: argparse.Namespace) -> int:
    found = sweep.verify(options.count, whole=options.whole)
    print(*found, sep="\n")
    return 0 if all(verified.agrees for verified in found) else 1


if __name__ == "__main__":
    # by its own name, so that what is sent to other processes is found there and not in their __main__
    from clt_utils.sweeps import main as run_main

    sys.exit(run_main())
