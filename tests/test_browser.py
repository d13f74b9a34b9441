"""The website in a real browser: it loads alone, reads well in light and dark and on a phone, and its sliders move."""

import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from sitemap import CHAPTERS, CODE, ROOT, SITE, html

pytestmark = pytest.mark.site

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
PAGES = [*CHAPTERS, "search", CODE[0], max(CODE, key=len)]  # the pages of code are all alike
DESKTOP, PHONE = {"width": 1400, "height": 1000}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "Given: no Chromium. Expected: one on the PATH, or its path in CHROMIUM. `make test` installs it where it can."
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=FLAGS)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    """The site served over http from this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def visit(browser):
    """visit(url, scheme, viewport) -> the page, its formulas set; it keeps what it asked for and what went wrong."""
    contexts = []

    def visit(url, scheme="light", viewport=DESKTOP):
        contexts.append(browser.new_context(color_scheme=scheme, viewport=viewport))
        page = contexts[-1].new_page()
        page.asked_for, page.errors = [], []
        page.on("request", lambda request: page.asked_for.append(request.url))
        page.on("requestfailed", lambda request: page.errors.append(f"failed: {request.url}"))
        page.on("response", lambda response: response.ok or page.errors.append(f"{response.status}: {response.url}"))
        page.on("console", lambda message: message.type in ("error", "warning") and page.errors.append(message.text))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(url)
        page.evaluate("window.MathJax?.startup?.promise")
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.mark.parametrize("page", PAGES)
def test_page_loads_alone(page, visit, address):
    html(page)
    shown = visit(f"{address}/{page}.html")
    assert shown.errors == []
    assert [url for url in shown.asked_for if not url.startswith((address, "data:", "blob:"))] == []
    assert shown.locator("h1:visible").inner_text().strip()
    assert shown.locator("mjx-merror").count() == 0, "MathJax could not read a formula"


@pytest.mark.parametrize("page", CHAPTERS)
def test_page_opens_from_the_disk(page, visit):
    shown = visit(html(page).as_uri())
    assert shown.errors == []
    assert [url for url in shown.asked_for if not url.startswith(("file:", "data:", "blob:"))] == []
    if shown.locator(".math").count():
        assert shown.locator("mjx-container").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_no_serious_barrier(page, scheme, visit, address):
    html(page)
    shown = visit(f"{address}/{page}.html", scheme)
    # a proof must be readable too, once it is unfolded
    shown.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    found = Axe().run(shown).response["violations"]
    serious = [f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]} {v['nodes'][0].get('any', [{}])[:1]}" for v in found
               if v["impact"] in ("serious", "critical")]
    assert serious == []


@pytest.mark.parametrize("page", PAGES)
def test_fits_a_phone(page, visit, address):
    html(page)
    shown = visit(f"{address}/{page}.html", viewport=PHONE)
    assert shown.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("protocol", ["http", "file"])
def test_search_finds_a_word(protocol, visit, address):
    base = address if protocol == "http" else html("search").parent.as_uri()
    shown = visit(f"{base}/search.html?q=conjugate")
    shown.locator("#search-results li a").first.wait_for()
    assert "Conjugate" in shown.locator("#search-results").inner_text()
    assert shown.errors == []


@pytest.mark.parametrize("protocol", ["http", "file"])
def test_slider_moves_by_keyboard(protocol, visit, address):
    pages = [page for page in CHAPTERS if "<clt-explorer" in html(page).read_text()]
    written = (ROOT / "book" / "trainability" / "gradient-energy.ipynb").exists()
    assert pages or not written, "The chapter on gradient energy has lost its explorer."
    base = address if protocol == "http" else SITE.as_uri()
    for page in pages:
        shown = visit(f"{base}/{page}.html")
        for explorer in shown.locator("clt-explorer").all():
            slider = explorer.locator("input[type=range]").first
            figure, words = explorer.locator("svg, img").first, explorer.locator("output, [aria-live], [role=status]").first
            before = figure.evaluate("f => f.outerHTML"), words.inner_text()
            slider.focus()
            slider.press("ArrowRight" if slider.evaluate("s => Number(s.value) < Number(s.max)") else "ArrowLeft")
            after = figure.evaluate("f => f.outerHTML"), words.inner_text()
            assert before[0] != after[0], "the figure stayed the same"
            assert before[1] != after[1], "the live text stayed the same"
        assert shown.errors == []
