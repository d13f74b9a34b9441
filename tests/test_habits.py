"""Habits that a change must keep: style, types, documented public functions, clean notebooks, one list of dependencies."""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import strip_notebooks
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import clt_utils
from notebooks import notebook_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clt_utils"

MODULES = [name for _, name, _ in pkgutil.walk_packages(clt_utils.__path__, "clt_utils.")]


@pytest.mark.parametrize("command", [["ruff", "check"], ["mypy"]], ids=lambda command: command[0])
def test_tool_is_silent(command):
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def imported(path):
    """The modules of the package that a file of it imports, by their first names."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clt_utils."):
            yield node.module.split(".")[1]


def test_modules_import_only_from_the_lines_above_their_own():
    """The package's own words say in which order its modules stand; what begins with an underscore serves all."""
    lines = re.findall(r"^    (\w+(?:, \w+)*)  ", clt_utils.__doc__, re.M)
    line_of = {name: number for number, line in enumerate(lines, 1) for name in line.split(", ")}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if not name.startswith("_"):
            assert name in line_of, (f"Given: {name}, which the first words of clt_utils/__init__.py do not name. Expected: every module "
                                     "in one of its lines, below all that it imports. Enter it there.")
            others = [other for other in imported(path) if not other.startswith("_") and other != name]
            high = [other for other in others if line_of.get(other, 0) >= line_of[name]]
            assert not high, (f"Given: {path.relative_to(ROOT)} imports {', '.join(high)}. Expected: imports from the lines above its own "
                              "in clt_utils/__init__.py. Move what it needs to where both find it.")


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


def lines_of_code(function):
    """How many lines a function has, its docstring left out: that is read on the website as well."""
    words = ast.get_docstring(function, clean=False)
    return function.end_lineno - function.lineno + 1 - (len(words.splitlines()) if words else 0)


def test_functions_can_be_read_without_scrolling():
    long = [f"{path.relative_to(ROOT)}:{node.lineno} {node.name}, {lines_of_code(node)} lines"
            for folder in (PACKAGE, ROOT / "book/_ext", ROOT / "tools") for path in sorted(folder.rglob("*.py"))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and lines_of_code(node) >= 40]
    assert not long, f"Given: {long}. Expected: fewer than 40 lines of code a function. Take a part out and give it a name."


@pytest.mark.parametrize("path", notebook_files(), ids=lambda path: path.stem)
def test_notebook_is_kept_clean(path):
    text = path.read_text(encoding="utf-8")
    assert strip_notebooks.stripped(text).rstrip() == text.rstrip(), "run tools/strip_notebooks.py on it"


def test_stripping_removes_what_nobody_compares():
    import nbformat.v4 as nbf

    def cell(tags):
        output = nbf.new_output("stream", text="kept?")
        return nbf.new_code_cell("print('kept?')", execution_count=7, outputs=[output], metadata={"tags": tags})

    notebook = nbf.new_notebook(cells=[cell([]), cell([strip_notebooks.COMPARED])], metadata={"widgets": {"state": 1}})
    compared = notebook.cells[1]
    compared.outputs = [nbf.new_output("stream", text=piece) for piece in ("ke", "pt?")]  # printed at once, and broken by the kernel
    compared.outputs += [nbf.new_output("stream", name="stderr", text="warned")]
    plain, compared = nbf.reads(strip_notebooks.stripped(nbf.writes(notebook))).cells
    assert (plain.outputs, plain.execution_count) == ([], None)
    assert ([output.text for output in compared.outputs], compared.execution_count) == (["kept?", "warned"], 1)
    assert "widgets" not in nbf.reads(strip_notebooks.stripped(nbf.writes(notebook))).metadata


# Listed in pyproject.toml though nothing imports them: what each is used by, and the words there that use it.
USED_WITHOUT_IMPORT = {
    "jupyter-book": ("Makefile", "jupyter-book build"),
    "jupyterlab": ("Makefile", "jupyter lab"),
    "jupyterlab-myst": ("Makefile", "jupyterlab-myst"),
    "uv": ("Makefile", "uv pip compile"),
    "pytest-xdist": ("Makefile", "-n $(CORES)"),
    "nbval": ("Makefile", "--nbval-lax"),
    "myst-parser": ("_config.yml", "myst_enable_extensions"),
    "sphinx-book-theme": ("_config.yml", "sphinx_book_theme"),
    "sphinx-proof": ("_config.yml", "sphinx_proof"),
    "sphinx-design": ("_config.yml", "sphinx_design"),
    "sphinxcontrib-bibtex": ("_config.yml", "sphinxcontrib.bibtex"),
    "sphinx-mathjax-offline": ("book/_ext/clt_light.py", "sphinx-mathjax-offline"),
    "ipykernel": ("book/intro.md", "make lab"),  # the kernel that every chapter names
    "pre-commit": ("CONTRIBUTING.md", ".venv/bin/pre-commit install"),
    "ruff": ("tests/test_habits.py", '["ruff", "check"]'),
    "mypy": ("tests/test_habits.py", '["mypy"]'),
    "deptry": ("tests/test_habits.py", '"deptry"'),
    "zizmor": ("tests/test_habits.py", '"zizmor"'),
    "check-jsonschema": ("tests/test_habits.py", '"check_jsonschema"'),
}


def test_what_is_imported_is_listed_and_what_is_listed_is_used():
    """deptry compares imports with pyproject.toml, in both directions; what is used by name is looked up where it is named."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lists = [configuration["project"]["dependencies"], *configuration["project"]["optional-dependencies"].values()]
    listed = {Requirement(line).name for lines in lists for line in lines}
    for name, (path, words) in USED_WITHOUT_IMPORT.items():
        used = words in (ROOT / path).read_text(encoding="utf-8")
        assert used, f"Given: {path} without {words!r}. Expected: a use of {name}. Take it from pyproject.toml and from this list."
        assert name in listed, f"Given: {path} uses {name}, which pyproject.toml does not list. List it, or take out the use."

    roots = ["clt_utils", "book", "tests", "benchmarks", *configuration["tool"]["pytest"]["ini_options"]["pythonpath"]]
    elsewhere = configuration["tool"]["deptry"]["per_rule_ignores"]["DEP001"]
    ignored = f"DEP001={'|'.join(elsewhere)},DEP002={'|'.join(USED_WITHOUT_IMPORT)}"
    result = subprocess.run([sys.executable, "-m", "deptry", "--no-ansi", "--per-rule-ignores", ignored, *roots],
                            cwd=ROOT, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, (
        "Given: imports and dependencies that differ, below. Expected: pyproject.toml lists what is imported and nothing else. List what "
        "is missing (DEP001, DEP003) with a word on what it is for; take out what nothing uses (DEP002), or say what does in "
        f"USED_WITHOUT_IMPORT.\n{result.stdout}{result.stderr}")

    extras = ",".join(configuration["project"]["optional-dependencies"])
    result = subprocess.run([sys.executable, "-m", "deptry", "--no-ansi", "--optional-dependencies-dev-groups", extras, "clt_utils"],
                            cwd=ROOT, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, (
        "Given: the package imports what only an extra installs, below. Expected: `dependencies` in pyproject.toml lists all that it "
        f"imports, because Binder and Colab install no extras.\n{result.stdout}{result.stderr}")


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_exact_versions_fit_the_ranges(python):
    """constraints.txt has one version of all that pyproject.toml lists, for each Python and system, and nothing else."""
    texts = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    strange = [text for text in texts if not re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", text)]
    assert not strange, (f"Given: {strange} in constraints.txt. Expected: `name==version`, and a marker where it is not for all. "
                         "Run `make upgrade`.")
    lines = list(map(Requirement, texts))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [Requirement(line) for line in sum(project["optional-dependencies"].values(), project["dependencies"])]
    for system, kind in {"linux": "posix", "darwin": "posix", "win32": "nt"}.items():
        there = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": system, "os_name": kind}
        exact = {}
        for line in lines:
            if line.marker is None or line.marker.evaluate(there):
                assert exact.setdefault(canonicalize_name(line.name), line) is line, f"constraints.txt has {line.name} twice on {system}"
        for wanted in listed:
            if wanted.marker is None or wanted.marker.evaluate(there):
                given = exact.get(canonicalize_name(wanted.name))
                assert given and wanted.specifier.contains(str(given.specifier)[2:]), (
                    f"Given: {given} in constraints.txt on {system}. Expected: {wanted}. Run `make upgrade`.")


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("command", [
    [str(Path(sys.executable).with_name("zizmor")), "--offline", "--no-progress", "--persona", "auditor", ".github"],
    [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)],
    [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml"],
], ids=["zizmor", "workflows", "dependabot"])
def test_the_forge_is_told_what_it_understands_and_no_more_than_it_needs(command):
    """No network is asked: zizmor looks for too many rights and actions that are not pinned, the schemas come with their package."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_is_there(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items():
        assert job["timeout-minutes"] <= 90, f"{path.name}: job {name} may run for hours"
        for step in job["steps"]:
            run = step.get("run", "")
            for target in re.findall(r"make (\w+)", run):
                assert re.search(rf"^{target}\b.*:", makefile, re.MULTILINE), f"{path.name}: `make {target}`, which Makefile does not know"
            for file in re.findall(r"\b(?:tests|tools)/\w+\.py|\w+\.txt", run):
                assert (ROOT / file).exists(), f"{path.name}: {file}, which is not there"
    pins = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    assert all(re.fullmatch(r".+@[0-9a-f]{40}", action) and re.fullmatch(r" # v\d+\.\d+\.\d+", word) for action, word in pins), pins


@pytest.mark.skipif(shutil.which("bash") is None, reason="runs a step of a workflow for Linux")
@pytest.mark.parametrize(("url", "here"), [('""', "no"), ('"https://forge.example/a/book"', "yes"), ("https://forge.example/a/book", "yes"),
                                           ('"https://forge.example/a/book2"', "no"), ('"https://forge.example/fork/book"', "no")])
def test_the_site_is_published_from_its_address_alone(tmp_path, url, here):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
    step = workflow["jobs"]["address"]["steps"][-1]
    config = re.sub(r"(?m)^  url: .*", f"  url: {url}", (ROOT / "_config.yml").read_text(encoding="utf-8"))
    (tmp_path / "_config.yml").write_text(config, encoding="utf-8")
    output = tmp_path / "output"
    environment = os.environ | {"HERE": "https://forge.example/a/book", "GITHUB_OUTPUT": str(output)}
    subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, check=True)
    assert output.read_text(encoding="utf-8") == f"here={here}\n", "pages.yml builds the site where it must not, or not where it should"
    assert workflow["jobs"]["build"]["needs"] == "address" and "outputs.here == 'yes'" in workflow["jobs"]["build"]["if"]


def test_texts_are_read_and_written_as_utf_8():
    """Without the word `encoding` Windows takes another one, and a Greek letter becomes two strange ones."""
    bare = []
    for path in sorted(path for folder in ("clt_utils", "book", "tests", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                binary = any(isinstance(part, ast.Constant) and "b" in str(part.value) for part in call.args[1:2])
                text = name in ("read_text", "write_text") or (isinstance(call.func, ast.Name) and name == "open" and not binary)
                if text and not any(keyword.arg == "encoding" for keyword in call.keywords):
                    bare.append(f"{path.relative_to(ROOT)}, line {call.lineno}: {name}")
    assert not bare, "\n".join(["Given: texts without an encoding. Expected: encoding=\"utf-8\" in each of these calls.", *bare])


def test_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = re.search(r"^## (\d\S*),", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert project["version"] == str(citation["version"]) == changes
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def contributing_code(title):
    """The blocks of Python in a section of CONTRIBUTING.md."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split(f"## {title}")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_contributing_example_runs():
    """The page on how to add a statement is run as it stands: its example must hold, and its counterexample must break it."""
    blocks = contributing_code("Add a statement")
    from clt_utils.ledger import breaks, check, gradient_energy, statements

    names = {**vars(gradient_energy), "check": check, "breaks": breaks}  # the file that the page names
    try:
        for block in blocks:
            exec(block, names)
        assert check("mean-gradient-below-energy").holds
        assert not any(broken.result.holds for broken in breaks("mean-gradient-below-energy"))
    finally:
        statements.pop("mean-gradient-below-energy", None)


def test_contributing_example_of_a_layer_rule_runs(monkeypatch):
    """Its rule is used, and gives what autograd gives without it."""
    import torch

    from clt_utils.structure import rules, structure_matrix

    [block] = contributing_code("Add a layer rule")
    exec(block, names := dict(vars(rules)))
    torch.manual_seed(0)
    model, inputs = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.LogSoftmax(-1)).double(), torch.randn(4, 5, dtype=torch.float64)
    expected, used = structure_matrix(model, inputs), []
    monkeypatch.setitem(rules.RULES, "LogSoftmaxBackward0", lambda *given: used.append(given) or names["log_softmax"](*given))
    found = structure_matrix(model, inputs, verify="none")
    assert used, "Given: a rule in CONTRIBUTING.md that its model does not use. Expected: one of a node of that model. Correct its name."
    assert torch.allclose(found, expected, rtol=1e-10), (
        "Given: a rule in CONTRIBUTING.md that disagrees with autograd. Expected: a true one. Correct it there.")


def test_contributing_example_of_a_data_set_runs(monkeypatch, tmp_path):
    """Its test is run on its reader; where it is red, correct the one or the other in CONTRIBUTING.md."""
    import numpy as np

    from clt_utils import data

    reader, test = contributing_code("Add a data set")
    exec(reader, names := {**vars(data), "np": np})
    monkeypatch.setitem(data.READERS, "shapes", names["_shapes"])
    monkeypatch.setattr(data, "NAMES", tuple(data.READERS))
    exec(test, names := {"data": data, "np": np})
    names["test_shapes_from_their_file"](tmp_path)


def test_contributing_example_of_a_sweep_can_be_declared():
    from clt_utils import sweeps

    [entry] = contributing_code("Add a sweep")
    [sweep] = eval(f"[{entry}]", dict(vars(sweeps)))
    assert len(sweep.configs()) == 8 and sweep.name not in sweeps.SWEEPS


def test_licences_are_there():
    assert "BSD 3-Clause License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Attribution 4.0 International" in (ROOT / "LICENSE-TEXT").read_text(encoding="utf-8")
