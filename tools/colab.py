"""The first cell of a chapter on Colab: it fetches the book, whose address is `repository: url` in _config.yml.

    python tools/colab.py      writes the cell into every chapter; without an address it takes the cell out

Colab opens a chapter alone, without the package and the recorded runs. Anywhere else the cell does nothing, and the website
does not show it.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from notebooks import ROOT, notebook_files

ID = "open-in-colab"
CODE = """\
# In Colab: fetch the book with its package and its recorded runs. Anywhere else this does nothing.
import sys

if "google.colab" in sys.modules:
    !git clone --quiet --depth 1 --branch {branch} {url} /content/clt-book
    %pip install --quiet /content/clt-book
    sys.path.insert(0, "/content/clt-book")"""


def with_cell(notebook: dict[str, Any], url: str, branch: str) -> dict[str, Any]:
    """The notebook, a dict, with the cell after its title; without an address the notebook without the cell."""
    cells = [cell for cell in notebook["cells"] if cell.get("id") != ID]
    if url:
        cells.insert(1, {"cell_type": "code", "execution_count": None, "id": ID, "metadata": {"tags": ["remove-cell"]}, "outputs": [],
                         "source": CODE.format(url=url, branch=branch).splitlines(keepends=True)})
    return notebook | {"cells": cells}


def main(root: Path = ROOT) -> list[Path]:
    """Bring all chapters in line with the setting and say which changed."""
    repository = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]
    changed = []
    for path in notebook_files(root / "book"):
        before = path.read_text(encoding="utf-8")
        after = with_cell(json.loads(before), repository["url"], repository["branch"])
        if after != json.loads(before):
            path.write_text(json.dumps(after, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            changed.append(path.relative_to(root))
    if changed:
        print(f"The opening cell for Colab changed in {len(changed)} chapters; commit them.")
    return changed


if __name__ == "__main__":
    main()
