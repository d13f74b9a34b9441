"""Planted faults: a slice of them is noticed, what nobody watches is reported, and the record fits the code."""

import ast
import json
import subprocess
import sys

import pytest
import strength


def run(*arguments):
    result = subprocess.run([sys.executable, strength.__file__, *arguments], capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def test_a_slice_of_the_faults_is_noticed():
    """The formulas of the entropies: an inequality, a factor and a sign wrong are seen by their tests."""
    status, said = run("entropy", "--find", "return _like(p, 0.5", "--tests", "test_entropy")
    assert status == 0 and "faults noticed" in said and "0 unnoticed" in said, said


def test_what_nobody_notices_is_reported():
    status, said = run("entropy", "--find", "return _like(p, 0.5", "--tests", "test_interval")
    assert status == 1 and "nobody noticed, line" in said and "0.5 → 1.0" in said, said


def planted(code):
    """The code with each of its faults."""
    found = []
    for k in range(len(strength.faults(ast.parse(code)))):
        tree = ast.parse(code)
        strength.faults(tree)[k].plant()
        found.append(ast.unparse(tree))
    return found


@pytest.mark.parametrize("code, wrong", [
    ("x = 2 * n", ["x = 2 / n", "x = 3 * n"]),
    ("x = -y", ["x = y"]),
    ("x = a if a < b else 0.5", ["x = a if a >= b else 0.5", "x = a if a < b else 1.0"]),
    ("x = min(a, b.amax(-1))", ["x = max(a, b.amax(-1))", "x = min(a, b.amin(-1))", "x = min(a, b.amax(1))", "x = min(a, b.amax(-2))"]),
    ("require_integer('n', n)", ["pass"]),
    ("tolerance = 1e-4", ["tolerance = 0.1"]),
    ("'''Of 3.'''\nraise ValueError(f'{2 * x}')", []),
    ("f = lambda x: x + a\ndone = True", ["f = lambda x: x - a\ndone = True", "f = lambda x: x + a\ndone = False"]),
])
def test_one_fault_at_a_time(code, wrong):
    assert sorted(planted(code)) == sorted(wrong)


def test_a_claim_of_the_ledger_that_is_too_strong_is_seen():
    planted, survivors = strength.judge_ledger(["residual-sandwich", "tv-tail", "gradient-correlation-factor"])
    assert planted >= 20 and survivors == []


def test_the_record_says_at_least_95_in_100_and_why_of_every_other():
    record = json.loads(strength.RECORD.read_text(encoding="utf-8"))
    assert set(record["modules"]) <= {"ledger", *strength.TESTS} and all(record["survivors"].values())
    for module, counts in record["modules"].items():
        argued = sum(key.startswith(f"{module}: ") for key in record["survivors"])
        assert counts["noticed"] + argued >= 0.95 * counts["planted"], (
            f"Given: of {counts['planted']} faults in {module} {counts['noticed']} noticed. Expected: 95 in 100. "
            f"Run `python tools/strength.py {module}`, and write tests that fail on those it names.")
