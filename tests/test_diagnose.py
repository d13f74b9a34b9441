"""The report on a reader's own model: numbers against independent computations, odd models, bad models, and the watch's cost."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from clt_utils import diagnose as diagnose_module
from clt_utils.bounds import max_loss, risk_bounds_sharp
from clt_utils.diagnose import Layer, Watch, _advice, diagnose
from clt_utils.duality import SQUARED
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
    assert any("harder to read off" in a for a in report.advice)


ORDINARY = {"risk": 1.0, "floor": 0.0, "conflicts": 0.0, "lam_min": 1.0, "lam_max": 10.0, "condition": 10.0, "correlation": 0.2,
            "energy": 1.0, "largest_loss": 5.0}


@pytest.mark.parametrize("amiss, just_not, words", [
    ({"floor": 0.51}, {"floor": 0.49}, "relabel or merge"),
    ({"lam_min": 0.9e-9}, {"lam_min": 1.1e-9}, "singular"),
    ({"condition": 1001.0}, {"condition": 999.0}, "median condition"),
    ({"correlation": 0.51}, {"correlation": 0.49}, "Gradients agree"),
    ({"correlation": 0.0624}, {"correlation": 0.0626}, "Gradients cancel"),  # twice 1/32, where they are orthogonal
    ({"correlation": 0.01, "energy": 1.1e-6}, {"correlation": 0.01, "energy": 0.9e-6}, "Gradients cancel"),
    ({"largest_loss": 20.1}, {"largest_loss": 19.9}, "One mistake"),
    ({"largest_loss": 1.01, "risk": 0.01}, {"largest_loss": 0.99, "risk": 0.01}, "One mistake"),
])
def test_advice_begins_where_it_says(amiss, just_not, words):
    advice = _advice(ORDINARY | amiss, 32, ())
    assert len(advice) == 1 and words in advice[0]
    assert _advice(ORDINARY | just_not, 32, ())[0].startswith("Nothing stands out")


@pytest.mark.parametrize("left, warned", [(0.961, True), (0.959, False)])
def test_advice_on_layers_allows_for_three_standard_errors(left, warned):
    layers = [Layer("first", 0.9, 0.01, 0.0, 0.0), Layer("last", left, 0.01, 0.0, 0.0)]
    assert ("harder to read off" in _advice(ORDINARY, 32, layers)[0]) == warned


def test_every_form_of_the_report():
    report = diagnose(small_net(), batches(), layers=["0"], progress=False)
    text, page = str(report), report._repr_html_()
    for word in ("risk", "floor from duplicates", "gradient energy", "eigenvalues", "largest loss", "What to try next", "entropy left"):
        assert word in text
    assert page.count("<tr>") == len(report.rows()) and "<table" in page
    again = json.loads(json.dumps(report.to_dict()))
    assert again["numbers"]["risk"] == report.numbers["risk"] and again["layers"][0]["name"] == "0"
    fig = report.plot()
    assert len(fig.axes) == 2 and len(report.words().split()) > 5


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
    (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), batches(), "Batch normalization is in training mode"),
    (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval(), batches(), "keeps no running statistics"),
    (nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), batches(), "Dropout is in training mode"),
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
    import re
    assert re.search(words, str(report)), str(report)
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


@pytest.mark.parametrize("layer", ["aside", "pair"])
def test_a_layer_without_a_tensor_is_named(layer):
    assert f"the layer '{layer}', which gave no tensor" in str(diagnose(Aside(), batches(), layers=[layer], progress=False))


def test_watch_keeps_its_share_and_leaves_training_alone(monkeypatch):
    """On a clock of its own: a step of training takes one second, a measurement four."""
    net = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.3), nn.ReLU(), nn.Linear(64, 3))
    x, y = whole(batches())
    clock, measure = SimpleNamespace(now=0.0), diagnose_module.probe

    def slow_measure(*arguments):
        clock.now += 4
        return measure(*arguments)

    monkeypatch.setattr(diagnose_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(diagnose_module, "probe", slow_measure)
    watch = Watch(net, x[:4], y[:4], share=0.2)
    net.train()
    for step in range(60):
        nn.functional.cross_entropy(net(x), y).backward()
        clock.now += 1
        watch(step)
        assert watch.spent <= 0.2 * clock.now + 4
    trace = watch.trace()
    assert trace["step"].tolist() == [0, 15, 31, 47]  # every 20 seconds, of which it takes 4
    assert watch.spent == 16 and (trace["lower"] <= trace["risk"]).all() and (trace["risk"] <= trace["upper"]).all()
    assert all(m.training for m in net.modules())
