"""Do two curves move together? Pearson's correlation of their logarithms: over a run, in windows, and of their changes.

Two curves that both fall correlate over a whole run whatever they are; the changes tell whether they know of each other.
"""

import numpy as np
from numpy.typing import ArrayLike

from ._checks import real_array, require, require_integer


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of log x and log y over a whole run.

    Args:
        x: Positive numbers, (n,).
        y: Positive numbers, (n,).

    Returns:
        A number in [−1, 1]; nan if a value is not positive and finite, or if x or y is constant.

    Raises:
        ValueError: On fewer than two measurements, or sequences of different length.

    Example:
        >>> round(pearson([1, 10, 100], [2, 20, 200]), 6)
        1.0
    """
    x, y = _logarithms(x, y)
    require(len(x) >= 2, f"{len(x)} measurements", "at least 2")
    return float(_in_windows(x, y, len(x))[0])


def local_pearson(x: ArrayLike, y: ArrayLike, window: int = 50) -> np.ndarray:
    """Pearson correlation of log x and log y in every window of consecutive measurements, the paper's measure.

    Args:
        x: Positive numbers, (n,).
        y: Positive numbers, (n,).
        window: Length of a window, from 2 to n.

    Returns:
        (n − window + 1,); nan where the window holds a value that is not positive and finite, or where x or y is constant.

    Raises:
        ValueError: On a window that does not fit, or sequences of different length.

    Example:
        >>> print(local_pearson([1, 2, 4, 2], [1, 3, 9, 27], window=2).round(6))  # both rise twice, then one falls
        [ 1.  1. -1.]
    """
    x, y = _logarithms(x, y)
    require_integer("window", window)
    require(2 <= window <= len(x), f"window={window} for {len(x)} measurements", "from 2 to the number of measurements")
    return _in_windows(x, y, window)


def changes_pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of the changes of log x and log y from one measurement to the next.

    Args:
        x: Positive numbers, (n,), n ≥ 3.
        y: Positive numbers, (n,).

    Returns:
        A number in [−1, 1]; nan if a value is not positive and finite, or if x or y always changes by the same factor.

    Raises:
        ValueError: On fewer than three measurements, or sequences of different length.

    Example:
        >>> falling, also_falling = [16, 8, 2, 1], [16, 4, 2, 1]
        >>> round(pearson(falling, also_falling), 2), round(changes_pearson(falling, also_falling), 2)
        (0.96, -0.5)
    """
    x, y = _logarithms(x, y)
    require(len(x) >= 3, f"{len(x)} measurements", "at least 3, which make two changes")
    return float(_in_windows(np.diff(x), np.diff(y), len(x) - 1)[0])


def _logarithms(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """log x and log y, nan where there is none or it is not finite."""
    x, y = (real_array(name, values, nan=True).astype(float, copy=False) for name, values in (("x", x), ("y", y)))
    require(x.ndim == 1 and x.shape == y.shape, f"x of shape {x.shape} and y of shape {y.shape}", "two sequences of equal length")

    def log(values: np.ndarray) -> np.ndarray:
        return np.log(np.where((values > 0) & np.isfinite(values), values, np.nan))

    return log(x), log(y)


def _in_windows(x: np.ndarray, y: np.ndarray, window: int) -> np.ndarray:
    """Pearson correlation of x and y in every window; nan where one of them is constant or has a nan."""
    def deviations(values: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(values, window)
        return windows - windows.mean(-1, keepdims=True)

    dx, dy = deviations(x), deviations(y)
    scale = np.sqrt((dx**2).sum(-1) * (dy**2).sum(-1))
    constant = np.minimum(np.abs(dx).max(-1), np.abs(dy).max(-1)) < 1e-12  # what rounding leaves of a constant
    return np.where(constant, np.nan, (dx * dy).sum(-1) / np.where(constant, 1.0, scale)).clip(-1, 1)
