"""The index of statements: made from the ledger and from what the chapters label, which must agree, and from the graph of both."""

import functools
import hashlib
import html
import inspect
import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import networkx as nx
from clt_graph import built_on, graph_of, mentions, needed, page_name, statement_number, status, strength
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata

from clt_book import ROOT, fingerprint, generated, machine
from notebooks import parts

logger = logging.getLogger(__name__)
TRIALS = 20  # a look at every build; the tests run each statement's own number
PROVED = {"axiom", "conjecture", "corollary", "criterion", "lemma", "property", "proposition", "theorem"}


def setup(app: Sphinx) -> ExtensionMetadata:
    generated(app, "statement-filter", statement_filter)
    for part in parts():
        generated(app, f"statements-of-{part.lower().replace(' ', '-')}", functools.partial(statements_of, part))
    app.connect("builder-inited", check_statements)
    app.connect("env-check-consistency", compare)
    app.connect("html-collect-pages", source_pages)
    app.connect("html-page-context", add_script)
    app.connect("doctree-resolved", link_to_index)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}


def check_statements(app: Any) -> None:
    """Check every statement of the ledger, once for each state of the package."""
    this = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    cache = Path(app.outdir).parent / ".ledger" / f"{fingerprint()}-{this}.json"
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
        cache.write_text(json.dumps({"date": today, "machine": machine(), "entries": survey()}), encoding="utf-8")
    app.ledger_survey = json.loads(cache.read_text(encoding="utf-8"))
    app.ledger = app.ledger_survey["entries"]
    for entry in app.ledger:
        if not entry["check"]["holds"]:
            logger.warning("the check of the statement `%s` fails", entry["slug"])
        for dropped, broken in entry["counterexamples"]:
            if not broken:
                logger.warning("the counterexample of `%s` does not break it: %s", entry["slug"], dropped)


def survey() -> list[dict[str, Any]]:
    """What the index says about each statement of the ledger -> list of dicts, in the order of the book."""
    from clt_utils.ledger import statements  # here, because it loads torch

    entries = []
    for entry in statements.values():
        result = entry.check(0, entry.trials if entry.draws_at_once else min(TRIALS, entry.trials))
        path, line = inspect.getsourcefile(entry.run) or "", inspect.getsourcelines(entry.run)[1]
        entries.append({
            "slug": entry.slug, "title": entry.title, "kind": entry.kind, "paper": entry.paper, "chapter": entry.chapter,
            "check": {"holds": result.holds, "worst_slack": result.worst_slack, "tightness": result.tightness,
                      "strength": result.strength, "trials": result.trials},
            "loose": list(dict.fromkeys(entry.loose.values())),
            "counterexamples": [(dropped, not broken.holds) for dropped, broken in entry.broken(0)],
            "source": (str(Path(path).relative_to(ROOT).with_suffix("")), line),
        })
    return entries


def compare(app: Any, env: BuildEnvironment) -> None:
    """Warn where chapters and ledger disagree; a build with warnings fails."""
    ledger = {entry["slug"]: entry for entry in app.ledger}
    labelled = getattr(env, "proof_list", {})
    for slug, place in labelled.items():
        if slug not in ledger and place["realtype"] in PROVED:
            logger.warning("the %s `%s` has no entry in the ledger", place["realtype"], slug, location=place["docname"])
    for slug, entry in ledger.items():
        place = labelled.get(slug)
        if place and place["docname"] != entry["chapter"]:
            logger.warning("`%s` is in another chapter than its ledger entry says (%s)", slug, entry["chapter"],
                           location=place["docname"])
        elif not place and entry["chapter"] in env.all_docs:
            logger.warning("the chapter does not label `%s`, which the ledger says it proves", slug, location=entry["chapter"])


# ---- the page: a filter, and an entry for each statement

def statement_filter(app: Any, docname: str) -> list[nodes.Node]:
    """The place of the filter, which filter.js makes, and when the checks ran."""
    when = f"Checked on {app.ledger_survey['date']} on {app.ledger_survey['machine']}."
    place = '<form class="statement-filter" hidden></form>'
    return [nodes.raw("", place, format="html"), nodes.paragraph("", when, classes=["checked-when"])]


def statements_of(part: str, app: Any, docname: str) -> list[nodes.Node]:
    """A section for each chapter of a part that has statements, and in it one for each statement."""
    graph, result = graph_of(app), []
    for page in parts()[part]:
        entries = [entry for entry in app.ledger if entry["chapter"] == page and entry["slug"] in graph]
        if entries:
            title = nodes.title("", "", make_refnode(app.builder, docname, page, "", nodes.Text(page_name(app, page))))
            section = nodes.section("", title, ids=[f"statements-of-{Path(page).name}"], classes=["statements-of-chapter"])
            for entry in entries:
                section += statement_entry(app, docname, graph, entry)
            result.append(section)
    return result


def statement_entry(app: Any, docname: str, graph: nx.DiGraph, entry: dict[str, Any]) -> list[nodes.Node]:
    """What the page says about one statement; its neighbours in the graph are links to their entries."""
    slug, check = entry["slug"], entry["check"]
    title = nodes.title("", "", statement_link(app, docname, slug), nodes.Text(f" {graph.nodes[slug]['name']} "), nodes.literal("", slug))
    trials = f"{'holds' if check['holds'] else 'FAILS'} in {check['trials']} trial{'s' * (check['trials'] != 1)}, "
    numbers = [f"{name} {value}" for name, value in (
        ("worst slack", number_or_dash(check["worst_slack"])), ("tightness", number_or_dash(check["tightness"])),
        ("strength", "; ".join([strength(check["strength"]), *entry["loose"]]))) if value != "–"]
    facts = [
        ("Source", [nodes.Text(status(entry) + (f": {entry['paper']}" if entry["paper"] else ""))]),
        ("Rests on", near(app, docname, graph, list(graph.predecessors(slug))) or [nodes.Text("definitions alone")]),
        ("Used in proofs of", near(app, docname, graph, list(graph.successors(slug))) or [nodes.Text("no other statement")]),
        ("Used in the text", used_in_text(app, docname, slug) or [nodes.Text("only where it stands")]),
        ("Breaks when dropped", [nodes.Text("; ".join(dropped for dropped, _ in entry["counterexamples"]) or "–")]),
        ("Check", [nodes.Text(trials), source_link(app, docname, *entry["source"]), *(nodes.Text(f"; {number}") for number in numbers)]),
    ]
    items = (nodes.definition_list_item("", nodes.term("", name), nodes.definition("", nodes.paragraph("", "", *fact)))
             for name, fact in facts)
    listed = nodes.definition_list("", *items, classes=["statement-facts"])
    section = nodes.section("", title, nodes.paragraph("", f"{entry['title']}."), listed, ids=[slug], classes=["statement-entry"])
    section += folded(app, docname, graph, "What must I prove to prove this?", needed(graph, slug))
    section += folded(app, docname, graph, "What rests on it, directly or not?", built_on(graph, slug))
    data = f'data-part="{html.escape(graph.nodes[slug]["part"])}" data-status="{status(entry)}"'
    return [nodes.raw("", f'<div class="statement" {data}>', format="html"), section, nodes.raw("", "</div>", format="html")]


def statement_link(app: Any, docname: str, slug: str) -> nodes.Node:
    """The number of a statement, which leads to its place in the book."""
    return make_refnode(app.builder, docname, app.env.proof_list[slug]["docname"], slug, nodes.Text(statement_number(app, slug)))


def entry_link(app: Any, docname: str, graph: nx.DiGraph, slug: str) -> nodes.Node:
    """Number and name of a statement, which lead to its entry on the page of all statements."""
    words = nodes.Text(f"{statement_number(app, slug)} {graph.nodes[slug]['name']}")
    return make_refnode(app.builder, docname, "statements", slug, words)


def near(app: Any, docname: str, graph: nx.DiGraph, slugs: list[str]) -> list[nodes.Node]:
    place = {slug: i for i, slug in enumerate(graph)}
    return listing([entry_link(app, docname, graph, slug) for slug in sorted(slugs, key=place.__getitem__)])


def listing(links: Sequence[nodes.Node], between: str = "; ") -> list[nodes.Node]:
    return [part for link in links for part in (nodes.Text(between), link)][1:]


def folded(app: Any, docname: str, graph: nx.DiGraph, question: str, slugs: list[str]) -> list[nodes.Node]:
    """A list of statements behind a question; nothing where it has no answer but those that stand above."""
    if len(slugs) < 2:
        return []
    items = (nodes.list_item("", nodes.paragraph("", "", entry_link(app, docname, graph, slug))) for slug in slugs)
    begin = f'<details class="statement-order"><summary>{question} {len(slugs)} statements, in an order that works</summary>'
    return [nodes.raw("", begin, format="html"), nodes.enumerated_list("", *items), nodes.raw("", "</details>", format="html")]


def used_in_text(app: Any, docname: str, slug: str) -> list[nodes.Node]:
    """Chapters with their sections and exercises, then the other pages."""
    pages: dict[str, list[nodes.Node]] = {}
    for page, anchor, name in mentions(app).get(slug, ()):
        link = make_refnode(app.builder, docname, page, anchor, nodes.Text(name or page_name(app, page)))
        if name:
            pages.setdefault(page, []).append(link)
        elif page not in pages:
            pages[page] = [link]
    lines = []
    for page, links in pages.items():
        named = links[0].astext() == page_name(app, page)
        lead = [] if named else [nodes.strong("", page_name(app, page)), nodes.Text(": ")]
        lines.append(nodes.inline("", "", *lead, *listing(links, ", ")))
    return listing(lines)


# ---- ways from the chapters to the page

def link_to_index(app: Any, doctree: nodes.document, docname: str) -> None:
    """Below each statement of the ledger a way to its entry: what it rests on, and where it is used."""
    slugs = {entry["slug"] for entry in app.ledger}
    for node in list(doctree.findall(nodes.Element)) if docname != "statements" and "statements" in app.env.all_docs else ():
        slug = next((id_ for id_ in node["ids"] if id_ in slugs), None)
        if slug and type(node).__name__.endswith("_node"):
            link = make_refnode(app.builder, docname, "statements", slug, nodes.Text("What it rests on, and where it is used"))
            node += nodes.paragraph("", "", link, classes=["statement-place"])


def add_script(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if pagename in ("statements", "teach/map"):
        app.add_js_file("filter.js", loading_method="defer")


def number_or_dash(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2g}"


# ---- the code of the checks, as pages of the site

def source_link(app: Sphinx, docname: str, module: str, line: int) -> nodes.Node:
    """A link to the line of a module's page; plain text where there are no such pages (PDF)."""
    name = f"{Path(module).name}.py:{line}"
    if app.builder.format != "html":
        return nodes.literal("", name)
    uri = app.builder.get_relative_uri(docname, f"code/{module}")
    return nodes.reference("", name, internal=True, refuri=f"{uri}#line-{line}")


def source_pages(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """One page for each module of the package, every line with an anchor, so that links to code work from anywhere."""
    written = Path(app.outdir, "code")
    for page in written.rglob("*.html"):
        if not (ROOT / page.relative_to(written)).with_suffix(".py").exists():
            page.unlink()  # of a module that is gone
    for path in sorted((ROOT / "clt_utils").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        code = app.builder.highlighter.highlight_block(path.read_text(encoding="utf-8"), "python", lineanchors="line")
        code = re.sub(r'<a id="(line-\d+)"[^>]*></a>', r'<span id="\1"></span>', code)  # a link needs words, an anchor does not
        body = f'<div class="source"><h1>{name}</h1>\n{code}</div>'
        yield f"code/{name.removesuffix('.py')}", {"title": name, "pagetitle": name, "body": body}, "page.html"
