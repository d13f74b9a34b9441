"""Data sets: against scikit-learn, PIL and files in the formats that the download sites use."""

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from clt_utils import data


def test_digits_splits_are_the_whole_set_once_and_stratified():
    train, test = data.load("digits", size=8), data.load("digits", split="test", size=8)
    bunch = load_digits()
    ours = torch.cat([train.inputs, test.inputs]).flatten(1).numpy() * 16
    order, theirs = np.lexsort(ours.round().T), np.lexsort(bunch.data.T)
    assert np.allclose(ours[order], bunch.data[theirs], atol=1e-4)
    for label in range(10):
        share = (test.targets == label).sum() / (bunch.target == label).sum()
        assert abs(share - 0.2) < 0.01


def test_digits_are_28_pixels_wide_floats_in_the_unit_interval():
    digits = data.load("digits")
    assert digits.inputs.shape == (1442, 1, 28, 28) and len(digits) == 1442
    assert digits.inputs.dtype == torch.float32 and digits.targets.dtype == torch.int64
    assert digits.num_classes == 10 and digits.name == "digits"
    assert digits.inputs.min() == 0 and 0.99 < digits.inputs.max() <= 1


@pytest.mark.parametrize("size", [4, 5, 16, 28])
def test_resizing_is_bilinear_with_antialiasing_like_pil(size):
    small, resized = data.load("digits", size=8, limit=5), data.load("digits", size=size, limit=5)
    for original, ours in zip(small.inputs[:, 0].numpy(), resized.inputs[:, 0].numpy(), strict=True):
        theirs = np.asarray(Image.fromarray(original, mode="F").resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(ours - theirs).max() < 1e-4


def test_limit_16_holds_every_class_once_or_twice():
    subset = data.load("digits", limit=16)
    assert sorted(subset.targets.bincount(minlength=10).tolist()) == [1] * 4 + [2] * 6


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 2**32), st.data())
def test_a_limited_set_is_balanced_nested_and_reproducible(labels, seed, draw):
    targets = torch.tensor(labels)
    limit = draw.draw(st.integers(1, len(labels)))
    chosen = data._balanced(targets, 5, limit, seed)
    assert len(set(chosen.tolist())) == limit
    assert torch.equal(chosen, data._balanced(targets, 5, limit, seed))
    assert torch.equal(chosen, data._balanced(targets, 5, len(labels), seed)[:limit])
    have, taken = targets.bincount(minlength=5), targets[chosen].bincount(minlength=5)
    assert all(taken[a] >= taken[b] - 1 for a in range(5) for b in range(5) if taken[a] < have[a])


def test_another_seed_draws_other_samples():
    first, second = data.load("digits", limit=16, seed=0), data.load("digits", limit=16, seed=1)
    assert not torch.equal(first.inputs, second.inputs)


def write_idx(path, array):
    """The format of MNIST's files: two zeros, the type (8: uint8), the number of dimensions, the shape, the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_and_fashion_mnist_from_their_files(tmp_path, name, folder):
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 7), ("t10k", 3)):
        images, labels = rng.integers(0, 256, (n, 28, 28)), np.arange(n) % 10
        write_idx(tmp_path / folder / "raw" / f"{prefix}-images-idx3-ubyte", images)
        write_idx(tmp_path / folder / "raw" / f"{prefix}-labels-idx1-ubyte", labels)
    loaded = data.load(name, split="test", root=tmp_path)
    assert len(data.load(name, root=tmp_path)) == 7 and loaded.num_classes == 10
    assert torch.equal(loaded.targets, torch.tensor([0, 1, 2]))
    assert np.allclose(loaded.inputs[:, 0].numpy() * 255, images, atol=1e-4)


def write_cifar(root, cls, monkeypatch, n=4):
    """CIFAR's pickled batches with n random images each; the checksums that torchvision expects become theirs."""
    rng, sums, images = np.random.default_rng(0), {}, {}
    fine = cls is datasets.CIFAR100
    for split in ("train_list", "test_list"):
        sums[split] = []
        for name, _ in getattr(cls, split):
            images[name] = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
            batch = {"data": images[name], "fine_labels" if fine else "labels": [i % 10 for i in range(n)]}
            path = root / cls.base_folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(batch))
            sums[split].append([name, hashlib.md5(path.read_bytes()).hexdigest()])
        monkeypatch.setattr(cls, split, sums[split])
    meta = root / cls.base_folder / cls.meta["filename"]
    meta.write_bytes(pickle.dumps({cls.meta["key"]: [f"class {i}" for i in range(100 if fine else 10)]}))
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": hashlib.md5(meta.read_bytes()).hexdigest()})
    return images


@pytest.mark.parametrize(("name", "cls"), [("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)])
def test_cifar_from_its_files(tmp_path, monkeypatch, name, cls):
    images = write_cifar(tmp_path, cls, monkeypatch)
    train, test = data.load(name, root=tmp_path), data.load(name, split="test", root=tmp_path)
    assert len(train) == 4 * len(cls.train_list) and train.num_classes == (10 if name == "cifar10" else 100)
    assert test.inputs.shape == (4, 3, 32, 32) and torch.equal(test.targets, torch.arange(4))
    stored = images[cls.test_list[0][0]].reshape(4, 3, 32, 32)  # red plane, green plane, blue plane, rows first
    assert np.allclose(test.inputs.numpy() * 255, stored, atol=1e-4)
    assert data.load(name, split="test", size=28, limit=2, root=tmp_path).inputs.shape == (2, 3, 28, 28)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_without_a_network_the_error_names_the_digits(tmp_path, monkeypatch, name):
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nothing listens there
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar.tar.gz")
    with pytest.raises(ConnectionError, match=r'load\("digits"\)') as error:
        data.load(name, root=tmp_path)
    assert name in str(error.value) and str(tmp_path) in str(error.value)


def test_half_a_file_is_refused_with_what_to_do(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    for prefix in ("train", "t10k"):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", np.zeros((5, 28, 28)))
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.zeros(5))
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(ConnectionError, match="delete it"):
        data.load("mnist", root=tmp_path)


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(name="mnits"), "Did you mean 'mnist'"),
    (dict(name="imagenet"), "one of 'digits', .*'mnist'"),
    (dict(name="Digits"), "Did you mean 'digits'"),
    (dict(name="digits", split="val"), "one of 'train', 'test'"),
    (dict(name="digits", limit=0), "from 1 to the 1442 samples"),
    (dict(name="digits", limit=2000), "from 1 to the 1442 samples"),
    (dict(name="digits", size=0), "size=0.*in pixels"),
])
def test_bad_requests(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**arguments)


def test_the_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("CLT_CACHE", str(tmp_path))
    assert data.cache_folder() == tmp_path


def test_an_empty_name_of_the_cache_folder_is_no_name(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for nothing in ("", " "):
        monkeypatch.setenv("CLT_CACHE", nothing)
        assert data.cache_folder() == tmp_path / ".cache" / "clt_utils"


def test_a_cache_folder_that_is_a_file_or_in_a_home_that_is_none(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("taken", encoding="utf-8")
    monkeypatch.setenv("CLT_CACHE", str(tmp_path / "file"))
    with pytest.raises(NotADirectoryError, match="Given: the cache folder .* is no folder.*CLT_CACHE"):
        data.cache_folder()
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it is where nobody knows a home
    monkeypatch.setenv("CLT_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(RuntimeError, match="Given: the cache folder ~nobody.*no such home folder.*CLT_CACHE"):
        data.cache_folder()


def test_a_cache_folder_where_nothing_can_be_written_says_so(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("taken", encoding="utf-8")
    monkeypatch.setenv("CLT_CACHE", str(tmp_path / "file" / "below"))  # not even root can make this folder
    with pytest.raises(PermissionError, match="Given: the folder .*nothing can be written.*CLT_CACHE"):
        data.load("mnist")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions bind neither root nor Windows")
def test_a_read_only_folder_that_lacks_files_says_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="Given: the folder .*nothing can be written.*CLT_CACHE"):
        data.load("mnist", root=tmp_path)


def test_a_complete_folder_is_read_and_not_written_to(tmp_path, monkeypatch):
    write_cifar(tmp_path, datasets.CIFAR10, monkeypatch)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(data, "writable", lambda folder: pytest.fail("it must not be written to"))
    data.load("cifar10", root=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
