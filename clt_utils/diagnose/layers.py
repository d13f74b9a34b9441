"""What named layers keep of the label: features quantized to cells, and counted on samples held back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import require
from ..duality import Generator
from ..finite import count, estimate_conditional_entropy, number_rows
from ..structure.engine import other_company, tolerance
from .report import Layer
from .samples import Subject, one_line, rows_of


@contextmanager
def hooks(modules: Mapping[str, nn.Module], see: Callable[[str, Any], None]) -> Iterator[None]:
    """Let ``see`` look at the name and the output of each module whenever it is called, while the block runs."""
    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(lambda _, __, out, name=name: see(name, out)))
        yield


def what_layers_keep(subject: Subject, layers: Sequence[str], cells: int, problems: list[str]) -> list[Layer]:
    """Each named layer that gives one row a sample: the samples pass twice, in another order and company, which must not matter."""
    n = len(subject.inputs)
    batches, others = torch.arange(n).split(64), other_company(n, 64)
    try:
        first, second = _calls(subject, layers, batches), _calls(subject, layers, others)
    except Exception as error:  # what was measured before is not lost
        problems.append(f"What layers keep of the label could not be measured: {one_line(error)}")
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
            problems.append(f"What `{name}` keeps of the label could not be measured: {one_line(error)}")
    return kept


def _calls(subject: Subject, layers: Sequence[str], batches: Sequence[Tensor]) -> dict[str, list[list[Tensor | None]]]:
    """What each named layer returns, call by call, for each batch of samples."""
    modules = dict(subject.model.model.named_modules(remove_duplicate=False))
    calls: dict[str, list[list[Tensor | None]]] = {name: [] for name in layers}
    with hooks({name: modules[name] for name in layers}, lambda name, out: calls[name][-1].append(_only_tensor(out))):
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
        rows.append(rows_of(out))
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
