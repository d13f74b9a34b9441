"""What a diagnosis will take, told before it is taken, and the eigenvalues where a structure matrix would take too much."""

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._spacing import evenly_spaced
from ..structure import matrix_free_eigenvalues
from ..structure.engine import BLOCK, blocks, measured
from .layers import hooks
from .samples import Subject, one_line

MOST_OUTPUTS = 2000
"""Outputs up to which structure matrices are formed: beyond, the eigenvalues of a few of them take minutes."""

FEW = 4
"""Samples whose eigenvalues are found without their matrices."""

PRODUCTS = 100
"""Products of a matrix and a vector that this takes about, each at the price of going back once."""

TOGETHER = 8
"""Samples that go forward to learn the time of one."""

DIRECTIONS = 8
"""Directions of which the time is measured, to tell that of all K."""


def free_memory(device: torch.device) -> float:
    """Bytes that are free where a model lives; infinitely many where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def together(K: int) -> int:
    """Samples whose structure matrices are held at a time: fewer where they are large."""
    return 8 if K <= 256 else 2


def room(subject: Subject, probes: int, matrix: bool) -> float:
    """Bytes that the work takes beside what is there, from the sizes of one sample in the layers that it passes."""
    sizes = [1]
    modules = {name: m for name, m in subject.model.named_modules() if not isinstance(m, torch.jit.ScriptModule)}  # these take no hooks
    with hooks(modules, lambda _, out: sizes.append(out.numel()) if isinstance(out, Tensor) else None):
        subject.outputs(subject.inputs[:1])
    K, few = subject.K, min(probes, together(subject.K))
    trainable = sum(p.numel() for p in subject.model.parameters() if p.requires_grad)
    widest = (K if matrix else 1) * max(sizes)
    block = max(widest, min(BLOCK, few * widest))
    return 4 * (8 * block + trainable + 64 * sum(sizes)) + 48 * few * K**2 * matrix


def seconds(subject: Subject, probes: int, passes: float, matrix: bool) -> float:
    """Seconds of the work, from a few samples that go forward, and one back in a few directions: nothing of size K × K is made for it.

    Args:
        subject: What will be measured.
        probes: Samples whose spectra or energies will be.
        passes: How often all samples will go forward.
        matrix: Whether structure matrices will be formed.
    """
    one, few, K = subject.inputs[:1].to(subject.device), subject.inputs[:TOGETHER], subject.K
    forward = _took(lambda: subject.outputs(few)) / len(few)  # samples share the price of a call
    back = _walk(subject, one, 1)
    several = min(DIRECTIONS, K)
    each = max(0.0, _walk(subject, one, several) - back) / max(1, several - 1)
    spectra = probes * (back + (K - 1) * each + _eigenvalues(K)) if matrix else (probes + PRODUCTS * min(probes, FEW)) * back
    return spectra + passes * forward * len(subject.inputs)


def _walk(subject: Subject, one: Tensor, directions: int) -> float:
    """Seconds of one sample forward and back in so many directions."""
    def unit(outputs: Tensor, part: slice) -> Tensor:
        return torch.eye(directions, outputs.shape[1]).to(outputs)[:, None].expand(directions, len(outputs), outputs.shape[1])

    def whole() -> None:
        with measured(subject.model, subject.device):
            list(blocks(subject.model, one, unit))

    whole()  # the first call also learns the model
    return _took(whole)


def _eigenvalues(K: int) -> float:
    """Seconds for those of one matrix, from a smaller one: they grow as the cube."""
    size = min(K, 256)
    numbers = torch.arange(size, dtype=torch.float64)
    A = torch.cos(numbers[:, None] * numbers)
    return _took(lambda: torch.linalg.eigvalsh(A)) * (K / size)**3


def _took(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def without_matrices(subject: Subject, chosen: Tensor, problems: list[str]) -> dict[str, float]:
    """The extreme eigenvalues of a few of the chosen samples by Lanczos' method, within ``eigenvalue_error``."""
    few = chosen[torch.as_tensor(evenly_spaced(len(chosen), FEW))]
    model, inputs, *_ = subject.part(few)
    try:
        low, high, error = matrix_free_eigenvalues(model, inputs, tolerance=1e-3)
    except ValueError as error_of_model:  # not every layer can be passed twice
        problems.append(f"The eigenvalues could not be measured: {one_line(error_of_model)}")
        return {}
    found = {"lam_min": low.min().item(), "lam_max": high.max().item(), "eigenvalue_error": error.max().item()}
    apart = bool((low > 10 * error).all())  # else the smallest is not known to a share of itself, and no condition
    return found | ({"condition": (high / low).median().item()} if apart else {})
