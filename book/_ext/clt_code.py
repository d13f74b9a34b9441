"""What is not the point of a chapter's code folds behind one line each: imports, the drawing of figures, assertions.

What a statement is for is read off its syntax tree, and what only such statements use goes with them; the rest stays open. So no
chapter has to say anything; a cell with the tag ``show`` stays open, one with the tag ``hide`` folds whole. Runs of output lines
that only say "…: True" become one line too. The chapters themselves, and what is printed, keep everything.
"""

import ast
import html
import itertools
import re
import symtable
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from clt_figures import ancestors
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator
from sphinx_exercise.nodes import solution_node

from clt_book import chapter_facts

FEWEST, FEWEST_OF_A_CELL = 3, 5
"""Fewer lines do not fold: those of a whole cell would save nothing, and a part of one would tear it up."""

WORDS = {"imports": "the imports", "figure": "the code of this figure", "drawing": "the code that draws",
         "checks": "the code of these checks", "report": "the code that prints this", "hidden": "the code"}
DEFINITIONS = (ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.Import, ast.ImportFrom)
DRAWS = {"show", "legend", "explore", "fixed_axes", "draw_simplex", "draw_curve"}
DRAWS_WITH = {"plt", "plots", "figures"}
TRUE_OR_FALSE = {"bool", "all", "any", "allclose", "isclose", "array_equal", "equal", "isinstance"}
TRUE = r": (?:True\b|[\[{](?:(?:[^:\[\]{}]+: )?True(?:, )?)+[\]}])"

SWITCH = '<p class="clt-switch" hidden><label><input type="checkbox"> Show all code</label></p>\n'
"""Hidden as long as there is no script (``code.js``) that it could ask."""


class Statement(NamedTuple):
    """One top-level statement with the comments above it; ``kind`` is empty where it stays open by itself."""

    kind: str
    lines: list[str]
    uses: set[str]
    defines: set[str]
    only_defines: bool


class Part(NamedTuple):
    """Some lines of a cell that fold together, or stay open if ``kind`` is empty."""

    kind: str
    source: str


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_node(fold, html=(visit_fold, depart_fold))
    app.add_post_transform(FoldCode)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# ---- what a statement is for

def names(node: ast.stmt) -> tuple[set[str], set[str]]:
    """What a statement uses from outside, and what it defines; the variables of a comprehension or a function are its own."""
    table = symtable.symtable(ast.unparse(node), "", "exec")
    uses = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    inner = table.get_children()
    while inner:
        scope = inner.pop()
        uses |= {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        inner += scope.get_children()
    defines = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()
               or symbol.is_namespace()}
    return (uses if isinstance(node, DEFINITIONS) else uses | defines), defines


def calls(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Every call below a node as what stands before the last dot, where that is a name, and what stands after it."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and isinstance(part.func, (ast.Name, ast.Attribute)):
            owner = part.func.value if isinstance(part.func, ast.Attribute) else None
            yield getattr(owner, "id", ".") if owner else "", getattr(part.func, "id", "") or getattr(part.func, "attr", "")


def is_truth(node: ast.AST, truths: set[str]) -> bool:
    """Whether an expression is true or false, as far as one can see."""
    if isinstance(node, ast.Call):
        return any(name in TRUE_OR_FALSE for _, name in list(calls(node))[:1])
    if isinstance(node, (ast.DictComp, ast.Dict)):
        return all(is_truth(value, truths) for value in (node.values if isinstance(node, ast.Dict) else [node.value]))
    return (isinstance(node, (ast.Compare, ast.BoolOp)) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))
            or (isinstance(node, ast.Name) and node.id in truths) or (isinstance(node, ast.Attribute) and node.attr == "holds"))


def report(node: ast.stmt, truths: set[str]) -> str:
    """"checks" for an assertion, or a print that says whether something holds; "report" for another print of words; else nothing."""
    if isinstance(node, ast.Assert):
        return "checks"
    if isinstance(node, (ast.For, ast.If)):
        found = [report(line, truths) for line in (*node.body, *node.orelse)]
        return "" if "" in found else most_telling(found)
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "print"):
        return ""
    said = [value for argument in node.value.args
            for value in ([part.value for part in argument.values if isinstance(part, ast.FormattedValue)]
                          if isinstance(argument, ast.JoinedStr) else [argument])]
    if any(is_truth(value, truths) for value in said):
        return "checks"
    return "" if all(isinstance(argument, ast.Call) for argument in node.value.args) else "report"  # print(check(…)) teaches


def kind_of(node: ast.stmt, uses: set[str], truths: set[str], pictures: set[str]) -> str:
    """A key of ``WORDS``, or nothing. ``pictures`` are names of axes, figures and what draws them."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return "imports"
    if said := report(node, truths):
        return said
    called = set(calls(node))
    draws = uses & pictures or any(owner in DRAWS_WITH or (not owner and name in DRAWS) for owner, name in called)
    return "figure" if draws and ("", "print") not in called else ""


def statements(source: str, drawers: set[str]) -> list[Statement]:
    """The statements of a cell in order; none if it is not Python. The functions of it that draw are added to ``drawers``."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a magic command
        return []
    lines, found, end = source.splitlines(), [], 0
    truths: set[str] = set()
    pictures: set[str] = set(drawers)
    for node in tree.body:
        uses, defines = names(node)
        kind = kind_of(node, uses, truths, pictures)
        if isinstance(node, ast.Assign):
            truths = truths | defines if is_truth(node.value, truths) else truths - defines
            pictures = pictures | defines if kind else pictures - defines
        elif isinstance(node, ast.FunctionDef) and kind:
            drawers |= defines
            pictures |= defines
        last = len(lines) if node is tree.body[-1] else node.end_lineno or 0
        found.append(Statement(kind, lines[end:last], uses, defines, isinstance(node, DEFINITIONS)))
        end = last
    return found


# ---- what folds

def folds(cell: list[Statement], needed: set[str], opened: set[int]) -> list[str]:
    """The kind of each statement if it folds: by itself, or because only pictures or assertions of this cell use what it defines.

    ``needed`` are the names that what stays open below this cell uses, ``opened`` the statements that stay open in any case.
    """
    kinds, drawn, checked = [""] * len(cell), set[str](), set[str]()
    for i in reversed(range(len(cell))):
        statement = cell[i]
        kind = statement.kind
        if not kind and statement.only_defines and not statement.defines & needed:
            kind = "figure" if statement.defines & drawn else "checks" if statement.defines & checked else ""
        if not kind or i in opened:
            needed = before(statement, needed)
            continue
        kinds[i] = kind
        (drawn if kind == "figure" else checked).update(statement.uses)
    found = runs(kinds)
    for above, run, below in zip([[], *found], found, found[1:]):  # a few definitions above what folds, or amid the drawing
        if (kinds[below[0]] and (not above or kinds[above[0]] == kinds[below[0]] == "figure") and length(cell, run) <= FEWEST
                and all(cell[i].only_defines and i not in opened for i in run)):
            kinds[run[0]:run[-1] + 1] = [kinds[below[0]]] * len(run)
    return kinds


def before(statement: Statement, needed: set[str]) -> set[str]:
    """The names needed above a statement that stays open."""
    return (needed - statement.defines if statement.only_defines else needed) | statement.uses


def folded(cell: list[Statement], needed: set[str], opened: set[int]) -> list[str]:
    """The kinds of ``folds``, without what would not pay or would tear a cell up: runs that are short, checks in the middle of a cell,
    and what is computed for a check where it is longer than the check."""
    while True:
        kinds = folds(cell, needed, opened)
        found = [run for run in runs(kinds) if kinds[run[0]]]
        unfit: set[int] = set()
        for run in found:
            checks = most_telling(kinds[i] for i in run) in ("checks", "report")
            inside = run[0] > 0 and run[-1] < len(cell) - 1
            computed = [i for i in run if not cell[i].kind]
            if length(cell, run) < (FEWEST if len(run) == len(cell) else FEWEST_OF_A_CELL) or (checks and inside):
                unfit |= {*run}
            elif checks and 2 * length(cell, computed) > length(cell, run):
                unfit |= {*computed}
        if not unfit:
            return kinds
        opened = opened | unfit


def parts(cells: Iterable[tuple[str, set[str]]]) -> list[list[Part]]:
    """The cells of a chapter, each as its source and its tags -> each as the parts that stay open and those that fold."""
    drawers: set[str] = set()
    read = [(source, tags, statements(source, drawers)) for source, tags in cells]
    needed: set[str] = set()
    done: list[list[Part]] = []
    for source, tags, cell in reversed(read):  # what folds depends on what is needed below
        if not cell or tags & {"show", "hide"}:
            done.append([Part("hidden" if "hide" in tags else "", source)])
            kinds = [""] * len(cell) * ("hide" not in tags)
        else:
            kinds = folded(cell, needed, set())
            done.append([Part(most_telling(kinds[i] for i in run), "\n".join(line for i in run for line in cell[i].lines).strip("\n"))
                         for run in runs(kinds)])
        for kind, statement in reversed([*zip(kinds, cell)]):
            needed = needed if kind else before(statement, needed)
    return done[::-1]


def runs(kinds: list[str]) -> list[list[int]]:
    """Neighbours that fold together, and neighbours that stay open together."""
    return [list(run) for _, run in itertools.groupby(range(len(kinds)), lambda i: bool(kinds[i]))]


def most_telling(kinds: Iterable[str]) -> str:
    present = set(kinds)
    return next((kind for kind in ("figure", "checks", "report", "imports") if kind in present), "")


def length(cell: list[Statement], run: list[int]) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for i in run for line in cell[i].lines)


# ---- into the pages

class fold(nodes.General, nodes.Element):
    """What a reader unfolds; ``words`` is the line to click. A ``<details>``: the keyboard and screen readers know it."""


def visit_fold(self: HTML5Translator, node: fold) -> None:
    self.body.append(f'<details class="clt-fold"><summary>{html.escape(node["words"])}</summary>\n')


def depart_fold(self: HTML5Translator, node: fold) -> None:
    self.body.append("</details>\n")


class FoldCode(SphinxPostTransform):
    """Fold the cells of a page that is about to be written, and put the switch that unfolds them all below its title."""

    default_priority = 190
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        cells = [node for node in self.document.findall(nodes.container) if node.get("nb_element") == "cell_code"]
        blocks = [(source, cell) for cell in cells for part in cell.children if part.get("nb_element") == "cell_code_source"
                  for source in part.findall(nodes.literal_block)]
        split = parts((source.astext(), tags(cell)) for source, cell in blocks)
        for (source, cell), pieces in zip(blocks, split, strict=True):
            source.parent.replace(source, [folded_piece(source, piece, cell) for piece in pieces])
        for source, cell in blocks:
            for output in list(cell.findall(nodes.literal_block)):
                if "stream" in output["classes"]:
                    output.parent.replace(output, folded_output(output, source.astext()))
        title = next(self.document.findall(nodes.title), None)
        if title and next(self.document.findall(fold), None):
            place = next(self.document.findall(chapter_facts), title)
            place.parent.insert(place.parent.index(place) + 1, nodes.raw("", SWITCH, format="html"))


def tags(cell: nodes.container) -> set[str]:
    """The tags of a cell; in a solution, which is folded itself, code stays open."""
    inside = any(isinstance(above, solution_node) for above in ancestors(cell))
    return {name[4:] for name in cell["classes"] if name.startswith("tag_")} | ({"show"} if inside else set())


def folded_piece(source: nodes.literal_block, piece: Part, cell: nodes.container) -> nodes.Element:
    block = with_text(source, piece.source)
    kind = piece.kind
    if kind == "figure" and not any("clt-figure" in part.astext() for part in cell.findall(nodes.raw)):
        kind = "drawing"
    count = len(piece.source.splitlines())
    return fold("", block, words=f"Show {WORDS[kind]}, {count} line{'s' * (count > 1)}") if kind else block


def folded_output(output: nodes.literal_block, code: str) -> list[nodes.Element]:
    """Two or more lines in a row that only say that something holds become one that counts and names it."""
    found: list[nodes.Element] = []
    lines = output.astext().splitlines()
    claims = [only_says_true(line, code) for line in lines]
    many = [claim and True in (*claims[max(i - 1, 0):i], *claims[i + 1:i + 2]) for i, claim in enumerate(claims)]
    for together, group in itertools.groupby(range(len(lines)), lambda i: many[i]):
        text = "\n".join(lines[i] for i in group)
        *said, _ = (name.strip(" ,;|\n") for name in re.split(TRUE, text))
        words = f"{sum(len(re.findall('True', claim)) for claim in re.findall(TRUE, text))} checks hold: {' · '.join(said)}"
        found.append(fold("", with_text(output, text), words=words) if together else with_text(output, text))
    return found


def only_says_true(line: str, code: str) -> bool:
    """Whether a line, such as "convex: True | never above 0.5: True", tells nothing else: no number that does not stand in the code."""
    claims = re.sub(rf"[^|;]+?{TRUE}(?=$|[,;|]| )", "", line).strip(" ,;|")
    return bool(line.strip()) and not claims and all(number in code for number in re.findall(r"\d+(?:[.,]\d+)*", line))


def with_text(block: nodes.literal_block, text: str) -> nodes.literal_block:
    """The same block with another text."""
    copy = block.copy()
    copy.rawsource = text
    copy += nodes.Text(text)
    return copy
