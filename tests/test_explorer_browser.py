"""The explorer in a real browser, in a page of the theme: keyboard, words, colours, phone, and without JavaScript."""

import functools
import shutil
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pydata_sphinx_theme
import pytest
from axe_playwright_python.sync_playwright import Axe
from test_browser import QuietHandler, browser, visit

from clt_utils import figures, plots
from clt_utils.explore import explore

matplotlib.use("agg")
STATIC = Path(__file__).resolve().parents[1] / "book" / "_static"
THEME = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static/styles/pydata-sphinx-theme.css"
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>A chapter</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="theme.css">
<link rel="stylesheet" href="explorer.css"><script src="explorer.js"></script></head>
<body><main class="bd-content"><h1>A chapter</h1>%s</main></body></html>"""


def curve(point):
    fig, ax = plt.subplots()
    x = np.linspace(0, 1, 30)
    ax.plot(x, point["slope"] * x * (-1 if point.get("flip") else 1), label="line")
    ax.set(xlabel="$x$", ylabel="$f(x)$", ylim=(-4, 4), title=f"slope {point['slope']}")
    plots.legend(fig)
    return fig


def bent(point):
    return curve({"slope": point["slope"] * (1 + ["line", "square bowl", "saddle & hill"].index(point["shape"]))})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the page: two explorers of the same figures, two with a choice, and a figure that stands alone."""
    folder = tmp_path_factory.mktemp("site")
    explorers = [explore(None, curve, slope=[1, 2, 4], flip=[False, True]), explore(None, curve, slope=[1, 2, 4]),
                 *(explore(None, bent, caption="A curve of each shape.", shape=["line", "square bowl", "saddle & hill"], slope=[1, 2])
                   for _ in range(2))]
    fig = figures.models_ab()
    outputs = [explorer._repr_mimebundle_()["text/html"] for explorer in explorers]
    outputs.append(plots.svg(fig, "Models A and B, block by block."))
    plt.close(fig)
    cells = "".join(f'<div class="cell_output"><div class="output text_html">{output}</div></div>' for output in outputs)
    (folder / "page.html").write_text(PAGE % cells, encoding="utf-8")
    shutil.copy(THEME, folder / "theme.css")
    for name in ("explorer.js", "explorer.css"):
        shutil.copy(STATIC / name, folder)
    return folder


@pytest.fixture(scope="module", params=["http", "file"])
def address(request, folder):
    """The page over http and from the disk."""
    if request.param == "file":
        yield (folder / "page.html").as_uri()
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()


def state(explorer):
    return {"figure": explorer.locator("svg").inner_html(), "label": explorer.locator("svg").get_attribute("aria-label"),
            "words": explorer.locator("[aria-live=polite]").inner_text()}


def test_keyboard_moves_the_slider_and_figure_and_words_follow(visit, address):
    page = visit(address)
    explorer = page.locator("clt-explorer").first
    slider, flip = explorer.get_by_role("slider", name="slope"), explorer.get_by_role("checkbox", name="flip")
    seen = [state(explorer)]
    assert seen[0]["words"].startswith("Slope 1, flip off.") and slider.get_attribute("aria-valuetext") == "1"
    page.keyboard.press("Tab")
    assert slider.evaluate("s => s === document.activeElement"), "the first Tab stop is the slider"
    for key, value in (("ArrowRight", "2"), ("End", "4"), ("ArrowLeft", "2")):
        page.keyboard.press(key)
        seen.append(state(explorer))
        assert seen[-1]["words"].startswith(f"Slope {value}, flip off.") and slider.get_attribute("aria-valuetext") == value
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert flip.is_checked()
    seen.append(state(explorer))
    assert seen[-1]["words"].startswith("Slope 2, flip on.") and "from 0 to -2" in seen[-1]["words"]
    assert all(s["label"] == s["words"] for s in seen)
    assert len({s["figure"] for s in seen}) == 4 and seen[1]["figure"] == seen[3]["figure"]
    assert page.errors == []


def test_explorers_of_a_page_do_not_collide(visit, address):
    page = visit(address)
    first, second, *_ = page.locator("clt-explorer").all()
    before = state(second)
    first.get_by_role("slider").press("End")
    assert state(second) == before and state(first)["words"].startswith("Slope 4, flip off.")
    second.get_by_role("slider").press("ArrowRight")
    assert state(second)["words"].startswith("Slope 2.") and state(first)["words"].startswith("Slope 4, flip off.")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids)) > 10
    group = page.locator("clt-explorer").nth(2).get_by_role("radio").first.get_attribute("name")
    assert page.locator(f"input[name='{group}']").count() == 3, "buttons of two explorers belong together"
    used = page.evaluate("[...document.querySelectorAll('use')].map(u => u.getAttribute('href').slice(1))")
    assert set(used) <= set(ids)


def test_words_are_radio_buttons_and_arrows_choose(visit, address):
    page = visit(address)
    explorer = page.get_by_role("group", name="A curve of each shape.").first
    choice = explorer.get_by_role("group", name="shape")
    assert explorer.get_by_role("slider").count() == 1, "only the numbers have a slider"
    assert choice.get_by_role("radio").count() == 3 and choice.get_by_role("radio", name="line").is_checked()
    seen = [state(explorer)]
    explorer.get_by_role("slider").press("End")
    choice.get_by_role("radio", name="line").focus()
    for name in ("square bowl", "saddle & hill"):
        page.keyboard.press("ArrowRight")
        assert choice.get_by_role("radio", name=name).is_checked()
        seen.append(state(explorer))
        assert seen[-1]["words"].startswith(f"Shape {name}, slope 2.")
    choice.get_by_text("line").click()
    seen.append(state(explorer))
    assert seen[-1]["words"].startswith("Shape line, slope 2.") and len({s["figure"] for s in seen}) == 4
    assert page.errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_of_figures_has_the_color_of_the_page(theme, visit, address):
    page = visit(address)
    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    page.locator("input[type=range]").first.press("End")
    body = page.evaluate("getComputedStyle(document.querySelector('main')).color")
    for svg in page.locator("svg").all():
        letter = "[...s.querySelectorAll('use')].find(use => s.querySelector(use.getAttribute('href')).getAttribute('transform'))"
        assert svg.evaluate(f"s => getComputedStyle({letter}).fill") == body
        assert svg.evaluate("s => getComputedStyle(s.closest('.text_html')).backgroundColor") == "rgba(0, 0, 0, 0)"
    spine = page.locator("clt-explorer svg path[style*='stroke:currentColor']").first
    assert spine.evaluate("s => getComputedStyle(s).stroke") == body


def test_without_javascript_the_first_figure_and_a_note_are_there(browser, address):
    page = browser.new_page(java_script_enabled=False)
    page.goto(address)
    explorer = page.locator("clt-explorer").first
    assert explorer.locator("svg").is_visible()
    assert explorer.get_by_text("need JavaScript").is_visible()
    assert explorer.get_by_text("Slope 1, flip off.").is_visible()
    assert not explorer.locator("input").first.is_visible(), "a slider that does nothing"
    page.close()


def test_with_javascript_there_is_no_note(visit, address):
    assert not visit(address).get_by_text("need JavaScript").first.is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_barrier(theme, visit, address):
    page = visit(address)
    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    page.locator("input[type=range]").first.press("End")
    serious = [v["id"] for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    assert serious == []


def test_fits_a_phone_and_nothing_jumps(visit, address):
    page = visit(address, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
    for number, control in ((0, "input[type=range]"), (2, "label:last-child > input[type=radio]")):
        explorer = page.locator("clt-explorer").nth(number)
        before = explorer.locator("svg").bounding_box()
        explorer.locator(control).first.press("End" if number == 0 else "Space")
        assert explorer.locator("svg").bounding_box() == before
