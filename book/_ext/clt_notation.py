"""What a page has that can be looked up; and links back: a definition that the notation points to says under which symbols it has it."""

from collections.abc import Iterator
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


def statements_in(doctree: nodes.document) -> Iterator[nodes.Element]:
    """Its statements; each has a ``label`` and its kind as ``realtype``."""
    return doctree.findall(lambda node: "realtype" in getattr(node, "attributes", ()))


def number_of(env: Any, slug: str) -> str:
    """The number of a statement, as "6.4", once all pages have been read."""
    place = env.proof_list[slug]
    return numbered(env, place["docname"], place["countertype"], slug)


def numbered(env: Any, page: str, kind: str, label: str) -> str:
    return ".".join(map(str, env.toc_fignumbers.get(page, {}).get(kind, {}).get(label, ())))


def words_in(doctree: nodes.document) -> Iterator[tuple[nodes.Element, nodes.term]]:
    """Its items of a glossary, each with the word, whose first id is the anchor."""
    for item in doctree.findall(nodes.definition_list_item):
        term = item.next_node(nodes.term)
        if term and term["ids"] and "glossary" in item.parent["classes"]:
            yield item, term


def symbols_in(doctree: nodes.document) -> Iterator[tuple[nodes.row, nodes.inline]]:
    """Its rows of the notation, each with the symbol, whose first id is the anchor."""
    for row in doctree.findall(nodes.row):
        symbol = next((node for node in row.findall(nodes.inline) if node["ids"] and node["ids"][0].startswith("symbol-")), None)
        if symbol:
            yield row, symbol


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Note which symbols, rows of the page of notation, point to which statement or definition."""
    if app.env.docname != PAGE:
        return
    env: Any = app.env  # extensions keep what they find there
    symbols: dict[str, list[tuple[str, list[nodes.Node]]]] = {}
    env.clt_symbols, env.clt_symbols_read = symbols, True
    for row, symbol in symbols_in(doctree):
        for target in row.findall(addnodes.pending_xref):
            if target["refdomain"] == "prf":
                symbols.setdefault(target["reftarget"], []).append((symbol["ids"][0], symbol.deepcopy().children))


def pages_to_write(app: Sphinx, env: Any) -> list[str]:
    """The pages with definitions, if the notation has just been read."""
    if not env.__dict__.pop("clt_symbols_read", False):
        return []
    labels = getattr(env, "proof_list", {})
    return sorted({labels[label]["docname"] for label in env.clt_symbols if label in labels})


def link_back(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    symbols = getattr(app.env, "clt_symbols", {})
    for block in list(statements_in(doctree)):
        if block["label"] in symbols:
            line = nodes.paragraph("", "", nodes.Text("In the notation: "), classes=["in-notation"])
            for i, (anchor, symbol) in enumerate(symbols[block["label"]]):
                name = nodes.Text(anchor.removeprefix("symbol-").replace("-", " "))  # a formula is no name for a link
                line += [nodes.Text(", " * (i > 0)), make_refnode(app.builder, docname, PAGE, anchor, name), nodes.Text(" "),
                         *(part.deepcopy() for part in symbol)]
            block[-1].append(line)
