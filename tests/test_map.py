"""The map of the book: its arrows are the references of the chapters, none is lost by leaving out those that follow."""

from xml.etree import ElementTree

import nbformat
import networkx as nx
import pytest
from clt_map import drawing, needs, reduced
from sitemap import ROOT, html, parsed

from clt_utils.ledger import statements
from notebooks import GRADES, chapters, exercises

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def graph():
    return needs()


def test_arrows_are_references(graph):
    assert [f"{page}.ipynb" for page in graph] == [str(path.relative_to(ROOT / "book")) for path in chapters()]
    assert graph.number_of_edges() >= len(graph)
    for source, target, edge in graph.edges(data=True):
        text = "\n".join(cell.source for cell in nbformat.read(ROOT / "book" / f"{target}.ipynb", 4).cells)
        assert edge["asked"] or edge["statements"]
        assert all(statements[slug].chapter == source and slug in text for slug in edge["statements"])
    assert graph.edges["trainability/gradient-energy", "trainability/architecture"]["asked"]
    assert "risk-sandwich" in graph.edges["trainability/gradient-energy", "trainability/mini-batch-sgd"]["statements"]


def test_reduced_map_says_the_same_with_fewer_arrows(graph):
    few, order = reduced(graph), list(graph)
    back = graph.edge_subgraph(edge for edge in graph.edges if order.index(edge[0]) < order.index(edge[1]))
    assert nx.is_directed_acyclic_graph(few) and few.number_of_edges() < back.number_of_edges()
    assert set(nx.transitive_closure(few).edges) == set(nx.transitive_closure(back).edges)
    asked = lambda g: g.edge_subgraph(edge for edge in g.edges if g.edges[edge]["asked"])
    assert set(nx.transitive_closure(asked(few)).edges) == set(nx.transitive_closure(asked(back)).edges)
    for edge in few.edges:
        assert edge in graph.edges


def test_a_new_reference_is_a_new_arrow_and_one_in_a_solution_is_none(graph, tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text((ROOT / "_toc.yml").read_text(encoding="utf-8"), encoding="utf-8")
    for path in chapters():
        notebook = nbformat.read(path, 4)
        if path.stem == "gradient-energy":
            notebook.cells[2].source += "\n\nCompare {prf:ref}`fisher-neyman`."
        if path.stem == "data-set-the-limit":
            last = next(cell for cell in notebook.cells if "{solution" in cell.source)
            last.source = last.source.replace(":class: dropdown\n", ":class: dropdown\n\nCompare {prf:ref}`fisher-neyman`.\n")
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, target)
    new = needs(tmp_path)
    assert set(new.edges) - set(graph.edges) == {("foundations/what-a-sample-can-tell", "trainability/gradient-energy")}
    assert not new.edges["foundations/what-a-sample-can-tell", "trainability/gradient-energy"]["asked"]


def test_picture_has_every_chapter_and_arrow_and_says_so(graph):
    few = reduced(graph)
    svg = ElementTree.fromstring(drawing(few, {page: page for page in few}, {page: f"../{page}.html" for page in few}))
    assert svg.get("role") == "group", "an image would hide its links from screen readers"
    assert {link.get("aria-label"): link.get("href") for link in svg.iter(f"{SVG}a")} == {page: f"../{page}.html" for page in few}
    assert all(len(list(link.iter(f"{SVG}rect"))) == 1 for link in svg.iter(f"{SVG}a"))
    assert f"{len(few)} chapters" in svg.get("aria-label")
    arrows = [path for path in svg.iter(f"{SVG}path") if path.get("marker-end")]
    assert len(arrows) == few.number_of_edges() and len(list(svg.iter(f"{SVG}rect"))) == len(few)
    solid = sum(path.get("stroke-dasharray") is None for path in arrows)
    assert f"{solid} solid arrows" in svg.get("aria-label") and f"{len(arrows) - solid} dashed" in svg.get("aria-label")
    places = [(box.get("x"), box.get("y")) for box in svg.iter(f"{SVG}rect")]
    assert len(set(places)) == len(places)
    left, _, width, _ = map(float, svg.get("viewBox").split())
    for path in arrows:
        numbers = [float(n) for n in path.get("d").replace("M", " ").replace("C", " ").replace("V", " ").split()]
        assert all(left <= x <= left + width for x in numbers[::2]) or "V" in path.get("d")


@pytest.mark.site
def test_page_says_the_map_in_words_and_counts_the_exercises(graph):
    soup, few = parsed(html("teach/map")), reduced(graph)
    picture = soup.find("svg", class_="chapter-map")
    assert picture["aria-label"].startswith("Map of the book")
    assert [link["href"] for link in picture.find_all("a")] == [f"../{page}.html" for page in graph]
    assert all(link["aria-label"] == parsed(html(page)).title.text.split(" — ")[0].split(". ", 1)[-1]
               for page, link in zip(graph, picture.find_all("a"), strict=True))
    said = {}
    for item in soup.find(class_="chapter-map-list").find_all("li"):
        pages = [link["href"].removeprefix("../").removesuffix(".html") for link in item.find_all("a")]
        said[pages[0]] = set(pages[1:])
    assert said == {page: set(few.predecessors(page)) | set(few.successors(page)) for page in graph}
    *rows, total = soup.find("table", class_="exercise-counts").tbody.find_all("tr")
    counts = [[int(cell.text.split()[-1]) for cell in row.find_all("td")[1:]] for row in rows]
    for path, row in zip(chapters(), counts, strict=True):
        found = exercises(nbformat.read(path, 4))
        assert row == [*(sum(e.grade == g for e in found) for g in GRADES), len(found), sum(bool(e.self_check) for e in found)]
    assert [int(cell.text.split()[-1]) for cell in total.find_all("td")[1:]] == [sum(column) for column in zip(*counts)]
