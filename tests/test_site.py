"""The built website, read as files; and small books that must fail to build, or must notice a change."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from sitemap import CHAPTERS, PAGES, ROOT, SITE, html

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from clt_book import fingerprint  # noqa: E402

MAX_BYTES = 1_500_000


@cache
def parsed(path):
    return BeautifulSoup(path.read_text(), "html.parser")


@cache
def anchors(path):
    return {tag.get("id") or tag.get("name") for tag in parsed(path).find_all(lambda tag: tag.get("id") or tag.get("name"))}


def linked(page, attribute):
    """Every link of a page that stays on the site -> (link, file, fragment)."""
    for tag in parsed(html(page)).find_all(attrs={attribute: True}):
        parts = urlsplit(tag[attribute])
        if not parts.scheme and not parts.netloc:
            path = html(page).parent / unquote(parts.path) if parts.path else html(page)
            yield tag[attribute], path.resolve(), unquote(parts.fragment)


@pytest.mark.site
@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for attribute in ("href", "src"):
        for link, path, fragment in linked(page, attribute):
            assert path.is_file(), f"{page} links to {link}, which does not exist"
            assert not fragment or path.suffix != ".html" or fragment in anchors(path), f"{page}: no anchor for {link}"


@pytest.mark.site
@pytest.mark.parametrize("page", PAGES)
def test_nothing_comes_from_elsewhere(page):
    for tag in parsed(html(page)).find_all(["script", "link", "img", "iframe", "source"]):
        assert not urlsplit(tag.get("src") or (tag.get("href") if tag.name == "link" else "") or "").netloc, tag


@pytest.mark.site
@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_told_in_words(page):
    main = parsed(html(page)).find("main")
    for picture in main.find_all("img"):
        alt = picture.get("alt", "").strip()
        assert alt and "_images/" not in alt, f"{page}: no alternative text for {str(picture)[:120]}"
    for drawing in main.find_all("svg"):
        hidden = drawing.find_parent(attrs={"aria-hidden": "true"}) or drawing.get("aria-hidden") == "true"
        assert hidden or drawing.get("aria-label") or drawing.find("title"), f"{page}: no words for {str(drawing)[:120]}"


@pytest.mark.site
@pytest.mark.parametrize("page", PAGES)
def test_page_is_light_and_says_what_it_is(page):
    own = {html(page)} | {path for _, path, _ in linked(page, "src") if "_images" in path.parts}
    assert sum(path.stat().st_size for path in own) <= MAX_BYTES
    soup = parsed(html(page))
    assert soup.html["lang"] == "en"
    assert soup.find("meta", attrs={"name": "description"})["content"].strip()
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)), f"ids twice: {({i for i in ids if ids.count(i) > 1})}"


@pytest.mark.site
def test_every_notebook_can_be_downloaded():
    for page in CHAPTERS:
        source = ROOT / "book" / f"{page}.ipynb"
        if source.exists():
            button = parsed(html(page)).find("a", href=lambda link: link and link.endswith(".ipynb") and "_sources" in link)
            path = (html(page).parent / button["href"]).resolve()
            assert nbformat.read(path, 4).cells == nbformat.read(source, 4).cells


@pytest.mark.site
def test_index_lists_every_statement():
    from clt_utils.ledger import statements

    rows = {row.find("code").text: row for row in parsed(html("statements")).find(class_="statement-index").tbody.find_all("tr")}
    assert list(rows) == list(statements)
    for slug, entry in statements.items():
        assert entry.title in rows[slug].text and (entry.paper or "own") in rows[slug].text
        assert "FAILS" not in rows[slug].text
        taught = entry.chapter in CHAPTERS
        assert taught == any(link["href"].endswith(f"#{slug}") for link in rows[slug].find_all("a"))


# ---- small books

LEDGER = """
from .core import at_most, statement, statements

@statement("one-below-two", "One lies below two", kind="theorem", assumptions=(), chapter="chapter")
def one_below_two(rng):
    yield at_most("upper", 1, 2)
"""
THEOREM = "```{prf:theorem}\n:label: one-below-two\n$1 < 2$.\n```\n"


@pytest.fixture
def small_book(tmp_path):
    """A book of one chapter with the real configuration and extension -> build(prose, code) -> the finished process."""
    for name in ("_config.yml", "book/_ext", "book/_static", "book/references.bib", "clt_utils/_checks.py",
                 "clt_utils/ledger/core.py"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    (tmp_path / "clt_utils" / "__init__.py").write_text("ANSWER = 42\n")
    (tmp_path / "clt_utils" / "ledger" / "__init__.py").write_text(LEDGER)
    (tmp_path / "book" / "intro.md").write_text("# A small book\n\nOf {cite}`qi2026conjugate`.\n\n```{bibliography}\n```\n\n"
                                                "```{statement-index}\n```\n")
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump({"format": "jb-book", "root": "intro", "chapters": [{"file": "chapter"}]}))

    def build(prose=THEOREM, code="import clt_utils\nprint('The answer is', clt_utils.ANSWER)"):
        cells = [nbformat.v4.new_markdown_cell(f"# A chapter\n\n{prose}", id="prose"), nbformat.v4.new_code_cell(code, id="code")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "book" / "chapter.ipynb")
        command = [Path(sys.executable).with_name("jupyter-book"), "build", "book", "--path-output", ".",
                   "--config", "_config.yml", "--toc", str(tmp_path / "_toc.yml"), "-W", "-n", "--keep-going"]
        return subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    build.page = lambda: (tmp_path / "_build" / "html" / "chapter.html").read_text()
    build.root = tmp_path
    return build


def test_build_notices_a_change_of_the_package(small_book):
    first = small_book()
    assert first.returncode == 0, first.stdout
    assert "The answer is 42" in small_book.page() and "Theorem 1" in small_book.page()
    (small_book.root / "clt_utils" / "__init__.py").write_text("ANSWER = 43\n")
    second = small_book()
    assert second.returncode == 0, second.stdout
    assert "The answer is 43" in small_book.page()


@pytest.mark.parametrize("prose, code, complaint", [
    (THEOREM, "1 / 0", "ZeroDivisionError"),
    (THEOREM, "import sys\nprint('careful', file=sys.stderr)", "stderr"),
    (THEOREM + THEOREM.replace("one", "two"), "", "`two-below-two` has no entry in the ledger"),
    ("No theorem.", "", "does not label `one-below-two`"),
    (THEOREM + "{prf:ref}`nowhere`", "", "nowhere"),
], ids=["failing cell", "warning printed", "no ledger entry", "no label", "dangling reference"])
def test_build_is_red(prose, code, complaint, small_book):
    done = small_book(prose, code)
    assert done.returncode != 0 and complaint in done.stdout, done.stdout


def test_buttons_appear_with_the_address_of_the_book(small_book):
    elsewhere = ("mybinder.org", "colab.research.google.com", "example/book/issues/new",
                 "example/book/edit/main/book/chapter.ipynb")
    config = small_book.root / "_config.yml"
    assert 'url: ""' in config.read_text()
    config.write_text(config.read_text().replace('url: ""', "url: https://github.com/example/book"))
    done = small_book()
    assert done.returncode == 0, done.stdout
    assert all(place in small_book.page() for place in elsewhere)
    assert not any(place in html("intro").read_text() for place in elsewhere)


def test_fingerprint_sees_package_and_results(tmp_path):
    code, results = tmp_path / "clt_utils" / "ledger" / "core.py", tmp_path / "book" / "results" / "run.json"
    seen = {fingerprint(tmp_path)}
    for path, text in [(code, "a = 1"), (code, "a = 2"), (results, "{}"), (results, "[]")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        seen.add(fingerprint(tmp_path))
    (tmp_path / "book" / "chapter.md").write_text("prose does not count")
    assert len(seen) == 5 and fingerprint(tmp_path) in seen
