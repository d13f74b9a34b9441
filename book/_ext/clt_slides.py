"""The slides: Markdown whose figures are those of the executed chapters, made into decks of reveal.js that need no network.

    python book/_ext/clt_slides.py FOLDER    writes decks that stand alone, with the figures of the site as last built

A line ``---`` begins a new slide, ``Note:`` what only the speaker sees. ``![](foundations/conjugates#hull-figure)`` is the
output of that cell of that chapter, its alternative text included: nothing is drawn twice, and no slide can disagree with
its chapter. A link such as ``[Biconjugation](foundations/conjugates.html#biconjugation)`` starts at the root of the book.
"""

import functools
import html
import re
import shutil
import sys
from pathlib import Path
from string import Template
from typing import Any

import sphinx_revealjs
from jupyter_cache import get_cache
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

from clt_book import ROOT, executed_chapters
from notebooks import read_notebook

SOURCES = ROOT / "book" / "teach" / "slides"
REVEAL = Path(sphinx_revealjs.__file__).parent / "_static" / "revealjs"
REVEAL_FILES = ("dist/reveal.js", "dist/reveal.css", "dist/reset.css", "plugin/notes/notes.js", "LICENSE")
NAMES = ("foundations", "trainability", "generalization", "practice")
FIGURE = re.compile(r"^!\[\]\(([\w/-]+)#([\w-]+)\)$", re.MULTILINE)

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("build-finished", write_into_site)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def write_into_site(app: Sphinx, error: Exception | None) -> None:
    """The decks as a part of the site, under teach/slides/, when their page is."""
    if error or app.builder.format != "html" or "teach/index" not in app.env.all_docs:
        return
    try:
        write(Path(app.outdir, "teach", "slides"), executed_chapters(Path(app.outdir).parent), "../../")
    except LookupError as missing:
        logger.warning("slides: %s", missing.args[0])


def write(folder: Path, executed: Path, site: str = "") -> None:
    """Write all decks and what they load.

    Args:
        folder: Where to.
        executed: The cache of the executed chapters.
        site: The way from the decks to the root of the site; "" for decks that stand alone and link to no chapter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in REVEAL_FILES:
        copy(REVEAL / part, folder / "reveal" / part)
    copy(SOURCES / "slides.css", folder / "slides.css")
    page = Template((SOURCES / "page.html").read_text(encoding="utf-8"))
    for name in NAMES:
        title, sections = deck((SOURCES / f"{name}.md").read_text(encoding="utf-8"), executed, site)
        text = page.substitute(title=html.escape(title), static=f"{site}_static", slides="\n".join(sections))
        (folder / f"{name}.html").write_text(text, encoding="utf-8")


def deck(source: str, executed: Path, site: str = "") -> tuple[str, list[str]]:
    """A deck's title and its slides as HTML sections.

    Args:
        source: Its Markdown.
        executed: As for ``write``.
        site: As for ``write``.

    Raises:
        LookupError: If a figure is in no executed chapter.
    """
    markdown = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, renderer=formula, allow_space=False, double_inline=True)
    if site:
        source = re.sub(r"\]\((\w[\w/-]+\.html)", rf"]({site}\1", source)
    else:
        source = re.sub(r"\[([^\]]+)\]\(\w[\w/-]+\.html[^)]*\)", r"\1", source)
    sections = []
    for slide in re.split(r"^---$", source, flags=re.MULTILINE):
        shown, _, note = slide.partition("\nNote:")
        body = markdown.render(FIGURE.sub(lambda found: f'\n<div class="output">FIGURE {found[1]}#{found[2]}</div>\n', shown))
        body = re.sub(r"FIGURE ([\w/-]+)#([\w-]+)", lambda found: output(executed, found[1], found[2]), body)
        aside = f'<aside class="notes">{markdown.render(note)}</aside>' if note.strip() else ""
        sections.append(f"<section>\n{body}{aside}</section>")
    title = re.search(r"^# (.+)$", source, re.MULTILINE)
    return title[1] if title else "", sections


def output(executed: Path, chapter: str, cell_id: str) -> str:
    """What a cell of an executed chapter draws, as HTML: its figure, else its explorer; what it prints is for the chapter alone."""
    cells = executed_cells(executed, ROOT / "book" / f"{chapter}.ipynb")
    drawn = {name: ["".join(out["data"]["text/html"]) for out in cell.get("outputs", ()) if "text/html" in out.get("data", {})]
             for name, cell in cells.items()}
    if not drawn.get(cell_id):
        raise LookupError(f"Given: the cell {cell_id} of {chapter}, which shows nothing on a slide. Expected: one with a figure: "
                          f"{[name for name, parts in drawn.items() if parts]}.")
    return "\n".join(drawn[cell_id])


@functools.cache
def executed_cells(executed: Path, chapter: Path) -> dict[str, NotebookNode]:
    """The cells of a chapter with their outputs, by id; read once, though a deck shows many of them."""
    try:
        notebook = get_cache(str(executed)).merge_match_into_notebook(read_notebook(chapter))[1]
    except (KeyError, FileNotFoundError):
        raise LookupError(f"Given: the chapter {chapter}, which is not in {executed}. Expected: an executed chapter. Run `make site` "
                          "first.") from None
    return {cell.get("id"): cell for cell in notebook.cells}


def formula(content: str, options: dict[str, Any]) -> str:
    """TeX as MathJax finds it."""
    content = html.escape(content.strip())
    return rf"\[{content}\]" if options["display_mode"] else rf"\({content}\)"


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def main(folder: Path) -> None:
    """Decks that stand alone: with MathJax and the explorer beside them, and without links to the chapters."""
    build = ROOT / "_build"
    static = build / "html" / "_static"
    write(folder, executed_chapters(build))
    shutil.copytree(static / "mathjax", folder / "_static" / "mathjax", dirs_exist_ok=True)
    for name in ("explorer.js", "explorer.css"):
        copy(static / name, folder / "_static" / name)
    print(f"The slides are in {folder}; open {folder / NAMES[0]}.html, and press ? for the keys.")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except LookupError as missing:
        sys.exit(missing.args[0])
