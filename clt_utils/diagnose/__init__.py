"""Bring your own model: what the theory says about it, as text, a figure, a dict and HTML; and a watch for training loops.

What is measured, and on what, stands beside every number: risk and largest loss on the samples read from the loader, spectra
and energies on some of them, information loss through quantized features with its bias. Nothing here is a guarantee for
data that the loader does not hold.

This file is what you call. ``samples`` reads loaders, batches and models as they come, ``measure`` and ``layers`` measure, ``rules`` gives
advice, ``report`` says it, ``watch`` goes along with training.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from .._checks import require, require_integer, require_kind, require_number
from ..duality import SHANNON, Generator
from .measure import report_on
from .report import Advice, Comparison, Layer, Report
from .samples import random_state_kept, state_problems, subject_of
from .watch import Watch

__all__ = ["Advice", "Comparison", "Layer", "Report", "Watch", "diagnose"]


def diagnose(model: nn.Module, train: Iterable[Any], test: Iterable[Any] | Generator | None = None, generator: Generator = SHANNON, *,
             layers: Sequence[str] = (), probes: int = 32, limit: int = 2000, cells: int = 24, candidates: int = 1, delta: float = 0.05,
             progress: bool = True) -> Report:
    """Say what the theory knows about a classifier or regressor.

    Before the work starts, its time and memory are estimated from one sample and printed. The model is left as it was, and so is
    the random state.

    Args:
        model: An ``nn.Module``; its output is a tensor (B, K), or an object or dict with ``logits``.
        train: The samples it was trained on, a ``DataLoader`` or any iterable of pairs (inputs, targets), or of dicts with ``labels`` and
            one input tensor. Targets are labels (B,), one-hot or not, or mean vectors (B, K).
        test: Held-out samples in the same form; with them the report has the gap, a temperature, a certificate, and what may be wrong
            between the two sets. A generator may stand here instead, if there are none.
        generator: The generator of the loss.
        layers: Names of submodules that give one row a sample; their information loss is estimated, for labels only.
        probes: Samples on which spectra and energies are measured, spread over those read.
        limit: Samples read from each loader.
        cells: Cells of the quantizer that makes features countable.
        candidates: How many predictors were compared on ``test`` before this one was chosen; the certificate pays for them.
        delta: Probability with which the certificate may fail.
        progress: Print the estimate and show a progress bar.

    Returns:
        A ``Report``; what of the model or its data cannot be measured, its ``problems`` say.

    Raises:
        TypeError: If ``model`` is no module, or another argument is of the wrong kind.
        ValueError: On a layer that the model does not have, and on numbers out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> batch = torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4)
        >>> net = nn.Linear(2, 2)
        >>> _ = [nn.init.zeros_(p) for p in net.parameters()]  # so it knows nothing
        >>> report = diagnose(net, [batch], probes=4, progress=False)
        >>> report.samples, round(report.numbers["risk"], 4)
        ((8, 4), 0.6931)
    """
    held_out, generator = (None, test) if isinstance(test, Generator) else (test, generator)
    require_kind("model", model, nn.Module, "an `nn.Module`")
    require_kind("layers", layers, (list, tuple), "a list of names of submodules")
    for name, value, low in (("probes", probes, 1), ("limit", limit, 2), ("cells", cells, 2), ("candidates", candidates, 1)):
        require_integer(name, value, low)
    require_number("delta", delta, "(0, 1)")
    require_kind("progress", progress, bool, "True or False")
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in layers:
        require_kind("a layer", name, str, "the name of a submodule")
        require(name in modules, f"the layer {name!r}", f"a submodule of the model, such as {', '.join(list(modules)[1:6])}")
    problems = state_problems(model)
    if problems:
        return Report(problems=tuple(problems))
    with random_state_kept():
        found = subject_of(model, train, limit, generator)
        unseen = None if held_out is None else subject_of(model, held_out, limit, generator)
        if isinstance(found, Report):
            return found
        report = report_on(found, tuple(dict.fromkeys(layers)), probes, cells, progress,
                           None if isinstance(unseen, Report) else unseen, candidates, delta)
        unread = [f"Held-out samples: {problem}" for problem in unseen.problems] if isinstance(unseen, Report) else []
        return replace(report, problems=(*unread, *report.problems))
