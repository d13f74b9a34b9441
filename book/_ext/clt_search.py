"""The search finds statements, words of the glossary and symbols themselves, and first the place that defines them.

They are objects of a domain, as functions are of Python's; ``_templates/scorer.js`` orders them. What a result says of its page comes
from a file of plain text, a page each: it is lighter than the page, shows formulas as characters, and can be loaded from the disk.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from clt_notation import number_of, numbered, statements_in, symbols_in, words_in
from docutils import nodes
from docutils.utils.math import tex2unichar
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.domains import Domain, ObjType
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata
from sphinx_exercise.nodes import exercise_enumerable_node, exercise_node, exercise_subtitle

FOLDER = "_static/excerpts"
TOP = "main-content"  # the theme's name for what a page says
SCORER = Path(__file__).parents[1] / "_templates" / "scorer.js"
Entry = tuple[str, str, str, list[tuple[str, str]]]  # kind, name, anchor, and what is said to define it: (role, target)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_domain(Places)
    app.connect("config-inited", use_scorer)
    app.connect("doctree-read", lambda app, doctree: entries(app.env).update({app.env.docname: list(collect(doctree))}))
    app.connect("env-purge-doc", lambda app, env, docname: entries(env).pop(docname, None))
    app.connect("html-page-context", write_text)
    app.connect("html-collect-pages", tidy_titles)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}


def use_scorer(app: Sphinx, config: Config) -> None:
    config.html_search_scorer = str(SCORER)


# ---- what is found

KINDS = ("axiom", "conjecture", "corollary", "criterion", "definition", "example", "lemma", "property", "proposition", "remark", "theorem")


class Places(Domain):
    """Where statements stand, where words and symbols are defined, and where glossary and notation have them."""

    name, label = "clt", "Places of the book"
    object_types = {kind: ObjType(kind) for kind in (*KINDS, "exercise", "defined", "word", "symbol")}

    def get_objects(self) -> Iterator[tuple[str, str, str, str, str, int]]:
        for page, found in entries(self.env).items():
            for kind, name, anchor, defined in found:
                number = number_of(self.env, anchor) if kind in KINDS else numbered(self.env, page, kind, anchor)
                number = number and f", {number}"
                yield f"{kind}-{anchor}", re.sub(r"\)?$", lambda end: number + end[0], name, count=1), kind, page, anchor, 0
                for place in dict.fromkeys(filter(None, (place_of(self.env, *target) for target in defined))):
                    yield f"{kind}-{anchor}-defined-{place[1]}", name, "defined", *place, 0

    def get_type_name(self, type: ObjType, primary: bool = False) -> str:
        return type.lname

    def resolve_any_xref(self, *args: object) -> list[tuple[str, nodes.Element]]:
        return []  # they are found, not referred to

    def merge_domaindata(self, docnames: Iterable[str], otherdata: dict[str, Any]) -> None:
        pass


def entries(env: Any) -> dict[str, list[Entry]]:
    """What can be found on each page."""
    if not hasattr(env, "clt_search"):
        env.clt_search = {}
    return env.clt_search


def collect(doctree: nodes.document) -> Iterator[Entry]:
    for task in doctree.findall(lambda node: isinstance(node, (exercise_node, exercise_enumerable_node))):
        title = task.next_node(exercise_subtitle)
        yield "exercise", plain(title).strip(" ()") if title else task["label"], task["label"], []
    for block in statements_in(doctree):
        title, slug = plain(block.next_node(nodes.title)).strip(" ()"), block["label"]
        yield block["realtype"], f"{title} ({slug})" if title else slug, slug, []
    for item, _ in words_in(doctree):
        for term in item.findall(nodes.term):  # of one meaning
            yield "word", term.astext(), term["ids"][0], targets(item)
    for row, symbol in symbols_in(doctree):
        yield "symbol", f"{plain(symbol)}: {plain(row[1])}", symbol["ids"][0], targets(row[-1])


def targets(node: nodes.Element) -> list[tuple[str, str]]:
    return [(link["reftype"], link["reftarget"]) for link in node.findall(addnodes.pending_xref)]


def place_of(env: BuildEnvironment, role: str, target: str) -> tuple[str, str] | None:
    """Page and anchor of what a role of the glossary or the notation refers to; None for another word."""
    statement = getattr(env, "proof_list", {}).get(target)
    if statement:
        return statement["docname"], target
    if role == "ref":
        return env.get_domain("std").data["labels"].get(target, ())[:2] or None
    return (target, TOP) if role == "doc" and target in env.all_docs else None  # without an anchor Sphinx would make one of the name


def tidy_titles(app: Any) -> list[Any]:
    """Statements and words are found as such, not as titles and index entries too; formulas in titles become characters."""
    index = app.builder.indexer
    if index is not None:
        objects = {(page, anchor) for page, found in entries(app.env).items() for _, _, anchor, _ in found}
        for page, titles in index._all_titles.items():
            titles[:] = [(formula(title) if "\\" in title else re.sub(r"^ \((.*)\)$", r"\1", title), anchor)
                         for title, anchor in titles if (page, anchor) not in objects]
        index._index_entries.clear()
    return []


# ---- what is said of it

def write_text(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Write the words of a page, piece by piece with the anchor of each, as a script."""
    if doctree and app.builder.format == "html":
        path = Path(app.outdir, FOLDER, f"{pagename}.js")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(pieces(doctree), ensure_ascii=False, indent=0)
        path.write_text(f"cltExcerpts({json.dumps(pagename)}, {text});\n", encoding="utf-8")


def pieces(doctree: nodes.document) -> list[tuple[str, str]]:
    """The words of a page without its code, cut where something begins that can be found: (its anchors, words)."""
    found = [["", ""]]
    for anchor, part in cut(doctree):
        if anchor:
            found.append([anchor, ""])
        found[-1][1] += part
    return [(anchor, " ".join(words.split())) for anchor, words in found]


def cut(node: nodes.Node) -> Iterator[tuple[str, str]]:
    """A node in parts, each with the anchors that begin there, apart by a space, or ""."""
    if isinstance(node, nodes.Element) and QUIET & set(node.get("classes", ())):
        return
    if not isinstance(node, nodes.Element) or isinstance(node, (nodes.math, nodes.math_block, *SILENT)):
        yield "", plain(node)
        return
    named = node.next_node(addnodes.desc_signature) if isinstance(node, addnodes.desc) else node
    anchor = " ".join(named["ids"]) if named else ""
    is_statement = "realtype" in node
    begins = isinstance(node, (nodes.section, nodes.term, nodes.citation, addnodes.desc)) or is_statement or anchor.startswith("symbol-")
    yield anchor if begins else "", ""
    for child in node.children[is_statement:]:  # its title is what is found
        yield from cut(child)
    yield "", ". " if isinstance(node, (nodes.title, nodes.term)) else "" if isinstance(node, nodes.Inline) else " "


QUIET = {"chapter-facts", "cell-label", "in-notation"}
SILENT = (addnodes.desc_signature, nodes.raw, nodes.comment, nodes.literal_block, nodes.system_message)


def plain(node: nodes.Node) -> str:
    """The words of a node without code, formulas as characters."""
    if isinstance(node, SILENT):
        return ""
    if isinstance(node, nodes.math):
        return formula(node.astext())
    if isinstance(node, nodes.math_block):
        return f" {formula(node.astext())} "
    if not isinstance(node, nodes.Element):
        return node.astext()
    return "".join(map(plain, node.children)) + " " * (not isinstance(node, nodes.Inline))


SYMBOLS = {"dots": "…", "cdots": "⋯", "varnothing": "∅", "iff": "⟺", "Vert": "‖", "lVert": "‖", "rVert": "‖", "lvert": "|", "rvert": "|",
           "mid": "|", "square": "□", "varepsilon": "ε", "to": "→", "ne": "≠", "le": "≤", "ge": "≥"} | {
    name: character for kind in ("alpha", "bin", "close", "fence", "op", "open", "ord", "punct", "rel")
    for name, character in getattr(tex2unichar, f"math{kind}").items()}
PLAIN = {"|": "‖", "{": "{", "}": "}", "%": "%", "_": "_", "!": ""}  # after a backslash; all others are spaces
SMALL = str.maketrans("0123456789+-n⊤", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵀ")
ALPHABETS = {"mathbb": str.maketrans("RNZPE", "ℝℕℤℙ𝔼")}
SILENT_COMMANDS = {"left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "textstyle", "displaystyle", "rm", "limits"}
FONTS = {"mathrm", "mathbf", "mathfrak", "mathcal", "boldsymbol", "text", "operatorname", "underbrace", *ALPHABETS}


def formula(tex: str) -> str:
    """TeX in characters that can be read and searched: ``\\lambda_{\\min}`` is λ_min; a command without a character is its name."""
    tokens = re.findall(r"\\[A-Za-z]+|\\.|\s+|.", tex, re.DOTALL)[::-1]
    text = ""
    while tokens:
        text += first_of(tokens)
    return " ".join(text.split())


def first_of(tokens: list[str]) -> str:
    """What comes first, taken off the end of the tokens."""
    token = tokens.pop()
    if token == "{":
        inside = ""
        while tokens and tokens[-1] != "}":
            inside += first_of(tokens)
        tokens[-1:] = []
        return inside
    if token == "^":
        power = argument(tokens)
        small = power.translate(SMALL)
        return small if small != power or power in ("*", "′") else f"^{joined(power)}"
    if token == "_":
        return f"_{joined(argument(tokens))}"
    if token[0] == "\\" and token[1:]:
        return command(token[1:], tokens)
    return {"&": "", "~": " ", "-": "−"}.get(token, token)


def command(name: str, tokens: list[str]) -> str:
    if name in ("frac", "tfrac", "dfrac", "binom"):
        return f"{joined(argument(tokens))}{'/' if 'frac' in name else ' over '}{joined(argument(tokens))}"
    if name == "sqrt":
        return f"√{joined(argument(tokens))}"
    if name in tex2unichar.mathaccent:
        return argument(tokens) + tex2unichar.mathaccent[name]
    if name in FONTS:
        return argument(tokens).translate(ALPHABETS.get(name, {}))
    if name in ("begin", "end"):
        argument(tokens)
        return ""
    if name == "tag":
        return f"({argument(tokens)})"
    if not name.isalpha():
        return PLAIN.get(name, " ")
    if name in SILENT_COMMANDS:
        return ""
    return SYMBOLS.get(name) or (" " if "quad" in name else f" {name} ")


def argument(tokens: list[str]) -> str:
    while tokens and tokens[-1].isspace():
        tokens.pop()
    return first_of(tokens).strip() if tokens else ""


def joined(text: str) -> str:
    return f"({text})" if re.search(r"[\s+/=−-]", text) else text
