"""What the pages for teachers state as facts, computed at every build: times, points, slides, and the weeks of the course."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import yaml
from clt_slides import NAMES as DECKS
from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata
from sphinx_exercise.nodes import exercise_subtitle

from clt_book import ROOT, counted, duration, generated, minutes_to_read, table
from make_assignments import BUILT, NAMES, questions
from notebooks import parts

TEACH = ROOT / "book" / "teach"
MINUTES_A_SLIDE = 3  # with questions to the class; the guide says so

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> ExtensionMetadata:
    for name, build in (("course-plan", course_plan), ("chapter-times", chapter_times), ("slide-decks", slide_decks),
                        ("assignment-list", assignment_list), ("grading-times", grading_times)):
        generated(app, name, build)
    app.connect("build-finished", hand_out)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# ---- slides

def headings(deck: str) -> list[str]:
    """The headings of a deck's slides, in their order."""
    slides = re.split(r"^---$", (TEACH / "slides" / f"{deck}.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.findall(r"^##? (.+)$", slide, re.MULTILINE)[0] for slide in slides]


def slide_link(app: Sphinx, deck: str, words: str, number: int = 1) -> nodes.Node:
    """A link to a slide, counted from 1; plain words where there is no website."""
    if app.builder.format != "html":
        return nodes.Text(words)
    return nodes.reference("", words, internal=True, refuri=f"slides/{deck}.html" + f"#/{number - 1}" * (number > 1))


def slide_decks(app: Sphinx, docname: str) -> nodes.table:
    """The decks, with the number of their slides and about how long they last."""
    rows = []
    for deck in DECKS:
        count = len(headings(deck))
        rows.append([[slide_link(app, deck, deck.title())], [nodes.Text(str(count))],
                     [nodes.Text(counted(count * MINUTES_A_SLIDE, "minute"))]])
    return table(("Slides", "How many", f"At {MINUTES_A_SLIDE} minutes a slide"), rows, "slide-decks", "cards")


# ---- assignments

def assignment_list(app: Sphinx, docname: str) -> nodes.table:
    """The assignments: what they ask, the points, and the notebook to hand out."""
    rows = []
    for i, name in enumerate(NAMES, 1):
        asked = questions(name)
        words = "; ".join(f"{question['title']} ({question['points']})" for question in asked.values())
        link = nodes.Text(f"{name}.ipynb")
        if app.builder.format == "html":
            link = nodes.reference("", f"{name}.ipynb", internal=True, refuri=f"assignments/{name}.ipynb")
        rows.append([[nodes.Text(f"{i}. {name.title()}")], [nodes.Text(words)],
                     [nodes.Text(str(sum(question["points"] for question in asked.values())))], [link]])
    return table(("Part", "Questions (points)", "Points", "Student's notebook"), rows, "assignment-list", "cards")


def hand_out(app: Sphinx, error: Exception | None) -> None:
    """Put the students' notebooks beside the page that links to them."""
    if error or app.builder.format != "html" or "teach/index" not in app.env.all_docs:
        return
    target = Path(app.outdir, "teach", "assignments")
    target.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        source = BUILT / name / "student" / f"{name}.ipynb"
        if source.exists():
            shutil.copyfile(source, target / source.name)
        else:
            logger.warning("no %s for the site: run `make assignments` first", source.relative_to(ROOT))


def grading_times(app: Sphinx, docname: str) -> nodes.table:
    """What it takes to grade, as recorded."""
    seen = json.loads((TEACH / "assignments" / "grading.json").read_text(encoding="utf-8"))
    rows = [[[nodes.Text(name.title())], [nodes.Text(str(entry["points"]))], [nodes.Text(f"{entry['seconds']:.0f}")],
             [nodes.Text(counted(40 * entry["seconds"] / 60, "minute"))]] for name, entry in seen["graded"].items()]
    return table(("Assignment", "Points of the solution", "Seconds a submission", "Forty submissions"), rows, "grading-times", "cards",
                 caption=f"Recorded on {seen['date']} with {seen['cores']} CPU cores, one submission at a time.")


# ---- times

def chapter_times(app: Sphinx, docname: str) -> nodes.table:
    """Minutes to read, time to run, exercises and slides of every chapter."""
    rows = []
    for part, chapters in parts().items():
        for chapter in chapters:
            run = NbMetadataCollector.get_exec_data(app.env, chapter)
            ran = duration(run["runtime"]) if run and run["runtime"] is not None else "not run in this build"
            rows.append([[page_link(app, docname, chapter)], [nodes.Text(part)],
                         [nodes.Text(counted(minutes_to_read(app.env.get_doctree(chapter)), "minute"))], [nodes.Text(ran)]])
    return table(("Chapter", "Part", "To read", "To run"), rows, "chapter-times", "cards")


def page_link(app: Sphinx, docname: str, page: str) -> nodes.reference:
    return make_refnode(app.builder, docname, page, "", nodes.Text(app.env.titles[page].astext()))


# ---- the course

def course_plan(app: Sphinx, docname: str) -> nodes.table:
    """The weeks, from course-plan.yml: what to read and how long that takes, lab, slides, assignment."""
    rows = []
    for number, week in enumerate(yaml.safe_load((TEACH / "course-plan.yml").read_text(encoding="utf-8")), 1):
        minutes = sum(minutes_to_read(app.env.get_doctree(page)) for page in week["read"])
        rows.append([
            [nodes.strong("", str(number)), nodes.Text(f" {week['topic']}")],
            [*listed(page_link(app, docname, page) for page in week["read"]), nodes.Text(f", {counted(minutes, 'minute')}")],
            [nodes.Text(f"{week['lab']} "), *exercises(app, docname, week["exercises"])],
            span(app, number, *week["slides"]),
            [nodes.Text(week.get("assignment", "–"))],
        ])
    return table(("Week", "Read before", "Lab", "Slides", "Assignment"), rows, "course-plan", "cards")


def span(app: Sphinx, week: int, deck: str, first: str, last: str) -> list[nodes.Node]:
    """The slides of a week, named by their headings, as numbers that are links."""
    found = headings(deck)
    for heading in (first, last):
        if heading not in found:
            logger.warning("course-plan.yml, week %d: no slide %r in %s.md", week, heading, deck)
            return [nodes.Text("–")]
    start, end = found.index(first) + 1, found.index(last) + 1
    return [slide_link(app, deck, f"{deck.title()} {start}–{end}", start)]


def exercises(app: Sphinx, docname: str, labels: list[str]) -> list[nodes.Node]:
    """Links to exercises, by their labels."""
    registry = getattr(app.env, "sphinx_exercise_registry", {})
    links = []
    for label in labels:
        if label not in registry:
            logger.warning("course-plan.yml: no exercise %s", label)
            continue
        entry = registry[label]
        words = re.sub(r"^\w+: ", "", next(iter(entry["node"].findall(exercise_subtitle))).astext())
        links.append(make_refnode(app.builder, docname, entry["docname"], label, nodes.Text(words)))
    return [nodes.Text("Exercises: "), *listed(links)] if links else []


def listed(links: Iterable[nodes.Node]) -> list[nodes.Node]:
    """Inline nodes with commas between them."""
    links = list(links)
    return [node for link in links for node in (link, nodes.Text(", "))][:-1]

