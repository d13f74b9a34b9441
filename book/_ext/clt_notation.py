"""Links back: a definition that the notation points to says under which symbols the notation has it."""

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata

PAGE = "notation"


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("doctree-read", collect)
    app.connect("env-updated", pages_to_write)
    app.connect("doctree-resolved", link_back)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Note which symbols, rows of the page of notation, point to which statement or definition."""
    if app.env.docname != PAGE:
        return
    env: Any = app.env  # extensions keep what they find there
    symbols: dict[str, list[tuple[str, list[nodes.Node]]]] = {}
    env.clt_symbols, env.clt_symbols_read = symbols, True
    for row in doctree.findall(nodes.row):
        symbol = next((node for node in row.findall(nodes.inline) if any(name.startswith("symbol-") for name in node["ids"])), None)
        for target in row.findall(addnodes.pending_xref):
            if symbol and target["refdomain"] == "prf":
                symbols.setdefault(target["reftarget"], []).append((symbol["ids"][0], symbol.deepcopy().children))


def pages_to_write(app: Sphinx, env: Any) -> list[str]:
    """The pages with definitions, if the notation has just been read."""
    if not env.__dict__.pop("clt_symbols_read", False):
        return []
    labels = getattr(env, "proof_list", {})
    return sorted({labels[label]["docname"] for label in env.clt_symbols if label in labels})


def link_back(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    symbols = getattr(app.env, "clt_symbols", {})
    for block in list(doctree.findall(nodes.Element)):
        if block.get("label") in symbols and "realtype" in block.attributes:
            line = nodes.paragraph("", "", nodes.Text("In the notation: "), classes=["in-notation"])
            for i, (anchor, symbol) in enumerate(symbols[block["label"]]):
                name = nodes.Text(anchor.removeprefix("symbol-").replace("-", " "))  # a formula is no name for a link
                line += [nodes.Text(", " * (i > 0)), make_refnode(app.builder, docname, PAGE, anchor, name), nodes.Text(" "),
                         *(part.deepcopy() for part in symbol)]
            block[-1].append(line)
