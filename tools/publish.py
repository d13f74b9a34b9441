"""What is made from the built website: the whole book in one PDF, the site in one archive, a report on its external links.

    python tools/publish.py pdf | archive | links
    python tools/publish.py pdf student | archive student      from the website without solutions, which `make student-site` builds
"""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from notebooks import ROOT, pages, table_of_contents

BUILD = ROOT / "_build"
SITE = BUILD / "html"
NAME = "conjugate-learning-theory"
TITLE = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


def find_chromium() -> str:
    """The path of a Chromium; without one the program ends and says what to do."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or sys.exit("Given: no Chromium. Expected: chromium, chromium-browser or google-chrome on the PATH, or its path in "
                             "CHROMIUM. `make test` installs one where it can.")


# ---- the whole book as one PDF

FIT = """() => { const wide = [...document.querySelectorAll('mjx-container[display="true"]')]
    .map(formula => [formula, formula.parentElement.clientWidth / Math.max(formula.scrollWidth, formula.firstElementChild.offsetWidth)])
for (const [formula, share] of wide)
    if (share < 1) formula.style.fontSize = `${share * parseFloat(getComputedStyle(formula).fontSize)}px` }"""
"""Formulas that are wider than the column get smaller: paper does not scroll."""


def pdf(names: list[str] | None = None, target: Path | None = None) -> None:
    """Print the book, or some of its pages, with Chromium, twice: the first time tells on which page each chapter starts, and is quick."""
    import pikepdf
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader

    chromium = find_chromium()
    target = target or BUILD / f"{NAME}.pdf"
    source = target.with_suffix(".html")
    source.write_text(str(whole_book(names)), encoding="utf-8")
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=0).new_page()
        page.set_viewport_size({"width": 642, "height": 971})  # what 20 mm of margin leave of A4
        page.set_default_timeout(0)  # a loaded machine takes as long as it takes
        page.goto(source.as_uri())
        page.evaluate("window.MathJax.startup.promise")
        page.evaluate("document.fonts.ready")
        page.evaluate(FIT)
        look: dict[str, Any] = {
            "format": "A4", "margin": dict.fromkeys(("top", "bottom", "left", "right"), "20mm"), "print_background": True,
            "display_header_footer": True, "header_template": "<span></span>",
            "footer_template": '<div style="font-size: 8pt; width: 100%; text-align: center" class="pageNumber"></div>'}
        page.evaluate("document.body.classList.add('draft')")  # nothing is painted but the contents: only the places count
        page.pdf(path=target, **look)
        reader = PdfReader(target)
        starts = {name.lstrip("/"): number + 1 for name, place in reader.named_destinations.items()
                  if (number := reader.get_destination_page_number(place)) is not None}
        page.evaluate("""starts => { document.body.classList.remove('draft'); document.querySelectorAll('.contents a').forEach(link => {
            link.lastElementChild.textContent = starts[decodeURIComponent(link.hash.slice(1))] ?? '' }) }""", starts)
        page.pdf(path=target, **look, outline=True, tagged=True)
    with pikepdf.open(target, allow_overwriting_input=True) as document:  # the tags for screen readers are many small objects: pack them
        document.save(target, object_stream_mode=pikepdf.ObjectStreamMode.generate)
        count = len(document.pages)
    source.unlink()
    print(f"{target}: {count} pages, {target.stat().st_size / 1e6:.1f} MB")


def whole_book(names: list[str] | None = None) -> BeautifulSoup:
    """All pages of the site but the package's, or those named, as one, with a title page and a list of contents -> BeautifulSoup."""
    toc = table_of_contents()
    names = names or [page for page in pages(toc) if not page.startswith("api/")]  # functions are looked up on the site
    first = read(names[0])
    book = BeautifulSoup('<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"></head><body></body></html>',
                         "html.parser")
    head, body = book.select("head, body")
    head.append(tag(book, "title", TITLE))
    for sheet in first.find_all("link", rel="stylesheet"):
        head.append(absolute(sheet, "href", SITE))
    for script in first.find_all("script"):  # of all scripts only MathJax and its settings
        if "mathjax" in str(script.get("src") or script.text).lower():
            head.append(absolute(script, "src", SITE))
    head.append(tag(book, "style", (Path(__file__).parent / "print.css").read_text(encoding="utf-8")))
    body.append(title_page(book))
    contents = tag(book, "nav", class_="contents")
    contents.append(tag(book, "h1", "Contents"))
    body.append(contents)
    for part in [{"root": toc["root"]}, *(toc.get("parts") or [toc])]:
        if part.get("caption"):
            contents.append(tag(book, "p", part["caption"], class_="part"))
        for name in filter(names.__contains__, pages(part)):
            article = chapter(name, names)
            body.append(article)
            link = tag(book, "a", href=f"#{anchor(name)}")
            heading = article.select("h1")[0]
            link.append(tag(book, "span", " ".join(heading.get_text().split())))
            link.append(tag(book, "span", "000"))
            contents.append(link)
    return book


def title_page(book: BeautifulSoup) -> Tag:
    page = tag(book, "header", class_="title-page")
    page.append(absolute(tag(book, "img", src="_static/logo.svg", alt=""), "src", SITE))
    page.append(tag(book, "h1", TITLE))
    page.append(tag(book, "p", "An interactive textbook in which every statement can be run"))
    edition = f"Version {version('clt-utils')}, printed on {datetime.now(timezone.utc):%Y-%m-%d}."
    page.append(tag(book, "p", f"{edition} Its sliders and live checks are in the website and the notebooks.", class_="small"))
    return page


def chapter(name: str, names: list[str]) -> Tag:
    """The text of one page, its anchors and links made those of one long document."""
    article = read(name).select("article")[0].extract()
    folder = (SITE / f"{name}.html").parent
    for useless in article.select(".headerlink, .clt-controls, .clt-note, .clt-switch, clt-explorer > script, .cell-label"):
        useless.decompose()
    for details in article.find_all("details"):
        details["open"] = ""
    for node in article.find_all(id=True):
        if not node.find_parent("svg"):  # the ids inside figures are their own
            node["id"] = anchor(name, str(node["id"]))
    for link in article.find_all("a", href=True):
        parts = urlsplit(str(link["href"]))
        if parts.scheme or parts.netloc:
            continue
        page = name
        if parts.path:
            path = (folder / unquote(parts.path)).resolve()
            page = str(path.relative_to(SITE).with_suffix("")) if path.is_relative_to(SITE) else ""
        if page in names:
            link["href"] = f"#{anchor(page, unquote(parts.fragment))}"
        else:
            link.unwrap()  # pages of code and downloads are not in the book
    for picture in article.find_all("img"):
        absolute(picture, "src", folder)
    article["id"] = anchor(name)
    return article


def anchor(page: str, name: str = "") -> str:
    return f"{page.replace('/', '-')}--{name}" if name else page.replace("/", "-")


def read(name: str) -> BeautifulSoup:
    path = SITE / f"{name}.html"
    if not path.exists():
        sys.exit(f"Given: no {path.relative_to(ROOT)}. Expected: the built website. Run `make site` first.")
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def tag(book: BeautifulSoup, name: str, text: str | Tag = "", class_: str = "", **attributes: str) -> Tag:
    node = book.new_tag(name)
    node.attrs.update(attributes, **({"class": class_} if class_ else {}))
    node.append(text)
    return node


def absolute(node: Tag, attribute: str, folder: Path) -> Tag:
    """Make a link to a file of the site absolute."""
    if node.get(attribute):
        node[attribute] = (folder / urlsplit(str(node[attribute])).path).resolve().as_uri()
    return node


# ---- the website as one archive

START = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta http-equiv="refresh" content="0; url=site/{page}"></head>
<body><p><a href="site/{page}">Open the book</a></p></body></html>
"""


def archive(target: Path | None = None) -> None:
    """The website in one zip that opens from the disk: unpack it and open START-HERE.html."""
    read("index")
    target = target or BUILD / f"{NAME}.zip"
    root = table_of_contents()["root"]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        out.writestr(f"{NAME}/START-HERE.html", START.format(title=TITLE, page=quote(f"{root}.html")))
        for path in sorted(SITE.rglob("*")):
            if path.is_file() and path.name != ".buildinfo":
                out.write(path, f"{NAME}/site/{path.relative_to(SITE)}")
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB. Unpack it anywhere and open START-HERE.html.")


# ---- links to elsewhere

def links(report: Path = BUILD / "linkcheck" / "output.json") -> int:
    """Sort what Sphinx's link checker found -> exit status 1 if an address is gone; being offline is no failure."""
    if not report.exists():
        sys.exit("Given: no report of Sphinx's link checker. Expected: one in _build/linkcheck. Run `make site`, then `make linkcheck`.")
    lines = report.read_text(encoding="utf-8").splitlines()
    found = {entry["uri"]: entry for entry in map(json.loads, lines) if entry["uri"].startswith("http")}
    sorts: dict[str, list[str]] = {"work": [], "are gone": [], "could not be reached": []}
    for uri, entry in sorted(found.items()):
        gone = entry["status"] == "broken" and entry["info"].startswith(("404", "410"))
        sort = "are gone" if gone else "work" if entry["status"] in ("working", "redirected") else "could not be reached"
        sorts[sort].append(f"  {uri}  ({entry['filename']})" + f"  {entry['info'][:80]}" * (sort != "work"))
    for sort, entries in sorts.items():
        print("\n".join([f"{len(entries)} of {len(found)} external links {sort}{':' * bool(entries)}", *entries]))
    return 1 if sorts["are gone"] else 0


if __name__ == "__main__":
    commands: dict[str, Callable[[], int | None]] = {"pdf": pdf, "archive": archive, "links": links}
    if sys.argv[1:2] not in [[name] for name in commands] or sys.argv[2:] not in ([], ["student"]):
        sys.exit(__doc__)
    if sys.argv[2:]:
        SITE, NAME = BUILD / "student-site" / "_build" / "html", f"{NAME}-student"
    sys.exit(commands[sys.argv[1]]())
