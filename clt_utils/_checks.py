"""Checks at the border of the package: an error says what was given, what was expected and what to do.

Two classes, everywhere. ``TypeError``: the wrong kind of thing, such as a text or None where a number is wanted, a name where a
generator is, or a truth value where an integer is. ``ValueError``: the right kind with a wrong value, shape or dtype.

What is named ``require_…`` returns nothing; ``real_array`` and ``real_tensor`` return what they made of a reader's numbers.
"""

import difflib
import functools
import math
import reprlib
from collections.abc import Iterable, Sequence, Set
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch


def require(condition: object, given: str, expected: str, advice: str = "", error: type[Exception] = ValueError) -> None:
    """Raise ``error`` unless ``condition`` holds, in one form: given, expected, what to do.

    Args:
        condition: Anything with a truth value.
        given: What the caller passed, in words and numbers.
        expected: What would have been right.
        advice: What to do about it; optional.
        error: The exception class to raise.
    """
    if not condition:
        raise error(f"Given: {given}. Expected: {expected}." + (f" {advice}" if advice else ""))


def shown(value: object) -> str:
    """A value in a few words: tensors and arrays by dtype and shape, others as Python writes them, cut short."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {value.dtype} of shape {tuple(value.shape)}" + " on meta" * value.is_meta + (
            ", sparse" if value.layout != torch.strided else "")
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} of shape {value.shape}"
    return reprlib.repr(value)


def span(x: Any) -> str:
    """From where to where the entries of an array or a tensor go, in words."""
    return f"from {float(x.min()):g} to {float(x.max()):g}" if math.prod(x.shape) else "without entries"


def require_kind(name: str, value: object, kind: type | tuple[type, ...], expected: str, advice: str = "") -> None:
    """Raise ``TypeError`` unless ``value`` is a ``kind``: a generator, a model, a tensor, a dtype, a path."""
    if not isinstance(value, kind):
        require(False, f"{name}={shown(value)}", expected, advice, TypeError)


def require_callable(name: str, value: object, expected: str, optional: bool = False) -> None:
    """Raise ``TypeError`` unless ``value`` can be called. None passes if ``optional``."""
    if not callable(value) and not (optional and value is None):
        require(False, f"{name}={shown(value)}", expected + " or None" * optional, error=TypeError)


def require_name(what: str, name: object, known: Sequence[str]) -> None:
    """Raise unless ``name`` is one of ``known``; the error names the closest ones, or all."""
    if isinstance(name, str) and name in known:
        return
    close = difflib.get_close_matches(name.lower(), known, 3) if isinstance(name, str) else []
    require(False, f"the {what} {shown(name)}", f"one of {', '.join(map(repr, known))}",
            f"Did you mean {' or '.join(map(repr, close))}?" if close else "", ValueError if isinstance(name, str) else TypeError)


# Axes of a grid ------------------------------------------------------------------------------------------------------

PLAIN = (str, Real, type(None))
"""What a value on an axis may be: a name, a number, a truth value or None."""


def plain_list(name: str, values: Any) -> list[Any]:
    """``values``, from anything that has an order, such as a list, an array or a generator, as a list: plain ones, each once."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    ordered = isinstance(plain, Iterable) and not isinstance(plain, (str, bytes, Set, torch.Tensor))
    require(ordered, f"{name}={shown(values)}", "a list of values, in order", error=TypeError)
    listed = list(plain)
    require(listed, f"{name}={shown(values)}, which is empty", "a list of values")
    for value in listed:
        require_kind(name, value, PLAIN, "a list of values, which are names, numbers, True, False or None")
    require(len(set(listed)) == len(listed), f"{name}={listed}", "each value once")
    return listed


def require_point(point: Any, axes: dict[str, list[Any]]) -> None:
    """Raise unless ``point`` is a dict that has one of the values of each axis."""
    require_kind("point", point, dict, f"a dict with a value for each of {list(axes)}")
    for axis, value in point.items():
        require_on_axis(axis, value, axes)
    require(len(point) == len(axes), f"a point with {sorted(point)}", f"a value for each of {list(axes)}")


def require_on_axis(axis: str, value: object, axes: dict[str, list[Any]]) -> None:
    """Raise unless ``value`` is one of the values of this axis."""
    require_name("axis", axis, tuple(axes))
    require_kind(axis, value, PLAIN, f"one of its values {axes[axis]}")
    require(value in axes[axis], f"{axis}={shown(value)}", f"one of its values {axes[axis]}")


# Numbers -------------------------------------------------------------------------------------------------------------

def require_integer(name: str, value: object, low: int = -2**63, high: int = 2**63 - 1, advice: str = "", optional: bool = False) -> None:
    """Raise unless ``value`` is an integer from ``low`` to ``high``; a truth value is none. None passes if ``optional``."""
    if (optional and value is None) or (_is_number(value) and isinstance(value, Integral) and low <= int(value) <= high):
        return
    ends = f" from {low} to {high}" if high < 2**63 - 1 else f" of at least {low}" if low > -2**63 else ""
    large = isinstance(value, Integral) and int(value) > 2**63 - 1
    require(False, f"{name}={shown(value)}", "an integer" + ends + ", within 64 bits" * large + " or None" * optional, advice,
            ValueError if _is_number(value) else TypeError)


def require_number(name: str, value: object, interval: str = "(-∞, ∞)", advice: str = "", optional: bool = False) -> None:
    """Raise unless ``value`` is a real number in ``interval``, such as "[0, 1)"; a truth value is none."""
    if optional and value is None:
        return
    if isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim == 0 and not getattr(value, "is_meta", False):
        value = value.item()
    number: Any = value
    low, high = _ends(interval)
    if _is_number(value) and low <= number <= high and (interval[0] == "[" or low < number) and (interval[-1] == "]" or number < high):
        if not isinstance(value, Integral) or abs(number) < 2**63:
            return
        interval += ", within 64 bits"
    require(False, f"{name}={shown(value)}", f"a number in {interval}" + " or None" * optional, advice,
            ValueError if _is_number(value) else TypeError)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@functools.cache
def _ends(interval: str) -> tuple[float, float]:
    low, high = (float(end.replace("∞", "inf")) for end in interval[1:-1].split(","))
    return low, high


# Arrays and tensors --------------------------------------------------------------------------------------------------

def real_array(name: str, value: object, dims: int = 0, nan: bool = False) -> np.ndarray:
    """``value`` as an array of real numbers, its dtype kept, with at least ``dims`` dimensions; entries if dims > 0, NaNs if ``nan``."""
    try:
        array = np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value)
    except Exception:  # whatever a stranger's object raises
        array = np.array(None)
    kind = array.dtype.kind
    if kind not in "biuf":
        require(False, f"`{name}` = {shown(value)}", "real numbers", "Take the real part yourself if you mean it." * (kind == "c"),
                ValueError if kind == "c" else TypeError)
    require(array.ndim >= dims and (array.size or not dims), f"`{name}` of shape {array.shape}",
            f"at least {dims} dimension{'s' * (dims > 1)} and one entry")
    require(nan or kind != "f" or not np.isnan(array).any(), f"`{name}` = NaN" if array.ndim == 0 else f"`{name}` with NaNs", "numbers")
    return array


def require_traces(traces: Any, *names: str) -> None:
    """Raise unless ``traces`` is a list of at least one trace, each with these columns, which are of one length."""
    require_kind("traces", traces, (list, tuple), "a list of traces, one a seed")
    require(traces, "no trace", "at least one")
    for trace in traces:
        try:
            columns = [trace[name] for name in names]
        except (LookupError, TypeError, RuntimeError):
            require(False, f"{shown(trace)} in place of a trace", f"a `Trace`, or else the columns {', '.join(names)} by name",
                    error=TypeError)
        lengths = [len(real_array(name, column, dims=1, nan=True)) for name, column in zip(names, columns)]
        require(len(set(lengths)) == 1, f"a trace with columns {', '.join(names)} of lengths {lengths}", "columns of one length")


def real_tensor(name: str, value: object) -> torch.Tensor:
    """``value``, numbers, arrays or a tensor, as a float64 tensor of real numbers without NaN; a tensor keeps its graph."""
    if not isinstance(value, torch.Tensor):
        return torch.from_numpy(np.array(real_array(name, value), dtype=np.float64, order="C"))
    require_values(name, value)
    tensor = value.to(torch.float64)
    require(not torch.isnan(tensor).any(), f"`{name}` = NaN" if tensor.ndim == 0 else f"`{name}` with NaNs", "numbers")
    return tensor


def require_tensor(name: str, value: object, dims: int = 0) -> None:
    """Raise unless ``value`` is a tensor of real floating-point numbers with at least ``dims`` dimensions."""
    require_kind(name, value, torch.Tensor, "a torch tensor", "Wrap it in `torch.as_tensor`.")
    assert isinstance(value, torch.Tensor)
    if not value.is_floating_point() or value.ndim < dims or value.layout != torch.strided:
        require(False, f"`{name}` = {shown(value)}", f"floating-point numbers with at least {dims} dimension{'s' * (dims != 1)}, dense")


def require_values(name: str, tensor: torch.Tensor) -> None:
    """Raise ``ValueError`` unless ``tensor`` has values, real ones, and all of them."""
    if tensor.is_complex() or tensor.is_meta or tensor.layout != torch.strided:
        require(False, f"`{name}` = {shown(tensor)}", "real numbers in a dense tensor, on a device that computes")


def require_device(name: str, device: object) -> None:
    """Raise unless ``device`` is one, or the name of one, that torch finds here and that computes."""
    require_kind(name, device, (str, torch.device), 'a torch.device or its name, such as "cpu"')
    try:
        computes = not torch.empty(0, device=str(device)).is_meta
    except (RuntimeError, AssertionError, NotImplementedError):
        computes = False
    require(computes, f"{name}={shown(device)}", 'a device that torch finds here and that computes, such as "cpu"')


def require_double(name: str, device: torch.device) -> None:
    """Raise ``ValueError`` if ``name`` lies on a device that has no float64, as those of Apple's chips have none."""
    try:
        there = device.type in ("cpu", "cuda") or bool(torch.zeros(1, dtype=torch.float64).to(device).dtype == torch.float64)
    except (TypeError, RuntimeError):
        there = False
    require(there, f"{name} on {device}, which has no float64", "a device that has it, such as the CPU",
            "Small eigenvalues need it: move the model and its inputs with `.cpu()`.")


def require_finite(name: str, tensor: torch.Tensor, advice: str = "") -> None:
    """Raise ``ValueError`` if ``tensor`` holds a NaN or an infinity; says how many of how many."""
    bad = int((~torch.isfinite(tensor)).sum())
    require(bad == 0, f"`{name}` with {bad} of {tensor.numel()} entries NaN or infinite", "finite numbers", advice)


def require_broadcast(**values: Any) -> None:
    """Raise ``ValueError`` unless the shapes of all arrays or tensors fit together, as numpy and torch stretch them."""
    try:
        np.broadcast_shapes(*(tuple(x.shape) for x in values.values()))
    except ValueError:
        require(False, ", ".join(f"`{name}` of shape {tuple(x.shape)}" for name, x in values.items()), "shapes that broadcast")


def require_nonnegative(**values: Any) -> None:
    """Raise ``ValueError`` unless all entries of the arrays or tensors are at least zero."""
    for name, x in values.items():
        if not bool((x >= 0).all()):
            require(False, f"`{name}` {span(x)}", "numbers ≥ 0")


def integers(name: str, value: object, low: int = -2**63, high: int | None = None, advice: str = "") -> np.ndarray:
    """``value`` as a non-empty array of integers from ``low`` on and, if given, up to ``high``; truth values are none."""
    array = real_array(name, value, dims=1)
    require(array.dtype.kind in "iu" and array.min() >= low and (high is None or array.max() <= high),
            f"{name} {array.dtype} from {array.min()} to {array.max()}",
            f"integers from {low} to {high}" if high is not None else f"integers from {low} on" if low > -2**63 else "integers", advice)
    return array


def require_distribution(name: str, p: torch.Tensor, dims: int | None = None) -> None:
    """Raise ``ValueError`` unless p is nonnegative and sums to one over the last ``dims`` (all by default), up to 1e-6."""
    require(p.numel() > 0 and p.ndim >= (dims or 1), f"`{name}` of shape {tuple(p.shape)}", f"at least {dims or 1} dimensions")
    require(dims != 2 or p.ndim == 2, f"`{name}` of shape {tuple(p.shape)}", "one joint (n_x, K)")
    require(bool((p >= 0).all()), f"`{name}` with negative entries or NaNs", "probabilities")
    total = (p.sum(-1) if dims == 1 else p.sum()).detach()
    off = float((total - 1).abs().max())
    require(off < 1e-6, f"`{name}` whose sum is off by {off:.2g}", "a sum of one", "Divide by the sum first.")


def require_symmetric(name: str, A: Any) -> None:
    """Raise ``ValueError`` unless A (..., K, K), an array or a tensor, holds finite symmetric matrices, up to rounding in float32."""
    A = torch.as_tensor(A).detach()
    require(A.ndim >= 2 and A.shape[-1] == A.shape[-2] >= 1, f"{name} of shape {tuple(A.shape)}", "square matrices (..., K, K)")
    require_values(name, A)
    require_finite(name, A)
    if not A.numel():
        return
    A = A.double()
    asymmetry, largest = float((A - A.mT).abs().max()), float(A.abs().max())
    require(asymmetry <= 1e-4 * largest + 1e-9, f"{name} with entries that differ from their mirror image by up to {asymmetry:.2g}",
            "symmetric matrices", "Of others the eigenvalues would be read from one triangle alone.")


# Models --------------------------------------------------------------------------------------------------------------

def require_trainable(name: str, model: object, expected: str = "an nn.Module") -> None:
    """Raise unless ``model`` is an ``nn.Module`` whose parameters have values, and at least one requires a gradient."""
    require_kind(name, model, torch.nn.Module, expected)
    assert isinstance(model, torch.nn.Module)
    require(not any(p.is_meta for p in model.parameters()), "a model on meta, which has no values", "a device that computes")
    require(any(p.requires_grad for p in model.parameters()), "a model without trainable parameters",
            "at least one parameter with `requires_grad`")


def mixing_or_random(model: torch.nn.Module) -> tuple[str, str] | None:
    """The first module by which samples interact or outputs are random: ("batch normalization" or "dropout", its name), or None."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            return "batch normalization", name
        if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            return "dropout", name
    return None
