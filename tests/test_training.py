"""The training loop and its measurements, against plain PyTorch, torch.func and scipy."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from torch import nn

from clt_utils import data, training
from clt_utils.data import load
from clt_utils.duality import SHANNON, SQUARED
from clt_utils.models import build
from clt_utils.training import HELD_OUT, Trace, TrainConfig, measure, train

TINY = TrainConfig.mini(limit=5, size=8, epochs=3, model="model-a", depth=1, width=3, device="cpu")


def plain_sgd(config):
    """The recipe once more, in plain PyTorch with its own losses, scheduler and loader; returns the model and the data."""
    digits = load("digits", size=config.size, limit=config.limit, seed=config.seed)
    torch.manual_seed(config.seed)
    model = build(config.model, 10, 1, config.size, config.depth, config.width, config.skip, config.norm, config.gain, config.sparsity)
    optimizer = torch.optim.SGD(model.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay)
    num_steps = config.epochs * -(-config.limit // config.batch_size)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    order = torch.Generator().manual_seed(config.seed)
    for _ in range(config.epochs):
        for batch in torch.randperm(config.limit, generator=order).split(config.batch_size):
            outputs, labels = model(digits.inputs[batch]), digits.targets[batch]
            if config.loss == "cross-entropy":
                loss = nn.functional.cross_entropy(outputs, labels)
            else:
                loss = 10 / 2 * nn.functional.mse_loss(outputs, nn.functional.one_hot(labels, 10).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if config.schedule == "cosine":
                cosine.step()
    return model, digits


@pytest.mark.parametrize("changes", [{}, {"loss": "squared"}, {"schedule": "constant", "momentum": 0.0, "batch_size": 5},
                                     {"skip": True, "norm": "layer", "gain": 1.5}, {"sparsity": 0.5}])
def test_training_is_plain_sgd(changes, seed):
    config = TINY.replace(learning_rate=0.1, seed=seed, **changes)
    trace = train(config)
    model, digits = plain_sgd(config)
    expected = measure(model, digits.inputs, digits.targets, training.GENERATORS[config.loss])
    for name, value in expected.items():
        assert trace[name][-1] == pytest.approx(value, rel=1e-4, nan_ok=True), name
    assert trace["risk"][-1] < trace["risk"][0] and not trace.stopped


@pytest.mark.parametrize("generator", [SHANNON, SQUARED])
def test_measurements_against_torch_func(generator, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs, targets = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 1])
    means = torch.eye(3, dtype=torch.float64)[targets]
    seen = measure(model, inputs, targets, generator)
    weights = dict(model.named_parameters())

    def loss(w, x, mu):
        f = torch.func.functional_call(model, w, x)
        return nn.functional.cross_entropy(f, mu) if generator is SHANNON else ((f - mu) ** 2).sum(-1) / 2

    def flat(tree):
        return torch.cat([part.flatten(1) for part in tree.values()], 1)

    gradients = flat(torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(weights, inputs, means))
    assert seen["energy"] == pytest.approx(gradients.square().sum(1).mean().item(), rel=1e-9)
    assert seen["grad_norm_sq"] == pytest.approx(gradients.mean(0).square().sum().item(), rel=1e-9)
    assert seen["correlation"] == pytest.approx(seen["grad_norm_sq"] / seen["energy"])
    outputs = model(inputs)
    prediction = outputs.softmax(-1) if generator is SHANNON else outputs
    losses = torch.stack([loss(weights, x, mu) for x, mu in zip(inputs, means, strict=True)])
    residuals = (prediction - means).square().sum(-1)
    assert seen["risk"] == pytest.approx(losses.mean().item())
    assert seen["residual"] == pytest.approx(residuals.mean().item())
    assert seen["accuracy"] == (outputs.argmax(-1) == targets).float().mean()
    singular = []
    for x in inputs:
        J = torch.func.jacrev(lambda w, x=x: torch.func.functional_call(model, w, x))(weights)
        J = flat(J)
        if generator is SHANNON:  # project out 1: what is left has one zero singular value, which is not of the subspace
            J = J - J.mean(0)
        singular.append(torch.linalg.svdvals(J)[: 2 if generator is SHANNON else 3])
    squares = torch.stack(singular) ** 2
    assert seen["lam_min"] == pytest.approx(squares.min().item()) and seen["lam_max"] == pytest.approx(squares.max().item())
    assert seen["lower"] <= seen["lower_sharp"] + 1e-12 and seen["lower_sharp"] <= seen["risk"] <= seen["upper_sharp"]
    assert seen["risk"] <= seen["upper"]
    if generator is SHANNON:
        assert seen["p_min"] == pytest.approx(prediction.min().item())
    else:
        assert np.isnan(seen["p_min"])
        assert seen["lower"] == pytest.approx(seen["energy"] / seen["lam_max"] / 2)


def test_a_run_is_repeated_by_its_seed_whatever_the_global_one():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = train(TINY)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second = train(TINY)
    for name in first.columns:
        assert np.array_equal(first[name], second[name], equal_nan=True), name
    assert train(TINY.replace(seed=1))["risk"][0] != first["risk"][0]


def test_measuring_does_not_change_the_run_and_may_be_rarer(seed):
    every, rare = train(TINY.replace(epochs=4, seed=seed)), train(TINY.replace(epochs=4, seed=seed, probes=4))
    assert every["step"].tolist() == list(range(13)) and rare["step"].tolist() == [0, 3, 6, 9, 12]
    assert rare["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(rare["risk"], every["risk"][::3])
    assert every["learning_rate"][0] == 0.01 and every["learning_rate"][6] == pytest.approx(0.005) and every["learning_rate"][-1] == 0


def test_measured_samples_are_among_the_training_samples():
    trace = train(TINY.replace(limit=12, probe_samples=3, epochs=1))
    digits = load("digits", size=8, limit=12).draw(3)
    torch.manual_seed(0)
    model = build("model-a", 10, 1, 8, 1, 3)
    assert trace["risk"][0] == pytest.approx(nn.functional.cross_entropy(model(digits.inputs), digits.targets).item(), rel=1e-5)


def test_divergence_stops_the_run_and_keeps_what_came_before():
    with pytest.warns(UserWarning, match="Diverged after .* Lower the learning rate"):
        trace = train(TINY.replace(learning_rate=1e4, loss="squared"))
    assert "Diverged" in trace.stopped and 1 <= len(trace) < 10
    assert np.isfinite(trace["risk"]).all()


def test_a_run_can_be_watched_and_stopped():
    rows = []
    trace = train(TINY, on_probe=rows.append, should_stop=lambda: len(rows) == 4)
    assert len(trace) == 4 and trace.stopped == "Stopped on request after 3 of 9 steps."
    assert [row["risk"] for row in rows] == trace["risk"].tolist()


def test_progress_shows_a_bar(capsys):
    train(TINY.replace(epochs=1), progress=True)
    assert "3/3" in capsys.readouterr().err


def test_a_trace_survives_json():
    trace = train(TINY)
    odd = Trace(TINY, trace.columns | {"upper": np.array([np.inf, -np.inf, np.nan, 1e-30, 1e300, 1e15, 3, 0, 1 / 3, 7])},
                trace.provenance, "why")
    for original in (trace, odd):
        text = json.dumps(original.to_dict(), allow_nan=False)
        again = Trace.from_dict(json.loads(text))
        assert again.config == original.config and again.provenance == original.provenance and again.stopped == original.stopped
        for name in original.columns:
            assert np.array_equal(again[name], original[name], equal_nan=True), name
    rounded = Trace.from_dict(odd.to_dict(digits=3))
    assert rounded["upper"][8] == 0.333 and rounded["upper"][3] == 1e-30


def test_provenance_says_where_numbers_come_from():
    provenance = train(TINY.replace(epochs=1)).provenance
    assert torch.__version__.startswith(provenance["torch"]) and provenance["device"] == "cpu" and provenance["seconds"] > 0
    assert provenance["code"] == training.code_hash() and provenance["date"].endswith("Z")
    assert {"processor", "cpu", "precision", "threads", "python", "torchvision", "numpy"} <= provenance.keys() and provenance["processor"]
    assert json.dumps(provenance)


@given(st.integers(1, 300), st.integers(2, 100))
def test_thinning_keeps_the_ends_and_the_spacing(length, keep):
    trace = Trace(TINY, {"step": np.arange(length), "risk": np.arange(length) ** 2}, {}).thin(keep)
    step = trace["step"]
    assert step[0] == 0 and step[-1] == length - 1 and len(trace) == min(length, keep)
    assert np.array_equal(trace["risk"], step**2)
    gaps = np.diff(step)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_an_unknown_column_names_the_closest():
    with pytest.raises(ValueError, match="Did you mean 'lam_min'"):
        Trace(TINY, {"step": np.arange(2), "lam_min": np.ones(2)}, {})["lambda_min"]


def test_presets(monkeypatch):
    mini, full = TrainConfig.mini(), TrainConfig.full(dataset="mnist", epochs=1)
    assert (mini.limit, mini.epochs, mini.batch_size, mini.momentum, mini.weight_decay) == (16, 60, 2, 0.9, 5e-4)
    assert (full.limit, full.epochs, full.batch_size, full.dataset) == (None, 1, 32, "mnist")
    monkeypatch.delenv("CLT_PRESET", raising=False)
    assert TrainConfig.preset(seed=3) == TrainConfig.mini(seed=3)
    monkeypatch.setenv("CLT_PRESET", "full")
    assert TrainConfig.preset(seed=3) == TrainConfig.full(seed=3)
    monkeypatch.setenv("CLT_PRESET", " ")
    assert TrainConfig.preset(seed=3) == TrainConfig.mini(seed=3)
    monkeypatch.setenv("CLT_PRESET", "huge")
    with pytest.raises(ValueError, match="one of 'mini', 'full'"):
        TrainConfig.preset()


def test_the_device_is_found_in_one_place(monkeypatch):
    monkeypatch.setenv("CLT_DEVICE", "cpu")
    assert training.find_device() == torch.device("cpu")
    monkeypatch.setenv("CLT_DEVICE", "")
    assert training.find_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="'gpu'"):
        training.find_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no GPU"):
        training.find_device("cuda")
    with pytest.raises(ValueError, match="computes nothing"):
        training.find_device("meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training.find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="sees 2 of them.*up to cuda:1"):
        training.find_device("cuda:2")
    monkeypatch.setenv("CLT_DEVICE", " gpu ")
    with pytest.raises(ValueError, match="'gpu' in the variable CLT_DEVICE"):
        training.find_device()


@pytest.mark.parametrize(("changes", "message"), [
    (dict(dataset="cifar"), "Did you mean 'cifar10'"),
    (dict(model="resnet"), "Did you mean 'resnet18'"),
    (dict(loss="crossentropy"), "Did you mean 'cross-entropy'"),
    (dict(schedule="step"), "one of 'cosine', 'constant'"),
    (dict(epochs=0), "epochs=0"),
    (dict(batch_size=None), "batch_size=None"),
    (dict(batch_size=2.5), "batch_size=2.5"),
    (dict(probes=0), "probes=0"),
    (dict(seed=None), "seed=None"),
    (dict(learning_rate=0), "learning_rate=0"),
    (dict(learning_rate=float("nan")), "learning_rate=nan"),
    (dict(momentum=1), "momentum=1"),
    (dict(weight_decay=-1), "weight_decay=-1"),
    (dict(probe_samples=17), "probe_samples=17 with limit=16"),
    (dict(bath_size=2), "Did you mean 'batch_size'"),
    (dict(learning_rat=0.1), "Did you mean 'learning_rate'"),
    (dict(skip="yes"), "skip='yes'"),
    (dict(norm="batch"), "norm='batch'"),
    (dict(gain=float("nan")), "gain=nan"),
    (dict(sparsity=2), "sparsity=2"),
    (dict(epochs=True), "epochs=True"),
    (dict(seed=np.int64(3)), "plain value"),
])
def test_bad_recipes(changes, message):
    for make in (TrainConfig, TrainConfig.mini, TrainConfig().replace):
        with pytest.raises((TypeError, ValueError), match=f"^Given: .*{message}"):
            make(**changes)


def test_errors_of_data_and_model_come_through():
    with pytest.raises(ValueError, match="from 1 to the 1442"):
        train(TINY.replace(limit=5000))
    with pytest.raises(ValueError, match="shape of lenet is fixed"):
        train(TINY.replace(model="lenet", size=28))


# --- ending after steps, a first step measured against its limit, samples held out ---

def test_a_run_ends_after_its_steps_whatever_the_epochs():
    trace = train(TrainConfig.mini(device="cpu", steps=13, probes=3))
    assert trace["step"].tolist() == [0, 4, 9, 13] and trace["epoch"][-1] == 13 / 8
    same = train(TrainConfig.mini(device="cpu", epochs=2, probes=3))
    assert np.array_equal(train(TrainConfig.mini(device="cpu", steps=16, probes=3))["risk"], same["risk"])


@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
def test_a_first_step_of_so_much_of_the_limit(loss):
    config = TrainConfig.mini(device="cpu", loss=loss, steps=2, of_limit=0.5, learning_rate=123.0)
    trace = train(config)
    limit = 2 * (1 + config.momentum) * config.batch_size / trace["lam_max"][0]  # of all 16 samples, which are measured
    assert trace["learning_rate"][0] == pytest.approx(0.5 * limit)
    by_hand = train(config.replace(of_limit=None, learning_rate=float(trace["learning_rate"][0])))
    assert trace["risk"] == pytest.approx(by_hand["risk"], rel=1e-5)


def test_samples_held_out_are_not_trained_on_and_the_measured_ones_are():
    config = TrainConfig.mini(device="cpu", limit=30, held_out=12, probe_samples=10, steps=40, probes=2)
    kept: dict[str, list] = {}

    def look(model):
        model.register_forward_hook(lambda module, inputs, output: kept.setdefault(str(len(inputs[0])), []).append(inputs[0].clone()))
    trace = train(config, prepare=look)
    trained, judged = torch.cat(kept["2"]), torch.stack(kept["12"])
    whole = {image.numpy().tobytes() for image in data.load("digits", limit=42, seed=0).inputs}
    on = {image.numpy().tobytes() for image in trained}
    train_part, test_part = ({image.numpy().tobytes() for image in judged[i]} for i in (0, 1))
    assert len(on) == 30 and len(test_part) == 12 and on | test_part == whole and not on & test_part and train_part <= on
    assert {image.numpy().tobytes() for image in kept["10"][0]} <= on, "the measured samples are among those trained on"
    assert set(HELD_OUT) <= set(trace.columns) and len(trace["test_risk"]) == len(trace)
    again = Trace.from_dict(trace.to_dict())
    assert np.array_equal(again["test_accuracy"], trace["test_accuracy"])


def test_risk_and_accuracy_of_what_is_held_out_are_those_of_the_model():
    config = TrainConfig.mini(device="cpu", dataset="digits", limit=700, held_out=600, steps=1, probes=1, probe_samples=4)
    models = []
    trace = train(config, prepare=models.append)
    order = torch.randperm(1300, generator=torch.Generator().manual_seed(0))[:600]
    samples = data.load("digits", limit=1300, seed=0)
    with torch.no_grad():
        outputs = models[0](samples.inputs[order])
    assert trace["test_risk"][-1] == pytest.approx(torch.nn.functional.cross_entropy(outputs, samples.targets[order]).item(), rel=1e-5)
    assert trace["test_accuracy"][-1] == (outputs.argmax(1) == samples.targets[order]).double().mean().item()


def test_more_held_out_than_there_is_is_refused():
    with pytest.raises(ValueError, match="held_out=1442.*fewer than the 1442 samples of digits"):
        train(TrainConfig.mini(device="cpu", limit=None, held_out=1442))
    with pytest.raises(ValueError, match="held_out"):
        TrainConfig.mini(held_out=0)
    with pytest.raises(ValueError, match="of_limit"):
        TrainConfig.mini(of_limit=0.0)
