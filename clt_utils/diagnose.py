"""Bring your own model: what the theory says about it, as text, a figure, a dict and HTML; and a watch for training loops.

What is measured, and on what, stands beside every number: risk and largest loss on the samples read from the loader, spectra
and energies on some of them, information loss through quantized features with its bias. Nothing here is a guarantee for
data that the loader does not hold.
"""

import html
import inspect
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from tqdm.auto import tqdm

from . import plots
from ._checks import mixing_or_random, require, require_integer, require_kind, require_number, shown
from ._spacing import evenly_spaced
from .bounds import max_loss
from .duality import SHANNON, Generator, as_mean, fenchel_young_loss, require_generator
from .finite import count, estimate_conditional_entropy, number_rows
from .interval import risk_interval, together
from .structure import Probe, gradient_correlation, gradient_energy, probe
from .structure.engine import LOW, forward, other_company, out_of_memory, precision, tolerance

MOST_OUTPUTS = 5000
"""Outputs up to which structure matrices are formed: beyond, one takes 0.2 GB and more, and the eigenvalues of a few of them minutes."""


@dataclass(frozen=True)
class Layer:
    """What a named layer keeps of the label, by estimates in nats (or the generator's unit) on held-back samples.

    Attributes:
        name: The layer.
        left: Estimated Ent_Φ(Y|Q(U)), features quantized to cells by k-means; by the jackknife.
        error: Its standard error.
        plug_in: The same without correction.
        shuffled: The plug-in with labels shuffled, where the truth is Ent_Φ(Y): how large the bias is.

    Example:
        >>> layer = Layer("fc1", left=0.31, error=0.02, plug_in=0.24, shuffled=1.9)
        >>> f"{layer.name}: {layer.left} ± {layer.error}"
        'fc1: 0.31 ± 0.02'
    """

    name: str
    left: float
    error: float
    plug_in: float
    shuffled: float


@dataclass(frozen=True)
class Report:
    """What the theory says about a model; print it, ``plot()`` it, ``to_dict()`` it, or let a notebook display it.

    Attributes:
        problems: What could not be measured, and why; all of it, if there are no numbers.
        numbers: Every measured number by its name.
        layers: A ``Layer`` for each named layer.
        advice: What to try next, the most pressing first.
        samples: How many samples were read, and on how many of them spectra were measured.

    Example:
        >>> print(Report(problems=("No parameter requires a gradient.",)))
        Diagnosis: nothing was measured.
          - No parameter requires a gradient.
    """

    problems: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    advice: tuple[str, ...] = ()
    samples: tuple[int, int] = (0, 0)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; numbers that are not finite as None."""
        plain = lambda x: x if isinstance(x, str) or math.isfinite(x) else None
        return {"problems": list(self.problems), "numbers": {name: plain(value) for name, value in self.numbers.items()},
                "layers": [{name: plain(value) for name, value in vars(layer).items()} for layer in self.layers],
                "advice": list(self.advice), "samples": list(self.samples)}

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, value in words, what it means) of each line of the report."""
        n = self.numbers
        read, looked = self.samples
        lines = []
        if "risk" in n:
            accuracy = f"; accuracy {n['accuracy']:.1%}" if "accuracy" in n else ""
            lines.append(("risk", f"{n['risk']:.4g}", f"on {read} samples{accuracy}"))
        if "floor" in n:
            lines.append(("floor from duplicates", f"{n['floor']:.3g}",
                          f"no model does better here; {n['conflicts']:.0f} samples share their input with another target"))
        if "largest_loss" in n:
            lines.append(("largest loss γ", f"≥ {n['largest_loss']:.3g}", "from these samples alone, so a lower bound"))
        if "lower" in n:
            lines += [("risk, where spectra were measured", f"{n['lower']:.3g} ≤ {n['risk_probed']:.3g} ≤ {n['upper']:.3g}",
                       f"on {looked} samples, energy ratios sample by sample"),
                      ("eigenvalues of A_x", f"{n['lam_min']:.3g} to {n['lam_max']:.3g}", f"median condition {n['condition']:.3g}")]
        if "energy" in n:
            lines.append(("gradient energy", f"{n['energy']:.3g}", f"residual {n['residual']:.3g}"))
        if "correlation" in n:
            lines.append(("gradient correlation ρ", f"{n['correlation']:.3g}",
                          f"1 if all gradients agree, {1 / looked:.2g} if they are orthogonal"))
        for layer in self.layers:
            lines.append((f"entropy left after {layer.name}", f"{layer.left:.3g} ± {layer.error:.1g}",
                          f"estimate on quantized features; plug-in {layer.plug_in:.3g}, with shuffled labels "
                          f"{layer.shuffled:.3g} of {n.get('label_entropy', math.nan):.3g}"))
        return lines

    def __str__(self) -> str:
        problems = [f"  - {problem}" for problem in self.problems]
        if not self.numbers:
            return "\n".join(["Diagnosis: nothing was measured.", *problems])
        width = max(len(row[0]) for row in self.rows())
        lines = [f"{what:{width}s}  {value}  ({meaning})" for what, value, meaning in self.rows()]
        missing = ["What could not be measured:", *problems] if problems else []
        return "\n".join([*lines, *missing, "What to try next:", *(f"  - {a}" for a in self.advice)])

    def _repr_html_(self) -> str:
        listed = lambda lines: "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"
        if not self.numbers:
            return f"<p><strong>Nothing was measured.</strong></p>{listed(self.problems)}"
        rows = "".join(f"<tr><th scope='row'>{html.escape(a)}</th><td>{html.escape(b)}</td><td>{html.escape(c)}</td></tr>"
                       for a, b, c in self.rows())
        missing = f"<p><strong>What could not be measured:</strong></p>{listed(self.problems)}" if self.problems else ""
        return (f"<table class='clt-check'><caption>What the theory says about this model</caption><tbody>{rows}</tbody></table>"
                f"{missing}<p>What to try next:</p>{listed(self.advice)}")

    def plot(self) -> Figure:
        """One figure: where the risk stands between its bounds, and what is left of the label after each layer.

        Returns:
            A matplotlib figure; ``plots.show(report.plot(), alt=report.words())`` displays it.

        Raises:
            ValueError: If nothing was measured.
        """
        require(self.numbers, "a report without numbers", "a model that could be measured", " ".join(self.problems))
        n = defaultdict(lambda: math.nan, self.numbers)
        fig, axes = plt.subplots(1, 1 + bool(self.layers), figsize=(7.2, 3.2), squeeze=False)
        marks = [("floor from\nduplicates", n["floor"], "black"), ("lower\nbound", n["lower"], "blue"),
                 ("risk", n["risk_probed"], "green"), ("upper\nbound", n["upper"], "vermillion"),
                 ("largest\nloss", n["largest_loss"], "purple")]
        shown = [(name, value, color) for name, value, color in marks if math.isfinite(value) and value > 0]
        axes[0, 0].bar([m[0] for m in shown], [m[1] for m in shown], color=[plots.COLORS[m[2]] for m in shown])
        axes[0, 0].set(yscale="log", ylabel="nats or the loss's unit (log scale)")
        axes[0, 0].tick_params(axis="x", labelsize="small")
        if self.layers:
            names, left, error = zip(*[(layer.name, layer.left, layer.error) for layer in self.layers])
            axes[0, 1].errorbar(names, left, error, marker="o", capsize=3)
            axes[0, 1].set(ylabel=r"estimated $\mathrm{Ent}(Y|Q(U))$", ylim=(0, None))
            axes[0, 1].tick_params(axis="x", rotation=30)
        return fig

    def words(self) -> str:
        """Alternative text of the figure."""
        n = self.numbers
        said = [f"Risk {n['risk_probed']:.3g} between {n['lower']:.3g} and {n['upper']:.3g}."] if "lower" in n else []
        said += [f"Largest loss at least {n['largest_loss']:.3g}."] if "largest_loss" in n else []
        left = "; ".join(f"{layer.name} {layer.left:.2g}" for layer in self.layers)
        return " ".join(said + [f"Entropy left after layers: {left}."] * bool(left))


def diagnose(model: nn.Module, loader: Iterable[Any], generator: Generator = SHANNON, *, layers: Sequence[str] = (),
             probes: int = 32, limit: int = 2000, cells: int = 24, progress: bool = True) -> Report:
    """Say what the theory knows about a classifier or regressor.

    Before the work starts, its time and memory are estimated from one sample and printed. The model is left as it was, and so is
    the random state.

    Args:
        model: An ``nn.Module``; its output is a tensor (B, K), or an object or dict with ``logits``.
        loader: A ``DataLoader`` or any iterable of pairs (inputs, targets), or of dicts with ``labels`` and one input tensor.
            Targets are labels (B,), one-hot or not, or mean vectors (B, K).
        generator: The generator of the loss.
        layers: Names of submodules that give one row a sample; their information loss is estimated, for labels only.
        probes: Samples on which spectra and energies are measured, spread over those read.
        limit: Samples read from the loader.
        cells: Cells of the quantizer that makes features countable.
        progress: Print the estimate and show a progress bar.

    Returns:
        A ``Report``; what of the model or its data cannot be measured, its ``problems`` say.

    Raises:
        TypeError: If ``model`` is no module, or another argument is of the wrong kind.
        ValueError: On a layer that the model does not have, and on numbers out of range.

    Example:
        >>> batch = torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4)
        >>> net = nn.Linear(2, 2)
        >>> _ = [nn.init.zeros_(p) for p in net.parameters()]  # so it knows nothing
        >>> report = diagnose(net, [batch], probes=4, progress=False)
        >>> report.samples, round(report.numbers["risk"], 4)
        ((8, 4), 0.6931)
    """
    require_kind("model", model, nn.Module, "an `nn.Module`")
    require_kind("layers", layers, (list, tuple), "a list of names of submodules")
    for name, value, low in (("probes", probes, 1), ("limit", limit, 2), ("cells", cells, 2)):
        require_integer(name, value, low)
    require_kind("progress", progress, bool, "True or False")
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in layers:
        require_kind("a layer", name, str, "the name of a submodule")
        require(name in modules, f"the layer {name!r}", f"a submodule of the model, such as {', '.join(list(modules)[1:6])}")
    problems = _state_problems(model)
    if problems:
        return Report(problems=tuple(problems))
    with _random_state_kept():
        found = _subject(model, loader, limit, generator)
        return found if isinstance(found, Report) else _measure(found, tuple(dict.fromkeys(layers)), probes, cells, progress)


# ---- reading what the reader brings

class _Plain(nn.Module):
    """The model with outputs as a tensor (B, K), whatever it wraps them in, and inputs by name where it needs that."""

    def __init__(self, model: nn.Module, name: str | None = None) -> None:
        super().__init__()
        self.model, self.name = model, name
        self.training = model.training  # `train` would set the mode of every submodule

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.model(inputs) if self.name is None else self.model(**{self.name: inputs})
        if not isinstance(outputs, Tensor):
            outputs = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", outputs)
        require(isinstance(outputs, Tensor) and outputs.dim() == 2, f"a model whose output is {shown(outputs)}",
                "one vector a sample, (B, K), or `logits` of this form",
                "For images of labels or sequences, flatten positions into the batch or pool over them.")
        return outputs


@dataclass(frozen=True)
class _Subject:
    """What is diagnosed: a model, the samples read for it, where and in which precision it computes, and its number of outputs."""

    model: _Plain
    inputs: Tensor
    targets: Tensor
    generator: Generator
    device: torch.device
    dtype: torch.dtype | None
    K: int = 0

    @property
    def has_labels(self) -> bool:
        return self.targets.dim() == 1

    def outputs(self, inputs: Tensor) -> Tensor:
        return forward(self.model, inputs.to(self.device), self.dtype, grad=False)[0].detach().cpu()

    def part(self, indices: Tensor | slice) -> tuple[_Plain, Tensor, Tensor, Generator]:
        """Some of the samples, as ``probe`` and its kin take them."""
        return self.model, self.inputs[indices].to(self.device), self.targets[indices].to(self.device), self.generator


def _subject(model: nn.Module, loader: Iterable[Any], limit: int, generator: Generator) -> _Subject | Report:
    """Read the samples and try the model on two of them -> the subject, or the report that says why there is none."""
    try:
        inputs, targets, name = _read(loader, limit, model)
    except Exception as error:  # whatever a reader's loader raises belongs into the diagnosis
        return Report(problems=(f"The loader could not be read: {_one_line(error)}",))
    plain, device, few = _Plain(model, name), next(model.parameters()).device, inputs[:2]
    try:
        subject = _Subject(plain, inputs, targets, generator, device, precision(plain, few.to(device)))
        outputs = subject.outputs(few)
    except Exception as error:
        return Report(problems=(f"The model fails on inputs {tuple(few.shape)}: {_one_line(error)}",))
    problems = _output_problems(outputs, targets, generator)
    if problems:
        return Report(problems=tuple(problems))
    return replace(subject, targets=_labels_of_one_hot(targets, generator), K=outputs.shape[1])


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Loaders draw random numbers; what comes after the diagnosis draws what it would have drawn without it."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  the state that loaders written for it draw from
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def _state_problems(model: nn.Module) -> list[str]:
    problems = []
    lazy = [name for name, p in model.named_parameters() if is_lazy(p)]
    if lazy:
        return [f"{len(lazy)} parameters have no shape yet, the first is `{lazy[0]}`. Run the model once on some inputs."]
    if any(p.is_meta for p in model.parameters()):
        return ["The model is on the device meta, where parameters have no values. Load its weights first."]
    bad = [name for name, p in model.named_parameters() if not torch.isfinite(p).all()]
    if bad:
        problems.append(f"{len(bad)} parameters hold NaN or infinite numbers, the first is `{bad[0]}`. Training diverged: lower "
                        "the learning rate, and start from a checkpoint before that.")
    if not any(p.requires_grad for p in model.parameters()):
        problems.append("No parameter requires a gradient, so there is no structure matrix. Unfreeze at least one.")
    kind, name = mixing_or_random(model) or ("", "")
    if kind == "batch normalization":
        problems.append(f"Batch normalization is in training mode, or keeps no running statistics (`{name}`): samples interact, and a "
                        "Jacobian of one sample does not exist. Call `model.eval()`; then the running statistics are used.")
    if kind == "dropout":
        problems.append(f"Dropout is in training mode (`{name}`): outputs are random. Call `model.eval()`.")
    return problems


def _read(loader: Iterable[Any], limit: int, model: nn.Module) -> tuple[Tensor, Tensor, str | None]:
    """Copies of the first ``limit`` samples of the loader on the CPU -> (inputs, targets, the model's name for its inputs or None)."""
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    n, name = 0, None
    for batch in loader:
        x, y, name = _inputs_and_targets(batch, model)
        x, y = torch.as_tensor(x).detach(), torch.as_tensor(y).detach()
        require(x.dim() and y.dim(), f"{shown(x)} as inputs and {shown(y)} as targets", "batches (B, ...) and (B,) or (B, K)",
                "Let a `DataLoader` make batches of single samples.")
        require(len(x) == len(y), f"{len(x)} inputs and {len(y)} targets", "one target for each input")
        inputs.append(x[: limit - n].to("cpu", copy=True))  # a loader may fill the same buffer again
        targets.append(y[: limit - n].to("cpu", copy=True))
        n += len(inputs[-1])
        if n >= limit:
            break
    require(n, "a loader without batches, or with empty ones", "at least one batch of (inputs, targets)")
    y = torch.cat(targets)
    return torch.cat(inputs), y if y.is_floating_point() or y.is_complex() else y.long(), name


def _inputs_and_targets(batch: Any, model: nn.Module) -> tuple[Any, Any, str | None]:
    """The parts of a batch, and by which name the model takes the inputs of a dict, if by one."""
    if not isinstance(batch, Mapping):
        is_tuple = isinstance(batch, (list, tuple))
        require(is_tuple and len(batch) == 2, f"a batch of {len(batch)} parts" if is_tuple else f"{shown(batch)} as a batch",
                "a pair (inputs, targets), or a dict with `labels`", "Choose the two parts: `((x, y) for x, y, *_ in loader)`.")
        return batch[0], batch[1], None
    require("labels" in batch, f"a batch with {', '.join(map(str, batch))}", "`labels` among its names")
    others = {name: value for name, value in batch.items() if name != "labels" and isinstance(value, (Tensor, np.ndarray))}
    taken = [name for name in others if name in inspect.signature(model.forward).parameters]
    chosen = taken or [name for name, value in others.items() if torch.as_tensor(value).is_floating_point()] or list(others)
    require(len(chosen) == 1, f"a batch with {len(chosen)} inputs ({', '.join(chosen)})", "one input tensor beside `labels`",
            "Wrap the model so that it takes one.")
    return others[chosen[0]], batch["labels"], chosen[0] if taken else None


def _output_problems(outputs: Tensor, targets: Tensor, generator: Generator) -> list[str]:
    K = outputs.shape[1]
    if (outputs == -torch.inf).any():
        return ["Some outputs are −∞, as of masked classes: they have no gradient. Leave them out of the model's output."]
    if not torch.isfinite(outputs).all():
        return ["The outputs are NaN or infinite although the parameters are finite. Look at the scale of the inputs."]
    try:
        for part in targets.split(64):
            as_mean(generator, part, outputs.new_zeros(len(part), K))
    except ValueError as error:
        return [f"Targets do not fit the outputs (B, {K}) and the loss of the {generator.name} generator: {_one_line(error)}"]
    return []


def _labels_of_one_hot(targets: Tensor, generator: Generator) -> Tensor:
    """Labels (n,) where all probability vectors (n, K) are one-hot, else the targets as they are."""
    one_hot = generator.on_simplex and targets.dim() == 2 and bool((((targets == 0) | (targets == 1)).all(1) & (targets.sum(1) == 1)).all())
    return targets.argmax(1) if one_hot else targets


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# ---- measuring

def _measure(subject: _Subject, layers: Sequence[str], probes: int, cells: int, progress: bool) -> Report:
    n, K = len(subject.inputs), subject.K
    chosen = torch.as_tensor(evenly_spaced(n, probes))
    problems = [f"Bounds and eigenvalues are not measured. {_many_outputs(K)}"] if K > MOST_OUTPUTS else []
    numbers: dict[str, float] = {}
    kept: list[Layer] = []
    try:
        if progress:
            _announce(subject, len(chosen), layers, problems)
        with tqdm(total=n + len(chosen), unit="sample", disable=not progress) as bar:
            with _spared("risk, accuracy and largest loss", problems):
                numbers |= _risks(subject, bar)
            with _spared("the floor from duplicates", problems):
                numbers |= _floor(subject)
            if K <= MOST_OUTPUTS:
                with _spared("bounds and eigenvalues", problems, _many_outputs(K)):
                    numbers |= _spectra(subject, chosen, bar)
            if "energy" not in numbers:
                with _spared("the gradient energy", problems):
                    numbers |= _energies(subject, chosen)
            with _spared("the gradient correlation", problems):
                numbers["correlation"] = gradient_correlation(*subject.part(chosen))
        if layers and subject.has_labels:
            kept = _layers(subject, layers, cells, problems)
    except Exception as error:  # whatever a reader's model raises belongs into the diagnosis
        return Report(problems=(f"It could not be measured: {_one_line(error)}",))
    return Report(tuple(problems), numbers, tuple(kept), tuple(_advice(numbers, len(chosen), kept)), (n, len(chosen)))


def _many_outputs(K: int) -> str:
    return (f"With K = {K} outputs one structure matrix takes {8 * K**2 / 1e9:.2g} GB, and its eigenvalues several times that. "
            "`structure.matrix_free_eigenvalues` finds the extreme ones without the matrix, one sample at a time.")


@contextmanager
def _spared(what: str, problems: list[str], advice: str = "Try fewer samples, or a machine with more.") -> Iterator[None]:
    """Where memory runs out, only what the block measures is lost."""
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or out_of_memory(error)):
            raise
        problems.append(f"Memory ran out over {what}. {advice} ({_one_line(error)})")


def _announce(subject: _Subject, probes: int, layers: Sequence[str], problems: Sequence[str]) -> None:
    """Print what the work will take, and what of it will not be done."""
    for problem in problems:
        print(problem)
    with _spared("the estimate", []):
        seconds, room = _estimate(subject, probes, passes=1 + 2 * bool(layers))
        print(f"About {seconds:.0f} s and {room / 2**20:.0f} MiB: {len(subject.inputs)} samples forward, spectra of {probes}.")


def _estimate(subject: _Subject, probes: int, passes: int) -> tuple[float, float]:
    """Seconds and bytes for the whole work, from one sample: forward times n and probe times their number."""
    with_matrix = subject.K <= MOST_OUTPUTS
    measure: Callable[..., Any] = probe if with_matrix else gradient_energy
    one = subject.part(slice(1))
    measure(*one)  # the first call also learns the model
    started = time.perf_counter()
    measure(*one)
    one_probe = time.perf_counter() - started
    started, sizes = time.perf_counter(), []
    modules = {name: m for name, m in subject.model.named_modules() if not isinstance(m, torch.jit.ScriptModule)}  # these take no hooks
    with _hooks(modules, lambda _, out: sizes.append(out.numel()) if isinstance(out, Tensor) else None):
        subject.outputs(subject.inputs[:1])
    one_pass = time.perf_counter() - started
    trainable = sum(p.numel() for p in subject.model.parameters() if p.requires_grad)
    numbers = (subject.K if with_matrix else 1) * (sum(sizes) + trainable) + subject.inputs[:1].numel()
    return one_probe * probes + passes * one_pass * len(subject.inputs), 4 * numbers + 24 * subject.K**2 * with_matrix


def _risks(subject: _Subject, bar: tqdm) -> dict[str, float]:
    """What the outputs of all samples tell, in float64."""
    K, generator = subject.K, subject.generator
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for x, y in zip(subject.inputs.split(64), subject.targets.split(64)):
        f = subject.outputs(x).double()
        right = f.argmax(-1) == y if subject.has_labels else torch.zeros(0)
        parts.append((fenchel_young_loss(generator, y, f), f.amax(-1) - f.amin(-1), right))
        bar.update(len(x))
    losses, ranges, right = map(torch.cat, zip(*parts))
    largest = max_loss(ranges.max().item(), K) if generator is SHANNON and K >= 2 else losses.max().item()
    numbers = {"risk": losses.mean().item(), "largest_loss": float(largest)}
    return numbers | ({"accuracy": right.double().mean().item()} if subject.has_labels and K >= 2 else {})


def _floor(subject: _Subject) -> dict[str, float]:
    """Ent_Φ(Y|X), Ent_Φ(Y) and how many samples share their input with another target, under the samples' distribution."""
    generator = subject.generator
    mu = as_mean(generator, subject.targets, torch.zeros(len(subject.targets), subject.K, dtype=torch.float64))
    groups = torch.from_numpy(number_rows(_rows(subject.inputs)))
    size = torch.bincount(groups).to(mu)
    means = torch.zeros(len(size), mu.shape[1], dtype=mu.dtype).index_add(0, groups, mu) / size[:, None]
    spread = (mu - means[groups]).abs().amax(-1) > 1e-9
    average = generator.value(mu).mean()
    floor = average - (size / size.sum() * generator.value(means)).sum()
    return {"floor": max(floor.item(), 0.0), "label_entropy": max((average - generator.value(mu.mean(0))).item(), 0.0),
            "conflicts": float(spread.sum())}


def _rows(x: Tensor) -> np.ndarray:
    """One row of numbers a sample, (n, ...) -> (n, d), nothing rounded."""
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x.float() if x.dtype in LOW else x
    return x[:, None].flatten(1).numpy()


def _spectra(subject: _Subject, chosen: Tensor, bar: tqdm) -> dict[str, float]:
    """What the structure matrices of the chosen samples tell."""
    found = []
    for indices in chosen.split(8):
        found.append(probe(*subject.part(indices)))
        bar.update(len(indices))
    seen = Probe(**{name: torch.cat([getattr(part, name).cpu() for part in found]) for name in vars(found[0])})
    whole = together(seen)
    lower, upper = risk_interval(seen, subject.generator, subject.K if subject.has_labels else None)
    measured = {"risk_probed": whole.loss, "lower": lower.mean(), "upper": upper.mean(), "lam_min": whole.lam_min, "lam_max": whole.lam_max,
                "condition": (seen.lam_max / seen.lam_min.clamp(min=1e-300)).median(), "energy": whole.energy, "residual": whole.residual}
    return {name: float(value) for name, value in measured.items()}


def _energies(subject: _Subject, chosen: Tensor) -> dict[str, float]:
    """What can be told of the chosen samples without their structure matrices."""
    energy, residual = [], []
    for indices in chosen.split(8):
        energy.append(gradient_energy(*subject.part(indices)).cpu())
        f = subject.outputs(subject.inputs[indices]).double()
        residual.append((subject.generator.predict(f) - as_mean(subject.generator, subject.targets[indices], f)).square().sum(-1))
    return {"energy": torch.cat(energy).mean().item(), "residual": torch.cat(residual).mean().item()}


# ---- what layers keep of the label

@contextmanager
def _hooks(modules: Mapping[str, nn.Module], see: Callable[[str, Any], None]) -> Iterator[None]:
    """Let ``see`` look at the name and the output of each module whenever it is called, while the block runs."""
    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(lambda _, __, out, name=name: see(name, out)))
        yield


def _layers(subject: _Subject, layers: Sequence[str], cells: int, problems: list[str]) -> list[Layer]:
    """Each named layer that gives one row a sample: the samples pass twice, in another order and company, which must not matter."""
    n = len(subject.inputs)
    batches, others = torch.arange(n).split(64), other_company(n, 64)
    try:
        first, second = _calls(subject, layers, batches), _calls(subject, layers, others)
    except Exception as error:  # what was measured before is not lost
        problems.append(f"What layers keep of the label could not be measured: {_one_line(error)}")
        return []
    kept = []
    for name in layers:
        try:
            features, again = _features(name, first[name], batches), _features(name, second[name], others)
            require(np.isfinite(features).all(), f"the layer {name!r} with outputs NaN or infinite", "finite numbers")
            off, size = np.abs(features - again).max(initial=0), np.abs(features).max(initial=0)
            require(off <= tolerance(1e3, torch.float32) * size, f"the layer {name!r}, whose rows change by {off:.2g} with the order or "
                    "the rest of the batch", "one row a sample, in the samples' order")
            kept.append(_layer(name, features, subject.targets.numpy(), subject.K, subject.generator, cells))
        except Exception as error:  # one layer that cannot be measured costs no other
            problems.append(f"What `{name}` keeps of the label could not be measured: {_one_line(error)}")
    return kept


def _calls(subject: _Subject, layers: Sequence[str], batches: Sequence[Tensor]) -> dict[str, list[list[Tensor | None]]]:
    """What each named layer returns, call by call, for each batch of samples."""
    modules = dict(subject.model.model.named_modules(remove_duplicate=False))
    calls: dict[str, list[list[Tensor | None]]] = {name: [] for name in layers}
    with _hooks({name: modules[name] for name in layers}, lambda name, out: calls[name][-1].append(_only_tensor(out))):
        for part in batches:
            for of_layer in calls.values():
                of_layer.append([])
            subject.outputs(subject.inputs[part])
    return calls


def _only_tensor(out: Any) -> Tensor | None:
    """A copy of the tensor that a layer returns, bare or alone in a tuple or a dict: the next layer may write over it."""
    parts = list(out.values()) if isinstance(out, Mapping) else out if isinstance(out, (tuple, list)) else [out]
    parts = [part for part in parts if part is not None]
    return parts[0].detach().to("cpu", copy=True) if len(parts) == 1 and isinstance(parts[0], Tensor) else None


def _features(name: str, calls: Sequence[Sequence[Tensor | None]], batches: Sequence[Tensor]) -> np.ndarray:
    """The rows of a layer, (n, d) in float64, in the samples' own order."""
    rows = []
    for outs, part in zip(calls, batches):
        require(len(outs) <= 1, f"the layer {name!r}, which the model calls {len(outs)} times in one pass", "one call",
                "Name a layer before or after it, or give each place a module of its own.")
        out = outs[0] if outs else None
        require(out is not None, f"the layer {name!r}, which gave no tensor", "a layer that the model calls and whose output is one tensor")
        assert out is not None
        require(out.dim() >= 1 and len(out) == len(part), f"the layer {name!r} with outputs {tuple(out.shape)} for {len(part)} samples",
                f"one row a sample, ({len(part)}, ...)")
        rows.append(_rows(out))
    return np.concatenate(rows)[torch.cat(list(batches)).argsort().numpy()].astype(np.float64)


def _layer(name: str, features: np.ndarray, labels: np.ndarray, K: int, generator: Generator, cells: int) -> Layer:
    """Quantize on the first half of the samples, count on the second."""
    from sklearn.cluster import KMeans  # imported here: only reports on named layers need it

    require(len(features) >= 4, f"{len(features)} samples", "at least 4, half of them to learn cells from and half to judge them by")
    learn, judge = np.array_split(np.random.default_rng(0).permutation(len(features)), 2)
    distinct = int(number_rows(features[learn]).max()) + 1
    quantizer = KMeans(min(cells, distinct), n_init=1, random_state=0).fit(features[learn])
    codes, seen = quantizer.predict(features[judge]), labels[judge]
    estimate = estimate_conditional_entropy(count(codes, seen, K), generator)
    shuffled = estimate_conditional_entropy(count(codes, np.random.default_rng(1).permutation(seen), K), generator)
    return Layer(name, estimate.jackknife, estimate.error, estimate.plug_in, shuffled.plug_in)


def _advice(n: Mapping[str, float], looked: int, layers: Sequence[Layer]) -> list[str]:
    """What to try next, from the numbers."""
    n = defaultdict(lambda: math.nan, n)  # what was not measured gives no advice
    advice = []
    if n["floor"] > 0.5 * n["risk"]:
        advice.append(f"The floor from duplicates is {n['floor'] / n['risk']:.0%} of the risk: relabel or merge the "
                      f"{n['conflicts']:.0f} samples in conflict before you train longer.")
    if n["lam_min"] <= 1e-10 * n["lam_max"]:
        advice.append("Some structure matrix is singular: the energy can vanish without a fit, and the upper bound is empty. "
                      "A last linear layer with its own weight and bias would prevent that (slug `head-floor`).")
    elif n["condition"] > 1e3:
        advice.append(f"The median condition of the structure matrices is {n['condition']:.0f}: the bounds are wide. Compare "
                      "with normalization layers or skip connections.")
    if n["correlation"] > 0.5:
        advice.append(f"Gradients agree (ρ = {n['correlation']:.2f}): the samples want the same step. Train on; larger batches "
                      "gain little.")
    elif n["correlation"] < 2 / looked and n["energy"] > 1e-6:
        advice.append(f"Gradients cancel (ρ = {n['correlation']:.2g}, orthogonal would be {1 / looked:.2g}): the mean gradient "
                      "is small, the energy is not. Try smaller steps or a smaller batch.")
    if n["largest_loss"] > 20 * max(n["risk"], 0.05):
        advice.append(f"One mistake may cost {n['largest_loss']:.1f}, many times the risk. A temperature, or a bound on the "
                      "outputs, lowers γ and leaves the accuracy as it is.")
    if layers and layers[-1].left > layers[0].left + 3 * (layers[0].error + layers[-1].error):
        advice.append(f"After `{layers[-1].name}` the label is harder to read off than after `{layers[0].name}`: look at what "
                      "lies between them. (Quantized features, an estimate.)")
    return advice or ["Nothing stands out. Compare with a test set: the report on new data tells more than this one."]


# ---- inside a training loop

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
        self._model, self._generator, self._share = _Plain(model), generator, share
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
