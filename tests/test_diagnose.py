"""The report on a reader's own model: numbers against independent computations, odd models, bad models, and the watch's cost."""

import contextlib
import json
import math
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from clt_utils._spacing import evenly_spaced
from clt_utils.bounds import max_loss, risk_bounds_sharp
from clt_utils.diagnose import Layer, Watch, diagnose
from clt_utils.diagnose import cost as cost_module
from clt_utils.diagnose import layers as layers_module
from clt_utils.diagnose import measure as measure_module
from clt_utils.diagnose import watch as watch_module
from clt_utils.diagnose.rules import advice_on
from clt_utils.duality import BINARY, HUBER, POISSON, SQUARED
from clt_utils.structure import gradient_energy, probe, structure_matrix


def small_net(outputs=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, outputs))


def batches(n=60, outputs=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    return DataLoader(TensorDataset(x, torch.randint(outputs, (n,), generator=generator)), batch_size=16)


def whole(loader):
    return (torch.cat(parts) for parts in zip(*loader))


def said(report):
    """The words of a report, wherever its lines end."""
    assert all(len(line) <= 84 for line in str(report).splitlines()), "The page shows 84 columns. Wrap what is wider."
    return " ".join(str(report).split())


def test_numbers_against_torch(seed):
    net, loader = small_net(seed=seed), batches(seed=seed)
    x, y = whole(loader)
    report = diagnose(net, loader, probes=60, progress=False)
    n = report.numbers
    assert not report.problems and report.samples == (60, 60)
    f = net(x).detach()
    assert n["risk"] == pytest.approx(nn.functional.cross_entropy(f, y).item(), rel=1e-5)
    assert n["risk_probed"] == pytest.approx(n["risk"], rel=1e-5)
    assert n["accuracy"] == pytest.approx((f.argmax(1) == y).float().mean().item())
    assert n["energy"] == pytest.approx(gradient_energy(net, x, y).mean().item(), rel=1e-5)
    assert n["largest_loss"] == pytest.approx(max_loss(float((f.amax(1) - f.amin(1)).max()), 3), rel=1e-5)
    eigenvalues = np.linalg.eigvalsh(structure_matrix(net, x, dtype=torch.float64).numpy())
    assert eigenvalues.min() <= n["lam_min"] * (1 + 1e-4) and n["lam_max"] <= eigenvalues.max() * (1 + 1e-4)
    assert n["lower"] <= n["risk_probed"] <= n["upper"] and 0 <= n["correlation"] <= 1 + 1e-6
    seen = probe(net, x, y)
    sharp = risk_bounds_sharp(seen.energy, seen.lam_min, seen.lam_max, 3, seen.p_min)
    assert [n["lower"], n["upper"]] == pytest.approx([side.mean().item() for side in sharp], rel=1e-5)


def test_condition_is_that_of_the_median_sample():
    net, loader = small_net(), batches(n=25)
    seen = probe(net, *whole(loader))
    report = diagnose(net, loader, probes=25, progress=False)
    assert report.numbers["condition"] == pytest.approx(np.median(seen.lam_max / seen.lam_min), rel=1e-5)


def test_layers_are_judged_on_samples_that_their_cells_were_not_learned_from():
    """Every sample is an input of its own and labels are coin tosses: cells that hold one sample each would seem to tell them all."""
    torch.manual_seed(0)
    report = diagnose(small_net(2), [(torch.randn(40, 4), torch.randint(2, (40,)))], layers=["0"], cells=24, progress=False)
    assert report.layers[0].plug_in > 0.1


def test_floor_from_duplicates():
    x = torch.tensor([[1.0, 0, 0, 0]] * 4 + [[0, 1.0, 0, 0]] * 2)
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    report = diagnose(small_net(), [(x, y)], progress=False)
    assert report.numbers["floor"] == pytest.approx(4 / 6 * math.log(2))
    assert report.numbers["conflicts"] == 4
    assert report.numbers["progress"] == pytest.approx((math.log(3) - report.numbers["risk"]) / (math.log(3) - 4 / 6 * math.log(2)))
    assert report.numbers["label_entropy"] == pytest.approx(math.log(3))
    half = diagnose(small_net(), [(x, y.float()[:, None].expand(-1, 3))], SQUARED, progress=False)
    assert half.numbers["floor"] == pytest.approx(4 / 6 * 3 * 0.5 * 0.25)  # a variance of ¼ in each of three outputs


def test_regression():
    x = torch.randn(20, 4)
    report = diagnose(small_net(2), [(x, torch.randn(20, 2))], SQUARED, progress=False, layers=["0"])
    assert not report.problems and "accuracy" not in report.numbers and not report.layers
    assert report.numbers["lower"] <= report.numbers["risk_probed"] <= report.numbers["upper"]


def test_layers_tell_a_layer_that_forgets():
    torch.manual_seed(0)
    y = torch.randint(3, (600,))
    x = nn.functional.one_hot(y, 4) + 0.05 * torch.randn(600, 4)
    net = nn.Sequential(nn.Identity(), nn.Linear(4, 4), nn.Linear(4, 3))
    with torch.no_grad():
        net[1].weight.zero_()
    report = diagnose(net, [(x, y)], layers=["0", "1"], progress=False)
    first, second = report.layers
    assert first.left < 0.05 and second.left == pytest.approx(math.log(3), abs=0.05)
    assert first.plug_in <= first.left and first.shuffled < math.log(3)
    assert any("harder to read off" in a.seen for a in report.advice)


@pytest.mark.parametrize("left, warned", [(0.961, True), (0.959, False)])
def test_advice_on_layers_allows_for_three_standard_errors(left, warned):
    layers = [Layer("first", 0.9, 0.01, 0.0, 0.0), Layer("last", left, 0.01, 0.0, 0.0)]
    assert [advice.rule for advice in advice_on({}, 32, layers)] == ["layers that forget"] * warned


def test_every_form_of_the_report():
    report = diagnose(small_net(), batches(), layers=["0"], progress=False)
    text, page = str(report), report._repr_html_()
    for word in ("risk", "floor from duplicates", "gradient energy", "eigenvalues", "largest loss", "share of the way", "entropy left"):
        assert word in text
    assert page.count("<tr>") == len(report.rows()) and "<table" in page
    again = json.loads(json.dumps(report.to_dict()))
    assert again["numbers"]["risk"] == report.numbers["risk"] and again["layers"][0]["name"] == "0"
    fig = report.plot()
    assert len(fig.axes) == 3 and len(report.words().split()) > 5


def test_it_says_beforehand_how_long_it_takes(capsys):
    diagnose(small_net(), batches())
    assert "About" in capsys.readouterr().out


class Wrapped(nn.Module):
    def __init__(self, as_dict):
        super().__init__()
        self.net, self.as_dict = small_net(), as_dict

    def forward(self, x):
        return {"logits": self.net(x)} if self.as_dict else SimpleNamespace(logits=self.net(x), loss=None)


@pytest.mark.parametrize("as_dict", [False, True])
def test_outputs_with_logits(as_dict):
    plain = diagnose(small_net(), batches(), progress=False)
    x, y = whole(batches())
    wrapped = diagnose(Wrapped(as_dict), [{"pixel_values": x, "labels": y}], progress=False)
    assert wrapped.numbers == pytest.approx(plain.numbers, rel=1e-5)


def test_torchvision_model():
    from torchvision.models import shufflenet_v2_x0_5

    torch.manual_seed(0)
    model = shufflenet_v2_x0_5(num_classes=4).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = diagnose(model, [(torch.rand(6, 3, 32, 32), torch.tensor([0, 1, 2, 3, 0, 1]))], layers=["stage2"], probes=2, progress=False)
    assert not report.problems and report.numbers["lam_min"] > 0 and report.layers[0].name == "stage2"
    assert not model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def nan_net():
    net = small_net()
    with torch.no_grad():
        net[2].weight[0, 0] = float("nan")
    return net


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = small_net()

    def forward(self, x):
        return self.net(x - x.mean(0))


@pytest.mark.parametrize("model, loader, words", [
    (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval(), batches(), "keeps no running statistics"),
    (nan_net(), batches(), "`2.weight`"),
    (nn.Sequential(nn.Unflatten(1, (2, 2))), batches(), "No parameter requires a gradient"),
    (nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (2, 2))), batches(), r"shape \(2, 2, 2\)"),
    (nn.Linear(5, 3), batches(), "fails on inputs"),
    (small_net(2), batches(outputs=3), "labels from 0 to 2"),
    (small_net(), [], "without batches"),
    (small_net(), [(torch.full((4, 4), float("nan")), torch.zeros(4, dtype=torch.long))], "NaN"),
    (Mixing(), batches(), "could not be measured.*rest of the batch"),
    (nn.Linear(4, 3, device="meta"), batches(), "device meta"),
    (small_net(), [(torch.zeros(4, 4), torch.zeros(3, dtype=torch.long))], "4 inputs and 3 targets"),
    (small_net(), [(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))], "or with empty ones"),
])
def test_bad_models_get_a_diagnosis(model, loader, words):
    report = diagnose(model, loader, progress=False)
    assert report.problems and not report.numbers
    assert re.search(words, said(report)), str(report)
    assert "Nothing was measured" in report._repr_html_() and report.to_dict()["numbers"] == {}
    with pytest.raises(ValueError, match="without numbers"):
        report.plot()


def test_bad_arguments():
    with pytest.raises(TypeError, match="nn.Module"):
        diagnose(lambda x: x, batches())
    with pytest.raises(ValueError, match="'head'"):
        diagnose(small_net(), batches(), layers=["head"])


class Aside(nn.Module):
    """A layer that is never called, beside one that gives a pair."""

    def __init__(self):
        super().__init__()
        self.aside, self.pair = nn.Identity(), nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        return self.pair(x[:, None])[0][:, 0]


# what loaders bring: the report is that on the plain pair (x, y), or says what is wrong

class ByName(nn.Module):
    """Takes its inputs by a name that is not its first."""

    def __init__(self):
        super().__init__()
        self.net = small_net()

    def forward(self, ids=None, pixel_values=None, mask=None):
        return SimpleNamespace(logits=self.net(pixel_values))


def one_buffer(x, y, size):
    """Batches as tensors or arrays that are filled again and again."""
    bx, by = x[:size].clone(), y[:size].clone()
    for start in range(0, len(x), size):
        bx[:], by[:] = x[start:start + size], y[start:start + size]
        yield bx, by


FORMS = {
    **{str(dtype): lambda x, y, dtype=dtype: [(x, y.to(dtype))] for dtype in (torch.uint8, torch.int8, torch.int32, torch.uint16)},
    "one-hot": lambda x, y: [(x, nn.functional.one_hot(y, 3))],
    "one-hot, true or false": lambda x, y: [(x, nn.functional.one_hot(y, 3).bool())],
    "one-hot, float64": lambda x, y: [(x, nn.functional.one_hot(y, 3).double())],
    "arrays": lambda x, y: [[x.numpy(), y.numpy()]],
    "a dict of arrays": lambda x, y: [{"x": x.numpy(), "labels": y.numpy()}],
    "a dict with numbers of samples": lambda x, y: [{"x": x, "labels": y, "number": torch.arange(len(x))}],
    "inputs with a graph": lambda x, y: [(x.clone().requires_grad_() * 1, y)],
    "a tensor filled again and again": lambda x, y: one_buffer(x, y, 4),
    "an array filled again and again": lambda x, y: ((bx.numpy(), by.numpy()) for bx, by in one_buffer(x, y, 4)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_batches_gives_the_same_report(form):
    x, y = whole(batches())
    plain = diagnose(small_net(), [(x, y)], layers=["0"], progress=False)
    report = diagnose(small_net(), FORMS[form](x, y), layers=["0"], progress=False)
    assert not report.problems and report.numbers == pytest.approx(plain.numbers, rel=1e-5) and report.layers == plain.layers


def test_inputs_go_by_the_name_that_the_model_has_for_them():
    x, y = whole(batches())
    report = diagnose(ByName(), [{"pixel_values": x, "labels": y}], progress=False)
    assert report.numbers == pytest.approx(diagnose(small_net(), [(x, y)], progress=False).numbers, rel=1e-5)
    both = diagnose(ByName(), [{"mask": y, "pixel_values": x, "number": y, "labels": y}], progress=False)
    assert both.numbers == pytest.approx(report.numbers, rel=1e-5)
    refused = diagnose(small_net(), [{"pixel_values": x, "more": x, "labels": y}], progress=False)
    assert "2 inputs (pixel_values, more)" in said(refused)


def test_as_many_samples_as_classes():
    """One-hot labels (B, K) with B = K once were compared with labels (B,) by broadcasting."""
    net, y = small_net(12), torch.arange(12)
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    report = diagnose(net, [(x, nn.functional.one_hot(y))], progress=False)
    assert report.numbers["accuracy"] == pytest.approx((net(x).argmax(1) == y).double().mean().item())


@pytest.mark.parametrize("generator, y", [(POISSON, torch.arange(12)[:, None]), (SQUARED, 20 + torch.arange(12)[:, None]),
                                          (BINARY, torch.arange(12)[:, None] % 2), (BINARY, torch.arange(24).reshape(12, 2) % 3 > 0),
                                          (BINARY, torch.arange(12)[:, None] % 2 == torch.arange(2)),
                                          (HUBER, torch.arange(12)[:, None] % 3 - 1)], ids=lambda v: getattr(v, "name", ""))
def test_integer_means_are_means(generator, y):
    net, x = small_net(y.shape[1]), torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    report, plain = (diagnose(net, [(x, targets)], generator, layers=["0"], progress=False) for targets in (y, y.float()))
    assert not report.problems and report.numbers == pytest.approx(plain.numbers, rel=1e-5, nan_ok=True)
    assert "accuracy" not in report.numbers and not report.layers


@pytest.mark.parametrize("dtype, rel", [(torch.bfloat16, 1e-5), (torch.float16, 1e-5), (torch.float64, 1e-5)], ids=str)
def test_other_precisions(dtype, rel):
    """In half the bits, all is measured in float32 on the weights and inputs as they are."""
    x, y = whole(batches())
    net, x = small_net().to(dtype), x.to(dtype)
    report = diagnose(net, [(x, y)], layers=["0"], progress=False)
    plain = diagnose(small_net().to(dtype).float(), [(x.float(), y)], layers=["0"], progress=False)
    assert not report.problems and report.numbers == pytest.approx(plain.numbers, rel=rel)
    assert report.layers[0].left == pytest.approx(plain.layers[0].left) and net[0].weight.dtype == dtype


def test_inputs_of_one_number_a_sample():
    torch.manual_seed(0)
    ids = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))
    report = diagnose(ids, [(torch.arange(8) % 5, torch.tensor([0, 0, 1, 1] * 2))], layers=["0"], progress=False)
    assert not report.problems and report.numbers["conflicts"] == 2  # input 1 has both labels


@pytest.mark.parametrize("loader, words", [
    ([(torch.zeros(4, 4), torch.zeros(4), torch.zeros(4))], "a batch of 3 parts"),
    (torch.zeros(2, 4), "a tensor torch.float32 of shape (4,) as a batch"),
    (TensorDataset(torch.zeros(2, 4), torch.zeros(2)), "Let a `DataLoader` make batches"),
    ([{"x": torch.zeros(4, 4), "answer": torch.zeros(4)}], "a batch with x, answer"),
    ([(torch.zeros(4, 4), torch.full((4,), 0.5))], "float32 targets of shape (4,)"),
    ([(torch.zeros(4, 4), torch.ones(4, 3))], "several labels, pass the generator `duality.BINARY`"),
    ([(torch.zeros(4, 4), torch.randn(4, 3))], "such as `duality.SQUARED`"),
    ([(torch.zeros(4, 4), torch.zeros(4)), (torch.zeros(4, 5), torch.zeros(4))], "shapes (4,) and (5,)"),
    ([(torch.zeros(4, 4), torch.zeros(4, 2).long())], "int64 targets of shape (4, 2)"),
    ([(torch.zeros(200, 4), torch.cat([torch.zeros(199), torch.ones(1) * 3]).long())], "labels from 0 to 3"),
    ([(torch.zeros(200, 4), torch.cat([torch.eye(3)[[0] * 199], torch.ones(1, 3)]))], "1 targets outside the domain"),
])
def test_loaders_that_cannot_be_read_as_pairs(loader, words):
    report = diagnose(small_net(), loader, progress=False)
    assert not report.numbers and words in said(report)


@pytest.mark.parametrize("generator", [BINARY, SQUARED, POISSON, HUBER], ids=lambda g: g.name)
@pytest.mark.parametrize("label", [0, 1])
def test_one_output_and_a_number_a_sample(generator, label):
    """Where there are no classes, targets (n,) can only be means, integers too: never labels, of which 0 would be a yes."""
    x, y = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), torch.full((4,), label)
    plain = diagnose(small_net(1), [(x, y[:, None].float())], generator, progress=False)
    for targets in (y, y.float(), y[:, None], y[:, None, None]):
        report = diagnose(small_net(1), [(x, targets)], generator, progress=False)
        assert not report.problems and report.numbers == pytest.approx(plain.numbers, rel=1e-6, nan_ok=True)


# the model, its data and the world stay as they were

class Frozen(nn.Module):
    """A backbone in evaluation mode below a head in training; every buffer that a pass in training would change."""

    def __init__(self, fails_on=None):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True))
        self.norm = nn.InstanceNorm1d(2, track_running_stats=True)
        self.head = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3))
        self.fails_on = fails_on
        self.train()
        self.backbone.eval().requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.turned = getattr(self, "turned", 0) + 1  # models count, merge or thaw here
        return self

    def forward(self, x):
        if self.fails_on == len(x):
            raise RuntimeError("not today")
        return self.head(self.norm(self.backbone(x).unflatten(1, (2, 3))).flatten(1))


def world(net):
    modules = dict(net.named_modules())
    return ({name: value.clone() for name, value in net.state_dict().items()}, {name: p.grad for name, p in net.named_parameters()},
            {name: (m.training, len(m._forward_hooks), len(m._backward_hooks)) for name, m in modules.items()}, net.turned,
            torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002


def same(a, b):
    if isinstance(a, (torch.Tensor, np.ndarray)):
        return bool((a == b).all())
    if isinstance(a, (dict, tuple)):
        pairs = zip(a.values(), b.values()) if isinstance(a, dict) else zip(a, b)
        return len(a) == len(b) and all(same(*pair) for pair in pairs)
    return a == b


def drawn(x, y):
    """A loader that draws its batches from every source of random numbers."""
    for batch in DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True):
        random.random(), np.random.rand()  # noqa: NPY002
        yield batch


@pytest.mark.parametrize("fails_on", [None, 60, 30, 8, 1])  # 30 only while layers are looked at, which costs nothing else
@pytest.mark.filterwarnings("ignore:The watch failed")
@pytest.mark.parametrize("measure", ["diagnose", "Watch"])
def test_everything_is_left_as_it_was(measure, fails_on):
    torch.manual_seed(0)
    net, seen = Frozen(fails_on), []
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    net.head.register_full_backward_hook(lambda *_: seen.append("gradient"))
    x, y = whole(batches())
    before, data = world(net), (x.clone(), y.clone())
    if measure == "diagnose":
        report = diagnose(net, drawn(x, y), layers=["backbone.0"], probes=4, progress=True)
        assert report.numbers if fails_on in (None, 30, 8) else report.problems
        assert bool(report.layers) == (fails_on in (None, 8))
    else:
        watch = Watch(net, x[:8], y[:8])
        with contextlib.suppress(ValueError, RuntimeError):
            watch(0)
        assert fails_on or watch.rows
    for name, then, now in zip(("state", "gradients", "modes and hooks", "calls of train()", "torch's", "random's", "numpy's"),
                               before, world(net)):
        assert same(then, now), f"{name} changed. Put them back, also after an exception."
    assert same(data, (x, y)) and not seen


def test_watch_keeps_its_own_samples():
    x, y = (part[:4].clone() for part in whole(batches()))
    watch = Watch(small_net(), x, y)
    watch(0)
    x.zero_(), y.zero_()
    watch.spent = 0
    watch(1)
    assert watch.rows[0]["risk"] == watch.rows[1]["risk"]


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)])
def test_whatever_is_around_it(around):
    net, (x, y) = small_net(), whole(batches())
    plain = diagnose(net, [(x, y)], layers=["0"], progress=False)
    with around():
        report = diagnose(net, [(x + 0, y + 0)], layers=["0"], progress=False)
    assert not report.problems and report.numbers == pytest.approx(plain.numbers, rel=1e-5) and report.layers == plain.layers


# layers

class Middle(nn.Module):
    """Named layers between two linear ones, put together by ``route``."""

    def __init__(self, route, **layers):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.route = nn.Linear(4, 6), nn.Linear(6, 3), route
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.last(self.route(self, self.first(x)))


class Wrap(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


SAME = {
    "a tuple": Middle(lambda m, h: m.layer(h)[0], layer=Wrap(lambda h: (h,))),
    "a pair": Middle(lambda m, h: m.layer(h)[0], layer=Wrap(lambda h: (h, h + 1))),
    "two in a dict": Middle(lambda m, h: m.layer(h)["a"], layer=Wrap(lambda h: {"a": h, "b": h + 1})),
    "nested": Middle(lambda m, h: m.layer(h)[0][0], layer=Wrap(lambda h: ((h, h + 1), h + 2))),
    "samples in the last dimension": Middle(lambda m, h: m.layer(h).mT, layer=Wrap(lambda h: h.mT)),
    "as many columns as samples": Middle(lambda m, h: m.layer(h)[..., 0].mT, layer=Wrap(lambda h: h.mT[..., None].expand(-1, -1, 30))),
    "positions below samples": Middle(lambda m, h: m.layer(h).reshape(len(h), -1), layer=Wrap(lambda h: h.reshape(-1, 2))),
    "a tuple with None": Middle(lambda m, h: m.layer(h)[0], layer=Wrap(lambda h: (h, None))),
    "a dict": Middle(lambda m, h: m.layer(h)["h"], layer=Wrap(lambda h: {"h": h, "loss": None})),
    "before an in-place activation": Middle(lambda m, h: nn.functional.hardtanh_(m.layer(h), 0, 1e-9) + h.detach(), layer=nn.Linear(6, 6)),
}


@pytest.mark.parametrize("model", SAME.values(), ids=SAME.keys())
def test_layers_of_other_forms(model):
    x, y = whole(batches())
    report = diagnose(model, [(x, y)], layers=["layer"], progress=False)
    with torch.no_grad():
        h = model.first(x)
        features = model.layer(h) if isinstance(model.layer, nn.Linear) else h
    alone = diagnose(nn.Sequential(nn.Identity(), nn.Linear(6, 3)), [(features, y)], layers=["0"], progress=False)
    assert not report.problems
    assert [report.layers[0].left, report.layers[0].plug_in] == pytest.approx([alone.layers[0].left, alone.layers[0].plug_in], abs=1e-9)


def twice(m, h):
    return m.layer(m.layer(h))


def sorted_within(m, h):
    order = h[:, 0].argsort()
    return m.layer(h[order])[order.argsort()]


REFUSED = {
    "never called": (lambda m, h: h, nn.Tanh(), "gave no tensor"),
    "a number": (lambda m, h: h * m.layer(h), Wrap(lambda h: 1.0), "gave no tensor"),
    "in another order": (sorted_within, nn.Identity(), "with the order or the rest of the batch"),
    "fewer rows": (lambda m, h: h + m.layer(h.mean(0, keepdim=True)) * 0, nn.Identity(), r"outputs \(1, 6\) for 30 samples"),
    "as many copies as samples": (lambda m, h: m.layer(h)[0], Wrap(lambda h: h.expand(len(h), -1, -1)), r"\(30, 30, 6\) for 30 samples"),
    "a mean that is taken out and put back": (lambda m, h: m.layer(h - h.mean(0)) + h.mean(0), nn.Identity(), "the rest of the batch"),
    "without a number": (lambda m, h: h + m.layer(h.detach() * torch.inf).clamp(-1, 1), nn.Identity(), "NaN or infinite"),
}


@pytest.mark.parametrize("route, layer, words", REFUSED.values(), ids=REFUSED.keys())
def test_layers_without_one_row_a_sample_are_refused_and_cost_no_other(route, layer, words):
    x, y = (part[:30] for part in whole(batches()))
    report = diagnose(Middle(route, layer=layer), [(x, y)], layers=["layer", "first"], progress=False)
    assert [layer.name for layer in report.layers] == ["first"] and {"risk", "lam_min", "correlation"} <= report.numbers.keys()
    assert len(report.problems) == 1 and re.search(words, report.problems[0])
    assert "What could not be measured:" in str(report) and "What could not be measured:" in report._repr_html_()


# many outputs, and memory that runs out

EVERY = {"risk", "largest_loss", "accuracy", "floor", "label_entropy", "conflicts", "risk_probed", "lower", "upper", "lam_min", "lam_max",
         "condition", "energy", "residual", "correlation"}
OUTPUTS = {"risk", "risk_error", "largest_loss", "accuracy", "order_gain", "order_gain_error", "progress"}
EVERY |= OUTPUTS | {"step", "step_gain", "step_gain_error", "frozen", "signs_low", "signs_high", "rho_low", "rho_high", "input_scale",
                    "dead", "saturated", "reach"}
SPECTRA = {"risk_probed", "lower", "upper", "lam_min", "lam_max", "condition"}


def test_many_outputs_are_told_before_the_work_and_the_rest_is_measured(monkeypatch, capsys):
    plain = diagnose(small_net(), batches(), layers=["0"], progress=False)
    monkeypatch.setattr(cost_module, "MOST_OUTPUTS", 2)
    told, risks = [], measure_module._risks
    monkeypatch.setattr(measure_module, "_risks", lambda *call: told.append(capsys.readouterr().out) or risks(*call))
    report = diagnose(small_net(), batches(), layers=["0"])
    for text in (" ".join(told[0].split()), report.problems[0]):
        assert "K = 3 outputs" in text and "`structure.matrix_free_eigenvalues`" in text
    assert re.search(r"About \d+ s and \d+ MiB", told[0])
    found = {"lam_min", "lam_max", "eigenvalue_error", "condition"}
    assert set(plain.numbers) == EVERY and set(report.numbers) == EVERY - SPECTRA | found and report.layers == plain.layers
    assert report.numbers == pytest.approx(report.numbers | {name: plain.numbers[name] for name in EVERY - SPECTRA}, rel=1e-5)
    few = torch.cat([x for x, _ in batches()])[evenly_spaced(60, 32)[evenly_spaced(32, 4)]]
    eigenvalues = np.linalg.eigvalsh(structure_matrix(small_net(), few, dtype=torch.float64).numpy())
    assert report.numbers["lam_min"] == pytest.approx(eigenvalues.min(), rel=1e-4)
    assert report.numbers["lam_max"] == pytest.approx(eigenvalues.max(), rel=1e-4)


def test_thirty_thousand_outputs():
    torch.manual_seed(0)
    report = diagnose(nn.Linear(3, 30000), [(torch.randn(4, 3), torch.arange(4))], layers=[""], probes=1, progress=False)
    assert "K = 30000 outputs" in said(report) and "7.2 GB" in said(report) and report.numbers["energy"] > 0 and report.layers
    assert report.numbers["lam_min"] == pytest.approx(report.numbers["lam_max"], rel=1e-3)  # a linear model has (‖x‖² + 1) I


OUT_OF_MEMORY = [RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError("CUDA"), MemoryError()]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where, lost", [
    ("probe", SPECTRA), ("gradient_correlation", {"correlation"}), ("_risks", OUTPUTS),
    ("_floor", {"floor", "label_entropy", "conflicts", "progress"}), ("_layer", set()), ("_calls", set()),
])
def test_where_memory_runs_out_nothing_else_is_lost(monkeypatch, where, lost, error):
    def no_memory(*arguments):
        raise error

    monkeypatch.setattr(layers_module if where in ("_layer", "_calls") else measure_module, where, no_memory)
    report = diagnose(small_net(), batches(), layers=["0"])
    assert set(report.numbers) == EVERY - lost and len(report.problems) == 1 and bool(report.layers) == bool(lost)
    assert ("K = 3" in said(report) and "matrix_free_eigenvalues" in said(report)) == (where == "probe")
    assert json.dumps(report.to_dict()) and report.rows() and report._repr_html_() and report.plot() and len(report.words()) > 5


def test_what_fails_later_is_told():
    """Two samples pass, and a later one does not."""
    report = diagnose(nn.Embedding(60, 3), [(torch.arange(70), torch.arange(70) % 3)], progress=False)
    assert not report.numbers and "could not be measured: IndexError" in said(report)


@pytest.mark.parametrize("model, words", [
    (nn.LazyLinear(3), "2 parameters have no shape yet, the first is `weight`"),
    (Wrap(lambda x: x), "No parameter requires a gradient"),
    (Middle(lambda m, h: h.masked_fill(h > 1e9, 0), last=nn.LSTM(6, 3)), "the rest of the batch"),  # it takes samples for positions
    (Middle(lambda m, h: h, last=nn.Unflatten(1, (2, 3))), "a model whose output is a tensor torch.float32 of shape (2, 2, 3)"),
    (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)), "keeps no running statistics (`1`)"),
    (nn.Sequential(small_net(), Wrap(lambda f: f.masked_fill(torch.tensor([True, False, False]), -torch.inf))),
     "Some outputs are −∞, as of masked classes"),
    (Middle(lambda m, h: nn.functional.dropout(h)), "draws random numbers"),
])
def test_more_models_get_a_diagnosis(model, words):
    report = diagnose(model, batches(), progress=False)
    assert not report.numbers and words in said(report)


def test_a_layer_without_a_tensor_is_named():
    report = diagnose(Aside(), batches(), layers=["aside", "pair"], progress=False)
    assert "the layer 'aside', which gave no tensor" in said(report) and [layer.name for layer in report.layers] == ["pair"]


def test_watch_keeps_its_share_and_leaves_training_alone(monkeypatch):
    """On a clock of its own: a step of training takes one second, a measurement four."""
    net = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.3), nn.ReLU(), nn.Linear(64, 3))
    x, y = whole(batches())
    clock, measure = SimpleNamespace(now=0.0), watch_module.probe

    def slow_measure(*arguments):
        clock.now += 4
        return measure(*arguments)

    monkeypatch.setattr(watch_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(watch_module, "probe", slow_measure)
    watch = Watch(net, x[:4], y[:4], share=0.2)
    net.train()
    for step in range(60):
        nn.functional.cross_entropy(net(x), y).backward()
        clock.now += 1
        watch(step)
        assert watch.spent <= 0.2 * clock.now + 4
    trace = watch.trace()
    assert trace["step"].tolist() == [0, 16, 32, 48]  # every 20 seconds, of which it takes 4
    assert watch.spent == 16 and (trace["lower"] <= trace["risk"]).all() and (trace["risk"] <= trace["upper"]).all()
    assert all(m.training for m in net.modules())
