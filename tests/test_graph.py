"""The graph of statements: its arrows are the references in the proofs, none is missing, and it leads round in no circle."""

import math
import re
from xml.etree import ElementTree

import nbformat
import networkx as nx
import pytest
from clt_graph import BLOCK, KNOWN, LABEL, STATUS, Box, blocks, built_on, drawing, graph_of_statements, in_order, needed, status, unnamed
from clt_map import REFERENCE
from sitemap import SITE, html, parsed
from test_browser import PHONE, browser, visit

from clt_utils.ledger import statements
from notebooks import ROOT, chapters, pieces, read_notebook

assert browser, visit  # fixtures
SVG = "{http://www.w3.org/2000/svg}"


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


def test_known_elsewhere_is_what_the_chapter_says():
    """The list is by hand; what it says of a statement, a reference or a word near the statement must bear out."""
    assert statements.keys() >= KNOWN
    for slug in KNOWN:
        assert not re.match(r"(Theorem|Lemma|Proposition|Definition)", statements[slug].paper), f"{slug}: {statements[slug].paper}"
        text = "\n\n".join(cell.source for cell in nbformat.read(ROOT / "book" / f"{statements[slug].chapter}.ipynb", 4).cells
                           if cell.cell_type == "markdown")
        at = text.index(f":label: {slug}\n")
        near = text[max(text.rfind("\n## ", 0, at), 0):text.find(":label: ", at + 10) if text.find(":label: ", at + 10) > 0 else None]
        assert re.search(r"\{cite|[Cc]lassical|[Ss]tandard|folklore|well known", near), (
            f"Given: {slug} among what is known elsewhere. Expected: the chapter says from where, near the statement.")
    found = {status({"slug": slug, "paper": entry.paper}) for slug, entry in statements.items()}
    assert found == set(STATUS)


def test_picture_has_every_statement_and_line_and_shows_status_and_strength(graph):
    boxes = {slug: Box(f"1.{i}", f"Theorem 1.{i} {slug}", f"statements.html#{slug}", i % 4, i / 100 if i % 2 else math.nan)
             for i, slug in enumerate(graph)}
    svg = ElementTree.fromstring(drawing(graph, boxes, STATUS))
    assert svg.get("role") == "group" and f"{len(graph)} boxes" in svg.get("aria-label")
    links = {link.get("data-slug"): link for link in svg.iter(f"{SVG}a")}
    assert list(links) == list(graph)
    assert {(path.get("data-from"), path.get("data-to")) for path in svg.iter(f"{SVG}path")} == set(graph.edges)
    places = set()
    for slug, box in boxes.items():
        rect, bar = links[slug].find(f"{SVG}rect"), links[slug].find(f"{SVG}line")
        assert (links[slug].get("href"), links[slug].get("aria-label")) == (box.href, box.words)
        assert rect.get("class") == f"status-{box.status}" and (bar is None) == math.isnan(box.strength)
        if bar is not None:
            assert float(bar.get("x2")) - float(bar.get("x1")) == pytest.approx(box.strength * float(rect.get("width")), abs=0.06)
        places.add((rect.get("x"), rect.get("y")))
    assert len(places) == len(graph)
    left, _, width, _ = map(float, svg.get("viewBox").split())
    xs = [float(point.split()[0]) for path in svg.iter(f"{SVG}path") for point in re.findall(r"-?[\d.]+ [\d.]+", path.get("d"))]
    assert left <= min(xs) and max(xs) <= left + width


@pytest.mark.site
def test_page_says_the_graph_in_words(graph):
    def slugs(node):
        return [link["href"].removeprefix("#") for link in node.find_all("a")] if node else []

    for slug in graph:
        entry = parsed(html("statements")).find(id=slug)
        facts = {term.text: term.find_next_sibling("dd") for term in entry.find_all("dt")}
        assert set(slugs(facts["Rests on"])) == set(graph.predecessors(slug))
        assert set(slugs(facts["Used in proofs of"])) == set(graph.successors(slug))
        orders = {order.summary.text: slugs(order.ol) for order in entry.find_all("details")}
        for question, answer in (("prove this", needed(graph, slug)), ("rests on it", built_on(graph, slug))):
            found = [order for summary, order in orders.items() if question in summary]
            assert found == ([answer] if len(answer) > 1 else []), f"{slug}: {question}"


def places_of_references(path):
    """(statement, heading or exercise above a reference to it), outside of statements, proofs and the section that states it."""
    found, home, heading = set(), {}, ""
    for piece in pieces(read_notebook(path)):
        if piece.kind in ("exercise", "solution") and piece.cell.cell_type == "markdown":
            found |= {(slug, piece.exercise.label) for slug in REFERENCE.findall(piece.text)}
        elif piece.kind == "prose":
            for line in BLOCK.sub(lambda block: "\n".join(LABEL.findall(block[0])[:1]), piece.text).split("\n"):
                heading = line.lstrip("# ") if re.match(r"##+ ", line) else heading
                home |= {line: heading} if line in statements else {}
                found |= {(slug, heading) for slug in REFERENCE.findall(line)}
    plain = lambda words: re.sub(r"\$|\\(?=min)|[{}]", "", words).replace(r"\gamma", "γ")
    return {(slug, plain(place)) for slug, place in found if slug in statements and place and home.get(slug) != place}


@pytest.mark.site
def test_where_statements_are_used_is_what_the_chapters_say():
    page = parsed(html("statements"))
    said = {}
    for slug in statements:
        term = next(term for term in page.find(id=slug).find_all("dt") if term.text == "Used in the text")
        for link in term.find_next_sibling("dd").find_all("a"):
            chapter, _, anchor = link["href"].partition(".html#")
            said.setdefault(chapter, set()).add((slug, anchor if anchor.startswith("ex-") else link.text))
    for path in chapters():
        chapter = str(path.relative_to(ROOT / "book").with_suffix(""))
        here = {(slug, place) for slug, place in said.get(chapter, ()) if not re.match(r"\d+ ", place)}  # a number: the whole chapter
        assert here == places_of_references(path), chapter


@pytest.mark.site
def test_filter(visit):
    shown = visit(html("statements").as_uri())
    seen = lambda: shown.evaluate("[...document.querySelectorAll('.statement-entry')].filter(e => e.checkVisibility()).map(e => e.id)")
    said, words = shown.locator(".statement-filter output"), shown.get_by_label("Words")
    assert said.inner_text() == f"{len(statements)} of {len(statements)} statements" and len(seen()) == len(statements)
    words.focus()
    shown.keyboard.type("HEAD-floor")
    assert seen() == ["head-floor"] and said.inner_text() == f"1 of {len(statements)} statements"
    assert not shown.locator("#statements-of-conjugates").is_visible(), "a chapter without a statement shown"
    assert not shown.locator("#foundations").is_visible() and shown.locator("#trainability").is_visible(), "parts, too"
    assert set(shown.get_by_label("Status").locator("option").all_inner_texts()) == {"all", *STATUS}
    words.fill("")
    shown.get_by_label("Part").select_option("Practice")
    shown.get_by_label("Status").select_option("known elsewhere")
    assert seen() == [slug for slug, entry in statements.items() if entry.chapter.startswith("practice/") and slug in KNOWN]
    shown.evaluate("location.hash = '#head-floor'")
    shown.wait_for_function("document.getElementById('head-floor').checkVisibility()")
    assert len(seen()) == len(statements), "a link to a hidden entry takes the filter away"
    assert shown.errors == []


@pytest.mark.site
def test_index_without_script_shows_everything_and_fits(browser):
    for viewport in (PHONE, {"width": 1100, "height": 800}):
        context = browser.new_context(java_script_enabled=False, viewport=viewport)
        page = context.new_page()
        page.goto((SITE / "statements.html").as_uri())
        assert not page.locator(".statement-filter").is_visible()
        assert page.locator(".statement-entry:visible").count() == len(statements)
        context.close()
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    page = context.new_page()
    page.goto((SITE / "statements.html").as_uri())
    wide = page.evaluate("""() => [...document.querySelectorAll('.bd-article *')].filter(node => node.checkVisibility()
        && (node.getBoundingClientRect().right > innerWidth
            || node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX === 'auto'))
        .map(node => node.outerHTML.slice(0, 100))""")
    assert wide == []
    context.close()


@pytest.mark.site
def test_map_of_statements_by_keyboard(visit, graph):
    shown = visit(html("teach/map").as_uri())
    box = shown.locator("svg.statement-map a[data-slug=head-floor]")
    box.focus()
    on = {node.get_attribute("data-slug") for node in shown.locator("svg.statement-map a.on").all()}
    assert on == {"head-floor", *needed(graph, "head-floor"), *built_on(graph, "head-floor")}
    assert box.evaluate("node => parseFloat(getComputedStyle(node.querySelector('rect')).strokeWidth)") >= 4, "the focus is seen"
    shown.keyboard.press("Enter")
    shown.wait_for_url("**/statements.html#head-floor")
    assert shown.errors == []
