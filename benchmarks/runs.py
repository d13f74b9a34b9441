"""Runs of the book's recipes that are worth a GPU, for the cells that show them where there is none.

One after the other, the quick ones first; each is kept when it is finished, and those that are there are not run again.

    python benchmarks/runs.py run FOLDER              # what is missing in FOLDER, one file a run, on the device that CLT_DEVICE names
    python benchmarks/runs.py run FOLDER --shared     # the same while other processes use the card, which the record then says
    python benchmarks/runs.py run FOLDER --small      # on sixteen images only
    python benchmarks/runs.py run FOLDER --only NAME  # of one sweep
    python benchmarks/runs.py collect FOLDER          # writes book/results/h100.json from them; what was there stays if it is not in FOLDER
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from clt_utils.provenance import read_record, write_json, write_record
from clt_utils.sweeps import DIGITS, ON_A_GPU, SWEEPS, _alike
from clt_utils.training import Trace, find_device, train

LOSSES = ("cross-entropy", "squared")

RUNS = [("resnet18-cifar10", "cross-entropy"), ("resnet18-cifar10", "squared"), ("resnet18-mnist", "squared"),
        ("resnet18-fashion-mnist", "cross-entropy"), ("vit-cifar10", "cross-entropy"),
        *((f"{model}-cifar10-full", loss) for loss in LOSSES for model in ("resnet18", "vit"))]
"""Sweep and loss; of each the first seed. The first five are those that a chapter trains live where there is a GPU."""


def one(name: str, loss: str, alone: bool) -> Trace:
    """A run, with the most memory that it took on the card and whether it had the card for itself."""
    device = find_device()
    config = SWEEPS[name].configs({"loss": loss})[0].replace(device=str(device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trace = train(config)
    memory = round(torch.cuda.max_memory_allocated(device) / 1e6, 1) if device.type == "cuda" else None
    return replace(trace, provenance=trace.provenance | {"memory_mb": memory, "alone": alone})


def run(folder: Path, names: set[str], alone: bool) -> None:
    """Compute what is missing of these sweeps in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, loss in RUNS:
        file = folder / f"{name}-{loss}.json"
        if file.exists() or name not in names:
            continue
        trace = one(name, loss, alone)
        write_json(file, trace.to_dict(DIGITS))
        print(f"{name}, {loss}: {trace.provenance['seconds']:.1f} s, {trace.provenance['memory_mb']} MB, risk "
              f"{trace['risk'][0]:.4g} to {trace['risk'][-1]:.4g} {trace.stopped}", flush=True)


def collect(folder: Path) -> None:
    """Put what is in the folder into the record, in place of older runs of the same recipe."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    found = [Trace.from_dict(run).config for run in runs]
    old = read_record(ON_A_GPU)["runs"] if ON_A_GPU.exists() else []
    kept = [run for run in old if not any(_alike(Trace.from_dict(run).config, config) for config in found)]
    write_record(ON_A_GPU, {"runs": sorted(kept + runs, key=lambda run: json.dumps(run["config"]))})
    print(f"{len(runs)} runs written, {len(kept)} kept in {ON_A_GPU}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("run", "collect"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=sorted({name for name, _ in RUNS}))
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.command == "run":
        names = {options.only} if options.only else {name for name, _ in RUNS if not (options.small and SWEEPS[name].base.limit is None)}
        run(options.folder, names, not options.shared)
    else:
        collect(options.folder)


if __name__ == "__main__":
    main()
