"""What the book's notebooks and its table of contents hold; everything else that asks goes through here.

It stands with the tools, which are scripts and so find their neighbours; the Sphinx extensions, which are few, put this folder
on their path. The package `clt_utils` would be found by all, but readers install it, and readers have no repository.

An exercise is a directive whose title begins with its grade; its solution is a directive, or what lies between
``{solution-start}`` and ``{solution-end}``, code included. A line "Self-check: … in `check_answer("ex-…", ...)`." says
what to compute.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
GRADES = ("Understand", "Compute", "Prove", "Experiment", "Open")
DIRECTIVE = re.compile(r"^(?P<fence>`{3,}|:{3,})\{(?P<kind>exercise|solution|solution-start|solution-end)\} *(?P<title>.*)$")
SELF_CHECK = re.compile(r'^Self-check: .* in `(?P<call>check_answer\("(?P<label>ex-[a-z0-9-]+)", [^`]+\))`\.$', re.M | re.S)


# ---- files

def table_of_contents(root: Path = ROOT) -> dict[str, Any]:
    """What _toc.yml says."""
    return yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))


def pages(toc: dict | list) -> Iterator[str]:
    """Every page named in a piece of the table of contents, in order."""
    for key, value in toc.items() if isinstance(toc, dict) else enumerate(toc):
        if key in ("root", "file"):
            yield value
        elif isinstance(value, (dict, list)):
            yield from pages(value)


def parts(root: Path = ROOT) -> dict[str, list[str]]:
    """The pages of each numbered part, by its title."""
    return {part["caption"]: list(pages(part)) for part in table_of_contents(root).get("parts", ()) if part.get("numbered")}


def chapters(root: Path = ROOT) -> list[Path]:
    """The notebooks of the numbered parts, in the order of the table of contents."""
    files = [root / "book" / f"{page}.ipynb" for part in parts(root).values() for page in part]
    return [path for path in files if path.exists()]


def notebook_files(book: Path = ROOT / "book") -> list[Path]:
    """Every notebook of a folder, sorted, but for what Jupyter and a build leave there."""
    return sorted(path for path in book.rglob("*.ipynb")
                  if not any(part.startswith((".", "_")) for part in path.relative_to(book).parts))


def read_notebook(path: Path) -> NotebookNode:
    """A notebook, in the form that nbformat 4 gives it."""
    return nbformat.read(path, as_version=4)


# ---- exercises

@dataclass
class Exercise:
    """One exercise of a chapter; ``solution`` holds the texts and the code of its solution."""

    label: str
    title: str
    text: str
    solution: list[str] = field(default_factory=list)

    @property
    def grade(self) -> str:
        return self.title.split(":")[0]

    @property
    def self_check(self) -> str | None:
        """The call that checks an answer, with dots in place of it."""
        found = SELF_CHECK.search(self.text)
        return found["call"] if found else None


class Piece(NamedTuple):
    """A part of a chapter in its order: "prose", "code", "exercise", or "solution" (of the exercise before)."""

    kind: str
    cell: NotebookNode
    text: str
    exercise: Exercise | None = None


def pieces(notebook: NotebookNode) -> Iterator[Piece]:
    """Take a chapter apart.

    Raises:
        ValueError: On a directive that is not closed, a solution of another exercise than the one before, or one without end.
    """
    exercise: Exercise | None = None
    inside: Exercise | None = None  # the exercise whose solution has begun and not ended
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            if inside:
                inside.solution.append(cell.source)
            yield Piece("solution" if inside else "code", cell, cell.source, exercise)
            continue
        lines, text = iter(cell.source.split("\n")), []
        for line in lines:
            start = DIRECTIVE.match(line)
            if not start:
                text.append(line)
                continue
            if "".join(text).strip():
                yield _prose(cell, text, exercise, inside)
            text = []
            block, options = directive_body(lines, start["fence"], f"cell {cell.id!r}")
            if start["kind"] == "exercise":
                exercise = Exercise(options.get("label", ""), start["title"].strip(), block)
                yield Piece("exercise", cell, "\n".join([line, f":label: {exercise.label}", "", block, start["fence"]]), exercise)
                continue
            if start["kind"] == "solution-end":
                inside = None
            elif exercise is None or start["title"].strip() != exercise.label:
                raise ValueError(f"Given: a solution of {start['title']!r} in cell {cell.id!r}. Expected: it follows its exercise.")
            elif start["kind"] == "solution-start":
                inside = exercise
            else:
                inside = None
                exercise.solution.append(block)
            yield Piece("solution", cell, block, exercise)
        if "".join(text).strip():
            yield _prose(cell, text, exercise, inside)
    if inside:
        raise ValueError(f"Given: no end of the solution of {inside.label!r}. Expected: a `{{solution-end}}` after it.")


def _prose(cell: NotebookNode, lines: list[str], exercise: Exercise | None, inside: Exercise | None) -> Piece:
    text = "\n".join(lines).strip("\n")
    if inside:
        inside.solution.append(text)
    return Piece("solution" if inside else "prose", cell, text, exercise)


def directive_body(lines: Iterator[str], fence: str, where: str) -> tuple[str, dict[str, str]]:
    """The rest of a directive up to its closing fence -> (its text, its options); ``where`` is for people."""
    block: list[str] = []
    for line in lines:
        if line.strip() and set(line.strip()) == {fence[0]} and len(line.strip()) >= len(fence):
            break
        block.append(line)
    else:
        raise ValueError(f"Given: a directive without its closing {fence} in {where}. Expected: one in the same cell.")
    options = {}
    while block and (option := re.match(r"^:(\w+): *(.*)$", block[0])):
        options[option[1]] = option[2].strip()
        block.pop(0)
    return "\n".join(block).strip("\n"), options


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises of a chapter, with their solutions."""
    return list({id(piece.exercise): piece.exercise for piece in list(pieces(notebook)) if piece.exercise}.values())
