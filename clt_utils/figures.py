"""The figures that the book composes by hand: several panels of runs seen together, and drawings that explain.

Pictures that fit any data are in ``plots``, and the house style is set there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from ._checks import real_array, require, require_integer, require_kind, require_number, require_traces, shown
from ._spacing import evenly_spaced
from .correlation import local_pearson
from .plots import COLORS, CURVES, POINTS, Columns, draw_curve, legend, log_scale

# ---- runs seen together

def _require_groups(groups: object) -> None:
    _require_entries("groups", groups, "a dict with at least one group, by its title")


def _require_entries(name: str, entries: object, kind: str) -> None:
    """Refuse what is not a dict with at least one entry."""
    require_kind(name, entries, dict, kind)
    require(entries, f"no {name}", kind)


def side_by_side(groups: dict[str, Sequence[Columns]], names: Sequence[str] = ("upper_sharp", "risk", "lower_sharp")) -> Figure:
    """The same curves over the epochs for several groups of runs, a panel each, on one scale.

    Args:
        groups: The title of each panel -> its traces, one a seed; medians are drawn, in bands from the smallest to the largest value.
        names: Columns, of ``CURVES``.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: As ``plots.draw_curve``.

    Example:
        >>> run = {name: np.geomspace(4.0, 1.0, 8) for name in (*CURVES, "epoch")}
        >>> fig = side_by_side({"depth 2": [run], "depth 4": [run]})
        >>> [ax.get_title() for ax in fig.axes]
        ['depth 2', 'depth 4']
    """
    return one_below_the_other({"log scale": groups}, names)


def one_below_the_other(rows: dict[str, dict[str, Sequence[Columns]]],
                        names: Sequence[str] = ("upper", "upper_sharp", "risk", "lower_sharp", "lower")) -> Figure:
    """The same curves over the epochs for rows of groups of runs, a panel a group, each row on one scale.

    Args:
        rows: The label of each row -> its groups as in ``side_by_side``, everywhere the same titles.
        names: Columns, of ``CURVES``.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: As ``plots.draw_curve``, and on rows whose titles differ.

    Example:
        >>> run = {name: np.geomspace(4.0, 1.0, 8) for name in (*CURVES, "epoch")}
        >>> fig = one_below_the_other({"LeNet": {"MNIST": [run], "CIFAR-10": [run]}, "ViT": {"MNIST": [run], "CIFAR-10": [run]}})
        >>> len(fig.axes)
        4
    """
    _require_groups(rows)
    for groups in rows.values():
        _require_groups(groups)
    titles = {tuple(groups) for groups in rows.values()}
    require(len(titles) == 1, f"rows with the titles {sorted(map(list, titles), key=str)}", "the same titles in every row")
    require_kind("names", names, (list, tuple), "a list of columns")
    width = len(min(titles))
    fig, axes = plt.subplots(len(rows), width, figsize=(8.4, 1 + 2.2 * len(rows)), sharex=True, sharey="row", squeeze=False)
    for line, (label, groups) in zip(axes, rows.items()):
        for ax, traces in zip(line, groups.values()):
            for name in names:
                draw_curve(ax, traces, name, "epoch")
            log_scale(ax)
            ax.minorticks_off()
        line[0].set_ylabel(label)
    for ax, title in zip(axes[0], min(titles)):
        ax.set_title(title)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    legend(fig)
    return fig


WATCHED = {name: {"color": COLORS["black"], "linestyle": dash} for name, dash in zip(("lam_max", "lam_min", "energy"), ("--", ":", "-."))}
"""How eigenvalues and energy are drawn beside bounds, so that no hue stands for two things in one figure."""


def watched(traces: Sequence[Columns], window: int) -> Figure:
    """A network watched as the paper does: risk between its bounds, spectrum and energy, local correlation of bound and risk.

    Args:
        traces: One a seed; medians are drawn, in bands from the smallest to the largest value.
        window: Measurements in a window of ``correlation.local_pearson``, which correlates logarithms; drawn at its middle.

    Returns:
        A matplotlib figure with three panels over the epochs.

    Raises:
        ValueError: As ``plots.draw_curve``, and on a window that does not fit.

    Example:
        >>> run = {name: np.geomspace(4.0, 1.0, 8) for name in (*CURVES, "epoch")}
        >>> len(watched([run], window=4).axes)
        3
    """
    fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.4))
    for ax, names, title in zip(axes, (("upper", "upper_sharp", "risk", "lower_sharp", "lower"), ("lam_max", "lam_min", "energy")),
                                (r"risk $\hat R$ and its bounds", r"eigenvalues $\lambda$, energy $\hat E$")):
        for name in names:  # hues belong to the bounds; eigenvalues and energy share black and differ in their dashes
            draw_curve(ax, traces, name, "epoch", POINTS // 6, **WATCHED.get(name, {}))
        log_scale(ax)
        ax.minorticks_off()
        ax.set(title=f"{title}\n(log scale)")
    length = min(len(trace["epoch"]) for trace in traces)
    require_integer("window", window, 2, length)
    middle = np.lib.stride_tricks.sliding_window_view(traces[0]["epoch"][:length], window).mean(-1)
    drawn = evenly_spaced(len(middle), POINTS // 6)
    for name in ("lower_sharp", "upper", "upper_sharp"):
        local = np.array([local_pearson(trace["risk"][:length], trace[name][:length], window) for trace in traces])[:, drawn]
        axes[2].plot(middle[drawn], np.median(local, axis=0), **CURVES[name])
        axes[2].fill_between(middle[drawn], local.min(0), local.max(0), color=CURVES[name]["color"], alpha=0.15, linewidth=0)
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

    Raises:
        ValueError: On groups whose values have unequal numbers of runs, and on runs that lack a column.

    Example:
        >>> run = {name: np.geomspace(4.0, 1.0, 8) for name in (*CURVES, "epoch")}
        >>> fig = start_and_end({"depth": {2: ([run], [run]), 4: ([run], [run])}})
        >>> len(fig.axes) == len(MEASURES)
        True
    """
    _require_groups(groups)
    for values in groups.values():
        require_kind("a group", values, dict, "{value: (runs of Model A, runs of Model B)}")
        for pair in values.values():
            require_kind("a group's entry", pair, (list, tuple), "(runs of Model A, runs of Model B)")
            for runs in pair:
                require_traces(runs, "lam_min", "lam_max", "energy", "risk")
        counts = {tuple(len(runs) for runs in pair) for pair in values.values()}
        require(len(counts) == 1 and len(min(counts)) == 2, f"a group with {sorted(counts)} runs at its values",
                "a pair, (runs of Model A, runs of Model B), at each value, everywhere as many")
    fig, axes = plt.subplots(len(MEASURES), len(groups), figsize=(1 + 1.9 * len(groups), 6.6), sharex="col", sharey="row", squeeze=False)
    for column, (group, values) in zip(axes.T, groups.items()):
        for ax, measure in zip(column, MEASURES.values()):
            _draw_start_and_end(ax, list(values.values()), measure)
            ax.set_xticks(range(len(values)), ["none" if value is None else f"{value}" for value in values])
        column[-1].set_xlabel(group)
    for ax, label in zip(axes[:, 0], MEASURES):
        ax.set_ylabel(label)
    legend(fig, ncols=2, title="median of the seeds, bar: smallest to largest; all scales logarithmic", alignment="left")
    return fig


MEASURES: dict[str, Callable[[Columns], np.ndarray]] = {
    r"$\lambda_{\min}$": lambda run: run["lam_min"],
    r"$\lambda_{\max}/\lambda_{\min}$": lambda run: run["lam_max"] / run["lam_min"],
    r"energy $\hat E$": lambda run: run["energy"],
    r"risk $\hat R$": lambda run: run["risk"]}
"""The rows of ``start_and_end``: a label, and what it takes from a run."""

# of Model A (0) and B (1), the first (0) and the last (−1) measurement: how far beside its tick, and how it is drawn
_ENDS: tuple[tuple[int, int, float, dict[str, Any]], ...] = (
    (0, 0, -0.12, dict(label="Model A, start", color=COLORS["vermillion"], marker="o", markerfacecolor="none", linestyle="--")),
    (0, -1, -0.04, dict(label="Model A, end", color=COLORS["vermillion"], marker="o", linestyle="-")),
    (1, 0, 0.04, dict(label="Model B, start", color=COLORS["blue"], marker="s", markerfacecolor="none", linestyle="--")),
    (1, -1, 0.12, dict(label="Model B, end", color=COLORS["blue"], marker="s", linestyle="-")))


def _draw_start_and_end(ax: Axes, pairs: Sequence[tuple[Sequence[Columns], ...]], measure: Callable[[Columns], np.ndarray]) -> None:
    """One panel of ``start_and_end``; ``pairs`` has the runs of Model A and of Model B for each value on the axis."""
    for model, at, beside, style in _ENDS:
        values = np.array([[measure(run)[at] for run in pair[model]] for pair in pairs])
        median = np.median(values, axis=1)
        bars = [median - values.min(1), values.max(1) - median]
        ax.errorbar(np.arange(len(pairs)) + beside, median, bars, markersize=4, linewidth=1, **style)
    log_scale(ax)
    ax.minorticks_off()  # half of the picture's bytes


# ---- what computations cost

def time_against_arithmetic(machines: dict[str, tuple[dict[str, Any], float]]) -> Figure:
    """Where computations stand below the roof of a machine: time against arithmetic, on logarithmic axes, a panel each machine.

    Args:
        machines: The title of each panel -> (methods, roof). ``methods`` has for each label two lists, GFLOP and milliseconds of its
            cases; ``roof`` is how many GFLOP a second the machine showed; hardly anything can lie far below the line that it draws.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: On lists of different length, or a roof that is not positive.

    Example:
        >>> fig = time_against_arithmetic({"a laptop": ({"one product": ([2.0, 20.0], [40.0, 210.0])}, 100.0)})
        >>> print(fig.axes[0].get_lines()[-1].get_ydata())  # two GFLOP take at least 20 ms
        [ 20. 200.]
    """
    kind = "{title: ({label: (GFLOP, milliseconds)}, roof)}"
    _require_pairs("machines", machines, kind)
    for methods, _ in machines.values():
        _require_pairs("methods", methods, kind)
        require(len(methods) <= 4, f"{len(methods)} methods", "four at most, as there are colors")
    fig, axes = plt.subplots(1, len(machines), figsize=(6.6, 3.7), squeeze=False)
    for ax, (title, (methods, roof)) in zip(axes[0], machines.items()):
        require_number("roof", roof, "(0, ∞)")
        cases = {label: (real_array(f"GFLOP of {label}", gflop, dims=1), real_array(f"milliseconds of {label}", times, dims=1))
                 for label, (gflop, times) in methods.items()}
        for (label, (gflop, times)), color, marker in zip(cases.items(), ("blue", "vermillion", "green", "purple"), "os^D"):
            require(len(times) == len(gflop), f"{label} with {len(gflop)} counts and {len(times)} times", "one time a count")
            require(min(gflop.min(), times.min()) > 0, f"{label} with a count or a time that is not positive", "positive numbers")
            ax.plot(gflop, times, marker, color=COLORS[color], label=label)
        work = np.concatenate([gflop for gflop, _ in cases.values()])
        ends = np.array([work.min(), work.max()])
        ax.plot(ends, 1e3 * ends / roof, color="black", linestyle="-", label="the arithmetic alone")
        log_scale(ax, "xy")
        ax.set(title=title, xlabel="arithmetic (GFLOP)")
    axes[0, 0].set_ylabel("milliseconds")
    legend(fig)
    return fig


def _require_pairs(name: str, pairs: Any, kind: str) -> None:
    """Refuse what is not a dict of pairs with at least one."""
    _require_entries(name, pairs, kind)
    for pair in pairs.values():
        require(isinstance(pair, (list, tuple)) and len(pair) == 2, f"{shown(pair)} among the {name}", kind)


# ---- drawings that explain

def energy_and_optimum() -> Figure:
    """Figure 2: zero mean gradient is not zero energy (slug ``energy-global-optimum``).

    One parameter θ, two samples with outputs θ and θ², half squared losses. On the left no θ fits both targets, on the right
    θ = 2 does. Rows: risk (summed), mean gradient, mean energy; markers where the mean gradient is zero.

    Returns:
        A matplotlib figure.

    Example:
        >>> fig = energy_and_optimum()
        >>> fig.axes[0].get_title()[:18]
        'targets 0.5 and 4:'
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

    Example:
        >>> fig = framework()
        >>> any("Trainability" in text.get_text() for text in fig.axes[0].texts)
        True
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

    Example:
        >>> fig = models_ab()
        >>> any("Model A" in text.get_text() for text in fig.axes[0].texts)
        True
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


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Empty axes in which a unit is the same length in both directions."""
    fig, ax = plt.subplots(figsize=(7.2, 7.2 * height / width))
    ax.set(xlim=(-0.5, width + 0.5), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return fig, ax


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, color: str, size: float = 9.5) -> None:
    """A rounded box around (x, y), its text in the colour of the page."""
    ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=1",
                                facecolor=color + "1f", edgecolor=color, linewidth=1.2))
    ax.text(x, y, text, ha="center", va="center", size=size, linespacing=1.3)


def _panel(ax: Axes, x: float, y: float, width: float, height: float, color: str, title: str, subtitle: str) -> None:
    """A dashed frame with its lower left corner at (x, y), titled at its top."""
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1.5", facecolor="none",
                                edgecolor=color, linestyle="--", linewidth=1.2))
    ax.text(x + width / 2, y + height - 3.2, title, ha="center", va="center", weight="bold")
    ax.text(x + width / 2, y + height - 6.6, subtitle, ha="center", va="center", size=9)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str = "black") -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0, color=color))
