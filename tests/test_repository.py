"""What the repository must neither lose nor gain unnoticed: tests that run, cells that are compared, files that somebody uses."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
import yaml
from compared_cells import LIST, compared_cells
from sitemap import CHAPTERS, ROOT

from clt_utils.sweeps import ON_A_GPU, SWEEPS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1_500_000
KNOWN_TAG = re.compile(r"nbval-check-output|remove-cell|paper-figures?-[\d-]+")
TEXT = {".py", ".md", ".rst", ".ipynb", ".yml", ".json", ".bib", ".css", ".js", ".html"}


def kept_files():
    """Every file of the repository but those that .gitignore names."""
    ignored = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines())]
    kept = lambda name: not any(fnmatch(name, pattern) for pattern in ignored)
    for folder, folders, names in os.walk(ROOT):
        folders[:] = filter(kept, folders)
        yield from (Path(folder, name) for name in filter(kept, names))


# ---- tests that run

@cache
def python_files():
    """Every Python file with its syntax tree."""
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
            for path in kept_files() if path.suffix == ".py"]


def test_tests_are_where_pytest_looks_for_them():
    for name, tree in python_files():
        lost = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
        assert not lost or re.fullmatch(r"tests/test_\w+\.py", name), (
            f"Given: {lost[0]} in {name}, where pytest does not look. Expected: tests in tests/test_*.py. "
            "Rename the file, or move the test.")


def unused(tree, used):
    """Functions and classes of a file of tests that pytest does not collect and that nobody names."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    looks = [node for node in classes if any(getattr(child, "name", "").startswith("test") for child in node.body)]
    for node in [*tree.body, *(child for look in looks for child in look.body)]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            collected = node.name.startswith("Test" if isinstance(node, ast.ClassDef) else "test")
            fixture = any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
            hook = node.name.startswith("pytest_")  # pytest refuses one that it does not know
            if not (collected or fixture or hook or node.name in used):
                yield node.name


def test_every_test_is_collected():
    """pytest passes without a word over a test whose function or class has a name that it does not look for."""
    trees = [(name, tree) for name, tree in python_files() if name.startswith("tests/")]
    nodes = [node for _, tree in trees for node in ast.walk(tree)]
    used = {getattr(node, "id", getattr(node, "attr", None)) for node in nodes if isinstance(node, (ast.Name, ast.Attribute))}
    used |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    for name, tree in trees:
        lost = list(unused(tree, used))
        assert not lost, (f"Given: {', '.join(lost)} in {name}, which pytest does not collect and nobody uses. "
                          "Expected: test_… for a function, Test… for a class. Rename it, or delete it.")
        for scope in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
            counts = Counter(node.name for node in scope.body if isinstance(node, ast.FunctionDef))
            twice = [test for test, count in counts.items() if count > 1]
            assert not twice, f"Given: {twice} more than once in {name}: only the last one runs. Expected: names that differ."


def test_every_page_with_code_is_a_notebook_that_runs_as_a_test(pytestconfig):
    skipped = pytestconfig.getini("norecursedirs")
    for page in CHAPTERS:
        text = ROOT / "book" / f"{page}.md"
        assert page == "intro" or not text.exists() or "{code-cell}" not in text.read_text(encoding="utf-8"), (
            f"Given: code in {page}.md. Expected: an .ipynb, since nbval runs nothing else; only the first page draws its picture itself.")
        assert not any(fnmatch(part, pattern) for part in page.split("/")[:-1] for pattern in skipped), (
            f"Given: {page}, in a folder that pytest does not enter. Expected: a folder with another name than {skipped}.")
    notebooks = {path.relative_to(ROOT / "book").with_suffix("").as_posix() for path in kept_files() if path.suffix == ".ipynb"}
    lost = [name for name in notebooks - set(CHAPTERS) if not name.startswith("teach/assignments/")]
    assert not lost, f"Given: notebooks in no table of contents: {sorted(lost)}. Expected: each in _toc.yml. Enter it there, or delete it."


# ---- cells that are compared

def test_no_compared_cell_is_lost():
    listed, found = LIST.read_text(encoding="utf-8").split(), list(compared_cells())
    lost, new = [cell for cell in listed if cell not in found], [cell for cell in found if cell not in listed]
    assert not lost, (f"Given: cells whose output is compared no more: {', '.join(lost)}. Expected: the tag nbval-check-output, and an "
                      "output. Put them back; if you mean it, run `python tools/compared_cells.py`.")
    assert not new, (f"Given: compared cells that are not listed: {', '.join(new)}. Expected: all in {LIST.relative_to(ROOT)}. "
                     "Run `python tools/compared_cells.py`.")


def test_no_cell_asks_not_to_be_run_or_compared():
    for path in kept_files():
        for cell in nbformat.read(path, 4).cells if path.suffix == ".ipynb" else ():
            strange = [tag for tag in cell.metadata.get("tags", []) if not KNOWN_TAG.fullmatch(tag)]
            strange += re.findall(r"(?:NBVAL|PYTEST_VALIDATE)_\w+", cell.source)
            assert not strange, (f"Given: {strange} on the cell {cell.id} of {path.name}. Expected: only tags like {KNOWN_TAG.pattern}. "
                                 "Take it out.")


# ---- references

CHECKED = {"abstract", "title", "proved here", "others say so"}
"""How it was checked that a work says what it is cited for; book/references.md explains the words."""


def test_every_reference_is_checked_or_says_that_it_is_not():
    """An entry has ``checked``, or a note that its readers see; whoever adds one from memory has neither."""
    for entry in re.split(r"^@", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        key, found = re.search(r"\{(.+?),", entry)[1], re.findall(r"^  (checked|note) = \{(.+)\}", entry, flags=re.MULTILINE)
        assert len(found) == 1 and (found[0][0] == "note" or found[0][1] in CHECKED), (
            f"Given: {key} with {found or 'neither checked nor note'} in book/references.bib. Expected: checked = {{…}}, "
            f"one of {sorted(CHECKED)}, after author, title, year and venue were compared with a public bibliography; or a note that says "
            "what could not be read.")


# ---- files that somebody uses

def test_the_folder_of_extensions_holds_the_extensions_of_the_settings():
    """Each is loaded from there, and what is run by hand or by make stands in tools/."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]
    loaded = {f"{name}.py" for name in settings["local_extensions"]}
    there = {path.name for path in kept_files() if path.parent == ROOT / "book" / "_ext"}
    assert there == loaded and set(settings["local_extensions"]) <= set(settings["config"]["extensions"]), (
        f"Given: {sorted(there ^ loaded)} in only one of book/_ext/ and _config.yml. Expected: Sphinx extensions, each named there under "
        "local_extensions and extensions. Name it there; a script or what it reads moves to tools/.")


def test_what_the_script_for_a_gpu_names_is_there():
    """It runs where nobody can mend it: a machine that is borrowed for minutes."""
    script = ROOT / "benchmarks" / "gpu.sh"
    words = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK), f"Given: {script}, which cannot be run. Expected: chmod +x."
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert checked.returncode == 0, f"Given: {script}, which bash cannot read: {checked.stderr}"
    named = set(re.findall(r"(?:benchmarks|tests|book)(?:/[\w.-]+)+\.(?:py|sh|ipynb)", words))
    lost = [name for name in named if not (ROOT / name).exists()]
    assert named and not lost, f"Given: {lost} in {script}. Expected: files that are there. Name others."
    for module in set(re.findall(r"-m (clt_utils\.\w+)", words)) | set(re.findall(r"from (clt_utils\.\w+) import", words)):
        assert find_spec(module), f"Given: {module} in {script}. Expected: a module of the package."
    options = set(re.findall(r'^ {8}(--[a-z]+)\)', words, re.M)) | {"--quick"}
    refused = subprocess.run([script, "--nonsense"], capture_output=True, text=True)
    assert refused.returncode == 2 and all(option in refused.stderr for option in options), (
        f"Given: {refused.stderr!r} from {script}. Expected: a refusal that names {sorted(options)}.")


def test_the_script_for_a_gpu_carries_all_that_the_package_and_the_tests_of_devices_import():
    words = (ROOT / "benchmarks" / "gpu.sh").read_text(encoding="utf-8")
    carried = set(re.search(r"#\s+numpy [\s\S]+?\n#\n", words)[0].replace("\\", " ").replace("#", " ").split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.match(r"[\w-]+", name)[0] for name in project["dependencies"]}
    lost = needed - carried - {"torch", "torchvision", "cycler"}  # the machine's own; and what matplotlib brings along
    assert not lost, f"Given: {sorted(lost)}, which the package imports. Expected: in the list of wheels in benchmarks/gpu.sh. Add them."


def test_no_file_is_large():
    for path in kept_files():
        size = path.stat().st_size
        assert size <= MAX_BYTES, (
            f"Given: {path.relative_to(ROOT)} of {size:,} bytes. Expected: at most {MAX_BYTES:,}: everybody who clones the book gets it, "
            "for ever. Compute it instead, or keep it in a folder that .gitignore names.")


def test_every_record_belongs_to_a_sweep_or_a_benchmark():
    benchmarks = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.py"))
    for path in (ROOT / "book" / "results").iterdir():
        assert path.suffix == ".json" and (path.stem in SWEEPS or path == ON_A_GPU or path.name in benchmarks), (
            f"Given: book/results/{path.name}. Expected: the record of a sweep of clt_utils/sweeps.py or of a benchmark, or runs of sweeps "
            "on a GPU. Declare its sweep, or delete it.")


def test_every_picture_and_download_is_used():
    files = list(kept_files())
    static, words = ROOT / "book" / "_static", [path.read_text(encoding="utf-8") for path in files if path.suffix in TEXT]
    for path in files:
        loaded = path.suffix in ({".css", ".js"} if path.parent == static else TEXT)  # the pages load all of our styles and scripts
        if ROOT / "book" in path.parents and not loaded:
            assert any(path.name in text for text in words), (
                f"Given: {path.relative_to(ROOT)}, which no other file names. Expected: files that are used. Delete it.")
