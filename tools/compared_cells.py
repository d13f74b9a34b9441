"""Which cells of the chapters are compared with their outputs: tests/compared_cells.txt lists them, so that none is lost unnoticed.

    python tools/compared_cells.py    brings the list up to date
"""

from collections.abc import Iterator
from pathlib import Path

from strip_notebooks import COMPARED

from notebooks import ROOT, notebook_files, read_notebook

LIST = ROOT / "tests" / "compared_cells.txt"


def compared_cells(book: Path = ROOT / "book") -> Iterator[str]:
    """Every cell that has the tag and an output that says something, as chapter#cell."""
    for path in notebook_files(book):
        for cell in read_notebook(path).cells:
            if COMPARED in cell.metadata.get("tags", []) and any(output.get("text", "").strip() for output in cell.outputs):
                yield f"{path.relative_to(book).with_suffix('').as_posix()}#{cell.id}"


if __name__ == "__main__":
    LIST.write_text("".join(f"{cell}\n" for cell in compared_cells()), encoding="utf-8")
    print(f"{LIST.relative_to(ROOT)}: {len(LIST.read_text(encoding='utf-8').splitlines())} cells")
