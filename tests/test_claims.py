"""Words are tied to their checks: statements by a fingerprint in the ledger, numbers in prose by the register of the chapter."""

import json
import re
from functools import cache

import claims
import nbformat
import pytest

from clt_utils.ledger import statements
from notebooks import chapters

CHAPTERS = {path.stem: path for path in chapters()}
DEFINITIONS = claims.REGISTERS / "definitions.json"  # the words of what the ledger cannot check: label, fingerprint
ENTRIES = {path: path.read_text(encoding="utf-8") for path in sorted((claims.ROOT / "clt_utils" / "ledger").glob("*.py"))}


@cache
def words_in_the_book():
    """The fingerprint of every labelled statement of the chapters."""
    return {slug: words for path in CHAPTERS.values() for slug, words in claims.statement_words(nbformat.read(path, 4)).items()}


def entered_at(slug):
    """File and line of the ledger's entry."""
    for path, text in ENTRIES.items():
        if found := re.search(rf'^@statement\(\s*"{slug}"', text, re.M):
            return f"{path.relative_to(claims.ROOT)}:{text.count(chr(10), 0, found.start()) + 1}"
    raise LookupError(slug)


@pytest.mark.parametrize("slug", statements)
def test_the_words_of_a_statement_are_those_that_its_check_was_written_for(slug):
    entry, now = statements[slug], words_in_the_book().get(slug)
    assert now is not None, f"Given: no statement labelled `{slug}` in a chapter. Expected: one in {entry.chapter}."
    assert entry.words == now, (
        f"The words of `{slug}` in {entry.chapter} are not those that its check was written for. Read the statement and its check "
        f'together; when they say the same, put words="{now}" into the entry at {entered_at(slug)}.')


def test_the_words_of_a_definition_are_those_that_the_book_builds_on():
    agreed = json.loads(DEFINITIONS.read_text(encoding="utf-8"))
    now = {label: words for label, words in words_in_the_book().items() if label not in statements}
    changed = [f'"{label}": {now.get(label, "(gone)")}, agreed: {agreed.get(label, "(nothing)")}'
               for label in sorted(now.keys() | agreed) if now.get(label) != agreed.get(label)]
    assert not changed, "\n".join([
        "Definitions, and other statements without an entry in the ledger, whose words are not those agreed. A definition: read it beside "
        f"what refers to it ({{prf:ref}}), then put its fingerprint into {DEFINITIONS.relative_to(claims.ROOT)}. Anything else: write an "
        "entry in clt_utils/ledger.", *changed])


def test_every_statement_has_a_label():
    unnamed = [f"{name}: {block.splitlines()[0]}" for name, path in CHAPTERS.items()
               for block in claims.statement_blocks(nbformat.read(path, 4)) if not claims.LABEL.search(block)]
    assert not unnamed, f"Given: {unnamed}. Expected: a line `:label: name` in each; without one nothing can be tied to its words."


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_number_in_prose_is_tied_to_what_checks_it(name):
    file = claims.register_file(CHAPTERS[name])
    assert file.exists(), f"no register of the numbers in {name}; `python tools/claims.py --write {name}` begins it"
    wrong = claims.problems(nbformat.read(CHAPTERS[name], 4), json.loads(file.read_text(encoding="utf-8")))
    assert not wrong, "\n".join([f"Settle each in {file.relative_to(claims.ROOT)}; `python tools/claims.py {name}` proposes:", *wrong])


def test_no_register_without_its_chapter():
    assert {file.stem for file in claims.REGISTERS.glob("*.json")} - {DEFINITIONS.stem} <= set(CHAPTERS)


# ---- what the register can tell

PROSE = """\
## Twelve headings

Accuracy drops by ten percent, from $0.85$ to about 0.77 on CIFAR-10, in `f(99)` and $x=3$. Two remarks follow.
Half of the 1,442 images are
noise, and the ratio never exceeds one.

```{exercise} Compute: coins
Toss 17 coins.
```
"""
FIRST = "Accuracy drops by ten percent, from $0.85$ to about 0.77 on CIFAR-10, in `f(99)` and $x=3$."
SECOND = "Half of the 1,442 images are noise, and the ratio never exceeds one."
CHECKED = "assert drop.round(1) == 0.1\nprint('from 85 % to', accuracy)"
REGISTER = {FIRST: {"ten percent": "facts", "0.85": "facts", "0.77": "facts"},
            SECOND: {"Half": "definition", "1,442": "set in data", "one": "proved"}}


def chapter(prose=PROSE, code=CHECKED):
    facts = nbformat.v4.new_code_cell(code, id="facts", metadata={"tags": [claims.COMPARED]},
                                      outputs=[nbformat.v4.new_output("stream", text="from 85 % to 0.77\n")])
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(prose), facts,
                                           nbformat.v4.new_code_cell("draw(1_442)", id="data")])


def test_sentences_with_numbers_are_found_and_idle_words_are_not():
    assert {claim.sentence: set(claim.numbers) for claim in claims.claims(chapter())} == {s: set(n) for s, n in REGISTER.items()}
    assert claims.problems(chapter(), REGISTER) == []


def test_a_changed_number_is_noticed_and_cannot_be_registered_without_a_check():
    changed = chapter(PROSE.replace("ten", "five"))
    assert len(claims.problems(changed, REGISTER)) == 2  # one sentence gone, one new
    anew = {FIRST.replace("ten", "five"): {"five percent": "facts", "0.85": "facts", "0.77": "facts"}, SECOND: REGISTER[SECOND]}
    assert "'five percent' is in no assert" in " ".join(claims.problems(changed, anew))


@pytest.mark.parametrize("why, message", [("fact", "neither a code cell"), ("structure", "is no count"), ("set in data", "does not stand"),
                                          ("data", "in no assert"), ("? facts", "not decided")])
def test_a_reason_that_does_not_hold_is_noticed(why, message):
    register = {FIRST: REGISTER[FIRST] | {"0.77": why}, SECOND: REGISTER[SECOND]}
    assert [message in line for line in claims.problems(chapter(), register)] == [True]


def test_a_check_that_is_gone_is_noticed():
    assert "'ten percent'" in " ".join(claims.problems(chapter(code="drop.round(1)\nprint('from 85 % to', accuracy)"), REGISTER))


@pytest.mark.parametrize("text, value", [
    ("12", 12), ("1,442", 1442), ("10 percent", 0.1), ("85 %", 0.85), ("four hundred", 400), ("a third", 1 / 3),
    ("two thirds", 2 / 3), ("an eighth", 1 / 8), ("twice", 2), ("tenfold", 10), ("twenty-four", 24),
    ("1e-3", 0.001), ("ten times", 0.1), ("doubles", 2), ("halved", 0.5)])
def test_numbers_are_read(text, value):
    assert claims.agree(claims.numbers_in(text), {value})


def test_a_statement_keeps_its_fingerprint_when_lines_break_elsewhere():
    block = ":::{prf:lemma} Short\n:label: short\n\nIt is at most $2$,\nif closed.\n:::"
    of = lambda text: claims.statement_words(chapter(text))["short"]
    assert of(block) == of(block.replace(",\n", ", "))
    assert len({of(block), of(block.replace("2", "3")), of(block.replace("if closed", "")), of(block.replace("Short", "Long"))}) == 4
