"""The map of the book: which chapter needs which, from the statements that chapters refer to; and its exercises by grade."""

import html
import re
from pathlib import Path

import networkx as nx
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata

from clt_book import ROOT, generated, table
from notebooks import GRADES, chapters, exercises, parts, pieces, read_notebook

REFERENCE = re.compile(r"\{prf:ref\}`(?:[^`<]*<)?([\w-]+)>?`")
PAGE = re.compile(r"\{doc\}`(?:[^`<]*<)?([\w./-]+)>?`")
NEEDED = re.compile(r"\*\*You need\*\*(?:.+\n?)+")
COLUMNS = ("blue", "vermillion", "green", "purple")  # one colour for each part
WIDTH, HEIGHT, ACROSS, DOWN, TOP = 168, 46, 216, 82, 44  # of a box, from one box to the next, and above the first, in pixels


def setup(app: Sphinx) -> ExtensionMetadata:
    generated(app, "chapter-map", lambda app, docname: [picture(app, docname), words(app, docname)])
    generated(app, "exercise-counts", exercise_counts)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}


# ---- who needs whom

def needs(root: Path = ROOT) -> nx.DiGraph:
    """An arrow from each chapter to those that refer to its statements, or that name it under "You need".

    A statement belongs to the chapter that the ledger says proves it. References in exercises and solutions do not count.

    Returns:
        A graph of the pages of the numbered parts, in their order, with ``part`` (its number) and ``row`` (its place there).
        Its edges have ``statements``, the slugs referred to, and ``asked``, whether "You need" names chapter or statement.
    """
    from clt_utils.ledger import statements  # here, because it loads torch

    book = parts(root)
    graph = nx.DiGraph(parts=list(book))
    for number, pages in enumerate(book.values()):
        for row, page in enumerate(pages):
            graph.add_node(page, part=number, row=row)
    for path in chapters(root):
        page = str(path.relative_to(root / "book").with_suffix(""))
        text = "\n\n".join(piece.text for piece in pieces(read_notebook(path)) if piece.kind == "prose")
        needed = NEEDED.search(text)
        asked = needed[0] if needed else ""
        for slug in dict.fromkeys(REFERENCE.findall(text)):
            if slug in statements:
                _arrow(graph, statements[slug].chapter, page, slug in REFERENCE.findall(asked), slug)
        for name in PAGE.findall(asked):
            _arrow(graph, (Path("/") / page).parent.joinpath(name).resolve().relative_to("/").as_posix(), page, True)
    return graph


def _arrow(graph: nx.DiGraph, source: str, target: str, asked: bool, slug: str | None = None) -> None:
    if source in graph and source != target:
        if not graph.has_edge(source, target):
            graph.add_edge(source, target, statements=[], asked=False)
        edge = graph.edges[source, target]
        edge["asked"] |= asked
        edge["statements"] += [slug] if slug else []


def reduced(graph: nx.DiGraph) -> nx.DiGraph:
    """Without the arrows that follow from others.

    What chapters ask for is reduced by itself; of the other arrows those stay that follow from none at all. A chapter that
    points ahead does not need what it points to.
    """
    order = {page: i for i, page in enumerate(graph)}
    back = graph.edge_subgraph(edge for edge in graph.edges if order[edge[0]] < order[edge[1]])
    asked = back.edge_subgraph(edge for edge in back.edges if back.edges[edge]["asked"])
    rest = [edge for edge in nx.transitive_reduction(back).edges if not back.edges[edge]["asked"]]
    result = nx.DiGraph(**graph.graph)
    result.add_nodes_from(graph.nodes(data=True))
    result.add_edges_from((*edge, graph.edges[edge]) for edge in [*nx.transitive_reduction(asked).edges, *rest])
    return result


# ---- as a picture

def picture(app: Sphinx, docname: str) -> nodes.raw:
    """The map as vector graphics: a column for each part, an arrow from what is needed to what needs it."""
    graph = reduced(needs())
    titles = {page: app.env.titles[page].astext() for page in graph if page in app.env.titles}
    hrefs = {page: app.builder.get_relative_uri(docname, page) for page in titles}
    return nodes.raw("", drawing(graph, titles, hrefs), format="html")


def drawing(graph: nx.DiGraph, titles: dict[str, str], hrefs: dict[str, str]) -> str:
    """The SVG of a reduced map; each box leads to its chapter."""
    from clt_utils.plots import COLORS  # here, because it loads torch

    place = {page: (node["part"] * ACROSS, TOP + node["row"] * DOWN) for page, node in graph.nodes(data=True)}
    width = (len(graph.graph["parts"]) - 1) * ACROSS + WIDTH
    height = max(y for _, y in place.values()) + HEIGHT
    asked = sum(graph.edges[edge]["asked"] for edge in graph.edges)
    alt = (f"Map of the book: {len(graph)} chapters in {len(graph.graph['parts'])} columns, one for each part. {asked} solid arrows "
           f"lead to a chapter from one that it asks for, {graph.number_of_edges() - asked} dashed ones from one whose statements it uses. "
           "The list below says the same in words.")
    lines = [f'<svg class="chapter-map" role="group" aria-label="{html.escape(alt)}" viewBox="-36 0 {width + 50} {height + 8}" '
             'xmlns="http://www.w3.org/2000/svg">',
             '<defs><marker id="map-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse" '
             'markerUnits="userSpaceOnUse"><path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>']
    for part, name in enumerate(graph.graph["parts"]):
        lines.append(f'<text class="part" x="{part * ACROSS + WIDTH / 2}" y="20">{html.escape(name)}</text>')
    for source, target in graph.edges:
        dash = "" if graph.edges[source, target]["asked"] else ' stroke-dasharray="5 4"'
        lines.append(f'<path d="{_curve(graph, place, source, target)}" marker-end="url(#map-tip)"{dash}/>')
    for page, (x, y) in place.items():
        color = COLORS[COLUMNS[graph.nodes[page]["part"] % len(COLUMNS)]]
        title = titles.get(page, page)
        lines.append(f'<a href="{html.escape(hrefs.get(page, ""))}" aria-label="{html.escape(title)}">'
                     f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" stroke="{color}"/>')
        rows = _wrapped(title)
        for i, row in enumerate(rows):
            lines.append(f'<text x="{x + WIDTH / 2}" y="{y + HEIGHT / 2 + 5 + 17 * (i - (len(rows) - 1) / 2)}">{html.escape(row)}</text>')
        lines.append("</a>")
    return "\n".join([*lines, "</svg>"])


def _curve(graph: nx.DiGraph, place: dict[str, tuple[int, int]], source: str, target: str) -> str:
    """From box to box: straight down to the next one, around those between, or across to another column."""
    (x, y), (u, v) = place[source], place[target]
    if x == u and v - y == DOWN:
        return f"M{x + WIDTH / 2} {y + HEIGHT}V{v - 1}"
    if x == u:
        reach = x - 14 - 4 * (v - y) / DOWN
        return f"M{x} {y + HEIGHT * 0.7}C{reach} {y + HEIGHT} {reach} {v} {u - 1} {v + HEIGHT * 0.3}"
    arrivals = sorted((place[other][1], place[other][0]) for other in graph.predecessors(target) if place[other][0] < u)
    end = v + HEIGHT * (arrivals.index((y, x)) + 1) / (len(arrivals) + 1)  # each arrow arrives at a place of its own
    return f"M{x + WIDTH} {y + HEIGHT / 2}C{x + WIDTH + 40} {y + HEIGHT / 2} {u - 40} {end} {u - 1} {end}"


def _wrapped(title: str) -> list[str]:
    """A title in one or two lines of about equal length."""
    if len(title) <= 22:
        return [title]
    spaces = [i for i, letter in enumerate(title) if letter == " "]
    middle = min(spaces, key=lambda i: abs(i - len(title) / 2), default=len(title))
    return [title[:middle], title[middle + 1:]]


# ---- in words

def words(app: Sphinx, docname: str) -> nodes.bullet_list:
    """The same map as a list: for each chapter what it asks for, what it uses, and what leads on from it."""
    graph, few = needs(), reduced(needs())
    titles = getattr(app.env, "titles", {})

    def links(pages: list[str]) -> list[nodes.Node]:
        parts: list[nodes.Node] = []
        for page in pages:
            parts += [nodes.Text(", ")] * bool(parts) + [make_refnode(app.builder, docname, page, "", nodes.Text(titles[page].astext()))]
        return parts

    result = nodes.bullet_list(classes=["chapter-map-list"])
    for page in graph:
        before = sorted(few.predecessors(page), key=list(graph).index)
        line = nodes.paragraph("", "", *links([page]), nodes.Text(": "))
        line += _clauses([("asks for ", links([p for p in before if few.edges[p, page]["asked"]])),
                          ("uses statements of ", links([p for p in before if not few.edges[p, page]["asked"]])),
                          ("leads to ", links(sorted(few.successors(page), key=list(graph).index)))])
        result += nodes.list_item("", line)
    return result


def _clauses(clauses: list[tuple[str, list[nodes.Node]]]) -> list[nodes.Node]:
    found = [(lead, links) for lead, links in clauses if links]
    if not any(lead != "leads to " for lead, _ in found):
        found.insert(0, ("needs no other chapter", []))
    parts: list[nodes.Node] = []
    for lead, links in found:
        parts += [nodes.Text("; " if parts else ""), nodes.Text(lead), *links]
    return [*parts, nodes.Text(".")]


# ---- exercises

def exercise_counts(app: Sphinx, docname: str) -> nodes.table:
    """How many exercises of each grade the chapters have, and how many check their answer."""
    rows, sums = [], [0] * (len(GRADES) + 2)
    for path in chapters():
        page, found = str(path.relative_to(ROOT / "book").with_suffix("")), exercises(read_notebook(path))
        counts = [*(sum(e.grade == grade for e in found) for grade in GRADES), len(found), sum(bool(e.self_check) for e in found)]
        sums = [a + b for a, b in zip(sums, counts, strict=True)]
        title = make_refnode(app.builder, docname, page, "", nodes.Text(app.env.titles[page].astext()))
        rows.append([[title], *([nodes.Text(str(count))] for count in counts)])
    rows.append([[nodes.Text("All chapters")], *([nodes.Text(str(count))] for count in sums)])
    return table(("Chapter", *GRADES, "All", "With self-check"), rows, "exercise-counts", "cards")
