"""Bring notebooks into the form they are kept in: no outputs but those that the tests compare, no counts, no widget state.

    python tools/strip_notebooks.py FILE ...            rewrite them
    python tools/strip_notebooks.py --verify FILE ...   change nothing; fail if one is not in this form
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbstripout import strip_output

COMPARED = "nbval-check-output"
EXTRA_KEYS = ["metadata.widgets", "cell.metadata.execution", "cell.metadata.collapsed", "cell.metadata.scrolled"]


def stripped(text: str) -> str:
    """The notebook as it is kept; ``text`` is the JSON of a notebook, and so is the result."""
    notebook = nbformat.reads(text, as_version=4)
    kept = {cell.id: cell.outputs for cell in notebook.cells if COMPARED in cell.metadata.get("tags", [])}
    strip_output(notebook, keep_output=False, keep_count=False, keep_id=True, extra_keys=EXTRA_KEYS)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.id in kept:
            cell.outputs, cell.execution_count = _joined(kept[cell.id]), 1  # nbval compares nothing with a cell that was never run
    return nbformat.writes(notebook) + "\n"


def _joined(outputs: list) -> list:
    """The same outputs, what was printed in one piece: the kernel breaks it anywhere, otherwise at each run."""
    whole: list = []
    for output in outputs:
        if whole and output.get("name", "") and output.get("name") == whole[-1].get("name"):
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--verify", action="store_true", help="change nothing; fail if a notebook is not in this form")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    changed = []
    for path in options.files:
        before = path.read_text(encoding="utf-8")
        after = stripped(before)
        if before.rstrip() != after.rstrip():
            changed.append(path)
            if not options.verify:
                path.write_text(after, encoding="utf-8")
    for path in changed:
        print(f"{path}: {'not in the form notebooks are kept in; run tools/strip_notebooks.py' if options.verify else 'stripped'}")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
