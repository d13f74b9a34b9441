"""What the structure engine costs against every other way to get the same matrices.

One run, all methods interleaved, medians and ratios; time, peak memory, agreement with float64, and how much arithmetic it takes.
Peers that are not installed are left out, and said so; ``requirements.txt`` beside this file names them.

    python benchmarks/structure.py                  # every case; writes book/results/structure-benchmark.json
    python benchmarks/structure.py --quick          # LeNet and Model B only; prints, writes nothing
    python benchmarks/structure.py --device cuda    # on a GPU, with cases of its own; writes structure-benchmark-cuda.json
"""

import argparse
import copy
import datetime
import functools
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from clt_utils.models import build
from clt_utils.provenance import device_name, precision, processor, write_record
from clt_utils.structure import probe, structure_matrix
from clt_utils.training import find_device

RESULTS = Path(__file__).parents[1] / "book" / "results"
RECORDS = {"cpu": "structure-benchmark.json", "cuda": "structure-benchmark-cuda.json"}
CASES = [("lenet", 1, 28, 10, (1, 16, 64)), ("model-b", 1, 28, 10, (1, 16, 64)), ("resnet18", 3, 32, 10, (1, 16, 64)),
         ("resnet18", 3, 32, 100, (1,)), ("vit", 3, 32, 10, (1, 16, 64))]
"""Model, channels, image size, K, batches."""

CUDA_CASES = [("lenet", 1, 28, 10, (16, 64, 1024)), ("model-b", 1, 28, 10, (16, 64)), ("resnet18", 3, 32, 10, (1, 16, 64)),
              ("resnet18", 3, 32, 100, (1, 16)), ("vit", 3, 32, 10, (1, 16, 64))]
"""The same for a GPU, which wants more at a time."""


# --- where it runs ----------------------------------------------------------------------------------------------------------

class Processor:
    """The CPU: work is done when a call returns, and memory is what a process of its own grows by.

    Attributes:
        device: Where models and inputs live.
        cases: What is measured.
        numbers: How many numbers of a Jacobian a method may hold at once.
        patience: A method that took so many milliseconds in one case is not repeated again.
        warm_ups: Calls before those that count.
    """

    cases, numbers, patience, warm_ups = CASES, 2.5e8, float("inf"), 1

    def __init__(self, device):
        self.device = device

    def milliseconds(self, run, *args):
        """How long a call takes until its work is done."""
        self.finish()
        start = time.perf_counter()
        run(*args)
        self.finish()
        return 1e3 * (time.perf_counter() - start)

    def finish(self):
        """Wait for work that was handed over."""

    def too_long(self, method, batch, numbers):
        """Why a method is not waited for, or None."""
        slow = (batch == 64 and numbers > 1e9 and method in PEERS) or (method == "curvlinops" and numbers > 5e8)
        return "takes minutes, as it goes sample by sample" if slow else None

    def megabytes(self, case, row, model, x):
        """Peak memory above the model, of ours and of the best peer, each in a process of its own."""
        methods = {"ours", row["best_peer"]} - {None, "neural_tangents"}
        return {m: peak_megabytes(*case, m) for m in sorted(methods)}


class Card(Processor):
    """A GPU: calls return before their work is done, and torch counts what it holds there."""

    # a card is borrowed; and the engine's second call has larger blocks than its first, whose new shapes take the card's libraries seconds
    cases, patience, warm_ups = CUDA_CASES, 2000.0, 2

    def __init__(self, device):
        super().__init__(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # for the peers; the engine sees to it itself
        self.numbers = torch.cuda.mem_get_info(device)[0] / 8  # float32, and as much again for what it is made of

    def finish(self):
        torch.cuda.synchronize(self.device)

    def too_long(self, method, batch, numbers):
        if method == "per_parameter":
            return "takes many seconds, as it goes parameter by parameter"
        slow = batch > 64 and method in ("one_by_one", "batched_grads", "curvlinops")
        return "takes many seconds, as it goes sample by sample" if slow else None

    def megabytes(self, case, row, model, x):
        """Peak memory on the card above what is there before the call, of every method."""
        peaks = {}
        for method in row["median_ms"]:
            self.finish()
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            METHODS[method](model, x)
            self.finish()
            peaks[method] = round((torch.cuda.max_memory_allocated(self.device) - before) / 2**20, 1)
        return peaks


MACHINES = {"cpu": Processor, "cuda": Card}


# --- methods ----------------------------------------------------------------------------------------------------------------

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
    return contracted(jacobian.values())


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


def few(model, x, K):
    """As many samples at a time as keep K gradients of each below 400 MB."""
    return x.split(max(1, int(1e8 // (K * sum(p.numel() for p in model.parameters())))))


def contracted(rows):
    """Per-sample gradients (b, K, *shape), one tensor a parameter -> (b, K, K)."""
    return sum(torch.bmm(r, r.mT) for r in (r.detach().flatten(2) for r in rows))


@functools.cache
def extended(model):
    from backpack import extend
    return extend(copy.deepcopy(model), use_converter=not isinstance(model, nn.Sequential)), extend(nn.MSELoss(reduction="sum"))


def backpack(model, x):
    """BackPACK: the square root of the Gauss-Newton matrix of ‖f‖², which is √2 J, for all samples in one backward pass."""
    from backpack import backpack, extensions
    copied, loss = extended(model)
    outputs = copied(x)
    with backpack(extensions.SqrtGGNExact()):
        loss(outputs, torch.zeros_like(outputs)).backward()
    gram = contracted(p.sqrt_ggn_exact.transpose(0, 1) for p in copied.parameters()) / 2
    copied.zero_grad()
    for p in copied.parameters():
        del p.sqrt_ggn_exact
    return gram


@functools.cache
def graded(model):
    from opacus.grad_sample import GradSampleModule
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # its hooks ask for that
    return GradSampleModule(model, loss_reduction="sum")


def opacus(model, x):
    """Opacus: per-sample gradients, with K copies of each sample so that one pass gives all K rows."""
    wrapped, grams = graded(model), []
    K = model(x[:1]).shape[1]
    for some in few(model, x, K):
        outputs = wrapped(some.repeat_interleave(K, 0)).view(len(some), K, K)
        outputs.diagonal(dim1=1, dim2=2).sum().backward()
        grams.append(contracted(p.grad_sample.unflatten(0, (len(some), K)) for p in wrapped.parameters()))
        wrapped.zero_grad()
    return torch.cat(grams)


def curvlinops(model, x):
    """curvlinops: the transposed Jacobian as a linear operator, applied to the K unit vectors of each sample."""
    from curvlinops import TransposedJacobianLinearOperator
    params, grams = list(model.parameters()), []
    K = model(x[:1]).shape[1]
    for one in x.split(1):
        operator = TransposedJacobianLinearOperator(model, params, [(one, one.new_zeros(1, K))], check_deterministic=False)
        columns = operator @ torch.eye(K).to(x)
        grams.append(columns.T @ columns)
    return torch.stack(grams).detach()


def neural_tangents(model, x):
    """neural-tangents on JAX, compiled, the fastest of its implementations: in a process of its own, which has the problem already."""
    process, gram = worker(model, x)
    process.stdin.write("run\n")
    process.stdin.flush()
    process.stdout.readline()
    return gram


@functools.cache
def worker(model, x):
    path = Path(tempfile.mkdtemp()) / "problem.npz"
    np.savez(path, x=x.numpy(), **{f"p{i}": p.detach().numpy() for i, p in enumerate(model.parameters())})
    process = subprocess.Popen([os.environ["NEURAL_TANGENTS_PYTHON"], Path(__file__).with_name("neural_tangents_lenet.py"), path],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if not process.stdout.readline():  # it says which implementation it chose
        raise RuntimeError("its process ended: start it by hand to see why")
    return process, torch.from_numpy(np.load(f"{path}.npy"))


METHODS = {f.__name__: f for f in (ours, train_step, data_sweeps, full_backwards, vmap_jacrev, one_by_one, batched_grads,
                                   per_parameter, backpack, opacus, curvlinops, neural_tangents)}
COUNTED = ("ours", "train_step", "data_sweeps")
PEERS = ("vmap_jacrev", "one_by_one", "batched_grads", "backpack", "opacus", "curvlinops", "neural_tangents")
LIBRARIES = ("backpack", "opacus", "curvlinops", "neural_tangents")


def unfit(method, name, model, batch, K, machine):
    """Why a method is left out, or None."""
    if method == "neural_tangents":
        reasons = {"it has the processor's JAX": machine.device.type != "cpu", "only LeNet is written in JAX": name != "lenet",
                   "NEURAL_TANGENTS_PYTHON is not set": "NEURAL_TANGENTS_PYTHON" not in os.environ}
        return next((why for why, holds in reasons.items() if holds), None)
    if method in LIBRARIES and importlib.util.find_spec(method) is None:
        return "not installed"
    numbers = batch * K * sum(p.numel() for p in model.parameters())
    if method in ("vmap_jacrev", "backpack") and numbers > machine.numbers:
        return f"needs {4 * numbers / 1e9:.0f} GB"
    if method == "per_parameter" and batch * len(list(model.parameters())) * K > 16 * 10 * 10:
        return "takes minutes"
    return machine.too_long(method, batch, numbers)


def problem(name, channels, size, K, batch, device="cpu"):
    """A model and its inputs, the same numbers on every device."""
    torch.manual_seed(0)
    model, x = build(name, K, channels, size), torch.randn(batch, channels, size, size)
    for p in model.parameters():
        p.data += 0.01 * torch.randn_like(p)  # the head of a fresh vit is zero
    return model.to(device), x.to(device)


class Counter(TorchDispatchMode):
    """Counts as ``FlopCounterMode`` does, but hangs no hooks on the model, which an engine that walks its graph would meet."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += arithmetic(func._overloadpacket, args, kwargs or {}, out)
        return out


def arithmetic(packet, args, kwargs, out):
    """By torch's formulas, but that its one for the gradient of a kernel takes a convolution in groups for one without."""
    count, groups = functools.partial(flop_registry[packet], out_val=out), 1
    if packet is torch.ops.aten.convolution_backward:
        groups, (to_input, to_kernel, _) = args[9], args[10]
    if groups == 1:
        return count(*args, **kwargs)
    return (count(*args[:10], (True, False, False)) if to_input else 0) + (
        count(*args[:10], (False, True, False)) // groups if to_kernel else 0)


def operations(run, *args):
    """Multiplications and additions of a call, those of matrix products and convolutions; the others are few."""
    with Counter() as counter:
        run(*args)
    return counter.total


def measure(case, repeats, machine, memory=True):
    """One row of the record: a case with all methods that fit it."""
    name, _, _, K, batch = case
    model, x = problem(*case, machine.device)
    skipped = {m: why for m in METHODS if (why := unfit(m, name, model, batch, K, machine))}
    truth = structure_matrix(model, x[:2], dtype=torch.float64)
    error: dict[str, float] = {}
    for method in METHODS.keys() - skipped:
        try:
            for _ in range(machine.warm_ups):
                found = METHODS[method](model, x)
        except (NotImplementedError, RuntimeError, AssertionError, ImportError) as reason:
            if method not in LIBRARIES and not isinstance(reason, torch.OutOfMemoryError):
                raise
            what = "cannot be imported" if isinstance(reason, ImportError) else "does not know this model"
            skipped[method] = f"{what}: {str(reason).splitlines()[0][:120]}"
            continue
        if found is not None:
            error[method] = float((found[:2].double().to(truth.device) - truth).abs().max() / truth.abs().max())
    chosen = [m for m in METHODS if m not in skipped]
    times: dict[str, list[float]] = {m: [] for m in chosen}
    for _ in range(repeats):
        for method in chosen:
            if sum(times[method]) <= machine.patience:
                times[method].append(machine.milliseconds(METHODS[method], model, x))
    row = {"model": name, "K": K, "batch": batch, "parameters": sum(p.numel() for p in model.parameters()),
           "repeats": {m: len(t) for m, t in times.items()},
           **summary(times), "error": {m: float(f"{e:.1e}") for m, e in error.items()}, "skipped": skipped,
           "gflop": {m: round(operations(METHODS[m], model, x) / 1e9, 6) for m in COUNTED}}
    return row | ({"peak_mb": machine.megabytes(case, row, model, x)} if memory else {})


def summary(times):
    """Medians, least times, the best peer, and ratios, from the milliseconds of each method."""
    median = {m: statistics.median(t) for m, t in times.items()}
    peer = min((m for m in PEERS if m in median), key=median.__getitem__, default=None)
    ratios = {f"ours / {m}": median["ours"] / median[m] for m in ("train_step", "data_sweeps", "full_backwards")}
    ratios |= {f"{m} / ours": median[m] / median["ours"] for m in (peer, "per_parameter") if m in median}
    return {"median_ms": {m: round(t, 3) for m, t in median.items()}, "min_ms": {m: round(min(t), 3) for m, t in times.items()},
            "best_peer": peer, "ratios": {what: round(ratio, 2) for what, ratio in ratios.items()}}


def probing(machine, steps=60):
    """A training run of LeNet, batch 64, bare and with a probe of 16 samples at every step, the two interleaved step by step."""
    torch.manual_seed(0)
    model, targets = build("lenet", 10, 1, 28).to(machine.device), torch.randint(10, (64,)).to(machine.device)
    x, optimizer = torch.randn(64, 1, 28, 28).to(machine.device), torch.optim.SGD(model.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), targets).backward()
        optimizer.step()

    def probed():
        step()
        probe(model, x[:16], targets[:16])

    times: dict[str, list[float]] = {"bare": [], "probed": []}
    for _ in range(steps):
        for name, run in (("bare", step), ("probed", probed)):
            times[name].append(machine.milliseconds(run))
    median = {name: statistics.median(t[3:]) for name, t in times.items()}
    return {"batch": 64, "probed_samples": 16, "median_ms": median, "ratio": round(median["probed"] / median["bare"], 2)}


def ceiling(machine):
    """What the machine can do: float32 arithmetic per second in a large matrix product, the best of some."""
    side = 2048 if machine.device.type == "cpu" else 8192
    a = torch.randn(side, side, device=machine.device)
    return {"gflop_per_s": round(2 * side**3 / 1e6 / min(machine.milliseconds(torch.mm, a, a) for _ in range(6)), 1)}


MEMORY = """
import sys, torch
sys.path.insert(0, {here!r})
import structure as bench

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

*case, method = {case!r}
model, x = bench.problem(*case)
model(x[:1]).sum().backward()
before = peak()
bench.METHODS[method](model, x)
print((peak() - before) / 1024)
"""


def peak_megabytes(*case):
    """Growth of the peak resident memory above the model, in a fresh process (Linux)."""
    code = MEMORY.format(here=str(Path(__file__).parent), case=case)
    return round(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout), 1)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="LeNet and Model B only; write nothing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with its own cases and its own record")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the record goes")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = find_device(options.device)
    machine, file = MACHINES[device.type](device), options.folder / RECORDS[device.type]
    provenance = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine(),
                  "processor": processor(), "device": device_name(device), "precision": precision(device),
                  "threads": options.threads, "load": os.getloadavg()[0], "date": datetime.date.today().isoformat(),
                  "ceiling": ceiling(machine)}
    rows: list[dict] = []
    for name, channels, size, K, batches in machine.cases[:2] if options.quick else machine.cases:
        for batch in batches:
            small, one = name in ("lenet", "model-b"), batch == 64 and device.type == "cpu"
            row = measure((name, channels, size, K, batch), 15 if small else 1 if one else 3, machine, memory=not options.quick)
            rows.append(row)
            if not options.quick:
                save(file, provenance, rows)
            times = ", ".join(f"{m} {t:.1f}" for m, t in row["median_ms"].items())
            print(f"{name} K={K} B={batch}: {times} ms", row["ratios"], row.get("peak_mb", ""), row["gflop"], flush=True)
            for method, why in row["skipped"].items():
                print(f"    without {method}: {why}")
    run = probing(machine)
    print("a training run of LeNet that probes 16 samples at every step:", run, flush=True)
    if not options.quick:
        save(file, provenance, rows, run)


def save(file, provenance, rows, run=None):
    provenance["load_after"] = os.getloadavg()[0]
    write_record(file, {"provenance": provenance, "cases": rows, "probing": run})


if __name__ == "__main__":
    main()
