"""What a recorded run was made by, and whether anybody changed it since.

**Made by.** A hash of the code, the versions of the libraries, the processor and the device. The hash is of the bytes of a
module and of all modules of this package that it imports: the same on every version of Python, and another one after any edit.

**Changed since.** A record is sealed: it carries a hash of its own content. A seal keeps honest eyes honest, no more; what a
record says is verified by running it again, see ``sweeps.Sweep.verify``.
"""

import ast
import functools
import hashlib
import importlib.util
import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ._checks import require, require_kind, require_number, shown

LIBRARIES = ("torch", "torchvision", "numpy")
"""The libraries whose versions can change the numbers of a run; torchvision defines two of the networks."""


def code_hash(module: str = "clt_utils.training") -> str:
    """Hash of the bytes of a module and of what it imports of its own package, directly or not.

    It is read once a process. ``training`` asks for it while it is imported, so it is the hash of the code that runs, whatever
    happens to the files later.

    Args:
        module: The full name of a module.

    Returns:
        12 hexadecimal digits.

    Raises:
        TypeError: If ``module`` is no text.
        ValueError: If it is no name of a module.
        ModuleNotFoundError: If a module of the package that one of them imports is not there.

    Example:
        >>> len(code_hash()), code_hash() == code_hash("clt_utils.duality")
        (12, False)
    """
    expected = 'the full name of a module, such as "clt_utils.training"'
    require_kind("module", module, str, expected)
    require(all(part.isidentifier() for part in module.split(".")), f"module={shown(module)}", expected)
    return _hash(module)


@functools.cache
def _hash(module: str) -> str:
    root, queue = module.split(".")[0], [module]
    found: dict[str, bytes] = {}
    while queue:
        name = queue.pop()
        if name in found:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"Given: code that imports {name}, which is not there. Expected: every module of the package. "
                                      "Install it anew.")
        found[name] = Path(spec.origin).read_bytes()
        queue += [*_imports(found[name], spec.parent or root, root), *filter(None, [name.rpartition(".")[0]])]
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name}\0{len(found[name])}\0".encode() + found[name])
    return digest.hexdigest()[:12]


def _imports(source: bytes, package: str, root: str) -> list[str]:
    """The modules below ``root`` that a source of ``package`` imports, by their full names."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names.append(base)
            inside = [f"{base}.{alias.name}" for alias in node.names] if base.split(".")[0] == root else []
            names += [name for name in inside if _is_module(name)]  # the others are functions, classes and constants
    return [name for name in names if name.split(".")[0] == root]


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module without parts
        return False


def made_by() -> dict[str, str]:
    """What must be equal for two runs of one recipe to be interchangeable: the code and the libraries' versions.

    Returns:
        A hash and versions, by name.

    Example:
        >>> list(made_by())
        ['code', 'torch', 'torchvision', 'numpy']
    """
    return {"code": code_hash()} | _versions()


@functools.cache
def _versions() -> dict[str, str]:
    """Read from the disk once: a sweep asks for them with each of its runs."""
    return {name: version(name) for name in LIBRARIES}


def provenance(device: torch.device, seconds: float) -> dict[str, Any]:
    """Date, duration, machine and versions, as plain JSON values.

    Args:
        device: Where the run was made.
        seconds: How long it took.

    Returns:
        A dict of texts and numbers.

    Raises:
        TypeError: If ``device`` is no ``torch.device``.
        ValueError: If ``seconds`` is no number from 0 on.

    Example:
        >>> facts = provenance(torch.device("cpu"), seconds=12.3456)
        >>> facts["device"], facts["seconds"]
        ('cpu', 12.35)
    """
    _check_device(device)
    require_number("seconds", seconds, "[0, ∞)")
    return {"date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "seconds": round(float(seconds), 2),
            "device": device_name(device), "precision": precision(device), "processor": processor(),
            "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}", "threads": torch.get_num_threads(),
            "python": platform.python_version(), **made_by()}


def device_name(device: torch.device) -> str:
    """The name of the graphics card, or "cpu".

    Args:
        device: A ``torch.device``.

    Returns:
        A text.

    Raises:
        TypeError: If ``device`` is no ``torch.device``.

    Example:
        >>> device_name(torch.device("cpu"))
        'cpu'
    """
    _check_device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def precision(device: torch.device) -> str:
    """How exactly a device multiplies float32 numbers.

    Args:
        device: A ``torch.device``.

    Returns:
        "float32", or "tf32" on a card that rounds factors to 11 bits.

    Raises:
        TypeError: If ``device`` is no ``torch.device``.

    Example:
        >>> precision(torch.device("cpu"))
        'float32'
    """
    _check_device(device)
    coarse = device.type == "cuda" and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
    return "tf32" if coarse else "float32"


def _check_device(device: torch.device) -> None:
    require_kind("device", device, torch.device, "a torch.device", "`training.find_device` makes one of a name.")


@functools.cache
def processor() -> str:
    """The model name of the processor, as the system tells it.

    Returns:
        A text.

    Example:
        >>> isinstance(processor(), str)
        True
    """
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    if platform.system() == "Darwin":
        told = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        if told.stdout.strip():
            return told.stdout.strip()
    return platform.processor() or platform.machine()


# ---- records

def seal(content: dict[str, Any]) -> str:
    """A hash of a record's content but for its seal.

    Args:
        content: Texts, finite numbers, truth values, lists and dicts of them.

    Returns:
        16 hexadecimal digits.

    Raises:
        TypeError: If ``content`` is no dict.
        ValueError: If it holds what JSON does not know.

    Example:
        >>> record = {"risk": 0.5}
        >>> seal(record) == seal({"risk": 0.5, "seal": "any"}), seal(record) == seal({"risk": 0.6})
        (True, False)
    """
    require_kind("content", content, dict, "a record, a dict of plain values")
    rest = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(_json(rest, sort_keys=True).encode()).hexdigest()[:16]


def _json(content: object, **how: Any) -> str:
    try:
        return json.dumps(content, **how)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Given: content={shown(content)}, which is no JSON ({error}). Expected: texts, finite numbers, truth values, "
                         "lists and dicts of them.") from error


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write a record with its seal.

    Args:
        path: The file.
        content: The record, see ``seal``.

    Raises:
        TypeError: If ``path`` is no path, or ``content`` no dict.
        ValueError: If it holds what JSON does not know.

    Example:
        >>> write_record(Path("run.json"), {"risk": 0.5})
        >>> list(read_record(Path("run.json")))
        ['risk', 'seal']
    """
    require_kind("content", content, dict, "a record, a dict of plain values")
    plain = json.loads(_json(content, allow_nan=False))  # as it will be read: no tuples, no keys that are numbers
    write_json(path, plain | {"seal": seal(plain)})


def read_record(path: Path) -> dict[str, Any]:
    """The content of a record.

    Args:
        path: The file.

    Returns:
        What ``write_record`` wrote, with its seal.

    Raises:
        TypeError: If ``path`` is no path.
        ValueError: If it is not what was written: cut short, or changed by hand.

    Example:
        >>> write_record(Path("run.json"), {"risk": 0.5})
        >>> read_record(Path("run.json"))["risk"]
        0.5
    """
    require_kind("path", path, Path, "a `pathlib.Path`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Given: the record {path}, which cannot be read ({error}). Expected: JSON as it was recorded. "
                         "Take it from the repository again, or record it anew.") from error
    sealed = content.get("seal") if isinstance(content, dict) else None
    require(sealed is not None and sealed == seal(content), f"the record {path}, which is not as it was recorded: its seal is {sealed}",
            "a record that nobody changed", "Take it from the repository again, or record it anew.")
    return content


def write_json(path: Path, content: object) -> None:
    """Write JSON so that the file is there whole or not at all, also if the power fails.

    Args:
        path: The file; its folder is made if it is missing.
        content: What JSON knows.

    Raises:
        TypeError: If ``path`` is no path.
        ValueError: If ``content`` holds what JSON does not know.

    Example:
        >>> write_json(Path("a.json"), {"risk": 0.5})
        >>> Path("a.json").read_text(encoding="utf-8")
        '{"risk":0.5}'
    """
    require_kind("path", path, Path, "a `pathlib.Path`")
    text = _json(content, separators=(",", ":"), allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)  # left over only where the disk is full
