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


CODE = """
import math
LIMIT = 2
def double(x, times=2):
    return times * x
def maker(a):
    return lambda x: x + a
add = maker(1)
class Box:
    size = 3
    def grow(self):
        return self.size + 1
"""


@pytest.mark.parametrize("old, new, call", [
    ("times * x", "times / x", "double(4) == 0.5"),
    ("x + a", "x - a", "add(5) == 4"),  # made before the fault was planted
    ("self.size + 1", "self.size + 2", "Box().grow() == 5"),
])
def test_a_fault_reaches_functions_that_live(old, new, call):
    names = {}
    exec(compile(CODE, "here", "exec"), names)
    codes = strength.exchanges(compile(CODE, "here", "exec"), compile(CODE.replace(old, new), "here", "exec"))
    for function in (names["double"], names["maker"], names["add"], names["Box"].grow):
        function.__code__ = codes.get(function.__code__, function.__code__)
    assert eval(call, names)


@pytest.mark.parametrize("old, new", [("LIMIT = 2", "LIMIT = 3"), ("times=2", "times=3"), ("size = 3", "size = 4"),
                                      ("return lambda x: x + a", "return add")])
def test_what_runs_while_a_module_is_imported_is_imported_anew(old, new):
    assert not strength.exchanges(compile(CODE, "here", "exec"), compile(CODE.replace(old, new), "here", "exec"))


def test_a_claim_of_the_ledger_that_is_too_strong_is_seen():
    planted, survivors = strength.judge_ledger(["residual-sandwich", "tv-tail", "gradient-correlation-factor"])
    assert planted >= 20 and survivors == []


def test_the_record_says_at_least_95_in_100_and_why_of_every_other():
    record = json.loads(strength.RECORD.read_text(encoding="utf-8"))
    assert set(record["modules"]) == {"ledger", *strength.TESTS} and all(record["survivors"].values())
    for module, counts in record["modules"].items():
        assert counts["planted"] >= min(40, counts["of"]) and counts["noticed"] >= 0.95 * (counts["planted"] - counts["argued"]), (
            f"Given: of {counts['planted']} faults in {module} {counts['noticed']} noticed, {counts['argued']} that change nothing. "
            f"Expected: 95 in 100. Run `python tools/strength.py {module}`, and write tests that fail on those it names.")
