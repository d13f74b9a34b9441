"""Habits that a change must keep: style, types, documented public functions, clean notebooks, one list of dependencies."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import strip_notebooks
import yaml

import clt_utils

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]

NOTEBOOKS = sorted(path for path in (ROOT / "book").rglob("*.ipynb") if not {".ipynb_checkpoints", "_build"} & set(path.parts))
MODULES = [name for _, name, _ in pkgutil.walk_packages(clt_utils.__path__, "clt_utils.")]


@pytest.mark.parametrize("command", [["ruff", "check"], ["mypy"]], ids=lambda command: command[0])
def test_tool_is_silent(command):
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def public_functions(module):
    """(name, function) of what a module defines for others, methods included; the ledger's entries are typed by their decorator."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing):
            for method, function in vars(thing).items():
                function = function.fget if isinstance(function, property) else getattr(function, "__func__", function)
                if inspect.isfunction(function) and function.__module__ == module.__name__ and not method.startswith("_"):
                    yield f"{name}.{method}", function


@pytest.mark.parametrize("name", [name for name in MODULES if not re.fullmatch(r"clt_utils\.(_.+|ledger\.(?!core|instances).+)", name)])
def test_public_functions_have_types_and_docstrings(name):
    for where, function in public_functions(importlib.import_module(name)):
        signature = inspect.signature(function)
        bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
        assert not bare, f"{name}.{where}: no type for {bare}"
        assert signature.return_annotation is not inspect.Signature.empty, f"{name}.{where}: no type for what it returns"
        assert inspect.getdoc(function) or isinstance(function, property), f"{name}.{where}: no docstring"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_clean(path):
    text = path.read_text(encoding="utf-8")
    assert strip_notebooks.stripped(text).rstrip() == text.rstrip(), "run tools/strip_notebooks.py on it"


def test_stripping_removes_what_nobody_compares():
    import nbformat.v4 as nbf

    def cell(tags):
        output = nbf.new_output("stream", text="kept?")
        return nbf.new_code_cell("print('kept?')", execution_count=7, outputs=[output], metadata={"tags": tags})

    notebook = nbf.new_notebook(cells=[cell([]), cell([strip_notebooks.COMPARED])], metadata={"widgets": {"state": 1}})
    plain, compared = nbf.reads(strip_notebooks.stripped(nbf.writes(notebook))).cells
    assert (plain.outputs, plain.execution_count) == ([], None)
    assert (compared.outputs[0].text, compared.execution_count) == ("kept?", 1)
    assert "widgets" not in nbf.reads(strip_notebooks.stripped(nbf.writes(notebook))).metadata


def test_requirements_install_what_the_package_needs():
    def name_and_range(line):
        return re.match(r"([\w.-]+)(.*)", re.sub(r"\[.*?\]|\s|;.*|#.*", "", line)).groups()

    lines = (ROOT / "requirements.txt").read_text().splitlines()
    installed = dict(name_and_range(line) for line in lines if re.match(r"\w", line))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, bounds in map(name_and_range, project["dependencies"]):
        assert installed.get(name) == bounds, f"{name}{bounds} in pyproject.toml, {installed.get(name)} in requirements.txt"


def test_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes = re.search(r"^## (\d\S*),", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert project["version"] == str(citation["version"]) == changes
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_contributing_example_runs(tmp_path):
    """The page on how to add a statement is run as it stands: its example must hold, and its counterexample must break it."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Add a statement")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    from clt_utils.ledger import breaks, check, core, instances, statements

    names = {**vars(core), "normal": instances.normal, "check": check, "breaks": breaks}
    try:
        for block in blocks:
            exec(block, names)
        assert check("mean-gradient-below-energy").holds
        assert not any(broken.result.holds for broken in breaks("mean-gradient-below-energy"))
    finally:
        statements.pop("mean-gradient-below-energy", None)


def test_licences_are_there():
    assert "BSD 3-Clause License" in (ROOT / "LICENSE").read_text()
    assert "Attribution 4.0 International" in (ROOT / "LICENSE-TEXT").read_text()
