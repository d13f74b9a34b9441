"""Explorers: what the website and Jupyter are given, and the live widgets around a real training."""

import asyncio
import json
import re
import threading
import time

import ipywidgets as widgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from clt_utils import explore as module
from clt_utils import plots, sweeps
from clt_utils.explore import explore
from clt_utils.sweeps import Sweep
from clt_utils.training import TrainConfig, train

matplotlib.use("agg")
TINY = TrainConfig.mini(limit=4, size=8, epochs=2, batch_size=2, model="model-a", depth=1, width=2, device="cpu")
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("CLT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sweeps, "RESULTS", tmp_path / "results")
    monkeypatch.delenv("CLT_SITE_BUILD", raising=False)
    plt.close("all")  # what other tests left
    yield
    assert plt.get_fignums() == [], "an explorer left a figure open"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    sweep = Sweep("tiny", TINY, depth=[1, 2], skip=[False, True], seed=[0, 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLT_CACHE", str(tmp_path_factory.mktemp("cache")))
        sweep.run(workers=1, progress=False)
    return sweep


def risk(runs, point):
    fig, ax = plt.subplots()
    plots.draw_curve(ax, runs, "risk")
    ax.set(xlabel="step", ylabel="risk", ylim=(0, 4))
    return fig


def parabola(point):
    fig, ax = plt.subplots()
    x = np.linspace(-1, 1, 20)
    ax.plot(x, point["a"] * x**2 + point.get("b", 0), label="parabola")
    ax.set(xlabel="x", ylabel="y", ylim=(-5, 5))
    return fig


def frames(html):
    """What explorer.js puts together: the figure at each point."""
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)[1])
    found = [[part for start, count in zip(runs[::2], runs[1::2], strict=True) for part in data["parts"][start:start + count]]
             for runs in data["frames"]]
    return ["\n".join(parts) for parts in found], data["axes"]


# ---- the website

def test_html_holds_the_figure_of_every_point(sweep):
    explorer = explore(sweep, risk, depth=[1, 2], skip=[False, True])
    found, axes = frames(explorer.html())
    assert axes == [["1", "2"], ["off", "on"]]
    assert explorer.points == sweep.points()
    for point, frame in zip(explorer.points, found, strict=True):
        fig, alt = explorer.draw(point)
        fresh = plots.svg(fig, alt, prefix="x")
        plt.close(fig)
        assert re.sub(r"c[0-9a-f]{8}-", "x-", frame) == fresh
    assert len(set(found)) == 4


def test_shared_parts_are_stored_once():
    sizes = [len(explore(None, parabola, a=list(range(n))).html()) for n in (1, 11)]
    one = len(plots.svg(fig := parabola({"a": 1}), "five words for this figure"))
    plt.close(fig)
    assert (sizes[1] - sizes[0]) / 10 < one / 5


def test_words_name_the_point_and_the_numbers(sweep):
    explorer = explore(sweep, risk, depth=[1, 2], skip=[False, True])
    fig, alt = explorer.draw({"depth": 2, "skip": True})
    plt.close(fig)
    values = np.median([run["risk"] for run in sweep[{"depth": 2, "skip": True}]], axis=0)
    assert alt == f"Depth 2, skip on. Risk against step: risk R-hat from {values[0]:.3g} to {values[-1]:.3g}."
    own = explore(sweep, risk, depth=[1, 2], skip=[False, True], alt=lambda runs, point: f"{len(runs)} runs, {len(point)} axes")
    assert f'aria-label="{alt}"' in explore(sweep, risk, depth=[2, 1], skip=[True, False]).html()
    assert '<p class="clt-words" aria-live="polite">Depth 1, skip off. 2 runs, 2 axes</p>' in own.html()


def test_text_cannot_break_out_of_the_page():
    nasty = '</script><b> & "quotes" <!-- here'
    html = explore(None, lambda point: parabola({"a": 1}), name=["plain", nasty], alt=lambda point: nasty).html()
    assert html.count("</script>") == 1 and "<!--" not in html
    assert frames(html)[1] == [["plain", nasty]]
    assert all("&lt;/script&gt;&lt;b&gt; &amp; &quot;quotes&quot;" in frame for frame in frames(html)[0])


def test_every_explorer_has_its_own_ids():
    explorer = explore(None, parabola, a=[1, 2])
    ids = [set(re.findall(r' id=\\?"([^"\\]+)', html)) for html in (explorer.html(), explorer.html())]
    assert ids[0] and not ids[0] & ids[1]
    assert module.ID not in explorer.html()


def test_site_gets_html_and_jupyter_the_widget_too(sweep, monkeypatch):
    InteractiveShell.instance()  # without one, display only prints
    explorer = explore(sweep, risk, depth=[1, 2], skip=[False, True])
    live = explorer._repr_mimebundle_()
    assert set(live) == {WIDGET, "text/html", "image/png", "text/plain"}
    assert live[WIDGET]["model_id"] == explorer.widget.model_id
    assert live["image/png"].startswith(b"\x89PNG")
    with capture_output() as shown:
        display_(explorer)
    assert set(shown.outputs[0].data) == set(live)
    assert "clt-explorer" not in shown.outputs[0].data["text/html"], "a notebook need not hold every figure"

    monkeypatch.setenv("JPY_SESSION_NAME", "chapter.ipynb")  # the picture has a place of its own there
    with capture_output() as shown:
        display_(explorer)
    assert [set(output.data) for output in shown.outputs] == [{WIDGET, "text/plain"}, {"text/html", "image/png", "text/plain"}]
    assert "<img " in shown.outputs[1].data["text/html"] and "clt-explorer" not in shown.outputs[1].data["text/html"]

    monkeypatch.setenv("CLT_SITE_BUILD", "1")
    with capture_output() as shown:
        display_(explorer)
    assert set(shown.outputs[0].data) == {"text/html", "image/png", "text/plain"}
    assert shown.outputs[0].data["text/html"].startswith("<clt-explorer>")


def display_(explorer):
    """As the last line of a cell does it."""
    InteractiveShell.instance().display_formatter.format(explorer)


def test_words_become_a_choice_and_the_caption_a_name():
    explorer = explore(None, lambda point: parabola({"a": 1}), caption='All of "them" & more.', shape=["bowl", 'a "b" <i>'], a=[1, 2])
    html = explorer.html()
    assert html.startswith('<clt-explorer role="group" aria-label="All of &quot;them&quot; &amp; more.">')
    assert html.count('type="radio"') == 2 and html.count('type="range"') == 1 and "<legend>shape</legend>" in html
    assert "<span>a &quot;b&quot; &lt;i&gt;</span>" in html
    assert len(set(re.findall(r'name="(c[0-9a-f]{8}-shape)"', html))) == 1
    shape, a = explorer.live.controls.values()
    assert [type(shape), type(a), shape.value] == [widgets.RadioButtons, widgets.SelectionSlider, "bowl"]
    shape.value = 'a "b" <i>'
    assert explorer.point == {"shape": 'a "b" <i>', "a": 1}


def test_site_refuses_an_explorer_that_is_too_large(monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 10_000)
    with pytest.raises(ValueError, match=r"2 figures and [\d,]+ bytes.*at most 10,000"):
        explore(None, parabola, a=[1, 2]).html()


def test_mistakes_are_named(sweep):
    with pytest.raises(ValueError, match="axis 'dept'.*Did you mean 'depth'"):
        explore(sweep, risk, dept=[1, 2], skip=[True])
    with pytest.raises(ValueError, match=r"depth=3.*\[1, 2\]"):
        explore(sweep, risk, depth=[1, 3], skip=[True])
    with pytest.raises(ValueError, match=r"each of \['depth', 'skip'\]"):
        explore(sweep, risk, depth=[1, 2])
    for wrong, error in (([], ValueError), (3, TypeError), ("12", TypeError), ({1, 2}, TypeError), ([[1], [2]], TypeError)):
        with pytest.raises(error, match="a list of values"):
            explore(None, parabola, a=wrong)
    for twice, words in (([1, 1.0], "each value once"), ([0.12345678, 0.12345679], "differ in print")):
        with pytest.raises(ValueError, match=words):
            explore(None, parabola, a=twice)
    with pytest.raises(ValueError, match="at least one list"):
        explore(None, parabola)
    with pytest.raises(FileNotFoundError, match="not recorded"):
        explore(Sweep("never-run", TINY, depth=[1]), risk, depth=[1]).html()


# ---- live

def live(sweep, figure=risk, **axes):
    """An explorer on display, and its sliders."""
    explorer = explore(sweep, figure, **axes or {"depth": [1, 2], "skip": [False, True]})
    assert explorer.widget.children
    return explorer, explorer.live.controls


def test_moving_a_slider_shows_the_recorded_point_at_once(sweep):
    explorer, controls = live(sweep)
    assert [type(control) for control in controls.values()] == [widgets.SelectionSlider, widgets.Checkbox]
    assert [control.description for control in controls.values()] == ["depth", "skip"]
    before = explorer.live.picture.value
    assert explorer.live.status.value == "2 runs, recorded."
    controls["depth"].value = 2
    controls["skip"].value = True
    assert explorer.point == {"depth": 2, "skip": True}
    assert explorer.live.picture.value != before and "Depth 2, skip on." in explorer.live.picture.value


async def until(condition, seconds=600):  # no limit of what is tested: an end for a test that hangs
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.01)


def test_run_it_now_trains_and_shows_what_it_trained(sweep):
    async def session():
        explorer, controls = live(sweep)
        controls["depth"].value = 2
        explorer.live.run_button.click()
        assert explorer.live.run_button.disabled and not explorer.live.cancel_button.disabled
        await until(lambda: not explorer.live.run_button.disabled)
        assert explorer.live.status.value.startswith("2 of 2 runs trained here.")
        assert explorer.live.bar.value == 1
        return explorer, controls

    explorer, controls = asyncio.run(session())
    fresh = explorer.live.fresh[2, False]
    assert [run.config for run in fresh] == sweep.configs({"depth": 2, "skip": False})
    for run in fresh:
        np.testing.assert_allclose(run["risk"], train(run.config)["risk"], rtol=1e-4)
    fig, alt = explorer.draw(explorer.point, fresh)
    plt.close(fig)
    assert alt.split(". ")[1] in explorer.live.picture.value
    controls["depth"].value = 1
    assert explorer.live.status.value == "2 runs, recorded."
    controls["depth"].value = 2
    assert explorer.live.status.value == "2 runs, trained here."


def test_bar_shows_how_much_of_all_runs_is_done(sweep, monkeypatch):
    def reported(config, on_probe, should_stop):
        for epoch in range(config.epochs + 1):
            on_probe({"epoch": epoch})
        return sweep._runs[config]

    monkeypatch.setattr(module, "train", reported)
    explorer, _ = live(sweep)
    seen = []
    explorer.live.bar.observe(lambda change: seen.append(change["new"]), "value")
    explorer.live.train_at(explorer.live.turn, explorer.point, lambda call, *args: call(*args))
    assert seen == [0.25, 0.5, 0.75, 1.0], "two runs of two epochs"


@pytest.fixture
def endless(sweep):
    """A sweep whose runs take much longer than a test: what ends them is a button or a slider."""
    slow = Sweep("slow", TINY.replace(epochs=100_000), depth=[1, 2], skip=[False, True])
    slow._runs = {config.replace(epochs=100_000): run for config, run in sweep._runs.items()}
    return slow


def test_cancel_ends_the_training(endless):
    async def session():
        explorer, _ = live(endless)
        before = explorer.live.picture.value
        explorer.live.run_button.click()
        await until(lambda: explorer.live.bar.value > 0)
        assert explorer.live.thread.is_alive()
        explorer.live.cancel_button.click()
        assert explorer.live.cancel_button.disabled and not explorer.live.run_button.disabled
        await until(lambda: not explorer.live.thread.is_alive())
        assert explorer.live.status.value == "Cancelled. 1 run, recorded."
        assert re.sub("c[0-9a-f]{8}", "", explorer.live.picture.value) == re.sub("c[0-9a-f]{8}", "", before)
        assert not explorer.live.fresh
    asyncio.run(session())


def test_moving_a_slider_drops_the_training_of_the_old_position(endless):
    async def session():
        explorer, controls = live(endless)
        explorer.live.run_button.click()
        old = explorer.live.thread
        await until(lambda: explorer.live.bar.value > 0)
        controls["depth"].value = 2
        assert "Depth 2" in explorer.live.picture.value and not explorer.live.run_button.disabled
        explorer.live.run_button.click()  # a new one may start while the old one is ending
        await until(lambda: not old.is_alive())
        assert explorer.live.thread.is_alive()
        assert "Depth 2" in explorer.live.picture.value and explorer.live.status.value == "Training…"
        explorer.live.cancel_button.click()
        await until(lambda: not explorer.live.thread.is_alive())
    asyncio.run(session())


def test_result_that_arrives_late_is_dropped(sweep):
    """The slider moves after the last step of training, before its result is shown."""
    async def session():
        explorer, controls = live(sweep)
        explorer.live.run_button.click()
        explorer.live.thread.join()       # its results now wait for this loop
        controls["depth"].value = 2
        await asyncio.sleep(0.1)
        assert "Depth 2" in explorer.live.picture.value and explorer.live.status.value == "2 runs, recorded."
        assert not explorer.live.fresh
    asyncio.run(session())


def test_figures_are_drawn_in_the_main_thread(sweep):
    threads = []

    def figure(runs, point):
        threads.append(threading.current_thread())
        return risk(runs, point)

    async def session():
        explorer, _ = live(sweep, figure)
        explorer.live.run_button.click()
        await until(lambda: not explorer.live.run_button.disabled)
    asyncio.run(session())
    assert len(threads) >= 3 and set(threads) == {threading.main_thread()}


def test_point_that_is_not_recorded_can_be_trained():
    InteractiveShell.instance()
    with capture_output() as shown:
        display_(explore(Sweep("never-run", TINY, depth=[1]), risk, depth=[1]))
    assert set(shown.outputs[0].data) == {WIDGET, "text/plain"}

    async def session():
        explorer, _ = live(Sweep("never-run", TINY, depth=[1]), depth=[1])
        assert "Nothing is recorded" in explorer.live.status.value
        explorer.live.run_button.click()
        await until(lambda: not explorer.live.run_button.disabled)
        assert "<svg" in explorer.live.picture.value
    asyncio.run(session())


def test_error_of_the_figure_function_is_not_swallowed(sweep):
    with pytest.raises(KeyError, match="no such thing"):
        live(sweep, lambda runs, point: {}["no such thing"])


def test_error_of_a_training_is_shown(sweep):
    async def session():
        explorer, _ = live(Sweep("broken", TINY.replace(model="lenet"), depth=[1]), depth=[1])  # LeNet has no depth to choose
        explorer.live.run_button.click()
        await until(lambda: not explorer.live.run_button.disabled)
        assert "ValueError" in explorer.live.status.value and "lenet" in explorer.live.status.value
    asyncio.run(session())


def test_pure_function_of_the_point_has_no_run_button():
    explorer = explore(None, parabola, a=[1, 2], b=[0, 1, 2])
    assert not any(isinstance(child, widgets.HBox) for child in explorer.widget.children)
    assert "A 1, b 0. y against x: parabola from 1 to 1." in explorer.live.picture.value
