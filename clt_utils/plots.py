"""One figure function per kind of picture of data, in one house style, and ``show``, which gives every figure its words.

Importing this module sets the house style: the Okabe–Ito palette, which colour-blind readers can tell apart, always paired
with line styles, so that colour is never the only cue. Lines and text in black take the colour of the page's text.
"""

import hashlib
import html
import io
import itertools
import re
from collections.abc import Sequence
from typing import Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from numpy.typing import ArrayLike

from ._checks import real_array, require, require_integer, require_kind, require_name, require_traces
from ._spacing import evenly_spaced


class Columns(Protocol):
    """A ``Trace``, or anything else that gives its columns by name.

    Example:
        >>> columns: Columns = {"step": np.arange(3), "risk": np.array([2.3, 1.0, 0.5])}  # a dict of arrays will do
        >>> print(columns["risk"].min())
        0.5
    """

    def __getitem__(self, name: str, /) -> Any: ...


COLORS = {"blue": "#0072B2", "vermillion": "#D55E00", "green": "#009E73", "purple": "#CC79A7", "black": "#000000",
          "orange": "#E69F00", "sky": "#56B4E9"}
"""The palette of Okabe and Ito without its yellow, which is lost on white; the light ones, orange and sky, are for areas."""

DASHES = ["-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (1, 3)), (0, (8, 3))]
"""One line style for each colour."""

CURVES: dict[str, dict[str, Any]] = {
    "risk": dict(label=r"risk $\hat R$", color=COLORS["black"], linestyle="-", linewidth=2),
    "lower": dict(label="lower bound", color=COLORS["blue"], linestyle="--"),
    "upper": dict(label="upper bound", color=COLORS["vermillion"], linestyle="-."),
    "lower_sharp": dict(label="sharp lower bound", color=COLORS["green"], linestyle=":"),
    "upper_sharp": dict(label="sharp upper bound", color=COLORS["purple"], linestyle=DASHES[4]),
    "lam_min": dict(label=r"smallest eigenvalue $\lambda_{\min}$", color=COLORS["blue"], linestyle="--"),
    "lam_max": dict(label=r"largest eigenvalue $\lambda_{\max}$", color=COLORS["vermillion"], linestyle="-."),
    "energy": dict(label=r"gradient energy $\hat E$", color=COLORS["green"], linestyle="-"),
}
"""How a column of a trace is drawn, the same in every figure of the book."""

POINTS = 160
"""Points drawn of a long line: about one for every four pixels."""

plt.rcParams.update({
    "figure.figsize": (6.6, 3.7), "figure.constrained_layout.use": True, "figure.facecolor": "none", "axes.facecolor": "none",
    "axes.prop_cycle": cycler(color=list(COLORS.values())) + cycler(linestyle=DASHES),
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.titlesize": "medium",
    "axes.grid": True, "grid.color": "black", "grid.alpha": 0.15, "legend.frameon": False, "lines.linewidth": 1.6,
    "svg.fonttype": "path",  # letters look alike everywhere, formulas included; a reader's ears have the alternative text
    "svg.hashsalt": "clt",   # the same figure gives the same file
})


# ---- showing figures

def show(fig: Figure, *, alt: str) -> None:
    """Display a figure with its alternative text, and close it.

    The website and Jupyter get it as a vector graphic in the colours of the page; PDF and GitHub as an image.

    Args:
        fig: A matplotlib figure.
        alt: What the figure shows, in a sentence, with its main numbers: what a reader who cannot see it needs to know.

    Raises:
        ValueError: If ``alt`` says too little.

    Example:
        >>> fig, ax = plt.subplots()
        >>> show(fig, alt="risk")
        Traceback (most recent call last):
        ValueError: Given: alt='risk'. Expected: what the figure shows, in five words at least...
    """
    display({"text/html": svg(fig, alt), "image/png": png(fig), "text/plain": alt}, raw=True)
    plt.close(fig)


def png(fig: Figure) -> bytes:
    """The figure as an image on white.

    Args:
        fig: A matplotlib figure.

    Returns:
        The bytes of a PNG file.

    Raises:
        TypeError: If ``fig`` is no figure.

    Example:
        >>> fig, ax = plt.subplots()
        >>> print(png(fig)[1:4].decode())
        PNG
    """
    require_kind("fig", fig, Figure, "a matplotlib figure")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=144, facecolor="white")
    return buffer.getvalue()


def svg(fig: Figure, alt: str, prefix: str | None = None) -> str:
    """The figure as an ``<svg>`` element for the middle of a page: small, with alternative text, in the page's colours.

    Args:
        fig: A matplotlib figure.
        alt: Its alternative text, see ``show``.
        prefix: What its ids begin with; by default something no other figure of the page has.

    Returns:
        The element as text, one tag a line.

    Raises:
        ValueError: If ``alt`` says too little.

    Example:
        >>> fig, ax = plt.subplots()
        >>> svg(fig, alt="Axes on which nothing is drawn.").split()[0]
        '<svg'
    """
    require_kind("fig", fig, Figure, "a matplotlib figure")
    require_kind("prefix", prefix, (str, type(None)), "a text or None")
    require_kind("alt", alt, str, "what the figure shows, in words")
    require(len(alt.split()) >= 5, f"alt={alt!r}", "what the figure shows, in five words at least",
            'For example: "The risk falls from 2.3 to 0.004 and stays between its two bounds."')
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg")
    text = buffer.getvalue()
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)[0])
    text = text[text.index(">", text.index("<svg")) + 1:text.rindex("</svg>")]
    # styles would reach the whole page; comments repeat the labels
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text).replace("xlink:href", "href").replace("#000000", "currentColor")
    text = re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.4g}", text)
    text = re.sub(r' d="[^"CQ]+"', lambda path: path[0].replace(" L ", " "), text)  # points after the first are lines anyway
    text = re.sub(r' style="[^"]*"', lambda style: re.sub("([:;]) ", r"\1", style[0]), text)
    text = re.sub(r"translate\(([^ )]+) 0\)", r"translate(\1)", text)
    prefix = prefix or unique_prefix(text)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    # thousands of letters refer to theirs; short names that do not depend on what else is there, so that frames of an explorer agree
    short = {name: hashlib.sha256(name.encode()).hexdigest()[:5] for name in used}
    if len(set(short.values())) < len(used):
        short = {name: name for name in used}
    names = {name: f"{prefix}-{short[name]}" for name in used}
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{names[found[1]]}"' if found[1] in used else "", text)
    text = re.sub(r'(href="|url\()#([^")]+)', lambda found: f"{found[1]}#{names[found[2]]}", text)
    text = re.sub(r"<defs> *</defs>", "", text)
    label = html.escape(" ".join(alt.split()))
    root = (f'<svg class="clt-figure" role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}" style="max-width:100%;height:auto" '
            'fill="currentColor" stroke-linejoin="round">')
    return re.sub(r" *> *<", ">\n<", f"{root}{text.strip()}</svg>")


_count = itertools.count()


def unique_prefix(text: str) -> str:
    """What the ids of a piece of HTML begin with: the same in every build of a page, and only once on it.

    Args:
        text: The HTML.

    Returns:
        Nine letters and digits.

    Example:
        >>> unique_prefix("<svg>") == unique_prefix("<svg>")
        False
    """
    return "c" + hashlib.sha256(f"{next(_count)} {text}".encode()).hexdigest()[:8]


def describe(fig: Figure) -> str:
    """A figure's labelled lines in words, each with its first and last value: alternative text where nobody wrote one.

    Args:
        fig: A matplotlib figure.

    Returns:
        A sentence for each of its axes.

    Raises:
        TypeError: If ``fig`` is no figure.

    Example:
        >>> fig, ax = plt.subplots()
        >>> _ = ax.plot([0, 1], [2.3, 0.004], label="risk")
        >>> describe(fig)
        'Risk from 2.3 to 0.004.'
    """
    require_kind("fig", fig, Figure, "a matplotlib figure")
    sentences = []
    for ax in fig.axes:
        lines = [(_plain(line.get_label()), np.asarray(line.get_ydata(), dtype=float)) for line in ax.get_lines()]
        lines = [(label, y[np.isfinite(y)]) for label, y in lines if not label.startswith("_")]
        axes = _plain(ax.get_ylabel() or ax.get_title()) + f" against {_plain(ax.get_xlabel())}" * bool(ax.get_xlabel())
        what = "; ".join(f"{label} from {_number(y[0])} to {_number(y[-1])}" for label, y in lines if len(y))
        sentence = ": ".join(filter(None, (axes.strip(), what)))
        if re.match("[a-z]{2}", sentence):  # a word, not a symbol
            sentence = sentence[0].upper() + sentence[1:]
        sentences.append(f"{sentence}.")
    return " ".join(sentences)


def _plain(label: object) -> str:
    r"""A label as one says it: $\lambda_{\min}$ is lambda_min, $\hat R$ is R-hat."""
    hats = re.sub(r"\\hat *{?(\w)}?", r"\1-hat", str(label))
    return " ".join(re.sub(r"\\[,;]|[${}\\]", "", hats).split())


def _number(value: float) -> str:
    """Three digits, 3600 rather than 3.6e+03."""
    return f"{float(f'{value + 0.0:.3g}'):g}"


def log_scale(ax: Axes, names: str = "y") -> None:
    """Make axes logarithmic, their powers of ten in plain text: formulas are slow to draw.

    Args:
        ax: Where.
        names: "x", "y" or "xy".

    Raises:
        ValueError: If ``names`` is none of the three.

    Example:
        >>> fig, ax = plt.subplots()
        >>> log_scale(ax)
        >>> ax.get_xscale(), ax.get_yscale()
        ('linear', 'log')
    """
    require_kind("ax", ax, Axes, "matplotlib axes")
    require_name("choice of axes", names, ("x", "y", "xy"))
    for name in names:
        getattr(ax, f"set_{name}scale")("log")
        getattr(ax, f"{name}axis").set_major_formatter(_power_of_ten)


def _power_of_ten(value: float, position: object = None) -> str:
    exponent = round(np.log10(value))
    if abs(exponent) <= 3 or not np.isclose(value, 10.0**exponent, atol=0):
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def legend(fig: Figure, ncols: int = 3, **options: Any) -> Legend:
    """A legend of all labelled lines above the axes, outside the data; each label once.

    Args:
        fig: A matplotlib figure.
        ncols: Columns of the legend.
        **options: As for matplotlib's ``Figure.legend``.

    Returns:
        A matplotlib legend.

    Raises:
        TypeError: If ``fig`` is no figure, or ``ncols`` no integer.

    Example:
        >>> fig, axes = plt.subplots(1, 2)
        >>> _ = [ax.plot([1, 2], label="risk") for ax in axes]
        >>> len(legend(fig).get_texts())
        1
    """
    require_kind("fig", fig, Figure, "a matplotlib figure")
    require_integer("ncols", ncols, 1)
    found: dict[str, Any] = {}
    for ax in fig.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return fig.legend(list(found.values()), list(found), loc="outside upper left", ncols=ncols, **options)


def fixed_axes(legend_rows: int = 1) -> tuple[Figure, Axes]:
    """A figure for explorers: its axes stand in the same place at every point, and need no layout, which takes half the time.

    Args:
        legend_rows: Rows of the legend above the axes to leave room for.

    Returns:
        A matplotlib figure and its axes; there is room for tick labels of five characters.

    Raises:
        TypeError: If ``legend_rows`` is no integer.
        ValueError: If it is not from 0 to 10.

    Example:
        >>> fig, ax = fixed_axes(legend_rows=2)
        >>> print(ax.get_position().x0.round(2))  # where they begin, as a share of the figure's width
        0.13
    """
    require_integer("legend_rows", legend_rows, 0, 10)
    return plt.subplots(layout="none", gridspec_kw=dict(left=0.13, right=0.98, bottom=0.14, top=0.955 - 0.073 * legend_rows))


def simplex_place(p: ArrayLike) -> np.ndarray:
    """Where probability vectors with three entries lie in an equilateral triangle.

    Args:
        p: Probabilities, (..., 3).

    Returns:
        Places, (..., 2).

    Raises:
        ValueError: If there are not three probabilities in the last dimension.

    Example:
        >>> print(simplex_place([0.0, 0.0, 1.0]).round(3), simplex_place([0.5, 0.5, 0.0]).round(3))
        [0.5   0.866] [0.5 0. ]
    """
    p = real_array("p", p, dims=1)
    require(p.shape[-1] == 3, f"`p` of shape {p.shape}", "three probabilities in the last dimension")
    return p @ np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])


def draw_simplex(ax: Axes, title: str = "") -> None:
    """The triangle of all probability vectors with three entries, one corner a class.

    Args:
        ax: Where to draw.
        title: Of the axes.

    Raises:
        TypeError: If ``ax`` are no axes.

    Example:
        >>> fig, ax = plt.subplots()
        >>> draw_simplex(ax, "three classes")
        >>> _ = ax.plot(*simplex_place([0.2, 0.3, 0.5]), "o")
    """
    require_kind("ax", ax, Axes, "matplotlib axes")
    ax.fill(*simplex_place(np.eye(3)).T, facecolor="none", edgecolor="black", linewidth=1)
    ax.set(title=title, aspect="equal")
    ax.axis("off")


# ---- figures along training

def risk_between_bounds(traces: Columns | Sequence[Columns], sharp: bool = False, against: str = "step") -> Figure:
    """Risk between its lower and upper bound along training (slugs ``risk-sandwich``, ``risk-sandwich-sharp``).

    Args:
        traces: A ``Trace`` (or anything with columns "step", "risk", "lower", "upper"), or a list of them, one a seed, measured
            at the same steps; of several the median is drawn, in a band from the smallest to the largest value.
        sharp: Draw the columns "lower_sharp" and "upper_sharp" too.
        against: "step", or "epoch" to compare batch sizes.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: As ``draw_curve``.

    Example:
        >>> trace = {name: np.array([2.0, 0.5]) for name in ("risk", "lower", "upper")} | {"step": np.array([0, 1])}
        >>> len(risk_between_bounds(trace).axes[0].get_lines())
        3
    """
    require_kind("sharp", sharp, bool, "True or False")
    return _along_training(traces, ("upper", "risk", "lower") + ("upper_sharp", "lower_sharp") * sharp,
                           r"risk $\hat R$ and its bounds", against)


def spectrum(traces: Columns | Sequence[Columns], against: str = "step") -> Figure:
    """Extreme eigenvalues of the structure matrices and gradient energy along training (slug ``residual-sandwich``).

    Args:
        traces: One or several with columns "step", "lam_min", "lam_max", "energy", as in ``risk_between_bounds``.
        against: "step" or "epoch".

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: As ``draw_curve``.

    Example:
        >>> trace = {name: np.array([2.0, 0.5]) for name in ("lam_min", "lam_max", "energy")} | {"step": np.array([0, 1])}
        >>> len(spectrum(trace).axes[0].get_lines())
        3
    """
    return _along_training(traces, ("lam_max", "lam_min", "energy"), r"eigenvalues $\lambda$, energy $\hat E$", against)


def _along_training(one_or_more: Any, names: Sequence[str], ylabel: str, against: str) -> Figure:
    traces: Sequence[Columns] = one_or_more if isinstance(one_or_more, (list, tuple)) else [one_or_more]
    fig, ax = plt.subplots()
    for name in names:
        draw_curve(ax, traces, name, against)
    log_scale(ax)
    ax.set(xlabel=CLOCKS[against], ylabel=f"{ylabel} (log scale)")
    legend(fig, title=f"line: median of {len(traces)} seeds, band: smallest to largest" if len(traces) > 1 else None,
           alignment="left")
    return fig


CLOCKS = {"step": "training step $k$", "epoch": "epoch"}
"""What training is drawn against: a column, and the name of the axis."""


def draw_curve(ax: Axes, traces: Sequence[Columns], name: str, against: str = "step", points: int = POINTS, **style: Any) -> None:
    """Draw one column of traces over seeds: their median, in a band from the smallest to the largest value.

    Args:
        ax: Where to draw.
        traces: A list of traces that were measured at the same steps; runs that ended early shorten the curve.
        name: The column, one of ``CURVES``.
        against: "step" or "epoch".
        points: Draw at most so many; fewer are enough for a narrow panel.
        **style: Changes of the curve's style.

    Raises:
        ValueError: On a column or clock that has no style, no trace, or traces measured at different steps.

    Example:
        >>> fig, ax = plt.subplots()
        >>> draw_curve(ax, [{"step": np.array([0, 1]), "risk": np.array([2.0, 0.5])}], "risk")
        >>> print(ax.get_lines()[0].get_ydata())
        [2.  0.5]
    """
    require_kind("ax", ax, Axes, "matplotlib axes")
    require_name("curve", name, tuple(CURVES))
    require_name("clock", against, tuple(CLOCKS))
    require_integer("points", points, 2)
    require_traces(traces, name, against)
    length = min(len(trace[against]) for trace in traces)
    clocks = np.array([trace[against][:length] for trace in traces], dtype=float)
    require((clocks == clocks[0]).all(), f"traces measured at different {against}s", "the same for every seed")
    values = np.array([trace[name][:length] for trace in traces], dtype=float)
    values[~(np.isfinite(values) & (values > 0))] = np.nan  # a log axis has no place for them
    drawn = evenly_spaced(length, points)
    x, values = clocks[0, drawn], values[:, drawn]
    style = CURVES[name] | style
    ax.plot(x, np.median(values, axis=0), **style)
    if len(traces) > 1:
        ax.fill_between(x, values.min(0), values.max(0), color=style["color"], alpha=0.15, linewidth=0)
