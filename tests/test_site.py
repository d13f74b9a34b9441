"""The built website, read as files; and small books that must fail to build, or must notice a change."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import nbformat
import publish
import pytest
import yaml
from bs4 import BeautifulSoup
from clt_figures import PAPER, title
from clt_slides import NAMES
from docutils import nodes
from docutils.utils import new_document
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from pypdf import PdfReader
from sitemap import CHAPTERS, PAGES, ROOT, SITE, html, parsed
from sphinx_exercise.nodes import solution_node

import export
from clt_book import fingerprint, leave_solutions_out
from notebooks import chapters, notebook_files, parts, read_notebook

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1_500_000
NOTEBOOKS = [page for page in CHAPTERS if (ROOT / "book" / f"{page}.ipynb").exists()]


@cache
def anchors(path):
    return {tag.get("id") or tag.get("name") for tag in parsed(path).find_all(lambda tag: tag.get("id") or tag.get("name"))}


@cache
def slides(path):
    """What leads to the slides of a deck, /0, /1 and so on."""
    return {f"/{i}" for i in range(len(parsed(path).select(".slides > section")))}


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
            if fragment and path.suffix == ".html":
                there = slides(path) if fragment.startswith("/") else anchors(path)
                assert fragment in there, f"{page}: no anchor for {link}"


ADDRESS = re.compile(r"""(?<![^\s,;('"=])(?:\w+:)?//[\w-]+\.\w[^\s"')]*""")


def addresses(soup):
    """Every address of another server on a page but those of links to follow; what scripts put together, the browser tests see."""
    for tag in soup.find_all(True):
        words = [value if isinstance(value, str) else " ".join(value) for name, value in tag.attrs.items() if not name.startswith("xmlns")]
        for text in () if tag.name == "a" else [*words, tag.text] if tag.name in ("script", "style") else words:
            yield from (f"{found[0]} in <{tag.name}>" for found in ADDRESS.finditer(text))


LOAD_NOTHING = "Expected: nothing from elsewhere, for the book works without a network. Put the file into book/_static."


@pytest.mark.site
@pytest.mark.parametrize("page", [*PAGES, *(f"teach/slides/{name}" for name in NAMES)])
def test_nothing_comes_from_elsewhere(page):
    assert not (found := list(addresses(parsed(html(page))))), f"Given: {found} on {page}. {LOAD_NOTHING}"


def test_our_styles_scripts_and_templates_load_nothing_from_elsewhere():
    for path in (path for path in (ROOT / "book").rglob("*") if path.suffix in (".css", ".js", ".html", ".svg")):
        text = re.sub(r'xmlns="[^"]*"', "", path.read_text(encoding="utf-8"))
        found = [match[0] for match in ADDRESS.finditer(text)]
        assert not found, f"Given: {found} in {path.relative_to(ROOT)}. {LOAD_NOTHING}"


@pytest.mark.parametrize("markup", [
    '<img srcset="small.png 1x, https://example.org/large.png 2x">', '<object data="//example.org/a.svg"></object>',
    '<video poster="https://example.org/a.png"></video>', '<audio src="https://example.org/a.ogg"></audio>',
    '<embed src="https://example.org/a.svg">', '<iframe src="//example.org"></iframe>',
    '<link rel="preload" href="https://example.org/a.js">',
    '<meta http-equiv="refresh" content="0; url=https://example.org">', '<p style="background: url(https://example.org/a.png)"></p>',
    "<script>import('https://example.org/a.js')</script>", '<script>fetch("https://example.org")</script>',
    "<style>@import '//example.org/a.css';</style>", "<style>@font-face { src: url(https://example.org/a.woff2) }</style>",
    '<svg><image href="https://example.org/a.png"/></svg>',
])
def test_what_comes_from_elsewhere_is_seen(markup):
    links = ('<a href="https://example.org">https://example.org</a><svg xmlns="http://www.w3.org/2000/svg"></svg>'
             '<img src="data:image/png;base64,a//b.c">')
    assert len(list(addresses(BeautifulSoup(markup + links, "html.parser")))) == 1


def says_something(words):
    """Whether words are a description: some of them, with letters, and not the name of a file."""
    return len(re.findall(r"[^\W\d_]{2,}", words)) >= 4 and not re.search(r"\.(png|svg|jpe?g)\b|_images", words)


def test_what_says_nothing_is_seen():
    assert says_something("The risk falls from 2.3 to 0.004 and stays between its bounds.")
    assert not any(map(says_something, ["", "plot", "_images/a_long_file_name.png", "risk of the model.svg", "1 2 3 4 5 6"]))


@pytest.mark.site
@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_told_in_words(page):
    main = parsed(html(page)).find("main")
    for picture in main.find_all("img"):
        assert says_something(picture.get("alt", "")), f"{page}: no alternative text for {str(picture)[:120]}"
    for drawing in main.find_all("svg"):
        hidden = drawing.find_parent(attrs={"aria-hidden": "true"}) or drawing.get("aria-hidden") == "true"
        words = drawing.get("aria-label") or (drawing.find("title") or drawing.new_string("")).text
        assert hidden or says_something(words), f"{page}: no words for {str(drawing)[:200]}"
        role = "group" if drawing.find("a") else "img"  # what is in an image cannot be reached
        assert hidden or drawing.get("role") == role, f"{page}: {str(drawing)[:120]} is not announced as an image, or as a group of links"


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
@pytest.mark.parametrize("page", CHAPTERS)
def test_no_markup_is_left_in_the_text(page):
    """A directive that was not read shows as text; code on a page may show one, in quotes of its own."""
    main = parsed(html(page)).find("main")
    text = " ".join(node for node in main.find_all(string=True) if not node.find_parent(["pre", "code", "script", "style"]))
    assert not re.findall(r"(?:`{3,}|:{3,}) *\{.{,40}|\{(?:doc|ref|term|cite|prf:ref)\}`.{,40}", text)


@pytest.mark.site
def test_every_notebook_can_be_downloaded():
    for page in CHAPTERS:
        source = ROOT / "book" / f"{page}.ipynb"
        if source.exists():
            button = parsed(html(page)).find("a", href=lambda link: link and link.endswith(".ipynb") and "_sources" in link)
            path = (html(page).parent / button["href"]).resolve()
            assert nbformat.read(path, 4) == export.plain(read_notebook(source), page, export.read_book(), alone=True)


@pytest.fixture(scope="module")
def plain_texts():
    """What the chapters say in plain Markdown -> {page: text}."""
    book = export.read_book()
    made = {path.relative_to(ROOT / "book").with_suffix("").as_posix(): read_notebook(path) for path in chapters()}
    return {page: "\n\n".join(cell.source for cell in export.plain(notebook, page, book).cells if cell.cell_type == "markdown")
            for page, notebook in made.items()}


def words(node):
    """What a reader sees of a part of a page, formulas left out."""
    return " ".join("".join(text for text in node.find_all(string=True) if not text.find_parent(class_=["math", "headerlink"])).split())


def plain_words(text):
    """The same of plain Markdown."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", export.MATH.sub("", text))
    return " ".join(re.sub(r"[*`]", "", text).replace("'", "’").split())


@pytest.mark.site
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_plain_chapters_have_the_numbers_of_the_site(name, plain_texts):
    """tools/export.py counts by the same rule; where Sphinx counts otherwise, a reader would look for the wrong theorem."""
    main, text = parsed(html(name)).find("main"), plain_texts[name]
    labelled = main.select(".proof[id], .exercise[id]")
    heads = [words(node.select(".admonition-title")[0]).replace(" )", ")") for node in labelled]
    headings = re.findall(r'^> <a id="([^"]+)"></a>\*\*(.+?)\*\*$', text, re.M)
    assert sorted((label, plain_words(head)) for label, head in headings) == sorted(zip([node["id"] for node in labelled], heads)) != []
    number = re.compile(r"^[A-Z][a-z]+ \d+\.\d+$")
    on_site = [words(link) for link in main.select("a.reference.internal") if number.match(words(link))]
    here = [found for found in re.findall(r"\[([^\]\[]+)\]\([^)]*\)", text) if number.match(found)]
    assert sorted(here) == sorted(on_site)
    assert plain_words(text.split("\n")[0]) == f"# {words(parsed(html(name)).select('.bd-links a.current')[-1])}"


@pytest.mark.site
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_plain_chapters_name_works_as_the_site_does(name, plain_texts):
    bare = lambda text: re.sub(r"[\[\]();,. ]", "", text)
    cited, text = parsed(html(name)).find("main").select(".bibtex-citation"), bare(plain_words(plain_texts[name]))
    assert not (missing := [words(citation) for citation in cited if bare(words(citation)) not in text]), missing


@pytest.mark.site
def test_index_lists_every_statement():
    from clt_utils.ledger import statements

    main = parsed(html("statements")).find("main")
    entries = {entry.find("code").text: entry for entry in main.find_all(class_="statement")}
    assert list(entries) == list(statements)
    for slug, entry in statements.items():
        assert entries[slug].find(class_="statement-entry")["id"] == slug
        assert entry.title in entries[slug].text and (entry.paper or entries[slug]["data-status"]) in entries[slug].text
        assert "FAILS" not in entries[slug].text and all(why in entries[slug].text for why, _ in entry.counterexamples)
        assert entries[slug].h4.a["href"] == f"{entry.chapter}.html#{slug}"
    heads = [head.a["href"].removesuffix(".html") if head.name == "h3" else words(head) for head in main.article.find_all(["h2", "h3"])]
    taught = {entry.chapter for entry in statements.values()}
    wanted = [name for part, of_part in parts().items() for name in (part, *(page for page in of_part if page in taught))]
    assert heads == [*wanted, "How to read it"], "the parts and chapters of the table of contents, in their order"


@pytest.mark.site
def test_every_statement_leads_to_its_entry():
    from clt_utils.ledger import statements

    for slug, entry in statements.items():
        link = parsed(html(entry.chapter)).find(id=slug).find(class_="statement-place").a
        assert link["href"] == f"../statements.html#{slug}"


@pytest.mark.site
def test_index_of_statements_says_when_and_on_what():
    when = parsed(html("statements")).find(class_="checked-when").text
    assert re.search(r"Checked on \d{4}-\d\d-\d\d on .*\d+ cores.*Python 3\.\d+.*torch \d", when), when


@pytest.mark.site
def test_index_lists_every_figure():
    links = {link["href"] for link in parsed(html("figures")).find(class_="figure-index").tbody.find_all("a")}
    shown = 0
    for page in CHAPTERS:
        for i, output in enumerate(parsed(html(page)).find_all(class_="cell_output", id=re.compile(r"^figure-\d+$"))):
            assert f"{page}.html#{output['id']}" in links
            assert output.find(class_=["clt-figure", "clt-explorer"]) or output.find("clt-explorer")
            caption = output.find(class_="clt-caption")
            assert not re.match(r"\d", parsed(html(page)).h1.text) or says_something(caption.text), f"{page}: figure {i} without a caption"
            shown += 1
    assert shown > 40


@pytest.mark.site
def test_caption_of_every_explorer_says_what_it_shows():
    for page in CHAPTERS:
        for explorer in parsed(html(page)).find_all("clt-explorer"):
            words = explorer.get("aria-label", "")
            assert len(words.split()) >= 5, f"{page}: {explorer.get_text(' ')[:60]}: say what its figures show: explore(…, caption=…)"
            caption = explorer.find_parent(class_="cell_output").find(class_="clt-caption")
            assert caption is None or words in caption.text


@pytest.mark.site
def test_figures_of_the_paper_are_matched_or_said_to_be_missing():
    rows = parsed(html("figures")).find(class_="paper-figures").tbody.find_all("tr")
    assert [row.td.text for row in rows] == [number.replace("-", "–") for number in PAPER]
    for row in rows:
        assert row.find("a") or "no counterpart" in row.text
        for link in row.find_all("a"):
            page, anchor = link["href"].split("#")
            assert "of the paper" in parsed(SITE / page).find(id=anchor).text


def test_title_of_a_figure():
    assert title('<svg aria-label="The risk is 0.5 nats. It falls."></svg>') == "The risk is 0.5 nats."
    explorer = '<clt-explorer role="group" aria-label="A &amp; B, for each depth."><svg aria-label="Depth 2. The risk is 0.5."></svg>'
    assert title(explorer) == "A & B, for each depth."


@pytest.mark.site
def test_notation_and_definitions_link_to_each_other():
    rows = [row for table in parsed(html("notation")).find_all("table") for row in table.tbody.find_all("tr")]
    assert len(rows) > 30
    for row in rows:
        symbol = row.find(id=re.compile("^symbol-"))["id"]
        targets = row.find_all("td")[-1].find_all("a")
        assert targets, f"{symbol} has no definition"
        for target in targets:
            page, label = target["href"].split("#")
            block = parsed(SITE / page).find(id=label)
            back = block.find(class_="in-notation").find_all("a")
            assert f"../notation.html#{symbol}" in {link["href"] for link in back}, f"{label} does not lead back to {symbol}"


@pytest.mark.site
def test_glossary_has_one_sentence_and_a_place_for_each_word():
    glossary = parsed(html("glossary"))
    assert len(glossary.find_all("dt")) > 40
    for meaning in glossary.find_all("dd"):
        word = meaning.find_previous_sibling("dt")  # the last one, where several mean the same
        assert meaning.find("a"), f"{word.text} leads nowhere"
        assert meaning.text.strip().endswith(".") and not re.search(r"[a-z]\. [A-Z]", meaning.text), f"{word.text}: one sentence"


@pytest.mark.site
def test_execution_statistics_list_every_chapter():
    table = parsed(html("execution")).find("table", class_="execution")
    assert re.search(r"\d+ cores.*Python 3\.\d+.*torch \d", table.caption.text)
    *rows, total = [[cell.find_all(string=True) for cell in row.find_all("td")] for row in table.tbody.find_all("tr")]
    ran = {link["href"].removesuffix(".html") for link in table.tbody.find_all("a")}
    assert ran >= {page for page in CHAPTERS if (ROOT / "book" / f"{page}.ipynb").exists()}
    seconds = [float(re.search(r"[\d.]+$", "".join(row[1]).strip())[0]) for row in [*rows, total]]
    assert sum(seconds[:-1]) == pytest.approx(seconds[-1], abs=0.1 * len(rows))
    assert all("ran to its end" in "".join(row[2]) for row in rows)


# ---- what is made from the site

@pytest.mark.site
def test_whole_book_is_in_one_piece():
    book = publish.whole_book()
    ids = [node["id"] for node in book.find_all(id=True) if not node.find_parent("svg")]
    assert len(ids) == len(set(ids))
    for link in book.find_all("a", href=True):
        parts = urlsplit(link["href"])
        assert parts.scheme in ("http", "https", "mailto") or parts.fragment in ids, f"{link} leads out of the book"
    for node in book.find_all(src=True):
        assert Path(unquote(urlsplit(node["src"]).path)).exists()
    assert not (found := list(addresses(book))), f"Given: {found} in the printed book. {LOAD_NOTHING}"
    assert [link["href"] for link in book.find(class_="contents").find_all("a")] == [f"#{publish.anchor(page)}" for page in CHAPTERS]
    assert not book.find_all("input") and all(details.has_attr("open") for details in book.find_all("details"))


@pytest.mark.site
def test_pdf_says_on_which_page_a_chapter_starts(tmp_path):
    publish.pdf(["intro", "notation", "glossary"], tmp_path / "book.pdf")
    pages = [" ".join(page.extract_text().split()) for page in PdfReader(tmp_path / "book.pdf").pages]
    for chapter, sign in (("Notation", "The symbols that more than one chapter uses"), ("Glossary", "Each word in one plain sentence")):
        start = next(i for i, text in enumerate(pages, 1) if sign in text)
        assert re.search(rf"{chapter} ?{start}\b", pages[1]), pages[1]
    assert "sliders of this picture" in " ".join(pages) and list(tmp_path.iterdir()) == [tmp_path / "book.pdf"]
    root = PdfReader(tmp_path / "book.pdf").trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] and root["/StructTreeRoot"]["/K"] and root["/Outlines"]["/Count"] >= 3, "tags and outline are kept"
    assert b"/StructElem" not in (tmp_path / "book.pdf").read_bytes(), "small objects are packed"
    assert b"/Subtype /Image" not in (tmp_path / "book.pdf").read_bytes(), "these pages have no pictures, so it must be a shadow of a box"


@pytest.mark.parametrize("entry, status", [
    ({"status": "working", "info": ""}, 0),
    ({"status": "broken", "info": "404 Client Error: Not Found for url: https://example.org"}, 1),
    ({"status": "broken", "info": "Failed to resolve 'example.org/404'"}, 0),
    ({"status": "timeout", "info": "timed out"}, 0),
])
def test_only_an_address_that_is_gone_fails(entry, status, tmp_path, capsys):
    report = tmp_path / "output.json"
    report.write_text(json.dumps({"uri": "https://example.org", "filename": "a.md"} | entry) + "\n", encoding="utf-8")
    assert publish.links(report) == status
    assert "https://example.org" in capsys.readouterr().out


# ---- launch

def test_binder_installs_what_the_chapters_import():
    installed = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8")
    assert "\n-e .\n" in installed
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [line for line in installed.splitlines() if re.match(r"\w", line)] + project["dependencies"]
    known = {Requirement(line).name.lower().replace("_", "-") for line in lines} | {"clt-utils"}
    runtime = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert Requirement(f"python{project['requires-python']}").specifier.contains(runtime)
    origin = packages_distributions()
    for page in CHAPTERS:
        path = ROOT / "book" / f"{page}.ipynb"
        for cell in nbformat.read(path, 4).cells if path.exists() else ():
            if cell.cell_type == "code":
                for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))):
                    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                        [node.module] if isinstance(node, ast.ImportFrom) else [])
                    for module in {name.split(".")[0] for name in modules} - sys.stdlib_module_names:
                        names = {name.lower().replace("_", "-") for name in origin[module]}
                        assert names & (known | {"ipython"}), f"{page} imports {module}, which Binder does not install"


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
    for name in ("_config.yml", "tools", "book/_ext", "book/_static", "book/_templates", "book/references.bib", "clt_utils/_checks.py",
                 "clt_utils/provenance.py", "clt_utils/ledger/core.py"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    (tmp_path / "clt_utils" / "__init__.py").write_text("ANSWER = 42\n", encoding="utf-8")
    (tmp_path / "clt_utils" / "ledger" / "__init__.py").write_text(LEDGER, encoding="utf-8")
    (tmp_path / "book" / "intro.md").write_text("# A small book\n\nOf {cite}`qi2026conjugate`.\n\n```{bibliography}\n```\n\n"
                                                "```{statements-of-small}\n```\n", encoding="utf-8")
    toc = {"format": "jb-book", "root": "intro", "parts": [{"caption": "Small", "numbered": True, "chapters": [{"file": "chapter"}]}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")

    def build(prose=THEOREM, code="import clt_utils\nprint('The answer is', clt_utils.ANSWER)"):
        cells = [nbformat.v4.new_markdown_cell(f"# A chapter\n\n{prose}", id="prose"), nbformat.v4.new_code_cell(code, id="code")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "book" / "chapter.ipynb")
        command = [Path(sys.executable).with_name("jupyter-book"), "build", "book", "--path-output", ".",
                   "--config", "_config.yml", "--toc", str(tmp_path / "_toc.yml"), "-W", "-n", "--keep-going"]
        return subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    build.page = lambda: (tmp_path / "_build" / "html" / "chapter.html").read_text(encoding="utf-8")
    build.root = tmp_path
    return build


def test_build_notices_a_change_of_the_package(small_book):
    first = small_book()
    assert first.returncode == 0, first.stdout
    assert "chapter.ipynb ran in" in first.stdout and "Executing notebook" not in first.stdout, "run once, before pages are read"
    assert "The answer is 42" in small_book.page() and "Theorem 1" in small_book.page()
    (small_book.root / "clt_utils" / "__init__.py").write_text("ANSWER = 43\n", encoding="utf-8")
    second = small_book()
    assert second.returncode == 0, second.stdout
    assert "The answer is 43" in small_book.page()
    index = (small_book.root / "_build" / "html" / "intro.html").read_text(encoding="utf-8")
    assert "holds in 20 trials" in index, "what is made of the ledger is missing"


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
    elsewhere = ("https://mybinder.org/v2/gh/example/book/notebooks?urlpath=lab/tree/book/chapter.ipynb",
                 "https://colab.research.google.com/github/example/book/blob/notebooks/book/chapter.ipynb",
                 "example/book/issues/new", "example/book/edit/main/book/chapter.ipynb")
    config = small_book.root / "_config.yml"
    assert 'url: ""' in config.read_text(encoding="utf-8")
    config.write_text(config.read_text(encoding="utf-8").replace('url: ""', "url: https://github.com/example/book"), encoding="utf-8")
    done = small_book()
    assert done.returncode == 0, done.stdout
    assert all(place in small_book.page() for place in elsewhere)
    intro = (small_book.root / "_build" / "html" / "intro.html").read_text(encoding="utf-8")
    assert "colab.research" not in intro, "Colab opens no Markdown"


@pytest.mark.site
@pytest.mark.parametrize("page", CHAPTERS)
def test_no_button_leads_nowhere_without_an_address(page):
    address = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    header = str(parsed(html(page)).find(class_="header-article"))
    assert bool(address) or not any(place in header for place in ("mybinder", "colab", "issues/new", "/edit/"))


@pytest.mark.parametrize("edition, left", [("student", "AB"), ("", "A solution B")])
def test_only_the_students_site_leaves_solutions_out(edition, left):
    page = new_document("page")
    page += [nodes.paragraph("", "A"), solution_node("", nodes.paragraph("", " solution ")), nodes.paragraph("", "B")]
    leave_solutions_out(SimpleNamespace(config=SimpleNamespace(clt_edition=edition)), page)
    assert "".join(page.astext().split("\n")) == left


def test_fingerprint_sees_package_and_results(tmp_path):
    code, results = tmp_path / "clt_utils" / "ledger" / "core.py", tmp_path / "book" / "results" / "run.json"
    seen = {fingerprint(tmp_path)}
    for path, text in [(code, "a = 1"), (code, "a = 2"), (results, "{}"), (results, "[]")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        seen.add(fingerprint(tmp_path))
    (tmp_path / "book" / "chapter.md").write_text("prose does not count", encoding="utf-8")
    assert len(seen) == 5 and fingerprint(tmp_path) in seen
