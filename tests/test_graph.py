"""The graph of statements: its arrows are the references in the proofs, none is missing, and it leads round in no circle."""

import nbformat
import networkx as nx
import pytest
from clt_graph import blocks, built_on, graph_of_statements, in_order, needed, unnamed

from clt_utils.ledger import statements
from notebooks import ROOT, chapters


@pytest.fixture(scope="module")
def graph():
    return graph_of_statements()


@pytest.fixture
def changed(tmp_path):
    """The graph of the book with some words of a chapter changed."""
    def change(page, old, new):
        (tmp_path / "_toc.yml").write_text((ROOT / "_toc.yml").read_text(encoding="utf-8"), encoding="utf-8")
        for path in chapters():
            text = path.read_text(encoding="utf-8")
            if path.stem == page:
                assert text.count(old) == 1, f"Given: {text.count(old)} times {old!r} in {page}. Expected: words that the test can change."
                text = text.replace(old, new)
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        return graph_of_statements(tmp_path)
    return change


def test_every_statement_is_a_node_with_its_proof(graph):
    assert list(graph) == list(statements)
    assert not (bare := [slug for slug, node in graph.nodes(data=True) if not node["proof"]]), f"no proof right after the statement: {bare}"
    assert {slug: node["chapter"] for slug, node in graph.nodes(data=True)} == {slug: s.chapter for slug, s in statements.items()}


def test_arrows_are_references_in_proofs(graph):
    """Found once more in another way: line by line, between the fences of the proof that follows the label."""
    found = set()
    for path in chapters():
        label, fence = "", ""
        for line in "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown").split("\n"):
            if line.startswith(":label: "):
                label = line.removeprefix(":label: ").strip()
            if "{prf:proof}" in line:
                fence = line.split("{")[0]
            elif fence and line.strip() == fence:
                fence = ""
            elif fence:
                found |= {(piece.split("`")[1], label) for piece in line.split("{prf:ref}")[1:]}
    assert set(graph.edges) == {(other, slug) for other, slug in found if other in statements and other != slug}
    assert graph.has_edge("residual-sandwich", "risk-sandwich") and graph.has_edge("block-sum", "head-floor")


def test_no_proof_rests_on_itself(graph):
    assert in_order(graph, set(graph))


def test_what_a_proof_uses_by_name_it_refers_to(graph):
    assert not (missing := unnamed(graph)), "\n".join(
        f"Given: `{slug}` uses `{other}` by its name. Expected: {{prf:ref}}`{other}` in the proof of `{slug}`." for slug, other in missing)


def test_orders_can_be_taught(graph):
    for slug in graph:
        order = [*needed(graph, slug), slug]
        assert set(order[:-1]) == nx.ancestors(graph, slug)
        assert all(order.index(other) < i for i, one in enumerate(order) for other in graph.predecessors(one))
        assert set(built_on(graph, slug)) == {one for one in graph if slug in needed(graph, one)}
    assert needed(graph, "head-floor") == ["block-sum"]
    assert needed(graph, "generalization-tail") == ["tv-bound", "tv-mean", "tv-tail"]  # the order of the book where none is needed


def test_a_circle_is_named(changed):
    circular = changed("gradient-energy", "group them. If $A = B + C$", "group them as in {prf:ref}`head-floor`. If $A = B + C$")
    with pytest.raises(ValueError, match=r"(block-sum → head-floor|head-floor → block-sum).* Expected: no circle"):
        needed(circular, "sparsity")


@pytest.mark.parametrize("page, old, new, pair", [
    ("gradient-energy", "*Below:* {prf:ref}`pinsker`", "*Below:* Pinsker's inequality", ("risk-sandwich", "pinsker")),
    ("architecture", "By {prf:ref}`block-sum` the blocks", "By the block sum the blocks", ("mlp-structure", "block-sum")),
    ("mini-batch-sgd", " From energy to risk leads {prf:ref}`risk-sandwich`.", "", ("sgd-energy", "risk-sandwich")),
], ids=["Pinsker", "block sum", "statement"])
def test_a_name_without_its_reference_is_found(changed, page, old, new, pair):
    assert unnamed(changed(page, old, new)) == [pair]


def test_blocks_of_a_chapter(tmp_path):
    statement = "```{prf:lemma} A name\n:label: one\n\nWords.\n```\n"
    proof = "````{prf:proof}\nSee {prf:ref}`two`.\n```{dropdown} More\nAnd more.\n```\n````"
    cells = [nbformat.v4.new_markdown_cell(statement + "\nBetween.\n\n" + proof), nbformat.v4.new_markdown_cell(statement)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "chapter.ipynb")
    first, second = blocks(tmp_path / "chapter.ipynb")
    assert first[:3] == second[:3] == ("one", "lemma", "A name") and "And more" in first.proof and second.proof == ""
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(proof)]), tmp_path / "chapter.ipynb")
    with pytest.raises(ValueError, match="one proof, after its statement"):
        list(blocks(tmp_path / "chapter.ipynb"))
