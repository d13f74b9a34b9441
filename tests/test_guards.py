"""Never silently wrong: models that once came out wrong, networks put together at random, and what must be refused.

The truth is plain autograd, one sample alone and one output at a time.
"""

import copy
import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from clt_utils.structure import (
    engine,
    gradient_correlation,
    gradient_energy,
    graph,
    matrix_free_eigenvalues,
    probe,
    rules,
    structure_matrix,
)


def truth(model, inputs):
    """(B, K, K): gradients of every output of every sample alone, a complex parameter counted as two real ones."""
    grams = []
    params = [p for p in model.parameters() if p.requires_grad]
    for x in inputs.detach().clone().split(1):
        outputs = model(x)[0]
        rows = [torch.autograd.grad(f, params, retain_graph=True, materialize_grads=True) for f in outputs]
        flat = torch.stack([torch.cat([real(g).flatten() for g in row]) for row in rows]).double()
        grams.append(flat @ flat.T)
    return torch.stack(grams)


def real(g):
    g = g.to_dense() if g.layout != torch.strided else g
    return torch.view_as_real(g) if g.is_complex() else g


def same(model, inputs, tol=1e-10, reference=None, **options):
    """The engine agrees with plain autograd on ``reference``, or on the model itself, and needs no help against its own rules."""
    expected = truth(reference or model, inputs)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The rules of the structure engine")
        found = structure_matrix(model, inputs, **options)
    assert (found - expected).abs().max() <= tol * expected.abs().max()


# Parts ---------------------------------------------------------------------------------------------------------------------------

T, C = 3, 4  # every part maps (B, T, C) to (B, T, C)


class Part(nn.Module):
    """A module from a function of itself and x, with what it needs."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


class Square(torch.autograd.Function):
    """Defined in Python: no walk of ours can call its node."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x / 2

    @staticmethod
    def backward(ctx, g):
        return ctx.saved_tensors[0] * g


def routed(part, x):
    """Each sample goes to one of three experts by its own numbers; some may get none."""
    choice, out = (x.sum((1, 2)) * 3).long() % 3, torch.zeros_like(x)
    for i, expert in enumerate(part.experts):
        rows = (choice == i).nonzero()[:, 0]
        out = out.index_add(0, rows, torch.tanh(expert(x[rows])))
    return out


def sorted_and_restored(part, x):
    order = x[:, 0, 0].argsort(descending=True)
    return torch.tanh(part.inner(x[order]))[order.argsort()]


def linear(run):
    return lambda: Part(run, inner=nn.Linear(C, C))


PARTS = {
    "linear": linear(lambda m, x: torch.tanh(m.inner(x))),
    "used twice": linear(lambda m, x: m.inner(torch.tanh(m.inner(x)))),
    "skip": linear(lambda m, x: x + F.gelu(m.inner(x))),
    "in place": linear(lambda m, x: m.inner(x).tanh_()),
    "layer norm": lambda: nn.LayerNorm(C),
    "group norm": lambda: Part(lambda m, x: m.norm(x.mT).mT, norm=nn.GroupNorm(2, C)),
    "batch norm, eval": lambda: Part(lambda m, x: m.norm(x.mT).mT, norm=nn.BatchNorm1d(C).eval()),
    "convolution": lambda: Part(lambda m, x: m.inner(x.mT).mT, inner=nn.Conv1d(C, C, 3, padding=1, groups=2)),
    "attention": lambda: Part(lambda m, x: m.attend(x, x, x)[0], attend=nn.MultiheadAttention(C, 2, batch_first=True)),
    "attention, tokens first": lambda: Part(lambda m, x: m.attend(*[x.transpose(0, 1)] * 3)[0].transpose(0, 1),
                                            attend=nn.MultiheadAttention(C, 2)),
    "recurrent": lambda: Part(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(C, C, batch_first=True)),
    "recurrent, tokens first": lambda: Part(lambda m, x: m.rnn(x.transpose(0, 1))[0].transpose(0, 1), rnn=nn.GRU(C, C)),
    "scalar": lambda: Part(lambda m, x: m.scale.exp() * x, scale=nn.Parameter(torch.tensor(0.3))),
    "positions": lambda: Part(lambda m, x: x + m.positions, positions=nn.Parameter(torch.randn(T, C))),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(C, C)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(C, C)).eval(),
    "Fourier": linear(lambda m, x: torch.fft.fft2(m.inner(x)).real / 4),
    "complex": lambda: Part(lambda m, x: (x.to(m.w.dtype) @ m.w).abs(), w=nn.Parameter(torch.randn(C, C, dtype=torch.complex128))),
    "checkpoint": linear(lambda m, x: checkpoint(lambda h: torch.tanh(m.inner(h)), x, use_reentrant=False)),
    "own function": linear(lambda m, x: Square.apply(m.inner(x))),
    "experts": lambda: Part(routed, experts=nn.ModuleList(nn.Linear(C, C) for _ in range(3))),
    "sorted and restored": linear(sorted_and_restored),
    "tokens by size": linear(lambda m, x: torch.tanh(m.inner(x)).gather(1, x.argsort(1))),
    "largest tokens": linear(lambda m, x: m.inner(x) + x.topk(1, 1).values),
    "sums over tokens": linear(lambda m, x: m.inner(x).cumsum(1)),
    "summed by einsum": linear(lambda m, x: torch.einsum("btc,bsc,bsd->btd", m.inner(x), x, x) / 4),
    "folded axes": linear(lambda m, x: m.inner(x.reshape(-1, C)).view(-1, C, T).transpose(1, 2)),
    "table": lambda: Part(lambda m, x: x + m.words((x[..., 0].abs() * 4).long() % 5), words=nn.Embedding(5, C, sparse=True)),
    "masked": linear(lambda m, x: m.inner(x).masked_fill(x > 1, 0.5)),
}

MIXING = {
    "recurrent over the batch": lambda: Part(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(C, C)),
    "attention over the batch": lambda: Part(lambda m, x: m.attend(x, x, x)[0], attend=nn.MultiheadAttention(C, 2)),
    "causal attention over the batch": lambda: Part(
        lambda m, x: F.scaled_dot_product_attention(*[m.inner(x).transpose(0, 1)] * 3, is_causal=True).transpose(0, 1),
        inner=nn.Linear(C, C)),
    "the batch's mean removed": lambda: Part(lambda m, x: x - x.mean(0)),
    "the batch's mean as a number": lambda: Part(lambda m, x: x - x.mean(0).detach()),
    "batch statistics": lambda: Part(lambda m, x: F.batch_norm(x.mT, None, None, training=True).mT),
    "the one before": lambda: Part(lambda m, x: x + 0.5 * x.roll(1, 0)),
    "only the last two": lambda: Part(lambda m, x: torch.cat([x[:-2], x[-2:] + x[-2:].mean(0)])),
    "sums over the batch": lambda: Part(lambda m, x: x.cumsum(0)),
    "sorted, not restored": linear(lambda m, x: m.inner(x[x[:, 0, 0].argsort()])),
    "the number of samples": lambda: Part(lambda m, x: x * len(x)),
}

RANDOM = {
    "dropout": lambda: Part(lambda m, x: F.dropout(x, 0.1)),
    "stochastic depth": lambda: Part(lambda m, x: x + m.drop(x), drop=StochasticDepth(0.05, "row")),
    "noise": lambda: Part(lambda m, x: x + 0.1 * torch.randn_like(x)),
}

ELSEWHERE = {
    "numpy": lambda: Part(lambda m, x: x * float(np.random.rand())),  # noqa: NPY002
    "Python": lambda: Part(lambda m, x: x * random.random()),
    "a generator of its own": lambda: Part(lambda m, x: x * torch.rand(1, generator=generator).to(x)),
}
generator = torch.Generator()


class Network(nn.Module):
    """Parts one after the other, in an order that can be changed, then a head."""

    def __init__(self, parts, K=3):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.path = range(len(self.parts))
        self.head = nn.Linear(C, K)

    def forward(self, x):
        for i in self.path:
            x = self.parts[i](x)
        return self.head(x.mean(1))


def network(names):
    return Network([{**PARTS, **MIXING, **RANDOM, **ELSEWHERE}[name]() for name in names]).double()


def batch(B):
    return torch.randn(B, T, C, dtype=torch.float64)


# The right number ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("B", [1, 5])
@pytest.mark.parametrize("name", PARTS)
def test_every_part(name, B, seed):
    torch.manual_seed(seed)
    same(network([name, "linear"]), batch(B))
    same(network(["linear", name]), batch(B), verify="all")


@given(names=st.lists(st.sampled_from(list(PARTS)), min_size=1, max_size=4), data=st.data(), seed=st.integers(0, 2**16))
def test_networks_put_together_at_random(names, data, seed):
    torch.manual_seed(seed)
    model = network(names)
    for _ in range(2):  # the same model once more, by another way, with other weights frozen: nothing of the first may be left
        same(model, batch(data.draw(st.integers(1, 5), "samples")), chunk=data.draw(st.sampled_from([None, 1, 2]), "chunk"))
        model.path = data.draw(st.lists(st.sampled_from(range(len(names))), min_size=1, max_size=4), "path")
        frozen = data.draw(st.integers(0, len(names) - 1), "frozen")
        model.parts[frozen].requires_grad_(data.draw(st.booleans(), "trainable"))


def alone(model, x):
    """The outputs of one sample, some others where the model refuses a single one."""
    try:
        return model(x)
    except ValueError:
        return torch.full((1, 3), 9.0, dtype=torch.float64)


@given(before=st.lists(st.sampled_from(list(PARTS)), max_size=2), kind=st.sampled_from(list(MIXING)),
       B=st.integers(3, 6), seed=st.integers(0, 2**16))
def test_samples_that_interact_are_refused_wherever_they_do(before, kind, B, seed):
    torch.manual_seed(seed)
    model, inputs = network([*before, kind]), batch(B)
    with torch.no_grad():
        assume((model(inputs) - torch.cat([alone(model, x) for x in inputs.split(1)])).abs().max() > 1e-6)  # it shows in this batch
    for measure in (structure_matrix, lambda *x: gradient_energy(*x, torch.zeros(B, dtype=torch.long)), matrix_free_eigenvalues):
        with pytest.raises(ValueError, match=r"(?s)^Given: .*Expected: samples that do not interact"):
            measure(model, inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", MIXING)
def test_samples_that_interact_are_refused_in_every_precision(kind, dtype, seed):
    torch.manual_seed(seed)
    labels = torch.zeros(4, dtype=torch.long)
    for measure in (structure_matrix, matrix_free_eigenvalues, lambda *x: gradient_energy(*x, labels), lambda *x: probe(*x, labels)):
        with pytest.raises(ValueError, match="Expected: samples that do not interact"):
            measure(network([kind, "linear"]).to(dtype), batch(4).to(dtype))


def test_only_other_company_shows_what_two_samples_do_to_each_other(seed):
    """No gradient passes between them, the batch is one block, and a sample alone, which is its own mean, stays as it is."""
    torch.manual_seed(seed)
    mixing = Part(lambda m, x: torch.cat([x[:-2], x[-2:].mean(0).expand_as(x[-2:])]))
    with pytest.raises(ValueError, match="Expected: samples that do not interact"):
        structure_matrix(nn.Sequential(mixing, network(["linear"])), batch(6), chunk=6)


@pytest.mark.parametrize("B", [1, 4])
@pytest.mark.parametrize("kind", [*RANDOM, *ELSEWHERE])
def test_what_is_random_is_refused_even_if_this_time_nothing_happened(kind, B, seed):
    torch.manual_seed(seed)
    labels = torch.zeros(B, dtype=torch.long)
    said = "random numbers.*Expected: outputs that are not random" if kind in RANDOM else "from one pass to the next"
    for measure in (structure_matrix, matrix_free_eigenvalues, lambda *x: gradient_energy(*x, labels), lambda *x: probe(*x, labels)):
        with pytest.raises(ValueError, match=said):
            measure(network(["linear", kind]), batch(B))


# Nothing is reused that is not the same ------------------------------------------------------------------------------------------

def test_a_flag_that_changes_which_weights_are_used(seed):
    torch.manual_seed(seed)
    net, inputs = Part(lambda m, x: (m.a if m.share else m.b)(torch.tanh(m.a(x))), a=nn.Linear(3, 3), b=nn.Linear(3, 3)).double(), \
        torch.randn(4, 3).double()
    for share in (False, True, False):
        net.share = share
        same(net, inputs, chunk=2)


def test_a_flag_that_changes_which_axis_holds_the_samples(seed):
    """Three samples of three tokens: the shapes say nothing."""
    torch.manual_seed(seed)
    net = Part(lambda m, x: m.head(m.inner(x.transpose(*m.axes)).tanh().transpose(*m.axes).mean(1)),
               inner=nn.Linear(3, 3), head=nn.Linear(3, 2)).double()
    for axes in ((1, 2), (0, 1), (1, 2)):
        net.axes = axes
        same(net, torch.randn(3, 3, 3).double(), chunk=3)


def test_another_head(seed):
    torch.manual_seed(seed)
    heads = nn.ModuleList(parametrizations.weight_norm(nn.Linear(3, 2)) for _ in range(2))
    net = Part(lambda m, x: m.heads[m.task](x), heads=heads).double()
    for task in (0, 1):
        net.task = task
        same(net, torch.randn(4, 3).double(), chunk=2)


def test_batch_statistics_after_a_measurement_without_them():
    net = Part(lambda m, x: m.b(F.batch_norm(m.a(x), m.mean, m.var, training=m.training)), a=nn.Linear(3, 4), b=nn.Linear(4, 2)).double()
    net.register_buffer("mean", torch.zeros(4).double())
    net.register_buffer("var", torch.ones(4).double())
    structure_matrix(net.eval(), torch.randn(4, 3).double())
    with pytest.raises(ValueError, match="interact"):
        structure_matrix(net.train(), torch.randn(4, 3).double())
    assert (net.mean == 0).all()


def test_batch_norm_as_a_gpu_names_what_it_saved():
    """cuDNN's node is torch's own but for the name of ε; no processor has one, so here it is a list of what it says there."""
    layer, x = nn.BatchNorm1d(3).double().eval(), torch.randn(4, 3, 5).double()
    layer.running_mean.copy_(torch.randn(3)), layer.running_var.copy_(torch.rand(3) + 0.1)
    node, g = layer(x).grad_fn, torch.randn(2, 4, 3, 5).double()[:, None]
    saved = {name: getattr(node, f"_saved_{name}") for name in ("training", "input", "weight", "running_mean", "running_var", "eps")}
    cudnn = SimpleNamespace(**{f"_saved_{'epsilon' if name == 'eps' else name}": value for name, value in saved.items()})
    site = SimpleNamespace(wants=("data", None, None), param=lambda index: False)
    assert torch.equal(rules.batch_norm(cudnn, g, site)[0], rules.batch_norm(node, g, site)[0])


class Kinked(nn.Module):
    """Where the first input is positive, a unit at a kink, whose side is one among others and another alone, as rounding may have it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()

    def forward(self, x):
        h = self.a(x)
        unit = torch.relu(h[:, :1] - h[:, :1].detach() + (1e-13 if len(x) > 1 else -1e-13))
        return self.b(h) + unit * (x[:, :1] > 0)


def test_a_unit_at_a_kink_is_no_disagreement_unless_all_samples_have_one():
    net, x = Kinked(), torch.randn(5, 3).double()
    x[:, 0] = -x[:, 0].abs()
    without = structure_matrix(net, x, chunk=5)
    for b in range(5):
        x[b, 0] *= -1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            A = structure_matrix(net, x, chunk=5, verify="all")
        assert not torch.allclose(A[b], structure_matrix(net, x[b:b + 1])[0])
        assert torch.allclose(A[torch.arange(5) != b], without[torch.arange(5) != b])
        x[b, 0] *= -1
    x[:, 0] = x[:, 0].abs()
    with pytest.warns(UserWarning, match="disagree"):
        structure_matrix(net, x, chunk=5)


def test_sorted_batches_in_every_order(seed):
    torch.manual_seed(seed)
    net, inputs = network(["sorted and restored"]), batch(5)
    for order in (inputs[:, 0, 0].argsort(descending=True), torch.arange(5), inputs[:, 0, 0].argsort()):
        same(net, inputs[order], chunk=5)


@pytest.mark.parametrize("keys", [[1, 2, 0], [0, 10, 1, 11, 2, 12, 3, 13, 4, 14]])
def test_what_is_in_order_wherever_one_looks_but_not_as_it_was_given(keys):
    """Each block is sorted already, as are some other choices of samples; the batch is not."""
    inputs = batch(len(keys))
    inputs[:, 0, 0] = torch.tensor(keys)
    with pytest.raises(ValueError, match="Expected: samples that do not interact"):
        structure_matrix(network(["sorted, not restored"]), inputs, chunk=2)


def test_plans_are_not_kept_for_ever():
    net = nn.Sequential(nn.Linear(3, 2))
    for B in range(1, 2 * engine.PLANS):
        structure_matrix(net, torch.randn(B, 3), chunk=B)
    assert len(engine._plans[net][0]) == engine.PLANS


# Precision ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_measured_in_float32(dtype, seed):
    torch.manual_seed(seed)
    net, inputs = network(["attention", "recurrent", "layer norm"]).to(dtype), batch(4).to(dtype)
    A = structure_matrix(net, inputs)
    assert A.dtype == torch.float32
    expected = truth(copy.deepcopy(net).double(), inputs.double())
    assert (A - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("measure", [structure_matrix, lambda m, x: gradient_energy(m, x, torch.arange(4) % 3),
                                     lambda m, x: torch.stack(matrix_free_eigenvalues(m, x)[:2]),
                                     lambda m, x: torch.tensor(gradient_correlation(m, x, torch.arange(4) % 3))])
def test_autocast_around_the_call_changes_nothing(measure, seed):
    torch.manual_seed(seed)
    net, inputs = network(["linear", "attention"]).float(), batch(4).float()
    expected = measure(net, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(measure(net, inputs), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["linear", "group norm", "layer norm", "attention", "convolution"])
def test_autocast_inside_the_model(name, seed):
    torch.manual_seed(seed)
    plain, inputs = network([name, "linear"]).float(), batch(4).float()
    net = Part(lambda m, x: torch.autocast("cpu", torch.bfloat16)(m.plain)(x).float(), plain=plain)
    expected = truth(copy.deepcopy(plain).double(), inputs.double())
    assert (structure_matrix(net, inputs) - expected).abs().max() <= 0.05 * expected.abs().max()
    plain.parts.append(MIXING["the number of samples"]())  # the rounding of bfloat16 hides what changes outputs by a few percent
    plain.path = range(3)
    with pytest.raises(ValueError, match="interact"):
        structure_matrix(net, inputs)


# What a pass touches is put back -------------------------------------------------------------------------------------------------

def hooked():
    net = network(["linear", "spectral norm", "batch norm, eval", "linear"])
    net.parts[1].train()  # its vectors take a step in every pass
    net.parts[0].register_full_backward_hook(lambda *_: calls.append("module"))
    net.parts[3].register_full_backward_hook(lambda module, given, _: tuple(None if g is None else 2 * g for g in given))
    net.head.weight.register_hook(lambda g: calls.append("parameter") or 0 * g)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    return net


calls = []


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("measure", [structure_matrix, matrix_free_eigenvalues, lambda m, x: gradient_energy(m, x, torch.arange(4) % 3),
                                     lambda m, x: gradient_correlation(m, x, torch.arange(4) % 3),
                                     lambda m, x: probe(m, x, torch.arange(4) % 3)])
def test_the_model_is_left_as_it_was(measure, fails, seed):
    torch.manual_seed(seed)
    net, inputs = hooked(), batch(4)
    if fails:
        net.parts.append(MIXING["the one before"]())
        net.path = range(5)
    before, given = copy.deepcopy(net.state_dict()), inputs.clone()
    modes, hooks = [m.training for m in net.modules()], [len(m._backward_hooks) for m in net.modules()]
    state = torch.get_rng_state()
    calls.clear()
    if fails:
        with pytest.raises(ValueError, match="interact"):
            measure(net, inputs)
    else:
        measure(net, inputs)
    assert not calls
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(inputs, given) and all((p.grad == 1).all() for p in net.parameters())
    assert modes == [m.training for m in net.modules()] and hooks == [len(m._backward_hooks) for m in net.modules()]
    assert torch.equal(state, torch.get_rng_state())


def test_hooks_on_gradients_have_no_say(seed):
    torch.manual_seed(seed)
    net, inputs = hooked(), batch(4)
    net.parts[1].eval()
    plain = copy.deepcopy(net)
    for module in plain.modules():
        module._backward_hooks.clear()
    plain.head.weight = nn.Parameter(plain.head.weight.detach().clone())
    same(net, inputs, reference=plain)


def test_the_state_of_a_random_model_is_put_back():
    net, inputs, before = network(["noise"]), batch(2), torch.get_rng_state()
    with pytest.raises(ValueError, match="random"):
        structure_matrix(net, inputs)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("run, plain", [(torch.relu_, torch.relu), (lambda x: x.sub_(0.5), lambda x: x - 0.5)])
def test_a_first_step_in_place(run, plain, seed):
    torch.manual_seed(seed)
    inner, inputs = nn.Linear(3, 2).double(), torch.randn(4, 3).double()
    before = inputs.clone()
    same(Part(lambda m, x: m.inner(run(x)), inner=inner), inputs, reference=Part(lambda m, x: m.inner(plain(x)), inner=inner))
    assert torch.equal(inputs, before)


def test_inputs_that_carry_a_graph(seed):
    torch.manual_seed(seed)
    net = Part(lambda m, z: m.head(torch.tanh(z).mean(1)), words=nn.Embedding(7, 3), head=nn.Linear(3, 2)).double()
    z = net.words(torch.randint(0, 7, (5, 4)))
    same(net, z)


@pytest.mark.parametrize("where", ["all", "a part"])
def test_compiled_models(where, seed):
    torch.manual_seed(seed)
    plain, inputs = network(["linear", "linear"]), batch(4)
    net = copy.deepcopy(plain)
    if where == "all":
        net = torch.compile(net, backend="aot_eager")
    else:
        net.parts[0] = torch.compile(net.parts[0], backend="aot_eager")
    net(inputs)
    same(net, inputs, reference=plain)
    if hasattr(torch.compiler, "set_stance"):  # torch 2.6; before, the general path has to do
        assert not any(plan.general for plan in engine._plans[net][0].values())


@pytest.mark.parametrize("make", [nn.Embedding, nn.EmbeddingBag])
def test_gradients_that_leave_out_zeros(make, seed):
    torch.manual_seed(seed)
    net = Part(lambda m, i: m.head(m.words(i).reshape(len(i), -1, 3).mean(1)), words=make(7, 3, sparse=True), head=nn.Linear(3, 2)).double()
    dense = copy.deepcopy(net)
    dense.words.sparse = False
    i, y = torch.randint(0, 7, (5, 4)), torch.tensor([0, 1, 0, 1, 1])
    same(net, i)
    assert gradient_correlation(net, i, y) == pytest.approx(gradient_correlation(dense, i, y))


def test_nothing_is_verified_only_if_that_is_asked_for(monkeypatch):
    """Neither in the first block nor in later ones, whose plan may be new."""
    compared = []
    monkeypatch.setattr(engine, "agrees", lambda *given: compared.append(len(given[4])) or True)
    for verify, samples in (("none", 0), ("all", 5), ("one", 2)):  # the last block has one sample and so another plan
        structure_matrix(network(["linear"]), batch(5), chunk=2, verify=verify)
        assert len(compared) == samples, verify
        compared.clear()


def test_a_disagreement_is_told_and_mended(monkeypatch, seed):
    """The guard sees a rule that is wrong, and the number that comes back is right."""
    from clt_utils.structure import rules
    torch.manual_seed(seed)
    monkeypatch.setitem(rules.RULES, "TanhBackward0", lambda *given: [1.1 * rules.elementwise(*given)[0]])
    net, inputs = network(["linear"]), batch(4)
    with pytest.warns(UserWarning, match="disagree"):
        A = structure_matrix(net, inputs)
    expected = truth(net, inputs)
    assert (A - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_memory_decides_how_large_blocks_are_on_a_gpu(monkeypatch):
    assert engine.room(torch.device("cpu")) == engine.BLOCK
    for free, numbers in ((80 * 2**30, 100 * engine.BLOCK), (4 * 2**30, 4 * 2**30 // 64), (2**20, engine.BLOCK)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 * 2**30))
        assert engine.room(torch.device("cuda")) == numbers


@pytest.mark.parametrize("dtype, rounding, mixed", [(torch.float64, 1e-6, 1e-3), (torch.float32, 1e-5, 1e-3), (torch.bfloat16, 1e-2, 0.3)])
def test_a_colour_is_found_despite_rounding_and_not_where_samples_mix(dtype, rounding, mixed):
    dye = graph.Dye(4, torch.zeros(1, dtype=dtype))
    u, twin = dye.fresh((3, 4, 5), outer=3)
    one = torch.zeros_like(twin)
    one[1, 2, 3] = twin.abs().max()
    assert dye.find((u, twin + rounding * one), hint=3)[0] == 3
    assert dye.find((u, twin + mixed * one), hint=3) == (None, True), "Expected: samples that mix by a thousandth are seen, in float32 too."


# The parts of the graph, by hand: what a whole model shows only where the guard would have to mend it

def test_forms_tell_settings_apart(monkeypatch):
    """Two passes that differ in an axis alone have two forms: a plan for one is not used for the other."""
    monkeypatch.setattr(graph, "_setting_names", {})
    w = nn.Parameter(torch.randn(3, 3))
    forms = {graph.recorded((w.exp().softmax(axis)).tanh().grad_fn, {id(w): "w"})[1] for axis in (0, 1)}
    assert len(forms) == 2
    again = graph.recorded((w.exp().softmax(0)).tanh().grad_fn, {id(w): "w"})[1]
    assert again in forms


@pytest.mark.parametrize("picks, told", [([1, 0], False), ([2, 0, 1], False), ([1], True)])
def test_what_picks_by_index_is_not_told_by_its_form(picks, told):
    w = nn.Parameter(torch.randn(3, 2))
    node = torch.gather(w, 0, torch.tensor(picks)[:, None]).grad_fn
    assert node.name() == "GatherBackward0" and graph.told_by_its_form(node) == told


@pytest.mark.parametrize("was, to", [(torch.complex128, torch.float64), (torch.complex64, torch.complex128), (torch.float32, torch.float64),
                                     (torch.float64, torch.complex128), (torch.float64, torch.bfloat16)])
def test_a_cotangent_takes_the_precision_and_shape_of_its_output(was, to):
    g = torch.randn(2, 4, 3, dtype=was)
    expected = (g.real if was.is_complex and not to.is_complex else g).to(to)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(graph.fitted(g, (4, 3), to), expected)
        assert torch.equal(graph.fitted(g, (4, 1), to), expected.sum(2, keepdim=True))
        assert torch.equal(graph.fitted(g, (3,), to), expected.sum(1))


def test_sums_over_what_was_broadcast_keep_the_samples_apart():
    """A cotangent of D = 2 over an axis of (3 before, 4 samples, 5 behind), and a parameter of shape (1, 6), (6,) or (1, 1)."""
    g = torch.randn(2, 60, 6, dtype=torch.float64)
    apart = g.reshape(2, 3, 4, 5, 6)
    for shape, axes in (((1, 6), (1, 3)), ((6,), (1, 3)), ((1, 1), (1, 3, 4))):
        expected = apart.sum(axes).reshape(2, 4, *shape)
        torch.testing.assert_close(graph.per_sample(g, 3, 4, shape), expected)
    for shape in ((60, 6), (5,), (60, 5), (2, 1, 6)):  # the samples on an axis of its own, and no broadcasts
        assert graph.per_sample(g, 3, 4, shape) is None
    assert graph.per_sample(g[:, 0], 1, 4, (2, 3)) is None


# The guards, by hand

def test_samples_that_interact_in_one_output_are_refused_whatever_the_scale(seed):
    torch.manual_seed(seed)
    inner, x = nn.Linear(3, 4), torch.randn(6, 3)
    for scale in (1e-6, 1.0, 1e6):
        apart = Part(lambda part, x, scale=scale: scale * inner(x), inner=inner)
        assert structure_matrix(apart, x).isfinite().all()
        mixing = Part(lambda part, x, scale=scale: scale * (inner(x) + torch.tensor([0, 0, 0, 0.01]) * x.mean(0)[:1]), inner=inner)
        with pytest.raises(ValueError, match="interact"):
            structure_matrix(mixing, x)


def test_complex_outputs_are_refused():
    with pytest.raises(ValueError, match="outputs torch.complex64.*real outputs"):
        structure_matrix(Part(lambda part, x: torch.fft.fft(part.inner(x)), inner=nn.Linear(3, 2)), torch.randn(2, 3))


def test_whole_numbers_stay_whole_in_another_precision(seed):
    torch.manual_seed(seed)
    model, words = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(6, 2)), torch.tensor([[0, 6], [3, 3]])
    same(copy.deepcopy(model).double(), words)
    torch.testing.assert_close(structure_matrix(model, words, dtype=torch.float64), structure_matrix(model.double(), words))


def test_an_error_in_our_own_words_is_handed_on():
    with pytest.raises(ValueError, match="^Given: this. Expected: that.$"), engine._fewer_samples():
        raise ValueError("Given: this. Expected: that.")
    with pytest.raises(ValueError, match="fails on fewer samples .KeyError"), engine._fewer_samples():
        raise KeyError("mask")
