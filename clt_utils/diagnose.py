"""Bring your own model: what the theory says about it, as text, a figure, a dict and HTML; and a watch for training loops.

What is measured, and on what, stands beside every number: risk and largest loss on the samples read from the loader, spectra
and energies on some of them, information loss through quantized features with its bias. Nothing here is a guarantee for
data that the loader does not hold.
"""

import html
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import plots
from ._checks import mixing_or_random, require, require_integer, require_kind, require_number
from ._spacing import evenly_spaced
from .bounds import max_loss
from .duality import SHANNON, Generator, as_mean, fenchel_young_loss, require_generator
from .finite import count, estimate_conditional_entropy, number_rows
from .interval import risk_interval, together
from .structure import Probe, gradient_correlation, probe


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
        problems: What is wrong with the model or its data; if anything is, nothing was measured.
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
        if not n:
            return []
        read, looked = self.samples
        unit = f"on {read} samples"
        lines = [("risk", f"{n['risk']:.4g}", unit + (f"; accuracy {n['accuracy']:.1%}" if "accuracy" in n else "")),
                 ("floor from duplicates", f"{n['floor']:.3g}",
                  f"no model does better here; {n['conflicts']:.0f} samples share their input with another target"),
                 ("largest loss γ", f"≥ {n['largest_loss']:.3g}", "from these samples alone, so a lower bound"),
                 ("risk, where spectra were measured", f"{n['lower']:.3g} ≤ {n['risk_probed']:.3g} ≤ {n['upper']:.3g}",
                  f"on {looked} samples, energy ratios sample by sample"),
                 ("eigenvalues of A_x", f"{n['lam_min']:.3g} to {n['lam_max']:.3g}", f"median condition {n['condition']:.3g}"),
                 ("gradient energy", f"{n['energy']:.3g}", f"residual {n['residual']:.3g}"),
                 ("gradient correlation ρ", f"{n['correlation']:.3g}",
                  f"1 if all gradients agree, {1 / looked:.2g} if they are orthogonal")]
        for layer in self.layers:
            lines.append((f"entropy left after {layer.name}", f"{layer.left:.3g} ± {layer.error:.1g}",
                          f"estimate on quantized features; plug-in {layer.plug_in:.3g}, with shuffled labels "
                          f"{layer.shuffled:.3g} of {n['label_entropy']:.3g}"))
        return lines

    def __str__(self) -> str:
        if self.problems:
            return "\n".join(["Diagnosis: nothing was measured.", *(f"  - {p}" for p in self.problems)])
        width = max(len(row[0]) for row in self.rows())
        lines = [f"{what:{width}s}  {value}  ({meaning})" for what, value, meaning in self.rows()]
        return "\n".join(lines + ["What to try next:"] + [f"  - {a}" for a in self.advice])

    def _repr_html_(self) -> str:
        if self.problems:
            items = "".join(f"<li>{html.escape(p)}</li>" for p in self.problems)
            return f"<p><strong>Nothing was measured.</strong></p><ul>{items}</ul>"
        rows = "".join(f"<tr><th scope='row'>{html.escape(a)}</th><td>{html.escape(b)}</td><td>{html.escape(c)}</td></tr>"
                       for a, b, c in self.rows())
        advice = "".join(f"<li>{html.escape(a)}</li>" for a in self.advice)
        return (f"<table class='clt-check'><caption>What the theory says about this model</caption><tbody>{rows}</tbody></table>"
                f"<p>What to try next:</p><ul>{advice}</ul>")

    def plot(self) -> Figure:
        """One figure: where the risk stands between its bounds, and what is left of the label after each layer.

        Returns:
            A matplotlib figure; ``plots.show(report.plot(), alt=report.words())`` displays it.

        Raises:
            ValueError: If nothing was measured.
        """
        require(self.numbers, "a report without numbers", "a model that could be measured", " ".join(self.problems))
        n = self.numbers
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
        left = "; ".join(f"{layer.name} {layer.left:.2g}" for layer in self.layers)
        n = self.numbers
        return (f"Risk {n['risk_probed']:.3g} between {n['lower']:.3g} and {n['upper']:.3g}, largest loss at least "
                f"{n['largest_loss']:.3g}." + (f" Entropy left after layers: {left}." if left else ""))


def diagnose(model: nn.Module, loader: Iterable[Any], generator: Generator = SHANNON, *, layers: Sequence[str] = (),
             probes: int = 32, limit: int = 2000, cells: int = 24, progress: bool = True) -> Report:
    """Say what the theory knows about a classifier or regressor.

    Before the work starts, its time and memory are estimated from one sample and printed. The model is left as it was.

    Args:
        model: An ``nn.Module``; its output is a tensor (B, K), or an object or dict with ``logits``.
        loader: A ``DataLoader`` or any iterable of batches (inputs, targets), or of dicts with ``labels`` and one input tensor.
        generator: The generator of the loss.
        layers: Names of submodules whose information loss is estimated; classification only.
        probes: Samples on which spectra and energies are measured, spread over those read.
        limit: Samples read from the loader.
        cells: Cells of the quantizer that makes features countable.
        progress: Print the estimate and show a progress bar.

    Returns:
        A ``Report``; if the model or its data cannot be measured, one that says why in ``problems``.

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
    modules = dict(model.named_modules())
    for name in layers:
        require_kind("a layer", name, str, "the name of a submodule")
        require(name in modules, f"the layer {name!r}", f"a submodule of the model, such as {', '.join(list(modules)[1:6])}")
    problems = _state_problems(model)
    if problems:
        return Report(problems=tuple(problems))
    try:
        inputs, targets = _read(loader, limit)
    except Exception as error:  # whatever a reader's loader raises belongs into the diagnosis
        return Report(problems=(f"The loader could not be read: {_one_line(error)}",))
    subject = _Subject(_Plain(model), inputs, targets, generator, next(model.parameters()).device)
    try:
        outputs = subject.outputs(inputs[:2])
    except Exception as error:
        return Report(problems=(f"The model fails on inputs {tuple(inputs[:2].shape)}: {_one_line(error)}",))
    problems = _output_problems(outputs, targets, generator)
    if problems:
        return Report(problems=tuple(problems))
    return _measure(subject, layers, probes, cells, progress)


# ---- reading what the reader brings

class _Plain(nn.Module):
    """The model with outputs as a tensor, whatever it wraps them in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.model(inputs)
        if isinstance(outputs, Mapping):
            return outputs["logits"]
        return outputs if isinstance(outputs, Tensor) else outputs.logits


@dataclass(frozen=True)
class _Subject:
    """What is diagnosed: a model, the samples read for it, and where it computes."""

    model: _Plain
    inputs: Tensor
    targets: Tensor
    generator: Generator
    device: torch.device

    @property
    def has_labels(self) -> bool:
        return not self.targets.is_floating_point()

    def outputs(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.model(x.to(self.device)).cpu() for x in inputs.split(64)])

    def part(self, indices: Tensor | slice) -> tuple[_Plain, Tensor, Tensor, Generator]:
        """Some of the samples, as ``probe`` and its kin take them."""
        return self.model, self.inputs[indices].to(self.device), self.targets[indices].to(self.device), self.generator


def _state_problems(model: nn.Module) -> list[str]:
    problems = []
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


def _read(loader: Iterable[Any], limit: int) -> tuple[Tensor, Tensor]:
    """The first ``limit`` samples of the loader on the CPU -> (inputs, targets)."""
    inputs, targets, n = [], [], 0
    for batch in loader:
        if isinstance(batch, Mapping):
            y = batch["labels"]
            others = [v for name, v in batch.items() if name != "labels" and isinstance(v, Tensor) and v.is_floating_point()]
            require(len(others) == 1, f"a batch with {len(others)} floating-point inputs", "one input tensor beside `labels`")
            x = others[0]
        else:
            x, y = batch[0], batch[1]
        inputs.append(torch.as_tensor(x).cpu())
        targets.append(torch.as_tensor(y).cpu())
        n += len(inputs[-1])
        if n >= limit:
            break
    require(n, "a loader without batches, or with empty ones", "at least one batch of (inputs, targets)")
    require(n == sum(map(len, targets)), f"{n} inputs and {sum(map(len, targets))} targets", "one target for each input")
    return torch.cat(inputs)[:limit], torch.cat(targets)[:limit]


def _output_problems(outputs: Any, targets: Tensor, generator: Generator) -> list[str]:
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        return [f"The output has shape {tuple(outputs.shape)}; the theory needs one vector a sample, (B, K). For images of "
                "labels or sequences, flatten positions into the batch or pool over them."]
    if not torch.isfinite(outputs).all():
        return ["The outputs are NaN or infinite although the parameters are finite. Look at the scale of the inputs."]
    K = outputs.shape[1]
    try:
        as_mean(generator, targets[: len(outputs)], outputs)
        if not targets.is_floating_point():
            low, high = int(targets.min()), int(targets.max())
            require(low >= 0 and high < K, f"labels from {low} to {high}", f"labels from 0 to {K - 1}",
                    "Give the model one output for each class.")
    except ValueError as error:
        return [f"Targets do not fit the outputs (B, {K}) and the loss of the {generator.name} generator: {_one_line(error)}"]
    return []


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# ---- measuring

def _measure(subject: _Subject, layers: Sequence[str], probes: int, cells: int, progress: bool) -> Report:
    n = len(subject.inputs)
    chosen = torch.as_tensor(evenly_spaced(n, probes))
    try:
        seconds, room = _estimate(subject, len(chosen))
        if progress:
            print(f"About {seconds:.0f} s and {room / 2**20:.0f} MiB: {n} samples forward, spectra of {len(chosen)}.")
        with tqdm(total=n + len(chosen), unit="sample", disable=not progress) as bar:
            seen = _probe(subject, chosen, bar)
            correlation = gradient_correlation(*subject.part(chosen))
            outputs, features = _forward(subject, layers, bar)
    except ValueError as error:
        return Report(problems=(f"It could not be measured: {_one_line(error)}",))
    numbers = _numbers(subject, seen, outputs) | {"correlation": correlation}
    kept = tuple(_layer(name, torch.cat(features[name]), subject.targets, outputs.shape[1], subject.generator, cells)
                 for name in features if subject.has_labels)
    return Report((), numbers, kept, tuple(_advice(numbers, len(chosen), kept)), (n, len(chosen)))


def _estimate(subject: _Subject, probes: int) -> tuple[float, float]:
    """Seconds and bytes for the whole work, from one sample: forward times n and probe times their number."""
    one = subject.part(slice(1))
    probe(*one)  # the first call also learns the model
    started = time.perf_counter()
    probe(*one)
    one_probe = time.perf_counter() - started
    started, sizes = time.perf_counter(), []
    hooks = [m.register_forward_hook(lambda _, __, out: sizes.append(out.numel()) if isinstance(out, Tensor) else None)
             for m in subject.model.modules()]
    outputs = subject.outputs(subject.inputs[:1])
    for hook in hooks:
        hook.remove()
    forward = time.perf_counter() - started
    trainable = sum(p.numel() for p in subject.model.parameters() if p.requires_grad)
    numbers = outputs.shape[1] * (sum(sizes) + trainable) + subject.inputs[:1].numel()
    return one_probe * probes + forward * len(subject.inputs), 4 * numbers


def _probe(subject: _Subject, chosen: Tensor, bar: tqdm) -> Probe:
    """What ``probe`` says about the chosen samples, on the CPU."""
    found = []
    for indices in chosen.split(8):
        found.append(probe(*subject.part(indices)))
        bar.update(len(indices))
    return Probe(**{name: torch.cat([getattr(seen, name).cpu() for seen in found]) for name in vars(found[0])})


def _forward(subject: _Subject, layers: Sequence[str], bar: tqdm) -> tuple[Tensor, dict[str, list[Tensor]]]:
    """The outputs for all samples, in float64, and what the named layers make of them, batch by batch."""
    outputs = []
    with _kept_features(subject.model.model, layers) as features:
        for x in subject.inputs.split(64):
            outputs.append(subject.outputs(x))
            bar.update(len(x))
    for name, batches in features.items():
        require(batches, f"the layer {name!r}, which gave no tensor", "a layer that the model calls and whose output is a tensor")
    return torch.cat(outputs).double(), features


@contextmanager
def _kept_features(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Keep the outputs of named submodules, flattened, batch by batch, while the block runs."""
    modules = dict(model.named_modules())
    features: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = [modules[name].register_forward_hook(
        lambda _, __, out, batches=batches: batches.append(out.detach().flatten(1).cpu()) if isinstance(out, Tensor) else None)
        for name, batches in features.items()]
    try:
        yield features
    finally:
        for hook in hooks:
            hook.remove()


def _numbers(subject: _Subject, seen: Probe, outputs: Tensor) -> dict[str, float]:
    K, targets, generator = outputs.shape[1], subject.targets, subject.generator
    losses, whole = fenchel_young_loss(generator, targets, outputs), together(seen)
    lower, upper = risk_interval(seen, generator, K if subject.has_labels else None)
    floor, entropy, conflicts = _duplicates(subject.inputs, as_mean(generator, targets, outputs), generator)
    largest = losses.max().item()
    if generator is SHANNON and K >= 2:
        largest = max_loss(float((outputs.amax(-1) - outputs.amin(-1)).max()), K)
    measured: dict[str, Any] = {
        "risk": losses.mean(), "risk_probed": whole.loss, "lower": lower.mean(), "upper": upper.mean(), "floor": floor,
        "label_entropy": entropy, "conflicts": conflicts, "largest_loss": largest, "lam_min": whole.lam_min, "lam_max": whole.lam_max,
        "condition": (seen.lam_max / seen.lam_min.clamp(min=1e-300)).median(), "energy": whole.energy, "residual": whole.residual}
    numbers = {name: float(value) for name, value in measured.items()}
    if subject.has_labels and K >= 2:
        numbers["accuracy"] = (outputs.argmax(-1) == targets).double().mean().item()
    return numbers


def _duplicates(inputs: Tensor, mu: Tensor, generator: Generator) -> tuple[float, float, float]:
    """(Ent_Φ(Y|X), Ent_Φ(Y), how many samples share their input with another target) under the samples' distribution."""
    groups = torch.from_numpy(number_rows(inputs.flatten(1).numpy()))
    size = torch.bincount(groups).to(mu)
    means = torch.zeros(len(size), mu.shape[1], dtype=mu.dtype).index_add(0, groups, mu) / size[:, None]
    spread = (mu - means[groups]).abs().amax(-1) > 1e-9
    average = generator.value(mu).mean()
    floor = average - (size / size.sum() * generator.value(means)).sum()
    return max(floor.item(), 0.0), max((average - generator.value(mu.mean(0))).item(), 0.0), float(spread.sum())


def _layer(name: str, features: Tensor, targets: Tensor, K: int, generator: Generator, cells: int) -> Layer:
    """Quantize on the first half of the samples, count on the second."""
    from sklearn.cluster import KMeans  # imported here: only reports on named layers need it

    rows, order = features.double().numpy(), np.random.default_rng(0).permutation(len(features))
    learn, judge = np.array_split(order, 2)
    distinct = int(number_rows(rows[learn]).max()) + 1
    quantizer = KMeans(min(cells, distinct), n_init=1, random_state=0).fit(rows[learn])
    codes, labels = quantizer.predict(rows[judge]), targets.numpy()[judge]
    estimate = estimate_conditional_entropy(count(codes, labels, K), generator)
    shuffled = estimate_conditional_entropy(count(codes, np.random.default_rng(1).permutation(labels), K), generator)
    return Layer(name, estimate.jackknife, estimate.error, estimate.plug_in, shuffled.plug_in)


def _advice(n: dict[str, float], looked: int, layers: Sequence[Layer]) -> list[str]:
    """What to try next, from the numbers."""
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

    The model is measured in evaluation mode and put back into its own.

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
        self._model, self._data, self._generator, self._share = _Plain(model), (inputs, targets), generator, share
        self.rows: list[dict[str, float]] = []
        self.spent, self._started = 0.0, time.perf_counter()

    def __call__(self, step: int) -> None:
        require_integer("step", step)
        if self.spent > self._share * (time.perf_counter() - self._started):
            return
        started, modes = time.perf_counter(), [(m, m.training) for m in self._model.modules()]
        try:
            self._model.eval()
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
