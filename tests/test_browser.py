"""The website in a real browser: it loads alone, reads well in light and dark and on a phone, and its sliders move."""

import functools
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import publish
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from publish import FLAGS
from sitemap import CHAPTERS, CODE, REFERENCE, SITE, html

pytestmark = pytest.mark.site

SCRIPTS = [page for page in CHAPTERS if page.startswith("teach/scripts/")]
PAGES = [*(page for page in CHAPTERS if page not in SCRIPTS[1:]), *REFERENCE[:2], "api/training", "search", CODE[0], max(CODE, key=len)]
"""Pages of one kind are alike: of the scripts, the reference and the code a few stand for all."""
A_FEW = ("intro", "statements", "search", "foundations/conjugates", "trainability/gradient-energy", "practice/bring-your-own-model")
HANGS = 1_800_000  # milliseconds after which a browser is given up; a loaded machine may need much of them
DESKTOP, PHONE = {"width": 1400, "height": 1000}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=publish.find_chromium(), args=FLAGS, timeout=HANGS)


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


def opened(browser, url, scheme="light", viewport=DESKTOP, motion="no-preference"):
    """A page, its formulas set; it keeps what it asked for and what went wrong. Close its context in the end."""
    page = browser.new_context(color_scheme=scheme, viewport=viewport, reduced_motion=motion).new_page()
    page.set_default_timeout(HANGS)
    page.asked_for, page.errors = [], []
    page.on("request", lambda request: page.asked_for.append(request.url))
    page.on("requestfailed", lambda request: request.failure == "net::ERR_ABORTED"  # by walking on to another page
            or page.errors.append(f"failed: {request.url}"))
    page.on("response", lambda response: response.ok or page.errors.append(f"{response.status}: {response.url}"))
    page.on("console", lambda message: message.type in ("error", "warning") and page.errors.append(message.text))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    page.evaluate("window.MathJax?.startup?.promise")
    return page


@pytest.fixture
def visit(browser):
    """visit(url, scheme, viewport, motion) -> the page, as long as the test runs."""
    pages = []

    def visit(url, *args, **options):
        pages.append(opened(browser, url, *args, **options))
        return pages[-1]

    yield visit
    for page in pages:
        page.context.close()


@pytest.fixture(scope="class", params=PAGES)
def shown(request, browser, address):
    """A page as its class looks at it, loaded once for all tests of the class: formulas and figures take seconds."""
    html(request.param)
    look = request.cls
    shown = opened(browser, f"{SITE.as_uri() if look.from_disk else address}/{request.param}.html", look.scheme, look.viewport)
    yield shown
    shown.context.close()


# First all looks are asked for, then nodes go: turn by turn, the browser would work out the page's styles anew for each of thousands.
SAMPLED = """() => { const seen = new Set(), again = []
    for (const token of document.querySelectorAll('.highlight pre span')) {
        const { color, backgroundColor, fontSize, fontWeight } = getComputedStyle(token)
        const look = [color, backgroundColor, fontSize, fontWeight, token.closest('div.highlight').parentElement.className].join()
        if (seen.has(look)) again.push(token)
        seen.add(look)
    }
    for (const token of again) token.replaceWith(...token.childNodes)
    for (const drawing of document.querySelectorAll('.clt-figure, mjx-math')) drawing.replaceChildren()
}"""


def barriers(page):
    """What axe finds. A figure is one image with words, which it reads; of a formula it reads what a screen reader hears, since what is
    drawn of it are styles and no text; one token of the code of each look stands for its kind."""
    page.evaluate(SAMPLED)
    return Axe().run(page).response["violations"]


class Look:
    """What every page must pass in one look. Each look is a class, a unit of work of its own: together they take longest of all."""

    from_disk, scheme, viewport = False, "light", DESKTOP

    def test_page_loads_alone(self, shown, address):
        assert shown.errors == []
        own = "file:" if self.from_disk else address
        assert [url for url in shown.asked_for if not url.startswith((own, "data:", "blob:"))] == []
        assert shown.locator("h1:visible").inner_text().strip()
        assert shown.locator("mjx-merror").count() == 0, "MathJax could not read a formula"
        if shown.locator(".math").count():
            assert shown.locator("mjx-container").count() > 0

    def test_page_is_not_wider_than_the_screen(self, shown):
        assert shown.evaluate("document.scrollingElement.scrollWidth") <= self.viewport["width"]

    def test_sliders_move_by_keyboard(self, shown):
        for explorer in shown.locator("clt-explorer").all():
            figure, words = explorer.locator("svg, img").first, explorer.locator("output, [aria-live], [role=status]").first
            for kind in ("range", "radio"):
                control = explorer.locator(f"input[type={kind}]{':checked' * (kind == 'radio')}").first
                if not control.count():
                    continue
                before = figure.evaluate("f => f.outerHTML"), words.inner_text()
                control.focus()
                forth, back = ("ArrowRight", "ArrowLeft")[::1 if control.evaluate("s => s.type == 'radio' || +s.value < +s.max") else -1]
                control.press(forth)
                after = figure.evaluate("f => f.outerHTML"), words.inner_text()
                assert before[0] != after[0], f"the figure stayed the same, {kind}"
                assert before[1] != after[1], f"the live text stayed the same, {kind}"
                control.press(back)
        assert shown.errors == []

    def test_no_barrier(self, shown, request):  # the last one, since axe asks for files of its own
        if type(self) is not TestDark and request.node.callspec.params["shown"] not in A_FEW:
            pytest.skip("axe takes long: in the dark it sees all pages, else a few with every kind of thing")
        # a proof must be readable too, once it is unfolded
        shown.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
        found = barriers(shown)
        for violation in found:  # axe does not hear MathML, screen readers do
            violation["nodes"] = [node for node in violation["nodes"] if violation["id"] != "empty-table-header"
                                  or not shown.locator(node["target"][0]).locator("mjx-assistive-mml math").count()]
        found = [violation for violation in found if violation["nodes"]]
        assert [f"{v['impact']}: {v['help']}: {v['nodes'][0]['html'][:200]} {v['nodes'][0].get('any', [{}])[:1]}" for v in found] == []


class TestLightFromTheDisk(Look):
    from_disk = True


class TestDark(Look):
    scheme = "dark"


class TestPhone(Look):
    scheme, viewport = "dark", PHONE


def test_gradient_energy_has_an_explorer():
    assert "<clt-explorer" in html("trainability/gradient-energy").read_text(encoding="utf-8")


REACHABLE = """() => [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')].filter(node =>
    node.tabIndex >= 0 && !node.disabled && !node.inert && node.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true })
    && node.getClientRects().length && !node.closest('[inert], dialog:not([open])'))"""


@pytest.mark.parametrize("page", ["intro", "trainability/gradient-energy"])
def test_keyboard_reaches_everything_and_shows_where_it_is(page, visit, address):
    html(page)
    shown = visit(f"{address}/{page}.html")
    wanted = shown.evaluate(f"({REACHABLE})().map((node, i) => node.dataset.wanted = i).length")
    reached, unseen = set(), []
    for _ in range(wanted + 60):  # some stops appear only while one walks, like the links that skip to the main text
        shown.keyboard.press("Tab")
        name, text, style = shown.evaluate("""() => { const node = document.activeElement, style = getComputedStyle(node);
            return [node.dataset.wanted ?? '', node.outerHTML.slice(0, 120),
                    (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== 'none'] }""")
        reached.add(name)
        if not style and text not in unseen and not text.startswith("<body"):
            unseen.append(text)
    missing = [i for i in range(wanted) if str(i) not in reached]
    assert not missing, [shown.evaluate(f"document.querySelector('[data-wanted=\"{i}\"]').outerHTML.slice(0, 150)") for i in missing[:5]]
    assert not unseen, f"no mark shows that the keyboard is at {unseen[:5]}"


def test_keyboard_unfolds_proofs_and_solutions(visit, address):
    html("trainability/gradient-energy")
    shown = visit(f"{address}/trainability/gradient-energy.html")
    proofs, solutions = shown.locator("main details:not([open]) > summary"), shown.locator("main button.toggle-button")
    assert proofs.count() and solutions.count() >= 5, "proofs and solutions are folded"
    for proof in proofs.element_handles():
        proof.press("Enter")
        assert proof.evaluate("fold => fold.parentElement.open"), "Enter does not unfold a proof"
    for solution in solutions.element_handles():
        unfolded = "fold => fold.closest('.solution').querySelector('section').checkVisibility({ visibilityProperty: true })"
        assert not solution.evaluate(unfolded)
        solution.press("Enter")
        assert solution.evaluate(unfolded), "Enter does not unfold a solution"


@pytest.mark.parametrize("page", ["intro", "trainability/gradient-energy"])
def test_nothing_moves_for_who_asks_for_less_motion(page, visit, address):
    html(page)
    moving = """() => [...document.querySelectorAll('*')].filter(node => { const style = getComputedStyle(node);
        return /[1-9]/.test(style.transitionDuration) || style.animationName !== 'none' || style.scrollBehavior === 'smooth' }).length"""
    assert visit(f"{address}/{page}.html").evaluate(moving) > 0, "the test would see motion"
    calm = visit(f"{address}/{page}.html", motion="reduce")
    assert calm.evaluate(moving) == 0
    calm.locator("main summary").first.click() if page != "intro" else calm.locator(".doors a").first.hover()
    assert calm.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, {"width": 1600, "height": 900}, PHONE],
                         ids=["laptop", "screen", "phone"])
def test_first_screen_has_the_picture_and_three_doors(viewport, visit, address):
    html("intro")
    shown = visit(f"{address}/intro.html", viewport=viewport)
    assert shown.locator(".doors a").count() == 3
    for part in ["h1", "clt-explorer input[type=range]", "clt-explorer svg", ".doors a:nth-of-type(3)"]:
        box = shown.locator(f"main {part}").last.bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] <= viewport["height"], f"{part} is not on the first screen: {box}"
        assert box["width"] > 40


def test_archive_opens_from_the_disk(tmp_path, visit):
    html("intro")
    publish.archive(tmp_path / "book.zip")
    with zipfile.ZipFile(tmp_path / "book.zip") as packed:
        packed.extractall(tmp_path)
    start = next(tmp_path.glob("*/START-HERE.html"))
    shown = visit((start.parent / "site" / "search.html").as_uri())
    shown.goto(start.as_uri())
    shown.wait_for_url("**/site/intro.html")
    shown.locator("clt-explorer input[type=range]").first.press("ArrowRight")
    shown.get_by_role("link", name="Gradient energy and the structure matrix").last.click()
    shown.wait_for_url("**/gradient-energy.html")
    shown.locator("mjx-container").nth(100).wait_for(state="attached")
    assert shown.locator("mjx-merror").count() == 0
    assert shown.errors == []
    assert [url for url in shown.asked_for if not url.startswith((start.parent.as_uri(), "data:", "blob:"))] == []


@pytest.mark.parametrize("protocol", ["http", "file"])
def test_search_finds_a_word(protocol, visit, address):
    base = address if protocol == "http" else html("search").parent.as_uri()
    shown = visit(f"{base}/search.html?q=conjugate")
    shown.locator("#search-results li a").first.wait_for()
    assert "Conjugate" in shown.locator("#search-results").inner_text()
    assert shown.errors == []
