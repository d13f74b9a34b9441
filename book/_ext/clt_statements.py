"""The index of statements: made from the ledger and from what the chapters label; the two must agree."""

import hashlib
import inspect
import json
import math
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata

from clt_book import ROOT, fingerprint, generated, machine, table

logger = logging.getLogger(__name__)
TRIALS = 20  # a look at every build; the tests run each statement's own number
PROVED = {"axiom", "conjecture", "corollary", "criterion", "lemma", "property", "proposition", "theorem"}
COLUMNS = ("Statement", "Where", "In the paper", "Check", "Worst slack", "Tightness", "Strength", "Breaks when dropped")


def setup(app: Sphinx) -> ExtensionMetadata:
    generated(app, "statement-index", statement_index)
    app.connect("builder-inited", check_statements)
    app.connect("env-check-consistency", compare)
    app.connect("html-collect-pages", source_pages)
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


def statement_index(app: Any, docname: str) -> nodes.table:
    """The table of all statements."""
    survey = app.ledger_survey
    return table(COLUMNS, [cells(app, docname, entry) for entry in app.ledger], "statement-index", "cards",
                 caption=f"Checked on {survey['date']} on {survey['machine']}.")


def cells(app: Sphinx, docname: str, entry: dict[str, Any]) -> list[list[nodes.Node]]:
    """The cells of one statement, in the order of COLUMNS, each a list of inline nodes."""
    check, slug = entry["check"], entry["slug"]
    place = getattr(app.env, "proof_list", {}).get(slug)
    title, where = nodes.Text(entry["title"]), "chapter to come"
    if place:
        title = make_refnode(app.builder, docname, place["docname"], slug, title)
        number = app.env.toc_fignumbers.get(place["docname"], {}).get(place["countertype"], {}).get(slug, ())
        where = f"{place['realtype'].title()} {'.'.join(map(str, number))}"
    status = f"{'holds' if check['holds'] else 'FAILS'} in {check['trials']} trial{'s' * (check['trials'] != 1)}"
    return [
        [title, nodes.Text(" "), nodes.literal("", slug)],
        [nodes.Text(where)],
        [nodes.Text(entry["paper"] or "not in the paper")],
        [nodes.Text(status), nodes.Text(", "), source_link(app, docname, *entry["source"])],
        [nodes.Text(number_or_dash(check["worst_slack"]))],
        [nodes.Text(number_or_dash(check["tightness"]))],
        [nodes.Text("; ".join([strength(check["strength"]), *entry["loose"]]))],
        [nodes.Text("; ".join(dropped for dropped, _ in entry["counterexamples"]) or "–")],
    ]


def strength(share: float) -> str:
    """Rounded down: what stands there passes, a little less does not."""
    return "–" if math.isnan(share) else f"{math.floor(share * 100 + 1e-6) / 100:.2f}"


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
    for path in sorted((ROOT / "clt_utils").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        code = app.builder.highlighter.highlight_block(path.read_text(encoding="utf-8"), "python", lineanchors="line")
        code = re.sub(r'<a id="(line-\d+)"[^>]*></a>', r'<span id="\1"></span>', code)  # a link needs words, an anchor does not
        body = f'<div class="source"><h1>{name}</h1>\n{code}</div>'
        yield f"code/{name.removesuffix('.py')}", {"title": name, "pagetitle": name, "body": body}, "page.html"
