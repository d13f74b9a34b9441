"""SGD on flat parameters against torch's own optimizer, full Hessians, and sums by hand."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.func import grad, jacrev

from clt_utils import models, sgd
from clt_utils.duality import SHANNON, SQUARED, fenchel_young_loss

seeds = st.integers(0, 2**31 - 1)


def task(seed, n=5, generator=SHANNON):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    return model, torch.randn(n, 3).double(), torch.randint(3, (n,)), generator


def test_flat_losses_are_the_models():
    torch.manual_seed(0)
    model, inputs, targets = models.build("lenet", 10, 1, 12), torch.rand(3, 1, 12, 12), torch.tensor([1, 2, 3])
    losses, theta = sgd.flat_losses(model, inputs, targets, SQUARED)
    assert theta.shape == (sum(p.numel() for p in model.parameters()),) and not theta.requires_grad
    torch.testing.assert_close(losses(theta), fenchel_young_loss(SQUARED, targets, model(inputs)))
    torch.nn.utils.vector_to_parameters(2 * theta, model.parameters())
    torch.testing.assert_close(losses(2 * theta), fenchel_young_loss(SQUARED, targets, model(inputs)))


@given(seeds, st.integers(1, 5))
def test_run_is_torchs_sgd(seed, m):
    model, inputs, targets, generator = task(seed)
    losses, theta = sgd.flat_losses(model, inputs, targets, generator)
    batches = sgd.draw_batches(5, m, 4, seed)
    run = sgd.run(losses, theta, batches, step=0.3)
    optimizer, norms = torch.optim.SGD(model.parameters(), 0.3), []
    outside = []
    for batch in batches.tolist():
        optimizer.zero_grad()
        before = torch.nn.functional.cross_entropy(model(inputs), targets, reduction="none").detach()
        torch.nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
        norms.append(sum(p.grad.square().sum() for p in model.parameters()).item())
        optimizer.step()
        after = torch.nn.functional.cross_entropy(model(inputs), targets, reduction="none").detach()
        rest = [i for i in range(5) if i not in batch]
        outside.append((after - before)[rest].mean().item() if rest else 0.0)
    torch.testing.assert_close(run.theta, torch.cat([p.detach().flatten() for p in model.parameters()]))
    np.testing.assert_allclose(run.gradient_norms, norms)
    np.testing.assert_allclose(run.interference, outside, atol=1e-12)
    assert run.drop == pytest.approx((run.losses[0].mean() - after.mean()).item())


def test_batches_are_uniform_without_repeats():
    batches = sgd.draw_batches(6, 2, 6000, seed=1)
    assert all(len(set(b)) == 2 for b in batches.tolist())
    counts = np.bincount([min(b) * 6 + max(b) for b in batches.tolist()], minlength=36)
    counts = counts[counts > 0]
    assert len(counts) == 15 and abs(counts - 400).max() < 5 * 400**0.5  # all pairs, each about as often
    assert torch.equal(batches, sgd.draw_batches(6, 2, 6000, seed=1))
    with pytest.raises(ValueError, match="batch_size"):
        sgd.draw_batches(6, 7, 1)


def test_batches_of_one_run_are_fresh_not_an_epoch():
    first, second = sgd.draw_batches(2, 1, 2000, seed=0)[:, 0].reshape(2, -1)
    assert 0.4 < (first == second).double().mean() < 0.6


@given(seeds)
@example(4163)  # the power method is far from done after 60 products on these three
@example(178)
@example(229)
def test_hessian_norm_is_the_largest_eigenvalue(seed):
    losses, theta = sgd.flat_losses(*task(seed))
    risk = lambda t: losses(t).mean()
    largest = torch.linalg.matrix_norm(jacrev(jacrev(risk))(theta), 2).item()
    assert largest * (1 - 1e-4) <= sgd.hessian_norm(risk, theta) <= largest * (1 + 1e-9)


@given(seeds, st.sampled_from([-1, 1]), st.floats(1e-4, 0.5))
def test_hessian_norm_finds_the_right_end_of_an_indefinite_hessian(seed, sign, gap):
    """A spectrum from −1 to 1 with one end longer than the other by a little."""
    rng = np.random.default_rng(seed)
    eigenvalues = sign * np.r_[1 + gap, rng.uniform(-1, 1, 48), -1]
    Q = np.linalg.qr(rng.standard_normal((50, 50)))[0]
    H = torch.from_numpy(Q @ np.diag(eigenvalues) @ Q.T)
    found = sgd.hessian_norm(lambda t: 0.5 * t @ H @ t, torch.zeros(50).double(), tolerance=1e-6)
    assert found == pytest.approx(1 + gap, rel=1e-6)


def test_hessian_norm_of_a_plane_and_of_one_weight():
    assert sgd.hessian_norm(lambda t: t.sum(), torch.ones(3).double()) == 0.0
    assert sgd.hessian_norm(lambda t: -3 * t @ t, torch.ones(1)) == pytest.approx(6)


def test_hessian_norm_says_when_it_is_not_done():
    H = torch.diag(torch.linspace(-0.9, 1, 300)).double()
    with pytest.warns(UserWarning, match="with an error of .*Expected: an error of at most .*max_products"):
        short = sgd.hessian_norm(lambda t: 0.5 * t @ H @ t, torch.zeros(300).double(), max_products=3)
    assert short < 1
    with warnings.catch_warnings():  # one eigenvalue besides zero: done after two products of ten
        warnings.simplefilter("error")
        assert sgd.hessian_norm(lambda t: t[0] ** 2, torch.zeros(10).double(), max_products=5) == pytest.approx(2)
    with pytest.warns(UserWarning, match="Given: 1 products"):
        sgd.hessian_norm(lambda t: 0.5 * t @ H @ t, torch.zeros(300).double(), max_products=1)
    with pytest.raises(ValueError, match="tolerance=0.1"):
        sgd.hessian_norm(lambda t: t @ t, torch.ones(3), tolerance=0.1)


@given(seeds, st.floats(0.01, 3))
def test_segment_smoothness(seed, step):
    """On a quadratic it is ‖Hd‖/‖d‖; on a network more points find no less, and a fine grid gives the descent lemma."""
    rng = np.random.default_rng(seed)
    H, start, end = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((3, 3), 3, 3))
    expected = ((H + H.T) @ (end - start)).norm() / (end - start).norm()
    assert sgd.segment_smoothness(grad(lambda t: t @ H @ t), start, end) == pytest.approx(expected.item())
    losses, theta = sgd.flat_losses(*task(seed))
    risk = lambda t: losses(t).mean()
    after = theta - step * grad(risk)(theta)
    coarse, fine = (sgd.segment_smoothness(grad(risk), theta, after, points) for points in (5, 50))
    assert coarse <= fine * (1 + 1e-9)
    assert risk(after) <= risk(theta) - step * (1 - fine * step / 2) * grad(risk)(theta).square().sum() + 1e-9
    assert sgd.segment_smoothness(grad(risk), theta, theta) == 0.0


@pytest.mark.parametrize("points", [1, 4])
def test_segment_smoothness_looks_at_the_end_of_the_segment(points):
    """The gradient θ² changes the more the further away: from 0 to 2 by 4, which is twice the distance."""
    start, end = torch.zeros(1).double(), torch.full((1,), 2.0).double()
    assert sgd.segment_smoothness(lambda theta: theta**2, start, end, points) == pytest.approx(2)


def test_segment_smoothness_looks_at_the_points_of_the_segment_and_no_others():
    """The gradient θ(2 − θ) is 0 at both ends of [0, 2] and 1 in the middle; before the start it is steeper."""
    gradient, start, end = lambda theta: theta * (2 - theta), torch.zeros(2).double(), torch.tensor([2.0, 0.0]).double()
    assert sgd.segment_smoothness(gradient, start, end, 1) == 0.0
    assert sgd.segment_smoothness(gradient, start, end, 2) == pytest.approx(1)


@given(seeds, st.integers(1, 5))
def test_gradient_bound_holds_once_the_step_is_short(seed, m):
    losses, theta = sgd.flat_losses(*task(seed))
    step = 1.0
    while True:
        run = sgd.run(losses, theta, sgd.draw_batches(5, m, 5, seed), step, points=16)
        if step * run.smoothness.max() <= 1:
            break
        step /= 2
    assert run.gradient_norms.mean() <= run.gradient_bound() * (1 + 1e-9)
    with pytest.raises(ValueError, match="step"):
        run.gradient_bound(smoothness=2 / step)
    with pytest.raises(ValueError, match="step"):
        sgd.run(losses, theta, sgd.draw_batches(5, m, 5), step=0.0)


def test_one_sample_one_step_and_no_points():
    losses, theta = sgd.flat_losses(torch.nn.Linear(3, 2), torch.ones(1, 3), torch.tensor([0]))
    run = sgd.run(losses, theta, sgd.draw_batches(1, 1, 1), step=0.1, points=0)
    assert run.losses.shape == (2, 1) and run.drop > 0 and run.smoothness.isnan().all() and run.interference.tolist() == [0.0]


TASK = sgd.flat_losses(torch.nn.Linear(2, 2), torch.ones(3, 2), torch.tensor([0, 1, 0]))
BATCHES = sgd.draw_batches(3, 2, 2)


@pytest.mark.parametrize("call, error, words", [
    (lambda: sgd.flat_losses(torch.nn.Linear(2, 2), torch.ones(3, 2), torch.tensor([0, 1])), ValueError, "3 inputs and 2 targets"),
    (lambda: sgd.flat_losses(torch.nn.Linear(2, 2), torch.ones(0, 2), torch.zeros(0).long()), ValueError, "at least one sample"),
    (lambda: sgd.flat_losses(torch.nn.Linear(2, 2), torch.ones(3, 2), torch.tensor([0, 1, 0]), "SHANNON"), TypeError, "a Generator"),
    (lambda: TASK[0](torch.zeros(5)), ValueError, r"theta of shape \(5,\).*\(6,\)"),
    (lambda: sgd.run(TASK[0], TASK[1], BATCHES, step=0.1, points=-1), ValueError, "points=-1.*at least 0"),
    (lambda: sgd.run(TASK[0], TASK[1], BATCHES, step=0.1, points=1.5), ValueError, "points=1.5"),
    (lambda: sgd.run(lambda t: t.sum(), TASK[1], BATCHES, step=0.1), ValueError, "the losses of the samples"),
    (lambda: sgd.run(lambda t: [1.0, 2.0, 3.0], TASK[1], BATCHES, step=0.1), ValueError, "the losses of the samples"),
    (lambda: sgd.run(lambda t: t[:0], TASK[1], BATCHES, step=0.1), ValueError, "the losses of the samples"),
    (lambda: sgd.run(TASK[0], TASK[1][None], BATCHES, step=0.1), ValueError, "theta of shape.*flat parameters"),
    (lambda: sgd.run(TASK[0], TASK[1][:0], BATCHES, step=0.1), ValueError, "theta of shape.*flat parameters"),
    (lambda: sgd.run(TASK[0], TASK[1] * torch.nan, BATCHES, step=0.1), ValueError, "`?theta`? with 6 of 6 entries NaN"),
    (lambda: sgd.run(TASK[0], TASK[1].to("meta"), BATCHES, step=0.1), ValueError, "theta.*meta"),
    (lambda: sgd.run(TASK[0], TASK[1], BATCHES[0], step=0.1), ValueError, r"batches: .*indices of shape \(N, m\)"),
    (lambda: sgd.run(TASK[0], TASK[1], BATCHES[:0], step=0.1), ValueError, r"batches: .*indices of shape \(N, m\)"),
    (lambda: sgd.run(TASK[0], TASK[1], BATCHES.double(), step=0.1), ValueError, r"batches: .*indices of shape \(N, m\)"),
    (lambda: sgd.run(TASK[0], TASK[1], BATCHES.to("meta"), step=0.1), ValueError, r"batches: .*indices of shape \(N, m\)"),
    (lambda: sgd.run(TASK[0], TASK[1], BATCHES + 1, step=0.1), ValueError, "indices from .* to 3.*from 0 to 2"),
    (lambda: sgd.run(TASK[0], TASK[1], BATCHES - 1, step=0.1), ValueError, "indices from -1 to"),
    (lambda: sgd.segment_smoothness(lambda t: t, torch.zeros(2), torch.ones(3)), ValueError, "equal shapes"),
    (lambda: sgd.segment_smoothness(lambda t: t, torch.zeros(2), torch.full((2,), torch.inf)), ValueError, "`?end`? with 2 of 2"),
    (lambda: sgd.segment_smoothness(lambda t: t, torch.zeros(2), torch.ones(2), 0), ValueError, "points=0"),
    (lambda: sgd.hessian_norm(lambda t: t @ t, torch.ones(2), max_products=0), ValueError, "max_products=0"),
    (lambda: sgd.hessian_norm(lambda t: t @ t, torch.ones(2), seed=0.5), ValueError, "seed=0.5"),
    (lambda: sgd.hessian_norm(lambda t: t @ t, torch.ones(2, 2)), ValueError, "theta of shape.*flat parameters"),
])
def test_errors_say_what_is_wrong(call, error, words):
    with pytest.raises(error, match=words):
        call()
