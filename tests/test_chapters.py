"""What every chapter owes its readers: an opening in one form, and graded exercises with solutions and self-checks, one of them open."""

import re

import nbformat
import pytest
from sitemap import ROOT

from clt_utils.exercises import load_answers, verdict
from notebooks import GRADES, chapters, exercises

CHAPTERS = chapters()
NAMES = [str(path.relative_to(ROOT / "book").with_suffix("")) for path in CHAPTERS]
OPENING = re.compile(r"\A# .+\n\n```\{chapter-facts\}\n(?::gpu: .+\n)?```\n"
                     r"[\s\S]*^\*\*You will be able to\*\*[\s\S]*\*\*You need\*\* ", re.M)
CHECKED = re.compile(r'^check_answer\("(ex-[a-z0-9-]+)", (?!\.\.\.|\[\.\.\.)', re.M)
WIDTH = 84  # columns of code that a page shows before it hides the rest
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)


@every_chapter
def test_opens_in_one_form(path):
    """Title, facts (minutes to read and to run, GPU), the question, what you will be able to do, what you need."""
    first = next(cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    assert OPENING.match(first.source), first.source


@every_chapter
def test_has_graded_exercises_with_solutions(path):
    found = exercises(nbformat.read(path, 4))
    assert len(found) >= 5, f"{len(found)} exercises"
    for exercise in found:
        assert re.fullmatch(r"ex-[a-z0-9-]+", exercise.label), exercise.title
        assert re.fullmatch(rf"({'|'.join(GRADES)}): \S.+", exercise.title), f"{exercise.label}: {exercise.title}"
        assert len("".join(exercise.solution)) > 20, f"{exercise.label} has no solution"
    grades = {exercise.grade for exercise in found}
    assert len(grades) >= 3, grades
    assert "Open" in grades, f"{path.stem} has {sorted(grades)} and no Open question; its solution would say what is known"


@every_chapter
def test_solutions_make_the_self_checks_that_exercises_ask_for(path):
    """Each call in an exercise has its like in the solution, in a cell that nbval compares with "right."."""
    notebook = nbformat.read(path, 4)
    for exercise in exercises(notebook):
        asked = [exercise.label] if exercise.self_check else []
        assert [label for code in exercise.solution for label in CHECKED.findall(code)] == asked, exercise.label
        assert ("check_answer" in exercise.text) == bool(asked), f"{exercise.label}: write the self-check in the usual form"
    for cell in notebook.cells:
        if cell.cell_type == "code" and (labels := CHECKED.findall(cell.source)):
            assert "nbval-check-output" in cell.metadata.get("tags", [])
            assert all(f"{label}: right.\n" in cell.outputs[0]["text"] for label in labels), cell.id


@every_chapter
def test_code_is_no_wider_than_the_page_shows(path):
    for cell in nbformat.read(path, 4).cells:
        for number, line in enumerate(cell.source.split("\n") if cell.cell_type == "code" else (), 1):
            assert len(line) <= WIDTH, (
                f"Given: {path.stem}, cell {cell.id!r}, line {number}: {len(line)} columns, {line.strip()!r}. Expected: at most {WIDTH}, "
                "for the page hides what is beyond. Break the line within its outermost brackets, or name a part of it first; a comment "
                "goes on the line above.")


def test_labels_are_unique_over_the_book_and_answers_belong_to_exercises():
    found = [exercise for path in CHAPTERS for exercise in exercises(nbformat.read(path, 4))]
    labels = [exercise.label for exercise in found]
    assert sorted(labels) == sorted(set(labels))
    answers = load_answers()
    assert {exercise.label for exercise in found if exercise.self_check} == set(answers)
    for label, answer in answers.items():
        assert answer["hint"] and answer["hint"][-1] in ".?", label
        assert set(answer) <= {"hint", "digits", "counts", "kind", "salt", "hashes"}, label
        assert all(re.fullmatch(r"[0-9a-f]{16}", digest) for digest in answer["hashes"]), label


def test_answers_are_compared_closely_enough():
    """To three digits; to two where the exercise says so, because its answer comes from a simulation."""
    answers = load_answers()
    for exercise in (exercise for path in CHAPTERS for exercise in exercises(nbformat.read(path, 4)) if exercise.self_check):
        digits, wanted = answers[exercise.label]["digits"], 2 if "to two digits" in exercise.text else 3
        assert digits >= wanted, (f"Given: {exercise.label}, compared to {digits} digits. Expected: {wanted}. Set `digits` in "
                                  "clt_utils/answers.json, and record the chapter with `python -m clt_utils.exercises record`.")


def test_hints_give_no_answer_away():
    for label, answer in load_answers().items():
        first = {**answer, "hashes": answer["hashes"][:1]}
        for number in re.findall(r"\d+(?:\.\d+)?", answer["hint"]) if answer["kind"] == "number" else ():
            assert verdict(first, float(number)) != "right.", f"{label}: {number}"
