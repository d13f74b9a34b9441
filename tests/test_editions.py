"""The two editions: nothing of a solution in the student's, all of it in the instructor's, and both run as handed out."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from packaging.requirements import Requirement
from sitemap import ROOT

import export
from editions import REQUIREMENTS, without_solutions, write
from make_assignments import NAMES
from notebooks import chapters, exercises, pieces

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Both editions, written once -> {edition: its folder}."""
    out = {edition: tmp_path_factory.mktemp("editions") / edition for edition in ("student", "instructor")}
    for edition, folder in out.items():
        assert write(edition, folder) == folder.with_suffix(".zip")
    return out


def phrases(text):
    """The lines of a text that are long enough to be told apart."""
    return {line.strip() for line in text.split("\n") if len(line.strip()) > 30}


def everything(notebook):
    """All that a notebook shows or hides."""
    outputs = (str(output) for cell in notebook.cells for output in cell.get("outputs", ()))
    return "\n".join([*(cell.source for cell in notebook.cells), *outputs])


def shown(piece, path):
    """A piece of a chapter as the editions have it."""
    if piece.cell.cell_type == "code":
        return piece.text
    page = path.relative_to(ROOT / "book").with_suffix("").as_posix()
    return export.Page(page, export.read_book()).markdown(piece.text)


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_student_edition_has_all_but_the_solutions(path, folders):
    source = nbformat.read(path, 4)
    student = nbformat.read(folders["student"] / path.relative_to(ROOT), 4)
    nbformat.validate(student)
    text = everything(student)
    assert not re.search(r"[Ss]olution to|\bsol-|-solution", text)
    kept = {"prose", "code", "exercise"}
    elsewhere = set().union(*(phrases(shown(piece, path)) for piece in pieces(source) if piece.kind in kept))
    for piece in pieces(source):
        if piece.kind == "solution":
            for phrase in phrases(shown(piece, path)) - elsewhere:
                assert phrase not in text, f"{piece.exercise.label}: {phrase}"
        else:
            assert shown(piece, path).split("\n", 1)[-1] in text
    ids = [cell.id for cell in student.cells]
    assert len(ids) == len(set(ids))
    cells = {cell.id: cell.source for cell in student.cells}
    for exercise in exercises(source):
        assert f'<a id="{exercise.label}"></a>' in text
        assert cells.get(f"{exercise.label}-check") == exercise.self_check
        assert f"{exercise.label}-answer" in cells
    if any(exercise.self_check for exercise in exercises(source)):
        assert any("import check_answer" in cell.source for cell in student.cells if cell.cell_type == "code")


def test_instructor_edition_is_the_book(folders):
    for path in chapters():
        page = path.relative_to(ROOT / "book").with_suffix("").as_posix()
        whole = export.plain(nbformat.read(path, 4), page, export.read_book(), advice=export.EDITION)
        assert nbformat.read(folders["instructor"] / path.relative_to(ROOT), 4) == whole


def test_editions_hold_the_assignments(folders):
    for edition, folder in folders.items():
        names = {path.name for path in (folder / "book" / "assignments").iterdir()}
        assert names == {f"{name}{end}" for name in NAMES
                         for end in [".ipynb", *(["-solution.ipynb", "-autograder.zip"] if edition == "instructor" else [])]}
    for name in NAMES:
        handed_out = everything(nbformat.read(folders["student"] / "book" / "assignments" / f"{name}.ipynb", 4))
        assert 'grader.check("q1")' in handed_out and "SOLUTION" not in handed_out and "BEGIN" not in handed_out


def test_an_edition_installs_what_its_notebooks_import(folders):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [line.split("#")[0] for line in REQUIREMENTS.splitlines() if re.match(r"\w", line)] + project["dependencies"]
    called = {"otter-grader": "otter", "scikit-learn": "sklearn", "ipython": "IPython"}
    installed = {called.get(name, name) for name in (Requirement(line).name for line in lines)}
    installed |= {"clt_utils", *sys.stdlib_module_names}
    for path in sorted(folders["instructor"].rglob("*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))):
                    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                        [node.module] if isinstance(node, ast.ImportFrom) else [])
                    assert not (missing := {module.split(".")[0] for module in modules} - installed), (
                        f"Given: {missing}, imported in {path.name}. Expected: in the requirements of the editions, tools/editions.py.")


@pytest.mark.parametrize("edition", ["student", "instructor"])
def test_folder_and_zip_hold_what_one_needs(edition, folders):
    folder = folders[edition]
    names = {str(path.relative_to(folder.parent)) for path in folder.rglob("*") if path.is_file()}
    with zipfile.ZipFile(folder.with_suffix(".zip")) as archive:
        assert {name for name in archive.namelist() if not name.endswith("/")} == names
    wanted = {"README.md", "requirements.txt", "pyproject.toml", "clt_utils/answers.json", "clt_utils/ledger/core.py",
              "book/results/lenet-digits.json"}
    assert {f"{edition}/{name}" for name in wanted} <= names
    assert not [name for name in names if "__pycache__" in name]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", readme):
        assert (folder / link).is_file(), link
    assert ("with solutions" in readme or "and solutions" in readme) == (edition == "instructor")


def test_a_student_notebook_runs_and_checks_answers(folders):
    """As handed out, with the folder's own package: unanswered first, then with a right and a wrong answer filled in."""
    folder = folders["student"]
    notebook = nbformat.read(folder / "book" / "foundations" / "divergences.ipynb", 4)
    checks = [cell for cell in notebook.cells if cell.id.endswith("-check")]
    assert len(checks) >= 3
    right, wrong = (next(cell for cell in checks if label in cell.source) for label in ("ex-why-half", "ex-conditioning"))
    right.source = right.source.replace("...", "1 / 1.28")
    wrong.source = wrong.source.replace("...", "1")   # in bits instead of nats
    where = new_code_cell("import clt_utils\nprint(clt_utils.__file__)")
    notebook.cells.append(where)
    env = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder / "book" / "foundations")}}).execute(env=env)
    said = {cell.id: "".join(output["text"] for output in cell.outputs) for cell in checks}
    assert said[right.id] == "ex-why-half: right.\n"
    assert said[wrong.id].startswith("ex-conditioning: not yet.") and "nats" in said[wrong.id]
    others = [text for name, text in said.items() if name not in (right.id, wrong.id)]
    assert all(text.endswith(": put your answer in place of the dots.\n") for text in others)
    assert str(folder) in where.outputs[0]["text"]


def test_command_writes_an_edition(tmp_path, folders):
    """In a repository of its own, so that it does not touch what `make student` wrote."""
    for name in ("_toc.yml", "_config.yml", "clt_utils", "book"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "tools").mkdir()
    for path in (ROOT / "tools").glob("*.py"):
        shutil.copy(path, tmp_path / "tools")
    shutil.copytree(ROOT / "_build" / "assignments", tmp_path / "_build" / "assignments")  # made before, or by the tests above
    done = subprocess.run([sys.executable, tmp_path / "tools" / "editions.py", "student"], text=True, capture_output=True, check=True)
    assert done.stdout == "The student edition is written to _build/student/ and _build/student.zip.\n"
    assert (tmp_path / "_build" / "student.zip").is_file() and not (tmp_path / "_build" / "instructor").exists()
    with pytest.raises(ValueError, match="'student' or 'instructor'"):
        write("teacher", tmp_path / "x")


EXERCISE = "```{exercise} Prove: A\n:label: ex-a\n\nShow it.\n```\n"


@pytest.mark.parametrize("cells, complaint", [
    ([EXERCISE + "```{solution} ex-b\nNo.\n```"], "follows its exercise"),
    (["```{solution} ex-a\nNo.\n```"], "follows its exercise"),
    ([EXERCISE + "```{solution-start} ex-a\n```\nYes."], "no end of the solution"),
    (["```{exercise} Prove: A\n:label: ex-a\n\nShow it."], "without its closing"),
], ids=["another exercise", "no exercise", "no end", "not closed"])
def test_broken_directives_are_refused(cells, complaint):
    with pytest.raises(ValueError, match=complaint):
        without_solutions(new_notebook(cells=[new_markdown_cell(text) for text in cells]))


def test_solutions_of_every_form_go():
    """Backticks or colons, a fence inside a fence, prose and code between start and end, text after them."""
    cells = [new_markdown_cell("Before.\n\n" + EXERCISE + "````{solution} ex-a\n:class: dropdown\n\n"
                               "SECRET\n```{note}\nSECRET\n```\nSECRET\n````\n\nBetween.\n\n"
                               ":::{exercise} Compute: B\n:label: ex-b\n\nSelf-check: $x$ in `check_answer(\"ex-b\", [..., ...])`.\n:::\n\n"
                               ":::{solution-start} ex-b\n:::\nSECRET"),
             new_code_cell("SECRET = 1"), new_markdown_cell("SECRET\n\n:::{solution-end}\n:::\n\nAfter."), new_code_cell("x = 1")]
    student = without_solutions(new_notebook(cells=cells))
    assert [cell.source.split("\n")[0] for cell in student.cells] == [
        "Before.", "```{exercise} Prove: A", "**Your answer**", "Between.", ":::{exercise} Compute: B", "**Your answer**",
        'check_answer("ex-b", [..., ...])', "After.", "x = 1"]
    assert "SECRET" not in everything(student)
