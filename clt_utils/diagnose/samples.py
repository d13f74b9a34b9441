"""Reading what the reader brings: the samples of a loader, and a model whatever it takes and returns."""

import inspect
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2, norm
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from .._checks import mixing_or_random, require, shown
from ..duality import Generator, as_mean
from ..structure.engine import LOW, forward, precision, tolerance
from .report import Report

Parts = dict[int | str, Tensor]
"""The inputs of some samples, by the place or the name by which the model takes them."""

LABELS = ("labels", "label", "targets", "target", "y")
"""What targets are called in a dict, the first that is there."""


class Plain(nn.Module):
    """The model as the engine wants it: one tensor in, whatever it takes, and a tensor (B, K) out, whatever it returns.

    Where the model takes several tensors, such as ids and a mask, all of them stay here, and the one that goes in says which samples.
    """

    def __init__(self, model: nn.Module, names: Sequence[int | str] = (0,), parts: Parts | None = None, adapted: bool = False) -> None:
        super().__init__()
        self.model, self.names, self.parts, self.adapted = model, names, parts, adapted
        self.training = model.training  # `train` would set the mode of every submodule

    def forward(self, inputs: Tensor) -> Tensor:
        given = {self.names[0]: inputs}
        if self.parts is not None:
            given = {name: part[inputs.cpu()].to(inputs.device) for name, part in self.parts.items()}
        if self.adapted or self.parts is not None:  # what the engine does for the one tensor it sees: it follows the parameters' precision
            given = {name: _as_numbers(part, _precision(self.model), self.adapted) for name, part in given.items()}
        outputs = self.model(*[part for name, part in given.items() if isinstance(name, int)],
                             **{name: part for name, part in given.items() if isinstance(name, str)})
        return _rows_of_outputs(outputs, len(inputs))


def plain(model: nn.Module, parts: Parts, adapted: bool = False) -> tuple[Plain, Tensor]:
    """The model as the engine wants it, and the samples as it then takes them."""
    if len(parts) == 1:
        return Plain(model, tuple(parts), adapted=adapted), next(iter(parts.values()))
    return Plain(model, tuple(parts), parts, adapted), torch.arange(len(next(iter(parts.values()))))


def _rows_of_outputs(outputs: Any, n: int) -> Tensor:
    """The outputs (n, K), from a tensor, the first of a tuple, or ``logits`` of an object or dict; (n,) and (n, K, 1, 1) have rows too."""
    if not isinstance(outputs, Tensor):
        outputs = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", outputs)
    if isinstance(outputs, (tuple, list)) and outputs:
        outputs = outputs[0]
    if isinstance(outputs, Tensor) and outputs.dim() != 2 and outputs.dim() >= 1 and outputs.shape[2:].numel() == 1:
        outputs = outputs.reshape(len(outputs), -1)
    require(isinstance(outputs, Tensor) and outputs.dim() == 2, f"a model whose output is {shown(outputs)} for {n} samples",
            "one vector a sample, (B, K), or `logits` of this form",
            "For images of labels or sequences, flatten positions into the batch or pool over them.")
    return outputs


def _precision(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _as_numbers(x: Tensor, dtype: torch.dtype, integers: bool) -> Tensor:
    """Real numbers in the precision of the model; integers too if asked for, bytes as numbers from 0 to 1."""
    if x.is_floating_point():
        return x.to(dtype)
    return x if not integers or x.is_complex() else x.to(dtype) / 255 if x.dtype == torch.uint8 else x.to(dtype)


@dataclass(frozen=True)
class Subject:
    """What is diagnosed: a model, the samples read for it, where and in which precision it computes, and its number of outputs."""

    model: Plain
    inputs: Tensor
    targets: Tensor
    generator: Generator
    device: torch.device
    dtype: torch.dtype | None
    K: int = 0
    notes: tuple[str, ...] = ()
    """What a reader must know of how the samples were taken."""

    @property
    def has_labels(self) -> bool:
        """Whether targets are labels (n,), not mean vectors (n, K)."""
        return self.targets.dim() == 1

    def outputs(self, inputs: Tensor) -> Tensor:
        """The model's outputs (B, K) on the CPU, without a graph."""
        return forward(self.model, inputs.to(self.device), self.dtype, grad=False)[0].detach().cpu()

    def part(self, indices: Tensor | slice) -> tuple[Plain, Tensor, Tensor, Generator]:
        """Some of the samples, as ``probe`` and its kin take them."""
        return self.model, self.inputs[indices].to(self.device), self.targets[indices].to(self.device), self.generator

    def rows(self) -> np.ndarray:
        """All that each sample brings to the model, one row of numbers a sample (n, d)."""
        parts = [self.inputs] if self.model.parts is None else list(self.model.parts.values())
        return np.concatenate([rows_of(part) for part in parts], 1)


def subject_of(model: nn.Module, loader: Iterable[Any], limit: int, generator: Generator) -> Subject | Report:
    """Read the samples and try the model on two of them -> the subject, or the report that says why there is none."""
    try:
        read = _read(loader, limit, model)
    except Exception as error:  # whatever a reader's loader raises belongs into the diagnosis
        return Report(problems=(f"The loader could not be read: {one_line(error)}",))
    try:
        subject, outputs = _tried(model, read, generator)
        _require_padding_that_changes_nothing(subject, read)
    except Exception as error:
        few = ", ".join(f"{'' if isinstance(name, int) else f'{name} '}{(min(2, len(part)), *part.shape[1:])}"
                        for name, part in read.parts.items())
        return Report(problems=(f"The model fails on inputs {few}: {one_line(error)}",))
    subject, problems = _fitted(subject, outputs)
    if problems:
        return Report(problems=tuple(problems))
    targets = _labels_of_one_hot(subject.targets, generator)
    return replace(subject, targets=targets, notes=(*subject.notes, *_order_notes(targets, subject.K, read.more)))


def subject_of_few(model: nn.Module, parts: Parts, targets: Tensor, generator: Generator) -> Subject:
    """The subject of samples that are there, or a ``ValueError`` that says why there is none."""
    problems = state_problems(model)  # before it runs: a pass would give lazy parameters their shape
    require(not problems, "a model that cannot be measured", "one that can", " ".join(problems))
    parts, targets = {name: part.cpu() for name, part in parts.items()}, targets.cpu()  # where samples wait, wherever the model lives
    subject, problems = _fitted(*_tried(model, _Read(parts, targets, False, None), generator))
    require(not problems, "samples that cannot be measured", "some that can", " ".join(problems))
    return subject


@dataclass(frozen=True)
class _Read:
    """What was read: inputs and targets on the CPU, whether the loader had more, and a sample as it came before it was padded."""

    parts: Parts
    targets: Tensor
    more: bool
    unpadded: tuple[int, Parts] | None


def _tried(model: nn.Module, read: _Read, generator: Generator) -> tuple[Subject, Tensor]:
    """The subject, and its outputs for two samples; inputs that the model does not take as they are become numbers of its precision."""
    device, kind = next(model.parameters()).device, _precision(model)
    strange = {part.dtype for part in read.parts.values()} - {kind, torch.bool}
    failure: Exception | None = None
    for adapted in (False, True) if strange else (False,):
        wrapped, inputs = plain(model, read.parts, adapted)
        try:
            subject = Subject(wrapped, inputs, read.targets, generator, device, precision(wrapped, inputs[:2].to(device)))
            outputs = subject.outputs(inputs[:2])
        except Exception as error:
            failure = failure or error
            continue
        by = " and divided by 255" * (torch.uint8 in strange)
        kinds = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in strange))
        note = (f"The model does not take the inputs ({kinds}) as they come: they were turned into {str(kind).removeprefix('torch.')}{by}. "
                "If your training scales them in another way, let the loader do it.")
        return replace(subject, notes=(note,) * adapted), outputs
    assert failure is not None
    raise failure


def _require_padding_that_changes_nothing(subject: Subject, read: _Read) -> None:
    """Where batches of unequal length were padded, the output of a sample must be that of its own length."""
    if read.unpadded is None:
        return
    place, parts = read.unpadded
    alone, one = plain(subject.model.model, parts, subject.model.adapted)
    own = replace(subject, model=alone).outputs(one)
    off, size = (own - subject.outputs(subject.inputs[place:place + 1])).abs().max().item(), own.abs().max().item()
    require(off <= tolerance(1e4, own.dtype) * size, f"batches of unequal lengths and a model whose output changes by {off:.2g} "
            "with padding", "samples of one length", "Pad them all to one length in the loader (`padding=\"max_length\"`).")


# ---- the model stays as it was

@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while the block runs, every module in its own again afterwards, and the random state as it was.

    Loaders draw random numbers; what comes after the diagnosis draws what it would have drawn without it.
    """
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  the state that loaders written for it draw from
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), in_evaluation(model):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode while the block runs; not by ``eval``, which a model may have made do more."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def state_problems(model: nn.Module) -> list[str]:
    """What of a model's parameters and modules stands against measuring it in evaluation mode, in words."""
    problems = []
    lazy = [name for name, p in model.named_parameters() if is_lazy(p)]
    if lazy:
        return [f"{len(lazy)} parameters have no shape yet, the first is `{lazy[0]}`. Run the model once on some inputs."]
    if any(p.is_meta for p in model.parameters()):
        return ["The model is on the device meta, where parameters have no values. Load its weights first."]
    bad = [name for name, p in model.named_parameters() if (p.is_floating_point() or p.is_complex()) and not torch.isfinite(p).all()]
    if bad:
        problems.append(f"{len(bad)} parameters hold NaN or infinite numbers, the first is `{bad[0]}`. Training diverged: lower "
                        "the learning rate, and start from a checkpoint before that.")
    if not any(p.requires_grad for p in model.parameters()):
        problems.append("No parameter requires a gradient, so there is no structure matrix. Unfreeze at least one.")
    kind, name = mixing_or_random(model) or ("", "")
    if kind:
        problems.append(f"Batch normalization keeps no running statistics (`{name}`): samples interact, and a Jacobian of one sample does "
                        "not exist. Make it with `track_running_stats=True`, or use layer or group norm.")
    return problems


# ---- reading

def _read(loader: Iterable[Any], limit: int, model: nn.Module) -> _Read:
    """Copies of ``limit`` samples of the loader on the CPU."""
    batches: list[tuple[Parts, Tensor]] = []
    n, loader = 0, _drawing(loader, limit)
    for batch in loader:
        parts, y = _parts_and_targets(batch, model)
        y = torch.as_tensor(y).detach()
        parts = {name: torch.as_tensor(part).detach() for name, part in parts.items()}
        for x in parts.values():
            require(x.dim() and y.dim(), f"{shown(x)} as inputs and {shown(y)} as targets", "batches (B, ...) and (B,) or (B, K)",
                    "Let a `DataLoader` make batches of single samples.")
            require(len(x) == len(y), f"{len(x)} inputs and {len(y)} targets", "one target for each input")
        left = limit - n
        batches.append(({name: x[:left].to("cpu", copy=True) for name, x in parts.items()}, y[:left].to("cpu", copy=True)))
        n += len(batches[-1][1])
        if n >= limit:
            break
    require(n, "a loader without batches, or with empty ones", "at least one batch of (inputs, targets)")
    targets = torch.cat([y for _, y in batches])
    parts, unpadded = _together([parts for parts, y in batches if len(y)], model)
    return _Read(parts, targets if targets.is_floating_point() or targets.is_complex() else targets.long(),
                 n >= limit and (left < len(y) or _has_more(loader, len(batches))), unpadded)


def _drawing(loader: Iterable[Any], limit: int) -> Iterable[Any]:
    """A ``DataLoader`` that would give the beginning of its data set gives samples drawn from all of it instead."""
    if type(loader) is not DataLoader or type(loader.batch_sampler) is not BatchSampler:
        return loader
    if not isinstance(loader.sampler, SequentialSampler) or (n := len(loader.sampler)) <= limit:
        return loader
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:limit].sort().values.tolist()
    return DataLoader(loader.dataset, loader.batch_size, sampler=chosen, collate_fn=loader.collate_fn, num_workers=loader.num_workers,
                      worker_init_fn=loader.worker_init_fn, multiprocessing_context=loader.multiprocessing_context)


def _has_more(loader: Any, batches: int) -> bool:
    """Whether a loader of which so many batches were read may have others."""
    try:
        return len(loader) != batches
    except TypeError:
        return True


def _parts_and_targets(batch: Any, model: nn.Module) -> tuple[dict[int | str, Any], Any]:
    """What a batch brings to the model, by place or name, and its targets."""
    if isinstance(batch, Mapping):
        label = next((name for name in LABELS if name in batch), None)
        require(label is not None, f"a batch with {', '.join(map(str, batch))}", "`labels` among its names")
        return _by_name({name: part for name, part in batch.items() if name != label}, model), batch[label]
    is_tuple = isinstance(batch, (list, tuple))
    require(is_tuple and (len(batch) == 2 or 2 < len(batch) == 1 + _needed(model)),
            f"a batch of {len(batch)} parts" if is_tuple else f"{shown(batch)} as a batch",
            "a pair (inputs, targets), or a dict with `labels`", "Choose the two parts: `((x, y) for x, y, *_ in loader)`.")
    *given, y = batch
    if len(given) == 1 and isinstance(given[0], Mapping):
        return _by_name(given[0], model), y
    several = len(given) == 1 and isinstance(given[0], (list, tuple)) and len(given[0]) == _needed(model)
    return dict(enumerate(given[0] if several else given)), y


def _arguments(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):  # what is not written in Python may not say
        return {}


def _needed(model: nn.Module) -> int:
    """How many arguments the model must be given."""
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in _arguments(model).values())


def _by_name(given: Mapping[Any, Any], model: nn.Module) -> dict[int | str, Any]:
    """The tensors of a dict that the model has names for; else the only one, or the only one with real numbers."""
    tensors: dict[int | str, Any] = {str(name): part for name, part in given.items() if isinstance(part, (Tensor, np.ndarray))}
    arguments = _arguments(model)
    taken = {name: part for name, part in tensors.items() if name in arguments}
    anything = any(p.kind is p.VAR_KEYWORD for p in arguments.values()) and not _needed(model)
    if anything and not taken and len(tensors) > 1:
        return tensors
    if taken:
        return taken
    chosen = [name for name, part in tensors.items() if torch.as_tensor(part).is_floating_point()] or list(tensors)
    require(len(chosen) == 1, f"a batch with {len(chosen)} inputs ({', '.join(map(str, chosen))})", "one input tensor beside `labels`, "
            "or those that `forward` has names for", "Wrap the model so that it takes one.")
    return {0: tensors[chosen[0]]}


def _together(batches: Sequence[Parts], model: nn.Module) -> tuple[Parts, tuple[int, Parts] | None]:
    """All batches as one, padded where their lengths differ -> (parts, (place, parts) of a sample as it was before)."""
    names = list(batches[0])
    for parts in batches:
        require(list(parts) == names, f"batches with {', '.join(map(str, names))} and with {', '.join(map(str, parts))}", "the same names")
    shapes = [[tuple(parts[name].shape[1:]) for name in names] for parts in batches]
    if all(shape == shapes[0] for shape in shapes):
        return {name: torch.cat([parts[name] for parts in batches]) for name in names}, None
    has_mask = any("mask" in str(name) for name in names)
    same_depth = all([len(s) for s in shape] == [len(s) for s in shapes[0]] for shape in shapes)
    different = " and ".join(map(str, sorted({shape[0] for shape in shapes})))
    require(has_mask and same_depth, f"batches whose samples have the shapes {different}", "one shape",
            "Pad them all to one length, or add the mask that says what is padding, as `attention_mask` in a dict.")
    padding = getattr(getattr(model, "config", None), "pad_token_id", None) or 0
    shortest = min(range(len(batches)), key=lambda i: sum(map(sum, shapes[i])))
    place = sum(len(parts[names[0]]) for parts in batches[:shortest])
    joined = {name: _padded([parts[name] for parts in batches], padding if name == "input_ids" else 0) for name in names}
    return joined, (place, {name: part[:1] for name, part in batches[shortest].items()})


def _padded(tensors: Sequence[Tensor], value: float) -> Tensor:
    longest = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors))]
    return torch.cat([nn.functional.pad(t, [n for size, most in reversed(list(zip(t.shape[1:], longest))) for n in (0, most - size)],
                                        value=value) for t in tensors])


# ---- targets

def _fitted(subject: Subject, outputs: Tensor) -> tuple[Subject, list[str]]:
    """A subject with the number of its outputs, its targets as the losses take them, and what stands against measuring it."""
    subject = replace(subject, targets=_fitting(subject.targets, outputs.shape[1], subject.generator), K=outputs.shape[1])
    return subject, _output_problems(outputs, subject.targets, subject.generator)


def _fitting(targets: Tensor, K: int, generator: Generator) -> Tensor:
    """Targets as the losses take them: labels (n,) or means (n, K), from what comes close to it."""
    if targets.dim() > 2 and targets.shape[1:].numel() in (1, K):
        targets = targets.flatten(1)
    if targets.dim() == 2 and targets.shape[1] == 1 and K > 1:
        targets = targets[:, 0]
    if targets.dim() == 1 and K == 1 and not generator.on_simplex:
        return targets[:, None]
    if targets.dim() == 1 and targets.is_floating_point() and bool((targets == targets.round()).all()):
        return targets.long()
    return targets


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
        return [f"Targets do not fit the outputs (B, {K}) and the loss of the {generator.name} generator: {one_line(error)}"
                f"{_other_generator(targets, K, generator)}"]
    return []


def _other_generator(targets: Tensor, K: int, generator: Generator) -> str:
    """Advice where targets look like those of another loss."""
    if not generator.on_simplex:
        return ""
    yes_or_no = bool(((targets == 0) | (targets == 1)).all())
    if K == 1:
        return (" One output is no distribution: for a yes or no pass the generator `duality.BINARY`, for a number `duality.SQUARED`.")
    if targets.dim() == 2 and targets.shape[1] == K:
        return (" If each sample may have several labels, pass the generator `duality.BINARY`." if yes_or_no else
                " For a vector of numbers pass the generator of your loss, such as `duality.SQUARED`.")
    return ""


def _labels_of_one_hot(targets: Tensor, generator: Generator) -> Tensor:
    """Labels (n,) where all probability vectors (n, K) are one-hot, else the targets as they are."""
    one_hot = generator.on_simplex and targets.dim() == 2 and bool((((targets == 0) | (targets == 1)).all(1) & (targets.sum(1) == 1)).all())
    return targets.argmax(1) if one_hot else targets


def _order_notes(targets: Tensor, K: int, more: bool) -> list[str]:
    """Whether the samples are the beginning of a sorted loader: targets of their first half unlike those of their second."""
    advice = "The numbers are about these samples alone. Let the loader shuffle, or raise `limit`."
    if not more or len(targets) < 16:
        return []
    if targets.dim() == 1 and len(targets.unique()) == 1:
        return [f"All {len(targets)} samples that were read have the label {int(targets[0])}, and the loader has more. {advice}"]
    first, second = (half.double() for half in targets.tensor_split(2))
    if targets.dim() == 1:
        counts = torch.stack([torch.bincount(half.long(), minlength=K).double() for half in (first, second)])
        both = counts[:, counts.sum(0) > 0]
        chance = chi2.sf(float(((both[0] - both[1]).square() / both.sum(0)).sum()), both.shape[1] - 1)
    else:
        apart = (first.mean(0) - second.mean(0)).abs() / (first.var(0) / len(first) + second.var(0) / len(second)).clamp(min=1e-300).sqrt()
        chance = 2 * len(apart) * norm.sf(float(apart.max()))
    return [f"The loader looks sorted: the targets of its first {len(first)} samples are unlike those of the next {len(second)}, and there "
            f"are more. {advice}"] if chance < 1e-6 else []


def one_line(error: Exception) -> str:
    """An exception in a line of words."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def rows_of(x: Tensor) -> np.ndarray:
    """One row of numbers a sample, (n, ...) -> (n, d), nothing rounded."""
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x.float() if x.dtype in LOW else x
    return x[:, None].flatten(1).numpy()
