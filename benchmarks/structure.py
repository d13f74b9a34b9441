"""What the structure engine costs against every other way to get the same matrices.

One run, all methods interleaved, medians and ratios; time, peak memory and agreement with float64.

    python benchmarks/structure.py            # every case; writes book/results/structure-benchmark.json
    python benchmarks/structure.py --quick    # LeNet and Model B only; prints, writes nothing
"""

import argparse
import copy
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from clt_utils.models import build
from clt_utils.structure import structure_matrix

RESULT = Path(__file__).parents[1] / "book" / "results" / "structure-benchmark.json"
CASES = [("lenet", 1, 28, 10, (1, 16, 64)), ("model-b", 1, 28, 10, (16, 64)), ("resnet18", 3, 32, 10, (1, 16)),
         ("resnet18", 3, 32, 100, (1,)), ("vit", 3, 32, 10, (1, 16))]
"""Model, channels, image size, K, batches."""


def ours(model, x):
    return structure_matrix(model, x)


def train_step(model, x):
    model(x).logsumexp(1).mean().backward()
    model.zero_grad()


def data_sweeps(model, x):
    """K backward passes that reach the first layer's output but no weight: the lower limit."""
    first = next(m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    taps = []
    hook = first.register_forward_hook(lambda module, inputs, output: taps.append(output.requires_grad_()))
    outputs = model.requires_grad_(False)(x)
    hook.remove()
    for f in outputs.T:
        torch.autograd.grad(f.sum(), taps, retain_graph=True)
    model.requires_grad_(True)


def full_backwards(model, x):
    """K backward passes to all weights, summed over the batch: the wrong quantity, but the natural yardstick."""
    outputs = model(x)
    for f in outputs.T:
        torch.autograd.grad(f.sum(), list(model.parameters()), retain_graph=True)


def vmap_jacrev(model, x):
    """torch.func: the Jacobian of all samples at once, then the contraction."""
    params = dict(model.named_parameters())
    jacobian = vmap(jacrev(lambda p, x: functional_call(model, p, (x[None],))[0]), in_dims=(None, 0))(params, x)
    return sum(torch.bmm(j, j.mT) for j in (j.detach().flatten(2) for j in jacobian.values()))


def one_by_one(model, x):
    """The same one sample at a time, which needs less memory."""
    return torch.cat([vmap_jacrev(model, one) for one in x.split(1)])


def batched_grads(model, x):
    """One sample at a time, K vector-Jacobian products in one batched backward pass."""
    grams = []
    for one in x.split(1):
        outputs = model(one)
        rows = torch.autograd.grad(outputs, list(model.parameters()), torch.eye(outputs.shape[1])[:, None].to(x),
                                   is_grads_batched=True)
        grams.append(sum(r.flatten(1) @ r.flatten(1).T for r in rows))
    return torch.stack(grams)


def per_parameter(model, x):
    """The public practice: autograd.functional.jacobian for each parameter of a copy of the model, then singular values."""
    model, grams = copy.deepcopy(model), []
    for one in x.split(1):
        gram = 0
        for name, p in model.named_parameters():
            j = torch.autograd.functional.jacobian(lambda q: functional_call(model, {name: q}, (one,))[0], p.detach()).flatten(1)
            gram = gram + j @ j.T
        torch.linalg.svdvals(gram)
        grams.append(gram)
    return torch.stack(grams)


METHODS = {f.__name__: f for f in (ours, train_step, data_sweeps, full_backwards, vmap_jacrev, one_by_one, batched_grads,
                                   per_parameter)}
PEERS = ("vmap_jacrev", "one_by_one", "batched_grads")


def fits(method, model, batch, K):
    """Leave out what takes minutes or gigabytes."""
    if method == "vmap_jacrev":
        return 4 * batch * K * sum(p.numel() for p in model.parameters()) < 1e9
    return method != "per_parameter" or batch * len(list(model.parameters())) * K <= 16 * 10 * 10


def measure(name, channels, size, K, batch, repeats):
    torch.manual_seed(0)
    model, x = build(name, K, channels, size), torch.randn(batch, channels, size, size)
    for p in model.parameters():
        p.data += 0.01 * torch.randn_like(p)  # the head of a fresh vit is zero
    chosen = [m for m in METHODS if fits(m, model, batch, K)]
    truth = structure_matrix(model, x[:2], dtype=torch.float64)
    times, error = {m: [] for m in chosen}, {}
    for method in chosen:
        found = METHODS[method](model, x)  # also a warm-up
        if found is not None and method != "train_step":
            error[method] = float((found[:2].double() - truth).abs().max() / truth.abs().max())
    for _ in range(repeats):
        for method in chosen:
            start = time.perf_counter()
            METHODS[method](model, x)
            times[method].append(1e3 * (time.perf_counter() - start))
    median = {m: statistics.median(t) for m, t in times.items()}
    peer = min((m for m in PEERS if m in median), key=median.get)
    ratios = {f"ours / {m}": median["ours"] / median[m] for m in ("train_step", "data_sweeps", "full_backwards")}
    ratios |= {f"{m} / ours": median[m] / median["ours"] for m in (peer, "per_parameter") if m in median}
    return {"model": name, "K": K, "batch": batch, "parameters": sum(p.numel() for p in model.parameters()), "repeats": repeats,
            "median_ms": {m: round(t, 3) for m, t in median.items()}, "min_ms": {m: round(min(t), 3) for m, t in times.items()},
            "error": {m: float(f"{e:.1e}") for m, e in error.items()}, "best_peer": peer,
            "ratios": {what: round(ratio, 2) for what, ratio in ratios.items()}}


MEMORY = """
import sys, torch
sys.path.insert(0, {here!r})
import structure as bench

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

name, channels, size, K, batch, method = {case!r}
torch.manual_seed(0)
model, x = bench.build(name, K, channels, size), torch.randn(batch, channels, size, size)
model(x[:1]).sum().backward()
before = peak()
bench.METHODS[method](model, x)
print((peak() - before) / 1024)
"""


def peak_megabytes(*case):
    """Growth of the peak resident memory above the model, in a fresh process (Linux)."""
    code = MEMORY.format(here=str(Path(__file__).parent), case=case)
    return round(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="LeNet and Model B only; write nothing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    provenance = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine(),
                  "threads": options.threads, "load": os.getloadavg()[0], "date": datetime.date.today().isoformat()}
    rows = []
    for name, channels, size, K, batches in CASES[:2] if options.quick else CASES:
        for batch in batches:
            row = measure(name, channels, size, K, batch, 9 if name in ("lenet", "model-b") else 3)
            rows.append(row)
            if not options.quick:
                row["peak_mb"] = {m: peak_megabytes(name, channels, size, K, batch, m) for m in ("ours", row["best_peer"])}
                RESULT.write_text(json.dumps({"provenance": provenance, "cases": rows}, indent=1) + "\n")
            times = ", ".join(f"{m} {t:.1f}" for m, t in row["median_ms"].items())
            print(f"{name} K={K} B={batch}: {times} ms", row["ratios"], row.get("peak_mb", ""), flush=True)


if __name__ == "__main__":
    main()
