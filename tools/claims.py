"""Ties words to what checks them: every number in a chapter's prose to a cell, every statement to its entry of the ledger.

    python tools/claims.py CHAPTER ...            what is wrong with the register of a chapter ("conjugates"), with proposals
    python tools/claims.py --write CHAPTER ...    put the proposals into the register; what you must decide begins with "?"

The register of a chapter, tests/claims/CHAPTER.json, repeats each sentence that states a number and says of each number why
it is true::

    "Group 60 test images; ten of them are wrong.": {"60": "set in groups", "ten": "group-facts"}

- the id of a code cell: the number stands in an ``assert`` of the cell or in its compared output;
- "set in" and the id of a code cell: it is a setting, and stands in the code of the cell;
- one of the words of ``REASONS``: it is no result of a run.

So whoever changes a number, or a word beside it, must touch the register, and finds the check to read. A number without a
check is a reason to write one: one line, ``assert wrong.sum() == 10``, in the nearest cell that checks something.
Numbers inside formulas, code, statements, proofs and exercises are not asked for; statements have fingerprints (``words=``).
"""

import argparse
import ast
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode

from notebooks import ROOT, read_notebook

REGISTERS = ROOT / "tests" / "claims"
COMPARED = "nbval-check-output"
REASONS = {
    "definition": "true by the definition of the thing",
    "cited": "the cited source or another chapter says so, and shows it",
    "proved": "follows from a statement or a proof in the text",
    "arithmetic": "the sentence, or its neighbour, works it out",
    "structure": "counts parts of the text or of the thing discussed (whole numbers only)",
    "asked": "what the reader is asked or advised to do, an example, or a title",
}

# ---- statements

STATEMENT = re.compile(r"^(?P<fence>`{3,}|:{3,})\{prf:(?!proof)\w+\}[\s\S]*?^(?P=fence)[ \t]*$", re.M)
LABEL = re.compile(r"^:label: *(\S+)", re.M)


def statement_blocks(notebook: NotebookNode) -> list[str]:
    """The statements of a chapter, each with its fences, in order."""
    return [found[0] for cell in notebook.cells if cell.cell_type == "markdown" for found in STATEMENT.finditer(cell.source)]


def statement_words(notebook: NotebookNode) -> dict[str, str]:
    """The fingerprint of each statement of a chapter by its label: title, options and text, whatever the line breaks."""
    return {label[1]: hashlib.sha256(" ".join(block.split()).encode()).hexdigest()[:8]
            for block in statement_blocks(notebook) if (label := LABEL.search(block))}


# ---- numbers

UNITS = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
         "eleven": 11, "twelve": 12, "dozen": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
         "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
         "eighty": 80, "ninety": 90}
POWERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
FRACTIONS = {"third": 1 / 3, "quarter": 1 / 4, "fifth": 1 / 5, "sixth": 1 / 6, "seventh": 1 / 7, "eighth": 1 / 8, "ninth": 1 / 9,
             "tenth": 1 / 10, "twelfth": 1 / 12, "sixteenth": 1 / 16, "hundredth": 1 / 100, "thousandth": 1 / 1000}
PARTS = FRACTIONS | {"half": 1 / 2, "halv": 1 / 2, "twice": 2, "doubl": 2}
UNIT = rf"(?:{'|'.join(sorted(UNITS, key=len, reverse=True))})"
DIGITS = r"(?<![A-Za-z_\d])(?<![A-Za-z]-)(?<!\d[.,])\d+(?:[,_\u2009\u202f]\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?![A-Za-z_]|\.\d)"
NUMBER = re.compile(
    rf"(?P<part>\b(?:(?:an?|one|two|three)[ -](?:{'|'.join(FRACTIONS)})s?|half|halves|halv(?:ed|ing)|twice"
    rf"|doubl(?:es|ed|ing)|{UNIT}fold)\b)"
    rf"|(?:(?P<digits>{DIGITS})|\b(?P<unit>{UNIT}(?:-{UNIT})?)\b|\b(?P<bare>{'|'.join(POWERS)})\b)"
    rf"(?P<power>(?:\s+(?:{'|'.join(POWERS)})\b)*)(?P<scale>[\s▯]*(?:%|per ?cent\b|times\b|-?fold\b))?", re.I)
# Small words count things of the text more often than results; they count where something measured follows or a comparison precedes.
MEASURED = re.compile(r"[\s-]+(?:of (?:them|the|its)|(?:\S+\s+)?(?:percent|times|orders|decimals?|digits|points(?! of)|nats|bits|seeds"
                      r"|runs|draws|epochs|steps|samples|images|pixels|out of|in (?:ten|twenty|a hundred)))\b")
COMPARED_WITH = re.compile(r"\b(?:below|above|than|least|most|exceeds?|nearly|about|over|under|(?<!the )only|factor)\s+$", re.I)


def values(found: re.Match) -> set[float]:
    """What a number may be in code: "ten percent" is 0.1, "half" 0.5 or, the other way round, 2."""
    if found["part"]:
        text = found["part"].lower()
        if text.endswith("fold"):
            size = float(UNITS[text.removesuffix("fold")])
        else:
            count, _, name = text.rpartition(" ") if " " in text else text.rpartition("-")
            size = UNITS.get(count, 1) * next(PARTS[stem] for stem in sorted(PARTS, key=len, reverse=True) if name.startswith(stem))
        return {size, 1 / size}
    if found["digits"]:
        size = float(re.sub(r"[,_\u2009\u202f]", "", found["digits"]))
    elif found["unit"]:
        size = float(sum(UNITS[word] for word in found["unit"].lower().split("-")))
    else:
        size = float(POWERS[found["bare"].lower()])
    for word in found["power"].lower().split():
        size *= POWERS[word]
    scale = (found["scale"] or "").strip(" ▯-").lower()
    if not scale or not size:
        return {size}
    return {size / 100} if scale[0] in "%p" else {size, 1 / size}


def is_idle(found: re.Match) -> bool:
    """Whether a number word only counts parts of a thought ("two remarks"), or is a pronoun ("one")."""
    if (found["unit"] or "").lower() not in {"zero", "one", "two", "three", "four"} or found["power"] or found["scale"]:
        return False
    follows = found["unit"].lower() not in {"zero", "one"} and MEASURED.match(found.string, found.end())
    precedes = found["unit"].lower() != "zero" and COMPARED_WITH.search(found.string, 0, found.start())
    return not (follows or precedes)


# ---- the sentences of a chapter

KEPT = r"\{(?:solution|admonition|dropdown|note|tip|warning|margin)\}"  # directives whose text is prose
DROPPED = re.compile(rf"^(?P<fence>`{{3,}}|:{{3,}})(?!{KEPT})\S[\s\S]*?^(?P=fence)[ \t]*$", re.M)
MASKED = [re.compile(pattern, re.M) for pattern in (
    r"^(?:`{3,}|:{3,}).*$", r"^:[\w-]+:.*$", r"^#+ .*$", r"^\(.*\)=$", r"<!--[\s\S]*?-->", r"\$\$[\s\S]*?\$\$",
    r"\{[\w:]+\}`[^`]*`", r"`[^`\n]+`", r"\]\([^)]*\)", r"https?://\S+", r"^\s*\d+\. ", r"\(\d\)",
    r"\b(?:Theorem|Lemma|Proposition|Part|part|Section|Chapter|chapter|Figure|Table|Exercise|Python)s?"
    r"\s+\d[\d.]*(?:(?:, | and |–)\d[\d.]*)*")]
FORMULA = re.compile(r"\$[^$]+\$")
NUMBER_IN_FORMULA = re.compile(r"(?:^\$\s*(?:\\(?:approx|sim|le|ge)|[<>≈])?\s*|\\approx\s*)-?(\d+(?:,\d{3})*(?:\.\d+)?)(?![\d.,^])")
SENTENCE_END = re.compile(r"[.!?][\"”»)*_]*\s+(?=[\"“«*(\[_]*[A-Z\d▯])|\n\s*\n|\n(?=\s*(?:[-*:|]|▯+) ?)")


def blank(found: re.Match) -> str:
    """The same length, nothing to read."""
    return re.sub(r"[^\n]", "▯", found[0])


def formula(found: re.Match) -> str:
    """A formula keeps what is a number in a formula's clothes: ``$0.58$``, ``$85\\,\\%$``, ``$12$``, and what stands after an ≈."""
    kept, text = list(blank(found)), found[0]
    for number in NUMBER_IN_FORMULA.finditer(text):
        pure = re.fullmatch(r"(?:\\,|\s)*(?:\\?%)?\s*\$", text[number.end():])
        if r"\approx" in number[0] or (pure and (len(number[1]) > 1 or "%" in pure[0])):
            kept[number.start(1):number.end(1)] = number[1]
            if pure and "%" in text[number.end():]:
                kept[text.rindex("%")] = "%"
    return "".join(kept)


class Claim(NamedTuple):
    """A sentence that states numbers; ``numbers`` as they are written, each with what it may be in code; ``place`` counts cells."""

    sentence: str
    numbers: dict[str, set[float]]
    place: int


def claims(notebook: NotebookNode) -> list[Claim]:
    """Every sentence of the prose that states a number, in order."""
    found = []
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type != "markdown":
            continue
        masked = DROPPED.sub(blank, cell.source)
        for pattern in MASKED:
            masked = pattern.sub(blank, masked)
        masked = FORMULA.sub(formula, masked)
        ends = [end.end() for end in SENTENCE_END.finditer(masked)] + [len(masked)]
        for start, end in zip([0, *ends], ends):
            numbers = {" ".join(number[0].replace("▯", " ").split()): values(number)
                       for number in NUMBER.finditer(masked[start:end]) if not is_idle(number)}
            if numbers:
                found.append(Claim(" ".join(cell.source[start:end].split()), numbers, place))
    return found


# ---- the cells that say why

def numbers_in(text: str) -> set[float]:
    """All numbers of a text."""
    return {value for number in NUMBER.finditer(text) for value in values(number)}


def constants(tree: ast.AST) -> set[float]:
    """All numbers of a piece of code, those in its strings included."""
    literals = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    plain = {abs(float(x)) for x in literals if isinstance(x, (int, float)) and not isinstance(x, bool)}
    return plain.union(*(numbers_in(x) for x in literals if isinstance(x, str)))


def evidence(cell: NotebookNode) -> tuple[set[float], set[float]]:
    """The numbers that a code cell checks (in asserts; in output and comparisons if compared), and those in its code."""
    tree = ast.parse(re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.M))
    checked = set().union(*(constants(node) for node in ast.walk(tree) if isinstance(node, ast.Assert)))
    if COMPARED in cell.metadata.get("tags", []):
        checked = checked.union(*(constants(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)))
        for output in cell.outputs:
            checked |= numbers_in(str(output.get("text") or output.get("data", {}).get("text/plain", "")))
    return checked, constants(tree)


def agree(wanted: set[float], there: set[float]) -> bool:
    return any(abs(x - y) <= 1e-9 * max(x, y) for x in wanted for y in there)


def proposals(claim: Claim, wanted: set[float], notebook: NotebookNode) -> list[str]:
    """What may stand in the register for a number: checking cells, nearest first, then settings."""
    places = sorted(range(len(notebook.cells)), key=lambda place: abs(place - claim.place))
    cells = [(cell.id, *evidence(cell)) for place in places if (cell := notebook.cells[place]).cell_type == "code"]
    checking = [name for name, checked, _ in cells if agree(wanted, checked)]
    setting = [f"set in {name}" for name, checked, stands in cells if name not in checking and agree(wanted, stands)]
    return checking[:3] + setting[:2]


def objection(written: str, wanted: set[float], why: str, cells: dict[str, NotebookNode]) -> str:
    """What is wrong with one line of the register, or nothing."""
    if why.startswith("?"):
        return f"{written!r} is not decided; a cell, 'set in' a cell, or a reason? Proposed: {why[1:].strip() or 'nothing checks it'}"
    if why in REASONS:
        whole = any(x == int(x) for x in wanted)
        return "" if whole or why != "structure" else f"{written!r} is no count: name the cell that checks it, not 'structure'"
    cell = cells.get(why.removeprefix("set in "))
    if cell is None:
        return f"{written!r}: {why!r} is neither a code cell of the chapter nor one of {', '.join(REASONS)}"
    checked, stands = evidence(cell)
    if why.startswith("set in "):
        return "" if agree(wanted, stands) else f"{written!r} does not stand in the code of {cell.id!r}"
    return "" if agree(wanted, checked) else (
        f"{written!r} is in no assert and in no compared output of {cell.id!r}: assert it there, or mend the sentence")


def problems(notebook: NotebookNode, register: dict[str, dict[str, str]]) -> list[str]:
    """What is wrong between a chapter and its register, one line each."""
    found = claims(notebook)
    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    lines = [f"gone from the chapter, or changed: {sentence!r}" for sentence in register if sentence not in {c.sentence for c in found}]
    for claim in found:
        entry = register.get(claim.sentence)
        if entry is None:
            lines.append(f"not in the register: {claim.sentence!r}")
        elif set(entry) != set(claim.numbers):
            lines.append(f"numbers {sorted(claim.numbers)} stated, {sorted(entry)} registered: {claim.sentence!r}")
        else:
            lines += [f"{wrong}: {claim.sentence!r}" for written, wanted in claim.numbers.items()
                      if (wrong := objection(written, wanted, entry[written], cells))]
    return lines


def register_file(chapter: Path) -> Path:
    return REGISTERS / f"{chapter.stem}.json"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Reasons: " + "; ".join(f"{name}: {text}" for name, text in REASONS.items()) + ".")
    parser.add_argument("--write", action="store_true", help="write the register: new sentences with proposals, gone ones taken out")
    parser.add_argument("chapters", nargs="+", metavar="CHAPTER")
    options = parser.parse_args(arguments)
    left = 0
    for name in options.chapters:
        path = next((ROOT / "book").glob(f"*/{Path(name).stem}.ipynb"), None)
        if path is None:
            parser.error(f"Given: {name}. Expected: a chapter of the book, such as conjugates.")
        notebook, file = read_notebook(path), register_file(path)
        register = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if options.write:
            decided = {(sentence, written): why for sentence, entry in register.items() for written, why in entry.items() if why[:1] != "?"}
            register = {claim.sentence: {written: decided.get((claim.sentence, written))
                                         or "? " + " | ".join(proposals(claim, wanted, notebook))
                                         for written, wanted in claim.numbers.items()} for claim in claims(notebook)}
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(register, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        wrong = problems(notebook, register)
        left += len(wrong)
        print(f"{path.relative_to(ROOT)}: {len(register)} sentences with numbers, {len(wrong)} to settle in {file.relative_to(ROOT)}")
        for line in wrong:
            print(f"  {line}")
        for claim in claims(notebook) if not options.write else ():
            if claim.sentence not in register:
                for written, wanted in claim.numbers.items():
                    proposed = " | ".join(proposals(claim, wanted, notebook)) or "nothing checks it"
                    print(f"    {written}: {proposed}   ({claim.sentence[:60]} …)")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
