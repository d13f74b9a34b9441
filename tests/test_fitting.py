"""Fitting small networks, against plain PyTorch and against what can be solved."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from clt_utils.duality import GINI, SHANNON, fenchel_young_loss
from clt_utils.fitting import fit, population_risk, risk_of

INPUTS, LABELS = torch.linspace(-1, 1, 60).reshape(20, 3).cos(), torch.arange(20) % 2


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_fit_is_adam_on_all_samples(schedule, decay):
    """Adam's update by its definition, the decay and the cosine by theirs, in float64."""
    net, rate, steps = linear().double(), 0.05, 7
    theta = torch.cat([p.detach().flatten() for p in net.parameters()])
    first, second, risks = 0, 0, []
    for k in range(1, steps + 1):
        theta.requires_grad_()
        risk = cross_entropy(INPUTS.double() @ theta[:6].view(2, 3).T + theta[6:], LABELS)
        g, = torch.autograd.grad(risk, theta)
        step = rate * (1 + np.cos(np.pi * (k - 1) / steps)) / 2 if schedule == "cosine" else rate
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        theta = ((1 - step * decay) * theta - step * (first / (1 - 0.9**k)) / ((second / (1 - 0.999**k)).sqrt() + 1e-8)).detach()
        risks.append(risk.item())
    found = fit(net, INPUTS.double(), LABELS, steps, learning_rate=rate, weight_decay=decay, schedule=schedule)
    np.testing.assert_allclose(found, risks, rtol=1e-10)
    assert torch.allclose(torch.cat([p.detach().flatten() for p in net.parameters()]), theta, rtol=1e-9)


def test_fit_finds_the_least_squares():
    inputs, targets = torch.randn(2, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net, targets = linear().double(), targets[:, :2]
    design = torch.cat([inputs, torch.ones(20, 1)], 1)
    best = mse_loss(design @ torch.linalg.lstsq(design, targets).solution, targets).item()
    risks = fit(net, inputs, targets, 500, loss=mse_loss, learning_rate=0.05, schedule="cosine")
    assert best * (1 - 1e-12) <= risks[-1] < best * (1 + 1e-6) and len(risks) == 500


def test_each_step_is_shown_before_it_is_taken():
    net, shown, weights = linear(), [], []

    def look(step, outputs):
        assert not outputs.requires_grad and torch.equal(outputs, net(INPUTS))
        shown.append(step)
        weights.append(net.weight.detach().clone())

    start = net.weight.detach().clone()
    risks = fit(net, INPUTS, LABELS, 3, on_step=look)
    assert shown == [0, 1, 2] and torch.equal(weights[0], start) and not torch.equal(weights[1], start)
    assert risks[0] == cross_entropy(linear()(INPUTS), LABELS).item()


def test_the_same_seed_gives_the_same_run_dropout_included():
    def run(seed):
        torch.manual_seed(seed)
        return fit(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)), INPUTS, LABELS, 5)

    assert np.array_equal(run(1), run(1)) and not np.array_equal(run(1), run(2))


@pytest.mark.parametrize("generator", [SHANNON, GINI], ids=lambda generator: generator.name)
def test_risk_of_is_the_mean_loss_over_samples_and_their_labels(generator):
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, 2, 1, 1], [0, 0, 0, 0, 0], [2, 1, 2, 1, 0], [1, 1, 2, 2, 2]])
    risk = risk_of(generator)
    one_by_one = [fenchel_young_loss(generator, y, f).item() for f, row in zip(outputs, labels) for y in row]
    assert risk(outputs, labels).item() == pytest.approx(np.mean(one_by_one))
    assert risk(outputs, labels[:, 0]).item() == pytest.approx(np.mean(one_by_one[::5]))
    means = nn.functional.one_hot(labels, 3).float().mean(1)
    assert risk(outputs, means).item() == pytest.approx(fenchel_young_loss(generator, means, outputs).mean().item())


def test_population_risk_is_the_sum_over_all_pairs():
    outputs, joint = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    terms = [joint[x, y] * (outputs[x].exp().sum().log() - outputs[x, y]) for x in range(2) for y in range(2)]
    assert population_risk(outputs, joint).item() == pytest.approx(sum(terms).item())
    with pytest.raises(ValueError, match="one shape"):
        population_risk(outputs, joint[:1])


@pytest.mark.parametrize(("changes", "message"), [
    (dict(net=lambda x: x), "net=.*an nn.Module"), (dict(net=linear().requires_grad_(False)), "without trainable parameters"),
    (dict(net=nn.Linear(3, 2, device="meta")), "on meta"), (dict(inputs=INPUTS.numpy()), "inputs=.*torch.as_tensor"),
    (dict(inputs=INPUTS[:, :2]), r"the network or the loss fails.*RuntimeError"), (dict(inputs=INPUTS[1:]), "19 inputs and 20 targets"),
    (dict(targets=LABELS + 5), "the network or the loss fails"), (dict(steps=0), "steps=0"), (dict(steps=2.5), r"steps=2\.5"),
    (dict(loss="mse"), "loss='mse'"), (dict(loss=lambda f, y: f), "one number, a tensor with a gradient"),
    (dict(loss=lambda f, y: f.mean().item()), "one number, a tensor with a gradient"), (dict(learning_rate=0), "learning_rate=0"),
    (dict(weight_decay=-1.0), "weight_decay"), (dict(schedule="cosin"), "mean 'cosine'"), (dict(on_step=3), "on_step=3"),
])
def test_what_it_cannot_fit_it_says(changes, message):
    call = dict(net=linear(), inputs=INPUTS, targets=LABELS, steps=2) | changes
    with pytest.raises((TypeError, ValueError), match=f"(?s)Given: .*{message}|Given: .*Expected.*{message}"):
        fit(**call)
