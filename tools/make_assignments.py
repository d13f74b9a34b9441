"""Make the assignments from their sources.

A source is a notebook with its solutions and tests, in the format of Otter Assign. From each come, under
``_build/assignments/NAME``: ``student/NAME.ipynb`` to hand out, and ``autograder/autograder.zip`` to grade with.

    python tools/make_assignments.py             generate all
    python tools/make_assignments.py --check     the same, and grade every solution: it must get all points
    python tools/make_assignments.py --record    the same, and record how long that took

``tools/grade.py`` grades what is handed in.
"""

import argparse
import json
import os
import platform
import shutil
from datetime import datetime, timezone
from pathlib import Path

from notebooks import ROOT, read_notebook

SOURCES = ROOT / "book" / "teach" / "assignments"
BUILT = ROOT / "_build" / "assignments"
RECORD = SOURCES / "grading.json"
NAMES = ("foundations", "trainability", "generalization", "practice")


def questions(name: str) -> dict[str, dict]:
    """Title, points and points that visible tests give, of every question of a source, by its number "q1", "q2", ..."""
    found: dict[str, dict] = {}
    question: dict = {}
    for cell in read_notebook(SOURCES / f"{name}.ipynb").cells:
        if cell.source.startswith("# BEGIN QUESTION"):
            entries = dict(line.split(": ", 1) for line in cell.source.splitlines()[1:])
            question = found[entries["name"]] = {"points": int(entries["points"]), "shown": 0, "title": ""}
        elif question and not question["title"] and cell.source.startswith("## "):
            question["title"] = cell.source.splitlines()[0].split(". ", 1)[1]
        elif "hidden: false" in cell.source:
            question["shown"] += int(cell.source.split("points: ")[1].split()[0])
    return found


def generate(name: str, folder: Path = BUILT) -> Path:
    """Write the student's notebook and the autograder of an assignment; the folder that holds both."""
    from otter.assign import main  # here, because it takes seconds

    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    main(str(SOURCES / f"{name}.ipynb"), str(target), no_pdfs=True, no_run_tests=True)
    (archive,) = (target / "autograder").glob("*.zip")
    archive.rename(archive.with_name("autograder.zip"))  # Otter puts the time into the name
    return target


def grade_solutions() -> dict[str, dict]:
    """Grade every solution with its own autograder -> points and seconds of each."""
    from grade import Room, grade  # here, because it needs this module

    graded = {}
    with Room() as room:
        for name in NAMES:
            result = grade(BUILT / name / "autograder" / f"{name}.ipynb", room, seconds=3600)
            if result.status != "graded" or result.total != result.possible:
                raise SystemExit(f"Given: the solution of {name} with {result.total:g} of {result.possible:g} points, {result.status}. "
                                 f"{result.remark} Expected: all of them. Look at "
                                 f"{[q for q, r in result.questions.items() if r['failed']]} in its source.")
            graded[name] = {"points": int(result.possible), "seconds": result.seconds}
    return graded


def record(graded: dict[str, dict]) -> None:
    """Keep what ``grade_solutions`` found, and on what it was measured, for the instructor's guide."""
    content = {"graded": graded, "cores": os.cpu_count(), "python": platform.python_version(),
               "date": f"{datetime.now(timezone.utc):%Y-%m-%d}"}
    RECORD.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the assignments from their sources.")
    parser.add_argument("--check", action="store_true", help="grade the solutions, which must get all points")
    parser.add_argument("--record", action="store_true", help="the same, and record how long it took")
    options = parser.parse_args(arguments)
    for name in NAMES:
        points = sum(question["points"] for question in questions(name).values())
        print(f"{name}: {points} points, in {generate(name)}")
    if options.check or options.record:
        graded = grade_solutions()
        for name, seen in graded.items():
            print(f"{name}: the solution gets all {seen['points']} points, graded in {seen['seconds']:g} s")
        if options.record:
            record(graded)


if __name__ == "__main__":
    main()
