"""What a reference leads to, shown beside it: each page's statements, words and symbols, in a file that only a reader who asks loads.

A page stays as light as it was: its links only learn by a class that there is something to show. ``_static/preview.js`` loads and shows it.
sphinx-tippy, the library for this, loads scripts from another server, puts all that a page may show into that page's own script, and
does not close on Escape. A citation needs no file: its whole text is the title of its link.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clt_notation import PAGE as NOTATION
from clt_notation import statements_in, symbols_in, words_in
from docutils import nodes
from docutils.utils import new_document
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata

CLASS = "has-preview"
FOLDER = "_static/previews"


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("doctree-resolved", mark_links, priority=950)  # after the tables are there
    app.connect("html-page-context", write_previews)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def mark_links(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Give the links that can show where they lead the class that ``preview.js`` looks for."""
    if app.builder.format != "html":
        return
    shown = anchors(app.env)
    addresses = {f"{app.builder.get_relative_uri(docname, page) if page != docname else ''}#{anchor}" for page, anchor in shown}
    for link in doctree.findall(nodes.reference):
        address = link.get("refuri") or f"#{link.get('refid')}"
        if address in addresses or ("reftitle" in link and "bibtex-citation" in link.parent.get("classes", ())):
            link["classes"].append(CLASS)


def anchors(env: BuildEnvironment) -> set[tuple[str, str]]:
    """Page and anchor of all that can be shown."""
    statements = {(place["docname"], slug) for slug, place in getattr(env, "proof_list", {}).items()}
    words = {(page, anchor) for _, _, kind, page, anchor, _ in env.get_domain("std").get_objects() if kind == "term"}
    symbols = {(NOTATION, anchor) for pointing in getattr(env, "clt_symbols", {}).values() for anchor, _ in pointing}
    return statements | words | symbols


def write_previews(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Write what links to a page can show, by page and anchor, as a script: a page from the disk may load no other file."""
    parts = {f"{pagename}#{anchor}": fragment(app, part) for anchor, part in previews(doctree)} if doctree else {}
    path = Path(app.outdir, FOLDER, f"{pagename}.js")
    if parts:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"cltPreviews({json.dumps(parts, ensure_ascii=False, indent=0)});\n", encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def previews(doctree: nodes.document) -> Iterator[tuple[str, nodes.Element]]:
    """Anchor and content of each statement, word and symbol of a page."""
    for block in statements_in(doctree):
        yield block["ids"][0], block.deepcopy()
    for item, term in words_in(doctree):
        definition = item.next_node(nodes.definition)
        if definition:
            yield term["ids"][0], nodes.container("", nodes.paragraph("", "", nodes.strong("", term.astext())), *copies(definition))
    for row, symbol in symbols_in(doctree):
        meaning = row[1].next_node(nodes.paragraph)
        yield symbol["ids"][0], nodes.paragraph("", "", *copies(symbol), nodes.Text(": "), *(copies(meaning) if meaning else ()))


def copies(node: nodes.Element) -> list[nodes.Node]:
    return [child.deepcopy() for child in node.children if "cell-label" not in getattr(child, "attributes", {}).get("classes", ())]


def fragment(app: Any, part: nodes.Element) -> str:
    """HTML without links, ids and marks of the page that it stands on."""
    for line in list(part.findall(lambda node: {"in-notation", "statement-place"} & {*getattr(node, "attributes", {}).get("classes", ())})):
        line.parent.remove(line)
    for link in list(part.findall(nodes.reference)):
        place = link.parent.index(link)
        link.parent[place:place + 1] = link.children
    translator = app.builder.create_translator(new_document("", app.builder.docsettings), app.builder)
    part.walkabout(translator)  # the builder's own way for a part would give each statement another title
    markup = "".join(translator.body)
    return re.sub(r' id="[^"]*"|<span class="eqno">.*?</span>|<a\b[^>]*>.*?</a>', "", markup, flags=re.DOTALL).strip()
