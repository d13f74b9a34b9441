"""Reading what the reader brings: the samples of a loader, and a model whatever it takes and returns."""

import inspect
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .._checks import mixing_or_random, require, shown
from ..duality import Generator, as_mean
from ..structure.engine import LOW, forward, precision
from .report import Report


class Plain(nn.Module):
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
class Subject:
    """What is diagnosed: a model, the samples read for it, where and in which precision it computes, and its number of outputs."""

    model: Plain
    inputs: Tensor
    targets: Tensor
    generator: Generator
    device: torch.device
    dtype: torch.dtype | None
    K: int = 0

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


def subject_of(model: nn.Module, loader: Iterable[Any], limit: int, generator: Generator) -> Subject | Report:
    """Read the samples and try the model on two of them -> the subject, or the report that says why there is none."""
    try:
        inputs, targets, name = _read(loader, limit, model)
    except Exception as error:  # whatever a reader's loader raises belongs into the diagnosis
        return Report(problems=(f"The loader could not be read: {one_line(error)}",))
    plain, device, few = Plain(model, name), next(model.parameters()).device, inputs[:2]
    try:
        subject = Subject(plain, inputs, targets, generator, device, precision(plain, few.to(device)))
        outputs = subject.outputs(few)
    except Exception as error:
        return Report(problems=(f"The model fails on inputs {tuple(few.shape)}: {one_line(error)}",))
    problems = _output_problems(outputs, targets, generator)
    if problems:
        return Report(problems=tuple(problems))
    return replace(subject, targets=_labels_of_one_hot(targets, generator), K=outputs.shape[1])


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Loaders draw random numbers; what comes after the diagnosis draws what it would have drawn without it."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  the state that loaders written for it draw from
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def state_problems(model: nn.Module) -> list[str]:
    """What of a model's parameters and modes stands against measuring, in words."""
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
        return [f"Targets do not fit the outputs (B, {K}) and the loss of the {generator.name} generator: {one_line(error)}"]
    return []


def _labels_of_one_hot(targets: Tensor, generator: Generator) -> Tensor:
    """Labels (n,) where all probability vectors (n, K) are one-hot, else the targets as they are."""
    one_hot = generator.on_simplex and targets.dim() == 2 and bool((((targets == 0) | (targets == 1)).all(1) & (targets.sum(1) == 1)).all())
    return targets.argmax(1) if one_hot else targets


def one_line(error: Exception) -> str:
    """An exception in a line of words."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def rows_of(x: Tensor) -> np.ndarray:
    """One row of numbers a sample, (n, ...) -> (n, d), nothing rounded."""
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x.float() if x.dtype in LOW else x
    return x[:, None].flatten(1).numpy()
