"""Networks: shapes, counted parameters, independent samples, and Model B against its formula."""

import pytest
import torch

from clt_utils.models import NAMES, build, dense
from clt_utils.structure import structure_matrix

SHAPES = [(1, 28), (3, 32), (1, 16)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "size"), SHAPES)
def test_images_in_one_output_a_class_out(name, channels, size, seed):
    torch.manual_seed(seed)
    model = build(name, 7, channels, size)
    outputs = model(torch.rand(2, channels, size, size))
    assert outputs.shape == (2, 7) and torch.isfinite(outputs).all()


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_interact_and_mode_does_not_matter(name, seed):
    torch.manual_seed(seed)
    model = build(name, 3, 1, 16).double()
    for p in model.parameters():  # ViT's head starts at zero, which would hide everything
        torch.nn.init.normal_(p, std=0.1)
    inputs = torch.rand(3, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    outputs = model(inputs)
    slope, = torch.autograd.grad(outputs[0].sum(), inputs, retain_graph=True)
    assert slope[0].abs().sum() > 0 and (slope[1:] == 0).all()
    alone = torch.cat([model(x[None]) for x in inputs])
    assert torch.allclose(outputs, alone, rtol=1e-9, atol=1e-12)
    assert torch.allclose(outputs, model.eval()(inputs), rtol=1e-9, atol=1e-12)


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_counted_by_hand():
    assert count(build("lenet", 10, 1, 28)) == 61_706  # LeNet-5 with dense connections
    n_d, n_w = 3, 8
    blocks = n_d * (9 * n_w * n_w + n_w)
    assert count(build("model-a", 10, 1, 28, n_d, n_w)) == 16 * n_w + n_w + blocks + 49 * n_w * 10 + 10
    assert count(build("model-b", 10, 1, 28, n_d, n_w)) == count(build("model-a", 10, 1, 28, n_d, n_w))
    # torchvision's ResNet-18 has 11,689,512; ours has one input channel, 3×3 in place of 7×7, and 10 classes
    assert count(build("resnet18", 10, 1, 28)) == 11_689_512 - 64 * (3 * 49 - 9) - 990 * 513
    width, tokens = 64, 16 + 1
    layer = 4 * width**2 + 4 * width + 8 * width**2 + 5 * width + 4 * width
    assert count(build("vit", 10, 1, 16, 2, width)) == 17 * width + (tokens + 1) * width + 2 * layer + 2 * width + 10 * (width + 1)


@pytest.mark.parametrize(("name", "size"), {"model-a": 5.503248, "model-b": 5.503248, "lenet": 8.919649, "resnet18": 111.776324,
                                            "vit": 92.125624}.items())
def test_a_seed_gives_the_network_of_the_records(name, size):
    """The Euclidean norm of all first weights, as recorded: a library that draws them otherwise makes every record another run's."""
    torch.manual_seed(0)
    weights = torch.cat([p.detach().flatten() for p in build(name, 10, 1, 16).parameters()])
    assert weights.double().norm().item() == pytest.approx(size, rel=1e-6)


def test_model_b_is_model_a_plus_identities(seed):
    torch.manual_seed(seed)
    model, same = build("model-b", 4, 1, 8, depth=3, width=5), build("model-a", 4, 1, 8, depth=3, width=5, skip=True)
    assert str(model) == str(same)
    weights = list(model.parameters())
    x = torch.randn(2, 1, 8, 8)
    conv, relu = torch.nn.functional.conv2d, torch.relu
    h = relu(conv(x, *weights[:2], stride=4))
    plain = h
    for i in range(1, 4):
        h = h + relu(conv(h, *weights[2 * i:2 * i + 2], padding=1))
        plain = relu(conv(plain, *weights[2 * i:2 * i + 2], padding=1))
    assert torch.allclose(model(x), h.flatten(1) @ weights[-2].T + weights[-1], atol=1e-6)
    model_a = build("model-a", 4, 1, 8, depth=3, width=5)
    with torch.no_grad():
        for mine, theirs in zip(model_a.parameters(), weights, strict=True):
            mine.copy_(theirs)
    assert torch.allclose(model_a(x), plain.flatten(1) @ weights[-2].T + weights[-1], atol=1e-6)


def test_gain_and_norm_change_what_they_say_and_nothing_else(seed):
    def make(**options):
        torch.manual_seed(seed)
        return build("model-a", 4, 1, 8, depth=2, width=5, **options)

    plain, scaled, normed = make(), make(gain=3), make(norm="layer")
    for (name, p), q in zip(plain.named_parameters(), scaled.parameters(), strict=True):
        assert torch.equal(q, 3 * p if name.endswith("weight") else p)
    assert count(normed) == count(plain) + 2 * 2 * 5
    x = torch.randn(2, 1, 8, 8)
    h = plain[:2](x)
    for block in plain[2:4]:
        z = block[0](h)
        h = torch.relu((z - z.mean((1, 2, 3), keepdim=True)) / (z.var((1, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt())
    assert torch.allclose(normed(x), plain[4:](h), atol=1e-5)


def test_pruned_weights_are_the_smallest_and_are_no_part_of_theta(seed):
    torch.manual_seed(seed)
    plain = build("model-b", 4, 1, 8, depth=2, width=5)
    torch.manual_seed(seed)
    pruned = build("model-b", 4, 1, 8, depth=2, width=5, sparsity=0.6)
    layers = [[m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))] for model in (plain, pruned)]
    for before, after in zip(*layers, strict=True):
        size = before.weight.abs()
        threshold = size.flatten().sort().values[round(0.6 * size.numel()) - 1]
        assert torch.equal(after.weight.detach(), before.weight * (size > threshold)) and torch.equal(after.bias, before.bias)
    inputs, targets = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    optimizer = torch.optim.SGD(pruned.parameters(), 0.1, 0.9, weight_decay=5e-4)
    gone = [layer.weight == 0 for layer in layers[1]]
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(pruned(inputs), targets).backward()
        optimizer.step()
    pruned(inputs)
    assert all((layer.weight[zero] == 0).all() and (layer.weight[~zero] != 0).all() for layer, zero in zip(layers[1], gone, strict=True))
    for mine, theirs in zip(*layers, strict=True):
        mine.weight.data.copy_(theirs.weight)
        mine.bias.data.copy_(theirs.bias)
    A, kept = (structure_matrix(model, inputs, dtype=torch.float64) for model in (plain, pruned))
    for x, A_x, kept_x in zip(inputs, A, kept, strict=True):  # the same function; of its slopes only those of kept weights count
        rows = []
        for k in range(4):
            slopes = torch.autograd.grad(plain(x[None])[0, k], [p for layer in layers[0] for p in (layer.weight, layer.bias)])
            of_kept = [slope.masked_fill(zero, 0).flatten() for slope, zero in zip(slopes[::2], gone, strict=True)]
            rows.append(torch.cat([*of_kept, *slopes[1::2]]))
        J = torch.stack(rows).double()
        assert torch.allclose(kept_x, J @ J.T, rtol=1e-4, atol=1e-5) and torch.trace(A_x) > torch.trace(kept_x)


def test_the_global_seed_fixes_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build("model-b", 10, 1, 28).parameters()])
    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(name="lenett"), "Did you mean 'lenet'"),
    (dict(name="transformer"), "one of 'model-a', 'model-b', 'lenet', 'resnet18', 'vit'"),
    (dict(name="lenet", depth=3), "shape of lenet is fixed"),
    (dict(name="resnet18", skip=True), "Only Models A and B have a skip"),
    (dict(name="model-b", skip=False), "is \"model-a\""),
    (dict(name="model-a", depth=0), "depth=0"),
    (dict(name="model-a", norm="batch"), "it couples the samples"),
    (dict(name="model-a", gain=0), "gain=0"),
    (dict(name="model-a", sparsity=1.0), "sparsity=1.0"),
    (dict(name="lenet", norm="layer"), "have a norm to choose"),
    (dict(name="vit", gain=2.0), "have a gain to choose"),
    (dict(name="resnet18", sparsity=0.5), "have a sparsity to choose"),
    (dict(name="model-a", image_size=3), "at least 4"),
    (dict(name="lenet", image_size=11), "at least 12"),
    (dict(name="vit", image_size=30), "multiple of 4"),
    (dict(name="vit", width=100), "multiple of 64"),
    (dict(name="lenet", num_classes=0), "num_classes=0"),
])
def test_bad_requests(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**dict(num_classes=10, in_channels=1, image_size=28) | arguments)


def test_dense_is_linear_layers_with_relu_between(seed):
    torch.manual_seed(seed)
    net, images = dense([12, 5, 4, 3]), torch.randn(6, 1, 3, 4)
    h = images.reshape(6, 12)
    for layer in (net[1], net[3]):
        h = (h @ layer.weight.T + layer.bias).clamp(min=0)
    assert torch.allclose(net(images), h @ net[5].weight.T + net[5].bias, atol=1e-6)
    dropped = dense([12, 5, 3], dropout=0.5)
    assert [type(m).__name__ for m in dropped] == ["Flatten", "Linear", "ReLU", "Dropout", "Linear"] and dropped[3].p == 0.5


@pytest.mark.parametrize(("widths", "message"), [([3], "at least two"), ([3, 0, 2], "width=0"), (7, "widths=7"), ("32", "widths='32'")])
def test_dense_says_what_it_cannot_be(widths, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dense(widths)
