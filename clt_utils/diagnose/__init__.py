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

from .._checks import require_integer, require_kind, require_number
from ..duality import SHANNON, Generator, require_generator
from .layers import named
from .measure import report_on
from .report import Advice, Comparison, Layer, Report
from .samples import left_as_it_was, state_problems, subject_of
from .watch import Watch

__all__ = ["Advice", "Comparison", "Layer", "Report", "Watch", "diagnose"]


def diagnose(model: nn.Module, train: Iterable[Any], test: Iterable[Any] | Generator | None = None, generator: Generator = SHANNON, *,
             layers: str | Sequence[str] = (), probes: int = 32, limit: int = 2000, cells: int = 24, candidates: int = 1,
             delta: float = 0.05, progress: bool = True) -> Report:
    """Say what the theory knows about a classifier or regressor.

    Before the work starts, its time and memory are estimated from a few samples and printed. The model is measured in evaluation mode
    and left as it was, and so is the random state.

    Args:
        model: An ``nn.Module``; its output is a tensor (B, K), the first of a tuple, or ``logits`` of an object or dict.
        train: The samples it was trained on, a ``DataLoader`` or any iterable of pairs (inputs, targets), or of dicts with ``labels`` and
            what the model's ``forward`` has names for, such as ids and a mask. Targets are labels (B,) or (B, 1), one-hot or not, or mean
            vectors (B, K). Of a ``DataLoader`` that does not shuffle, the samples are drawn from the whole data set.
        test: Held-out samples in the same form; with them the report has the gap, a temperature, a certificate, and what may be wrong
            between the two sets. A generator may stand here instead, if there are none.
        generator: The generator of the loss.
        layers: Names of submodules whose information loss is estimated, for labels only, or patterns, such as ``"blocks.*"``.
        probes: Samples on which spectra and energies are measured, spread over those read.
        limit: Samples read from each loader.
        cells: Cells of the quantizer that makes features countable.
        candidates: How many predictors were compared on ``test`` before this one was chosen; the certificate pays for them.
        delta: Probability with which the certificate may fail.
        progress: Print the estimate and show a progress bar.

    Returns:
        A ``Report``; what of the model or its data cannot be measured, its ``problems`` say, and its ``notes`` how samples were read.

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
    if isinstance(test, str):
        require_generator(test)
    held_out, generator = (None, test) if isinstance(test, Generator) else (test, generator)
    require_generator(generator)
    require_kind("model", model, nn.Module, "an `nn.Module`")
    require_kind("layers", layers, (list, tuple, str), "a list of names of submodules, or a pattern for some")
    for name, value, low in (("probes", probes, 1), ("limit", limit, 2), ("cells", cells, 2), ("candidates", candidates, 1)):
        require_integer(name, value, low)
    require_number("delta", delta, "(0, 1)")
    require_kind("progress", progress, bool, "True or False")
    chosen = named(model, layers)
    with left_as_it_was(model):
        problems = state_problems(model)
        found = Report(problems=tuple(problems)) if problems else subject_of(model, train, limit, generator)
        if isinstance(found, Report):
            return found
        unseen = None if held_out is None else subject_of(model, held_out, limit, generator)
        report = report_on(found, chosen, probes, cells, progress, None if isinstance(unseen, Report) else unseen, candidates, delta)
        if isinstance(unseen, Report):
            return replace(report, problems=(*(f"Held-out samples: {problem}" for problem in unseen.problems), *report.problems))
        others = [note for note in (unseen.notes if unseen else ()) if note not in report.notes]
        return replace(report, notes=(*report.notes, *(f"Held-out samples: {note}" for note in others)))
