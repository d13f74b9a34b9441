"""Two editions of the chapters from one source: for students without solutions, for instructors with them.

    python tools/editions.py student       writes _build/student/ and _build/student.zip
    python tools/editions.py instructor    writes _build/instructor/ and _build/instructor.zip

Both are in the plain Markdown of `export.py`, which any notebook program shows, and hold the assignments. The student edition turns
each self-check into a cell to fill in; `notebooks.py` says what an exercise and its solution are.
"""

import shutil
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from export import EDITION, plain, read_book
from make_assignments import NAMES, generate
from notebooks import ROOT, chapters, pieces, read_notebook

IN_BOTH = ("pyproject.toml", "LICENSE", "LICENSE-TEXT")
REQUIREMENTS = """\
# Everything the chapters need; install it with `pip install -r requirements.txt`.
-e .                    # the package of the book, in clt_utils/
jupyterlab>=4.2
ipykernel>=6.29
otter-grader>=7.0,<8    # checks what the assignments ask for
"""


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
        if piece.exercise and piece.kind == "exercise":
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
    book, names = read_book(root), []
    for path in chapters(root):
        notebook, page = read_notebook(path), path.relative_to(root / "book").with_suffix("").as_posix()
        target = out / "book" / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook = without_solutions(notebook) if edition == "student" else notebook
        nbformat.write(plain(notebook, page, book, advice=EDITION), target)
        names.append(f"{book.numbers[page]}. [{book.titles[page]}](book/{page}.ipynb)")
    shutil.copytree(root / "clt_utils", out / "clt_utils", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.copytree(root / "book" / "results", out / "book" / "results")
    copy_assignments(edition, out / "book" / "assignments", root / "_build" / "assignments")
    for name in IN_BOTH:
        if (root / name).exists():
            shutil.copy(root / name, out / name)
    (out / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
    (out / "README.md").write_text(README[edition].format(chapters="\n".join(names)), encoding="utf-8")
    return Path(shutil.make_archive(str(out), "zip", out.parent, out.name))


def copy_assignments(edition: str, out: Path, built: Path) -> None:
    """What students get of each assignment; for instructors also the solution, and what grades with it."""
    out.mkdir(parents=True)
    for name in NAMES:
        made = built / name
        if not (made / "student").exists():
            generate(name, built)
        shutil.copy(made / "student" / f"{name}.ipynb", out / f"{name}.ipynb")
        if edition == "instructor":
            shutil.copy(made / "autograder" / f"{name}.ipynb", out / f"{name}-solution.ipynb")
            shutil.copy(made / "autograder" / "autograder.zip", out / f"{name}-autograder.zip")


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

The assignments, one for each part, are in `book/assignments/`. They say themselves how they work.

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

In `book/assignments/` lie the assignments as students get them, and beside each its solution and its autograder.

## Chapters

{{chapters}}
""",
}


if __name__ == "__main__":
    for name in sys.argv[1:] or ["student", "instructor"]:
        archive = write(name, ROOT / "_build" / name)
        print(f"The {name} edition is written to {archive.with_suffix('').relative_to(ROOT)}/ and {archive.relative_to(ROOT)}.")
