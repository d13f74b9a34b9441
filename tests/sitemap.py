"""Where the built website is, and which pages it must have."""

from functools import cache

from bs4 import BeautifulSoup

from notebooks import ROOT, pages, table_of_contents

SITE = ROOT / "_build" / "html"

REFERENCE = [page for page in pages(table_of_contents()) if page.startswith("api/")]  # made of the package's docstrings
CHAPTERS = [page for page in pages(table_of_contents()) if page not in REFERENCE]
CODE = [f"code/{path.relative_to(ROOT).with_suffix('')}" for path in sorted((ROOT / "clt_utils").rglob("*.py"))]
PAGES = [*CHAPTERS, *REFERENCE, "search", *CODE]


def html(page):
    """The file of a page; an error that says what to do if the site has not been built."""
    path = SITE / f"{page}.html"
    assert path.exists(), f"Given: no {path.relative_to(ROOT)}. Expected: the built website. Run `make site` first."
    return path


@cache
def parsed(path):
    """A file of the site, parsed once for all tests that a worker runs: the longest chapters take seconds."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
