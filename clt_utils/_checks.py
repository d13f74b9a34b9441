"""Checks at the border of the package: an error says what was given, what was expected and what to do."""

import difflib
from collections.abc import Sequence

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


def require_finite(name: str, tensor: torch.Tensor, advice: str = "") -> None:
    """Raise ``ValueError`` if ``tensor`` holds a NaN or an infinity; says how many of how many."""
    bad = int((~torch.isfinite(tensor)).sum())
    require(bad == 0, f"`{name}` with {bad} of {tensor.numel()} entries NaN or infinite", "finite numbers", advice)


def require_name(what: str, name: object, known: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``name`` is one of ``known``; the error names the closest ones, or all."""
    close = difflib.get_close_matches(str(name).lower(), known, 3)
    require(name in known, f"the {what} {name!r}", f"one of {', '.join(map(repr, known))}",
            f"Did you mean {' or '.join(map(repr, close))}?" if close else "")
