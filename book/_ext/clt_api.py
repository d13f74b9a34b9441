"""The reference of the package: what docstrings and chapters call by name becomes a link, to its entry, its theorem or its code.

The docstrings are plain text first: editors and ``help`` show them as they are. So a name stands in double backticks, a slug of
the ledger too, and ``|x|`` is an absolute value.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from IPython.core.inputtransformer2 import TransformerManager
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata

from clt_book import ROOT
from notebooks import read_notebook

FOLDER = "api/"  # of the pages of the reference, one a module and named after it
PACKAGE = "clt_utils"


def setup(app: Sphinx) -> ExtensionMetadata:
    app.config.linkcode_resolve = code_page
    app.connect("autodoc-process-signature", leave_out_types, priority=900)  # after autodoc has noted them
    app.connect("autodoc-process-docstring", list_members, priority=300)
    app.connect("autodoc-process-docstring", keep_bars, priority=400)  # before napoleon reads the sections
    app.connect("doctree-resolved", link_names)
    app.connect("html-page-context", link_code)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# ---- what autodoc makes of a docstring

def leave_out_types(app: Sphinx, what: str, name: str, *rest: object) -> None:
    """A type ``Any`` says nothing, and what a function returns is said in words."""
    types = app.env.temp_data.get("annotations", {}).get(name, {})
    for parameter in [parameter for parameter, kind in types.items() if parameter == "return" or "Any" in kind]:
        del types[parameter]


def list_members(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Begin what a page says about a module with a table of what it has, a line each."""
    if what == "module" and options.get("members"):
        chosen = options["members"] if isinstance(options["members"], list) else public_names(thing)
        lines += ["", ".. autosummary::", "   :nosignatures:", "", *(f"   {member}" for member in chosen)]


def public_names(module: Any) -> list[str]:
    """The functions and classes that a module has for others, in its own order."""
    def is_its_own(name: str, thing: object) -> bool:
        return not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__

    listed = getattr(module, "__all__", None) or [name for name, thing in vars(module).items() if is_its_own(name, thing)]
    things = {name: inspect.unwrap(getattr(module, name)) for name in listed}
    return [name for name, thing in things.items() if inspect.isclass(thing) or inspect.isfunction(thing)]


def keep_bars(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Escape the bars of absolute values, which reStructuredText takes for a substitution; not in code and in what it prints."""
    in_example = False
    for i, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>>"))
        if not in_example:
            lines[i] = re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", line)


# ---- links

def objects(app: Sphinx) -> dict[str, Any]:
    """Every entry of the reference, by its full name."""
    return app.env.get_domain("py").data["objects"]


def link_names(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn what stands in double backticks on a page of the reference into a link, where it is a slug or a name of the package."""
    if not docname.startswith(FOLDER):
        return
    for name in doctree.findall(nodes.field_name):
        if name.astext() == "Variables":  # as napoleon calls what the docstring has under "Attributes"
            name.children = [nodes.Text("Attributes")]
    statements, known = getattr(app.env, "proof_list", {}), objects(app)
    for literal in [node for node in doctree.findall(nodes.literal) if not isinstance(node.parent, nodes.reference)]:
        text = literal.astext()
        full = [f"{prefix}.{text}" for prefix in (f"{PACKAGE}.{docname.removeprefix(FOLDER)}", PACKAGE)]
        places = [(statements[text]["docname"], text)] if text in statements else [
            (known[name].docname, known[name].node_id) for name in full if name in known]
        if places:
            literal.replace_self(make_refnode(app.builder, docname, *places[0], literal.deepcopy()))


def code_page(domain: str, info: dict[str, Any]) -> str | None:
    """Where the site shows the code of a function or class, as seen from a page of the reference; None for a constant."""
    thing: Any = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        thing = getattr(thing, name, None)
    thing = inspect.unwrap(getattr(thing, "fget", None) or getattr(thing, "func", None) or thing)
    try:
        path, line = Path(inspect.getsourcefile(thing) or ""), inspect.getsourcelines(thing)[1]
    except TypeError:
        return None
    return f"../code/{path.relative_to(ROOT).with_suffix('')}.html#line-{line}"


BLOCK = re.compile(r'(?<=<div class="highlight"><pre>).*?(?=</pre>)', re.DOTALL)
NAME = re.compile(r'(?<!<span class="o">\.</span>)<span class="n">(\w+)</span>(?!<span class="o">=</span>)'
                  r'(?:<span class="o">\.</span><span class="n">(\w+)</span>)?')


def link_code(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Link the package's functions, where the code of a chapter or of an example calls them, to the reference."""
    names = names_on_page(app, pagename)
    if not names or doctree is None:
        return
    known = objects(app)

    def linked(found: re.Match[str]) -> str:
        name, attribute = names.get(found[1], ""), f"{names.get(found[1], '')}.{found[2]}"
        target = attribute if attribute in known else name
        if target not in known:
            return found[0]
        entry = known[target]
        uri = f"{app.builder.get_relative_uri(pagename, entry.docname)}#{entry.node_id}"
        words = found[0] if target == attribute else f'<span class="n">{found[1]}</span>'
        return f'<a class="in-code" href="{uri}">{words}</a>{found[0][len(words):]}'

    context["body"] = BLOCK.sub(lambda block: NAME.sub(linked, block[0]), context["body"])


def names_on_page(app: Sphinx, pagename: str) -> dict[str, str]:
    """What the code of a page calls the things of the package -> their full names."""
    if pagename.startswith(FOLDER):
        return {name.rpartition(".")[2]: name for name, entry in objects(app).items()
                if entry.docname == pagename and entry.objtype in ("function", "class", "data")}
    path = Path(app.env.doc2path(pagename))
    cells = read_notebook(path).cells if path.suffix == ".ipynb" else []
    return {alias.asname or alias.name: f"{node.module}.{alias.name}"
            for cell in cells if cell.cell_type == "code"
            for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source)))
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE for alias in node.names}
