"""The structure engine against ``torch.func`` in float64, layer kind by layer kind and trap by trap."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jacrev
from torch.utils.checkpoint import checkpoint

from clt_utils.duality import SHANNON, SQUARED
from clt_utils.models import build
from clt_utils.structure import (
    engine,
    extreme_eigenvalues,
    gradient_correlation,
    gradient_energy,
    graph,
    lanczos,
    matrix_free_eigenvalues,
    probe,
    rules,
    structure_matrix,
)


def truth(model, inputs):
    """J_x J_xᵀ with every Jacobian materialized, one sample at a time."""
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grams = []
    for x in inputs:
        jacobian = jacrev(lambda p: functional_call(model, p, (x[None],))[0])(params)
        flat = torch.cat([j.detach().flatten(1) for j in jacobian.values()], 1)
        grams.append(flat @ flat.T)
    return torch.stack(grams)


def agree(model, inputs, tol=1e-10, **options):
    """The engine agrees with the truth, with no help from the slow path unless a rule is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = structure_matrix(model, inputs, **options)
    expected = truth(model, inputs)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tol * expected.abs().max()


class Net(nn.Module):
    """A module from a function of itself and x, with the parts it needs."""

    def __init__(self, run, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def sequential(*layers):
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


def attention(net, x):
    h = net.norm(x)
    x = x + net.attend(h, h, h, need_weights=False)[0]
    return net.head(x.mean(1))


def cross_attention(net, x):
    return net.head(net.attend(x[:, :2], x[:, 2:], x[:, 2:])[0].flatten(1))


def tokens_first(net, x):
    return net.head(torch.tanh(net.inner(x.transpose(0, 1))).mean(0))


def class_token(net, x):
    x = torch.cat([net.token.expand(len(x), -1, -1), x], 1) + net.position
    return net.head((x + net.scale * torch.tanh(net.inner(x)))[:, 0])


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


KINDS = {
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "linear over tokens": (lambda: sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 4)), (6, 5)),
    "many tokens": (lambda: sequential(nn.Linear(2, 3), nn.Tanh()), (40, 2)),
    "no bias": (lambda: nn.Sequential(nn.Linear(5, 4, bias=False), nn.SiLU(), nn.Linear(4, 3, bias=False)), (5,)),
    "conv1d": (lambda: sequential(nn.Conv1d(2, 4, 3, stride=2, padding=1, dilation=2), nn.ReLU()), (2, 17)),
    "conv2d": (lambda: sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3)), (2, 7, 7)),
    "conv2d stride": (lambda: sequential(nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), nn.ReLU(),
                                         nn.Conv2d(4, 4, 2, stride=2)), (2, 9, 8)),
    "conv2d groups": (lambda: sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 6, 1, groups=6)), (4, 6, 6)),
    "conv2d circular": (lambda: sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")), (2, 5, 5)),
    "conv2d same": (lambda: sequential(nn.Conv2d(2, 3, 4, padding="same")), (2, 5, 5)),
    "conv3d": (lambda: sequential(nn.Conv3d(1, 2, 2), nn.ReLU()), (1, 4, 4, 4)),
    "transposed conv": (lambda: sequential(nn.Conv2d(1, 2, 2), nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Tanh()), (1, 4, 4)),
    "pooling": (lambda: sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(3, 2, padding=1), nn.AvgPool2d(2)), (1, 9, 9)),
    "pooling first": (lambda: sequential(nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2)), (1, 9, 9)),
    "pooling of one map, twice": (lambda: Net(lambda net, x: net.head(torch.cat([F.max_pool2d(h, 2).flatten(1) for h in
                                                                                [torch.tanh(net.conv(x))] * 2], 1)),
                                              conv=nn.Conv2d(2, 3, 3, padding=1), head=nn.Linear(24, 3)), (2, 4, 4)),
    "layer norm": (lambda: sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.ReLU()), (4, 5)),
    "layer norm, two dims": (lambda: sequential(nn.Conv2d(1, 2, 3), nn.LayerNorm((4, 4))), (1, 6, 6)),
    "group norm": (lambda: sequential(nn.Conv2d(1, 6, 3), nn.GroupNorm(3, 6), nn.ReLU(), nn.Conv2d(6, 4, 1)), (1, 6, 6)),
    "plain norms": (lambda: sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4, affine=False), nn.Flatten(2),
                                       nn.LayerNorm(16, elementwise_affine=False)), (1, 6, 6)),
    "instance norm": (lambda: sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Tanh()), (1, 6, 6)),
    "rms norm": (lambda: sequential(nn.Linear(5, 6), nn.RMSNorm(6), nn.Tanh()), (4, 5)),
    "batch norm in eval mode": (lambda: sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2,
                                                   1)).eval(), (1, 6, 6)),
    "batch norm of vectors in eval mode": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(),
                                                                 nn.Linear(4, 3)).eval(), (5,)),
    "prelu": (lambda: sequential(nn.Linear(5, 6), nn.PReLU(6), nn.Linear(6, 4), nn.PReLU()), (5,)),
    "self-attention": (lambda: Net(attention, norm=nn.LayerNorm(8), attend=nn.MultiheadAttention(8, 2, batch_first=True),
                                   head=nn.Linear(8, 3)), (5, 8)),
    "cross-attention": (lambda: Net(cross_attention, attend=nn.MultiheadAttention(8, 2, kdim=8, vdim=8, batch_first=True),
                                    head=nn.Linear(16, 3)), (5, 8)),
    "attention with bias_k": (lambda: Net(attention, norm=nn.LayerNorm(8), head=nn.Linear(8, 3),
                                          attend=nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)), (5, 8)),
    "encoder layer": (lambda: sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval(), (5, 8)),
    "tokens before samples": (lambda: Net(tokens_first, inner=nn.Linear(5, 6), head=nn.Linear(6, 3)), (4, 5)),
    "class token, position, layer scale": (lambda: Net(class_token, token=parameter(1, 1, 6), position=parameter(1, 5, 6),
                                                       scale=parameter(6), inner=nn.Linear(6, 6), head=nn.Linear(6, 3)), (4, 6)),
    "bare matrix": (lambda: Net(lambda net, x: torch.tanh(x @ net.A) @ net.B.T, A=parameter(5, 4), B=parameter(3, 4)), (5,)),
    "functional": (lambda: Net(lambda net, x: F.linear(F.relu(F.conv2d(x, net.w, net.b), inplace=True).flatten(1), net.v),
                               w=parameter(3, 1, 3, 3), b=parameter(3), v=parameter(2, 48)), (1, 6, 6)),
    "called twice": (lambda: Net(lambda net, x: net.head(torch.tanh(net.inner(torch.tanh(net.inner(x))))),
                                 inner=nn.Linear(5, 5), head=nn.Linear(5, 3)), (5,)),
    "called twice, tokens": (lambda: Net(lambda net, x: net.head(net.inner(torch.tanh(net.norm(net.inner(x)))).mean(1)),
                                         inner=nn.Linear(5, 5), norm=nn.LayerNorm(5), head=nn.Linear(5, 3)), (4, 5)),
    "conv called twice": (lambda: Net(lambda net, x: net.head(net.conv(torch.relu(net.conv(x))).flatten(1)),
                                      conv=nn.Conv2d(2, 2, 3, padding=1), head=nn.Linear(32, 3)), (2, 4, 4)),
    "tied, one transposed": (lambda: Net(lambda net, x: torch.tanh(x @ net.w.T) @ net.w, w=parameter(4, 3)), (3,)),
    "masked weight": (lambda: Net(lambda net, x: net.head(torch.tanh(F.linear(x, net.w * (net.w > 0)))), w=parameter(4, 5),
                                  head=nn.Linear(4, 3)), (5,)),
    "weight norm": (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4,
        3)), (5,)),
    "in-place": (lambda: sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1), nn.SiLU(inplace=True)),
                                    (1, 5, 5)),
    "dropout in eval mode": (lambda: sequential(nn.Linear(5, 6), nn.Dropout(0.5), nn.ReLU()).eval(), (5,)),
    "repeated numbers": (lambda: Net(lambda net, x: net.head(torch.tanh(net.inner(x)[:, :, None].repeat(1, 1, 2)).flatten(1)),
                                     inner=nn.Linear(5, 4), head=nn.Linear(8, 3)), (5,)),
    "repeated rows": (lambda: Net(lambda net, x: net.head(torch.tanh(net.inner(x).repeat(1, 2))),
                                  inner=nn.Linear(5, 4), head=nn.Linear(8, 3)), (5,)),
    "repeated parameter": (lambda: Net(lambda net, x: net.head(torch.tanh(x * net.scale.repeat(1, 2))), scale=parameter(4),
                                       head=nn.Linear(8, 3)), (8,)),
    "sum with a factor": (lambda: Net(lambda net, x: torch.add(net.a(x), torch.tanh(net.b(x)), alpha=2), a=nn.Linear(5, 3),
                                      b=nn.Linear(5, 3)), (5,)),
    "one parameter": (lambda: Net(lambda net, x: net.w * x, w=parameter(1)), (4,)),
    "one output": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)), (5,)),
    "samples inside an axis": (lambda: Net(lambda net, x: net.head(torch.tanh(net.inner(x.reshape(-1, 5))).reshape(len(x), -1)),
                                           inner=nn.Linear(5, 4), head=nn.Linear(12, 3)), (3, 5)),
    "video frames": (lambda: Net(lambda net, x: net.head(torch.relu(net.conv(x.flatten(0, 1))).reshape(len(x), -1)),
                                 conv=nn.Conv2d(1, 2, 3), head=nn.Linear(54, 2)), (3, 1, 5, 5)),
}


BY_THE_SLOW_PATH = {"transposed conv", "instance norm", "prelu", "cross-attention", "masked weight", "weight norm", "repeated parameter"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [1, 4])
def test_every_kind_of_layer(kind, samples, seed):
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    try:
        make, shape = KINDS[kind]
        model, inputs = make(), torch.randn(samples, *shape)
        model(inputs)  # lazy layers take their shape
        agree(model, inputs)
        slow = any(plan.general for plan in engine._plans[model][0].values())
        assert slow == (kind in BY_THE_SLOW_PATH), "A rule that fails leaves its layer to the slow path, which is right all the same."
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "conv" in kind or kind == "video frames"])
def test_convolutions_in_single_precision(kind, seed):
    """They run on other code than those in double precision."""
    torch.manual_seed(seed)
    make, shape = KINDS[kind]
    model, inputs = make(), torch.randn(3, *shape)
    model(inputs)
    expected = truth(copy.deepcopy(model).double(), inputs.double())
    assert (structure_matrix(model, inputs, verify="none") - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "conv" in kind or kind == "video frames"])
def test_convolutions_by_the_way_of_a_gpu(kind, monkeypatch, seed):
    torch.manual_seed(seed)
    monkeypatch.setattr(rules, "many_groups_are_fast", lambda device: False)
    make, shape = KINDS[kind]
    model, inputs = make(), torch.randn(3, *shape)
    model(inputs)
    agree(model.double(), inputs.double())


@pytest.mark.parametrize("D, o, i, T", [(3, 2, 4, 5), (2, 30, 40, 3)])
@pytest.mark.parametrize("tokens_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_of_a_matrix_by_both_ways_to_contract_them(D, o, i, T, tokens_first, bias):
    """The first size is one for gradients, the second for kernels of tokens."""
    delta, tokens = torch.randn(D, 2, o, T).double(), torch.randn(2, i, T).double()
    use = rules.outer_products(delta.mT.contiguous().mT if tokens_first else delta, tokens, bias, (o, i))
    extended = torch.cat([tokens, torch.ones(2, bias, T)], 1)
    rows = torch.einsum("dbot,bit->bdoi", delta, extended).flatten(2)
    assert rules.ghost_pays(D, o, i, T) == (o == 30)
    assert torch.allclose(use.gram(), rows @ rows.mT)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("norm, shape", [(lambda: nn.LayerNorm(6), (6,)), (lambda: nn.GroupNorm(2, 6), (6, 3))])
def test_norms_of_which_a_part_is_frozen(norm, shape, frozen, seed):
    torch.manual_seed(seed)
    norm = norm()
    getattr(norm, frozen).requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the rules serve: no word of a disagreement
        agree(nn.Sequential(norm, nn.Flatten()).double(), torch.randn(3, *shape, dtype=torch.float64))


def test_inputs_of_one_number_a_sample(seed):
    torch.manual_seed(seed)
    agree(nn.Sequential(nn.Embedding(7, 3), nn.Tanh(), nn.Linear(3, 2)).double(), torch.tensor([4, 0, 4]))


@pytest.mark.parametrize("samples", [1, 3])
def test_embeddings_tied_to_the_head(samples, seed):
    torch.manual_seed(seed)
    words = torch.randint(0, 7, (samples, 5))
    net = Net(lambda net, x: F.linear(torch.tanh(net.words(x).mean(1)), net.words.weight), words=nn.Embedding(7, 4)).double()
    agree(net, words)
    plain = Net(lambda net, x: net.head(net.words(x).flatten(1)), words=nn.Embedding(7, 4, padding_idx=0), head=nn.Linear(20, 3))
    agree(plain.double(), words)


@pytest.mark.parametrize("name, options", [("lenet", {}), ("model-a", {}), ("model-b", {"depth": 2}), ("vit", {"depth": 2,
        "width": 64})])
def test_the_networks_of_the_book(name, options, seed):
    torch.manual_seed(seed)
    model = build(name, 4, 1, 16, **options).double()
    inputs = torch.randn(5, 1, 16, 16, dtype=torch.float64)
    agree(model, inputs)  # as initialized: the head of vit is zero
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    agree(model, inputs, chunk=2)


def test_resnet(seed):
    torch.manual_seed(seed)
    agree(build("resnet18", 2, 1, 8).double(), torch.randn(2, 1, 8, 8, dtype=torch.float64))


@given(st.data())
def test_random_convolutional_networks(data):
    draw = lambda low, high: data.draw(st.integers(low, high))
    torch.manual_seed(draw(0, 10**6))
    channels, layers = draw(1, 3), []
    inputs = torch.randn(draw(1, 4), channels, 8, 8, dtype=torch.float64)
    for _ in range(draw(1, 3)):
        groups = draw(1, 2)
        width = groups * draw(1, 3)
        layers += [nn.Conv2d(channels, width, draw(1, 3), stride=draw(1, 2), padding=draw(1, 2), bias=draw(0, 1) == 1)]
        layers += data.draw(st.sampled_from([[nn.ReLU(inplace=True)], [nn.GroupNorm(1, width), nn.Tanh()], [nn.GELU()], []]))
        channels = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, draw(1, 4))).double()
    agree(model, inputs, chunk=data.draw(st.sampled_from([None, 1, 3])))


def test_frozen_parameters_do_not_count(seed):
    torch.manual_seed(seed)
    model = build("lenet", 3, 1, 12).double()
    inputs = torch.randn(3, 1, 12, 12, dtype=torch.float64)
    full = structure_matrix(model, inputs)
    model[0].weight.requires_grad_(False)
    model[7].bias.requires_grad_(False)
    agree(model, inputs)
    assert not torch.allclose(structure_matrix(model, inputs), full)


def test_checkpointing(seed):
    torch.manual_seed(seed)
    inner = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4))
    kept = Net(lambda net, x: net.head(checkpoint(net.inner, x, use_reentrant=False)), inner=inner, head=nn.Linear(4, 2)).double()
    plain = Net(lambda net, x: net.head(net.inner(x)), inner=inner, head=kept.head)
    inputs = torch.randn(3, 4, dtype=torch.float64)
    assert torch.allclose(structure_matrix(kept, inputs), truth(plain, inputs), rtol=1e-10)


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_reentrant_checkpointing_is_refused(needs_gradient):
    net = Net(lambda net, x: net.head(checkpoint(net.inner, net.first(x) if needs_gradient else x.requires_grad_(), use_reentrant=True)),
              first=nn.Linear(4, 4), inner=nn.Linear(4, 4), head=nn.Linear(4, 2))
    with pytest.raises(ValueError, match="reentrant checkpointing"):
        structure_matrix(net, torch.randn(3, 4))


def test_the_model_is_left_as_it_was():
    model = sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    model(torch.randn(2, 1, 5, 5)).sum().backward()
    model.eval()
    before, grads = copy.deepcopy(model.state_dict()), [p.grad.clone() for p in model.parameters()]
    inputs = torch.randn(3, 1, 5, 5)
    structure_matrix(model, inputs, dtype=torch.float64)
    probe(model, inputs, torch.zeros(3, dtype=torch.long))
    assert all(torch.equal(value, before[name]) and value.dtype == before[name].dtype for name,
        value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads))


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_inside_any_gradient_mode(context, seed):
    torch.manual_seed(seed)
    model, inputs = build("lenet", 3, 1, 12), torch.randn(3, 1, 12, 12)
    expected = structure_matrix(model, inputs)
    with context():
        assert torch.allclose(structure_matrix(model, inputs.clone()), expected, rtol=1e-4)


MIXING = {
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
    "functional batch norm": lambda: Net(lambda net, x: net.b(F.batch_norm(net.a(x), None, None, training=True)),
                                         a=nn.Linear(4, 4), b=nn.Linear(4, 2)),
    "attention across the batch": lambda: Net(lambda net, x: net.head(net.attend(x, x, x)[0]),
                                              attend=nn.MultiheadAttention(4, 1), head=nn.Linear(4, 2)),
    "the batch's mean removed": lambda: Net(lambda net, x: net.head(x - x.mean(0)), head=nn.Linear(4, 2)),
    "dropout": lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)),
    "functional dropout": lambda: Net(lambda net, x: net.b(F.dropout(net.a(x), 0.5)), a=nn.Linear(4, 40), b=nn.Linear(40, 2)),
}


@pytest.mark.parametrize("kind", MIXING)
def test_samples_that_interact_are_refused(kind, seed):
    torch.manual_seed(seed)
    with pytest.raises(ValueError, match="Expected: .*(interact|random)"):
        structure_matrix(MIXING[kind](), torch.randn(5, 4))


@pytest.mark.parametrize("model, inputs, words", [
    (nn.Linear(3, 2).requires_grad_(False), torch.randn(2, 3), "without trainable parameters"),
    (nn.ReLU(), torch.randn(2, 3), "without trainable parameters"),
    (nn.Linear(3, 2), torch.tensor([[0.0, float("nan"), 1.0]]), "1 of 3 entries NaN"),
    (nn.Linear(3, 2), torch.randn(0, 3), "at least one sample"),
    (nn.Linear(3, 2), [1.0, 2.0, 3.0], "a tensor"),
    (nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), torch.randn(2, 3), "one row a sample"),
    (Net(lambda net, x: net.a(x).detach(), a=nn.Linear(3, 2)), torch.randn(2, 3), "depend on no trainable parameter"),
])
def test_errors_say_what_is_wrong(model, inputs, words):
    with pytest.raises((TypeError, ValueError), match=words):
        structure_matrix(model, inputs)


@pytest.mark.parametrize("call, words", [
    (lambda: structure_matrix(nn.Linear(3, 2), torch.ones(1, 3), verify="some"), "way to verify 'some'.*'one', 'all', 'none'"),
    (lambda: structure_matrix(nn.Linear(3, 2), torch.ones(1, 3), dtype=torch.int32), "dtype=torch.int32.*floating-point"),
    (lambda: structure_matrix(nn.Linear(3, 2), torch.ones(2, 3).to_sparse()), "dense inputs"),
    (lambda: structure_matrix(nn.Linear(3, 2), torch.tensor(1.0)), "at least one sample"),
    (lambda: structure_matrix(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), torch.ones(4, 3)), r"batch normalization .*`1`"),
    (lambda: structure_matrix(nn.Sequential(nn.Linear(3, 2), nn.Dropout()), torch.ones(4, 3)), r"dropout .*`1`.*not random"),
    (lambda: gradient_energy(nn.Linear(3, 2), torch.ones(2, 3), torch.tensor([0])), "one target an input"),
    (lambda: gradient_energy(nn.Linear(3, 2), torch.ones(2, 3), torch.tensor(0)), "one target an input"),
    (lambda: gradient_energy(nn.Linear(3, 2), torch.tensor(1.0), torch.tensor(0)), "at least one sample"),
    (lambda: gradient_energy(Net(lambda net, x: net.a(x) / 0, a=nn.Linear(3, 2)), torch.ones(1, 3), torch.tensor([0])), "outputs"),
    (lambda: matrix_free_eigenvalues(nn.Linear(3, 2), torch.ones(1, 3), tolerance=1.0), "tolerance=1"),
    (lambda: matrix_free_eigenvalues(nn.Linear(3, 2), torch.ones(1, 3), tolerance=-0.1), "tolerance=-0.1"),
    (lambda: matrix_free_eigenvalues(Net(lambda net, x: net.a(x) / 0, a=nn.Linear(3, 2)), torch.ones(1, 3)), "outputs"),
    (lambda: extreme_eigenvalues(torch.ones(2, 1, 1), on_simplex=True), "K ≥ 2"),
    *((lambda bad=bad: lanczos(lambda v: bad(v), 2, tolerance=0), r"`matvec` that returns .*float64 of shape \(2,\)")
      for bad in (lambda v: v[:1], lambda v: v.float(), lambda v: 1.0, lambda v: v[None])),
    (lambda: lanczos(lambda v: v * torch.nan, 2, tolerance=0), "NaN or infinite"),
    (lambda: lanczos(lambda v: v, 0, tolerance=0), "size=0"),
    (lambda: lanczos(lambda v: v, 2, tolerance=0, max_steps=0), "max_steps=0"),
    (lambda: lanczos(lambda v: v, 2, tolerance=1.0), "tolerance=1"),
])
def test_bad_calls_are_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("K", [2, 3, 7])
def test_eigenvalues_on_the_simplex_are_those_of_differences(K, seed):
    J = torch.randn(4, K, 2 * K, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    A, off = J @ J.mT, torch.eye(K, dtype=torch.float64) - 1 / K
    low, high = extreme_eigenvalues(A, on_simplex=True)
    lam = torch.linalg.eigvalsh(off @ A @ off)  # and 0, along 1
    torch.testing.assert_close(low, lam[:, 1])
    torch.testing.assert_close(high, lam[:, -1])


def test_a_wrong_rule_is_noticed(monkeypatch):
    model, inputs = build("lenet", 3, 1, 12).double(), torch.randn(3, 1, 12, 12, dtype=torch.float64)
    wrong = dict(graph.RULES, ReluBackward0=lambda node, g, site: [2 * g])
    monkeypatch.setattr(graph, "RULES", wrong)
    with pytest.warns(UserWarning, match="disagree.*ReluBackward0"):
        found = structure_matrix(model, inputs)
    assert torch.allclose(found, truth(model, inputs), rtol=1e-10)


@pytest.mark.parametrize("generator", [SHANNON, SQUARED])
def test_probe_energy_and_correlation(generator, seed):
    torch.manual_seed(seed)
    model = build("model-b", 3, 1, 8).double()
    inputs, targets = torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    gradients = []
    for x, y in zip(inputs, targets):
        f = model(x[None])[0]
        loss = F.cross_entropy(f, y) if generator is SHANNON else 0.5 * (f - F.one_hot(y, 3)).square().sum()
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    gradients = torch.stack(gradients)
    seen, energy = probe(model, inputs, targets, generator), gradients.square().sum(1)
    assert torch.allclose(seen.energy, energy, rtol=1e-10)
    assert torch.allclose(gradient_energy(model, inputs, targets, generator), energy, rtol=1e-10)
    rho = gradients.mean(0).square().sum() / energy.mean()
    assert abs(gradient_correlation(model, inputs, targets, generator) - rho) < 1e-10
    lam = torch.linalg.eigvalsh(truth(model, inputs))
    if not generator.on_simplex:
        assert torch.allclose(seen.lam_min, lam[:, 0]) and torch.allclose(seen.lam_max, lam[:, -1])
    assert torch.equal(seen.lam_max, extreme_eigenvalues(structure_matrix(model, inputs), generator.on_simplex)[1])


def test_correlation_of_more_samples_than_are_taken_at_a_time():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    inputs, targets = torch.randn(150, 3, dtype=torch.float64), torch.randint(2, (150,))
    F.cross_entropy(model(inputs), targets).backward()
    whole = sum(p.grad.square().sum() for p in model.parameters()) / gradient_energy(model, inputs, targets).mean()
    assert gradient_correlation(model, inputs, targets) == pytest.approx(whole.item(), rel=1e-10)


@pytest.mark.parametrize("name", ["lenet", "model-b"])
def test_small_eigenvalues_survive_float32(name, seed):
    """λ_min at a condition number of about 1e4: a frozen head, so that no floor holds λ_min up, with singular values 1 to 1e-2."""
    torch.manual_seed(seed)
    model, inputs = build(name, 10, 1, 28), torch.randn(8, 1, 28, 28)
    head = model[-1].requires_grad_(False)
    u, _, vh = torch.linalg.svd(head.weight, full_matrices=False)
    head.weight.copy_(u * torch.logspace(0, -2, 10) @ vh)
    rough = extreme_eigenvalues(structure_matrix(model, inputs))
    exact = extreme_eigenvalues(structure_matrix(model, inputs, dtype=torch.float64))
    assert (exact[1] / exact[0]).median() > 3e3
    assert ((rough[0] - exact[0]) / exact[0]).abs().max() < 1e-3


@pytest.mark.parametrize("name, K", [("lenet", 10), ("lenet", 150), ("vit", 12)])
def test_matrix_free_eigenvalues_are_as_exact_as_they_say(name, K, seed):
    torch.manual_seed(seed)
    model = build(name, K, 1, 12, **({"depth": 1, "width": 64} if name == "vit" else {})).double()
    inputs = torch.randn(2, 1, 12, 12, dtype=torch.float64)
    low, high, error = matrix_free_eigenvalues(model, inputs)
    lam = torch.linalg.eigvalsh(structure_matrix(model, inputs))
    assert (error <= 1e-6 * high).all()
    assert ((low - lam[:, 0]).abs() <= error + 1e-9 * high).all()
    assert ((high - lam[:, -1]).abs() <= error + 1e-9 * high).all()


class Scaled(nn.Module):
    """Outputs θ_k √λ_k, so that A_x is the diagonal matrix of the λ_k."""

    def __init__(self, lam):
        super().__init__()
        self.theta, self.scale = nn.Parameter(torch.ones_like(lam)), lam.sqrt()

    def forward(self, x):
        return self.theta * self.scale * torch.ones_like(x[:, :1])


def test_matrix_free_eigenvalues_stay_exact_over_many_steps():
    """Over a hundred steps the vectors stay orthogonal only if each is made so twice."""
    low, high, error = matrix_free_eigenvalues(Scaled(torch.linspace(0.1, 1, 100, dtype=torch.float64)),
                                               torch.zeros(1, 1, dtype=torch.float64), tolerance=1e-12)
    assert abs(low.item() - 0.1) < 1e-10 and abs(high.item() - 1) < 1e-10 and error.item() <= 1e-12


def test_matrix_free_eigenvalues_of_a_thousand_outputs(seed):
    torch.manual_seed(seed)
    model, inputs = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 1000)).double(), torch.randn(1, 20,
        dtype=torch.float64)
    low, high, error = matrix_free_eigenvalues(model, inputs)
    floor = 1 + model[:2](inputs).square().sum()  # K exceeds the features: the head's floor is the smallest eigenvalue
    assert abs(low - floor) <= error + 1e-9 * high and error <= 1e-6 * high
    lam = torch.linalg.eigvalsh(structure_matrix(model, inputs))[0]
    assert abs(high - lam[-1]) <= error + 1e-9 * high


def test_lanczos_takes_no_more_products_than_asked_and_stops_at_a_share_of_the_largest():
    spectrum, asked = 1e-3 * torch.linspace(1, 2, 60, dtype=torch.float64), []

    def product(v):
        asked.append(v)
        return spectrum * v

    _, high, error = lanczos(product, 60, tolerance=1e-2)
    assert error <= 1e-2 * high and len(asked) < 60
    few = len(asked)
    asked.clear()
    spectrum[0] = 0.0
    lanczos(product, 60, tolerance=1e-2)
    assert len(asked) < 2 * few, "a share of the largest, not of the smallest"
    assert lanczos(lambda v: 3 * v, 1, tolerance=0) == pytest.approx((3, 3, 0))
    for steps in (1, 7):
        asked.clear()
        assert lanczos(product, 60, tolerance=0, max_steps=steps) == lanczos(product, 60, tolerance=0, max_steps=steps, seed=0)
        assert len(asked) == 2 * steps


class Rough(torch.autograd.Function):
    """The square, with a derivative that has no derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


def test_matrix_free_eigenvalues_form_the_matrix_only_where_they_must(monkeypatch, seed):
    torch.manual_seed(seed)
    smooth, x = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5)).double(), torch.randn(2, 3, dtype=torch.float64)
    rough = Net(lambda net, x: net.b(Rough.apply(net.a(x))), a=nn.Linear(3, 6), b=nn.Linear(6, 5)).double()
    tiny = Net(lambda net, x: 1e-5 * rough(x), rough=rough)
    for model in (smooth, rough, tiny):
        lam = torch.linalg.eigvalsh(structure_matrix(model, x))
        low, high, _ = matrix_free_eigenvalues(model, x, tolerance=1e-12)
        torch.testing.assert_close((low, high), (lam[:, 0], lam[:, -1]), rtol=1e-7, atol=0)
    monkeypatch.setattr("clt_utils.structure.LARGE", 4)
    matrix_free_eigenvalues(smooth, x)
    with pytest.raises(ValueError, match="no second derivative.*K ≤ 4"):
        matrix_free_eigenvalues(rough, x)


@pytest.mark.parametrize("generator", [SHANNON, SQUARED])
def test_residual_and_smallest_probability_of_a_probe(generator, seed):
    torch.manual_seed(seed)
    model, x = nn.Linear(3, 4).double(), torch.randn(5, 3, dtype=torch.float64)
    seen, said = probe(model, x, torch.arange(5) % 4, generator), generator.predict(model(x))
    torch.testing.assert_close(seen.p_min, said.amin(1))
    torch.testing.assert_close(seen.residual, (said - torch.eye(4)[torch.arange(5) % 4]).square().sum(1))


def test_an_error_that_is_not_about_memory_is_not_taken_for_one():
    def run(net, x):
        if len(x) > 1 and torch.is_grad_enabled():
            raise RuntimeError("boom")
        return net.a(x)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="boom"):
            structure_matrix(Net(run, a=nn.Linear(3, 2)), torch.ones(4, 3))
    assert not said, [str(warning.message) for warning in said]
