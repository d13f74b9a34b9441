"""What a diagnosis found, as text, a figure, a dict and HTML."""

import html
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .. import plots
from .._checks import require


@dataclass(frozen=True)
class Layer:
    """What a named layer keeps of the label, by estimates in nats (or the generator's unit) on held-back samples.

    Attributes:
        name: The layer.
        left: Estimated Ent_Φ(Y|Q(U)), features quantized to cells by k-means; by the jackknife.
        error: Its standard error.
        plug_in: The same without correction.
        shuffled: The plug-in with labels shuffled, where the truth is Ent_Φ(Y): how large the bias is.

    Example:
        >>> layer = Layer("fc1", left=0.31, error=0.02, plug_in=0.24, shuffled=1.9)
        >>> f"{layer.name}: {layer.left} ± {layer.error}"
        'fc1: 0.31 ± 0.02'
    """

    name: str
    left: float
    error: float
    plug_in: float
    shuffled: float


@dataclass(frozen=True)
class Report:
    """What the theory says about a model; print it, ``plot()`` it, ``to_dict()`` it, or let a notebook display it.

    Attributes:
        problems: What could not be measured, and why; all of it, if there are no numbers.
        numbers: Every measured number by its name.
        layers: A ``Layer`` for each named layer.
        advice: What to try next, the most pressing first.
        samples: How many samples were read, and on how many of them spectra were measured.

    Example:
        >>> print(Report(problems=("No parameter requires a gradient.",)))
        Diagnosis: nothing was measured.
          - No parameter requires a gradient.
    """

    problems: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    advice: tuple[str, ...] = ()
    samples: tuple[int, int] = (0, 0)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; numbers that are not finite as None."""
        plain = lambda x: x if isinstance(x, str) or math.isfinite(x) else None
        return {"problems": list(self.problems), "numbers": {name: plain(value) for name, value in self.numbers.items()},
                "layers": [{name: plain(value) for name, value in vars(layer).items()} for layer in self.layers],
                "advice": list(self.advice), "samples": list(self.samples)}

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, value in words, what it means) of each line of the report."""
        n = self.numbers
        read, looked = self.samples
        lines = []
        if "risk" in n:
            accuracy = f"; accuracy {n['accuracy']:.1%}" if "accuracy" in n else ""
            lines.append(("risk", f"{n['risk']:.4g}", f"on {read} samples{accuracy}"))
        if "floor" in n:
            lines.append(("floor from duplicates", f"{n['floor']:.3g}",
                          f"no model does better here; {n['conflicts']:.0f} samples share their input with another target"))
        if "largest_loss" in n:
            lines.append(("largest loss γ", f"≥ {n['largest_loss']:.3g}", "from these samples alone, so a lower bound"))
        if "lower" in n:
            lines += [("risk, where spectra were measured", f"{n['lower']:.3g} ≤ {n['risk_probed']:.3g} ≤ {n['upper']:.3g}",
                       f"on {looked} samples, energy ratios sample by sample"),
                      ("eigenvalues of A_x", f"{n['lam_min']:.3g} to {n['lam_max']:.3g}", f"median condition {n['condition']:.3g}")]
        if "energy" in n:
            lines.append(("gradient energy", f"{n['energy']:.3g}", f"residual {n['residual']:.3g}"))
        if "correlation" in n:
            lines.append(("gradient correlation ρ", f"{n['correlation']:.3g}",
                          f"1 if all gradients agree, {1 / looked:.2g} if they are orthogonal"))
        for layer in self.layers:
            lines.append((f"entropy left after {layer.name}", f"{layer.left:.3g} ± {layer.error:.1g}",
                          f"estimate on quantized features; plug-in {layer.plug_in:.3g}, with shuffled labels "
                          f"{layer.shuffled:.3g} of {n.get('label_entropy', math.nan):.3g}"))
        return lines

    def __str__(self) -> str:
        problems = [f"  - {problem}" for problem in self.problems]
        if not self.numbers:
            return "\n".join(["Diagnosis: nothing was measured.", *problems])
        width = max(len(row[0]) for row in self.rows())
        lines = [f"{what:{width}s}  {value}  ({meaning})" for what, value, meaning in self.rows()]
        missing = ["What could not be measured:", *problems] if problems else []
        return "\n".join([*lines, *missing, "What to try next:", *(f"  - {a}" for a in self.advice)])

    def _repr_html_(self) -> str:
        listed = lambda lines: "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"
        if not self.numbers:
            return f"<p><strong>Nothing was measured.</strong></p>{listed(self.problems)}"
        rows = "".join(f"<tr><th scope='row'>{html.escape(a)}</th><td>{html.escape(b)}</td><td>{html.escape(c)}</td></tr>"
                       for a, b, c in self.rows())
        missing = f"<p><strong>What could not be measured:</strong></p>{listed(self.problems)}" if self.problems else ""
        return (f"<table class='clt-check'><caption>What the theory says about this model</caption><tbody>{rows}</tbody></table>"
                f"{missing}<p>What to try next:</p>{listed(self.advice)}")

    def plot(self) -> Figure:
        """One figure: where the risk stands between its bounds, and what is left of the label after each layer.

        Returns:
            A matplotlib figure; ``plots.show(report.plot(), alt=report.words())`` displays it.

        Raises:
            ValueError: If nothing was measured.
        """
        require(self.numbers, "a report without numbers", "a model that could be measured", " ".join(self.problems))
        n = defaultdict(lambda: math.nan, self.numbers)
        fig, axes = plt.subplots(1, 1 + bool(self.layers), figsize=(7.2, 3.2), squeeze=False)
        marks = [("floor from\nduplicates", n["floor"], "black"), ("lower\nbound", n["lower"], "blue"),
                 ("risk", n["risk_probed"], "green"), ("upper\nbound", n["upper"], "vermillion"),
                 ("largest\nloss", n["largest_loss"], "purple")]
        shown = [(name, value, color) for name, value, color in marks if math.isfinite(value) and value > 0]
        axes[0, 0].bar([m[0] for m in shown], [m[1] for m in shown], color=[plots.COLORS[m[2]] for m in shown])
        axes[0, 0].set(yscale="log", ylabel="nats or the loss's unit (log scale)")
        axes[0, 0].tick_params(axis="x", labelsize="small")
        if self.layers:
            names, left, error = zip(*[(layer.name, layer.left, layer.error) for layer in self.layers])
            axes[0, 1].errorbar(names, left, error, marker="o", capsize=3)
            axes[0, 1].set(ylabel=r"estimated $\mathrm{Ent}(Y|Q(U))$", ylim=(0, None))
            axes[0, 1].tick_params(axis="x", rotation=30)
        return fig

    def words(self) -> str:
        """Alternative text of the figure."""
        n = self.numbers
        said = [f"Risk {n['risk_probed']:.3g} between {n['lower']:.3g} and {n['upper']:.3g}."] if "lower" in n else []
        said += [f"Largest loss at least {n['largest_loss']:.3g}."] if "largest_loss" in n else []
        left = "; ".join(f"{layer.name} {layer.left:.2g}" for layer in self.layers)
        return " ".join(said + [f"Entropy left after layers: {left}."] * bool(left))
