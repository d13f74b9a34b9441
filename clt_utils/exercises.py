"""Self-checks for the exercises: says whether an answer is right, hints when it is not, and gives nothing away.

``check_answer("ex-…", value)`` stands in the exercise; the folded solution computes its value and makes the same call, so
that answers cannot drift. The answers are nowhere in plain reading: ``answers.json`` holds, for each exercise, salted
hashes of the entries of its answer, rounded to so many significant ``digits``. Beside them stand, written by hand, a
``hint`` and, where a sum may be taken for a mean, the ``counts`` of what is summed. The hashes come from the solutions::

    python -m clt_utils.exercises record book/foundations/conjugates.ipynb ...
"""

import argparse
import difflib
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from ._checks import require, require_kind, require_values

ANSWERS = Path(__file__).with_name("answers.json")
RECORD_INTO = "CLT_RECORD_ANSWERS"  # names a file: calls of `check_answer` then record into it what they are given
DIGITS = 3

# What may have gone wrong with a number, and how the right one would follow from it.
MISTAKES: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("Check the constant factors: is a ½ missing, or one too many?", lambda v: v / 2),
    ("Check the constant factors: is a ½ missing, or one too many?", lambda v: v * 2),
    ("Check the sign.", lambda v: -v),
    ("Which logarithm? The book's are natural, and information is in nats, not in bits.", lambda v: v * math.log(2)),
    ("Which logarithm? The book's are natural, not to base 10.", lambda v: v * math.log(10)),
    ("A norm or its square? A variance or a standard deviation?", lambda v: math.sqrt(abs(v))),
    ("A norm or its square? A variance or a standard deviation?", lambda v: v * v),
    ("Which way round is the ratio?", lambda v: 1 / v),
    ("The probability of the event, or of its opposite?", lambda v: 1 - v),
    ("A share is asked for, or a percentage?", lambda v: v / 100),
    ("A share is asked for, or a percentage?", lambda v: v * 100),
)


def check_answer(exercise: str, value: object) -> None:
    """Print whether ``value`` answers the exercise, and a hint if it does not.

    Args:
        exercise: The label of the exercise, "ex-…".
        value: A number, a bool, a short text, or a list, array or tensor of them in the order the exercise asks for.
            Numbers are compared to about three significant digits. ``...`` is an answer not given yet.

    Raises:
        ValueError: On an exercise without a self-check; names the closest ones.
        TypeError: On a value of another type.

    Example:
        >>> check_answer("ex-two-annotators", ...)
        ex-two-annotators: put your answer in place of the dots.
    """
    if os.environ.get(RECORD_INTO):
        record(Path(os.environ[RECORD_INTO]), exercise, value)
    require_kind("exercise", exercise, str, "the label of an exercise, 'ex-…'")
    answers = load_answers()
    close = difflib.get_close_matches(exercise, answers, 3)
    require(exercise in answers, f"the exercise {exercise!r}", "an exercise with a self-check",
            f"Did you mean {' or '.join(map(repr, close))}?" if close else "Copy the name from the exercise.")
    print(f"{exercise}: {verdict(answers[exercise], value)}")


def verdict(answer: dict[str, Any], value: object) -> str:
    """What to say about an answer.

    Args:
        answer: The exercise's record in ``answers.json``.
        value: The answer, as for ``check_answer``.

    Returns:
        A sentence.

    Raises:
        TypeError: On a value of another type.

    Example:
        >>> print(verdict(load_answers()["ex-two-annotators"], "about a half"))
        given 1 entry, asked for 2, in the order of the exercise.
    """
    require_kind("answer", answer, dict, "a record of answers.json")
    require({"kind", "digits", "salt", "hashes"} <= set(answer), f"an answer with {sorted(answer)} alone", "a record of answers.json")
    entries, hashes, hint = _entries(value), answer["hashes"], answer.get("hint", "")
    if any(entry is ... for entry in entries):
        return "put your answer in place of the dots."
    if len(entries) != len(hashes):
        return f"given {_counted(len(entries), 'entry', 'entries')}, asked for {len(hashes)}, in the order of the exercise."
    kinds = {_kind(entry) for entry in entries}
    if kinds != {answer["kind"]}:
        words = {"number": "a number", "truth": "True or False", "text": "a word in quotes"}
        return f"given {' and '.join(words[kind] for kind in sorted(kinds))}, asked for {words[answer['kind']]}."
    wrong = [i for i, entry in enumerate(entries) if not _matches(answer, i, entry)]
    if not wrong:
        return "right."
    which = "not yet."
    if len(entries) > 1:
        which = f"not yet. {len(entries) - len(wrong)} of {len(entries)} right; look again at number {wrong[0] + 1}."
    return " ".join(filter(None, [which, _mistake(answer, entries, wrong[0]), hint]))


def _mistake(answer: dict[str, Any], entries: list[Any], i: int) -> str:
    """The common mistake that explains entry ``i``, in words; empty if none does."""
    if len(entries) > 1 and any(_matches(answer, j, entries[i]) for j in range(len(entries)) if j != i):
        return "Check the order."
    if answer["kind"] != "number" or not 1e-9 < abs(entries[i]) < 1e9:
        return ""
    sums = [("A sum where a mean is asked for, or the other way round?", lambda v, k=k: v * k)
            for n in answer.get("counts", []) for k in (n, 1 / n)]
    return next((words for words, right in (*sums, *MISTAKES) if _matches(answer, i, right(entries[i]))), "")


def _matches(answer: dict[str, Any], i: int, entry: Any) -> bool:
    return any(_hash(answer["salt"], i, key) == answer["hashes"][i] for key in _keys(entry, answer["digits"]))


# ---- values

def _entries(value: Any) -> list[Any]:
    """A value as a flat list of numbers, bools, texts and dots."""
    if isinstance(value, Tensor):
        require_values("value", value)
    value = value.tolist() if hasattr(type(value), "tolist") else value  # arrays and tensors, of any number of dimensions
    if isinstance(value, (list, tuple)):
        return [entry for part in value for entry in _entries(part)]
    if value is ... or isinstance(value, (bool, str)):
        return [value]
    require(hasattr(type(value), "__float__"), f"an answer of type {type(value).__name__}",
            "a number, True or False, a text, or a list of these", error=TypeError)
    return [float(value)]


def _kind(entry: Any) -> str:
    return "truth" if isinstance(entry, bool) else "text" if isinstance(entry, str) else "number"


def _keys(entry: Any, digits: int) -> list[str]:
    """How an entry is written before hashing: first as rounded, then its neighbours, so that no rounding edge rejects."""
    if isinstance(entry, bool):
        return [str(entry)]
    if isinstance(entry, str):
        return [re.sub(r"[\W_]+", " ", entry.casefold()).strip()]
    if not math.isfinite(entry):
        return [str(entry)]
    if abs(entry) < 1e-9:
        return ["0"]
    rounded = float(f"{entry:.{digits - 1}e}")
    step = 10.0 ** (math.floor(math.log10(abs(rounded))) - digits + 1)
    lower = step / 10 if f"{abs(rounded):e}".startswith("1.000000") else step  # below a power of ten the last digit is worth a tenth
    near = [rounded, rounded + math.copysign(step, rounded), rounded - math.copysign(lower, rounded)]
    return list(dict.fromkeys(f"{v:.{digits - 1}e}" for v in near))


def _hash(salt: str, i: int, key: str) -> str:
    return hashlib.sha256(f"{salt}/{i}/{key}".encode()).hexdigest()[:16]


def _counted(number: int, one: str, many: str) -> str:
    """A number with its noun: "1 entry", "2 entries"."""
    return f"{number} {one if number == 1 else many}"


# ---- recording

def load_answers(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """The records of all self-checks by exercise.

    Args:
        path: A file of answers; the package's own unless it, or the recording, says otherwise.

    Returns:
        A dict of records, empty if there is no such file.

    Raises:
        TypeError: If ``path`` is no path.

    Example:
        >>> "ex-two-annotators" in load_answers()
        True
    """
    require_kind("path", path, (Path, type(None)), "a `pathlib.Path` or None")
    path = path or Path(os.environ.get(RECORD_INTO) or ANSWERS)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def record(path: Path, exercise: str, value: object) -> None:
    """Write the hashes of an answer; what is written by hand stays, and so do hashes that still fit.

    Args:
        path: The file of answers.
        exercise: The label of the exercise, "ex-…".
        value: The right answer, as for ``check_answer``.

    Raises:
        ValueError: On a name that is not a label, or a value that mixes numbers, bools and texts.

    Example:
        >>> record(Path("answers.json"), "ex-two-coins", 2 * math.log(2))
        >>> load_answers(Path("answers.json"))["ex-two-coins"]["kind"]
        'number'
    """
    require_kind("path", path, Path, "a `pathlib.Path`")
    require_kind("exercise", exercise, str, "the label of an exercise, 'ex-…'")
    require(re.fullmatch(r"ex-[a-z0-9-]+", exercise), f"the label {exercise!r}", "one like 'ex-two-annotators'")
    answers, entries = load_answers(path), _entries(value)
    kinds = sorted({_kind(entry) for entry in entries})
    require(len(kinds) == 1, f"an answer of {' and '.join(kinds) or 'nothing'}", "entries of one kind", "Split the exercise.")
    old = answers.get(exercise, {"hint": "", "digits": DIGITS})
    keys = [_keys(entry, old["digits"])[0] for entry in entries]
    if old.get("hashes") != [_hash(old.get("salt", ""), i, key) for i, key in enumerate(keys)]:
        salt = secrets.token_hex(4)
        answers[exercise] = old | {"kind": kinds[0], "salt": salt, "hashes": [_hash(salt, i, key) for i, key in enumerate(keys)]}
    text = json.dumps(dict(sorted(answers.items())), indent=1, ensure_ascii=False) + "\n"
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _run_notebook(path: Path) -> None:
    """Run a notebook where it lies; its outputs are not kept."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()


def main(arguments: Iterable[str] | None = None) -> None:
    """The command: run notebooks, and record what their solutions give to ``check_answer``.

    Args:
        arguments: Words of the command line; those of this process by default.

    Example:
        >>> import nbformat
        >>> nbformat.write(nbformat.v4.new_notebook(), "empty.ipynb")
        >>> main(["record", "empty.ipynb", "--answers", "answers.json"])  # no self-check in it, nothing to record
    """
    parser = argparse.ArgumentParser(prog="python -m clt_utils.exercises", description=main.__doc__)
    parser.add_argument("command", choices=["record"])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--answers", type=Path, default=ANSWERS, help="the file to write (default: the package's own)")
    options = parser.parse_args(None if arguments is None else list(arguments))
    before = load_answers(options.answers)
    os.environ[RECORD_INTO] = str(options.answers.resolve())
    try:
        for path in options.notebooks:
            _run_notebook(path)
    finally:
        del os.environ[RECORD_INTO]
    for exercise, answer in load_answers(options.answers).items():
        if before.get(exercise) != answer:
            print(f"{exercise}: {'recorded anew' if exercise in before else 'recorded'}{'' if answer['hint'] else '; write its hint'}")


if __name__ == "__main__":
    main()
