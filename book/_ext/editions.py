"""Two editions of the chapters from one source: for students without solutions, for instructors with them.

    python book/_ext/editions.py student       writes _build/student/ and _build/student.zip
    python book/_ext/editions.py instructor    writes _build/instructor/ and _build/instructor.zip

An exercise is a directive whose title begins with its grade; its solution is a directive, or what lies between
``{solution-start}`` and ``{solution-end}``, code included. A line "Self-check: … in `check_answer("ex-…", ...)`." says
what to compute; the student edition turns it into a cell to fill in.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parents[2]
GRADES = ("Understand", "Compute", "Prove", "Experiment", "Open")
DIRECTIVE = re.compile(r"^(?P<fence>`{3,}|:{3,})\{(?P<kind>exercise|solution|solution-start|solution-end)\} *(?P<title>.*)$")
SELF_CHECK = re.compile(r'^Self-check: .* in `(?P<call>check_answer\("(?P<label>ex-[a-z0-9-]+)", [^`]+\))`\.$', re.M | re.S)
IN_BOTH = ("pyproject.toml", "LICENSE", "LICENSE-TEXT")
REQUIREMENTS = """\
# Everything the chapters need; install it with `pip install -r requirements.txt`.
-e .                   # the package of the book, in clt_utils/
jupyterlab>=4.2
ipykernel>=6.29
jupyterlab-myst>=2.4   # shows statements, exercises and formulas as on the website
"""


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


def chapters(root: Path = ROOT) -> list[Path]:
    """The notebooks of the numbered parts, in the order of the table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    pages = [page["file"] for part in toc["parts"] if part.get("numbered") for page in part["chapters"]]
    return [path for page in pages if (path := root / "book" / f"{page}.ipynb").exists()]


def pieces(notebook: NotebookNode) -> Iterator[Piece]:
    """Take a chapter apart.

    Raises:
        ValueError: On a directive that is not closed, a solution of another exercise than the one before, or one without end.
    """
    exercise, inside = None, False
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            if inside:
                exercise.solution.append(cell.source)
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
            block, options = _body(lines, start["fence"], cell)
            if start["kind"] == "exercise":
                exercise = Exercise(options.get("label", ""), start["title"].strip(), block)
                yield Piece("exercise", cell, "\n".join([line, f":label: {exercise.label}", "", block, start["fence"]]), exercise)
                continue
            if start["kind"] != "solution-end" and (exercise is None or start["title"].strip() != exercise.label):
                raise ValueError(f"Given: a solution of {start['title']!r} in cell {cell.id!r}. Expected: it follows its exercise.")
            inside = start["kind"] == "solution-start"
            if start["kind"] == "solution":
                exercise.solution.append(block)
            yield Piece("solution", cell, block, exercise)
        if "".join(text).strip():
            yield _prose(cell, text, exercise, inside)
    if inside:
        raise ValueError(f"Given: no end of the solution of {exercise.label!r}. Expected: a `{{solution-end}}` after it.")


def _prose(cell: NotebookNode, lines: list[str], exercise: Exercise | None, inside: bool) -> Piece:
    text = "\n".join(lines).strip("\n")
    if inside:
        exercise.solution.append(text)
    return Piece("solution" if inside else "prose", cell, text, exercise)


def _body(lines: Iterator[str], fence: str, cell: NotebookNode) -> tuple[str, dict[str, str]]:
    """The rest of a directive up to its closing fence -> (its text, its options)."""
    block: list[str] = []
    for line in lines:
        if line.strip() and set(line.strip()) == {fence[0]} and len(line.strip()) >= len(fence):
            break
        block.append(line)
    else:
        raise ValueError(f"Given: a directive without its closing {fence} in cell {cell.id!r}. Expected: one in the same cell.")
    options = {}
    while block and (option := re.match(r"^:(\w+): *(.*)$", block[0])):
        options[option[1]] = option[2].strip()
        block.pop(0)
    return "\n".join(block).strip("\n"), options


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises of a chapter, with their solutions."""
    return list({id(piece.exercise): piece.exercise for piece in list(pieces(notebook)) if piece.exercise}.values())


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """The student's copy: prose and code as they are, solutions gone, a place for each answer."""
    cells: list[NotebookNode] = []
    texts: dict[str, int] = {}   # how many parts of a cell have been written, for ids that stay unique
    for piece in pieces(notebook):
        if piece.kind == "code":
            cells.append(piece.cell)
        elif piece.kind != "solution":
            part = texts[piece.cell.id] = texts.get(piece.cell.id, 0) + 1
            cells.append(new_markdown_cell(piece.text, id=piece.cell.id if part == 1 else f"{piece.cell.id}-{part}",
                                           metadata=piece.cell.metadata))
        if piece.kind == "exercise":
            cells.append(new_markdown_cell("**Your answer**\n\n…", id=f"{piece.exercise.label}-answer"))
            if piece.exercise.self_check:
                cells.append(new_code_cell(piece.exercise.self_check, id=f"{piece.exercise.label}-check"))
    return NotebookNode(notebook | {"cells": cells})


def write(edition: str, out: Path, root: Path = ROOT) -> Path:
    """Write an edition as a folder to hand out, and the same as a zip beside it.

    Args:
        edition: "student" or "instructor".
        out: The folder; what was there before is replaced.
        root: The repository.

    Returns:
        The zip.
    """
    if edition not in ("student", "instructor"):
        raise ValueError(f"Given: the edition {edition!r}. Expected: 'student' or 'instructor'.")
    shutil.rmtree(out, ignore_errors=True)
    names = []
    for path in chapters(root):
        notebook = nbformat.read(path, as_version=4)
        target = out / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(without_solutions(notebook) if edition == "student" else notebook, target)
        title = re.search(r"^# (.+)$", next(cell.source for cell in notebook.cells if cell.cell_type == "markdown"), re.M)
        names.append(f"{len(names) + 1}. [{title[1]}]({path.relative_to(root)})")
    shutil.copytree(root / "clt_utils", out / "clt_utils", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.copytree(root / "book" / "results", out / "book" / "results")
    for name in IN_BOTH:
        if (root / name).exists():
            shutil.copy(root / name, out / name)
    (out / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
    (out / "README.md").write_text(README[edition].format(chapters="\n".join(names)), encoding="utf-8")
    return Path(shutil.make_archive(str(out), "zip", out.parent, out.name))


INSTALL = """\
## Install

You need Python 3.10 or later. In this folder:

```bash
python -m venv .venv
.venv/bin/pip install -r requirements.txt     # Windows: .venv\\Scripts\\pip
.venv/bin/jupyter lab book
```

No GPU is needed. The handwritten digits that the chapters use come with the packages; nothing is downloaded later.
"""

README = {
    "student": f"""\
# Conjugate Learning Theory, student edition

The chapters of the book with all exercises, without solutions.

{INSTALL}
## Work with it

Read a chapter, run its cells from top to bottom, change numbers and see what happens. Each exercise says what it asks of you:
*understand*, *compute*, *prove*, *experiment*, or *open*, which has no model answer. Below it is a place for your answer. Where
an answer can be checked, there is a cell like

```python
check_answer("ex-two-annotators", [..., ...])
```

Put your numbers in place of the dots and run it, as often as you like. It compares about three significant digits, says whether
you are right, and hints if not.

## Chapters

{{chapters}}
""",
    "instructor": f"""\
# Conjugate Learning Theory, instructor edition

The chapters of the book with all exercises and solutions.

{INSTALL}
## Work with it

Each exercise says what it asks for: *understand*, *compute*, *prove*, *experiment*, or *open*; its solution follows it. Solutions
with an answer end with `check_answer`, the call with which students check theirs, so they agree by construction. The student
edition is made from the same notebooks; hand out that one. The self-checks hold hashes of the answers: they keep honest eyes
honest, and are not made for grading.

## Chapters

{{chapters}}
""",
}


if __name__ == "__main__":
    for name in sys.argv[1:] or ["student", "instructor"]:
        archive = write(name, ROOT / "_build" / name)
        print(f"The {name} edition is written to {archive.with_suffix('').relative_to(ROOT)}/ and {archive.relative_to(ROOT)}.")
