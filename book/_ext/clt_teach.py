"""What the pages for teachers state as facts, computed at every build: times, points, slides, and the weeks of the course."""

import functools
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from clt_slides import FIGURE
from clt_slides import NAMES as DECKS
from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata
from sphinx_exercise.nodes import exercise_subtitle

from clt_book import ROOT, counted, duration, generated, table, time_to_read
from make_assignments import BUILT, NAMES, questions
from notebooks import parts, read_notebook

TEACH = ROOT / "book" / "teach"
SESSION = 90  # minutes; each session of the plan adds up to it

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> ExtensionMetadata:
    for name, build in (("course-plan", course_plan), ("chapter-times", chapter_times), ("slide-decks", slide_decks),
                        ("assignment-list", assignment_list), ("grading-times", grading_times)):
        generated(app, name, build)
    app.connect("doctree-resolved", time_script)
    app.connect("build-finished", hand_out)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# ---- slides

@functools.cache
def deck(name: str) -> dict[str, str]:
    """The slides of a deck, by their headings, in their order."""
    slides = re.split(r"^---$", (TEACH / "slides" / f"{name}.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.findall(r"^##? (.+)$", slide, re.MULTILINE)[0]: slide for slide in slides}


def slide_link(app: Sphinx, docname: str, name: str, words: str, number: int = 1) -> nodes.Node:
    """A link to a slide, counted from 1; plain words where there is no website."""
    if app.builder.format != "html":
        return nodes.Text(words)
    back = "../" * (docname.count("/") - 1)
    return nodes.reference("", words, internal=True, refuri=f"{back}slides/{name}.html" + f"#/{number - 1}" * (number > 1))


def slide_decks(app: Sphinx, docname: str) -> nodes.table:
    """The decks, with the number of their slides and the weeks that use them."""
    rows = []
    for name in DECKS:
        used = [str(number) for number, week in enumerate(weeks(), 1) if week["deck"] == name]
        rows.append([[slide_link(app, docname, name, name.title())], [nodes.Text(str(len(deck(name))))], [nodes.Text(", ".join(used))]])
    return table(("Slides", "How many", "In weeks"), rows, "slide-decks", "cards")


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
                         [nodes.Text(time_to_read(app.env, chapter))], [nodes.Text(ran)]])
    return table(("Chapter", "Part", "To read", "To run"), rows, "chapter-times", "cards")


def page_link(app: Sphinx, docname: str, page: str) -> nodes.reference:
    return make_refnode(app.builder, docname, page, "", nodes.Text(app.env.titles[page].astext()))


# ---- the course

class Part(NamedTuple):
    """A part of a session: minutes, its heading in the script, headings of slides, labels of statements."""

    minutes: int
    heading: str
    slides: list[str]
    statements: list[str]


@functools.cache
def weeks() -> list[dict[str, Any]]:
    """The plan, its parts as ``Part``."""
    plan = yaml.safe_load((TEACH / "course-plan.yml").read_text(encoding="utf-8"))
    for session in (session for week in plan for session in week["sessions"]):
        session["parts"] = [Part(*part) for part in session["parts"]]
    return plan


def slides_of(week: dict[str, Any], part: Part) -> list[int]:
    """The numbers, from 1 on, of the slides of a part: those it names, and those that link to one of its statements."""
    marks = [f"#{label})" for label in part.statements]
    return [number for number, (heading, slide) in enumerate(deck(week["deck"]).items(), 1)
            if heading in part.slides or any(mark in slide for mark in marks)]


def complaints(number: int, week: dict[str, Any], script: list[tuple[str, list[str]]]) -> list[str]:
    """What the plan of a week says that its script or its slides do not: sessions, parts, minutes, slides.

    Args:
        number: Of the week, from 1.
        week: Its entry in the plan.
        script: Headings of the sessions in the script, each with those of its parts.
    """
    found = []
    planned = [(session["title"], [part.heading for part in session["parts"]]) for session in week["sessions"]]
    if [(title.partition(". ")[2], headings) for title, headings in script] != planned:
        found.append(f"week {number}: the script has the parts {script}, course-plan.yml has {planned}")
    for session in week["sessions"]:
        minutes = sum(part.minutes for part in session["parts"])
        if minutes != SESSION:
            found.append(f"week {number}, {session['title']}: {minutes} minutes, a session has {SESSION}")
        for part in session["parts"]:
            found += [f"week {number}, {part.heading}: no slide {heading!r} in {week['deck']}.md"
                      for heading in part.slides if heading not in deck(week["deck"])]
    return found


def has_slider(slide: str) -> bool:
    """Whether a slide shows a figure with sliders."""
    for chapter, cell_id in FIGURE.findall(slide):
        for cell in read_notebook(ROOT / "book" / f"{chapter}.ipynb").cells:
            if cell.id == cell_id and "explore(" in cell.source:
                return True
    return False


def course_plan(app: Sphinx, docname: str) -> nodes.table:
    """The weeks, from course-plan.yml: what to read and how long that takes, sessions, lab, assignment."""
    rows = []
    for number, week in enumerate(weeks(), 1):
        page = f"teach/scripts/week-{number:02}"
        titles = "; ".join(session["title"] for session in week["sessions"])
        rows.append([
            [nodes.strong("", str(number)), nodes.Text(" "), make_refnode(app.builder, docname, page, "", nodes.Text(week["topic"]))],
            [*listed(page_link(app, docname, page) for page in week["read"]), nodes.Text(f", {time_to_read(app.env, *week['read'])}")],
            [nodes.Text(titles)],
            [nodes.Text(f"{week['lab']} "), *exercises(app, docname, week["exercises"])],
            [nodes.Text(week.get("assignment", "–"))],
        ])
    return table(("Week and script", "Read before", "Two sessions", "Lab", "Assignment"), rows, "course-plan", "cards")


def time_script(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Write minutes, slides and sliders under the headings of a script, and under its lab what to hand in."""
    match = re.fullmatch(r"teach/scripts/week-(\d+)", docname)
    if not match:
        return
    number = int(match[1])
    week = weeks()[number - 1]
    top = next(iter(doctree.findall(nodes.section)))
    sessions = [node for node in top.children if isinstance(node, nodes.section)]
    inner = [[node for node in session.children if isinstance(node, nodes.section)] for session in sessions]
    script = [(heading_of(session), [heading_of(part) for part in parts]) for session, parts in zip(sessions, inner, strict=True)]
    for complaint in complaints(number, week, script):
        logger.warning("course-plan.yml: %s", complaint, location=docname)
    headings = [part.heading for session in week["sessions"] for part in session["parts"]]
    last_work = next((heading for heading in reversed(headings) if heading.startswith("Lab")), week["sessions"][-1]["parts"][0].heading)
    for session, found in zip(week["sessions"], inner, strict=False):
        begin = 0
        for part, section in zip(session["parts"], found, strict=False):
            words: list[nodes.Node] = [nodes.strong("", f"Minute {begin} to {begin + part.minutes}")]
            begin += part.minutes
            for slide in slides_of(week, part):
                moves = has_slider(list(deck(week["deck"]).values())[slide - 1])
                words += [nodes.Text(" · "), slide_link(app, docname, week["deck"], f"slide {slide}" + ", a slider" * moves, slide)]
            section.insert(1, nodes.paragraph("", "", *words, classes=["part-facts"]))
            if part.heading == last_work:
                section += nodes.paragraph("", "", nodes.strong("", "Hand in."), nodes.Text(f" {week['hand_in']}"))


def heading_of(section: nodes.Element) -> str:
    return next(iter(section.findall(nodes.title))).astext()


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
