"""Which statement rests on which: the references in the proofs, as a graph, and what one can ask of it."""

import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
from clt_map import COLUMNS, REFERENCE
from clt_notation import number_of, numbered
from clt_search import plain
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from clt_book import generated, pages_in_order
from notebooks import ROOT, chapters, parts, read_notebook

BLOCK = re.compile(r"^(?P<fence>`{3,}|:{3,})\{prf:(?P<kind>\w+)\} *(?P<name>.*)\n(?P<body>[\s\S]*?)^(?P=fence)[ \t]*$", re.M)
ACROSS, DOWN, WIDTH, HEIGHT, TOP = 66, 42, 50, 28, 56  # from one box to the next, of a box, and above the first, in pixels
LABEL = re.compile(r"^:label: *(\S+)", re.M)

STATUS = ("in the paper", "a topic of the paper", "known elsewhere", "not in the paper")
KNOWN = {
    "fisher-neyman", "exponential-family-duality", "hessian-inverse", "canonical-link", "three-point", "pinsker-euclidean", "erm-duality",
    "batch-energy-identity", "descent-lemma", "sgd-classical", "variance-propagation", "scale-invariance", "entropy-nonnegative",
    "information-nonnegative", "tv-bound", "excess-risk", "tv-mean", "tv-tail", "fixed-predictor-tail", "best-of-m", "psi-smooth-descent",
    "minimum-norm", "shift-bound"}
"""Statements that are not in the paper and of which the chapter says from where they are known."""


def setup(app: Sphinx) -> ExtensionMetadata:
    generated(app, "statement-map", statement_map)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}


class Block(NamedTuple):
    """A statement as a chapter has it: label, kind ("lemma", ...), name, its words, and those of its proof ("" without one)."""

    label: str
    kind: str
    name: str
    words: str
    proof: str


def blocks(path: Path) -> Iterator[Block]:
    """The statements of a chapter in order; a proof belongs to the statement before it."""
    last: Block | None = None
    for cell in read_notebook(path).cells:
        for found in BLOCK.finditer(cell.source) if cell.cell_type == "markdown" else ():
            if found["kind"] == "proof":
                if last is None:
                    raise ValueError(f"Given: a proof in cell {cell.id!r} of {path.name}. Expected: one proof, after its statement.")
                yield last._replace(proof=found["body"])
                last = None
                continue
            if last:
                yield last
            label = LABEL.search(found["body"])
            last = Block(label[1] if label else "", found["kind"], found["name"].strip(), found["body"], "")
    if last:
        yield last


def graph_of_statements(root: Path = ROOT) -> nx.DiGraph:
    """An arrow from each statement to those whose proofs refer to it: they rest on it.

    Returns:
        A graph of the statements of the ledger, in the order of the book. Its nodes have ``name``, ``kind``, ``words`` and ``proof`` as in
        ``Block``, ``chapter`` (its page) and ``part`` (its title).
    """
    from clt_utils.ledger import statements  # here, because it loads torch

    part = {page: title for title, pages in parts(root).items() for page in pages}
    found: dict[str, tuple[Block, str]] = {}
    for path in chapters(root):
        page = str(path.relative_to(root / "book").with_suffix(""))
        found |= {block.label: (block, page) for block in blocks(path) if block.label in statements}
    graph = nx.DiGraph()
    for slug in statements:
        if slug in found:
            block, page = found[slug]
            graph.add_node(slug, **block._asdict(), chapter=page, part=part[page])
    for slug, node in graph.nodes(data=True):
        graph.add_edges_from((other, slug) for other in dict.fromkeys(REFERENCE.findall(node["proof"])) if other in graph and other != slug)
    return graph


def graph_of(app: Any) -> nx.DiGraph:
    """The graph of the book that is being built, made once."""
    if not hasattr(app, "statement_graph"):
        app.statement_graph = graph_of_statements()
    return app.statement_graph


def in_order(graph: nx.DiGraph, some: set[str]) -> list[str]:
    """Some statements so that each comes after all that it rests on, and otherwise in the order of the book.

    Raises:
        ValueError: If statements rest on each other in a circle.
    """
    place = {slug: i for i, slug in enumerate(graph)}
    try:
        return list(nx.lexicographical_topological_sort(graph.subgraph(some), key=place.__getitem__))
    except nx.NetworkXUnfeasible:
        circle = [source for source, _ in nx.find_cycle(graph.subgraph(some))]
        raise ValueError(f"Given: proofs that rest on each other: {' → '.join([*circle, circle[0]])}. Expected: no circle. "
                         "Write out the step that one of these proofs needs, and take the reference away.") from None


def needed(graph: nx.DiGraph, slug: str) -> list[str]:
    """All that must be proved before a statement can be, in an order in which it can be taught."""
    return in_order(graph, nx.ancestors(graph, slug))


def built_on(graph: nx.DiGraph, slug: str) -> list[str]:
    """All statements that rest on this one, directly or through others."""
    return in_order(graph, nx.descendants(graph, slug))


def unnamed(graph: nx.DiGraph) -> list[tuple[str, str]]:
    """Pairs (statement, other): the proof names the other without a reference, or the statement refers to it and does not rest on it.

    Names of a single word, such as "Sharing", are words of the language too and are not looked for.
    """
    names = {slug: re.compile(r"\s+".join(map(re.escape, node["name"].split())), re.I)
             for slug, node in graph.nodes(data=True) if len(node["name"].split()) > 1}
    missing = []
    for slug, node in graph.nodes(data=True):
        missing += [(slug, other) for other, name in names.items() if other != slug and name.search(node["proof"])
                    and not graph.has_edge(other, slug)]
        missing += [(slug, other) for other in REFERENCE.findall(node["words"])
                    if other in graph and other not in nx.ancestors(graph, slug)]
    return missing


# ---- what the site calls a place

def status(entry: dict[str, Any]) -> str:
    """Where a statement comes from, one of STATUS."""
    if entry["slug"] in KNOWN:
        return "known elsewhere"
    return "not in the paper" if not entry["paper"] else "a topic of the paper" if "topic" in entry["paper"] else "in the paper"


def page_name(app: Any, page: str) -> str:
    """The title of a page, for a chapter with its number."""
    number = app.env.toc_secnumbers.get(page, {}).get("", ())
    return f"{'.'.join(map(str, number))} {app.env.titles[page].astext()}".strip()


def statement_number(app: Any, slug: str) -> str:
    """"Theorem 6.4"."""
    return f"{app.env.proof_list[slug]['realtype'].title()} {number_of(app.env, slug)}"


# ---- where the text refers to a statement

class Mention(NamedTuple):
    """A place that refers to a statement: its page, the anchor there, and what to call it ("" for the page as a whole)."""

    page: str
    anchor: str
    name: str


def mentions(app: Any) -> dict[str, list[Mention]]:
    """For each statement the sections and exercises that refer to it, in the order of the book.

    What statements and proofs refer to is in the graph, and the section that states a thing is no use of it.
    """
    if not hasattr(app, "statement_mentions"):
        found: dict[str, dict[Mention, None]] = {}
        for page in pages_in_order(app.env):
            if page == "statements" or page not in app.env.all_docs:
                continue
            doctree = app.env.get_doctree(page)
            home = {id_: node.parent for node in doctree.findall(nodes.Element) for id_ in node["ids"] if id_ in app.env.proof_list}
            for reference in doctree.findall(pending_xref):
                slug, place = reference["reftarget"], mention(app, page, reference)
                if reference["refdomain"] == "prf" and place and (slug not in home or place.anchor not in home[slug]["ids"]):
                    found.setdefault(slug, {})[place] = None
        app.statement_mentions = {slug: list(places) for slug, places in found.items()}
    return app.statement_mentions


def mention(app: Any, page: str, node: nodes.Node) -> Mention | None:
    """Where a reference stands; None in a statement or its proof."""
    while node := node.parent:
        kind = type(node).__name__
        if kind == "proof_node" or {"proof"} & set(getattr(node, "attributes", {}).get("classes", ())):
            return None
        if kind.startswith(("exercise", "solution")) and "label" in node:
            label = node.get("target_label", node["label"])
            exercise = app.env.sphinx_exercise_registry[label]
            return Mention(exercise["docname"], label, f"Exercise {numbered(app.env, exercise['docname'], 'exercise', label)}")
        if isinstance(node, nodes.section) and len(node) and isinstance(node[0], nodes.title):
            chapter = app.env.toc_secnumbers.get(page)
            whole = not chapter or isinstance(node.parent, nodes.document)
            return Mention(page, "" if isinstance(node.parent, nodes.document) else node["ids"][0], "" if whole else plain(node[0]).strip())
    return None


# ---- as a picture

def strength(share: float) -> str:
    """Rounded down: what stands there passes, a little less does not."""
    return "–" if math.isnan(share) else f"{math.floor(share * 100 + 1e-6) / 100:.2f}"


def statement_map(app: Any, docname: str) -> nodes.raw:
    """The graph as vector graphics: a box for each statement, which leads to its entry."""
    graph, boxes = graph_of(app), {}
    for entry in (entry for entry in app.ledger if entry["slug"] in graph):
        slug, name = entry["slug"], graph.nodes[entry["slug"]]["name"]
        share = entry["check"]["strength"]
        words = f"{statement_number(app, slug)} {name}, {status(entry)}" + ("" if math.isnan(share) else f", strength {strength(share)}")
        href = app.builder.get_relative_uri(docname, "statements") + f"#{slug}"
        boxes[slug] = Box(statement_number(app, slug).split()[-1], words, href, STATUS.index(status(entry)), share)
    return nodes.raw("", drawing(graph, boxes, STATUS), format="html")


class Box(NamedTuple):
    """What the picture shows of a statement: its number, what it is in words, where it leads, its status by number, its strength or nan."""

    number: str
    words: str
    href: str
    status: int
    strength: float


def drawing(graph: nx.DiGraph, boxes: Mapping[str, Box], names: Sequence[str]) -> str:
    """The graph as SVG: a column for each chapter that has statements, an arrow from what is needed to what needs it.

    The border says the part by its colour, and the heading above says it in words; fill and dashes say the status, whose ``names`` are
    the legend, and the bar below a box the strength.
    """
    from clt_utils.plots import COLORS  # here, because it loads torch

    columns: dict[str, list[str]] = {}
    for slug, node in graph.nodes(data=True):
        columns.setdefault(node["chapter"], []).append(slug)
    places = {slug: (i * ACROSS, TOP + j * DOWN) for i, column in enumerate(columns.values()) for j, slug in enumerate(column)}
    width, bottom = len(columns) * ACROSS, TOP + max(map(len, columns.values())) * DOWN
    alt = (f"Map of the statements: {len(graph)} boxes in {len(columns)} columns, one for each chapter, and {graph.number_of_edges()} "
           "lines, from what a proof uses to what it proves. The page of all statements says the same in words.")
    lines = [f'<svg class="statement-map" role="group" aria-label="{html.escape(alt)}" viewBox="-14 0 {width + 14} {bottom + 34}" '
             'xmlns="http://www.w3.org/2000/svg">']
    lines += (f'<path d="{_curve(*places[source], *places[target])}" data-from="{source}" data-to="{target}"/>'
              for source, target in graph.edges)
    parts_of: dict[str, list[float]] = {}
    for column in columns.values():
        middle = places[column[0]][0] + WIDTH / 2
        parts_of.setdefault(graph.nodes[column[0]]["part"], []).append(middle)
        lines.append(f'<text x="{middle:g}" y="42">{boxes[column[0]].number.split(".")[0]}</text>')
    for part, middles in parts_of.items():
        lines.append(f'<text class="part" x="{(middles[0] + middles[-1]) / 2:g}" y="16">{html.escape(part)}</text>')
    for slug, (x, y) in places.items():
        box, color = boxes[slug], COLORS[COLUMNS[list(parts_of).index(graph.nodes[slug]["part"]) % len(COLUMNS)]]
        lines.append(f'<a href="{html.escape(box.href)}" data-slug="{slug}" aria-label="{html.escape(box.words)}">'
                     f'<title>{html.escape(box.words)}</title>{_box(x, y, box.status, color)}'
                     f'<text x="{x + WIDTH / 2:g}" y="{y + 19}">{box.number}</text>{_bar(x, y, box.strength)}</a>')
    for i, name in enumerate(names):
        x = i * width // len(names)
        lines.append(f'{_box(x, bottom, i, "currentColor")}<text class="legend" x="{x + WIDTH + 8}" y="{bottom + 19}">{name}</text>')
    return "\n".join([*lines, "</svg>"])


def _box(x: int, y: int, status: int, color: str) -> str:
    return f'<rect class="status-{status}" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="4" stroke="{color}"/>'


def _bar(x: int, y: int, strength: float) -> str:
    """A line below the box, as long as the strength; none where there is no constant to get wrong."""
    return "" if math.isnan(strength) else f'<line x1="{x}" y1="{y + HEIGHT + 4}" x2="{x + WIDTH * strength:.1f}" y2="{y + HEIGHT + 4}"/>'


def _curve(x: int, y: int, u: int, v: int) -> str:
    """From box to box: across to another column, or within one around its left side."""
    if x == u:
        reach = x - 9 - abs(v - y) / DOWN
        return f"M{x} {y + HEIGHT // 2}C{reach:g} {y + HEIGHT // 2} {reach:g} {v + HEIGHT // 2} {u} {v + HEIGHT // 2}"
    return f"M{x + WIDTH} {y + HEIGHT // 2}C{x + WIDTH + 30} {y + HEIGHT // 2} {u - 30} {v + HEIGHT // 2} {u} {v + HEIGHT // 2}"
