"""Plants faults, one at a time, and reports those that no test notices.

    python tools/strength.py                       everything: the ledger's claims, then every formula of the modules (an hour or two)
    python tools/strength.py ledger bounds sgd     the claims, and these modules, alone
    python tools/strength.py duality --every 20    one fault in twenty, always the same ones
    python tools/strength.py bounds --find ln      those whose line holds this text
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
import contextlib
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests" / "strength.json"
LIBRARIES = ("numpy", "scipy.stats", "scipy.optimize", "torch", "torch.func", "hypothesis", "pytest", "nbformat", "torchvision")
TESTS = {  # the files whose tests may notice; the lines that each test runs are found by running it once
    **{name: [f"test_{name}", "test_border", "test_ledger"] for name in ("bounds", "duality", "entropy", "sgd", "dual_steps", "finite")},
    **{f"structure.{name}": ["test_structure", "test_guards", "test_devices"] for name in ("__init__", "engine", "graph", "rules")},
}


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
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1), os.dup2(silence, 2)
            os.write(start, json.dumps(work()).encode())
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
    return json.loads(said) if said else None


class _Watcher:
    """A plugin of pytest: how long each test took, and which lines of one file it ran, or its file while it was collected."""

    def __init__(self, path: Path) -> None:
        self.path, self.tests, self.seen, self.first = str(path), {}, set(), set()  # type: ignore[var-annotated]

    def pytest_collection(self) -> None:
        sys.settrace(self.call)

    def pytest_collection_finish(self) -> None:
        sys.settrace(None)
        self.first = self.seen

    def line(self, frame: Any, event: str, _: Any) -> Any:
        self.seen.add(frame.f_lineno)
        return self.line

    def call(self, frame: Any, event: str, _: Any) -> Any:
        return self.line(frame, event, _) if frame.f_code.co_filename == self.path else None

    def pytest_runtest_logstart(self) -> None:
        self.seen, self.began = set(), time.monotonic()
        sys.settrace(self.call)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        self.tests[nodeid] = {"seconds": round(time.monotonic() - self.began, 3), "lines": sorted(self.seen | self.first)}


def _pytest(tests: Sequence[str], *plugins: object) -> int:
    import pytest

    os.chdir(ROOT)
    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:nbval", *tests], plugins=list(plugins)))


def coverage(module: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each test of these files its seconds and the lines of the module that it runs; kept in _build until a file changes."""
    tests = [ROOT / "tests" / f"{name}.py" for name in names]
    files = [Path(__file__), file_of(module), *tests, *sorted((ROOT / "clt_utils" / "ledger").glob("*.py"))]
    stamp = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]
    kept = ROOT / "_build" / "strength" / f"{module}-{stamp}.json"
    if not kept.exists():
        def watch() -> dict:
            watcher = _Watcher(file_of(module))
            return {} if _pytest([str(path) for path in tests], watcher) else watcher.tests

        found = in_a_child(watch, 3600)
        if not found:
            raise SystemExit(f"Given: a test that fails without any fault. Expected: all pass. Run pytest on {', '.join(map(str, tests))}.")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def noticed(module: str, number: int, tests: Sequence[str], seconds: float) -> bool:
    """Whether one of the tests fails with the module's fault of that number (or does not come to an end)."""
    path = file_of(module)
    name = f"clt_utils.{module}".removesuffix(".__init__")

    def plant_and_run() -> int:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        faults(tree)[number].plant()
        sys.meta_path.insert(0, _Finder(name, path, tree))
        return _pytest(tests)

    return in_a_child(plant_and_run, seconds) != 0


def judge(module: str, every: int = 1, find: str = "", tests: Sequence[str] = ()) -> tuple[int, list[str]]:
    """Plant the faults of a module one at a time -> how many, and the keys of those that nobody noticed."""
    text = file_of(module).read_text(encoding="utf-8")
    source, covering, survivors = text.splitlines(), coverage(module, tests or TESTS[module]), []
    chosen = [(k, fault) for k, fault in enumerate(faults(ast.parse(text))) if k % every == 0 and find in source[fault.line - 1]]
    for k, fault in chosen:
        mine = sorted((run["seconds"], test) for test, run in covering.items() if not set(run["lines"]).isdisjoint(fault.lines))
        mine = mine or sorted((run["seconds"], test) for test, run in covering.items())  # a line that runs while the module is imported
        if not noticed(module, k, [test for _, test in mine], 60 + 5 * sum(seconds for seconds, _ in mine)):
            survivors.append(fault.key(module, source))
            print(f"    nobody noticed, line {fault.line}: {survivors[-1]}", flush=True)
    return len(chosen), survivors


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


def _stamp(module: str) -> str:
    """What the faults were planted in."""
    files = sorted((ROOT / "clt_utils" / "ledger").glob("*.py")) if module == "ledger" else [file_of(module)]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]


# The command ----------------------------------------------------------------------------------------------------------

def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 1 if a fault that is not known went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help=", ".join(["ledger", *TESTS]))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--find", default="")
    parser.add_argument("--tests", nargs="*", default=(), metavar="test_NAME")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    for library in LIBRARIES:
        importlib.import_module(library)
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    new = []
    for module in options.modules or ["ledger", *TESTS]:
        began = time.monotonic()
        found = in_a_child(judge_ledger, 3600) if module == "ledger" else judge(module, options.every, options.find, options.tests)
        planted, survivors = found
        unknown = [key for key in survivors if key not in record["survivors"]]
        print(f"{module}: {planted - len(survivors)} of {planted} faults noticed, {len(survivors) - len(unknown)} that change nothing, "
              f"{len(unknown)} unnoticed; {time.monotonic() - began:.0f} s", *(unknown if module == "ledger" else []),
              sep="\n    ", flush=True)
        new += unknown
        record["modules"][module] = {"planted": planted, "noticed": planted - len(survivors), "one in": options.every,
                                     "date": f"{datetime.now(timezone.utc):%Y-%m-%d}", "code": _stamp(module)}
    if options.record:
        RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(bool(new))


if __name__ == "__main__":
    sys.exit(main())
