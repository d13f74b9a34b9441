"""One explorer: sliders over a grid of points and a figure for each, live with a kernel and working on the static site."""

import asyncio
import base64
import functools
import html
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

from . import plots
from ._checks import plain_list, require, require_callable, require_integer, require_kind, require_on_axis, require_point
from .sweeps import Sweep
from .training import Trace, TrainConfig, train

LIMIT = 1_000_000
"""Largest explorer on the website, in bytes."""

ID = "clt0id"
"""Stands in the figures' ids until it is known where they go."""

LIVE_OR_STILL = """<style>
.jp-OutputArea-child:has(.clt-live) + .jp-OutputArea-child:has(.clt-still),
.jp-OutputArea-child:has(+ .jp-OutputArea-child .clt-still):not(:has(.clt-live)) { display: none; }
.clt-still img { width: 100%; max-width: 50em; }
</style>"""
"""Of the sliders and the picture that JupyterLab gets one after the other, it shows the sliders if they are alive, else the picture."""


def explore(source: Sweep | None, figure: Callable[..., Figure], *, alt: Callable[..., str] | None = None, caption: str = "",
            **axes: Sequence[Any]) -> "Explorer":
    """Sliders over a grid of points, with a figure for each point.

    With a kernel the figure follows the sliders, and "Run it now" trains at the point where they stand, in the background;
    moving a slider or "Cancel" ends that. The website gets all figures drawn beforehand, and sliders that swap them::

        explore(sweep, figure, depth=[2, 4, 8], skip=[False, True])

    Args:
        source: A ``Sweep``, whose runs at a point are drawn; None if the figure needs nothing but the point.
        figure: ``figure(runs, point)``, without a source ``figure(point)``, returns a matplotlib figure; ``runs`` are the traces
            of the point, one a seed. Fix the limits of the axes: then figures can be compared, and they share more bytes.
        alt: ``alt(runs, point)``, without a source ``alt(point)``, says in words and numbers what the figure shows; by default
            the first and last value of each labelled line. The point itself is put in front.
        caption: What all the figures show, in a sentence; the book puts it under them, and screen readers name the sliders by it.
        **axes: The values of each slider; [False, True] makes a checkbox, and words make radio buttons, for they have no order.
            The first ones are shown first.

    Returns:
        An ``Explorer``; the last line of a cell displays it.

    Raises:
        TypeError: On a source that is no sweep, a figure that is no function, and values that are no list.
        ValueError: On an axis or a value that the source does not have.

    Example:
        >>> def figure(point):
        ...     fig, ax = plots.fixed_axes()
        ...     ax.plot([0, point["depth"]], [1, 2], label="risk")
        ...     return fig
        >>> explore(None, figure, depth=[2, 4]).points
        [{'depth': 2}, {'depth': 4}]
    """
    return Explorer(source, figure, alt, axes, caption)


class Explorer:
    """What ``explore`` returns: a figure for each point, as ``<clt-explorer>`` on the website and as ``Live`` sliders in Jupyter.

    Attributes:
        source: The ``Sweep`` whose runs are drawn, or None.
        axes: The values of each slider, a dict of lists.
        caption: What all the figures show; "" if nobody said.
        points: All points, the last axis fastest.

    Example:
        >>> explorer = explore(None, lambda point: plots.fixed_axes()[0], alt=lambda point: "Nothing is drawn here.", depth=[2, 4])
        >>> explorer.frame({"depth": 4})[1]
        'Depth 4. Nothing is drawn here.'
    """

    def __init__(self, source: Sweep | None, figure: Callable[..., Figure], alt: Callable[..., str] | None,
                 axes: dict[str, Sequence[Any]], caption: str = "") -> None:
        require_kind("source", source, (Sweep, type(None)), "a `Sweep` or None")
        require_callable("figure", figure, "a function of the runs and the point, or of the point alone, that returns a figure")
        require_callable("alt", alt, "a function of what `figure` gets that returns a text", optional=True)
        require_kind("caption", caption, str, "a sentence")
        require_kind("axes", axes, dict, "a list of values for each slider, by its name")
        require(axes, "no axis", "at least one list of values, like depth=[2, 4, 8]")
        self.source, self.axes = source, {name: plain_list(name, values) for name, values in axes.items()}
        known = self.axes if source is None else source.axes
        for name, values in self.axes.items():
            for value in values:
                require_on_axis(name, value, known)
            require(len(set(map(_text, values))) == len(values), f"{name}={values}", "values that differ in print")
        require(len(axes) == len(known), f"axes {list(axes)}", f"a list of values for each of {list(known)}")
        self._figure, self._alt, self.caption = figure, alt, caption
        self.points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*self.axes.values())]
        self._frames: dict[tuple, tuple[str, str]] = {}  # recorded figures by point

    def draw(self, point: dict[str, Any], runs: Sequence[Trace] | None = None) -> tuple[Figure, str]:
        """The figure at a point, of these runs instead of the recorded ones -> (matplotlib figure, its alternative text)."""
        require_point(point, self.axes)
        require_kind("runs", runs, (list, tuple, type(None)), "a list of traces, one a seed, or None")
        known = (point,) if self.source is None else (self.source[point] if runs is None else runs, point)
        fig = self._figure(*known)
        return fig, f"{_in_words(point)}. {plots.describe(fig) if self._alt is None else self._alt(*known)}"

    def frame(self, point: dict[str, Any]) -> tuple[str, str]:
        """The recorded figure at a point -> (SVG with ID in its ids, its alternative text)."""
        require_point(point, self.axes)
        key = tuple(point[name] for name in self.axes)
        if key not in self._frames:
            fig, alt = self.draw(point)
            self._frames[key] = plots.svg(fig, alt, prefix=ID), alt
            plt.close(fig)
        return self._frames[key]

    def is_recorded(self, point: dict[str, Any]) -> bool:
        """Whether there is something to draw at a point without training there."""
        require_point(point, self.axes)
        try:
            return self.source is None or bool(self.source[point])
        except (KeyError, FileNotFoundError):
            return False

    def html(self) -> str:
        """The explorer of the website: the first figure, its text and controls, and all other figures as data.

        Raises:
            ValueError: If it is larger than ``LIMIT``.
        """
        frames = [self.frame(point)[0].split("\n") for point in self.points]
        parts = {part: i for i, part in enumerate(dict.fromkeys(itertools.chain(*frames)))}
        data = {"axes": [[_text(value) for value in values] for values in self.axes.values()], "parts": list(parts),
                "frames": [_runs([parts[part] for part in frame]) for frame in frames]}
        inline = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/").replace("<!", "\\u003c!")
        first, alt = self.frame(self.points[0])
        group = f' role="group" aria-label="{html.escape(self.caption)}"' if self.caption else ""
        page = _unique(f"""<clt-explorer{group}>
<div class="clt-controls" hidden>{"".join(_control(name, values) for name, values in self.axes.items())}</div>
<div class="clt-frame">{first}</div>
<p class="clt-words" aria-live="polite">{html.escape(alt)}</p>
<p class="clt-note">This is one of {len(frames)} figures; the sliders that choose among them need JavaScript.</p>
<script type="application/json">{inline}</script>
</clt-explorer>""")
        size = len(page.encode())
        require(size <= LIMIT, f"an explorer of {len(frames)} figures and {size:,} bytes", f"at most {LIMIT:,} bytes",
                "Give it fewer values, or draw fewer points a line, and fix the limits of the axes.")
        return page

    # ---- in Jupyter

    @functools.cached_property
    def live(self) -> "Live":
        """The sliders of Jupyter, made when first asked for."""
        return Live(self)

    @property
    def widget(self) -> widgets.VBox:
        """The sliders, buttons and picture as one widget."""
        return self.live.widget

    @property
    def point(self) -> dict[str, Any]:
        """Where the sliders stand, like ``{"depth": 2, "skip": True}``."""
        return self.live.point

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        bundle = {"text/html": self.html()} | self._still()
        return bundle if _building_site() else bundle | _widget_view(self.widget)

    def _ipython_display_(self) -> None:
        if _building_site():
            return display(self._repr_mimebundle_(), raw=True)
        # not every figure is drawn here: the widget draws what is looked at, and the notebook file stays small
        view, still = {"text/plain": "An explorer; run this cell to get its sliders."} | _widget_view(self.widget), {}
        if self.is_recorded(self.points[0]):
            still = self._still()
            words = f"<p>{html.escape(still['text/plain'])} Run this cell to get the sliders.</p>"
            if _in_jupyterlab():  # there a widget without its kernel is an error, whatever else the same output holds
                display(view, raw=True)
                image = base64.b64encode(still["image/png"]).decode()  # one that stays where the notebook's maker is not trusted
                picture = f'<img src="data:image/png;base64,{image}" alt="{html.escape(still["text/plain"])}">'
                return display(still | {"text/html": f'{LIVE_OR_STILL}<div class="clt-still">{picture}{words}</div>'}, raw=True)
            still["text/html"] = _unique(self.frame(self.points[0])[0]) + words
        display(view | still, raw=True)

    def _still(self) -> dict[str, Any]:
        fig, alt = self.draw(self.points[0])
        image = plots.png(fig)
        plt.close(fig)
        return {"image/png": image, "text/plain": alt}


class Live:
    """The widgets of an explorer: sliders, a figure that follows them, and "Run it now", which trains in a thread of its own.

    Attributes:
        controls: The slider, checkbox or radio buttons of each axis.
        run_button, cancel_button, bar: What starts a training, ends it and shows how far it is.
        status, picture: What is shown and where it comes from, in words; and the figure with its text.
        fresh: Runs trained here, by point.
        turn: Counts the sliders' moves and the buttons' clicks: training for an earlier turn is out of date.
        thread: Of the last training.
        widget: All of them together.

    Example:
        >>> live = explore(None, lambda point: plots.fixed_axes()[0], alt=lambda point: "Nothing is drawn here.", depth=[2, 4]).live
        >>> live.controls["depth"].value = 4
        >>> live.point
        {'depth': 4}
    """

    def __init__(self, explorer: Explorer) -> None:
        require_kind("explorer", explorer, Explorer, "an `Explorer`, such as `explore` makes")
        self._explorer = explorer
        self.controls = {name: _live_control(name, values) for name, values in explorer.axes.items()}
        self.run_button = widgets.Button(description="Run it now", icon="play")
        self.cancel_button = widgets.Button(description="Cancel", icon="stop")
        self.bar = widgets.FloatProgress(max=1)
        self.status, self.picture = widgets.HTML(), widgets.HTML()
        self.fresh: dict[tuple, list[Trace]] = {}
        self.turn, self.thread = 0, threading.Thread()
        for control in self.controls.values():
            control.observe(self._moved, "value")
        self.run_button.on_click(self._run)
        self.cancel_button.on_click(self._cancel)
        self._moved()
        buttons = [widgets.HBox([self.run_button, self.cancel_button, self.bar])] if explorer.source is not None else []
        self.widget = widgets.VBox([*self.controls.values(), *buttons, self.status, self.picture])
        self.widget.add_class("clt-live")

    @property
    def point(self) -> dict[str, Any]:
        """Where the sliders stand."""
        return {name: control.value for name, control in self.controls.items()}

    def _moved(self, change: object = None) -> None:
        """A slider moved: show what is known of the new point."""
        self._end_turn()
        point, explorer = self.point, self._explorer
        fresh = self.fresh.get(tuple(point.values()))
        if fresh:
            return self._show(*explorer.draw(point, fresh), f"{_runs_in_words(fresh)}, trained here.")
        if not explorer.is_recorded(point):
            self.picture.value, self.status.value = "", 'Nothing is recorded here yet. "Run it now" trains this point.'
            return
        frame, alt = explorer.frame(point)
        self.picture.value = _unique(frame) + f"<p>{html.escape(alt)}</p>"
        self.status.value = "" if explorer.source is None else f"{_runs_in_words(explorer.source[point])}, recorded."

    def _run(self, button: object = None) -> None:
        """Train at the point where the sliders stand, in a thread of its own."""
        self._end_turn()
        self.run_button.disabled, self.cancel_button.disabled = True, False
        self.bar.value, self.bar.layout.visibility, self.status.value = 0, "visible", "Training…"
        later: Callable[..., object]
        try:  # figures are drawn where the notebook's own are drawn, in the main thread: pyplot knows only one
            later = asyncio.get_running_loop().call_soon_threadsafe
        except RuntimeError:  # no notebook
            later = lambda call, *args: call(*args)
        self.thread = threading.Thread(target=self.train_at, args=(self.turn, self.point, later), daemon=True)
        self.thread.start()

    def _cancel(self, button: object = None) -> None:
        self._moved()
        self.status.value = f"Cancelled. {self.status.value}"

    def _end_turn(self) -> None:
        self.turn += 1
        self.run_button.disabled, self.cancel_button.disabled, self.bar.layout.visibility = False, True, "hidden"

    def train_at(self, turn: int, point: dict[str, Any], later: Callable[..., object]) -> None:
        """Train all seeds of a point, until the turn is over.

        Args:
            turn: For which it is; see ``turn``.
            point: Where to train.
            later: ``later(call, *args)`` makes the main thread call it.
        """
        require_integer("turn", turn)
        require_point(point, self._explorer.axes)
        require_callable("later", later, "a function that calls what it is given")
        assert self._explorer.source is not None, "without a source there is no button to run it"

        def stale() -> bool:
            return turn != self.turn

        try:
            runs: list[Trace] = []
            configs = self._explorer.source.configs(point)
            for config in configs:
                def progress(row: dict[str, Any], config: TrainConfig = config) -> None:
                    if not stale():
                        self.bar.value = (len(runs) + row["epoch"] / config.epochs) / len(configs)

                run = train(config, on_probe=progress, should_stop=stale)
                if stale():
                    return
                runs.append(run)
                later(self._trained, turn, point, list(runs), len(configs))
        except Exception as error:  # nobody sees what a thread raises
            later(self._failed, turn, error)

    def _trained(self, turn: int, point: dict[str, Any], runs: list[Trace], total: int) -> None:
        if turn != self.turn:
            return
        if len(runs) == total:
            self.fresh[tuple(point.values())] = runs
            self._end_turn()
        stopped = " ".join(run.stopped for run in runs if run.stopped)
        words = f"{len(runs)} of {_runs_in_words(range(total))} trained here. {html.escape(stopped)}"
        self._show(*self._explorer.draw(point, runs), words)

    def _failed(self, turn: int, error: Exception) -> None:
        if turn == self.turn:
            self._end_turn()
            self.status.value = html.escape(f"{type(error).__name__}: {error}")

    def _show(self, fig: Figure, alt: str, status: str) -> None:
        self.picture.value = f"{plots.svg(fig, alt)}<p>{html.escape(alt)}</p>"
        self.status.value = status
        plt.close(fig)


def _building_site() -> bool:
    """Whether the kernel runs for the website, as the book's Sphinx extension says."""
    return bool(os.environ.get("CLT_SITE_BUILD"))


def _in_jupyterlab() -> bool:
    """Whether the kernel was started by a Jupyter server, so that JupyterLab, or Notebook, which is made of it, shows what it displays."""
    return "JPY_SESSION_NAME" in os.environ


def _widget_view(widget: widgets.Widget) -> dict[str, Any]:
    """What makes JupyterLab, which prefers it to HTML, show a widget."""
    return {"application/vnd.jupyter.widget-view+json": {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}}


def _unique(page: str) -> str:
    """Replace the placeholder in a figure's ids by what occurs once on a page."""
    return page.replace(ID, plots.unique_prefix(page))


def _live_control(name: str, values: Sequence[Any]) -> widgets.Widget:
    if _is_switch(values):
        return widgets.Checkbox(values[0], description=_label(name), indent=False)
    kind = widgets.RadioButtons if _are_words(values) else widgets.SelectionSlider
    return kind(options=[(_text(value), value) for value in values], value=values[0], description=_label(name),
                style={"description_width": "initial"})


def _control(name: str, values: Sequence[Any]) -> str:
    """A labelled native control; what wraps it is its label, so no ids are needed."""
    if _is_switch(values):
        return f'<label><input type="checkbox" autocomplete="off"{" checked" * values[0]}> <span>{_label(name)}</span></label>'
    if _are_words(values):
        buttons = (f'<label><input type="radio" name="{ID}-{name}" autocomplete="off"{" checked" * (i == 0)}> '
                   f'<span>{html.escape(_text(value))}</span></label>' for i, value in enumerate(values))
        return f'<fieldset><legend>{_label(name)}</legend>{"".join(buttons)}</fieldset>'
    first = html.escape(_text(values[0]))
    return (f'<label><span>{_label(name)}</span> <input type="range" min="0" max="{len(values) - 1}" value="0" '
            f'autocomplete="off" aria-valuetext="{first}"> <b aria-hidden="true">{first}</b></label>')


def _runs(indices: Iterable[int]) -> list[int]:
    """Consecutive integers as [start, count, start, count, ...]."""
    runs: list[int] = []
    for i in indices:
        if runs and runs[-2] + runs[-1] == i:
            runs[-1] += 1
        else:
            runs += [i, 1]
    return runs


def _is_switch(values: Sequence[Any]) -> bool:
    return len(values) == 2 and all(isinstance(value, bool) for value in values)


def _are_words(values: Sequence[Any]) -> bool:
    """Whether values have no order that a slider could follow."""
    return any(isinstance(value, str) for value in values)


def _text(value: object) -> str:
    """A value as a reader sees it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _label(name: str) -> str:
    return name.replace("_", " ")


def _in_words(point: dict[str, Any]) -> str:
    """"Batch size 4, skip on"."""
    words = ", ".join(f"{_label(name)} {_text(value)}" for name, value in point.items())
    return words[0].upper() + words[1:]


def _runs_in_words(runs: Sized) -> str:
    return f"{len(runs)} run{'s' * (len(runs) != 1)}"
