"""Self-checks: right answers pass at every rounding edge, wrong ones get the hint that fits, and the file gives nothing away."""

import json
import math
from decimal import ROUND_DOWN, Decimal
from fractions import Fraction

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clt_utils import exercises
from clt_utils.exercises import check_answer, load_answers, main, record, verdict


def answer(tmp_path, value, **by_hand):
    """The record of one right answer, with what an author adds by hand."""
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"ex-a": {"hint": "", "digits": 3} | by_hand}), encoding="utf-8")
    record(path, "ex-a", value)
    return load_answers(path)["ex-a"]


@pytest.mark.parametrize("right, given", [
    (0.5, [0.5, np.float32(0.5), torch.tensor(0.5, requires_grad=True), Fraction(1, 2), np.array([0.5])]),
    (3, [3, 3.0, np.int64(3), torch.tensor(3)]),
    (0.0, [0, -0.0, 1e-15]),
    (math.inf, [math.inf, np.inf]),
    (True, [True, np.bool_(True), torch.tensor(True)]),
    ("the median", ["the median", " The  Median. "]),
    ([[1.0, 2.0], [3.0, 4.0]], [np.arange(1, 5), torch.arange(1.0, 5).reshape(2, 2), (1, 2, 3, 4)]),
], ids=str)
def test_right_in_any_type(tmp_path, right, given):
    recorded = answer(tmp_path, right)
    assert [verdict(recorded, value) for value in given] == ["right."] * len(given)


@given(st.floats(1e-6, 1e6), st.sampled_from([2, 3, 4]))
def test_never_rejected_at_a_rounding_edge(value, digits):
    recorded = {"kind": "number", "digits": digits, "salt": "s", "hashes": [exercises._hash("s", 0, exercises._keys(value, digits)[0])]}
    rounded = [float(f"{value:.{k}e}") for k in (digits - 1, digits, digits + 3)]
    exact = Decimal(value)
    truncated = float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), ROUND_DOWN))
    for near in (value, *rounded, truncated, value * (1 + 1e-9), value * (1 - 1e-9)):
        assert verdict(recorded, near) == "right."
    for factor in (1 + 21 * 10.0 ** -digits, 1 - 21 * 10.0 ** -digits):
        assert verdict(recorded, value * factor).startswith("not yet.")


@pytest.mark.parametrize("right, near", [(1.0, 1.02), (1.0, 0.98), (0.507, 0.497), (-1.0, -1.02), (17, 16), (17, 18), (99, 100)])
def test_what_is_only_near_is_not_right(tmp_path, right, near):
    """An answer that is 2 % off, or a count that is one off."""
    assert verdict(answer(tmp_path, right), near).startswith("not yet.")


@pytest.mark.parametrize("right, wrong, word", [
    (0.345, 0.69, "½"),
    (0.345, 0.1725, "½"),
    (0.345, -0.345, "sign"),
    (0.345, 0.345 / math.log(2), "nats"),
    (0.345, 0.345 / math.log(10), "base 10"),
    (0.345, 0.345**2, "square"),
    (0.345, math.sqrt(0.345), "square"),
    (0.345, 1 / 0.345, "ratio"),
    (0.345, 0.655, "opposite"),
    (0.345, 34.5, "percentage"),
    (0.345, 0.345 * 7, "sum"),
    (0.345, 0.345 / 7, "sum"),
    ([0.2, 0.7], [0.7, 0.2], "order"),
])
def test_common_mistakes_are_recognized(tmp_path, right, wrong, word):
    said = verdict(answer(tmp_path, right, counts=[7], hint="Look at the figure."), wrong)
    assert said.startswith("not yet.") and word in said and said.endswith("Look at the figure.")


@pytest.mark.parametrize("right, given, said", [
    (0.345, 0.4, "not yet."),
    (0.345, math.nan, "not yet."),
    (True, False, "not yet."),
    ([1.0, 2.0], [1.0, 5.0], "not yet. 1 of 2 right; look again at number 2."),
    ([1.0, 2.0], 1.0, "given 1 entry, asked for 2"),
    (1.0, "one", "given a word in quotes, asked for a number."),
    (1.0, True, "given True or False, asked for a number."),
    ([1.0, 2.0], [1.0, ...], "put your answer in place of the dots."),
    (1.0, ..., "put your answer in place of the dots."),
])
def test_says_what_is_amiss(tmp_path, right, given, said):
    assert verdict(answer(tmp_path, right), given).startswith(said)


def test_wrong_input_is_refused(tmp_path):
    with pytest.raises(TypeError, match="dict"):
        verdict(answer(tmp_path, 1.0), {"a": 1})
    with pytest.raises(ValueError, match="one kind"):
        record(tmp_path / "a.json", "ex-a", [1.0, "one"])
    with pytest.raises(ValueError, match="label"):
        record(tmp_path / "a.json", "Exercise 1", 1.0)


def test_unknown_exercise_names_the_closest():
    known = next(iter(load_answers()))
    with pytest.raises(ValueError, match=f"Did you mean '{known}'"):
        check_answer(known + "s", 1.0)
    with pytest.raises(ValueError, match="Copy the name"):
        check_answer("nothing like it", 1.0)


def test_three_significant_digits_are_enough_and_are_asked_for(tmp_path):
    answer = record(tmp_path / "answers.json", "ex-a", 0.345678) or load_answers(tmp_path / "answers.json")["ex-a"]
    assert [verdict(answer, given) for given in (0.346, 0.3457, 0.345)] == ["right."] * 3
    assert verdict(answer, 0.349) != "right." and verdict(answer, 0.35) != "right."


def test_the_file_holds_no_answer_and_keeps_what_is_written_by_hand(tmp_path):
    path = tmp_path / "answers.json"
    record(path, "ex-a", 0.345)
    first = path.read_text(encoding="utf-8")
    assert "0.345" not in first and "3.45" not in first
    answers = load_answers(path)
    answers["ex-a"]["hint"] = "By hand."
    path.write_text(json.dumps(answers), encoding="utf-8")
    record(path, "ex-a", 0.34500001)
    assert load_answers(path) == answers                       # the same answer: nothing changes
    record(path, "ex-a", 0.5)
    changed = load_answers(path)["ex-a"]
    assert changed["hint"] == "By hand." and changed["salt"] != answers["ex-a"]["salt"] and verdict(changed, 0.5) == "right."
    record(tmp_path / "other.json", "ex-a", 0.5)               # the same answer elsewhere has other hashes
    assert load_answers(tmp_path / "other.json")["ex-a"]["hashes"] != changed["hashes"]


def test_the_command_records_from_a_notebook_what_its_solution_computes(tmp_path, capsys, monkeypatch):
    path, answers = tmp_path / "chapter.ipynb", tmp_path / "answers.json"
    code = "from clt_utils.exercises import check_answer\ncheck_answer('ex-sum', 1 + 1)"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), path)
    main(["record", str(path), "--answers", str(answers)])
    assert "ex-sum: recorded; write its hint" in capsys.readouterr().out
    monkeypatch.setattr(exercises, "ANSWERS", answers)
    check_answer("ex-sum", 2)
    check_answer("ex-sum", 5)
    assert capsys.readouterr().out == "ex-sum: right.\nex-sum: not yet.\n"
