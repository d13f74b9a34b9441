"""JupyterLab as it comes, in a real browser: a chapter in plain Markdown reads like a chapter, and a saved explorer keeps its picture."""

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_notebook, new_output
from sitemap import ROOT
from test_browser import HANGS, browser

import export
from clt_utils.explore import explore
from notebooks import read_notebook

matplotlib.use("agg")
CHAPTER = "foundations/divergences"


def saved_explorer():
    """A notebook with an explorer as JupyterLab saved it; the kernel that knew its sliders is gone."""
    def curve(point):
        fig, ax = plt.subplots()
        ax.plot([0, 1], [0, point["slope"]])
        return fig

    InteractiveShell.instance()  # without one, display only prints
    with pytest.MonkeyPatch.context() as patch, capture_output() as shown:
        patch.setenv("JPY_SESSION_NAME", "saved.ipynb")
        explore(None, curve, alt=lambda point: "A straight line through the origin.", slope=[1, 2])._ipython_display_()
    text = lambda data: base64.b64encode(data).decode() if isinstance(data, bytes) else data
    outputs = [new_output("display_data", {kind: text(data) for kind, data in output.data.items()}) for output in shown.outputs]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=[new_code_cell("explore(...)", outputs=outputs, execution_count=1, id="explorer")], metadata=metadata)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `make lab` starts it, over a folder with a chapter and a saved explorer -> its address; settings of its own."""
    home = tmp_path_factory.mktemp("home")
    folder = tmp_path_factory.mktemp("lab")
    places = {"HOME": home, "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_DATA_DIR": home / "data", "JUPYTER_RUNTIME_DIR": home / "run",
              "IPYTHONDIR": home / "ipython", "JUPYTER_CONFIG_PATH": ROOT / "tools" / "jupyter"}
    (folder / CHAPTER).parent.mkdir()
    source = read_notebook(ROOT / "book" / f"{CHAPTER}.ipynb")
    nbformat.write(export.plain(source, CHAPTER, export.read_book()), folder / f"{CHAPTER}.ipynb")
    for name in ("mine", "from-elsewhere"):  # what others made is not trusted: it may show no scripts, styles, vector graphics
        notebook = saved_explorer()
        notebook.cells[0].source = f"explore({name!r})"
        nbformat.write(notebook, folder / f"{name}.ipynb")
        if name == "mine":
            places["JUPYTER_DATA_DIR"].mkdir()
            notary = NotebookNotary(data_dir=str(places["JUPYTER_DATA_DIR"]))
            notary.sign(notebook)
            notary.store.close()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip", "127.0.0.1", "--IdentityProvider.token=",
               f"--ServerApp.root_dir={folder}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY_"))}
    with open(home / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=environment | {name: str(place) for name, place in places.items()}, stdout=log, stderr=log)
    try:
        while not (found := list((home / "run").glob("jpserver-*.json"))):  # it says there on which port it listens
            assert server.poll() is None, (home / "log").read_text(encoding="utf-8")
            time.sleep(0.2)
        while not (said := found[0].read_text(encoding="utf-8")).endswith("}"):
            time.sleep(0.1)
        yield json.loads(said)["url"] + "doc/tree/"  # one document, without those that were open before
    finally:
        server.terminate()  # it ends its kernels; but a thread that it forgot may keep it waiting for ever
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        server.wait()


@pytest.fixture
def opened(browser, lab):
    """opened(name) -> the page of a notebook, with its first cell on it."""
    pages = []

    def opened(name):
        page = browser.new_context(viewport={"width": 1300, "height": 900}).new_page()
        page.set_default_timeout(HANGS)
        pages.append(page)
        page.goto(f"{lab}{name}.ipynb")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        return page

    yield opened
    for page in pages:
        page.context.close()


def test_a_theorem_is_read_with_its_number_in_jupyterlab_without_extension(opened):
    page = opened(CHAPTER)
    theorem = page.locator("blockquote", has_text="Theorem 4.3 (The Euclidean frontier)")
    theorem.scroll_into_view_if_needed()
    theorem.locator("mjx-container").nth(5).wait_for()
    text = "\n".join(page.locator(".jp-RenderedMarkdown").all_inner_texts())
    assert theorem.locator("strong").first.inner_text() == "Theorem 4.3 (The Euclidean frontier)"
    assert "> " not in theorem.inner_text() and theorem.locator("mjx-merror").count() == 0
    assert "the proof of Lemma 4.1, the divergence" in text and not re.search(r"\{[a-z:]+\}|```|:label:", text)
    page.get_by_role("link", name="Lemma 4.1").first.click()
    lemma = page.locator("blockquote", has_text="Lemma 4.1 (Pinsker's inequality)")
    on_screen = "lemma => lemma.getBoundingClientRect().top >= 0 && lemma.getBoundingClientRect().top < 700"
    page.wait_for_function(on_screen, arg=lemma.element_handle())
    solution = page.locator("details", has_text="Solution to Exercise 4.1")
    solution.scroll_into_view_if_needed()
    assert not solution.locator("p").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("p").first.is_visible() and solution.locator("mjx-container").count() > 3


@pytest.mark.parametrize("name", ["mine", "from-elsewhere"])
def test_a_saved_explorer_shows_its_picture(name, opened):
    page = opened(name)
    page.locator(".clt-still, :text('Error displaying widget')").first.wait_for(state="attached")
    picture = page.get_by_role("img", name="A straight line through the origin.")
    assert picture.count() == 1, "JupyterLab shows what the widget left: a lost widget, or nothing"
    assert picture.evaluate("image => image.naturalWidth") > 300 and picture.bounding_box()["width"] > 300
    assert "Run this cell to get the sliders." in page.locator(".jp-OutputArea").first.inner_text()
    assert not page.get_by_text("widget").filter(visible=True).count(), "it says that a widget is lost"
