"""Data sets: against scikit-learn, PIL and files in the formats that the download sites use."""

import hashlib
import json
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


# --- one file a data set ---

def write_npz(folder, name, without=(), **changes):
    """A ``NAME.npz`` of random images; ``changes`` replace arrays, ``without`` leaves some out."""
    rng = np.random.default_rng(0)
    shape = (28, 28) if "mnist" in name else (32, 32, 3)
    arrays = {}
    for split, n in (("train", 30), ("test", 10)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 10).astype(np.uint8)
    arrays = {key: value for key, value in (arrays | changes).items() if key not in without}
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    return arrays


@pytest.mark.parametrize("name", data.TORCHVISION)
def test_a_data_set_is_read_from_one_file(tmp_path, name):
    arrays = write_npz(tmp_path, name)
    for split in ("train", "test"):
        loaded, images = data.load(name, split=split, root=tmp_path), arrays[f"{split}_images"]
        assert loaded.num_classes == (100 if name == "cifar100" else 10)
        assert torch.equal(loaded.targets, torch.from_numpy(arrays[f"{split}_labels"]).long())
        ours = loaded.inputs.permute(0, 2, 3, 1).numpy() * 255
        assert np.allclose(ours, images if images.ndim == 4 else images[..., None], atol=1e-4)
    assert sorted(tmp_path.iterdir()) == [tmp_path / f"{name}.npz"], "what is only read leaves the folder as it was"


def test_torchvisions_files_come_first_and_a_new_file_is_read_anew(tmp_path, monkeypatch):
    first = write_npz(tmp_path, "cifar10")["train_images"]
    assert np.allclose(data.load("cifar10", root=tmp_path).inputs[0, :, 0, 0] * 255, first[0, 0, 0], atol=1e-4)
    other = np.zeros_like(first)
    write_npz(tmp_path, "cifar10", train_images=other)
    os.utime(tmp_path / "cifar10.npz", ns=(1, 1))  # another time than before, however coarse the clock of the file system
    assert data.load("cifar10", root=tmp_path).inputs.max() == 0
    os.utime(tmp_path / "cifar10.npz", ns=(2, 2))
    images = write_cifar(tmp_path, datasets.CIFAR10, monkeypatch)
    stored = images[datasets.CIFAR10.train_list[0][0]].reshape(4, 3, 32, 32)
    assert np.allclose(data.load("cifar10", root=tmp_path).inputs[:4].numpy() * 255, stored, atol=1e-4)


def test_a_data_set_is_read_once_and_what_is_kept_cannot_be_changed_from_outside(tmp_path, monkeypatch):
    write_npz(tmp_path, "mnist")
    reads = []
    read = data._from_npz
    monkeypatch.setattr(data, "_from_npz", lambda *given: reads.append(given) or read(*given))
    whole = data.load("mnist", root=tmp_path)
    before = whole.inputs.clone(), whole.targets.clone()
    whole.inputs.zero_()
    whole.targets.zero_()
    again = data.load("mnist", root=tmp_path)
    assert torch.equal(again.inputs, before[0]) and torch.equal(again.targets, before[1])
    data.load("mnist", limit=3, root=tmp_path)
    assert len(reads) == 1


@pytest.mark.parametrize(("changes", "error", "message"), [
    (dict(without=["test_images"]), FileNotFoundError, "without test_images: it has train_images"),
    (dict(test_labels=np.zeros(9, np.uint8)), ValueError, r"test_labels \(9,\)"),
    (dict(test_labels=np.full(10, 10, np.uint8)), ValueError, "up to 10"),
    (dict(test_labels=np.zeros(10)), ValueError, "float64"),
    (dict(test_images=np.zeros((10, 28, 28))), ValueError, "float64"),
    (dict(test_images=np.zeros((10, 28, 27), np.uint8)), ValueError, "28, 27"),
    (dict(test_images=np.zeros((10, 28, 28, 4), np.uint8)), ValueError, "28, 28, 4"),
    (dict(test_images=np.zeros((10, 28), np.uint8)), ValueError, r"\(10, 28\)"),
    (dict(test_images=np.zeros((0, 28, 28), np.uint8), test_labels=np.zeros(0, np.uint8)), ValueError, r"\(0, 28, 28\)"),
    (dict(test_images=np.array(["an object"], dtype=object)), ValueError, "cannot be read"),
])
def test_a_file_that_is_not_whole_is_refused_with_what_to_do(tmp_path, changes, error, message):
    write_npz(tmp_path, "mnist", **changes)
    with pytest.raises(error, match=f"(?s)Given: .*mnist.npz.*{message}.*Expected: .*clt_utils.data export mnist"):
        data.load("mnist", split="test", root=tmp_path)


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_a_file_that_is_cut_short_is_refused(tmp_path, kept):
    write_npz(tmp_path, "mnist")
    file = tmp_path / "mnist.npz"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match="Given: .*mnist.npz, which cannot be read"):
        data.load("mnist", root=tmp_path)
    assert data.main(["check", "mnist", "--root", str(tmp_path)]) == 2


def test_export_writes_what_load_reads_and_check_knows_it(tmp_path, monkeypatch, capsys):
    write_cifar(tmp_path, datasets.CIFAR10, monkeypatch)
    expected = {split: data.load("cifar10", split=split, root=tmp_path) for split in ("train", "test")}
    assert data.main(["export", "cifar10", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "cifar10.npz")
    carried = tmp_path / "carried"
    carried.mkdir()
    (tmp_path / "cifar10.npz").rename(carried / "cifar10.npz")
    assert [path.name for path in tmp_path.glob("*.npz")] == []
    for split, samples in expected.items():
        again = data.load("cifar10", split=split, root=carried)
        assert torch.equal(again.inputs, samples.inputs) and torch.equal(again.targets, samples.targets)
    with np.load(carried / "cifar10.npz") as arrays:
        sums = {key: hashlib.sha256(arrays[key].tobytes()).hexdigest() for key in arrays.files}
    known = tmp_path / "sums.json"
    monkeypatch.setattr(data, "SUMS", known)
    del sums["test_labels"]
    known.write_text(json.dumps({"cifar10": sums | {"train_labels": "0" * 64}}), encoding="utf-8")
    assert data._compare("cifar10", carried) == {
        "train_images": "equal", "train_labels": "different", "test_images": "equal", "test_labels": "no sum is known"}
    assert data.main(["check", "cifar10", "--root", str(carried)]) == 1
    known.write_text(json.dumps({"cifar10": sums}), encoding="utf-8")
    assert data.main(["check", "cifar10", "--root", str(carried)]) == 0


def test_check_of_an_empty_folder_finds_nothing_and_downloads_nothing(tmp_path, capsys):
    assert data.main(["check", "mnist", "--root", str(tmp_path)]) == 1
    assert "train_images missing" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_export_without_a_network_says_so_and_leaves_the_file_that_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nothing listens there
    write_npz(tmp_path, "mnist", without=["test_images", "test_labels"])
    before = (tmp_path / "mnist.npz").read_bytes()
    assert data.main(["export", "mnist", "--root", str(tmp_path)]) == 2
    assert "Given: the data set 'mnist'" in capsys.readouterr().err
    assert (tmp_path / "mnist.npz").read_bytes() == before


def test_the_sums_are_of_every_array_that_the_paper_trains_on():
    sums = json.loads(data.SUMS.read_text(encoding="utf-8"))
    assert set(sums) == set(data.TORCHVISION)
    for name, arrays in sums.items():
        assert {"train_images", "train_labels"} <= set(arrays), name
        assert all(len(bytes.fromhex(value)) == 32 for value in arrays.values())


# --- choosing samples ---

@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 2**32), st.data())
def test_drawn_samples_are_balanced_and_keep_their_labels(labels, seed, draw):
    targets = torch.tensor(labels)
    samples = data.Dataset(torch.arange(len(labels)).view(-1, 1, 1, 1).float(), targets, 5, "numbers")
    number = draw.draw(st.integers(1, len(labels)))
    drawn = samples.draw(number, seed)
    index = drawn.inputs.flatten().long()
    assert len(drawn) == number == len(set(index.tolist())) and torch.equal(drawn.targets, targets[index])
    have, taken = targets.bincount(minlength=5), drawn.targets.bincount(minlength=5)
    assert all(taken[a] >= taken[b] - 1 for a in range(5) for b in range(5) if taken[a] < have[a])


def test_no_more_samples_are_drawn_than_there_are():
    with pytest.raises(ValueError, match="number=21.*up to the 20 samples"):
        data.load("digits", limit=20).draw(21)
