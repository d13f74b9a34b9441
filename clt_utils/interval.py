"""Between what bounds the loss of a network lies, from what was measured on its samples."""

from torch import Tensor

from ._checks import require_integer, require_kind
from .bounds import risk_bounds, risk_bounds_sharp
from .duality import SHANNON, Generator
from .structure import Probe


def together(seen: Probe) -> Probe:
    """All samples as one: means of loss, residual and energy, extremes of the eigenvalues and of the smallest probability.

    Args:
        seen: What ``structure.probe`` measured, sample by sample.

    Returns:
        A ``Probe`` of scalars; its loss is the risk.

    Raises:
        TypeError: If ``seen`` is no ``Probe``.

    Example:
        >>> from torch import nn, tensor
        >>> from clt_utils.structure import probe
        >>> seen = probe(nn.Linear(1, 2), tensor([[1.0], [3.0]]), tensor([0, 1]))
        >>> round(together(seen).lam_min.item(), 3), round(together(seen).lam_max.item(), 3)  # x² + 1
        (2.0, 10.0)
    """
    require_kind("seen", seen, Probe, "a `Probe`", "`structure.probe` measures one.")
    return Probe(seen.loss.mean(), seen.residual.mean(), seen.energy.mean(), seen.lam_min.min(), seen.lam_max.max(), seen.p_min.min())


def risk_interval(seen: Probe, generator: Generator, num_classes: int | None = None) -> tuple[Tensor, Tensor]:
    """The bounds on the loss of each sample, or on the risk if ``seen`` is ``together(seen)`` (slug ``risk-sandwich``).

    Args:
        seen: What was measured.
        generator: Of the loss.
        num_classes: Their number K, if ``seen`` is sample by sample and the targets are labels: then cross-entropy gets its sharp
            bounds (slug ``risk-sandwich-sharp``).

    Returns:
        (lower, upper), each like ``seen.loss``.

    Raises:
        TypeError: If ``seen`` is no ``Probe``, and on a number of classes that is no number.
        ValueError: On a number of classes below 1, and as ``bounds.risk_bounds``.

    Example:
        >>> from torch import nn, tensor
        >>> from clt_utils.structure import probe
        >>> seen = probe(nn.Linear(1, 2), tensor([[1.0], [3.0]]), tensor([0, 1]))
        >>> lower, upper = risk_interval(together(seen), SHANNON)
        >>> bool(lower <= together(seen).loss <= upper)
        True
    """
    require_kind("seen", seen, Probe, "a `Probe`", "`structure.probe` measures one.")
    require_integer("num_classes", num_classes, 1, optional=True)
    lam_min = seen.lam_min.clamp(min=0)  # what is below is rounding
    if generator is SHANNON and num_classes is not None and num_classes >= 2:
        return risk_bounds_sharp(seen.energy, lam_min, seen.lam_max, num_classes, seen.p_min)
    return risk_bounds(seen.energy, lam_min, seen.lam_max, generator, seen.p_min)
