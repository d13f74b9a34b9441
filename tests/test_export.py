"""Chapters in plain Markdown: nothing of MyST is left, links lead somewhere, and nobody's notes are lost.

That their numbers are those of the site is tested in test_site.py, where its pages are read anyway.
"""

import re
import subprocess
import sys

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sitemap import ROOT

import export
from notebooks import chapters, pieces, read_notebook

NAMES = [path.relative_to(ROOT / "book").with_suffix("").as_posix() for path in chapters()]
MYST = re.compile(r"\{[\w:.-]+\}`|^[> ]*(?:`{3,}|:{3,})\{.*|^[> ]*:(?:label|class|gpu):.*|^\([\w-]+\)=|\]\{[#.]", re.M)
FENCES = re.compile(r"^```\w*\n.*?^```$", re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All chapters, written once beside each other."""
    folder = tmp_path_factory.mktemp("plain")
    assert export.write(folder) == []
    return folder


@pytest.fixture(scope="module")
def book():
    return export.read_book()


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_myst_is_left(name, folder):
    notebook = nbformat.read(folder / f"{name}.ipynb", 4)
    nbformat.validate(notebook)
    text = prose(notebook)
    assert not (left := [found[0][:80] for found in MYST.finditer(FENCES.sub("", text))]), f"{left}: tools/export.py left it as it was"
    assert text.count("<details>") == text.count("</details>") == len(re.findall("<summary>[^<>$`{]+</summary>", text))
    assert text.count("```") % 2 == 0 and not re.search(r"\S</?details>|^> .*</?details>", text, re.M)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_chapter_is_lost(name, folder):
    source, notebook = read_notebook(ROOT / "book" / f"{name}.ipynb"), nbformat.read(folder / f"{name}.ipynb", 4)
    kept = [(cell.id, cell.source, cell.outputs) for cell in notebook.cells if cell.cell_type == "code" and cell.id != "open-here"]
    assert kept == [(cell.id, cell.source, cell.outputs) for cell in source.cells if cell.cell_type == "code"]
    words = lambda text: re.findall(r"\w{4,}", re.sub(r"\{[\w:-]+\}(`[^`]*`)?|^\W*:\w+:.*|^\([\w-]+\)=|\]\([^)]*\)", " ", text, flags=re.M))
    now = set(words(prose(notebook)))
    assert not (lost := [word for word in words(prose(source)) if word not in now and not word.startswith(("ex-", "sol-"))]), lost
    hidden = {cell.id for cell in notebook.cells if cell.metadata.get("jupyter", {}).get("source_hidden")}
    assert hidden == {piece.cell.id for piece in pieces(source) if piece.kind == "solution" and piece.cell.cell_type == "code"}


def test_links_lead_to_a_place(folder):
    texts = {name: prose(nbformat.read(folder / f"{name}.ipynb", 4)) for name in NAMES}
    anchors = {name: re.findall(r'<a id="([\w-]+)"></a>', text) for name, text in texts.items()}
    count = 0
    for name, text in texts.items():
        assert len(anchors[name]) == len(set(anchors[name]))
        for target in re.findall(r"\]\(((?!https?:)[^)\s]*)\)", export.MATH.sub("", text)):
            page, _, anchor = target.partition("#")
            there = (folder / name).parent.joinpath(page).resolve().relative_to(folder).with_suffix("").as_posix() if page else name
            assert there in NAMES, f"{name}: {target} is no chapter"
            assert not anchor or anchor in anchors[there], f"{name}: {target} has no anchor there"
            count += 1
    assert count > 400


def test_carried_off_alone_a_chapter_links_to_no_other(book):
    for name in NAMES[2:5]:
        text = prose(export.plain(read_notebook(ROOT / "book" / f"{name}.ipynb"), name, book, alone=True))
        assert not re.findall(r"\]\([^)#]*\.ipynb[^)]*\)", text)
    published = export.Book(**vars(book) | {"repository": {"url": "https://github.com/Owner/name", "branch": "main"}})
    text = prose(export.plain(read_notebook(ROOT / "book/foundations/divergences.ipynb"), "foundations/divergences", published, alone=True))
    assert "[Theorem 3.7](https://owner.github.io/name/foundations/fenchel-young-losses.html#fy-quadratic-sandwich)" in text


@pytest.mark.parametrize("text, complaint", [
    ("```{tableofcontents}\n```", "tools/export.py"), ("{guilabel}`Run`", "tools/export.py"),
    ("[there](no-such-page)", "a page of the book"),
    ("```{note}\nnever closed", "closing")])
def test_what_has_no_plain_form_is_refused(text, complaint, book):
    with pytest.raises(ValueError, match=complaint):
        export.Page("foundations/divergences", book).markdown(text)


def test_code_and_formulas_stay_as_they_are(book):
    text = "Write `{ref}` and ``{doc}`x` ``, $[a](b)$ and\n\n$$\n[a](b)\n$$\n\n```python\n{prf:ref}`x`\n```"
    assert export.Page("foundations/divergences", book).markdown(text) == text


def test_a_formula_in_a_statement_is_on_one_line(book):
    """JupyterLab takes the mark of a quotation at the beginning of a line for a part of the formula."""
    text = ":::{admonition} Title\n$a\n=b$\n\n$$\nc\n\\\\\nd\n$$\n:::"
    assert export.Page("foundations/divergences", book).markdown(text).split("\n") == [
        "> **Title**", ">", "> $a =b$", ">", "> $$ c \\\\ d $$"]


def test_a_solution_over_several_cells_is_folded_in_each(book):
    cells = [new_markdown_cell("# T"), new_markdown_cell("Before.\n\n````{solution-start} ex-why-half\n:label: s\n````\n\nOne."),
             new_code_cell("x = 1"), new_markdown_cell("Two.\n\n````{solution-end}\n````\n\nAfter."), new_code_cell("y = 1")]
    made = export.plain(new_notebook(cells=cells), "foundations/divergences", book).cells
    fold = "<details>\n<summary>Solution to Exercise 4.2</summary>\n\n{}\n\n</details>"
    assert [cell.source for cell in made if cell.id != "open-here"] == [
        "# 4. T", "Before.", fold.format("One."), "x = 1", fold.format("Two."), "After.", "y = 1"]
    assert ["jupyter" in cell.metadata for cell in made if cell.cell_type == "code"] == [False, True, False]


def test_what_a_reader_changed_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "chapters", lambda root: chapters(root)[3:5])
    assert export.write(tmp_path) == []
    changed, run = (tmp_path / "foundations" / f"{name}.ipynb" for name in ("divergences", "conjugate-learning"))
    mine = nbformat.read(changed, 4)
    mine.cells.append(new_markdown_cell("My note.", id="mine"))
    nbformat.write(mine, changed)
    outputs = nbformat.read(run, 4)
    code = next(cell for cell in outputs.cells if cell.cell_type == "code")
    code.outputs = [nbformat.v4.new_output("stream", text="printed here")]
    nbformat.write(outputs, run)
    before = run.read_text(encoding="utf-8")
    assert export.write(tmp_path) == [], "nothing is newer"
    monkeypatch.setattr(export, "FOLDER", "another advice")  # a newer book
    plain = export.plain
    monkeypatch.setattr(export, "plain", lambda *args, **options: plain(*args, **options | {"advice": "another advice"}))
    assert export.write(tmp_path) == [changed]
    assert nbformat.read(changed, 4).cells[-1].source == "My note."
    assert run.read_text(encoding="utf-8") != before and "another advice" in run.read_text(encoding="utf-8")


def test_command_says_what_it_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "chapters", lambda root: chapters(root)[3:5])
    export.main([str(tmp_path)])
    assert capsys.readouterr().out == ""
    path = tmp_path / "foundations" / "divergences.ipynb"
    mine = nbformat.read(path, 4)
    mine.cells[0].source, mine.metadata[export.SEEN] = "# My divergences", "of an older book"
    nbformat.write(mine, path)
    export.main([str(tmp_path)])
    said = capsys.readouterr().out
    assert str(path) in said and "stays as it is" in said and "My divergences" in path.read_text(encoding="utf-8")
    export.main(["--alone", "--replace", str(tmp_path)])
    assert capsys.readouterr().out == "" and "My divergences" not in path.read_text(encoding="utf-8")


ASK = """import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "clt_utils" else find(name, *rest)
"""


@pytest.mark.parametrize("alone", [True, False])
def test_opening_cell_says_how_to_get_the_package(alone, book):
    cell = export.opening(book, alone)
    here = subprocess.run([sys.executable, "-c", cell.source], text=True, capture_output=True)
    assert here.returncode == 0 and not here.stdout, "where the package is, it does nothing"
    gone = subprocess.run([sys.executable, "-c", ASK + cell.source], text=True, capture_output=True)
    assert gone.returncode and "pip install -e ." in gone.stderr.splitlines()[-1]


def test_opening_cell_fetches_the_package_of_a_published_book(book, tmp_path, monkeypatch):
    published = export.Book(**vars(book) | {"repository": {"url": "https://github.com/example/book", "branch": "main"}})
    code = TransformerManager().transform_cell(export.opening(published, alone=True).source)
    said = []

    class Shell:
        def system(self, line):
            said.append(line)

        def run_line_magic(self, name, line):
            said.append(f"{name} {line}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(code, {"get_ipython": Shell})
    assert said == [], "where the package is, it does nothing"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    exec(code, {"get_ipython": Shell})
    assert said == ["git clone --quiet --depth 1 --branch main https://github.com/example/book clt-book", "pip install --quiet -e clt-book"]
    assert sys.path[0] == str(tmp_path / "clt-book")
