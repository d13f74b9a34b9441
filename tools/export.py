"""Chapters in plain Markdown, which any notebook program shows: JupyterLab without an extension, Colab, VS Code.

    python tools/export.py FOLDER            writes all chapters into FOLDER; one that was changed there is left as it is
    python tools/export.py --alone FOLDER    the same, each to be carried off alone: it gets the package if it can, and links to no other

The sources speak MyST, which only the website and one extension of JupyterLab read. Here a statement is a bold heading with the
number that it has on the website, a proof that is folded and a solution are `<details>`, references are resolved, and what is cited
stands at the end. Numbers follow the rule of Sphinx: the chapter's, then a count through the chapter, one for all statements and one
for exercises. A test compares them with the website.
"""

import argparse
import functools
import hashlib
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from pybtex.database import BibliographyData, Entry, parse_file
from pybtex.plugin import find_plugin

from notebooks import ROOT, chapters, directive_body, read_notebook

# What is found in running text: a role, or code or a formula, in which nothing is looked for.
ROLE = re.compile(r"\{(?P<role>[a-z]+(?::[a-z]+)?)\}`(?P<text>[^`]+)`|(?P<ticks>`+).+?(?P=ticks)(?!`)|\$\$.+?\$\$|\$[^$]+\$", re.S)
MATH = re.compile(r"\$\$.+?\$\$|\$[^$]+\$", re.S)
DIRECTIVE = re.compile(r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\} *(?P<title>.*)$")
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]+)\]\((?P<target>[^)\s:]+)\)")
ANCHOR = re.compile(r"^\((?P<label>[\w-]+)\)=$")
FENCED = re.compile(r"^(?P<fence>`{3,}|~{3,})")
STATEMENT = re.compile(r"prf:(?P<kind>[a-z]+)$")
ADMONITIONS = ("admonition", "attention", "caution", "danger", "error", "hint", "important", "note", "seealso", "tip", "warning")
SEEN = "clt_export"  # the metadata that says what was written, so that a reader's changes are told from ours


# ---- what the book has, and where

class Place(NamedTuple):
    """A labelled statement, exercise or heading: its name with its number, its title, the page it is on."""

    name: str
    title: str
    page: str


@dataclass(frozen=True)
class Book:
    """What references lead to: labelled places, the chapters' numbers and titles, and the works cited."""

    places: dict[str, Place]
    numbers: dict[str, int]
    titles: dict[str, str]
    works: BibliographyData
    repository: dict[str, str]

    @property
    def site(self) -> str:
        """The address of the website, which GitHub makes from that of the repository; "" if nobody knows it."""
        found = re.match(r"https://github\.com/(?P<owner>[^/]+)/(?P<name>[^/]+?)(?:\.git)?/?$", self.repository["url"])
        return f"https://{found['owner'].lower()}.github.io/{found['name']}" if found else ""


@functools.cache
def read_book(root: Path = ROOT) -> Book:
    """Read all chapters once, for their numbers, titles and labels."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    counters = config["sphinx"]["config"]["prf_realtyp_to_countertyp"]
    book = root / "book"
    places: dict[str, Place] = {}
    numbers, titles = {}, {}
    for number, path in enumerate(chapters(root), 1):
        page = path.relative_to(book).with_suffix("").as_posix()
        numbers[page], counts = number, Counter[str]()
        text = "\n".join(cell.source for cell in read_notebook(path).cells if cell.cell_type == "markdown")
        titles[page] = re.findall(r"^# (.+)$", text, re.M)[0]
        for label, place in _places(text, page, number, counts, counters):
            if label in places:
                raise ValueError(f"Given: the label {label!r} in {places[label].page} and in {page}. Expected: one place for a label.")
            places[label] = place
    for path in book.rglob("*.md"):
        heading = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.M)
        titles[path.relative_to(book).with_suffix("").as_posix()] = heading[1] if heading else path.stem
    return Book(places, numbers, titles, parse_file(str(book / "references.bib")), config["repository"])


def _places(text: str, page: str, number: int, counts: Counter, counters: dict[str, str]) -> Iterator[tuple[str, Place]]:
    """The labelled places of a page, in order, numbered through."""
    label = ""
    for line, block in blocks(text):
        if block is None:
            if label and (heading := re.match(r"#+ (.+)$", line)):
                yield label, Place("", heading[1], page)
            found = ANCHOR.match(line)
            label = found["label"] if found else label if not line.strip() else ""
            continue
        statement = STATEMENT.match(block.name)
        if (statement and statement["kind"] != "proof") or block.name == "exercise":
            kind = statement["kind"] if statement else "exercise"
            counter = counters.get(kind, kind)
            if "nonumber" not in block.options:
                counts[counter] += 1
            name = f"{kind.title()} {number}.{counts[counter]}" if "nonumber" not in block.options else kind.title()
            yield block.options.get("label", f"{page}#{name}"), Place(name, block.title, page)
        yield from _places(block.body, page, number, counts, counters)


# ---- MyST, as far as the chapters use it

@dataclass
class Block:
    """A directive: its name, what stands behind it, its options, and the text inside."""

    name: str
    title: str
    options: dict[str, str]
    body: str


def blocks(text: str) -> Iterator[tuple[str, Block | None]]:
    """Take Markdown apart: each line with None, or "" with the directive that stands there. Code in fences stays one piece of text."""
    lines = iter(text.split("\n"))
    for line in lines:
        if start := DIRECTIVE.match(line):
            body, options = directive_body(lines, start["fence"], f"the text after {line!r}")
            yield "", Block(start["name"], start["title"].strip(), options, body)
        elif fenced := FENCED.match(line):
            code = [line]
            for inside in lines:
                code.append(inside)
                if inside.strip().startswith(fenced["fence"]):
                    break
            yield "\n".join(code), None
        else:
            yield line, None


@dataclass
class Page:
    """One chapter on its way into plain Markdown.

    Attributes:
        name: Its page, like "foundations/divergences".
        book: What references lead to.
        together: Whether all chapters lie beside each other, so that links from one to the other work.
        cited: The works met so far.
        inside: The exercise whose solution has begun in an earlier cell and not ended.
    """

    name: str
    book: Book
    together: bool = True
    cited: list[str] = field(default_factory=list)
    inside: str = ""

    def markdown(self, text: str) -> str:
        """MyST -> plain Markdown."""
        return self.render(blocks(text))

    def render(self, parts: Iterable[tuple[str, Block | None]]) -> str:
        """What ``blocks`` found -> plain Markdown. Lines of prose stay together, for a reference may go over the end of one."""
        out: list[str] = []
        prose: list[str] = []
        for line, block in [*parts, ("```", None)]:
            if block is None and not FENCED.match(line):
                prose.append(ANCHOR.sub(r'<a id="\g<label>"></a>\n', line))
                continue
            out += [self.inline("\n".join(prose)), self.block(block) if block else line]
            prose = []
        return re.sub(r"\n{3,}", "\n\n", "\n".join(out[:-1])).strip("\n")

    def block(self, block: Block) -> str:
        """A directive -> plain Markdown."""
        label, title = block.options.get("label", ""), block.title
        statement = STATEMENT.match(block.name)
        if block.name == "chapter-facts":
            return f"**Chapter {self.book.numbers[self.name]}** · **GPU** {block.options.get('gpu', 'not needed')}"
        if block.name == "prf:proof":
            begin = "*Proof.* " if not title else f"*Proof {title}.* "
            body = begin + self.markdown(block.body)
            return folded("Proof", body) if "dropdown" in block.options.get("class", "") else body
        if statement or block.name == "exercise":
            place = self.book.places[label]
            heading = f"**{place.name} ({title})**" if title else f"**{place.name}**"
            return framed(f'<a id="{label}"></a>{heading}\n\n{self.markdown(block.body)}')
        if block.name == "dropdown":
            return folded(title, self.markdown(block.body))
        if block.name in ADMONITIONS:
            return framed(f"**{title or block.name.title()}**\n\n{self.markdown(block.body)}")
        if block.name == "solution":
            return folded(self.solution(title), self.markdown(block.body))
        raise ValueError(f"Given: the directive {block.name!r} in {self.name}. Expected: one that tools/export.py knows in plain Markdown. "
                         "Say there what becomes of it.")

    def solution(self, label: str) -> str:
        return f"Solution to {self.book.places[label].name}"

    def inline(self, text: str) -> str:
        """References and citations in running text -> plain Markdown; code and formulas stay as they are."""
        out, at = [], 0
        for found in ROLE.finditer(text):
            out += [self.links(text[at:found.start()]), self.role(found["role"], found["text"]) if found["role"] else found[0]]
            at = found.end()
        return "".join([*out, self.links(text[at:])])

    def links(self, text: str) -> str:
        def resolved(found: re.Match) -> str:
            page, _, anchor = found["target"].partition("#")
            if page in self.book.places:  # MyST takes a label for an address
                return self.link(found["text"], self.book.places[page].page, page)
            page = self.beside(re.sub(r"\.(md|ipynb|html)$", "", page)) if page else self.name
            return self.link(found["text"], page, anchor)

        return LINK.sub(resolved, text)

    def beside(self, target: str) -> str:
        """The page that an address means which is relative to this one, or begins with a slash."""
        return posixpath.normpath(posixpath.join("/", posixpath.dirname(self.name), target)).lstrip("/")

    def role(self, role: str, text: str) -> str:
        """A role, like ``prf:ref``, and what stands in its ticks -> plain Markdown."""
        if role.startswith("cite"):
            return self.citation([key.strip() for key in text.split(",")], in_text=role == "cite:t")
        found = re.match(r"(?P<words>.+?)\s*<(?P<target>[^>]+)>$", text, re.S)
        words, target = (found["words"], found["target"]) if found else ("", text)
        if role == "term":
            return self.link(words or target, "glossary", f"term-{target.replace(' ', '-')}")
        if role == "doc":
            page = self.beside(target)
            return self.link(words or self.book.titles[page], page, "")
        if role in ("prf:ref", "ref", "numref"):
            place = self.book.places[target]
            return self.link(words or place.name or place.title, place.page, target)
        raise ValueError(f"Given: the role {role!r} in {self.name}. Expected: one that tools/export.py knows in plain Markdown. "
                         "Say there what becomes of it.")

    def link(self, words: str, page: str, anchor: str) -> str:
        """A link where it leads somewhere, otherwise the words alone."""
        if page not in self.book.titles:
            raise ValueError(f"Given: a link to {page!r} in {self.name}. Expected: a page of the book.")
        fragment = f"#{anchor}" if anchor else ""
        if page == self.name:
            return f"[{words}]({fragment})"
        if self.together and page in self.book.numbers:
            return f"[{words}]({posixpath.relpath(page, posixpath.dirname(self.name))}.ipynb{fragment})"
        return f"[{words}]({self.book.site}/{page}.html{fragment})" if self.book.site else words

    def citation(self, keys: list[str], in_text: bool) -> str:
        """"Fedotov *et al.* (2003)" in the text, "(Fedotov *et al.*, 2003)" outside of it, with links to the end of the notebook."""
        self.cited += [key for key in keys if key not in self.cited]
        works = sorted((authors(self.book.works.entries[key]), self.book.works.entries[key].fields["year"], key) for key in keys)
        if in_text:
            return ", ".join(f"{names} ([{year}](#{key}))" for names, year, key in works)
        return f"({'; '.join(f'[{names}, {year}](#{key})' for names, year, key in works)})"


def framed(text: str) -> str:
    """A quotation. A formula goes on one line there: some programs would take the mark of the next line for a part of it."""
    one_line = MATH.sub(lambda found: " ".join(found[0].split()), text)
    return "\n" + "\n".join(f"> {line}".rstrip() for line in one_line.split("\n")) + "\n"


def folded(summary: str, body: str) -> str:
    return f"\n<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>\n"


def authors(entry: Entry) -> str:
    """The family names of a work, as the website has them."""
    people = entry.persons.get("author") or entry.persons["editor"]
    names = [" ".join(str(part) for part in [*person.rich_prelast_names, *person.rich_last_names]) for person in people]
    return names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} *et al.*"


def bibliography(keys: list[str], works: BibliographyData) -> str:
    """A list of works in plain Markdown, by the authors' names."""
    style, backend = find_plugin("pybtex.style.formatting", "plain")(), find_plugin("pybtex.backends", "markdown")()
    lines = []
    for entry in style.format_bibliography(BibliographyData({key: works.entries[key] for key in keys})):
        text = re.sub(r"\\([-.()!+#])", r"\1", entry.text.render(backend))  # pybtex escapes more than Markdown asks for
        lines.append(f'- <a id="{entry.key}"></a>{" ".join(text.split())}')
    return "\n".join(lines)


# ---- a notebook

ALONE = """\
# Run this first: it fetches the book's package and its recorded runs, if they are not here.
import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("clt_utils") is None:
    if not Path("clt-book").exists():
        !git clone --quiet --depth 1 --branch {branch} {url} clt-book
    %pip install --quiet -e clt-book
    sys.path.insert(0, str(Path("clt-book").resolve()))"""
HERE = """\
# Run this first: it says how to get the book's package, if it is not here.
import importlib.util

if importlib.util.find_spec("clt_utils") is None:
    raise ModuleNotFoundError("Given: no package clt_utils. Expected: the book's own. "
                              {advice!r})"""
FOLDER = "Get the folder of the book, and in it: pip install -e ."
EDITION = "In the folder that holds requirements.txt: pip install -r requirements.txt"


def opening(book: Book, alone: bool, advice: str = FOLDER) -> NotebookNode:
    """The first cell with code: it gets the package, or says in one line how."""
    fetch = alone and book.repository["url"]
    return new_code_cell(ALONE.format(**book.repository) if fetch else HERE.format(advice=advice), id="open-here")


def plain(notebook: NotebookNode, name: str, book: Book, *, alone: bool = False, advice: str = FOLDER) -> NotebookNode:
    """A chapter in plain Markdown.

    Args:
        notebook: The chapter, or the student's copy of it.
        name: Its page, like "foundations/divergences".
        book: What references lead to.
        alone: Whether it will be carried off alone: then no link leads to another chapter, unless the website's address is known.
        advice: How to get the package, where it cannot be fetched.

    Raises:
        ValueError: On a directive or a role that has no form in plain Markdown yet.
    """
    page = Page(name, book, together=not alone)
    cells: list[NotebookNode] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for i, text in enumerate(_pieces(page, cell.source)):
                cells.append(new_markdown_cell(text, id=cell.id if not i else f"{cell.id}-part-{i + 1}", metadata=cell.metadata))
        else:
            hidden = {"jupyter": {"source_hidden": True}} if page.inside else {}
            cells.append(NotebookNode(cell | {"metadata": NotebookNode(cell.metadata | hidden)}))
    cells[0].source = re.sub(r"^# ", f"# {book.numbers[name]}. ", cells[0].source, count=1, flags=re.M)
    cells.insert(1, opening(book, alone, advice))
    if page.cited:
        cells.append(new_markdown_cell(f"## Works cited\n\n{bibliography(page.cited, book.works)}", id="works-cited"))
    return NotebookNode(notebook | {"cells": cells})


def _pieces(page: Page, source: str) -> Iterator[str]:
    """A cell as plain Markdown, in parts: a solution that goes over several cells is folded in each of them."""
    found = [*blocks(source), ("", Block("end", "", {}, ""))]
    start = 0
    for i, (_, block) in enumerate(found):
        if block and block.name in ("solution-start", "solution-end", "end"):
            if text := page.render(found[start:i]):
                yield folded(page.solution(page.inside), text).strip("\n") if page.inside else text
            start = i + 1
            if block.name != "end":
                page.inside = block.title if block.name == "solution-start" else ""


# ---- a folder

def write(folder: Path, alone: bool = False, replace: bool = False, root: Path = ROOT) -> list[Path]:
    """Write all chapters, like ``foundations/divergences.ipynb``, but for those that a reader has changed since -> these.

    Args:
        folder: Where to.
        alone: As for ``plain``.
        replace: Whether to write over what was changed too.
        root: The repository.
    """
    book, kept = read_book(root), []
    for path in chapters(root):
        name = path.relative_to(root / "book").with_suffix("")
        notebook = plain(read_notebook(path), name.as_posix(), book, alone=alone)
        notebook.metadata = NotebookNode(notebook.metadata | {SEEN: fingerprint(notebook)})
        target = folder / f"{name}.ipynb"
        if target.exists() and not replace:
            there = read_notebook(target)
            if there.metadata.get(SEEN) == notebook.metadata[SEEN]:
                continue  # with all that was printed since
            if there.metadata.get(SEEN) != fingerprint(there):
                kept.append(target)
                continue
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
    return kept


def fingerprint(notebook: NotebookNode) -> str:
    """A hash of what a notebook says, whatever it printed."""
    return hashlib.sha256(json.dumps([[cell.cell_type, cell.source] for cell in notebook.cells]).encode()).hexdigest()[:16]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alone", action="store_true", help="each chapter to be carried off alone")
    parser.add_argument("--replace", action="store_true", help="write over what was changed too")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    for path in write(options.folder, options.alone, options.replace):
        print(f"{path} was changed here and stays as it is, although the book has a newer one. Move it away to get that.")


if __name__ == "__main__":
    main()
