"""Grids of training runs: cached, resumable, parallel, and recorded with their provenance for the chapters to read.

    python -m clt_utils.sweeps list            the sweeps of the book, how much of each is recorded and cached, and the time it took
    python -m clt_utils.sweeps run NAME        compute what is missing, and record it into book/results/NAME.json
    python -m clt_utils.sweeps verify NAME     recompute random runs and compare them with what is recorded

NAME may also be ``mini``, all small ones, or ``all``, these and the ones on all digits. The sweeps on the paper's own data sets,
which are downloaded, run by their names only, on a GPU if there is one.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ._checks import require, require_name
from .data import cache_folder
from .training import FIELDS, Trace, TrainConfig, code_hash, train

RESULTS = Path(__file__).resolve().parent.parent / "book" / "results"
"""Where runs are recorded; the files are part of the repository."""

DIGITS = 6
"""Significant digits of a recorded number."""

EARLY = 0.05
"""The share of a run that is repeated to verify it. A machine repeats its own runs, but another may round differently, and
training amplifies it. The small runs of the book were recorded on two days, with the same code, versions, threads and kind of
processor as far as the record tells: most agreed to the end, some did not, and of those with a long step and single samples
three learned on one day only. Early on all agreed."""

TOLERANCE = 0.01
"""What ``compare`` may say of the early part of a recorded run and the same part repeated elsewhere; 0.0011 was the largest seen."""


class Sweep:
    """A grid of training runs: every combination of the axes' values, each over all seeds.

    Args:
        name: What the recorded file is called.
        base: The recipe that all runs share.
        keep: Measurements recorded of each run, evenly spaced; None for all.
        **axes: Values of fields of ``TrainConfig``; ``seed`` is an axis too, but it does not make points.
    """

    def __init__(self, name: str, base: TrainConfig, *, keep: int | None = None, **axes: Iterable[Any]) -> None:
        for axis, values in axes.items():
            require_name("axis", axis, FIELDS)
            require(not isinstance(values, str) and len(list(values)) > 0, f"{axis}={values!r}", "a list of values")
        self.name, self.base, self.keep = name, base, keep
        self.seeds = list(axes.pop("seed", [base.seed]))
        self.axes = {axis: list(values) for axis, values in axes.items()}
        self._runs: dict[TrainConfig, Trace] | None = None

    def points(self) -> list[dict[str, Any]]:
        """Every combination of the axes but the seed, as dicts like ``{"depth": 2, "skip": True}``; the last axis runs fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def only(self, **fixed: Any) -> "Sweep":
        """The part of this sweep where these axes have these values, as a sweep over the other axes."""
        for axis, value in fixed.items():
            require(value in self.axes.get(axis, ()), f"{axis}={value!r}", f"an axis and one of its values, of {self.axes}")
        rest = {axis: values for axis, values in self.axes.items() if axis not in fixed}
        return Sweep(self.name, self.base.replace(**fixed), keep=self.keep, seed=self.seeds, **rest)

    def configs(self, point: dict[str, Any] | None = None) -> list[TrainConfig]:
        """The recipes of a point, one for each seed; without a point those of the whole sweep."""
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
        configs = self.configs()
        outcomes = {config: _cached_outcome(config) for config in configs if _cached(config).exists()}
        with _backend(workers, dask) as parallel, tqdm(total=len(configs), initial=len(outcomes), unit="run", desc=self.name,
                                                       disable=not progress) as bar:
            for wait in (False, True):  # what another process is computing now is left for the end
                pending = [config for config in configs if config not in outcomes]
                for outcome in parallel(joblib.delayed(_compute)(config, wait, code_hash()) for config in pending):
                    if outcome.kind == "busy":
                        continue
                    outcomes[outcome.config] = outcome
                    if outcome.kind == "failed":
                        tqdm.write(f"Failed: {_recipe(outcome.config)}\n{outcome.error}", file=sys.stderr)
                    elif not _cached(outcome.config).exists():
                        _write(_cached(outcome.config), outcome.trace)  # computed by a cluster that has another disk
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
        _write(self.file, {"sweep": self.name, "axes": self.axes, "seeds": self.seeds, "runs": [t.to_dict(DIGITS) for t in traces]})
        return self.file

    @property
    def file(self) -> Path:
        """Where the sweep is recorded."""
        return RESULTS / f"{self.name}.json"

    def load(self) -> dict[TrainConfig, Trace]:
        """The recorded runs, a dict from recipe to ``Trace``."""
        require(self.file.exists(), f"the sweep {self.name!r}, which is not recorded in {self.file.parent}", "a recorded sweep",
                f"Record it with `python -m clt_utils.sweeps run {self.name}`.", FileNotFoundError)
        traces = [Trace.from_dict(run) for run in json.loads(self.file.read_text(encoding="utf-8"))["runs"]]
        return {trace.config: trace for trace in traces}

    def __getitem__(self, point: dict[str, Any]) -> list[Trace]:
        """The runs of a point, a list over the seeds, as last computed or else as recorded."""
        for axis in point:
            require_name("axis", axis, tuple(self.axes))
        require(set(point) == set(self.axes), f"a point with {sorted(point)}", f"a value for each of {list(self.axes)}")
        if self._runs is None:
            self._runs = self.load()
        found = [self._runs[config] for config in self.configs(point) if config in self._runs]
        require(found, f"the point {point}, which is not recorded", f"values among {self.axes}", error=KeyError)
        return found

    def verify(self, count: int = 2, seed: int | None = None, whole: bool = False) -> list[tuple[TrainConfig, float]]:
        """Recompute the early part of some recorded runs from nothing, whatever is in the cache.

        Args:
            count: How many runs, drawn at random.
            seed: Of the draw; None for another one each time.
            whole: Recompute them to the end, to compare with a record from the same machine, see ``EARLY``.

        Returns:
            A list of (recipe, ``compare``'s number); at most ``TOLERANCE`` if the record stands.
        """
        recorded = self.load()
        chosen = random.Random(seed).sample(sorted(recorded, key=_recipe), min(count, len(recorded)))
        return [(config, _recompute(recorded[config], 1.0 if whole else EARLY)) for config in chosen]


def _recompute(recorded, share):
    """Train again up to this share of the steps, two measurements at least, and compare."""
    length = max(2, int((recorded["step"] <= share * recorded["step"][-1]).sum()))
    rows: list[dict[str, float]] = []
    again = _train_on_one_thread(recorded.config, on_probe=rows.append,
                                 should_stop=lambda: rows and rows[-1]["step"] >= recorded["step"][length - 1])
    return compare(replace(recorded, columns={name: column[:length] for name, column in recorded.columns.items()}), again)


def compare(expected: Trace, actual: Trace) -> float:
    """How far two runs of one recipe are apart: the largest relative difference over all columns, a few moments aside.

    Where a run passes close to a kink, or its mean gradient close to zero, rounding that differs between two machines shows
    for a moment; so of each column the 5 % of measurements that differ most are left out.

    Args:
        expected: A ``Trace``.
        actual: Another one, measured at all of its steps or more.

    Returns:
        The difference relative to the larger value; inf if a step is missing or one value is infinite and the other not.
    """
    _, mine, theirs = np.intersect1d(expected["step"], actual["step"], return_indices=True)
    if len(mine) < len(expected):
        return np.inf
    worst = 0.0
    for name in expected.columns:
        a, b = expected[name][mine], actual[name][theirs]
        with np.errstate(invalid="ignore"):
            gap = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.nan_to_num(gap, nan=np.inf))
        worst = max(worst, float(np.quantile(gap, 0.95, method="higher")))
    return worst


@dataclass(frozen=True)
class Report:
    """What became of a sweep's runs: tuples of recipes."""

    computed: tuple[TrainConfig, ...]
    cached: tuple[TrainConfig, ...]
    failed: tuple[TrainConfig, ...]

    def __str__(self) -> str:
        return f"{len(self.computed)} computed, {len(self.cached)} from the cache, {len(self.failed)} failed"


@dataclass(frozen=True)
class _Outcome:
    """What a worker sends back: ``kind`` is "computed", "cached", "busy" or "failed"; ``trace`` is a dict."""

    config: TrainConfig
    kind: str
    trace: dict | None = None
    error: str = ""


def _compute(config, wait, code):
    """Return a run from the cache, or compute it and put it there; with ``wait`` let another process finish it first."""
    try:
        require(code == code_hash(), f"code {code_hash()} on this worker for a sweep started with code {code}", "the same code on both",
                "Install the same version of this package on the cluster.")
        path = _cached(config)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=-1 if wait else 0):  # the system frees it when a process is killed
            if path.exists():
                return _cached_outcome(config)
            trace = _train_on_one_thread(config).to_dict()
            _write(path, trace)
            return _Outcome(config, "computed", trace)
    except Timeout:
        return _Outcome(config, "busy")
    except Exception:
        return _Outcome(config, "failed", error=traceback.format_exc(limit=-3))


def _cached_outcome(config):
    return _Outcome(config, "cached", json.loads(_cached(config).read_text(encoding="utf-8")))


def _train_on_one_thread(config, **options):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(config, **options)
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _backend(workers, dask):
    with joblib.parallel_config("dask", scheduler_host=dask) if dask else contextlib.nullcontext():
        yield joblib.Parallel(n_jobs=-1 if dask else workers, return_as="generator_unordered", batch_size=1, pre_dispatch="all")


def _cached(config):
    """The file of a run, named by its recipe and the code that computes it."""
    key = hashlib.sha256(f"{_recipe(config)} {code_hash()}".encode()).hexdigest()[:16]
    return cache_folder() / "sweeps" / f"{key}.json"


def _recipe(config):
    return json.dumps(asdict(config), sort_keys=True)


def _write(path, content):
    """Write JSON so that the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False), encoding="utf-8")
    os.replace(part, path)


# Models A and B on images of 12×12, one batch size and shape, from which the sweeps over one property start
_BLOCKS = TrainConfig.mini(model="model-a", size=12, depth=4, width=16, batch_size=4, probes=20, device="cpu")

SWEEPS = {sweep.name: sweep for sweep in [
    Sweep("lenet-digits", TrainConfig.mini(device="cpu"), loss=["cross-entropy", "squared"], seed=range(5)),
    # two larger models on images of 16×16, so that a laptop records each in minutes; at ten times its step, LeNet's, ResNet-18
    # diverges with squared loss
    Sweep("resnet18-digits", TrainConfig.mini(model="resnet18", size=16, learning_rate=0.001, probes=80, device="cpu"),
          loss=["cross-entropy", "squared"], seed=range(5)),
    Sweep("vit-digits", TrainConfig.mini(model="vit", depth=4, width=64, size=16, probes=80, device="cpu"),
          loss=["cross-entropy", "squared"], seed=range(5)),
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
    # the paper's data sets, which are downloaded; recorded where there is a network connection and a GPU
    *(Sweep(f"{model}-{dataset}-full", TrainConfig.full(model=model, dataset=dataset, learning_rate=step),
            loss=["cross-entropy", "squared"], seed=range(3))
      for dataset in ("mnist", "fashion-mnist", "cifar10", "cifar100")
      for model, step in (("lenet", 0.01), ("resnet18", 0.001), ("vit", 0.01))),
]}
"""Every sweep of the book, by name."""


def _named(name):
    """The sweeps that a name stands for: itself, or a group of those that need no download."""
    require_name("sweep", name, (*SWEEPS, "mini", "all"))
    own = {key: sweep for key, sweep in SWEEPS.items() if sweep.base.dataset == "digits"}
    groups = {"all": list(own.values()), "mini": [sweep for sweep in own.values() if sweep.base.limit is not None]}
    return groups.get(name) or [SWEEPS[name]]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clt_utils.sweeps", description="Compute, record and verify the book's sweeps.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is")
    run = commands.add_parser("run", help="compute what is missing and record it")
    run.add_argument("--workers", type=int, default=2, help="processes on this machine (default 2)")
    run.add_argument("--dask", metavar="ADDRESS", help="address of a Dask cluster to use instead")
    verify = commands.add_parser("verify", help="recompute random runs and compare them with the record")
    verify.add_argument("--count", type=int, default=2, help="how many runs (default 2)")
    verify.add_argument("--whole", action="store_true", help="to their ends, for a record made on this machine")
    for command in (run, verify):
        command.add_argument("name", help=", ".join([*SWEEPS, "mini", "all"]))
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


def _summary(sweep):
    configs = sweep.configs()
    recorded = sweep.load() if sweep.file.exists() else {}
    old = sum(trace.provenance["code"] != code_hash() for trace in recorded.values())
    cached = sum(_cached(config).exists() for config in configs)
    seconds = sum(trace.provenance["seconds"] for trace in recorded.values())
    return (f"{sweep.name}: {len(configs)} runs, {sum(c in recorded for c in configs)} recorded"
            f"{f' ({old} by other code)' if old else ''}{f' in {seconds:.0f} s of one core' if recorded else ''}, {cached} cached")


def _run(sweep, options):
    started = time.perf_counter()
    report = sweep.run(options.workers, options.dask)
    print(f"{sweep.name}: {report}, in {time.perf_counter() - started:.0f} s")
    if not report.failed:
        print(f"recorded in {sweep.record()}")
    return 1 if report.failed else 0


def _verify(sweep, options):
    status = 0
    for config, gap in sweep.verify(options.count, whole=options.whole):
        print(f"{'agrees' if gap <= TOLERANCE else 'DIFFERS'}, largest relative difference {gap:.1e}: {_recipe(config)}")
        status |= gap > TOLERANCE
    return int(status)


if __name__ == "__main__":
    # by its own name, so that what is sent to other processes is found there and not in their __main__
    from clt_utils.sweeps import main as run_main

    sys.exit(run_main())
