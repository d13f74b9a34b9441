"""What to try next, from the numbers."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from .report import Layer


def advice_on(n: Mapping[str, float], looked: int, layers: Sequence[Layer]) -> list[str]:
    """What to try next, from the numbers."""
    n = defaultdict(lambda: math.nan, n)  # what was not measured gives no advice
    advice = []
    if n["floor"] > 0.5 * n["risk"]:
        advice.append(f"The floor from duplicates is {n['floor'] / n['risk']:.0%} of the risk: relabel or merge the "
                      f"{n['conflicts']:.0f} samples in conflict before you train longer.")
    if n["lam_min"] <= 1e-10 * n["lam_max"]:
        advice.append("Some structure matrix is singular: the energy can vanish without a fit, and the upper bound is empty. "
                      "A last linear layer with its own weight and bias would prevent that (slug `head-floor`).")
    elif n["condition"] > 1e3:
        advice.append(f"The median condition of the structure matrices is {n['condition']:.0f}: the bounds are wide. Compare "
                      "with normalization layers or skip connections.")
    if n["correlation"] > 0.5:
        advice.append(f"Gradients agree (ρ = {n['correlation']:.2f}): the samples want the same step. Train on; larger batches "
                      "gain little.")
    elif n["correlation"] < 2 / looked and n["energy"] > 1e-6:
        advice.append(f"Gradients cancel (ρ = {n['correlation']:.2g}, orthogonal would be {1 / looked:.2g}): the mean gradient "
                      "is small, the energy is not. Try smaller steps or a smaller batch.")
    if n["largest_loss"] > 20 * max(n["risk"], 0.05):
        advice.append(f"One mistake may cost {n['largest_loss']:.1f}, many times the risk. A temperature, or a bound on the "
                      "outputs, lowers γ and leaves the accuracy as it is.")
    if layers and layers[-1].left > layers[0].left + 3 * (layers[0].error + layers[-1].error):
        advice.append(f"After `{layers[-1].name}` the label is harder to read off than after `{layers[0].name}`: look at what "
                      "lies between them. (Quantized features, an estimate.)")
    return advice or ["Nothing stands out. Compare with a test set: the report on new data tells more than this one."]
