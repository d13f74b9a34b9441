"""Plants faults, one at a time, and reports those that no test notices.

    python tools/strength.py                       everything: the ledger's claims, then every formula of the modules (an hour or two)
    python tools/strength.py ledger bounds sgd     the claims, and these modules, alone
    python tools/strength.py duality --sample 150  so many faults of each module, drawn at random, always the same ones
    python tools/strength.py bounds --find ln      those whose line holds this text
    python tools/strength.py ... --patience 20     more seconds of tests for each fault that the quick ones do not notice
    python tools/strength.py ... --record          write the numbers to tests/strength.json

A fault is one change of a number, an operator, a comparison or a name, or an assumption that is not checked. The tests that run the
changed line, the quickest first, are asked until one fails. What all of them pass has survived. tests/strength.json says of the survivors
that are known why they change nothing that counts; a new one is an error: write a test that fails on it.

Why no tool from the shelf: what costs is not the fault but the process, since importing torch takes longer than most tests. mutmut and
cosmic-ray start a fresh one for every fault (or, as mutmut, fork after the package was imported, with a switch in every function: lambdas
and constants of modules, which are most of ``duality``, are out of its reach). Here a process that has imported the libraries, and nothing
of this package, forks for every fault; the child compiles the changed module in memory. No file is touched.
"""

import argparse
import ast
import collections
import contextlib
import functools
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import math
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests" / "strength.json"
LIBRARIES = ("numpy", "scipy.stats", "scipy.optimize", "torch", "torch.func", "hypothesis", "pytest", "nbformat", "torchvision")
TESTS = {  # the files whose tests may notice; the lines that each test runs are found by running it once
    **{name: [f"test_{name}", "test_border", "test_ledger"] for name in ("duality", "dual_steps", "finite")},
    **{name: [f"test_{name}", "test_border", "test_devices", "test_ledger"] for name in ("bounds", "entropy", "sgd")},
    **{f"structure.{name}": ["test_structure", "test_guards", "test_border", "test_devices"]
       for name in ("__init__", "engine", "graph", "rules")},
}


PATIENCE = 3
"""Seconds of the processor of tests that a fault is shown to, at most: what these do not notice counts as unnoticed."""


class Fault(NamedTuple):
    """One planted change of a module: where, what it was, what it is, and how to make it in the module's syntax tree."""

    line: int
    lines: range  # of the statement or the lambda around it: a test that runs one of them may notice
    was: str
    now: str
    plant: Callable[[], None]

    def key(self, module: str, source: list[str]) -> str:
        """A name that survives other lines coming and going."""
        return f"{module}: {source[self.line - 1].strip()} | {self.was} → {self.now}"


# What can be planted --------------------------------------------------------------------------------------------------

ARITHMETIC: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
                                ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv}
COMPARISONS: dict[type, type] = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq,
                                 ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
PAIRS = (("min", "max"), ("amin", "amax"), ("minimum", "maximum"), ("argmin", "argmax"), ("floor", "ceil"), ("any", "all"))
NAMES = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}


def faults(tree: ast.Module) -> list[Fault]:
    """Every fault that can be planted in a module, in the order of its lines."""
    return sorted(_faults_below(tree, range(0)), key=lambda fault: fault.line)


def planted_in(module: str) -> list[Fault]:
    """The same of a module of the package."""
    return faults(ast.parse(file_of(module).read_text(encoding="utf-8")))


def _faults_below(node: Any, lines: range) -> Iterator[Fault]:
    for field, value in ast.iter_fields(node):
        children: list[Any] = value if isinstance(value, list) else [value]
        for i, child in enumerate(children):
            if not isinstance(child, ast.AST) or field in ("annotation", "returns", "decorator_list") or _says_something(child):
                continue
            where = (value, i) if isinstance(value, list) else (node, field)
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue  # a docstring
            inner = lines
            if isinstance(child, (ast.stmt, ast.Lambda)):
                body = getattr(child, "body", None)  # of a block only the head, of a lambda all
                end = body[0].lineno - 1 if isinstance(body, list) else child.end_lineno
                inner = range(child.lineno, max(end or 0, child.lineno) + 1)
            for new in _changed(child):
                was, now = ast.unparse(child)[:70], ast.unparse(new)[:70]
                yield Fault(getattr(child, "lineno", 0), inner, was, now, functools.partial(_put, where, new))
            yield from _faults_below(child, inner)


def _says_something(node: Any) -> bool:
    """Whether it is about words: an error, a warning, a text with numbers in it."""
    return isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)) or (
        isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn")


def _put(where: tuple, new: ast.AST) -> None:
    parent, at = where
    if isinstance(parent, list):
        parent[at] = new
    else:
        setattr(parent, at, new)


def _changed(node: Any) -> Iterator[Any]:
    """The faults of one node, as nodes that take its place."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.copy_location(ast.Constant(not node.value), node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not 0 < abs(node.value) <= 1e-15:
        yield ast.copy_location(ast.Constant(_wrong(node.value)), node)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not isinstance(node.left, (ast.JoinedStr, ast.List)):
        yield ast.copy_location(ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right), node)
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            ops = [COMPARISONS[type(op)]() if i == k else other for k, other in enumerate(node.ops)]
            yield ast.copy_location(ast.Compare(node.left, ops, node.comparators), node)
    elif isinstance(node, ast.BoolOp):
        yield ast.copy_location(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values), node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield node.operand
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield ast.copy_location(ast.Name(NAMES[node.id], node.ctx), node)
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.copy_location(ast.Attribute(node.value, NAMES[node.attr], node.ctx), node)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and "require" in ast.unparse(node.value.func):
        yield ast.copy_location(ast.Pass(), node)  # an assumption that nobody checks


def _wrong(value: float) -> float:
    """A wrong number in place of a right one: the next whole one, twice a constant, a tolerance a thousand times as wide."""
    if isinstance(value, int):
        return value + 1
    return 1.0 if value == 0 else 1000 * value if abs(value) < 1e-3 else 2 * value


# Running tests in a child that has the fault --------------------------------------------------------------------------

class _Planted(importlib.machinery.SourceFileLoader):
    """Loads a module from a syntax tree in place of its file."""

    tree: ast.Module

    def get_code(self, fullname: str) -> CodeType:
        return compile(ast.fix_missing_locations(self.tree), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        loader = _Planted(fullname, str(self.path))
        loader.tree = self.tree
        folder = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader, submodule_search_locations=folder)


def file_of(module: str) -> Path:
    """The file of a module of the package, "bounds" or "structure.rules"."""
    return ROOT / "clt_utils" / (module.replace(".", "/") + ".py")


def in_a_child(work: Callable[[], Any], seconds: float) -> Any:
    """What ``work`` returns in a forked process, or None if it died or took longer."""
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(end)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1), os.dup2(silence, 2)
            try:
                answer = [work()]
            except Exception:
                answer = [None, traceback.format_exc()]
            with open(start, "w", encoding="utf-8") as pipe:
                json.dump(answer, pipe)
        os._exit(0)
    os.close(start)
    said, until = b"", time.monotonic() + seconds
    while True:
        if not select.select([end], [], [], max(until - time.monotonic(), 0))[0]:
            os.kill(child, signal.SIGKILL)
            break
        part = os.read(end, 1 << 16)
        if not part:
            break
        said += part
    os.close(end)
    os.waitpid(child, 0)
    found, *trouble = json.loads(said) if said else [None]
    if trouble:
        raise RuntimeError(f"Given: a child that failed without any test. Expected: tests that pass or fail.\n{trouble[0]}")
    return found


class _Watcher:
    """A plugin of pytest: how long each test took, which lines of the package's functions it ran, and which ran before any test."""

    def __init__(self) -> None:
        self.paths = {str(file_of(module)): module for module in TESTS}
        self.tests: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, set[int]] = {}
        self.first: dict[str, list[int]] = {}

    def begin(self) -> None:
        self.seen, self.began = {path: set() for path in self.paths}, time.process_time()
        sys.settrace(self.call)

    def end(self) -> dict[str, list[int]]:
        sys.settrace(None)
        return {module: sorted(self.seen[path]) for path, module in self.paths.items() if self.seen[path]}

    def pytest_collection(self) -> None:
        self.begin()

    def pytest_collection_finish(self) -> None:
        self.first = self.end()

    def pytest_runtest_logstart(self) -> None:
        self.begin()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.tests[nodeid] = {"lines": self.end(), "seconds": round(time.process_time() - self.began, 3)}

    def call(self, frame: Any, event: str, _: Any) -> Any:
        here = frame.f_code.co_filename in self.paths and frame.f_code.co_flags & inspect.CO_OPTIMIZED  # no module's or class's own lines
        return self.line(frame, event, _) if here else None

    def line(self, frame: Any, event: str, _: Any) -> Any:
        self.seen[frame.f_code.co_filename].add(frame.f_lineno)
        return self.line


class _Once:
    """A plugin of pytest: of the ledger's tests those that can tell, with one seed of three; and none in a process of its own."""

    def pytest_collection_modifyitems(self, items: list) -> None:
        spared = {"test_ledger.py": ("[1-", "[2-", "test_an_entry_", "test_entry_", "test_the_ledger_has_"),
                  "test_devices.py": ("test_on_another_device",)}
        items[:] = [item for item in items if not any(part in item.name for part in spared.get(item.path.name, ()))]


def _pytest(tests: Sequence[str], *plugins: object) -> int:
    """Runs tests as `make test` does, except that a hypothesis that found something looks for nothing simpler."""
    import pytest
    from hypothesis import HealthCheck, Phase, settings

    os.chdir(ROOT)
    registers = importlib.import_module("torch.utils.backend_registration")
    if any("test_devices" in test for test in tests) and hasattr(registers, "_setup_privateuseone_for_python_backend"):
        os.environ["CLT_PRETENDED"] = "1"  # a second device, see tests/pretended.py
    settings.register_profile("strength", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None,
                              max_examples=20, phases=[Phase.explicit, Phase.generate])
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:nbval", "--hypothesis-profile=strength"]
    return int(pytest.main([*options, *tests], plugins=[_Once(), *plugins]))


def _stamp(*files: Path) -> str:
    """What faults were planted in, and what was to notice them."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]


def coverage(file: Path) -> dict[str, Any]:
    """For each test of a file its seconds and the lines that it runs of each module, and those that run before any test.

    Kept in _build until the file or the package changes.
    """
    kept = ROOT / "_build" / "strength" / f"{file.stem}-{_stamp(file, *sorted((ROOT / 'clt_utils').rglob('*.py')))}.json"
    if not kept.exists():
        def watch() -> dict:
            watcher = _Watcher()
            return {} if _pytest([str(file)], watcher) else {"tests": watcher.tests, "first": watcher.first}

        found = in_a_child(watch, 3600)
        if not found:
            raise SystemExit(f"Given: a test that fails without any fault. Expected: all pass. Run pytest on {file}.")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


# Two ways to plant: exchange the code of functions that live, or import the module anew --------------------------------

def _with_fault(module: str, number: int) -> ast.Module:
    tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
    faults(tree)[number].plant()
    return ast.fix_missing_locations(tree)


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _own(code: CodeType) -> tuple:
    """What a code says itself, without the functions in it."""
    rest = [(type(c), c) for c in code.co_consts if not isinstance(c, CodeType)]
    return code.co_code, code.co_names, code.co_freevars, repr(rest)


def exchanges(old: CodeType, new: CodeType) -> dict[CodeType, CodeType] | None:
    """For the functions of a module that a fault changes, their code without and with it; None if it changes more than functions."""
    if len(_inner(old)) != len(_inner(new)) or old.co_freevars != new.co_freevars:
        return None
    if not old.co_flags & inspect.CO_OPTIMIZED and _own(old) != _own(new):
        return None  # the module's or a class's own lines, which ran long ago
    found = {old: new} if old != new and old.co_flags & inspect.CO_OPTIMIZED else {}
    for before, after in zip(_inner(old), _inner(new), strict=True):
        inner = exchanges(before, after)
        if inner is None:
            return None
        found |= inner
    return found


def exchanged(module: str, number: int) -> dict[CodeType, CodeType] | None:
    """The same for the module's fault of that number."""
    path = str(file_of(module))
    old = compile(file_of(module).read_text(encoding="utf-8"), path, "exec")
    return exchanges(old, compile(_with_fault(module, number), path, "exec"))


class Verdicts:
    """Which test noticed which fault, kept in _build as it becomes known, so that nothing is asked twice.

    That a test noticed it holds while the module and the test stay the same; that none did, while the module and all tests do. What was
    judged with others is a hint: the test that noticed the fault then is asked first, then those that notice much in little time.
    """

    def __init__(self, module: str, keys: dict[int, str], tests: dict[str, float], files: Sequence[Path], patience: float) -> None:
        self.patience, self.keys, self.seconds, self.noticed = patience, keys, tests, collections.Counter[str]()
        self.code, self.all = file_of(module).read_text(encoding="utf-8"), _stamp(file_of(module), *files, *_code("ledger"))
        self.texts = {f"{file.relative_to(ROOT)}::{node.name}": ast.unparse(node) for file in files
                      for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}
        self.file = ROOT / "_build" / "strength" / f"{module}.jsonl"
        self.hints = {line["fault"]: line["test"] for line in self.lines()}
        now = {line["fault"]: line["test"] for line in self.lines() if line["stamp"] == self.stamp(line["test"])}
        self.test = {number: now[key] for number, key in keys.items() if key in now}

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()] if self.file.exists() else []

    def stamp(self, test: str) -> str:
        """What a verdict rests on."""
        if not test:
            return f"{self.all}-{self.patience:g}"
        return hashlib.sha256((self.code + self.texts.get(test.split("[")[0], "")).encode()).hexdigest()[:12]

    def order(self, number: int, tests: Sequence[str]) -> list[str]:
        hint, total, chosen = self.hints.get(self.keys[number]), 0.0, list[str]()
        for test in sorted(tests, key=lambda test: (test != hint, self.seconds[test] / (1 + self.noticed[test]))):
            total += self.seconds[test]
            if not chosen or total <= self.patience:
                chosen.append(test)
        return chosen

    def hear(self, number: int, test: str) -> None:
        self.test[number] = test
        self.noticed[test] += 1
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stamp": self.stamp(test), "fault": self.keys[number], "test": test}, ensure_ascii=False) + "\n")


class _Judge:
    """A plugin of pytest that runs no test itself: for each fault it forks, and the child exchanges code and runs tests until one fails."""

    def __init__(self, module: str, trials: dict[int, list[str]], verdicts: Verdicts) -> None:
        self.module, self.trials, self.verdicts = module, trials, verdicts
        self.sound: dict[str, bool] = {}  # whether a test passes in a child without a fault; else it notices nothing

    def pytest_runtestloop(self, session: Any) -> bool:
        items, path = {item.nodeid: item for item in session.items}, file_of(self.module)
        functions = [f for f in gc.get_objects() if type(f) is FunctionType and f.__code__.co_filename == str(path)]

        def plant_and_run(number: int, asked: Sequence[str]) -> str:
            codes = exchanged(self.module, number)
            assert codes
            for function in functions:
                function.__code__ = codes.get(function.__code__, function.__code__)
            return self.first_to_fail(session, [items[test] for test in asked])

        def passes(test: str) -> bool:
            if test not in self.sound:
                self.sound[test] = in_a_child(lambda: self.first_to_fail(session, [items[test]]), 900) == ""
            return self.sound[test]

        def who_notices(number: int, tests: Sequence[str]) -> str | None:
            while True:
                asked = self.verdicts.order(number, [test for test in tests if self.sound.get(test, True)])
                said = in_a_child(lambda: plant_and_run(number, asked), 900)
                if not said or passes(said):
                    return said

        for number, tests in self.trials.items():
            said = who_notices(number, tests)
            self.verdicts.hear(number, "the end of time" if said is None else said)
        for test in (test for test, sound in self.sound.items() if not sound):
            print(f"    not asked, since it fails in a forked process without any fault: {test}", flush=True)
        return True

    def first_to_fail(self, session: Any, items: Sequence[Any]) -> str:
        for item, following in zip(items, [*items[1:], None], strict=True):
            signal.setitimer(signal.ITIMER_PROF, 10 + 10 * self.verdicts.seconds[item.nodeid])  # of the processor; then the child dies
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return item.nodeid
        return ""


class _FirstToFail:
    test = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.test = self.test or (report.nodeid if report.failed else "")


def noticed(module: str, number: int, tests: Sequence[str], seconds: float) -> str:
    """Which of the tests fails with the module imported anew with its fault of that number, "" if none."""
    def plant_and_run() -> str:
        name = f"clt_utils.{module}".removesuffix(".__init__")
        sys.meta_path.insert(0, _Finder(name, file_of(module), _with_fault(module, number)))
        for file in dict.fromkeys(test.split("::")[0] for test in tests):
            failed = _pytest([test for test in tests if test.startswith(f"{file}::")], first := _FirstToFail())
            if failed:
                return first.test or "the import"
        return ""

    said = in_a_child(plant_and_run, seconds)
    return "the end of time" if said is None else said


def judge(module: str, options: argparse.Namespace) -> tuple[int, list[str]]:
    """Plant the faults of a module one at a time -> how many, and the keys of those that nobody noticed."""
    source = file_of(module).read_text(encoding="utf-8").splitlines()
    planted = list(enumerate(planted_in(module)))
    drawn = random.Random(0).sample(planted, len(planted))[:options.sample or None]  # more begin with what fewer are
    chosen = {k: fault for k, fault in drawn if options.find in source[fault.line - 1]}
    files = [ROOT / "tests" / f"{name}.py" for name in options.tests or TESTS[module]]
    runs = [coverage(file) for file in files]
    tests = {test: one for run in runs for test, one in run["tests"].items()}
    first = {line for run in runs for line in run["first"].get(module, ())}
    verdicts = Verdicts(module, {k: f"{k} {fault.key(module, source)}" for k, fault in chosen.items()},
                        {test: one["seconds"] for test, one in tests.items()}, files, options.patience)

    def ask(fault: Fault) -> list[str]:
        mine = [test for test, one in tests.items() if not set(one["lines"].get(module, ())).isdisjoint(fault.lines)]
        return mine or list(tests)  # of a line that runs while the module is imported

    trials = {k: ask(fault) for k, fault in chosen.items() if k not in verdicts.test}
    living = {k: mine for k, mine in trials.items() if exchanged(module, k) and first.isdisjoint(chosen[k].lines)}
    if living:
        in_a_child(lambda: _pytest([str(file) for file in files], _Judge(module, living, verdicts)), 1e6)
        said = {line["fault"]: line["test"] for line in verdicts.lines()}  # what the child wrote
        verdicts.test |= {k: said[verdicts.keys[k]] for k in living}
    for k in trials.keys() - living.keys():
        verdicts.hear(k, noticed(module, k, verdicts.order(k, trials[k]), 900))
    for k in chosen:
        if not verdicts.test[k]:
            print(f"    nobody noticed, line {chosen[k].line}: {chosen[k].key(module, source)}", flush=True)
    return len(chosen), [fault.key(module, source) for k, fault in chosen.items() if not verdicts.test[k]]


# The ledger: what its checks would have said of another statement -----------------------------------------------------

def judge_ledger(chosen: Sequence[str] = ()) -> tuple[int, list[str]]:
    """Plant wrong constants, signs and directions into every claim of the ledger -> how many, and those that no instance contradicts.

    The instances of an entry do not depend on what is claimed of them, so each entry is checked once, and every fault judged on what was
    claimed. An assumption is left out by each counterexample, which must fail.
    """
    from clt_utils.ledger import core, statements

    claims: dict[str, list[tuple]] = {}
    modules = [module for name, module in sys.modules.items() if name.startswith("clt_utils.ledger.")]
    with _watching(modules, core, claims):
        planted, survivors = 0, []
        for slug, entry in statements.items():
            if chosen and slug not in chosen:
                continue
            claims.clear()
            parts = entry.check(0, None if entry.draws_at_once else min(entry.trials, 40)).parts
            wrong = {(part.name, fault): caught for part in parts
                     for fault, caught in _wrong_claims(claims.get(part.name, []), part, entry)}
            wrong |= {("", why): not broken.holds for why, broken in entry.broken(0)}
            planted += len(wrong)
            survivors += [f"ledger: {slug}, {part} | {fault}" for (part, fault), caught in wrong.items() if not caught]
    return planted, survivors


@contextlib.contextmanager
def _watching(modules: Sequence[ModuleType], core: Any, claims: dict) -> Iterator[None]:
    """While it lasts, every claim's maker and what it was given are kept, by the claim's name."""
    before = [(module, name, getattr(module, name)) for module in modules for name in ("at_most", "at_least", "identity", "rate")
              if hasattr(module, name) and module is not core]

    def watched(make: Callable) -> Callable:
        def claim(name: str, *args: Any, **options: Any) -> Any:
            claims.setdefault(name, []).append((make, args, options))
            return make(name, *args, **options)
        return claim

    for module, name, make in before:
        setattr(module, name, watched(make))
    try:
        yield
    finally:
        for module, name, make in before:
            setattr(module, name, make)


def _wrong_claims(claims: Sequence[tuple], part: Any, entry: Any) -> Iterator[tuple[str, bool]]:
    """What can be wrong with one part of a statement, and whether some instance contradicts it."""
    from clt_utils.ledger import core

    def contradicted(change: Callable) -> bool:
        return any(change(*claim).slack < 0 for claim in claims)

    opposite = {core.at_most: core.at_least, core.at_least: core.at_most}
    known = any(part.name.startswith(name) for name in entry.loose)
    counted = all(_equal(*args[:2], *([options["bound"]] if "bound" in options else [])) for _, args, options in claims)
    if not math.isnan(part.strength):
        yield "a bound 10 % better", part.strength > 0.9 or known
    if part.kind == "inequality" and not counted:
        yield "turned around", contradicted(lambda make, args, options: opposite[make]("", *args, **options))
    if part.kind == "identity" and any(np.any(core._array(args[1])) for _, args, _ in claims):
        for name, factor in (("a constant of 1.001", 1.001), ("another sign", -1.0)):
            yield name, contradicted(lambda make, args, options: core.identity("", args[0], factor * core._array(args[1]), **options))
    if part.kind == "rate":
        steeper = lambda options: options | {"slope": 1.25 * options["slope"]}
        yield "another slope", contradicted(lambda make, args, options: core.rate("", *args, **steeper(options)))


def _equal(value: Any, bound: Any) -> bool:
    """Whether they are the same to the last digit, as yes and no, counts and ranks are: no inequality to turn around."""
    from clt_utils.ledger import core

    return bool(np.all(core._array(value) == core._array(bound)))


def _code(module: str) -> list[Path]:
    return sorted((ROOT / "clt_utils" / "ledger").glob("*.py")) if module == "ledger" else [file_of(module)]


# The command ----------------------------------------------------------------------------------------------------------

def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 1 if a fault that is not known went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help=", ".join(["ledger", *TESTS]))
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--patience", type=float, default=PATIENCE)
    parser.add_argument("--find", default="")
    parser.add_argument("--tests", nargs="*", default=(), metavar="test_NAME")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))  # the package of this tree, not one that is installed from another
    for library in LIBRARIES:
        importlib.import_module(library)
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    new = []
    for module in options.modules or ["ledger", *TESTS]:
        began = time.monotonic()
        found = in_a_child(judge_ledger, 3600) if module == "ledger" else judge(module, options)
        planted, survivors = found
        unknown = [key for key in survivors if key not in record["survivors"]]
        print(f"{module}: {planted - len(survivors)} of {planted} faults noticed, {len(survivors) - len(unknown)} that change nothing, "
              f"{len(unknown)} unnoticed; {time.monotonic() - began:.0f} s", *(unknown if module == "ledger" else []),
              sep="\n    ", flush=True)
        new += unknown
        record["modules"][module] = {"planted": planted, "of": planted if module == "ledger" else len(planted_in(module)),
                                     "noticed": planted - len(survivors), "argued": len(survivors) - len(unknown),
                                     "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
                                     "code": _stamp(*_code(module))}
    if options.record:
        RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(bool(new))


if __name__ == "__main__":
    sys.exit(main())
