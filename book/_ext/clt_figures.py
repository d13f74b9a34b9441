"""Every figure gets a number and a caption from its alternative text; one page lists them all, beside the paper's."""

import html
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata

from clt_book import chapter_number, generated, pages_in_order, table

logger = logging.getLogger(__name__)
Figure = dict[str, Any]  # what a caption needs to know of a figure
PAPER = {
    "1": "the framework",
    "2": "gradient energy and the global optimum",
    "3": "Models A and B",
    "4": "LeNet, cross-entropy: the risk between its bounds along training",
    "5": "LeNet, squared loss: the same",
    "6-11": "the same for ResNet-18 and ViT, and sweeps over depth, width, skip connections and batch size",
}
"""The paper's figures, as far as this book knows them: not which of 6 to 11 shows which network or sweep."""


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_node(figure_caption)
    generated(app, "figure-index", figure_index)
    generated(app, "paper-figures", paper_figures)
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", lambda app, env, docname: figures(env).pop(docname, None))
    app.connect("doctree-resolved", write_captions)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}


class figure_caption(nodes.General, nodes.Element):
    """Where a caption goes once the chapters have their numbers; ``figure`` is an entry of ``figures``."""


def figures(env: Any) -> dict[str, list[Figure]]:
    """The figures of each page, in order -> dict of docname -> list of dicts."""
    if not hasattr(env, "clt_figures"):
        env.clt_figures = {}
    return env.clt_figures


# ---- from the chapters

def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Note the figures that the cells of a page show, give each an anchor, and leave room for its caption."""
    found = figures(app.env)[app.env.docname] = []
    for bundle in list(doctree.findall(lambda node: node.get("nb_element") == "mime_bundle" if is_container(node) else False)):
        formats = {part["mime_type"]: part.astext() for part in bundle}
        markup = formats.get("text/html", "")
        if "clt-figure" not in markup:
            if "image/png" in formats:
                logger.warning("a figure without alternative text; show it with plots.show(fig, alt=…)", location=bundle)
            continue
        tags = " ".join(" ".join(parent["classes"]) for parent in ancestors(bundle))
        if "<clt-explorer" in markup and not named(markup):
            logger.warning("an explorer without a caption; say what its figures show: explore(…, caption=…)", location=bundle)
        number = len(found) + 1
        figure: Figure = {"page": app.env.docname, "number": number, "id": f"figure-{number}", "title": title(markup),
                  "paper": re.findall(r"tag_paper-figures?-([\d-]+)", tags)}
        for name in set(figure["paper"]) - PAPER.keys():
            logger.warning("the paper's figure `%s` is none of %s", name, ", ".join(PAPER), location=bundle)
        found.append(figure)
        bundle.parent["ids"].append(figure["id"])
        bundle.parent.insert(bundle.parent.index(bundle) + 1, figure_caption(figure=figure))


def is_container(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container)


def ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None and (node := node.parent):
        yield node


def title(markup: str) -> str:
    """A figure's title: the caption of an explorer, or else the first sentence of the alternative text."""
    words = html.unescape(re.findall(r'<svg[^>]* aria-label="([^"]*)"', markup)[0])
    return named(markup) or re.split(r"(?<=[.!?]) (?=[A-ZΑ-Ω])", words)[0]


def named(markup: str) -> str:
    """The caption of an explorer, "" if it has none."""
    found = re.search(r'<clt-explorer role="group" aria-label="([^"]*)">', markup)
    return html.unescape(found[1]) if found else ""


def listed(names: list[str]) -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


# ---- into the pages

def name_of(env: BuildEnvironment, figure: Figure) -> str:
    """"Figure 6.2" in a numbered chapter, "Figure" elsewhere."""
    chapter = chapter_number(env, figure["page"])
    return f"Figure {chapter}.{figure['number']}" if chapter else "Figure"


def of_the_paper(figure: Figure) -> str:
    return listed([f"after Figure{'s' * ('-' in number)} {number.replace('-', '–')} of the paper" for number in figure["paper"]])


def write_captions(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in list(doctree.findall(figure_caption)):
        figure = node["figure"]
        name = name_of(app.env, figure) + (f" ({of_the_paper(figure)})" if figure["paper"] else "")
        caption = nodes.paragraph("", "", nodes.strong("", f"{name}."), nodes.Text(f" {figure['title']}"), classes=["clt-caption"])
        node.replace_self(caption if chapter_number(app.env, docname) or figure["paper"] else [])


def link(app: Sphinx, docname: str, figure: Figure, words: str) -> nodes.reference:
    return make_refnode(app.builder, docname, figure["page"], figure["id"], nodes.Text(words))


def in_order(env: BuildEnvironment) -> list[Figure]:
    return [figure for page in pages_in_order(env) for figure in figures(env).get(page, [])]


def figure_index(app: Sphinx, docname: str) -> nodes.table:
    """All figures: name, what it shows, where it stands."""
    rows = []
    for figure in in_order(app.env):
        chapter = app.env.titles[figure["page"]].astext()
        words = figure["title"] + (f" ({of_the_paper(figure)})" if figure["paper"] else "")
        rows.append([[link(app, docname, figure, name_of(app.env, figure))], [nodes.Text(words)],
                     [make_refnode(app.builder, docname, figure["page"], "", nodes.Text(chapter))]])
    return table(["Figure", "What it shows", "Chapter"], rows, "figure-index", "cards")


def paper_figures(app: Sphinx, docname: str) -> nodes.table:
    """The paper's figures, each with its counterparts in this book."""
    rows = []
    for number, topic in PAPER.items():
        links: list[nodes.Node] = []
        for figure in in_order(app.env):
            if number in figure["paper"]:
                chapter = app.env.titles[figure["page"]].astext()
                name = name_of(app.env, figure)
                links += [nodes.Text(", " * bool(links)), link(app, docname, figure, name if name != "Figure" else chapter)]
        rows.append([[nodes.Text(number.replace("-", "–"))], [nodes.Text(topic)], links or [nodes.Text("no counterpart")]])
    return table(["In the paper", "Topic", "In this book"], rows, "paper-figures", "cards")
