"""What named layers keep of the label: features quantized to cells, and counted on samples held back."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import require, require_kind
from .._spacing import evenly_spaced
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


def named(model: nn.Module, layers: str | Sequence[str]) -> tuple[str, ...]:
    """The names of the submodules that are asked for, each once; the stars of a pattern stand for parts of a name without a dot."""
    names = list(dict(model.named_modules(remove_duplicate=False)))
    found: dict[str, None] = {}
    for pattern in [layers] if isinstance(layers, str) else layers:
        require_kind("a layer", pattern, str, "the name of a submodule")
        matching = [pattern] if pattern in names else [name for name in names if name and _matches(name.split("."), pattern.split("."))]
        require(matching, f"the layer {pattern!r}", f"a submodule of the model, such as {', '.join(names[1:6])}, or a pattern for some, "
                "such as `blocks.*`")
        found |= dict.fromkeys(matching)
    return tuple(found)


def _matches(name: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(name) == len(pattern) and all(map(fnmatchcase, name, pattern))


def what_layers_keep(subject: Subject, layers: Sequence[str], cells: int, problems: list[str]) -> list[Layer]:
    """Each call of each named layer: the samples pass twice, in another order and company, which must not matter."""
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
            for place, call in _places(name, [*first[name], *second[name]]):
                outs = [[of_batch[call] for of_batch in seen[name]] for seen in (first, second)]
                features = _features(place, [*zip(outs[0], batches)], [*zip(outs[1], others)])
                kept.append(_layer(place, features, subject.targets.numpy(), subject.K, subject.generator, cells))
        except Exception as error:  # one layer that cannot be measured costs no other
            problems.append(f"What `{name}` keeps of the label could not be measured: {one_line(error)}")
    return kept


def _calls(subject: Subject, layers: Sequence[str], batches: Sequence[Tensor]) -> dict[str, list[list[Tensor | None]]]:
    """What each named layer returns, call by call, for each batch of samples."""
    modules = dict(subject.model.model.named_modules(remove_duplicate=False))
    calls: dict[str, list[list[Tensor | None]]] = {name: [] for name in layers}
    with hooks({name: modules[name] for name in layers}, lambda name, out: calls[name][-1].append(_first_tensor(out))):
        for part in batches:
            for of_layer in calls.values():
                of_layer.append([])
            subject.outputs(subject.inputs[part])
    return calls


def _first_tensor(out: Any) -> Tensor | None:
    """A copy of the first tensor that a layer returns, bare or in a tuple or a dict: the next layer may write over it."""
    if isinstance(out, Tensor):
        return out.detach().to("cpu", copy=True)
    parts = out.values() if isinstance(out, Mapping) else out if isinstance(out, (tuple, list)) else ()
    return next((found for found in map(_first_tensor, parts) if found is not None), None)


def _places(name: str, calls: Sequence[Sequence[Tensor | None]]) -> list[tuple[str, int]]:
    """(what it is called, which call) of each place of a layer, ``CALLS`` of them at most."""
    counts = {len(of_batch) for of_batch in calls}
    require(len(counts) == 1, f"the layer {name!r}, which the model calls {' or '.join(map(str, sorted(counts)))} times in one pass",
            "as many calls for each batch")
    many = counts.pop()
    require(many, f"the layer {name!r}, which gave no tensor", "a layer that the model calls")
    return [(f"{name} (call {call + 1} of {many})" if many > 1 else name, call) for call in map(int, evenly_spaced(many, CALLS))]


CALLS = 6
"""Calls of one layer that are looked at, the first and the last among them."""

Outs = Sequence[tuple[Tensor | None, Tensor]]
"""What a layer returned, and for which samples, batch by batch."""


def _features(name: str, first: Outs, second: Outs) -> np.ndarray:
    """The rows of a layer, (n, d) in float64, in the samples' own order, whichever dimension counts the samples; equal in both passes."""
    seen: list[tuple[Tensor, Tensor]] = []
    for out, part in [*first, *second]:
        require(out is not None and out.dim(), f"the layer {name!r}, which gave no tensor", "a layer whose output is a tensor, or has one")
        assert out is not None
        seen.append((out, part))
    depth = min(out.dim() for out, _ in seen)
    dims: list[int | None] = [dim for dim in range(depth) if all(out.shape[dim] == len(part) for out, part in seen)]
    if len({out.numel() / len(part) for out, part in seen}) > 1:  # rows would have as many numbers as their batch has samples
        dims = []
    elif all(len(out) and len(out) % len(part) == 0 for out, part in seen):  # positions below samples, (B · L, d)
        dims = dims or [None]
    out, part = seen[0]
    require(dims, f"the layer {name!r} with outputs {tuple(out.shape)} for {len(part)} samples", f"one row a sample, ({len(part)}, ...)")
    off = math.inf
    for dim in dims:
        halves = [_in_order(half, dim) for half in (seen[:len(first)], seen[len(first):])]
        require(np.isfinite(halves[0]).all(), f"the layer {name!r} with outputs NaN or infinite", "finite numbers")
        off, size = np.abs(halves[0] - halves[1]).max(initial=0), np.abs(halves[0]).max(initial=0)
        if off <= tolerance(1e3, torch.float32) * size:
            return halves[0]
    require(False, f"the layer {name!r}, whose rows change by {off:.2g} with the order or the rest of the batch",
            "one row a sample, in the samples' order")
    raise AssertionError


def _in_order(outs: Sequence[tuple[Tensor, Tensor]], dim: int | None) -> np.ndarray:
    """The rows (n, d) of a layer in the samples' own order, of which ``dim`` counts them; None if it counts their positions too."""
    rows = [rows_of(out.reshape(len(part), -1) if dim is None else out.movedim(dim, 0)) for out, part in outs]
    return np.concatenate(rows)[torch.cat([part for _, part in outs]).argsort().numpy()].astype(np.float64)


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
