"""Grade a folder of submissions: each on its own, within its time, and none stops the others.

    python tools/grade.py FOLDER                       all notebooks in the folder and below; FOLDER/grades.csv has a line for each
    python tools/grade.py FOLDER --seconds 600         at most so long for one submission (300)
    python tools/grade.py FOLDER --allow inspect       run submissions that import this; see REFUSED
    python tools/grade.py FOLDER --assignment NAME     of which assignment, for notebooks that do not say it

Beside each submission lies NAME.graded.json with the points of every question, a sentence for each test that failed and for each code cell
that did, to be sent to the student as it is; what it printed is in NAME.printed.txt, for you alone. Run `make assignments` first: it makes
the tests. What a submission cannot do while it is graded, and what it could, is in the instructor's guide; the first lines printed say
what was measured on this machine.
"""

import argparse
import ast
import builtins
import contextlib
import csv
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import nbformat
from grading_room import PROBE, too_long
from IPython.core.inputtransformer2 import TransformerManager
from tqdm import tqdm

from make_assignments import BUILT
from notebooks import ROOT

HIDDEN = (ROOT / "book" / "teach", ROOT / "_build", ROOT / ".git")
"""Folders of the repository with solutions and tests; the folder of the submissions is hidden as well."""
REFUSED = frozenset({
    "asyncio", "builtins", "cffi", "code", "concurrent", "ctypes", "faulthandler", "ftplib", "gc", "http", "importlib", "inspect",
    "linecache", "multiprocessing", "otter", "pdb", "pip", "pkgutil", "posix", "requests", "runpy", "signal", "socket", "ssl", "subprocess",
    "_thread", "threading", "traceback", "urllib"})
"""Modules that no assignment needs, and with which a submission could look at its tests or write its own points."""
REFUSED_NAMES = frozenset({
    "__import__", "__builtins__", "__loader__", "__subclasses__", "__globals__", "__traceback__", "_getframe", "_current_frames", "compile",
    "eval", "exec", "f_back", "f_globals", "f_locals", "get_ipython", "setprofile", "settrace", "tb_frame"})
REFUSED_FUNCTIONS = frozenset(f"os.{name}" for name in (
    "_exit", "dup", "dup2", "fdopen", "fork", "forkpty", "kill", "killpg", "popen", "pread", "preadv", "pwrite", "pwritev", "read", "readv",
    "sendfile", "splice", "system", "write", "writev")) | {"io.FileIO", "io.open"}
"""What reaches the channel to the grader, or ends the program before it has been graded."""
"""Names with which the same could be done; ``model.eval()`` and ``torch.compile`` are other things."""
LARGEST = 20_000_000  # bytes of a notebook
KEPT = 4_000  # bytes of what a submission prints
COLUMNS = ("file", "assignment", "status", "total", "possible", "seconds", "remark")


@dataclass
class Graded:
    """What became of a submission: "graded", or why it was not, or not to the end; ``cells`` says which of its code cells failed."""

    file: str
    assignment: str = ""
    status: str = "graded"
    total: float = 0
    possible: float = 0
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    cells: list[str] = field(default_factory=list)
    seconds: float = 0
    remark: str = ""
    printed: str = ""


class Unreadable(ValueError):
    """A submission that is no notebook of an assignment."""


# ---- reading

def read(path: Path, assignment: str | None = None) -> tuple[str, list[str]]:
    """The assignment of a submission and its code cells.

    Raises:
        Unreadable: If there are none; the message says why.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise Unreadable(f"{path.stat().st_size / 1e6:.0f} MB; a notebook has at most {LARGEST / 1e6:.0f} MB")
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        cells = [str(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
        name = notebook.metadata.get("otter", {}).get("assignment_name")
    except Unreadable:
        raise
    except UnicodeDecodeError:
        raise Unreadable("no text: the file is not a notebook, or was damaged on its way") from None
    except Exception as wrong:  # what a file that calls itself a notebook may hold has no end
        raise Unreadable(f"no notebook: {type(wrong).__name__}: {' '.join(str(wrong).split())[:120]}") from None
    if not is_built(name):
        if not is_built(assignment):
            raise Unreadable(f"of no assignment that is built: {str(name)[:40]!r}")
        name = assignment
    return str(name), [harmless(cell) for cell in cells]


def is_built(name: Any) -> bool:
    return isinstance(name, str) and "/" not in name and (BUILT / name / "autograder").is_dir()


def harmless(cell: str) -> str:
    """A cell without the commands to IPython that change nothing of what it computes; its lines keep their numbers."""
    cell = re.sub(r"^%{1,2}(?:time|timeit)\b(?:[ \t]+-\w+(?:[ \t]+\d+)?)*[ \t]*", "", cell, flags=re.MULTILINE)
    return re.sub(r"^%(?:matplotlib|config|load_ext|autoreload)\b.*$", "", cell, flags=re.MULTILINE)


def refused(cells: Iterable[str], allowed: Iterable[str] = ()) -> list[str]:
    """What a submission uses of ``REFUSED`` and ``REFUSED_NAMES``, and where; cells that are no Python are left to fail by themselves."""
    found: dict[str, None] = {}
    for number, cell in enumerate(cells, 1):
        try:
            tree = ast.parse(TransformerManager().transform_cell(cell))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").split(".")[0], *(alias.name for alias in node.names if alias.name in REFUSED_NAMES)]
                names += [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Name):
                names = [node.id]
            elif isinstance(node, ast.Attribute):
                names = [node.attr] if node.attr not in ("compile", "eval", "exec") else []
                names += [f"{node.value.id}.{node.attr}"] if isinstance(node.value, ast.Name) else []
            bad = REFUSED_FUNCTIONS | REFUSED_NAMES | (REFUSED if isinstance(node, ast.Import | ast.ImportFrom) else frozenset())
            for name in (bad & set(names)) - set(allowed):
                if name != "otter" or not starts_otter(cell):
                    found[f"{'a command to the shell or to IPython' if name == 'get_ipython' else name} (code cell {number})"] = None
    return list(found)


def starts_otter(cell: str) -> bool:
    """Whether the cell does nothing but start Otter, as the first cell of every assignment does."""
    lines = [line for line in cell.strip().splitlines() if line and not line.startswith("#")]
    return len(lines) == 2 and lines[0] == "import otter" and lines[1].startswith("grader = otter.Notebook(")


def load_tests(autograder: Path) -> dict[str, dict[str, Any]]:
    """The tests of an assignment, by "q1 1", "q1 2", ...: question, code, points and what to say when they fail."""
    tests = {}
    with zipfile.ZipFile(autograder) as archive:
        for name in sorted(name for name in archive.namelist() if name.startswith("tests/q")):
            space: dict[str, Any] = {}
            exec(archive.read(name), space)  # written by `make assignments`
            for i, case in enumerate(space["test"]["suites"][0]["cases"], 1):
                tests[f"{space['test']['name']} {i}"] = {"question": space["test"]["name"], "points": case["points"],
                                                         "code": plain(case["code"]), "message": case["failure_message"]}
    return tests


def plain(code: str) -> str:
    """The Python of a test that is written as a session."""
    lines = code.splitlines()
    if not all(line.startswith((">>> ", "... ")) for line in lines):
        raise ValueError(f"Given: a test with lines other than >>> and ...: {code[:80]!r}. Expected: assertions only.")
    return "\n".join(line[4:] for line in lines)


# ---- running

class Room:
    """The process that runs submissions, started again if one of them ends it; see ``tools/grading_room.py``."""

    def __init__(self, hide: Iterable[Path] = (), memory: int = 4 << 30) -> None:
        self.hide = [str(folder.resolve()) for folder in (*HIDDEN, *hide) if folder.is_dir()]
        self.memory = memory
        self.folder = tempfile.TemporaryDirectory(prefix="grading-")
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Room":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process:
            self.control.close()
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def open(self) -> None:
        """Start the process, or start it again."""
        if self.process and self.process.poll() is None:
            return
        self.control, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "CLT_CACHE", "LD_LIBRARY_PATH") if name in os.environ}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
                        "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1", "HOME": self.folder.name}
        program = [sys.executable, str(Path(__file__).with_name("grading_room.py")), str(theirs.fileno())]
        self.process = subprocess.Popen(program, pass_fds=[theirs.fileno()], env=environment, cwd=self.folder.name)
        theirs.close()

    def run(self, cells: list[str], tests: dict[str, str], seconds: int, show: str | None = None) -> dict[str, Any]:
        """Run a submission and its tests.

        Args:
            cells: Its code.
            tests: Code by name.
            seconds: For all of it; a cell or a test gets a quarter.
            show: A name of the submission whose value is wanted.

        Returns:
            "said": for each test that ran None or why it failed; "end": "finished", "stopped" or "ended"; "exit", "printed", "size",
            "changed", "threads", "shown"; "begun": the number of the last cell that began; "failed": cell,
            error and line of each that failed; "forged": whether something was said that this program did not say.
        """
        self.open()
        ways = [os.pipe() for _ in range(4)]  # the submission; what it prints; results; its end
        theirs = [ways[0][0], *(way[1] for way in ways[1:])]
        socket.send_fds(self.control, [b"!"], theirs)
        for channel in theirs:
            os.close(channel)
        child = int(self.control.recv(32) or 0)
        request, printed, results, end = ways[0][1], *(way[0] for way in ways[1:])
        try:
            asked = {"cells": cells, "hide": self.hide, "room": self.folder.name, "memory": self.memory, "seconds": seconds,
                     "seconds_a_cell": seconds / 4}
            write(request, asked)
            work = {"key": secrets.token_hex(16), "tests": tests, **({"show": show} if show else {})}
            return self.watch(request, {printed: "printed", results: "results", end: "end"}, work, seconds, len(cells))
        finally:
            kill(child)
            for channel in (request, printed, results, end):
                os.close(channel)

    def watch(self, request: int, channels: dict[int, str], work: dict[str, Any], seconds: int, cells: int) -> dict[str, Any]:
        """Read what comes until the end, or until the time is over; the tests are sent when the cells have run."""
        until = time.monotonic() + seconds
        seen: dict[str, Any] = {"said": {}, "end": "ended", "exit": None, "size": 0, "changed": [], "threads": 0, "shown": None,
                                "begun": 0, "failed": [], "forged": False}
        rest, kept, listening = b"", b"", dict(channels)
        while listening:
            ready = select.select(list(listening), [], [], max(0.0, until - time.monotonic()))[0]
            if not ready:
                seen["end"] = "stopped"
                break
            for channel in ready:
                piece = os.read(channel, 1 << 16)
                if not piece:
                    del listening[channel]
                elif channels[channel] == "printed":
                    kept, seen["size"] = (kept + piece)[:KEPT], seen["size"] + len(piece)
                elif channels[channel] == "end":
                    seen["exit"] = int(piece)
                    listening = {c: name for c, name in listening.items() if select.select([c], [], [], 0)[0]}  # what is still under way
                else:
                    *lines, rest = (rest + piece)[-(1 << 20):].split(b"\n")
                    for line in lines:
                        note(line, seen, work["key"], cells, lambda: write(request, work))
        seen["printed"] = kept.decode("utf-8", "replace")
        return seen


def note(line: bytes, seen: dict[str, Any], key: str, cells: int, send_tests: Callable[[], None]) -> None:
    """Take in one line of results. Until the tests are sent, lines tell cell by cell how far it is; from then on they have the key, which
    only tests come with. What is out of turn did not come from us."""
    try:
        content = json.loads(line)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        seen["forged"] = True
    elif "sent" not in seen and content.get("begun") == seen["begun"] + 1 <= cells:
        seen["begun"] += 1
    elif "sent" not in seen and "cell" in content and content["cell"] == seen["begun"] not in [cell for cell, *_ in seen["failed"]]:
        seen["failed"].append((content["cell"], content.get("error"), content.get("line")))
    elif "sent" not in seen and content.get("ran") and seen["begun"] == cells:
        seen["sent"] = True
        send_tests()
    elif content.get("key") == key:
        if "test" in content:
            seen["said"].setdefault(content["test"], content["said"])
        if "end" in content:
            seen["end"] = "finished"
        seen |= {name: content[name] for name in ("changed", "threads", "shown") if name in content}
    else:
        seen["forged"] = True


def write(channel: int, content: dict[str, Any]) -> None:
    data = (json.dumps(content) + "\n").encode()
    with contextlib.suppress(BrokenPipeError):  # it has ended; how is read elsewhere
        while data:
            data = data[os.write(channel, data):]


def kill(child: int) -> None:
    """End a submission and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if child:
            os.killpg(child, signal.SIGKILL)


# ---- grading

def grade(path: Path, room: Room, assignment: str | None = None, seconds: int = 300, allowed: Iterable[str] = ()) -> Graded:
    """Grade one submission, whatever it is.

    Args:
        path: Its file.
        room: Where it runs.
        assignment: Its assignment; None if the notebook says it.
        seconds: How long it may take.
        allowed: Of what is refused, what is not.
    """
    result, started = Graded(str(path)), time.monotonic()
    try:
        result.assignment, cells = read(path, assignment)
    except Unreadable as wrong:
        result.status, result.remark = "unreadable", str(wrong)
        return result
    tests = load_tests(BUILT / result.assignment / "autograder" / "autograder.zip")
    said: dict[str, str | None] = {}
    bad = refused(cells, allowed)
    if bad:
        result.status, result.remark = "refused", f"not run, it uses {', '.join(bad[:4])}"
    else:
        seen = room.run(cells, {name: test["code"] for name, test in tests.items()}, seconds)
        said, result.printed = seen["said"], seen["printed"]
        result.cells = [failure(cell, error, line, seconds / 4) for cell, error, line in seen["failed"]]
        judge(result, seen, seconds)
    for name, test in tests.items():
        question = result.questions.setdefault(test["question"], {"points": 0, "possible": 0, "failed": []})
        question["possible"] += test["points"]
        if name in said and said[name] is None:
            question["points"] += test["points"]
        else:
            question["failed"].append(why_not(test, said.get(name), cells, seconds / 4))
    result.total, result.possible = (sum(question[name] for question in result.questions.values()) for name in ("points", "possible"))
    result.seconds = round(time.monotonic() - started, 1)
    return result


def failure(cell: int, error: Any, line: Any, seconds: float) -> str:
    """A sentence for the student; of the error its name alone, if it is one of Python's: what an error says may be a file of yours."""
    place = f" in line {line}" if isinstance(line, int) else ""
    if error == "TooLong":
        how = f"was stopped after {seconds:g} seconds{place}"
    elif error == "SystemExit":
        how = f"ended the program{place}"
    else:
        named = isinstance(error, str) and isinstance(getattr(builtins, error, None), type)
        how = f"failed with {'an error of its own' if not named else f'an {error}' if error[0] in 'AEIOU' else f'a {error}'}{place}"
    return f"Code cell {cell} {how}."


def why_not(test: dict[str, Any], said: str | None, cells: Iterable[str], seconds: float) -> str:
    """A sentence for the student: the test's own, if it judged an answer. What an error says may be a file of yours, and stays here."""
    if said is None:
        return "It was not reached."
    if said == too_long(seconds):
        return f"{test['message']} {said}"
    missing = re.fullmatch(r"NameError: name '(\w+)' is not defined", said)
    if missing and re.search(rf"\b{missing[1]}\b", "\n".join([test["code"], *cells])):
        return f"There is no {missing[1]} when the test runs: was it renamed, or its cell left out?"
    return str(test["message"])


def judge(result: Graded, seen: dict[str, Any], seconds: int) -> None:
    """The status of a submission that ran, and what a teacher should know about it."""
    remarks = []
    where = f", in code cell {seen['begun']}" if "sent" not in seen else ", in a test"
    if seen["end"] == "stopped":
        result.status = "stopped"
        remarks.append(f"it ran for more than {seconds} seconds{where}")
    elif seen["end"] == "ended":
        result.status = "crashed"
        code = seen["exit"]
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit {code}"
        remarks.append(f"it ended before it was graded ({how}){where}")
    doubts = [f"replaced {', '.join(seen['changed'][:3])}" if seen["changed"] else "",
              f"left {seen['threads']} threads running" if seen["threads"] else "", "spoke to the grader itself" if seen["forged"] else ""]
    if any(doubts):
        result.status = "suspicious" if result.status == "graded" else result.status
        remarks.append(f"it {' and '.join(filter(None, doubts))}: its points may be its own work")
    if seen["size"] > KEPT:
        remarks.append(f"it printed {seen['size'] / 1e6:.1f} MB, of which {KEPT / 1e3:g} kB are kept")
    if result.cells:
        more = f" (and {len(result.cells) - 1} more)" if result.cells[1:] else ""
        remarks.append(result.cells[0][0].lower() + result.cells[0][1:-1] + more)
    result.remark = "; ".join(remarks)


def what_holds(room: Room) -> set[str]:
    """What the room keeps out on this machine, tried by a submission that tries: "network", "files", "writing", "processes"."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address, port = server.getsockname()
        hidden = [*room.hide, *(str(folder) for folder in HIDDEN if folder.is_dir())]
        probe = PROBE.format(address=address, port=port, hidden=hidden, outside=str(Path(room.folder.name).parent), parent=os.getpid())
        return set(ast.literal_eval(room.run([probe], {}, 60, show="found")["shown"] or "[]"))


ADVICE = {"refused": "look at it; if it is harmless, grade it with --allow NAME, for what begins with % or ! with --allow get_ipython",
          "unreadable": "of a notebook that does not say its assignment, say it with --assignment NAME",
          "suspicious": "look at it before you give it its points"}
GUARDS = {"network": "reach the network", "files": "read the tests' sources, or other submissions",
          "writing": "write outside its own empty folder", "processes": "see other processes"}


def guards(held: set[str]) -> str:
    """What was measured, in words."""
    cannot = [words for name, words in GUARDS.items() if name in held]
    can = [words for name, words in GUARDS.items() if name not in held]
    lines = ["Each submission runs in a process of its own, within its time and memory."]
    if cannot:
        lines.append(f"On this machine it cannot {'; '.join(cannot)}.")
    if can:
        lines.append(f"WARNING: on this machine it can {'; '.join(can)}. Grade in a container, or as a user without rights.")
    return "\n".join(lines)


# ---- a folder

def submissions(folder: Path) -> list[Path]:
    """The notebooks of a folder and below, without the copies that Jupyter keeps."""
    return sorted(path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def others(folder: Path) -> list[str]:
    """The files of a folder and below that are neither notebooks nor written here."""
    ours = (".ipynb", ".graded.json", ".printed.txt", "grades.csv")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.name.endswith(ours)
                  and not any(part.startswith(".") for part in path.relative_to(folder).parts))


def grade_folder(folder: Path, assignment: str | None = None, seconds: int = 300, allowed: Iterable[str] = ()) -> list[Graded]:
    """Grade all submissions of a folder; writes grades.csv into it, and a .graded.json beside each."""
    files = submissions(folder)
    if not files:
        sys.exit(f"Given: {folder}, in which there is no .ipynb. Expected: a folder with submissions.")
    if any(needed.is_relative_to(folder.resolve()) for needed in (ROOT, Path(tempfile.gettempdir()).resolve())):
        sys.exit(f"Given: {folder}, which holds more than submissions. Expected: a folder of their own, since it is hidden while they run.")
    if not any(BUILT.glob("*/autograder/autograder.zip")):
        sys.exit(f"Given: no tests in {BUILT}. Expected: the built assignments. Run `make assignments` first.")
    results = []
    with Room([folder]) as room:
        print(guards(what_holds(room)))
        for path in tqdm(files, desc="grading", unit="submission", disable=None):
            try:
                result = grade(path, room, assignment, seconds, allowed)
            except Exception as wrong:  # a fault of the grader, or of the machine: the others are graded all the same
                result = Graded(str(path), status="not graded", remark=f"{type(wrong).__name__}: {wrong}")
            result.file = str(path.relative_to(folder))
            results.append(result)
            write_result(path, result)
            write_table(folder / "grades.csv", results)  # after each: what is done is done
    return results


def write_result(path: Path, result: Graded) -> None:
    """What the student gets, without what the submission printed: that may be a test's numbers, or a file of yours."""
    told = {name: value for name, value in asdict(result).items() if name != "printed"}
    try:
        path.with_suffix(".graded.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if result.printed:
            path.with_suffix(".printed.txt").write_text(result.printed, encoding="utf-8")
    except OSError as wrong:
        result.remark = "; ".join(filter(None, [result.remark, f"no .graded.json: {wrong.strerror}"]))


def write_table(path: Path, results: list[Graded]) -> None:
    """One line a submission; text that a spreadsheet would take for a formula gets an apostrophe."""
    questions = sorted({name for result in results for name in result.questions})
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow([*COLUMNS, *questions])
        for result in results:
            row = [getattr(result, column) for column in COLUMNS]
            row += [result.questions.get(name, {}).get("points", "") for name in questions]
            table.writerow([f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell for cell in row])


def summary(results: list[Graded]) -> str:
    """A line a submission, and how many of each kind."""
    wide = max(len(result.file) for result in results)
    lines = [f"{r.file:{wide}}  {r.status:10}  {r.total:4g} of {r.possible:g}  {r.remark}".rstrip() for r in results]
    kinds = Counter(result.status for result in results)
    lines.append(f"{len(results)} submissions: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Grade a folder of submissions: each on its own, and none stops the others.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--assignment", help="of which assignment, for notebooks that do not say it")
    parser.add_argument("--seconds", type=int, default=300, help="at most so long for one submission")
    parser.add_argument("--allow", nargs="*", default=[], metavar="NAME", help="run submissions that use this, though it is refused else")
    options = parser.parse_args(arguments)
    results = grade_folder(options.folder, options.assignment, options.seconds, options.allow)
    print(summary(results))
    for status, advice in ADVICE.items():
        if any(result.status == status for result in results):
            print(f"{status}: {advice}")
    print(f"Points: {options.folder / 'grades.csv'}. For each student: a .graded.json beside the notebook.")
    if names := others(options.folder):
        print(f"Not looked at, since they are no notebooks: {', '.join(names[:20])}{' …' * (len(names) > 20)}")


if __name__ == "__main__":
    main()
