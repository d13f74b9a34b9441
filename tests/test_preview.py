"""In a real browser: references show what they lead to, figures enlarge, and the search finds what has a place of its own, first there."""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from clt_search import formula
from sitemap import CHAPTERS, SITE, html
from test_browser import DESKTOP, PHONE, address, browser, opened

from notebooks import ROOT, chapters, read_notebook

pytestmark = pytest.mark.site
CHAPTER = "trainability/data-set-the-limit"  # a light one with all kinds of references, figures and an explorer
PREVIEW = "#clt-preview"
PATIENCE = 120_000  # milliseconds until what never comes is called missing; on a busy machine it comes in a few seconds


def patient(page):
    page.set_default_timeout(PATIENCE)
    return page


@pytest.fixture(scope="module")
def chapter(browser):
    """The chapter as opened from the disk, from where a page may load no other; one for all tests, each leaves it as it was."""
    page = patient(opened(browser, f"{html(CHAPTER).as_uri()}", motion="reduce"))
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def phone(browser, address):
    html("intro")
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    yield patient(context.new_page())
    context.close()


def link_to(page, target):
    return page.locator(f'main a.has-preview[href*="{target}"]').first


def barriers(page, within):
    """What axe finds wrong with a part of a page."""
    found = Axe().run(page, within, {"preload": False}).response["violations"]
    return [f"{violation['id']}: {violation['nodes'][0]['html'][:200]}" for violation in found if violation["id"] != "page-has-heading-one"]


# ---- previews

def test_hover_shows_what_a_reference_leads_to(chapter):
    link, shown = link_to(chapter, "#head-floor"), chapter.locator(PREVIEW)
    assert not [url for url in chapter.asked_for if "/previews/" in url], "a page loads no previews that nobody asked for"
    link.hover()
    shown.wait_for()
    assert "Assume that the last layer is linear" in shown.inner_text()
    assert shown.locator("mjx-container").count() == 4 and "\\" not in shown.inner_text(), "its formulas are not set"
    assert chapter.evaluate("document.getAnimations().length") == 0
    at, over = link.bounding_box(), shown.bounding_box()
    assert over["x"] >= 0 and over["x"] + over["width"] <= DESKTOP["width"]
    assert over["y"] >= at["y"] + at["height"] or over["y"] + over["height"] <= at["y"], "the preview covers its link"
    # it stays while the pointer is in it, and as long as one likes
    chapter.mouse.move(over["x"] + 30, over["y"] + over["height"] / 2, steps=8)
    chapter.wait_for_timeout(900)
    assert shown.is_visible(), "the preview went although the pointer is in it"
    chapter.keyboard.press("Escape")
    assert not shown.is_visible(), "Escape does not put the preview away"
    chapter.mouse.move(0, 0)
    link.hover()
    shown.wait_for()
    chapter.mouse.move(0, 0)
    shown.wait_for(state="hidden")
    assert chapter.errors == []


def test_focus_by_keyboard_shows_it_too(chapter):
    link, shown = link_to(chapter, "#head-floor"), chapter.locator(PREVIEW)
    chapter.keyboard.press("Tab")  # whoever has the keyboard in use
    link.focus()
    shown.wait_for()
    chapter.wait_for_function("document.querySelector('[aria-describedby=clt-preview]')")
    assert shown.get_attribute("role") == "tooltip" and link.get_attribute("aria-describedby") == shown.get_attribute("id")
    assert not shown.locator("a, button, [tabindex], [id]").count(), "a tooltip holds nothing to walk into, and no id twice"
    assert barriers(chapter, PREVIEW) == []
    chapter.keyboard.press("Escape")
    assert not shown.is_visible() and link.evaluate("link => link === document.activeElement"), "Escape loses the keyboard's place"
    assert not link.get_attribute("aria-describedby")
    chapter.keyboard.press("Tab")
    chapter.keyboard.press("Shift+Tab")
    shown.wait_for()
    chapter.evaluate("document.activeElement.blur()")
    assert not shown.is_visible(), "the preview stays although the keyboard is elsewhere"


@pytest.mark.parametrize("target, words", [("references.html#", "Chiyuan"), ("notation.html#symbol-features", "features"),
                                           ("#risk-floor", "risk")], ids=["citation", "symbol", "same page"])
def test_each_kind_shows(target, words, chapter):
    shown = chapter.locator(PREVIEW)
    link_to(chapter, target).hover()
    shown.filter(has_text=words).wait_for()
    assert "\\" not in shown.inner_text(), "its formulas are not set"
    chapter.keyboard.press("Escape")
    chapter.mouse.move(0, 0)
    assert chapter.errors == []


def test_a_word_shows_on_a_page_without_formulas_and_a_tap_follows_the_link(phone, address):
    phone.goto(f"{address}/intro.html")
    word, shown = link_to(phone, "glossary.html#term-generator"), phone.locator(PREVIEW)
    word.hover()
    shown.wait_for()
    assert "The convex function" in shown.inner_text() and shown.locator("mjx-container").count(), "its formulas are not set"
    box = shown.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
    word.tap()
    phone.wait_for_url("**/glossary.html#term-generator")


def test_every_marked_link_has_something_to_show():
    found, missing, marked = {}, [], 0
    for path in (SITE / "_static" / "previews").rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert len(text) < 100_000, f"Given: {path} of {len(text)} letters, loaded for a single preview. Expected: a light file."
        found |= json.loads(text[text.index("(") + 1:text.rindex(")")])
    for page in CHAPTERS:
        for link in re.findall(r'<a class="has-preview[^>]*>', html(page).read_text(encoding="utf-8")):
            there = re.search(r'href="([^"#]*)#([^"]*)"', link)
            target = (html(page).parent / there[1]).resolve().relative_to(SITE.resolve()).with_suffix("").as_posix() if there[1] else page
            marked += 1
            if "title=" not in link and f"{target}#{there[2]}" not in found:
                missing.append(f"{page}: {link}")
    assert marked > 300 and not missing, f"Given: {missing[:5]}. Expected: a preview for each, see book/_ext/clt_preview.py."
    unfit = [key for key, markup in found.items() if re.search(r' id="|<a |<script', markup)]
    assert not unfit, f"Given: ids, links or scripts in the previews {unfit[:5]}. Expected: words and formulas alone."


# ---- figures

@pytest.mark.parametrize("figure", [".output > svg.clt-figure", ".clt-frame > svg.clt-figure"], ids=["figure", "explorer"])
def test_a_figure_enlarges(figure, chapter):
    small, dialog = chapter.locator(f"main {figure}").first, chapter.locator("dialog.clt-zoom")
    button = small.locator('xpath=(ancestor-or-self::*[contains(@class, "clt-frame")] | self::*)[1]/preceding-sibling::button')
    assert "Enlarge Figure 7." in button.get_attribute("aria-label")
    if "frame" in figure:  # what enlarges is what the slider shows
        chapter.locator("clt-explorer").first.locator("input[type=range]").first.press("End")
    before, alt = small.bounding_box(), small.get_attribute("aria-label")
    button.focus()
    chapter.keyboard.press("Enter")
    large = dialog.locator("svg")
    large.wait_for()
    assert large.get_attribute("aria-label") == alt and large.get_attribute("role") == "img"
    assert large.bounding_box()["width"] > 1.2 * before["width"], "it is hardly larger"
    assert "Figure 7." in dialog.inner_text(), "the caption is missing"
    assert chapter.errors == []
    assert "frame" in figure or barriers(chapter, "dialog") == []
    chapter.keyboard.press("Escape")
    assert not dialog.is_visible() and button.evaluate("button => button === document.activeElement"), "the focus is lost"
    small.click()
    large.wait_for()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_a_figure_can_be_read_on_a_phone(phone, address):
    phone.goto(f"{address}/intro.html")
    small = phone.locator(".cell_output svg.clt-figure").first
    small.tap()
    view, large = phone.locator("dialog.clt-zoom > div"), phone.locator("dialog.clt-zoom svg")
    large.wait_for()
    assert large.bounding_box()["width"] >= float(small.get_attribute("width")), "its letters are smaller than they were drawn"
    assert view.evaluate("view => { view.scrollLeft = 1e4; return view.scrollLeft + view.clientWidth >= view.scrollWidth - 1 }"), "cut off"
    box = phone.locator("dialog.clt-zoom").bounding_box()
    assert (box["x"], box["width"]) == (0, PHONE["width"])


# ---- search

FIRST = {  # what is looked for: the place that defines it
    "structure matrix": "trainability/gradient-energy.html#def-structure-matrix",
    "Gradient energy": "trainability/gradient-energy.html#def-structure-matrix",
    "head-floor": "trainability/gradient-energy.html#head-floor",
    "linear head": "trainability/gradient-energy.html#head-floor",
    "The sharp bound is never worse": "trainability/gradient-energy.html#ex-sharp-lower",
    "Mini-batch SGD": "trainability/mini-batch-sgd.html",
    "λ_min": "trainability/gradient-energy.html#residual-sandwich",
    "temperature": "foundations/fenchel-young-losses.html#fy-temperature",
}
TEX = re.compile(r"\\[A-Za-z(\[{|,;]|\$")


@pytest.mark.parametrize("protocol", ["http", "file"])
def test_search_gives_the_defining_place_first_and_reads_well(protocol, browser, address):
    base = address if protocol == "http" else html("search").parent.as_uri()
    page = patient(opened(browser, f"{base}/search.html"))
    chapter = html("trainability/gradient-energy").read_text(encoding="utf-8")
    number = re.findall(r'id="head-floor".*?>Proposition (\d+\.\d+)', chapter, re.DOTALL)[0]
    for words, place in (FIRST | dict.fromkeys([number, f"proposition {number}"], FIRST["head-floor"])).items():
        page.goto(f"{base}/search.html?q={words}")
        page.locator("#search-results h2", has_text="Search Results").wait_for(state="attached")
        page.evaluate("Promise.all(cltExcerptsComing)")
        results = page.locator("#search-results li").evaluate_all(
            "items => items.map(item => [item.firstChild.getAttribute('href'), item.textContent, !!item.querySelector('.context')])")
        links, texts, excerpts = zip(*results, strict=True)
        assert links[0] == place, f"{words}: {texts[0]}"
        assert len(links) == len(set(links)), f"{words}: a place is listed twice"
        assert all(excerpts), f"{words}: no excerpt for {links[excerpts.index(False)]}"
        assert not [text for text in texts if TEX.search(text)], f"{words}: raw LaTeX"
        if words == "structure matrix":
            assert {"notation.html#symbol-structure-matrix", "glossary.html#term-structure-matrix"} <= set(links[:5]), links[:5]
    assert [error for error in page.errors if not error.startswith("304: ")] == []  # what it has already, it may ask for again
    assert not [url for url in page.asked_for if re.search(r"(?<!/search)\.html", url)], "an excerpt costs a whole page"
    page.context.close()


@pytest.mark.parametrize("tex, characters", [
    (r"\lambda_{\min},\ \lambda_{\max}", "λ_min, λ_max"), (r"A_x = J_x J_x^\top", "A_x = J_x J_xᵀ"), (r"\tfrac12 \|e\|^2", "1/2 ‖e‖²"),
    (r"\frac{\lambda_{\min}+1}{\sqrt{n}}\log\hat y_y", "(λ_min+1)/√n log y\u0302_y"), (r"f \in \mathbb R^K", "f ∈ ℝ^K"),
])
def test_formulas_in_characters(tex, characters):
    assert formula(tex) == characters


def test_no_command_of_the_book_is_left_over_in_characters():
    words = {"log", "ln", "min", "max", "sup", "inf", "exp", "lim", "Pr", "coth", "sinh", "tanh", "cos", "arcsin", "arg", "det", "tr"}
    texts = ["".join(cell.source) for path in chapters() for cell in read_notebook(path).cells if cell.cell_type == "markdown"]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")]
    text = re.sub(r"```.*?```|`[^`]*`", "", "\n".join(texts), flags=re.DOTALL)
    unknown = {command for command in re.findall(r"\\([A-Za-z]+)", text)
               if formula(f"\\{command}{{x}}{{y}}").startswith(command) and command not in words}
    assert not unknown, f"Given: {unknown}. Expected: commands that `formula` in book/_ext/clt_search.py knows, or that read as words."
