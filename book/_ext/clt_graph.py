"""Which statement rests on which: the references in the proofs, as a graph, and what one can ask of it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import networkx as nx
from clt_map import REFERENCE

from notebooks import ROOT, chapters, parts, read_notebook

BLOCK = re.compile(r"^(?P<fence>`{3,}|:{3,})\{prf:(?P<kind>\w+)\} *(?P<name>.*)\n(?P<body>[\s\S]*?)^(?P=fence)[ \t]*$", re.M)
LABEL = re.compile(r"^:label: *(\S+)", re.M)


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
