"""The data sets of the book: scikit-learn's digits, which need no network, and four that torchvision downloads."""

import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from filelock import FileLock
from torch import Tensor
from torch.nn.functional import interpolate

from ._checks import require, require_integer, require_kind, require_name

TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""The data sets that are downloaded, by the name of their class in ``torchvision.datasets``."""

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
        root: Folder of the downloaded files; ``cache_folder() / "data"`` by default.

    Returns:
        A ``Dataset``.

    Raises:
        ValueError: On an unknown name or split, or a size or limit that makes no sense.
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


def _torchvision(name: str, split: str, root: Folder) -> tuple[Tensor, Tensor, int]:
    from torchvision import datasets  # imported here, as above

    root = _data_folder(root)

    def read(download: bool) -> Any:
        return getattr(datasets, TORCHVISION[name])(root, train=split == "train", download=download)

    try:
        data = read(download=False)  # so a folder that others fill needs to be read only
    except Exception:  # torchvision raises RuntimeError, OSError, EOFError, ... for what is missing or cut short
        writable(root)
        timeout = socket.getdefaulttimeout()
        try:
            socket.setdefaulttimeout(30)  # torchvision sets none, so a network that swallows packets would hang for ever
            with FileLock(root / f"{name}.lock"):  # two runs of a sweep may want to download at once
                data = read(download=True)
        except Exception as error:
            raise ConnectionError(
                f"Given: the data set {name!r}, which could not be downloaded to or read from {root} ({error}). Expected: a network "
                f'connection, or its files in that folder. Use load("digits"), which needs neither, or copy the files there; '
                f"if the folder holds half a download, delete it.") from error
        finally:
            socket.setdefaulttimeout(timeout)
    images, targets = torch.as_tensor(data.data), torch.as_tensor(data.targets).long()
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images, targets, len(data.classes)


# every data set by its name, with what reads it
READERS: dict[str, Callable[[str, str, Folder], tuple[Tensor, Tensor, int]]] = {
    "digits": _digits,
    **dict.fromkeys(TORCHVISION, _torchvision),
}
NAMES = tuple(READERS)
