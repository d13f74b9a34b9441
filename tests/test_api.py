"""The package can be looked up: every public function says what it takes, gives and raises, shows it, and stands in the reference."""

import contextlib
import doctest
import importlib
import inspect
import io
import json
import os
import re
import textwrap

import clt_api
import matplotlib.pyplot as plt
import pytest
from sitemap import REFERENCE, ROOT, html, parsed

import clt_utils
from clt_utils.ledger import statements

ORDER = re.findall(r"\w+", " ".join(re.findall(r"^    (\w+(?:, \w+)*)  ", clt_utils.__doc__, re.M)))  # as its own words have it
MODULES = [*ORDER, "ledger.core"]  # the inside of `structure` and the ledger's chapters are nobody's to call
SECTIONS = re.compile(r"^(Args|Returns|Raises|Example|Attributes|Warns):$", re.M)


def public(module):
    """The functions and classes that a module has for others, by name."""
    module = importlib.import_module(f"clt_utils.{module}")
    return {name: getattr(module, name) for name in clt_api.public_names(module)}


def sections(thing):
    """A docstring by its headings."""
    _, *rest = SECTIONS.split(inspect.getdoc(thing) or "")
    return dict(zip(rest[::2], map(textwrap.dedent, rest[1::2])))


def lacking(thing):
    """What the docstring of a function or class does not say."""
    said = sections(thing)
    if ">>>" not in said.get("Example", ""):
        yield 'no "Example:" with lines that begin with >>>'
    if inspect.isclass(thing):
        return
    signature = inspect.signature(thing)
    named = re.findall(r"\w+", " ".join(re.findall(r"^([\w*, ]+):", said.get("Args", ""), re.M)))
    if missing := [name for name in signature.parameters if name not in named]:
        yield f'no line under "Args:" for {", ".join(missing)}'
    if signature.return_annotation is not None and not said.get("Returns", "").strip():
        yield 'no "Returns:"'
    if re.search(r"\brequire\w*\(|\braise\b", inspect.getsource(inspect.unwrap(thing))) and not said.get("Raises", "").strip():
        yield 'no "Raises:", though it checks what it is given'


@pytest.mark.parametrize("module", MODULES)
def test_docstring_says_what_a_function_takes_gives_and_raises(module):
    found = [f"{name}: {words}" for name, thing in public(module).items() for words in lacking(thing)]
    assert not found, "\n".join([f"Given: in clt_utils.{module} docstrings that do not say all. Expected: Args, Returns, Raises, and an "
                                 "example of a few lines. Write what is missing.", *found])


def test_docstring_that_lacks_something_is_noticed():
    def silent(x: int, *rest: int) -> int:
        """Says nothing."""
        raise ValueError

    def said(x: int, *rest: int) -> int:
        """Says all.

        Args:
            x, *rest: Numbers.

        Returns:
            A number.

        Raises:
            ValueError: Always.

        Example:
            >>> said
        """
        raise ValueError

    assert len(list(lacking(silent))) == 4 and not list(lacking(said))


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An empty folder, in which an example may write, and an environment that is put back."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    plt.close("all")


def run_example(module, name, docstring):
    """Run the example of a docstring as a reader would, after ``from clt_utils.MODULE import *`` -> what went wrong, in words."""
    names = {}
    exec(f"from clt_utils.{module} import *", names)
    example = doctest.DocTestParser().get_doctest(docstring, names, f"{module}.{name}", None, None)
    words = io.StringIO()
    with contextlib.redirect_stderr(io.StringIO()):  # a kernel's greetings
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=words.write)
    return words.getvalue()


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module, alone):
    found = [words for name, thing in public(module).items() if (words := run_example(module, name, inspect.getdoc(thing) or ""))]
    assert not found, "\n".join([f"Given: examples in clt_utils.{module} that give something else than they say. Expected: what stands "
                                 "below them. Correct the code or the example.", *found])


def test_example_that_gives_something_else_is_noticed():
    assert not run_example("bounds", "right", ">>> tv_gap_bound(4.0, 0.125)\n0.5")
    assert "Expected:\n    0.6\nGot:\n    0.5" in run_example("bounds", "wrong", ">>> tv_gap_bound(4.0, 0.125)\n0.6")


def test_names_of_statements_in_docstrings_are_right():
    definitions = json.loads((ROOT / "tests" / "claims" / "definitions.json").read_text(encoding="utf-8"))
    for module in MODULES:
        whole = importlib.import_module(f"clt_utils.{module}")
        for thing in (whole, *public(module).values()):
            named = re.findall(r"``([a-z0-9]+(?:-[a-z0-9]+)+)``", inspect.getdoc(thing) or "")
            unknown = [slug for slug in named if slug not in statements and slug not in definitions]
            assert not unknown, (f"Given: {unknown} in the docstring of {thing.__name__}. Expected: slugs of the ledger, or labels of "
                                 "definitions. Correct them: on the website they are links.")


# ---- the pages

def test_every_module_has_its_page():
    expected = ["api/index", *(f"api/{module}" for module in ORDER)]
    assert expected == REFERENCE, (
        f"Given: the pages {REFERENCE} in _toc.yml. Expected: {expected}, the modules in the order in which the first words of "
        "clt_utils/__init__.py have them. Enter what is missing, and make its page like its neighbours.")
    listed = re.findall(r"^   clt_utils\.(\w+)$", (ROOT / "book" / "api" / "index.rst").read_text(encoding="utf-8"), re.M)
    assert listed == ORDER, "Given: another list of modules in book/api/index.rst. Expected: the same order."
    for module in ORDER:
        page = (ROOT / "book" / "api" / f"{module}.rst").read_text(encoding="utf-8")
        assert page.startswith(f"{module}\n{'=' * len(module)}\n\n.. automodule:: clt_utils.{module}\n"), f"book/api/{module}.rst"


@pytest.mark.site
@pytest.mark.parametrize("module", MODULES)
def test_every_function_stands_in_the_reference(module):
    page = parsed(html(f"api/{module.split('.')[0]}"))
    for name in public(module):
        full = f"clt_utils.{'ledger' if name in public('ledger') else module}.{name}"
        entry = page.find(id=full)
        assert entry, f"Given: no entry {full} on the page of {module}. Expected: one, with the words of its docstring."
        source = entry.find("a", href=re.compile(r"^\.\./code/clt_utils/.*#line-\d+$"))
        line = parsed((html("api/index").parent / source["href"].split("#")[0]).resolve()).find(id=source["href"].split("#")[1])
        assert line, f"{full} does not lead to its code"
        assert entry.parent.find("div", class_="doctest"), f"{full} has no example on the page"


@pytest.mark.site
@pytest.mark.parametrize("page", REFERENCE)
def test_no_markup_is_left_in_the_reference(page):
    main = parsed(html(page)).find("main")
    assert not re.findall(r".{0,40}(?:``|:\w+:`|\\\|).{0,40}", main.get_text())
    numbered = [item.find_parent("li").get_text() for item in main.select("dl.py ol")]
    assert not numbered, f"Given: {numbered}, where a lone letter with a dot became the number of a list. Expected: words around it."


@pytest.mark.site
def test_names_lead_to_their_statements_and_entries():
    entry = parsed(html("api/bounds")).find(id="clt_utils.bounds.residual_bounds").parent
    assert entry.find("a", href="../trainability/gradient-energy.html#residual-sandwich")
    leads = {link["href"].split("#")[1] for link in parsed(html("trainability/gradient-energy")).select("pre a.in-code")}
    assert {"clt_utils.structure.structure_matrix", "clt_utils.ledger.check", "clt_utils.plots.show"} <= leads


def test_bars_are_escaped_outside_of_code_only():
    lines = ["The largest |x| of ``|y|``.", "", "Example:", "    >>> a | b", "    |c|", "", "|d|"]
    clt_api.keep_bars(None, "function", "f", None, None, lines)
    assert lines == [r"The largest \|x\| of ``|y|``.", "", "Example:", "    >>> a | b", "    |c|", "", r"\|d\|"]


def test_names_in_code_are_found():
    code = '<span class="n">{}</span>'.format
    dot, equals = '<span class="o">.</span>', '<span class="o">=</span>'
    found = clt_api.NAME.findall(code("plots") + dot + code("show") + code("x") + " " + equals + code("probe") + equals)
    assert found == [("plots", "show"), ("x", "")], "a name with what belongs to it, but no keyword"
