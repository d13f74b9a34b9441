"""The package on every device: what lies there stays there, and the numbers are those of the CPU.

``device`` is the CPU, and a GPU where torch sees one (``-k cuda``). What a GPU asks of the code and a CPU can show is here too.
"""

import copy
import os
import subprocess
import sys

import numpy as np
import pretended
import pytest
import torch
from torch import nn

from clt_utils import bounds, entropy, sgd, sweeps
from clt_utils.diagnose import Watch, diagnose
from clt_utils.duality import (
    BINARY,
    GINI,
    HUBER,
    POISSON,
    SHANNON,
    SQUARED,
    bregman_divergence,
    fenchel_young_loss,
    power,
    tsallis,
)
from clt_utils.fitting import fit
from clt_utils.models import NAMES, build
from clt_utils.provenance import device_name
from clt_utils.structure import (
    engine,
    extreme_eigenvalues,
    gradient_correlation,
    gradient_energy,
    matrix_free_eigenvalues,
    probe,
    structure_matrix,
)
from clt_utils.sweeps import Sweep
from clt_utils.training import TrainConfig, measure, train

TINY = TrainConfig.mini(limit=5, size=8, epochs=2, probes=2, model="model-a", depth=1, width=2)


def close(found, expected, tolerance=1e-9):
    """The same numbers up to a share of the largest, wherever they lie."""
    found, expected = (torch.as_tensor(x).detach().cpu().double() for x in (found, expected))
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


# ---- structure

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.inner(x)[0][:, -1])


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attend, self.head = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        h = self.norm(x)
        return self.head((x + self.attend(h, h, h, need_weights=False)[0]).mean(1))


class Twice(nn.Module):
    """One weight at two places, noise or not, and samples that meet or not."""

    def __init__(self, noise=0.0, meeting=False):
        super().__init__()
        self.inner, self.head, self.noise, self.meeting = nn.Linear(4, 4), nn.Linear(4, 2), noise, meeting

    def forward(self, x):
        h = torch.tanh(self.inner(torch.tanh(self.inner(x))))
        h = h - h.mean(0) if self.meeting else h
        return self.head(nn.functional.dropout(h, self.noise, training=self.noise > 0))


KINDS = {
    "lenet": (lambda: build("lenet", 3, 1, 12), (1, 12, 12)),
    "model-b": (lambda: build("model-b", 3, 1, 8, depth=2, width=4), (1, 8, 8)),
    "model-b, pruned": (lambda: build("model-b", 3, 1, 8, depth=1, width=4, sparsity=0.5), (1, 8, 8)),
    "resnet18": (lambda: build("resnet18", 2, 1, 8), (1, 8, 8)),
    "vit": (lambda: build("vit", 3, 1, 8, depth=1, width=64), (1, 8, 8)),
    "attention": (Attentive, (4, 8)),
    "LSTM in eval mode": (lambda: Recurrent().eval(), (5, 3)),
    "LSTM in training mode": (Recurrent, (5, 3)),
    "batch norm in eval mode": (lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(),
                                                      nn.Linear(48, 2)).eval(), (1, 6, 6)),
    "groups, strides, transposed": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, groups=2), nn.ConvTranspose2d(4, 2, 2),
                                                          nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)), (2, 8, 8)),
    "pooling first": (lambda: nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
                                            nn.Linear(27, 3)), (1, 9, 9)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.GELU(), nn.Flatten(), nn.Linear(54, 2)), (1, 4, 4, 4)),
    "a weight used twice": (Twice, (4,)),
}


def made(kind, device, dtype=torch.float64, samples=3):
    """A model of this kind and its inputs, equal on all devices."""
    torch.manual_seed(0)
    make, shape = KINDS[kind]
    model = make().to(dtype)
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)  # the head of a fresh vit is zero
    return model.to(device), torch.randn(samples, *shape, dtype=dtype).to(device)


def truth(model, inputs):
    """J_x J_xᵀ, a backward pass for each output of each sample."""
    params, grams = [p for p in model.parameters() if p.requires_grad], []
    with torch.backends.cudnn.flags(enabled=False):  # it has no backward pass of an LSTM in eval mode
        for x in inputs.split(1):
            rows = [torch.cat([g.flatten() for g in torch.autograd.grad(f, params, retain_graph=True)]) for f in model(x)[0]]
            grams.append(torch.stack(rows) @ torch.stack(rows).T)
    return torch.stack(grams)


@pytest.mark.parametrize("kind", KINDS)
def test_structure_matrices_are_those_of_plain_autograd(device, kind):
    if "LSTM" in kind and device.type == "pretended":
        pytest.skip("torch has a kernel for LSTM cells on GPUs alone")
    model, inputs = made(kind, device)
    A = structure_matrix(model, inputs)
    assert A.device == inputs.device
    close(A, truth(model, inputs), 1e-10)
    close(A, structure_matrix(*made(kind, "cpu")), 1e-10)


def test_recurrent_layers_are_not_left_to_cudnn(monkeypatch):
    """It refuses their backward pass in evaluation mode, which a CPU cannot show; what each pass finds set is written down."""
    found, forward = [], Recurrent.forward
    monkeypatch.setattr(Recurrent, "forward", lambda net, x: found.append(torch.backends.cudnn.enabled) or forward(net, x))
    before = torch.backends.cudnn.enabled
    structure_matrix(*made("LSTM in eval mode", "cpu"))
    assert found and not any(found) and torch.backends.cudnn.enabled == before


@pytest.mark.parametrize("name", ["lenet", "vit"])
def test_single_precision_is_not_lowered(device, name):
    """A GPU may multiply float32 numbers with eleven bits; not in here, whatever is set outside."""
    model, inputs = made(name, device, torch.float32)
    exact = structure_matrix(model, inputs, dtype=torch.float64)
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        torch.backends.cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("high")
        close(structure_matrix(model, inputs), exact, 1e-5)
        with torch.autocast("cuda" if device.type == "cuda" else "cpu", torch.bfloat16):
            close(structure_matrix(model, inputs), exact, 1e-5)
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


@pytest.mark.parametrize("generator", [SHANNON, SQUARED], ids=lambda g: g.name)
def test_everything_about_a_sample(device, generator):
    (model, inputs), labels = made("lenet", device), torch.tensor([0, 2, 1])
    plain, given = made("lenet", "cpu")
    seen, expected = probe(model, inputs, labels.to(device), generator), probe(plain, given, labels, generator)
    for name, value in vars(seen).items():
        assert value.device == inputs.device
        close(value, getattr(expected, name))
    close(gradient_energy(model, inputs, labels.to(device), generator), expected.energy)
    close(gradient_correlation(model, inputs, labels.to(device), generator), gradient_correlation(plain, given, labels, generator))
    whole = extreme_eigenvalues(structure_matrix(model, inputs))
    low, high, error = matrix_free_eigenvalues(model, inputs)
    assert {x.device for x in (*whole, low, high, error)} == {inputs.device}
    assert ((low - whole[0]).abs() <= error + 1e-9 * high).all() and ((high - whole[1]).abs() <= error + 1e-9 * high).all()


def random_state(device):
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def test_what_interacts_or_is_random_is_refused_and_all_is_left_as_it_was(device):
    inputs = torch.randn(5, 4).to(device)
    for model, words in ((Twice(meeting=True), "interact"), (Twice(noise=0.5), "random")):
        model, before = model.to(device), random_state(device)
        with pytest.raises(ValueError, match=words):
            structure_matrix(model, inputs)
        assert torch.equal(random_state(device), before)
    model, _ = made("batch norm in eval mode", device)
    state = copy.deepcopy(model.state_dict())
    structure_matrix(model, torch.randn(5, 1, 6, 6).double().to(device))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_wrong_rule_is_noticed(device, monkeypatch):
    from clt_utils.structure import rules
    monkeypatch.setitem(rules.RULES, "ReluBackward0", lambda *given: [2 * rules.elementwise(*given)[0]])
    model, inputs = made("model-b", device)
    with pytest.warns(UserWarning, match="disagree.*ReluBackward0"):
        found = structure_matrix(model, inputs)
    close(found, truth(model, inputs), 1e-10)


def test_out_of_memory_means_fewer_samples_at_a_time(device, monkeypatch):
    model, inputs = made("lenet", device, samples=8)
    expected, block = structure_matrix(model, inputs), engine._block

    def scarce(model, plans, x, *rest):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return block(model, plans, x, *rest)

    monkeypatch.setattr(engine, "_block", scarce)
    with pytest.warns(UserWarning, match="2 samples at a time"):
        close(structure_matrix(model, inputs, chunk=8), expected)


def test_blocks_fit_what_memory_there_is(device, monkeypatch):
    """However small the memory is said to be, blocks of one sample and up, the same matrices; a GPU with room takes all at once."""
    model, inputs = made("lenet", device, samples=9)
    expected, sizes, block = structure_matrix(model, inputs), [], engine._block
    monkeypatch.setattr(engine, "_block", lambda *given: sizes.append(len(given[2])) or block(*given))
    for numbers in (1, 10**4, 10**12):
        monkeypatch.setattr(engine, "room", lambda device, numbers=numbers: numbers)
        sizes.clear()
        structure_matrix(model, inputs)  # learns how many fit
        sizes.clear()
        close(structure_matrix(model, inputs), expected)
        assert sum(sizes) == 9 and (set(sizes) == {1} if numbers == 1 else len(sizes) == 1 if numbers == 10**12 else len(sizes) > 1)


def test_blocks_of_a_gpu_are_not_taken_along_to_the_cpu(device, monkeypatch):
    """A hundred times as many samples at a time may not fit there."""
    sizes, block = [], engine._block
    monkeypatch.setattr(engine, "_block", lambda *given: sizes.append(len(given[2])) or block(*given))
    monkeypatch.setattr(engine, "room", lambda device: 1 if device.type == "cpu" else 10**12)
    model, inputs = made("lenet", device, samples=9)
    for _ in range(2):
        structure_matrix(model, inputs)
    sizes.clear()
    structure_matrix(model.cpu(), inputs.cpu())
    assert max(sizes) <= 2


def test_a_device_without_float64_is_refused_in_words(device, monkeypatch):
    if device.type != "pretended":
        pytest.skip("this device has float64")
    monkeypatch.setattr(pretended, "FLOAT64", False)
    model, inputs = made("lenet", device, torch.float32)
    with pytest.raises(ValueError, match="inputs on pretended:0, which has no float64.*Expected:.*cpu"):
        structure_matrix(model, inputs)


def test_on_another_device():
    """The tests of this file once more, on a device that is pretended: it can be set up only in a process of its own, before all else."""
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch pretends no device")
    ended = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "pretended"],
                           capture_output=True, text=True, env=os.environ | {"CLT_PRETENDED": "1"})
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]


def test_a_cuda_model_and_inputs_apart_are_told_so():
    """Only where there are two devices that compute."""
    if not torch.cuda.is_available():
        pytest.skip("cuda: torch sees no GPU")
    model, inputs = made("lenet", "cuda")
    with pytest.raises(ValueError, match="device"):
        structure_matrix(model, inputs.cpu())


# ---- duality

ZOO = [SQUARED, SHANNON, BINARY, GINI, POISSON, HUBER, tsallis(1.001), tsallis(1.5), tsallis(2), tsallis(3), power(1.5), power(3)]


@pytest.mark.parametrize("g", ZOO, ids=lambda g: g.name)
def test_generators(device, g):
    f, other = torch.randn(2, 50, 5)
    mu = g.predict(other)
    for fn in (lambda m, x: fenchel_young_loss(g, m, x), lambda m, x: g.predict(x), lambda m, x: bregman_divergence(g, m, m.flip(0))):
        found = fn(mu.to(device), f.to(device))
        assert found.device.type == device.type
        torch.testing.assert_close(found.cpu(), fn(mu, f), rtol=1e-5, atol=1e-5)


# ---- training, sweeps, fitting, models

@pytest.mark.parametrize("changes", [{}, dict(model="lenet", size=12, loss="squared", depth=None, width=None),
                                     {"sparsity": 0.5}], ids=lambda changes: changes.get("model", "-".join(changes) or "plain"))
def test_training_goes_as_on_the_cpu(device, changes):
    config, before = TINY.replace(device=str(device), **changes), random_state(device)
    trace, expected = train(config), train(config.replace(device="cpu"))
    assert trace.provenance["device"] == device_name(device) and not trace.stopped
    for name in expected.columns:
        np.testing.assert_allclose(trace[name], expected[name], rtol=2e-3, atol=1e-6, err_msg=name)
    assert torch.equal(random_state(device), before)


def test_a_run_seeds_no_generator_but_its_own(monkeypatch):
    """``torch.manual_seed`` would seed that of a GPU too, and nobody puts it back."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    train(TINY.replace(device="cpu"))
    assert not seeded, "a run has seeded the GPU's random numbers, which belong to the reader: seed torch.default_generator alone"


def test_measurements_are_in_full_precision(monkeypatch):
    """All of them, the mean gradient too: what each pass finds set is written down."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    found = []

    class Asking(nn.Linear):
        def forward(self, x):
            found.append(torch.backends.cudnn.allow_tf32)
            return super().forward(x)

    measure(Asking(4, 3), torch.randn(6, 4), torch.arange(6) % 3)
    assert found and not any(found), "a pass of a measurement that may round float32 factors to eleven bits on a GPU"
    assert torch.backends.cudnn.allow_tf32


def test_a_sweep(device, monkeypatch, tmp_path):
    monkeypatch.setenv("CLT_CACHE", str(tmp_path))
    monkeypatch.setattr(sweeps, "RESULTS", tmp_path / "results")
    sweep = Sweep("devices", TINY.replace(device=str(device)), depth=[1, 2], seed=range(2))
    assert len(sweep.run(workers=1, progress=False).computed) == 4
    sweep.record()
    again = Sweep("devices", sweep.base, depth=[1, 2], seed=range(2))
    assert len(again.run(workers=1, progress=False).cached) == 4
    assert {run.provenance["device"] for run in again.load().values()} == {device_name(device)}
    assert all(found.agrees for found in again.verify(count=1, seed=0))


@pytest.mark.parametrize("name", NAMES)
def test_models(device, name):
    torch.manual_seed(0)
    size = 8 if name == "resnet18" else 12
    options = {"depth": 1, "width": 64} if name == "vit" else {}
    model, inputs = build(name, 3, 1, size, **options).double(), torch.randn(2, 1, size, size).double()
    expected = model(inputs)
    close(model.to(device)(inputs.to(device)), expected, 1e-8)


def test_fitting(device):
    risks = []
    for where in (device, "cpu"):
        torch.manual_seed(0)
        net, x, y = nn.Linear(4, 3).double(), torch.randn(8, 4).double(), torch.arange(8) % 3
        risks.append(fit(net.to(where), x.to(where), y.to(where), steps=5))
    np.testing.assert_allclose(*risks, rtol=1e-9)


# ---- sgd, bounds, entropy

def test_sgd_with_all_that_it_measures(device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    inputs, labels, batches = torch.randn(6, 3).double(), torch.arange(6) % 3, sgd.draw_batches(6, 2, 3)
    runs, norms = [], []
    for where in (device, "cpu"):
        losses, theta = sgd.flat_losses(model.to(where), inputs.to(where), labels.to(where))
        runs.append(sgd.run(losses, theta, batches, step=0.3))
        norms.append(sgd.hessian_norm(lambda t, losses=losses: losses(t).mean(), theta))
    for name in ("theta", "losses", "gradient_norms", "smoothness", "batches", "interference"):
        assert getattr(runs[0], name).device.type == device.type, name
        close(getattr(runs[0], name), getattr(runs[1], name))
    assert runs[0].gradient_bound() == pytest.approx(runs[1].gradient_bound(), rel=1e-9)
    assert norms[0] == pytest.approx(norms[1], rel=1e-9)


BOUNDS = {
    "residual_bounds": (dict(energy=0.6, lam_min=0.5, lam_max=2.0), {}),
    "risk_bounds": (dict(energy=0.6, lam_min=0.5, lam_max=2.0, p_min=0.1), dict(generator=SHANNON)),
    "risk_bounds_sharp": (dict(energy=0.2, lam_min=0.5, lam_max=4.0, p_min=0.1), dict(num_classes=4)),
    "ce_bounds_from_residual": (dict(residual=0.3), dict(num_classes=4)),
    "batch_energy": (dict(energy=2.0, gradient_norm_sq=0.5), dict(n=10, batch_size=3)),
    "max_loss": (dict(output_range=3.0), dict(num_classes=4)),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_of_tensors_lie_where_the_tensors_do(device, name):
    """Also where a plain number meets a tensor, and with shapes that broadcast."""
    numbers, options = BOUNDS[name]
    expected = getattr(bounds, name)(**numbers, **options)
    for shared in numbers:  # this one is a tensor on the device, the others are numbers
        there = {shared: torch.full((2, 3), numbers[shared]).to(device)}
        found = getattr(bounds, name)(**numbers | there, **options)
        ones = {k: torch.tensor(v) for k, v in numbers.items()}  # tensors of one number, on the CPU
        again = getattr(bounds, name)(**ones | there, **options)
        assert all(side.device.type == device.type for side in (again if isinstance(again, tuple) else (again,)))
        for side, value in zip(found if isinstance(found, tuple) else (found,), np.atleast_1d(expected)):
            assert side.device.type == device.type
            close(side, torch.full(tuple(side.shape), float(value)), 1e-6)


def test_entropies_of_tensors_lie_where_the_tensors_do(device):
    q = torch.tensor([[0.3, 0.0], [0.2, 0.1], [0.0, 0.4]], dtype=torch.float64)
    features, there = torch.tensor([0, 1, 1]), q.to(device)
    for found, expected in [(entropy.entropy(there / there.sum(1, keepdim=True)), entropy.entropy(q / q.sum(1, keepdim=True))),
                            (entropy.conditional_entropy(there), entropy.conditional_entropy(q)),
                            (entropy.mutual_information(there, GINI), entropy.mutual_information(q, GINI)),
                            (entropy.information_loss(there, features.to(device)), entropy.information_loss(q, features)),
                            (entropy.information_loss(there, [0, 1, 1]), entropy.information_loss(q, features)),
                            (entropy.renyi_entropy(there, 0.5), entropy.renyi_entropy(q, 0.5)),
                            (entropy.total_variation(there, there.flip(0)), entropy.total_variation(q, q.flip(0)))]:
        assert found.device.type == device.type
        close(found, expected)


# ---- diagnose

def test_diagnosis_of_a_model_on_the_device(device):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    x, y = torch.randn(40, 4), torch.arange(40) % 3
    expected = diagnose(copy.deepcopy(net), [(x, y)], layers=["1"], progress=False)
    for loader in ([(x, y)], [(x.to(device), y.to(device))]):  # a loader gives what it likes
        report = diagnose(copy.deepcopy(net).to(device), loader, layers=["1"], progress=True)
        assert not report.problems and len(report.layers) == 1
        for name, value in expected.numbers.items():
            assert report.numbers[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    watch = Watch(net.to(device), x[:4].to(device), y[:4].to(device))
    watch(0)
    assert set(watch.rows[0]) > {"risk", "lam_min"} and np.isfinite(watch.trace()["upper"]).all()
