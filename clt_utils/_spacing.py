"""Evenly spaced indices: the steps that are measured, the points of a line that are drawn, the samples that are looked at."""

import numpy as np


def evenly_spaced(length: int, count: int) -> np.ndarray:
    """``count`` of the indices 0 to ``length`` − 1, or all if there are fewer: the ends among them, as even as integers can be."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(int))
