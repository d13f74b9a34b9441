"""What pages load: little, and nothing that is missing."""

import re
from types import SimpleNamespace

import clt_light
import pytest
from docutils import nodes
from docutils.utils import new_document
from fontTools.ttLib import TTFont
from sitemap import CHAPTERS, SITE, html, parsed
from test_browser import address, browser


@pytest.mark.parametrize("before, after, kept", [
    ("if ", ", then", ("", ",")), ("so (", "). Then", ("(", ").")), ("the ", "-norm, or", ("", "-norm,")), ("the ", "th of", ("", "th")),
    ("a ", "—or not", ("", "")), ("a ", " b", ("", "")), ("“", "”", ("“", "”")), ("a", ": b", ("", ":")),
    ("", ".|a-very-long-word-without-end", ("", ".|")),
])
def test_what_stays_with_a_formula(before, after, kept):
    assert clt_light.close_by(before, after) == kept


def test_punctuation_stays_with_its_formula():
    page = new_document("page")
    page += nodes.paragraph("", "", nodes.Text("If ("), nodes.math("", "x"), nodes.Text("), then "), nodes.math("", "y"), nodes.Text("."))
    clt_light.keep_punctuation(SimpleNamespace(builder=SimpleNamespace(format="html")), page, "page")
    assert page.astext() == "If (x), then y."
    assert [node.astext() for node in page.findall(nodes.inline)] == ["(x),", "y."]


@pytest.mark.site
def test_no_page_lets_punctuation_go():
    for page in CHAPTERS:
        for formula in parsed(html(page)).select("p :not(.together) > span.math, p > span.math"):
            after = formula.next_sibling
            assert not re.match(r"[,.;:!?)]", after if isinstance(after, str) else ""), f"{page}: {formula.text}{after[:20]}"


CSS = """a{b:c}.kept,.gone{d:e}.gone:not(.kept){f:g}p:not(.gone){h:i}@media print{.gone{j:k}.kept{l:m}}@media x{.gone{n:o}}
.fa-kept:before{content:"\\f078"}.fa-gone:before{content:"\\f079"}
@font-face{src:url(a.woff2) format("woff2"),url(a.ttf) format("truetype")}"""


def test_only_rules_that_are_used_stay():
    found = clt_light.purged(CSS, {"kept", "fa-kept"})
    assert "".join(found.split()) == ('a{b:c}.kept{d:e}p:not(.gone){h:i}@mediaprint{.kept{l:m}}'
                                      '.fa-kept:before{content:"\\f078"}@font-face{src:url(a.ttf)format("truetype")}')


@pytest.mark.site
def test_every_icon_of_a_page_is_in_the_font():
    html("intro")
    sheet = (SITE / "_static" / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    shown = {name for icon in parsed(html("intro")).select("i[class*=fa-], a[class*=fa-], button[class*=fa-]") for name in icon["class"]}
    letters = TTFont(SITE / "_static" / clt_light.ICONS / "fa-solid-900.ttf").getBestCmap()
    icons = {name: re.search(rf"\.{name}:+before\{{content:\"\\(f[0-9a-f]{{3}})", sheet) for name in shown - {"fa-solid", "fa-lg"}
             if name.startswith("fa-")}
    assert len(icons) > 5
    assert [name for name, code in icons.items() if not (code and int(code[1], 16) in letters)] == []


LIGHT = {"intro": 1_600_000, "statements": 1_000_000, "api/bounds": 1_000_000, "teach/course-plan": 1_000_000, "glossary": 1_250_000}
"""The most bytes that a page may load, everything counted as it is when unpacked; MathJax is most of it where there are formulas."""


@pytest.mark.site
def test_the_page_that_leads_on_asks_for_no_missing_icon(browser, address):
    html("intro")
    shown, missing = browser.new_page(), []
    shown.on("response", lambda response: response.ok or missing.append(response.url))
    shown.goto(f"{address}/index.html", wait_until="commit")
    shown.wait_for_url("**/intro.html")
    shown.close()
    assert missing == []
    assert 'rel="icon"' in (SITE / "index.html").read_text(encoding="utf-8"), "a browser asks for an icon that is not there"


@pytest.mark.site
@pytest.mark.parametrize("page", LIGHT)
def test_a_page_loads_little_and_asks_for_nothing_that_is_missing(page, browser, address):
    html(page)
    shown, finished, missing = browser.new_page(), [], []
    shown.on("response", lambda response: response.ok or missing.append(response.url))
    shown.on("requestfinished", lambda request: finished.append(request))
    shown.goto(f"{address}/{page}.html", wait_until="networkidle")
    sizes = {request.url.rpartition("/")[2]: len(request.response().body()) for request in finished}
    shown.close()
    assert missing == []
    assert sum(sizes.values()) <= LIGHT[page], sorted(sizes.items(), key=lambda item: -item[1])[:8]
