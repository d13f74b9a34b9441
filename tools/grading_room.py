"""Where submissions run while they are graded: one process each, forked from one that has loaded PyTorch and knows no test.

Started by ``tools/grade.py``, which alone reads submissions and tests. For each submission this program forks; the child shuts itself in
(``shut_in``), reads the submission's cells, runs them, and only then is sent the tests. What the room keeps out, and what not, is written
in the instructor's guide, and measured at every start by the submission ``PROBE``.
"""

import builtins
import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

NEWNS, NEWUSER, NEWPID, NEWNET = 0x00020000, 0x10000000, 0x20000000, 0x40000000  # of sched.h
READ_ONLY, NO_SUID, NO_DEV, NO_EXEC, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18  # of mount.h
KEPT = {"nosuid": NO_SUID, "nodev": NO_DEV, "noexec": NO_EXEC, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
DEATH_SIGNAL, NO_NEW_PRIVILEGES, DROP_FROM_BOUND = 1, 38, 24  # of prctl.h

PROBE = """
import os, socket, torch
found = []
try:
    socket.create_connection(({address!r}, {port}), timeout=2).close()
except OSError:
    found.append("network")
def readable(folder):
    try:
        return [name for name in os.listdir(folder) if os.access(os.path.join(folder, name), os.R_OK)]
    except OSError:
        return []
found += [] if any(map(readable, {hidden!r})) else ["files"]
try:
    open(os.path.join({outside!r}, ".written-by-a-submission"), "w").close()
    os.remove(os.path.join({outside!r}, ".written-by-a-submission"))
except OSError:
    found.append("writing")
found += ["processes"] if {parent} not in map(int, filter(str.isdigit, os.listdir("/proc"))) else []
"""
"""A submission that tries what submissions must not do, and lists what it could not."""


class TooLong(BaseException):
    """A cell or a test ran out of its time; no ``except Exception`` of a submission catches it."""


# ---- the program that forks

def serve(control: socket.socket) -> None:
    """Fork for every message, which brings where to read the submission from, and where what it prints, its results and its end go."""
    while True:
        message, channels, _, _ = socket.recv_fds(control, 1, 4)
        if not message:
            return
        child = os.fork()
        if not child:
            control.close()
            attend(*channels)
        for channel in channels:
            os.close(channel)
        control.sendall(f"{child}\n".encode())
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended
                pass


def attend(request: int, printed: int, results: int, end: int) -> None:
    """Shut the submission in, run it in a child, and say how that ended; never returns."""
    os.setsid()
    source = os.fdopen(request, encoding="utf-8")
    asked = json.loads(source.readline())
    shut_in(asked["hide"], Path(asked["room"]))
    inner = os.fork()  # the first process of its own list of processes: nothing that it starts survives it
    if not inner:
        libc().prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        os.close(end)
        try:
            inside(asked, source, printed, results)
        finally:
            os._exit(0)
    for channel in (request, printed, results):
        os.close(channel)
    code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    os.write(end, str(code).encode())
    os._exit(0)


# ---- shutting in

def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def shut_in(hide: list[str], room: Path) -> None:
    """A network with nobody in it, hidden folders, nothing to write to but the room: as much of it as this system allows."""
    user, group = os.getuid(), os.getgid()
    c = libc()
    if not hasattr(c, "unshare") or c.unshare(NEWUSER | NEWNS | NEWPID | NEWNET):
        return
    Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="utf-8")
    mount(None, "/", None, RECURSIVE | PRIVATE)
    points = [line.split() for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    for _, _, _, _, place, options, *_ in points:
        if not place.startswith("/proc"):
            mount(None, place.replace("\\040", " "), None,
                  REMOUNT | BIND | READ_ONLY | sum(KEPT[option] for option in options.split(",") if option in KEPT))
    for folder in hide:
        mount("tmpfs", folder, "tmpfs", READ_ONLY | NO_DEV | NO_SUID, "size=4k,mode=500")
    mount("tmpfs", str(room), "tmpfs", NO_DEV | NO_SUID, "size=64m,mode=700")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """One mount; what the system refuses, the probe finds out."""
    encode = lambda text: text.encode() if text is not None else None
    libc().mount(encode(source), target.encode(), encode(kind), ctypes.c_ulong(flags), options.encode())


def give_up_rights() -> None:
    """Nothing that shutting in needed is left: what is hidden cannot be uncovered."""
    c = libc()
    for capability in range(64):
        c.prctl(DROP_FROM_BOUND, capability, 0, 0, 0)
    c.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    c.capset(header, nothing)


def limit(memory: int, seconds: int) -> None:
    """Bounds of the system itself: they hold whatever the submission does."""
    for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, seconds + 5), (resource.RLIMIT_CORE, 0),
                       (resource.RLIMIT_FSIZE, 64 << 20), (resource.RLIMIT_NOFILE, 256)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


# ---- inside

def inside(asked: dict[str, Any], source: TextIO, printed: int, results: int) -> None:
    """Run the cells, then the tests that are sent only now; every result is a line of its own, for the next may be the last."""
    mount("proc", "/proc", "proc", NO_SUID | NO_DEV | NO_EXEC)
    give_up_rights()
    os.chdir(asked["room"])
    os.environ |= {"HOME": asked["room"], "TMPDIR": asked["room"]}
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.close(printed)
    limit(asked["memory"], asked["seconds"])
    signal.signal(signal.SIGALRM, out_of_time)
    before = surroundings()
    namespace = run_cells(asked["cells"], asked["seconds_a_cell"], results)
    tell(results, {"ran": True})
    work = json.loads(source.readline())
    changed = sorted(name for name, thing in surroundings().items() if name in before and before[name] is not thing)
    tell(results, {"key": work["key"], "changed": changed, "threads": threading.active_count() - 1})
    for name, code in work["tests"].items():
        tell(results, {"key": work["key"], "test": name, "said": tried(code, namespace, asked["seconds_a_cell"])})
    if "show" in work:
        tell(results, {"key": work["key"], "shown": repr(namespace.get(work["show"]))})
    tell(results, {"key": work["key"], "end": True})


def out_of_time(*_: Any) -> None:
    raise TooLong


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run_cells(cells: list[str], seconds: float, results: int) -> dict[str, Any]:
    """Run the cells one after the other, as a notebook does, errors and all, and tell which fail; their names."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.user_ns["open"] = open_path
    for number, cell in enumerate(cells, 1):
        tell(results, {"begun": number})
        shell.execution_count = number
        wrong: BaseException | None = None
        try:
            with at_most(seconds):
                done = shell.run_cell(cell, store_history=False)
                wrong = done.error_before_exec or done.error_in_exec
        except (TooLong, SystemExit) as ended:
            wrong = ended
        if wrong is not None:
            tell(results, {"cell": number, "error": type(wrong).__name__, "line": line_of(wrong)})
        sys.stdout.flush()  # the process may end before its time
    return shell.user_ns


def open_path(file: Any, *args: Any, **options: Any) -> Any:
    """``open`` for a submission: files by their names, and no channel by its number."""
    if isinstance(file, int):
        raise PermissionError("Given: the number of an open channel. Expected: the name of a file.")
    return builtins.open(file, *args, **options)


def line_of(wrong: BaseException) -> int | None:
    """The line of a cell that an error is in, or that led to it."""
    if isinstance(wrong, SyntaxError):
        return wrong.lineno
    frames = (frame for frame in traceback.extract_tb(wrong.__traceback__) if frame.filename.startswith("<ipython-input"))
    return next((frame.lineno for frame in frames), None)


def stand_in() -> types.ModuleType:
    """A module ``otter`` whose checks in the notebook do nothing: the tests come later."""
    module = types.ModuleType("otter")
    quiet = lambda *args, **options: None
    module.Notebook = lambda *args, **options: types.SimpleNamespace(check=quiet, check_all=quiet, export=quiet)  # type: ignore[attr-defined]
    return module


def too_long(seconds: float) -> str:
    return f"It ran for more than {seconds:g} seconds."


def tried(code: str, namespace: dict[str, Any], seconds: float) -> str | None:
    """None if a test passes, else why not."""
    try:
        with at_most(seconds):
            exec(compile(code, "<test>", "exec"), dict(namespace))
    except TooLong:
        return too_long(seconds)
    except BaseException as wrong:
        return f"{type(wrong).__name__}: {str(wrong)[:300]}"
    return None


def surroundings() -> dict[str, Any]:
    """What tests rely on besides the submission: whoever replaces one of these can make a wrong answer pass."""
    import numpy as np
    import torch

    found = {f"{place.__name__}.{name}": thing for place in (builtins, math, np, torch, torch.Tensor) for name, thing in vars(place).items()
             if callable(thing) and (place is builtins or not isinstance(thing, type))}  # PyTorch itself renews some of its types
    return found | {"sys.settrace": sys.gettrace(), "sys.setprofile": sys.getprofile()}


def tell(results: int, content: dict[str, Any]) -> None:
    line = (json.dumps(content) + "\n").encode()
    while line:
        line = line[os.write(results, line):]


def main() -> None:
    import sklearn.datasets  # noqa: F401
    import torch
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    import clt_utils.bounds
    import clt_utils.data
    import clt_utils.structure
    import clt_utils.sweeps  # noqa: F401  (what the assignments import, loaded once)

    torch.set_num_threads(1)
    sys.modules["otter"] = stand_in()
    InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}, InteractiveShell={"colors": "NoColor"}))
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
