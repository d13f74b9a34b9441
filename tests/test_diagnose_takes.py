"""What people bring to ``diagnose``: texts, bytes, adapters, sorted loaders; each compared with what one would do by hand."""

import re
from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_diagnose import Middle, Wrap, batches, said, small_net, whole
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from clt_utils.diagnose import cost, diagnose
from clt_utils.duality import BINARY, SHANNON, SQUARED
from clt_utils.structure import probe, structure_matrix


def labelled(n=40, outputs=3):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(1)), torch.arange(n) % outputs


def same(report, plain):
    assert report.numbers == pytest.approx(plain.numbers, rel=1e-4, abs=1e-7), report.problems
    assert not report.problems and not report.notes


# ---- texts: several inputs, by name or by place, padded or not

class Text(nn.Module):
    """A small encoder with a mask, as a text classifier takes it; what is behind the mask changes nothing."""

    def __init__(self, respects=True):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mix, self.head = nn.Embedding(9, 6), nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)
        self.respects, self.config = respects, SimpleNamespace(pad_token_id=8)

    def forward(self, input_ids, attention_mask):
        h = self.embed(input_ids)
        keep = attention_mask.bool() if self.respects else torch.ones_like(attention_mask).bool()
        h = h + self.mix(h, h, h, key_padding_mask=~keep, need_weights=False)[0]
        pooled = (h * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)
        return SimpleNamespace(logits=self.head(pooled), loss=None)


class Closed(nn.Module):
    """A text classifier of one tensor: the mask is made of the ids."""

    def __init__(self):
        super().__init__()
        self.text = Text()

    def forward(self, ids):
        return self.text(ids, (ids != 8).long()).logits


def texts(n=24):
    generator = torch.Generator().manual_seed(0)
    ids, lengths = torch.randint(8, (n, 7), generator=generator), torch.arange(n) % 5 + 3
    mask = (torch.arange(7) < lengths[:, None]).long()
    return torch.where(mask.bool(), ids, 8), mask, torch.arange(n) % 3


TEXTS = {
    "a dict": lambda i, m, y: [{"input_ids": i, "attention_mask": m, "labels": y}],
    "a dict with what the model has no name for": lambda i, m, y: [{"idx": y, "attention_mask": m, "text": ["a"] * 24, "label": y,
                                                                     "input_ids": i}],
    "an object like a dict": lambda i, m, y: [UserDict(input_ids=i, attention_mask=m, labels=y)],
    "a dict of inputs, and targets": lambda i, m, y: [({"input_ids": i, "attention_mask": m}, y)],
    "three parts": lambda i, m, y: DataLoader(TensorDataset(i, m, y), batch_size=5),
    "a pair of inputs": lambda i, m, y: [((i, m), y)],
    "batches of their own lengths": lambda i, m, y: [{"input_ids": i[k::5, :k + 3], "attention_mask": m[k::5, :k + 3], "labels": y[k::5]}
                                                     for k in range(5)],
}


@pytest.mark.parametrize("form", TEXTS)
def test_texts(form):
    ids, mask, y = texts()
    order = torch.cat([torch.arange(24)[k::5] for k in range(5)]) if "lengths" in form else torch.arange(24)
    plain = diagnose(Closed(), [(ids[order], y[order])], probes=6, layers=["text.embed"], progress=False)
    model = Text()
    report = diagnose(model, TEXTS[form](ids, mask, y), probes=6, layers="embed", progress=False)
    same(report, plain)
    assert [report.layers[0].left, report.layers[0].plug_in] == pytest.approx([plain.layers[0].left, plain.layers[0].plug_in])
    assert not any(m._forward_hooks for m in model.modules())


def test_the_same_text_with_another_mask_is_no_duplicate():
    ids, mask, _ = texts()
    twice, other = ids[:1].expand(4, -1), mask[2:3].repeat(4, 1)
    other[2:, :1] = 0
    report = diagnose(Text(), [{"input_ids": twice, "attention_mask": other, "labels": torch.tensor([0, 1, 0, 0])}], progress=False)
    assert report.numbers["conflicts"] == 2


def test_padding_that_changes_the_outputs_is_told():
    ids, mask, y = texts()
    loader = [{"input_ids": ids[k::5, :k + 3], "attention_mask": mask[k::5, :k + 3], "labels": y[k::5]} for k in range(5)]
    report = diagnose(Text(respects=False), loader, progress=False)
    assert not report.numbers and re.search(r"unequal lengths.*changes by.*with padding.*Pad them all to one length", said(report))


def test_a_text_model_in_half_the_bits():
    ids, mask, y = texts()
    loader = [{"input_ids": ids, "attention_mask": mask, "labels": y}]
    same(*(diagnose(model, loader, probes=4, progress=False) for model in (Text().bfloat16(), Text().bfloat16().float())))


class Beside(nn.Module):
    """An image and a few numbers beside it, the numbers in whatever precision the loader has."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(8, 3)

    def forward(self, image, facts):
        return self.net(torch.cat([image.flatten(1), facts], 1))


def test_numbers_beside_an_image():
    x, y = labelled()
    plain = diagnose(Beside(), [((x[:, None], x), y)], progress=False)
    same(diagnose(Beside(), [((x[:, None], x.double()), y)], progress=False), plain)


# ---- inputs and targets in other forms

def test_bytes_are_read_as_numbers_up_to_one_and_the_report_says_so():
    pixels, y = torch.randint(256, (20, 1, 2, 2), dtype=torch.uint8), torch.arange(20) % 3
    net = nn.Sequential(nn.Flatten(), small_net())
    report = diagnose(net, [(pixels, y)], layers=["1.0"], progress=False)
    plain = diagnose(net, [(pixels.float() / 255, y)], layers=["1.0"], progress=False)
    assert report.numbers == pytest.approx(plain.numbers, rel=1e-5) and report.layers == plain.layers
    assert len(report.notes) == 1 and "divided by 255" in report.notes[0] and not report.problems
    for form in (said(report), report._repr_html_()):
        assert "How the samples were read:" in form and "divided by 255" in form and "What could not be measured:" not in form
    assert report.to_dict()["notes"] == [*report.notes] and "How the samples" not in str(plain)
    takes = nn.Sequential(Wrap(lambda x: x.float() / 255), net)
    same(diagnose(takes, [(pixels, y)], progress=False), plain)


@pytest.mark.parametrize("kind", [torch.float64, torch.int64])
def test_numbers_of_another_precision(kind):
    x, y = labelled()
    x = (4 * x).round()
    report = diagnose(small_net(), [(x.to(kind), y)], progress=False)
    assert report.numbers == pytest.approx(diagnose(small_net(), [(x, y)], progress=False).numbers, rel=1e-5)
    assert len(report.notes) == 1 and "turned into float32" in report.notes[0] and "255" not in report.notes[0] and not report.problems


@pytest.mark.parametrize("form", [lambda y: y.float(), lambda y: y[:, None], lambda y: y[:, None].double(), lambda y: y[:, None, None],
                                  lambda y: nn.functional.one_hot(y, 3)[:, None], lambda y: y.numpy().astype(np.uint8),
                                  lambda y: y.tolist()])
def test_labels_in_other_forms(form):
    x, y = labelled()
    same(diagnose(small_net(), [(x, form(y))], progress=False), diagnose(small_net(), [(x, y)], progress=False))


def test_several_labels_a_sample():
    x, _ = labelled()
    yes = (x[:, :3] > 0)
    report = diagnose(small_net(), [(x, yes)], BINARY, progress=False)
    right = nn.functional.binary_cross_entropy_with_logits(small_net()(x), yes.float(), reduction="none").sum(1).mean()
    assert not report.problems and report.numbers["risk"] == pytest.approx(right.item(), rel=1e-5)


OUTPUTS = {
    "a tuple": lambda f: (f, f.mean()),
    "one number a sample": lambda f: f[:, 0],
    "maps of one pixel": lambda f: f[..., None, None],
}


@pytest.mark.parametrize("form", OUTPUTS)
def test_outputs_in_other_forms(form):
    x, y = labelled()
    K = 1 if form.startswith("one") else 3
    targets, generator = (x[:, 0], SQUARED) if K == 1 else (y, BINARY)
    net = small_net(K)
    report = diagnose(nn.Sequential(net, Wrap(OUTPUTS[form])), [(x, targets)], generator, progress=False)
    same(report, diagnose(net, [(x, targets)], generator, progress=False))


@pytest.mark.parametrize("targets, words", [(torch.arange(40) % 2, "for a yes or no pass the generator `duality.BINARY`")])
def test_one_output_and_the_loss_of_several(targets, words):
    assert words in said(diagnose(small_net(1), [(labelled()[0], targets)], progress=False))


@pytest.mark.parametrize("K, generator, absent", [(1, SQUARED, {"condition", "lower", "upper"}), (1, BINARY, {"condition"}),
                                                  (2, SHANNON, {"condition"}), (2, SQUARED, set()), (3, SHANNON, set())])
def test_what_is_true_of_any_model_is_no_finding(K, generator, absent):
    """With one eigenvalue a sample the condition is 1, and the bounds of one number's squared loss are the loss."""
    x, y = labelled()
    targets = y % K if generator is SHANNON else (y[:, None] % 2).float().expand(-1, K)
    report = diagnose(small_net(K), [(x, targets)], generator, probes=4, progress=False)
    assert {"condition", "lower", "upper"} - report.numbers.keys() == absent and not report.problems
    words = said(report)
    assert ("condition of A_x" in words) == ("condition" not in absent) and "nan" not in words and "eigenvalues of A_x" in words


# ---- the order of a loader

def sorted_set(n=300, classes=3):
    y = torch.arange(n) * classes // n
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(1)) + y[:, None], y


def test_of_a_sorted_data_set_it_draws():
    x, y = sorted_set()
    seen = []
    report = diagnose(small_net(), DataLoader(TensorDataset(x, y), batch_size=7, collate_fn=lambda rows: seen.extend(rows) or
                                              torch.utils.data.default_collate(rows)), limit=60, probes=2, progress=False)
    assert not report.problems and report.samples[0] == 60 and len(seen) == 60
    assert torch.bincount(torch.stack([y for _, y in seen])).min() >= 10
    again = diagnose(small_net(), DataLoader(TensorDataset(x, y), batch_size=11), limit=60, probes=2, progress=False)
    assert again.numbers["risk"] == pytest.approx(report.numbers["risk"], rel=1e-5)  # the same samples each time
    whole = diagnose(small_net(), DataLoader(TensorDataset(x, y), batch_size=7), limit=300, probes=2, progress=False)
    assert whole.numbers["risk"] == pytest.approx(nn.functional.cross_entropy(small_net()(x), y).item(), rel=1e-5)


class Stream(IterableDataset):
    def __init__(self, *tensors):
        self.tensors = tensors

    def __iter__(self):
        return zip(*self.tensors)


def orders():
    x, y = sorted_set()
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    one = torch.zeros(300, dtype=torch.long)
    yield "sorted", Stream(x, y), 200, "looks sorted"
    yield "shuffled", Stream(x[shuffled], y[shuffled]), 200, ""
    yield "sorted, all of it", Stream(x, y), 301, ""
    yield "one label", Stream(x, one), 200, "have the label 0"
    yield "many classes, shuffled", Stream(x, shuffled % 100), 200, ""
    yield "many classes, sorted", Stream(x, torch.arange(300) // 3), 200, "looks sorted"
    yield "numbers, rising", Stream(x, torch.linspace(0, 1, 300)[:, None] + torch.zeros(100)), 200, "looks sorted"
    yield "numbers, shuffled", Stream(x, torch.linspace(0, 1, 300)[shuffled][:, None] + torch.zeros(100)), 200, ""


@pytest.mark.parametrize("name, stream, limit, words", [pytest.param(*case, id=case[0]) for case in orders()])
def test_of_a_sorted_stream_it_warns(name, stream, limit, words):
    net, generator = small_net(100), SQUARED if "numbers" in name else BINARY
    report = diagnose(net, DataLoader(stream, batch_size=10), generator, limit=limit, probes=1, progress=False)
    assert len(report.notes) == bool(words) and all(words in note for note in report.notes) and "risk" in report.numbers
    assert not report.problems


# ---- models as they are

def test_a_model_in_training_mode_is_measured_in_evaluation():
    x, y = labelled()
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 3))
    net(x)
    plain = diagnose(net.eval(), [(x, y)], layers=["3"], progress=False)
    net.train()[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    same(diagnose(net, [(x, y)], layers=["3"], progress=False), plain)
    assert [m.training for m in net] == [True, False, True, True, True] and net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class LoRA(nn.Module):
    """A frozen linear layer W and what is learned beside it: W + s B A."""

    def __init__(self, base, rank=2, scale=0.5):
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), scale
        self.A = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + self.scale * x @ self.A.T @ self.B.T


@pytest.mark.parametrize("trained", [False, True])
def test_adapters(trained):
    """At the start B = 0, so the Jacobian is that of B alone, and A_x = s² Σ_k (a_k · x)² I for one adapted layer."""
    x, y = labelled()
    torch.manual_seed(0)
    net = nn.Sequential(LoRA(nn.Linear(4, 8)), nn.Tanh(), LoRA(nn.Linear(8, 3)))
    if trained:
        nn.init.normal_(net[0].B), nn.init.normal_(net[2].B)
    report = diagnose(net, [(x, y)], probes=40, layers="*.base", progress=False)
    J = torch.func.jacrev(lambda p, x: torch.func.functional_call(net, p, (x[None],))[0])
    learned = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
    rows = torch.stack([torch.cat([j.flatten(1) for j in J(learned, one).values()], 1).double() for one in x])
    seen = probe(net, x, y)
    assert set(learned) == {"0.A", "0.B", "2.A", "2.B"} and not report.problems
    assert torch.allclose(structure_matrix(net, x).double(), rows @ rows.mT, rtol=1e-4, atol=1e-6)
    assert report.numbers["lam_max"] == pytest.approx(seen.lam_max.max().item(), rel=1e-5)
    assert report.numbers["energy"] == pytest.approx(seen.energy.mean().item(), rel=1e-5)
    assert [layer.name for layer in report.layers] == ["0.base", "2.base"] and not any(p.grad is not None for p in net.parameters())
    if not trained:
        alone = structure_matrix(net[2], torch.tanh(net[0](x)).detach())
        length = 0.25 * (torch.tanh(net[0](x)) @ net[2].A.T).square().sum(1)
        assert torch.allclose(alone, length[:, None, None] * torch.eye(3), atol=1e-5)


# ---- layers

class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.act, self.head = nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3))

    def forward(self, x):
        h = self.act(self.stem(x))
        for block in self.blocks:
            h = self.act(h + block(h))
        return self.head(h)


@pytest.mark.parametrize("layers, names", [
    ("blocks.*", ["blocks.0", "blocks.1", "blocks.2"]),
    ("blocks.?.0", ["blocks.0.0", "blocks.1.0", "blocks.2.0"]),
    (["head", "*em", "head", "s*"], ["head", "stem"]),
    ("blocks.[12]", ["blocks.1", "blocks.2"]),
    ("", [""]),
    ("*", ["stem", "head"]),  # beside those that are never called, and `act`, which is called at four places
])
def test_layers_by_pattern(layers, names):
    report = diagnose(Blocks(), batches(), layers=layers, progress=False)
    assert [layer.name for layer in report.layers if not layer.name.startswith("act")] == names
    assert [layer.name for layer in report.layers if layer.name.startswith("act")] == (
        [f"act (call {k} of 4)" for k in (1, 2, 3, 4)] if layers == "*" else [])
    assert report.problems == () if layers != "*" else "`blocks`" in report.problems[0]


def test_a_pattern_that_fits_nothing():
    for layers in ("block.*", "blocks.*.*.*", ["stem", "x*"]):
        with pytest.raises(ValueError, match="or a pattern for some"):
            diagnose(Blocks(), batches(), layers=layers, progress=False)


def test_each_place_of_a_layer_is_a_layer():
    """A reused module is what modules of their own at each place would be."""
    x, y = whole(batches())
    shared, apart = Middle(lambda m, h: m.layer(m.layer(h)), layer=nn.Tanh()), Middle(lambda m, h: m.b(m.a(h)), a=nn.Tanh(), b=nn.Tanh())
    report, plain = diagnose(shared, [(x, y)], layers="layer", progress=False), diagnose(apart, [(x, y)], layers=["a", "b"], progress=False)
    assert [layer.name for layer in report.layers] == ["layer (call 1 of 2)", "layer (call 2 of 2)"] and not report.problems
    assert [layer.left for layer in report.layers] == [layer.left for layer in plain.layers]
    often = Middle(lambda m, h: [h := m.layer(h) for _ in range(30)][-1], layer=nn.Tanh())
    assert [layer.name[12:-1] for layer in diagnose(often, [(x, y)], layers="layer", progress=False).layers] == [
        f"{k} of 30" for k in (1, 7, 13, 18, 24, 30)]


def test_positions_first():
    """As many positions as samples in the first batch, where no shape of one pass tells."""
    x, y = (part[:30] for part in whole(batches()))
    weights = torch.linspace(0, 1, 30)[:, None, None]
    first, second = (diagnose(Middle(route, layer=nn.Identity()), [(x, y)], layers="layer", progress=False) for route in (
        lambda m, h: m.layer(h[None] * weights).mean(0), lambda m, h: m.layer(h[:, None] * weights[:, 0]).mean(1)))
    assert not first.problems and first.layers == second.layers != ()


# ---- many outputs: what it takes is told before, and matrices only where they fit

def test_what_it_takes_is_told_before_anything_of_that_size_is_made(monkeypatch, capsys):
    """With 600 outputs a matrix has 3 MB; nothing near that is computed before the words are out."""
    made = []
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda A: made.append(A.shape[-1]) or torch.zeros(*A.shape[:-1], dtype=A.dtype))
    before = []
    monkeypatch.setattr("clt_utils.diagnose.measure._risks", lambda *_: before.append((capsys.readouterr().out, max(made))) or {})
    report = diagnose(nn.Linear(3, 600), [(torch.randn(8, 3), torch.arange(8))], probes=2)
    (words, largest), = before
    found = re.search(r"About (\d+) s and (\d+) MiB: 8 samples forward, spectra of 2", words)
    assert found and 30 < int(found[2]) < 200 and largest <= 256 and 599 in made and "energy" in report.numbers


def test_too_little_memory_for_matrices(monkeypatch):
    x, y = labelled()
    monkeypatch.setattr(cost, "free_memory", lambda device: 1e3)
    report = diagnose(small_net(), [(x, y)], progress=False)
    assert re.search(r"would take .* GB of memory, and 1e-06 GB are free.*matrix_free_eigenvalues", report.problems[0])
    assert {"lam_min", "lam_max", "eigenvalue_error", "energy"} <= report.numbers.keys() and "upper" not in report.numbers


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g


def test_many_outputs_and_no_second_derivative():
    net = nn.Sequential(nn.Linear(3, 2001), Wrap(Once.apply))
    report = diagnose(net, [(torch.randn(2, 3), torch.arange(2))], probes=1, progress=False)
    assert "energy" in report.numbers and "lam_min" not in report.numbers and "second derivative" in said(report)
