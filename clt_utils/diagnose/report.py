"""What a diagnosis found: a verdict in three lines, numbers by topic with what kind of number each is, and advice."""

import html
import json
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .. import plots
from .._checks import require, require_kind

WIDTH = 84
"""Columns of a text: the page shows no more, and a terminal seldom has fewer."""


def wrapped(*lines: str, first: str = "", rest: str = "  ") -> str:
    """Lines within the width of the page, each beginning with ``first`` and going on below with ``rest`` before it."""
    return "\n".join(textwrap.fill(line, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False) for line in lines)


def columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells beside each other, each within its own width, behind an indent of two."""
    parts = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(cells, widths)]
    return "\n".join("  ".join(["", *(f"{part:{width}s}" for part, width in zip(row, widths))]).rstrip()
                     for row in zip_longest(*parts, fillvalue=""))


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
class Advice:
    """What to try next, and why.

    Attributes:
        rule: The name of the rule that speaks.
        statement: The slug of the statement that it rests on.
        seen: What was measured.
        do: What to do.
        gain: What that should change, measured where it can be.
        cannot: What the rule cannot know.

    Example:
        >>> print(Advice("frozen", "block-sum", "Much is frozen.", "Thaw it.", "One step gains 0.1.", "whether you meant it"))
        Much is frozen. Thaw it. One step gains 0.1. It cannot tell whether you meant it. (`block-sum`)
    """

    rule: str
    statement: str
    seen: str
    do: str
    gain: str
    cannot: str

    def __str__(self) -> str:
        return f"{self.seen} {self.do} {self.gain} It cannot tell {self.cannot}. (`{self.statement}`)"


class Row(NamedTuple):
    """A line of a report: its topic, what it says, the value in words, what kind of number that is, and what it means."""

    topic: str
    what: str
    value: str
    kind: str
    meaning: str


EXACT, BOUND, ESTIMATE = "exact", "bound", "estimate"
READ, UNMEASURED, NEXT = "How the samples were read:", "What could not be measured:", "What to try next:"
LEGEND = "Exact is what holds for these samples, a bound is proved, an estimate may be off by a few of its standard errors (±)."


@dataclass(frozen=True, repr=False)
class Report:
    """What the theory says about a model; print it, ``plot()`` it, ``to_dict()`` it, or let a notebook display it.

    Attributes:
        problems: What could not be measured, and why; all of it, if there are no numbers.
        numbers: Every measured number by its name.
        layers: A ``Layer`` for each named layer.
        advice: What to try next, the most pressing first, an ``Advice`` each.
        samples: How many samples were read to train on, and on how many of them spectra were measured.
        places: Layers that numbers speak of.
        notes: What a reader must know of how the samples were read.

    Example:
        >>> print(Report(problems=("No parameter requires a gradient.",)))
        Diagnosis: nothing was measured.
          - No parameter requires a gradient.
    """

    problems: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    advice: tuple[Advice, ...] = ()
    samples: tuple[int, int] = (0, 0)
    places: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; numbers that are not finite as None."""
        plain = lambda x: x if isinstance(x, str) or math.isfinite(x) else None
        return {"verdict": self.verdict(), "problems": list(self.problems), "numbers": {name: plain(x) for name, x in self.numbers.items()},
                "layers": [{name: plain(value) for name, value in vars(layer).items()} for layer in self.layers],
                "advice": [dict(vars(advice)) for advice in self.advice], "samples": list(self.samples), "places": dict(self.places),
                "notes": list(self.notes)}

    def to_json(self) -> str:
        """The same as text, for files and other programs."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=1)

    def verdict(self) -> list[str]:
        """Three lines: where the model stands, what holds for new samples, and what to do first."""
        if not self.numbers:
            return ["Nothing was measured."]
        n = defaultdict(lambda: math.nan, self.numbers)
        return [_standing(n, self.samples[0]), _promise(n),
                str(self.advice[0]) if self.advice else "Nothing stands out." + ("" if "test_risk" in n else " Give a test set for more.")]

    def rows(self) -> list[Row]:
        """Each line of the report."""
        read, looked = self.samples
        words: dict[str, Any] = defaultdict(lambda: math.nan, self.numbers) | {"read": read, "looked": looked, "alike": 1 / max(looked, 1)}
        found = [Row(line.topic, line.what, line.value.format_map(words), line.kind, line.meaning.format_map(words))
                 for line in LINES if set(line.needs.split()) <= self.numbers.keys()]
        return found + [Row("layers", f"entropy left after {layer.name}", f"{layer.left:.3g} ± {layer.error:.1g}", ESTIMATE,
                            f"features quantized; plug-in {layer.plug_in:.3g}, with shuffled labels {layer.shuffled:.3g} of "
                            f"{words['label_entropy']:.3g}") for layer in self.layers]

    def compare(self, other: "Report") -> "Comparison":
        """This report as before, another one as after: risks and errors side by side, and which advice went and came.

        Args:
            other: The report afterwards.

        Returns:
            A ``Comparison``, to be printed or displayed.

        Raises:
            TypeError: If ``other`` is no report.

        Example:
            >>> before, after = (Report(numbers={"risk": risk, "risk_error": 0.01}) for risk in (0.5, 0.4))
            >>> print(before.compare(after))
                              before  after  change
            risk, training       0.5    0.4  -0.1 ± 0.014
        """
        require_kind("other", other, Report, "a report")
        return Comparison(self, other)

    def __repr__(self) -> str:
        if not self.numbers:
            return "\n".join(["Diagnosis: nothing was measured.", wrapped(*self.problems, first="  - ", rest="    ")])
        rows = self.rows()
        widths = [min(most, max(len(row[i]) for row in rows)) for i, most in ((1, 26), (2, 17))]
        widths.append(WIDTH - 6 - sum(widths))
        lines = [wrapped(*self.verdict())]
        if self.notes:  # they may change what every number means
            lines += ["", READ, wrapped(*self.notes, first="  - ", rest="    ")]
        for topic in dict.fromkeys(row.topic for row in rows):
            lines += ["", topic.upper()] + [columns([row.what, row.value, f"{row.kind}: {row.meaning}"], widths)
                                            for row in rows if row.topic == topic]
        lines += ["", wrapped(LEGEND, rest="")]
        if self.problems:
            lines += ["", UNMEASURED, wrapped(*self.problems, first="  - ", rest="    ")]
        if self.advice:
            lines += ["", NEXT]
            lines += [wrapped(str(advice), first=f"  {i}. ", rest="     ") for i, advice in enumerate(self.advice, 1)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self.numbers:
            return f"<p><strong>Nothing was measured.</strong></p>{_listed(self.problems)}"
        verdict = "".join(f"<p>{_marked(line)}</p>" for line in self.verdict())
        rows, table = self.rows(), ""
        for topic in dict.fromkeys(row.topic for row in rows):
            table += f"<tbody><tr class='topic'><th colspan='3' scope='rowgroup'>{html.escape(topic)}</th></tr>"
            for row in (row for row in rows if row.topic == topic):
                cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in (row.value, f"{row.kind}: {row.meaning}"))
                table += f"<tr><th scope='row'>{html.escape(row.what)}</th>{cells}</tr>"
            table += "</tbody>"
        notes, problems, advice = (f"<p><strong>{heading}</strong></p>{_listed(map(str, said))}" if said else "" for heading, said in (
            (READ, self.notes), (UNMEASURED, self.problems), (NEXT, self.advice)))
        return (f"{verdict}{notes}<table class='clt-check'><caption>What the theory says about this model</caption>{table}</table>"
                f"<p>{LEGEND}</p>{problems}{advice}")

    def plot(self) -> Figure:
        """One figure: the risk between floor and constant, in training and held out; its bounds; and what layers keep of the label.

        Returns:
            A matplotlib figure; ``plots.show(report.plot(), alt=report.words())`` displays it.

        Raises:
            ValueError: If nothing was measured.
        """
        require(self.numbers, "a report without numbers", "a model that could be measured", " ".join(self.problems))
        n = defaultdict(lambda: math.nan, self.numbers)
        fig, axes = plt.subplots(1, 2 + bool(self.layers), figsize=(7.2, 3.2), squeeze=False)
        _bars(axes[0, 0], [("floor", n["floor"], "black"), ("training", n["risk"], "green"), ("held out", n["test_risk"], "vermillion"),
                           ("cooled", n["cooled_risk"], "orange"), ("constant", n["label_entropy"], "blue")])
        axes[0, 0].set(ylabel="risk", ylim=(0, None))
        _bars(axes[0, 1], [("lower bound", n["lower"], "blue"), ("risk", n["risk_probed"], "green"),
                           ("upper bound", n["upper"], "vermillion"), ("largest loss", n["largest_loss"], "purple")])
        axes[0, 1].set(yscale="log", ylabel="risk, probed samples (log scale)")
        if self.layers:
            names, left, error = zip(*[(layer.name, layer.left, layer.error) for layer in self.layers])
            axes[0, 2].errorbar(names, left, error, marker="o", capsize=3)
            axes[0, 2].set(ylabel=r"estimated $\mathrm{Ent}(Y|Q(U))$", ylim=(0, None))
        for ax in axes[0]:
            ax.tick_params(axis="x", rotation=30, labelsize="small")
        return fig

    def words(self) -> str:
        """Alternative text of the figure."""
        n = self.numbers
        said = []
        if {"risk", "floor"} <= n.keys():
            said.append(f"Risk {n['risk']:.3g}, of a constant {n['label_entropy']:.3g}, floor {n['floor']:.3g}.")
        said += [f"Held out {n['test_risk']:.3g}."] if "test_risk" in n else []
        said += [f"Where it was probed, risk {n['risk_probed']:.3g} between {n['lower']:.3g} and {n['upper']:.3g}."] if "lower" in n else []
        said += [f"Largest loss at least {n['largest_loss']:.3g}."] if "largest_loss" in n else []
        left = "; ".join(f"{layer.name} {layer.left:.2g}" for layer in self.layers)
        return " ".join(said + [f"Entropy left after layers: {left}."] * bool(left))


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two reports side by side; print it, or let a notebook display it.

    Attributes:
        before, after: The reports.

    Example:
        >>> report = Report(numbers={"risk": 0.5})
        >>> report.compare(report).rows()
        [('risk, training', 0.5, 0.5, 'unchanged')]
    """

    before: Report
    after: Report

    def rows(self) -> list[tuple[str, float, float, str]]:
        """(what, before, after, the change in words) of each number that both have."""
        found = []
        for name, what in COMPARED.items():
            if name in self.before.numbers and name in self.after.numbers:
                a, b = self.before.numbers[name], self.after.numbers[name]
                error = math.hypot(*(report.numbers.get(f"{name}_error", 0.0) for report in (self.before, self.after)))
                found.append((what, a, b, (f"{b - a:+.3g}" + f" ± {error:.2g}" * (error > 0)) if a != b else "unchanged"))
        return found

    def advice(self) -> list[str]:
        """Which rules fell silent, and which speak now."""
        then, now = ([advice.rule for advice in report.advice] for report in (self.before, self.after))
        return [f"{said}: {', '.join(rules)}" for said, rules in (("gone", [r for r in then if r not in now]),
                                                                  ("still there", [r for r in now if r in then]),
                                                                  ("new", [r for r in now if r not in then])) if rules]

    def __repr__(self) -> str:
        width = max((len(row[0]) for row in self.rows()), default=0) + 2
        lines = [f"{what:{width}s}{a:>8.3g}  {b:>5.3g}  {change}" for what, a, b, change in self.rows()]
        lines += [wrapped(said) for said in self.advice()]
        return "\n".join([f"{'':{width}s}{'before':>8s}  {'after':>5s}  change", *lines])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th scope='row'>{html.escape(what)}</th><td>{a:.3g}</td><td>{b:.3g}</td><td>{html.escape(change)}</td></tr>"
                       for what, a, b, change in self.rows())
        head = "".join(f"<th scope='col'>{word}</th>" for word in ("", "before", "after", "change"))
        return (f"<table class='clt-check'><caption>Before and after</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
                f"{_listed(self.advice())}")


COMPARED = {"risk": "risk, training", "test_risk": "risk, held out", "cooled_risk": "the same, cooled", "gap": "gap",
            "gap_cooled": "gap, cooled", "accuracy": "accuracy, training", "test_accuracy": "accuracy, held out",
            "progress": "share of the way", "temperature": "temperature", "lam_min": "smallest eigenvalue", "lam_max": "largest eigenvalue",
            "energy": "gradient energy", "reach": "reach"}
"""Numbers that a comparison shows, and what they are called there."""


def _standing(n: Mapping[str, float], read: int) -> str:
    """Where the risk stands between the best constant and the floor."""
    if math.isfinite(n["test_risk"]):
        where = (f"Risk {n['test_risk']:.3g} ± {n['test_risk_error']:.2g} on {n['test_samples']:.0f} held-out samples, "
                 f"{n['risk']:.3g} on {read} of training")
        constant, floor, way = n["test_constant"], n["test_floor"], n["test_progress"]
    else:
        where, constant, floor, way = f"Risk {n['risk']:.3g} on {read} samples", n["label_entropy"], n["floor"], n["progress"]
    stands = f"it has come {way:.0%} of the way from there to" if way >= 0 else "it does not do better than that, far from"
    return f"{where}; a constant prediction has {constant:.3g}, and {stands} the floor {floor:.3g}."


def _promise(n: Mapping[str, float]) -> str:
    """What holds for samples that nobody has seen."""
    if not math.isfinite(n["test_risk"]):
        return "No held-out samples were given: nothing here is about new ones."
    if math.isfinite(n["certificate_error"]):
        wrong = 1 - n["test_accuracy"]
        return (f"New samples of the same kind: the error rate is below {wrong + n['certificate_error']:.1%} with probability "
                f"{1 - n['delta']:.0%}; {wrong:.1%} here, {1 - n['accuracy']:.1%} in training.")
    return (f"New samples of the same kind: the risk is within {n['certificate_risk']:.3g} of that with probability "
            f"{1 - n['delta']:.0%}, if no loss exceeds the largest seen, {n['test_largest_loss']:.3g}.")


def _listed(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_marked(line)}</li>" for line in lines) + "</ul>"


def _marked(line: str) -> str:
    """A line as HTML, with code for what stands between backticks."""
    return re.sub("`(.+?)`", r"<code>\1</code>", html.escape(line))


def _bars(ax: plt.Axes, marks: Iterable[tuple[str, float, str]]) -> None:
    """A bar for each finite number above zero."""
    shown = [(name, value, plots.COLORS[color]) for name, value, color in marks if math.isfinite(value) and value >= 0]
    ax.bar([m[0] for m in shown], [m[1] for m in shown], color=[m[2] for m in shown])


class Line(NamedTuple):
    """A line that a report has if it has certain numbers, whose names stand in braces."""

    topic: str
    what: str
    needs: str
    value: str
    kind: str
    meaning: str


LINES = (
    Line("risk", "risk, training", "risk", "{risk:.4g}", EXACT, "a mean over {read} samples"),
    Line("risk", "accuracy, training", "accuracy", "{accuracy:.1%}", EXACT, "{read} samples"),
    Line("risk", "best constant", "label_entropy", "{label_entropy:.3g}", EXACT, "Ent(Y): the best that ignores the inputs"),
    Line("risk", "floor from duplicates", "floor", "{floor:.3g}", EXACT,
         "no model does better here; {conflicts:.0f} samples share their input with another target: noise or conflict, it cannot tell"),
    Line("risk", "share of the way", "progress", "{progress:.1%}", EXACT, "from the best constant to the floor"),
    Line("held out", "risk", "test_risk", "{test_risk:.4g} ± {test_risk_error:.2g}", ESTIMATE, "on {test_samples:.0f} samples"),
    Line("held out", "accuracy", "test_accuracy", "{test_accuracy:.1%} ± {test_accuracy_error:.1%}", ESTIMATE, "on the same"),
    Line("held out", "constant from training", "test_constant", "{test_constant:.3g}", EXACT,
         "their own best has {test_label_entropy:.3g}"),
    Line("held out", "share of the way", "test_progress", "{test_progress:.1%}", ESTIMATE,
         "from that constant to their floor {test_floor:.3g}"),
    Line("held out", "gap of the risk", "gap", "{gap:.3g} ± {gap_error:.2g}", ESTIMATE, "held out less training"),
    Line("held out", "gap after one temperature", "gap_cooled", "{gap_cooled:.3g} ± {gap_cooled_error:.2g}", ESTIMATE,
         "T = {temperature:.3g} on all; risk {cooled_risk:.3g} with T from one half on the other, in turn"),
    Line("held out", "gap of the error rate", "error_gap", "{error_gap:.1%} ± {error_gap_error:.1%}", ESTIMATE, "no temperature moves it"),
    Line("held out", "error rate of new samples", "certificate_error", "≤ error + {certificate_error:.1%}", BOUND,
         "with probability {shared:.0%}, for {candidates:.0f} predictor(s) fixed before these samples"),
    Line("held out", "risk of new samples", "certificate_risk", "within {certificate_risk:.3g}", BOUND,
         "with probability {shared:.0%}, but only if no loss exceeds {test_largest_loss:.3g}, the largest seen"),
    Line("held out", "shift of the inputs", "shift", "{shift:.2f} ± {shift_error:.2f}", ESTIMATE,
         "of a lower bound on the total variation between them"),
    Line("held out", "copies of training inputs", "copies", "{copies:.0f}", EXACT, "of {test_samples:.0f}, among the samples read"),
    Line("held out", "error of five neighbours", "neighbours_error", "{neighbours_error:.1%}", EXACT,
         "a yardstick: a vote of the nearest, without training"),
    Line("inside", "largest loss γ", "largest_loss", "≥ {largest_loss:.3g}", BOUND, "from these samples alone"),
    Line("inside", "risk between its bounds", "lower upper risk_probed",
         "{lower:.3g} ≤ {risk_probed:.3g} ≤ {upper:.3g}", BOUND, "on {looked} samples, energy ratios sample by sample"),
    Line("inside", "eigenvalues of A_x", "lam_min lam_max", "{lam_min:.3g} to {lam_max:.3g}", EXACT,
         "from the smallest to the largest of all samples probed"),
    Line("inside", "the same, known within", "eigenvalue_error", "± {eigenvalue_error:.2g}", BOUND,
         "found without the matrices, on a few samples: an eigenvalue lies that near each of the two"),
    Line("inside", "condition of A_x", "condition", "{condition:.3g}", EXACT, "median over the samples probed"),
    Line("inside", "gradient energy", "energy", "{energy:.3g}", EXACT, "residual {residual:.3g}, on {looked} samples"),
    Line("inside", "gradient correlation ρ", "correlation", "{correlation:.3g}", EXACT,
         "1 if all gradients agree, {alike:.2g} if they are orthogonal; with random signs {rho_low:.2g} to {rho_high:.2g}"),
    Line("inside", "gain of six gradient steps", "step_gain", "{step_gain:.3g} ± {step_gain_error:.2g}", ESTIMATE,
         "the first with a learning rate of {step:.2g}; on samples that they were not computed from"),
    Line("inside", "dead units, worst layer", "dead", "{dead:.0%}", EXACT, "zero on every sample looked at"),
    Line("inside", "reach of the gradient", "reach", "{reach:.2g}", EXACT, "energy of the layer with the least over that with the most"),
    Line("inside", "frozen parameters", "frozen", "{frozen:.0%}", EXACT, "have no gradient"),
)
"""Every line, in the order of the report."""
