"""The data sets of the book: scikit-learn's digits, which need no network, and the four of the paper.

These are read from torchvision's files, or from one file each, ``NAME.npz``, or they are downloaded, in this order. For a
classroom or a compute node without a network, write that file where there is one, carry it along, and check what arrived:

    python -m clt_utils.data export NAME     download what is missing, and write NAME.npz into the data folder
    python -m clt_utils.data check NAME      compare every array that is there with the sums that are known of it

The data folder is ``cache_folder() / "data"``; ``--root FOLDER`` names another one.
"""

import argparse
import functools
import hashlib
import json
import os
import socket
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torch.nn.functional import interpolate

from ._checks import require, require_integer, require_kind, require_name

TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""The data sets of the paper, by the name of their class in ``torchvision.datasets``."""

CLASSES = {"mnist": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100}
"""How many labels each of them has; CIFAR-100's are the fine ones."""

SUMS = Path(__file__).with_name("data_sums.json")
"""SHA-256 sums of their arrays, byte by byte in the form and the order of ``NAME.npz``."""

ELSEWHERE = "Name another folder in the environment variable CLT_CACHE."


@dataclass(frozen=True)
class Dataset:
    """Images and their labels.

    Attributes:
        inputs: Images with values in [0, 1], (n, C, H, W) float32.
        targets: Labels from 0 to ``num_classes - 1``, (n,) int64.
        num_classes: Number K of classes.
        name: What ``load`` was asked for.

    Example:
        >>> digits = load("digits", limit=10)
        >>> len(digits), digits.inputs.shape, digits.num_classes
        (10, torch.Size([10, 1, 28, 28]), 10)
    """

    inputs: Tensor
    targets: Tensor
    num_classes: int
    name: str

    def __len__(self) -> int:
        return len(self.targets)

    def draw(self, number: int, seed: int = 0) -> "Dataset":
        """So many of the samples, as many of each class as can be; a larger number with the same seed adds to a smaller one's."""
        require_integer("number", number, 1)
        require_integer("seed", seed)
        require(number <= len(self), f"number={number}", f"up to the {len(self)} samples that there are")
        chosen = _balanced(self.targets, self.num_classes, number, seed)
        return replace(self, inputs=self.inputs[chosen], targets=self.targets[chosen])


def load(name: str, *, split: str = "train", size: int | None = None, limit: int | None = None, seed: int = 0,
         root: str | Path | None = None) -> Dataset:
    """One split of a data set, resized and limited on request.

    Digits have no split of their own: of every class each fifth image, in the order of the data, is a test image.
    Images are resized bilinearly, with an antialiasing filter where they shrink.

    Args:
        name: "digits" (8×8, drawn up to 28×28 like MNIST), "mnist", "fashion-mnist", "cifar10" or "cifar100".
        split: "train" or "test".
        size: Side of the images in pixels; by default 28 for digits and the data's own side otherwise.
        limit: Keep only this many samples, drawn with ``seed``, as many of each class as can be (none differs by more than
            one while the data last). A larger limit with the same seed keeps the smaller one's samples and adds to them.
        seed: Seed of the draw.
        root: Folder of the files, torchvision's or ``NAME.npz``; ``cache_folder() / "data"`` by default.

    Returns:
        A ``Dataset``.

    Raises:
        ValueError: On an unknown name or split, a size or limit that makes no sense, or a ``NAME.npz`` that cannot be read.
        FileNotFoundError: If ``NAME.npz`` does not have the split.
        ConnectionError: If the files are neither at ``root`` nor to be downloaded or read.
        PermissionError: If they must be downloaded and ``root`` cannot be written to.

    Example:
        >>> digits = load("digits", size=8, limit=20)
        >>> digits.inputs.shape, digits.targets.bincount()
        (torch.Size([20, 1, 8, 8]), tensor([2, 2, 2, 2, 2, 2, 2, 2, 2, 2]))
    """
    require_name("data set", name, NAMES)
    require_name("split", split, ("train", "test"))
    require_integer("size", size, 1, advice="It is the side of the images in pixels.", optional=True)
    require_integer("limit", limit, optional=True)
    require_integer("seed", seed)
    require_kind("root", root, (str, os.PathLike, type(None)), "a folder, or None")
    images, targets, num_classes = READERS[name](name, split, root)
    require(limit is None or 1 <= limit <= len(targets), f"limit={limit}",
            f"from 1 to the {len(targets)} samples of {name}'s {split} split", "Leave it out for all of them.")
    if limit is not None:
        chosen = _balanced(targets, num_classes, limit, seed)
        images, targets = images[chosen], targets[chosen]
    size = size or (28 if name == "digits" else images.shape[-1])
    if images.shape[-1] != size:
        images = interpolate(images.float(), (size, size), mode="bilinear", antialias=True).clamp(0, 255)
    return Dataset(images.float() / 255, targets, num_classes, name)


def cache_folder() -> Path:
    """Where downloads and cached runs go: the environment variable CLT_CACHE, or ``~/.cache/clt_utils`` if it is unset or empty.

    Returns:
        The folder, which need not be there yet.

    Raises:
        RuntimeError: If there is no home folder to put it in.
        NotADirectoryError: If something else than a folder has that name.

    Example:
        >>> os.environ["CLT_CACHE"] = "runs"
        >>> print(cache_folder())
        runs
    """
    named = os.environ.get("CLT_CACHE", "").strip() or "~/.cache/clt_utils"
    try:
        folder = Path(named).expanduser()
    except RuntimeError as error:
        raise RuntimeError(f"Given: the cache folder {named}, but no such home folder. Expected: one. {ELSEWHERE}") from error
    require(os.path.isdir(folder) or not os.path.lexists(folder), f"the cache folder {folder}, which is no folder",
            "a folder, or a name not yet taken", ELSEWHERE, NotADirectoryError)
    return folder


def writable(folder: Path) -> Path:
    """The folder itself, made if it is missing.

    Args:
        folder: A ``pathlib.Path``.

    Returns:
        The same.

    Raises:
        TypeError: If it is no path.
        PermissionError: If nothing can be written there.

    Example:
        >>> print(writable(Path("new")))
        new
    """
    require_kind("folder", folder, Path, "a `pathlib.Path`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # the permissions alone do not tell: the whole disk may be read-only
            return folder
    except OSError as error:
        raise PermissionError(f"Given: the folder {folder}, where nothing can be written ({error.strerror}). Expected: a folder of "
                              f"yours. {ELSEWHERE}") from error


def _balanced(targets: Tensor, num_classes: int, limit: int, seed: int) -> Tensor:
    """Indices of ``limit`` samples: one of each class in turn, classes and samples in random order."""
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=random)
    place = torch.randperm(num_classes, generator=random)[targets]
    turn = torch.empty_like(targets)
    for label in range(num_classes):
        members = order[targets[order] == label]
        turn[members] = torch.arange(len(members))
    return (turn * num_classes + place).argsort()[:limit]


# --- readers: (name, split, root) -> images (n, C, H, W) with values from 0 to 255, labels (n,) from 0 on, number of classes ---

Folder: TypeAlias = str | Path | None


def _data_folder(root: Folder) -> Path:
    return Path(root) if root else cache_folder() / "data"


def _digits(name: str, split: str, root: Folder) -> tuple[Tensor, Tensor, int]:
    from sklearn.datasets import load_digits  # imported here: a second that models and training need not wait for

    bunch = load_digits()
    images, targets = torch.from_numpy(bunch.images)[:, None] * (255 / 16), torch.from_numpy(bunch.target).long()
    is_test = torch.zeros(len(targets), dtype=torch.bool)
    for label in range(10):
        is_test[(targets == label).nonzero()[4::5, 0]] = True
    keep = is_test if split == "test" else ~is_test
    return images[keep], targets[keep], 10


def _paper(name: str, split: str, root: Folder) -> tuple[Tensor, Tensor, int]:
    """One of the paper's data sets: from torchvision's files, from ``NAME.npz``, or downloaded."""
    folder = _data_folder(root)
    file = folder / f"{name}.npz"
    images, labels = _arrays(name, split, folder, file.stat().st_mtime_ns if file.exists() else None)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return torch.from_numpy(images), torch.from_numpy(labels).long(), CLASSES[name]


@functools.lru_cache(maxsize=2)  # a run asks for its samples more than once, and CIFAR has 180 MB to read
def _arrays(name: str, split: str, folder: Path, written: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, H, W) or (n, H, W, 3) and labels (n,), both uint8; ``written`` is when ``NAME.npz`` was, None without it."""
    return _torchvisions(name, split, folder) or (_from_npz(folder / f"{name}.npz", split) if written else _downloaded(name, split, folder))


def _torchvisions(name: str, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """What lies in torchvision's own files, or None; so a folder that others fill needs to be read only."""
    try:
        return _by_torchvision(name, split, folder, download=False)
    except Exception:  # torchvision raises RuntimeError, OSError, EOFError, ... for what is missing or cut short
        return None


def _by_torchvision(name: str, split: str, folder: Path, download: bool) -> tuple[np.ndarray, np.ndarray]:
    from torchvision import datasets  # imported here, as above

    data = getattr(datasets, TORCHVISION[name])(folder, train=split == "train", download=download)
    return np.asarray(data.data), np.asarray(data.targets, dtype=np.uint8)


def _from_npz(file: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    keys = (f"{split}_images", f"{split}_labels")
    expected = f"{keys[0]} (n, H, H) or (n, H, H, 3) and {keys[1]} (n,) from 0 to {CLASSES[file.stem] - 1}, both uint8"
    advice = f"Where there is a network, `python -m clt_utils.data export {file.stem}` writes it."
    try:
        with np.load(file, allow_pickle=False) as arrays:
            missing = [key for key in keys if key not in arrays.files]
            require(not missing, f"{file} without {' and '.join(missing)}: it has {', '.join(arrays.files) or 'nothing'}", expected, advice,
                    FileNotFoundError)
            images, labels = arrays[keys[0]], arrays[keys[1]]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"Given: {file}, which cannot be read ({error}). Expected: {expected}. {advice}") from error
    require(images.dtype == labels.dtype == np.uint8 and images.shape[1:2] == images.shape[2:3] != () and images.shape[3:] in ((), (3,))
            and labels.shape == images.shape[:1] != (0,) and labels.max() < CLASSES[file.stem],
            f"{file} with {keys[0]} {images.shape} {images.dtype} and {keys[1]} {labels.shape} {labels.dtype} "
            f"up to {labels.max(initial=0)}", expected, advice)
    return images, labels


def _downloaded(name: str, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    writable(folder)
    timeout = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(30)  # torchvision sets none, so a network that swallows packets would hang for ever
        with FileLock(folder / f"{name}.lock"):  # two runs of a sweep may want to download at once
            return _by_torchvision(name, split, folder, download=True)
    except Exception as error:
        raise ConnectionError(
            f"Given: the data set {name!r}, which could not be downloaded to or read from {folder} ({error}). Expected: a network "
            f'connection, or its files in that folder. Use load("digits"), which needs neither, or copy {name}.npz there, which '
            f"`python -m clt_utils.data export {name}` writes where there is a network; "
            f"if the folder holds half a download, delete it.") from error
    finally:
        socket.setdefaulttimeout(timeout)


# every data set by its name, with what reads it
READERS: dict[str, Callable[[str, str, Folder], tuple[Tensor, Tensor, int]]] = {
    "digits": _digits,
    **dict.fromkeys(TORCHVISION, _paper),
}
NAMES = tuple(READERS)


# --- one file a data set, to carry along ---

def _export(name: str, root: Folder) -> Path:
    """Write both splits into one file, from torchvision's files; what is missing of them is downloaded beside it."""
    folder = writable(_data_folder(root))
    arrays = {}
    for split in ("train", "test"):
        found = _torchvisions(name, split, folder) or _downloaded(name, split, folder)  # not the NAME.npz, which may lack a split
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = found
    part = folder / f"{name}.part.npz"
    np.savez_compressed(part, allow_pickle=False, **arrays)
    return part.replace(folder / f"{name}.npz")  # whole, or not there


def _compare(name: str, root: Folder) -> dict[str, str]:
    """For each array "equal" to the sum that is known of it, "different", "missing", or "no sum is known" (CIFAR's test images)."""
    folder, known = _data_folder(root), json.loads(SUMS.read_text(encoding="utf-8"))[name]
    verdicts: dict[str, str] = {}
    for split in ("train", "test"):
        arrays = _there(name, split, folder) or (None, None)
        verdicts |= {array: _verdict(values, known.get(array)) for array, values in
                     zip((f"{split}_images", f"{split}_labels"), arrays, strict=True)}
    return verdicts


def _there(name: str, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        return _torchvisions(name, split, folder) or _from_npz(folder / f"{name}.npz", split)
    except FileNotFoundError:
        return None


def _verdict(values: np.ndarray | None, known: str | None) -> str:
    if values is None or known is None:
        return "missing" if values is None else "no sum is known"
    return "equal" if hashlib.sha256(values.tobytes()).hexdigest() == known else "different"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: Its words; those of this process by default.

    Returns:
        The exit status: 0 if all went well, 1 if an array differs or nothing is there, 2 if nothing could be done.

    Example:
        >>> main(["check", "mnist", "--root", "an/empty/folder"])
        mnist: train_images missing, train_labels missing, test_images missing, test_labels missing
        1
    """
    parser = argparse.ArgumentParser(prog="python -m clt_utils.data", description="The paper's data sets as one file each.")
    parser.add_argument("command", choices=("export", "check"))
    parser.add_argument("name", choices=tuple(TORCHVISION))
    parser.add_argument("--root", metavar="FOLDER", help="instead of the data folder")
    options = parser.parse_args(arguments)
    try:
        if options.command == "export":
            print(_export(options.name, options.root))
            return 0
        verdicts = _compare(options.name, options.root)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.name}: {', '.join(f'{array} {verdict}' for array, verdict in verdicts.items())}")
    return 1 if "different" in verdicts.values() or set(verdicts.values()) == {"missing"} else 0


if __name__ == "__main__":
    sys.exit(main())
