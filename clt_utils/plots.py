"""One figure function per kind of picture, in one house style, and ``show``, which gives every figure its words.

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
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from numpy.typing import ArrayLike

from ._checks import require, require_name
from .correlation import local_pearson


class Columns(Protocol):
    """A ``Trace``, or anything else that gives its columns by name."""

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
    """
    display({"text/html": svg(fig, alt), "image/png": png(fig), "text/plain": alt}, raw=True)
    plt.close(fig)


def png(fig: Figure) -> bytes:
    """The figure as the bytes of a PNG image on white."""
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
    """
    require(isinstance(alt, str) and len(alt.split()) >= 5, f"alt={alt!r}", "what the figure shows, in five words at least",
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
    prefix = prefix or unique_prefix(text)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", text)
    text = re.sub(r"<defs> *</defs>", "", text)
    label = html.escape(" ".join(alt.split()))
    root = (f'<svg class="clt-figure" role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}" style="max-width:100%;height:auto" '
            'fill="currentColor" stroke-linejoin="round">')
    return re.sub(r" *> *<", ">\n<", f"{root}{text.strip()}</svg>")


_count = itertools.count()


def unique_prefix(text: str) -> str:
    """What the ids of a piece of HTML begin with: the same in every build of a page, and only once on it."""
    return "c" + hashlib.sha256(f"{next(_count)} {text}".encode()).hexdigest()[:8]


def describe(fig: Figure) -> str:
    """A figure's labelled lines in words, each with its first and last value: alternative text where nobody wrote one."""
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


def _plain(label):
    r"""A label as one says it: $\lambda_{\min}$ is lambda_min, $\hat R$ is R-hat."""
    label = re.sub(r"\\hat *{?(\w)}?", r"\1-hat", label)
    return " ".join(re.sub(r"\\[,;]|[${}\\]", "", label).split())


def _number(value):
    """Three digits, 3600 rather than 3.6e+03."""
    return f"{float(f'{value + 0.0:.3g}'):g}"


def log_scale(ax: Axes, names: str = "y") -> None:
    """Make the axes "x", "y" or "xy" logarithmic, their powers of ten in plain text: formulas are slow to draw."""
    for name in names:
        getattr(ax, f"set_{name}scale")("log")
        getattr(ax, f"{name}axis").set_major_formatter(_power_of_ten)


def _power_of_ten(value, position=None):
    exponent = round(np.log10(value))
    if abs(exponent) <= 3 or not np.isclose(value, 10.0**exponent, atol=0):
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def legend(fig: Figure, ncols: int = 3, **options: Any) -> Legend:
    """A legend of all labelled lines above the axes, outside the data; each label once."""
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
    """
    return plt.subplots(layout="none", gridspec_kw=dict(left=0.13, right=0.98, bottom=0.14, top=0.955 - 0.073 * legend_rows))


def simplex_place(p: ArrayLike) -> np.ndarray:
    """Where probability vectors with three entries lie in an equilateral triangle, (..., 3) -> (..., 2)."""
    return np.asarray(p) @ np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])


def draw_simplex(ax: Axes, title: str = "") -> None:
    """The triangle of all probability vectors with three entries, one corner a class."""
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
    """
    return _along_training(traces, ("upper", "risk", "lower") + ("upper_sharp", "lower_sharp") * sharp,
                           r"risk $\hat R$ and its bounds", against)


def spectrum(traces: Columns | Sequence[Columns], against: str = "step") -> Figure:
    """Extreme eigenvalues of the structure matrices and gradient energy along training (slug ``residual-sandwich``).

    Args:
        traces: One or several with columns "step", "lam_min", "lam_max", "energy", as in ``risk_between_bounds``.
        against: "step" or "epoch".

    Returns:
        A matplotlib figure.
    """
    return _along_training(traces, ("lam_max", "lam_min", "energy"), r"eigenvalues $\lambda$, energy $\hat E$", against)


def _along_training(traces, names, ylabel, against):
    traces = traces if isinstance(traces, (list, tuple)) else [traces]
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


def draw_curve(ax: Axes, traces: Sequence[Columns], name: str, against: str = "step", **style: Any) -> None:
    """Draw one column of traces over seeds: their median, in a band from the smallest to the largest value.

    Args:
        ax: Where to draw.
        traces: A list of traces that were measured at the same steps; runs that ended early shorten the curve.
        name: The column, one of ``CURVES``.
        against: "step" or "epoch".
        **style: Changes of the curve's style.
    """
    require_name("curve", name, tuple(CURVES))
    require_name("clock", against, tuple(CLOCKS))
    require(len(traces), "no trace", "at least one")
    length = min(len(trace[against]) for trace in traces)
    clocks = np.array([trace[against][:length] for trace in traces], dtype=float)
    require((clocks == clocks[0]).all(), f"traces measured at different {against}s", "the same for every seed")
    values = np.array([trace[name][:length] for trace in traces], dtype=float)
    values[~(np.isfinite(values) & (values > 0))] = np.nan  # a log axis has no place for them
    some = np.linspace(0, length - 1, min(length, POINTS)).round().astype(int)
    x, values = clocks[0, some], values[:, some]
    style = CURVES[name] | style
    ax.plot(x, np.median(values, axis=0), **style)
    if len(traces) > 1:
        ax.fill_between(x, values.min(0), values.max(0), color=style["color"], alpha=0.15, linewidth=0)


def side_by_side(groups: dict[str, Sequence[Columns]], names: Sequence[str] = ("upper_sharp", "risk", "lower_sharp")) -> Figure:
    """The same curves over the epochs for several groups of runs, a panel each, on one scale.

    Args:
        groups: The title of each panel -> its traces, one a seed; medians are drawn, in bands from the smallest to the largest value.
        names: Columns, of ``CURVES``.

    Returns:
        A matplotlib figure.
    """
    fig, axes = plt.subplots(1, len(groups), figsize=(8.4, 3.2), sharey=True, squeeze=False)
    for ax, (title, traces) in zip(axes[0], groups.items()):
        for name in names:
            draw_curve(ax, traces, name, "epoch")
        log_scale(ax)
        ax.set(title=title, xlabel="epoch")
    axes[0, 0].set_ylabel("log scale")
    legend(fig)
    return fig


def watched(traces: Sequence[Columns], window: int) -> Figure:
    """A network watched as the paper does: risk between its bounds, spectrum and energy, local correlation of bound and risk.

    Args:
        traces: One a seed; medians are drawn, in bands from the smallest to the largest value.
        window: Measurements in a window of ``correlation.local_pearson``, which correlates logarithms; drawn at its middle.

    Returns:
        A matplotlib figure with three panels over the epochs.
    """
    fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.4))
    for ax, names, title in zip(axes, (("upper", "upper_sharp", "risk", "lower_sharp", "lower"), ("lam_max", "lam_min", "energy")),
                                (r"risk $\hat R$ and its bounds", r"eigenvalues $\lambda$, energy $\hat E$")):
        for name in names:
            draw_curve(ax, traces, name, "epoch")
        log_scale(ax)
        ax.set(title=f"{title}\n(log scale)")
    length = min(len(trace["epoch"]) for trace in traces)
    middle = np.lib.stride_tricks.sliding_window_view(traces[0]["epoch"][:length], window).mean(-1)
    some = np.linspace(0, len(middle) - 1, min(len(middle), POINTS)).round().astype(int)
    for name in ("lower_sharp", "upper", "upper_sharp"):
        local = np.array([local_pearson(trace["risk"][:length], trace[name][:length], window) for trace in traces])[:, some]
        axes[2].plot(middle[some], np.median(local, axis=0), **CURVES[name])
        axes[2].fill_between(middle[some], local.min(0), local.max(0), color=CURVES[name]["color"], alpha=0.15, linewidth=0)
    axes[2].set(title="correlation of log bound\nand log risk, in a window", ylim=(-1.05, 1.05))
    for ax in axes:
        ax.set(xlabel="epoch")
    legend(fig, ncols=3)
    return fig


def start_and_end(groups: dict[str, dict[Any, tuple[Sequence[Columns], ...]]]) -> Figure:
    """λ_min, condition number, energy and risk at the first (hollow, dashed) and the last measurement (filled), by a property.

    Args:
        groups: The name of each property -> {value: (runs of Model A, runs of Model B)}, one run a seed; a column each.

    Returns:
        A matplotlib figure; markers at the medians over seeds, bars from the smallest to the largest value.
    """
    measures = {r"$\lambda_{\min}$": lambda run: run["lam_min"],
                r"$\lambda_{\max}/\lambda_{\min}$": lambda run: run["lam_max"] / run["lam_min"],
                r"energy $\hat E$": lambda run: run["energy"], r"risk $\hat R$": lambda run: run["risk"]}
    fig, axes = plt.subplots(4, len(groups), figsize=(1 + 1.9 * len(groups), 6.6), sharex="col", sharey="row", squeeze=False)
    for column, (group, values) in zip(axes.T, groups.items()):
        for ax, measure in zip(column, measures.values()):
            for model, (letter, color, marker) in enumerate((("A", "vermillion", "o"), ("B", "blue", "s"))):
                for at, when, dash, face in ((0, "start", "--", "none"), (-1, "end", "-", COLORS[color])):
                    seen = np.array([[measure(run)[at] for run in runs[model]] for runs in values.values()])
                    middle = np.median(seen, axis=1)
                    places = np.arange(len(seen)) + 0.16 * model + 0.08 * (at == -1) - 0.12
                    ax.errorbar(places, middle, [middle - seen.min(1), seen.max(1) - middle], color=COLORS[color], linestyle=dash,
                                marker=marker, markersize=4, markerfacecolor=face, linewidth=1, label=f"Model {letter}, {when}")
            log_scale(ax)
            ax.minorticks_off()  # half of the picture's bytes
            ax.set_xticks(range(len(values)), ["none" if value is None else f"{value}" for value in values])
        column[-1].set_xlabel(group)
    for ax, label in zip(axes[:, 0], measures):
        ax.set_ylabel(label)
    legend(fig, ncols=2, title="median of the seeds, bar: smallest to largest; all scales logarithmic", alignment="left")
    return fig


# ---- figures that explain

def energy_and_optimum() -> Figure:
    """Figure 2: zero mean gradient is not zero energy (slug ``energy-global-optimum``).

    One parameter θ, two samples with outputs θ and θ², half squared losses. On the left no θ fits both targets, on the right
    θ = 2 does. Rows: risk (summed), mean gradient, mean energy; markers where the mean gradient is zero.

    Returns:
        A matplotlib figure.
    """
    theta = np.linspace(-2.6, 2.6, POINTS)
    fig, axes = plt.subplots(3, 2, figsize=(6.6, 5.4), sharex=True, sharey="row")
    titles = ("no $\\theta$ fits both", "$\\theta=2$ fits both")
    for column, targets, title in zip(axes.T, ((0.5, 4), (2, 4)), titles, strict=True):
        a, b = np.polynomial.Polynomial([-targets[0], 1]), np.polynomial.Polynomial([-targets[1], 0, 1])  # the two errors
        ga, gb = a * a.deriv(), b * b.deriv()  # and their gradients
        risk, mean_gradient, energy = (a**2 + b**2) / 2, (ga + gb) / 2, (ga**2 + gb**2) / 2
        still = np.sort(mean_gradient.roots().real)
        for ax, curve, color, below in zip(column, (risk, mean_gradient, energy), ("black", "blue", "vermillion"),
                                           (-3, None, -5), strict=True):
            ax.plot(theta, curve(theta), color=COLORS[color], linestyle="-")
            ax.axhline(0, color="black", linewidth=0.8)
            for at, marker in zip(still, "so^", strict=True):
                ax.plot(at, curve(at), marker, color=COLORS[color], markersize=6)
                if below is not None:
                    ax.text(at, below, f"{abs(curve(at)):.2f}", ha="center", va="center")
        column[0].set_title(f"targets {targets[0]:g} and {targets[1]:g}: {title}")
        column[2].set_xlabel(r"parameter $\theta$")
    for ax, label, limits in zip(axes[:, 0], ("risk\n(summed)", "mean\ngradient", "mean energy\n$\\hat E$"),
                                 ((-5, 14), (-6, 6), (-9, 26)), strict=True):
        ax.set(ylabel=label, ylim=limits)
    return fig


def framework() -> Figure:
    """Figure 1: the framework of conjugate learning (slug ``conjugate-learning``), from the data to its two questions.

    Returns:
        A matplotlib figure.
    """
    fig, ax = _canvas(100, 80)
    black, blue, vermillion, green = (COLORS[name] for name in ("black", "blue", "vermillion", "green"))
    _panel(ax, 1, 45, 98, 34, black, "Conjugate learning", "a loss made by a generator and its conjugate")
    _box(ax, 10.5, 58, 13, 11, "data\n$(x,\\,y)$", black)
    _box(ax, 35, 64.5, 24, 8.5, "sufficient statistic\n$T(y)$, e.g. one-hot $1_y$", blue)
    _box(ax, 35, 51.5, 24, 8.5, "model (dual space)\n$f=f_\\theta(x)$", vermillion)
    _box(ax, 64, 62, 22, 13, "loss\n$d_\\Phi(T(y);f)=\\Phi(T(y))$\n$+\\,\\Phi^*(f)-\\langle T(y),f\\rangle$", black)
    _box(ax, 88.5, 64.5, 17, 11, "generator $\\Phi$,\nits domain holds\nprior knowledge", blue)
    _box(ax, 88.5, 51.5, 17, 8.5, "prediction\n$\\hat y=\\nabla\\Phi^*(f)$", vermillion)
    for start, end in (((17, 60), (23, 63.5)), ((17, 56), (23, 52.5)), ((47, 64.5), (53, 64.5)), ((47, 53.5), (55, 55.5)),
                       ((47, 50.5), (80, 50.5)), ((80, 64.5), (75, 64.5)), ((88.5, 59), (88.5, 55.75)),
                       ((25, 45), (25, 39.5)), ((75, 45), (75, 39.5))):
        _arrow(ax, start, end)
    _panel(ax, 1, 1, 48, 38.5, vermillion, "Trainability", "how low can training push the risk?")
    _box(ax, 13.5, 23, 21, 9, "gradient energy\n$g=\\|\\nabla_\\theta d_\\Phi\\|^2$", vermillion)
    _box(ax, 36.5, 23, 21, 9, "structure matrix\n$A_x=J_xJ_x^\\top$", vermillion)
    _box(ax, 25, 8.5, 44, 10, "$g/\\lambda_{\\max}(A_x)\\;\\leq\\;\\|\\hat y-T(y)\\|^2\\;\\leq\\;g/\\lambda_{\\min}(A_x)$\n"
         "and the residual controls the risk", black, size=9)
    _panel(ax, 51, 1, 48, 38.5, green, "Generalization", "how far off is the risk on new data?")
    _box(ax, 59.7, 23, 13.4, 9, "entropy\n$\\mathrm{Ent}_\\Phi(Y|X)$", green, size=9)
    _box(ax, 75, 23, 13.4, 9, "information\nloss", green, size=9)
    _box(ax, 90.3, 23, 13.4, 9, "largest\nloss $\\gamma$", green, size=9)
    _box(ax, 75, 8.5, 44, 10,
         "$\\mathrm{Ent}_q(Y|U)-\\gamma\\;\\leq\\;R-\\hat R\\;\\leq\\;\\gamma-\\mathrm{Ent}_{\\hat q}(Y|U)$\n"
         "$\\mathrm{Ent}(Y|U)=\\mathrm{Ent}(Y|X)+$ information loss", black, size=9)
    for x, to in ((13.5, 18), (36.5, 32), (59.7, 66), (75, 75), (90.3, 84)):
        _arrow(ax, (x, 18.5), (to, 13.5))
    return fig


def models_ab() -> Figure:
    """Figure 3: Models A and B, depth n_d and width n_w, without and with identity skips (slug ``depth-skip``).

    Returns:
        A matplotlib figure.
    """
    fig, ax = _canvas(100, 41)
    black, blue, vermillion = (COLORS[name] for name in ("black", "blue", "vermillion"))
    for y, name in ((30, "Model A"), (11, "Model B: identity skips $I$")):
        skip = y == 11
        ax.text(0, y + 7.5, name, weight="bold", va="center")
        _box(ax, 5, y, 9, 8, "image\n$x$", black, size=9)
        _box(ax, 19, y, 13, 8, "4×4 patches,\nReLU", blue, size=8.5)
        _box(ax, 39, y, 15, 8, "block 1\n3×3 conv, ReLU", vermillion, size=8.5)
        _box(ax, 68, y, 15, 8, "block $n_d$\n3×3 conv, ReLU", vermillion, size=8.5)
        _box(ax, 88, y, 8, 8, "linear", blue, size=9)
        ax.text(54, y, "…", ha="center", va="center", size=14)
        ax.text(97.5, y, "$f_\\theta(x)$", ha="center", va="center")
        for start, end in ((9.5, 12.5), (25.5, 31.5), (46.5, 52), (56, 60.5), (75.5, 84), (92, 94.5)):
            _arrow(ax, (start, y), (end, y))
        for x in (39, 68) if skip else ():
            ax.add_patch(Circle((x + 10, y), 1.3, facecolor=blue, edgecolor=blue))
            ax.text(x + 10, y - 0.1, "+", ha="center", va="center", color="white", weight="bold")
            ax.plot([x - 10, x - 10, x + 10], [y, y - 7, y - 7], color=blue, linestyle="--")
            _arrow(ax, (x + 10, y - 7), (x + 10, y - 1.3), color=blue)
            ax.text(x, y - 5.5, "$I$", ha="center", va="center")
    ax.text(53.5, 37.5, "depth: $n_d$ blocks; width: $n_w$ channels in each", ha="center", va="center")
    return fig


def _canvas(width, height):
    """Empty axes in which a unit is the same length in both directions."""
    fig, ax = plt.subplots(figsize=(7.2, 7.2 * height / width))
    ax.set(xlim=(-0.5, width + 0.5), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return fig, ax


def _box(ax, x, y, width, height, text, color, size=9.5):
    """A rounded box around (x, y), its text in the colour of the page."""
    ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=1",
                                facecolor=color + "1f", edgecolor=color, linewidth=1.2))
    ax.text(x, y, text, ha="center", va="center", size=size, linespacing=1.3)


def _panel(ax, x, y, width, height, color, title, subtitle):
    """A dashed frame with its lower left corner at (x, y), titled at its top."""
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1.5", facecolor="none",
                                edgecolor=color, linestyle="--", linewidth=1.2))
    ax.text(x + width / 2, y + height - 3.2, title, ha="center", va="center", weight="bold")
    ax.text(x + width / 2, y + height - 6.6, subtitle, ha="center", va="center", size=9)


def _arrow(ax, start, end, color="black"):
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0, color=color))
