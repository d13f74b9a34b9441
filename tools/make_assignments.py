"""Make the assignments from their sources, and grade with them.

A source is a notebook with its solutions and tests, in the format of Otter Assign. From each come, under
``_build/assignments/NAME``: ``student/NAME.ipynb`` to hand out, and ``autograder/autograder.zip`` to grade with.

    python tools/make_assignments.py                     generate all
    python tools/make_assignments.py --check             the same, and grade every solution: it must get all points
    python tools/make_assignments.py --record            the same, and record how long that took
    python tools/make_assignments.py --grade NAME FILES  grade submissions; one line each, details beside them
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
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


def grade(submission: Path, autograder: Path) -> dict:
    """Run a submission and its tests: no container, no network, no database.

    Args:
        submission: A notebook.
        autograder: The zip file that ``generate`` made.

    Returns:
        "total" and "possible" points, and under "questions" for each the points and a message for every test that failed.
    """
    from otter.api import grade_submission

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results = grade_submission(str(submission), str(autograder), quiet=True)
    by_question = {}
    for name, file in results.results.items():
        failed = [r.test_case.failure_message or "" for r in file.test_case_results if not r.passed]
        by_question[name] = {"points": file.score, "possible": file.possible, "failed": failed}
    return {"total": results.total, "possible": results.possible, "questions": by_question}


def grade_solutions() -> dict[str, dict]:
    """Grade every solution with its own autograder -> points and seconds of each."""
    graded = {}
    for name in NAMES:
        started = time.perf_counter()
        result = grade(BUILT / name / "autograder" / f"{name}.ipynb", BUILT / name / "autograder" / "autograder.zip")
        if result["total"] != result["possible"]:
            raise SystemExit(f"Given: the solution of {name} with {result['total']:g} of {result['possible']:g} points. Expected: all of "
                             f"them. Look at {[q for q, r in result['questions'].items() if r['failed']]} in its source.")
        graded[name] = {"points": int(result["possible"]), "seconds": round(time.perf_counter() - started, 1)}
    return graded


def record(graded: dict[str, dict]) -> None:
    """Keep what ``grade_solutions`` found, and on what it was measured, for the instructor's guide."""
    content = {"graded": graded, "cores": os.cpu_count(), "python": platform.python_version(),
               "date": f"{datetime.now(timezone.utc):%Y-%m-%d}"}
    RECORD.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the assignments from their sources, and grade with them.")
    parser.add_argument("--check", action="store_true", help="grade the solutions, which must get all points")
    parser.add_argument("--record", action="store_true", help="the same, and record how long it took")
    parser.add_argument("--grade", metavar="NAME", choices=NAMES, help="grade submissions of this assignment")
    parser.add_argument("files", nargs="*", type=Path, help="submissions to grade")
    options = parser.parse_args(arguments)
    if options.grade:
        autograder = BUILT / options.grade / "autograder" / "autograder.zip"
        if not autograder.exists():
            sys.exit(f"Given: no {autograder}. Expected: the built assignments. Run `make assignments` first.")
        for file in options.files:
            result = grade(file, autograder)
            file.with_suffix(".graded.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(f"{file}: {result['total']:g} of {result['possible']:g} points")
        return
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
