"""Entropies and informations against enumeration in numpy, scipy, and closed forms."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clt_utils.duality import GINI, POISSON, SHANNON, SQUARED, tsallis
from clt_utils.entropy import conditional_entropy, entropy, information_loss, mutual_information, renyi_entropy, total_variation

weights = arrays(float, (5, 3), elements=st.floats(1e-12, 1) | st.just(0)).filter(lambda a: a.sum() > 1e-3)
joints = weights.map(lambda a: a / a.sum())
maps = arrays(int, 5, elements=st.integers(-2, 3))
generators = st.sampled_from([SHANNON, GINI, SQUARED, POISSON, tsallis(1.5), tsallis(3)])


def merge(joint, features):
    return np.stack([joint[features == u].sum(0) for u in np.unique(features)])


def enumerate_conditional_entropy(joint, generator):
    """Σ_x Σ_y q(x, y) Φ(1_y) − Σ_x q(x) Φ(q(·|x)), row by row."""
    total = 0.0
    for row in joint[joint.sum(1) > 0]:
        p = torch.tensor(row / row.sum())
        vertices = sum(p[y] * generator.value(torch.eye(len(p)).double()[y]) for y in range(len(p)))
        total += row.sum() * float(vertices - generator.value(p))
    return total


@given(joints, joints, st.floats(0, 1), generators)
def test_conditional_entropy_is_concave_in_the_whole_joint(a, b, t, g):
    """So its plug-in estimate is too low on average (Jensen); concavity in the labels' distribution alone would not say so."""
    between = conditional_entropy(t * a + (1 - t) * b, g)
    assert between >= t * conditional_entropy(a, g) + (1 - t) * conditional_entropy(b, g) - 1e-12, (
        "mixing two joints lowered the conditional entropy: the chapter on entropy says that it is concave")


@given(joints, maps, generators)
def test_conditional_entropy_information_and_loss_by_enumeration(joint, features, g):
    floor = enumerate_conditional_entropy(joint, g)
    assert conditional_entropy(joint, g) == pytest.approx(floor, abs=1e-12)
    assert mutual_information(joint, g) == pytest.approx(entropy(joint.sum(0), g) - floor, abs=1e-12)
    loss = enumerate_conditional_entropy(merge(joint, features), g) - floor
    assert information_loss(joint, features, g) == pytest.approx(loss, abs=1e-12)
    assert information_loss(joint, features, g) >= 0 and mutual_information(joint, g) >= 0


@given(joints)
def test_shannon_against_scipy(joint):
    p = joint.sum(0)
    assert entropy(p) == pytest.approx(scipy.stats.entropy(p), abs=1e-12)
    product = np.outer(joint.sum(1), p)
    assert mutual_information(joint) == pytest.approx(scipy.stats.entropy(joint.ravel(), product.ravel()), abs=1e-12)


def test_nothing_is_lost_where_conditional_means_agree():
    joint = np.array([[0.1, 0.2], [0.2, 0.4], [0.1, 0.0]])
    assert information_loss(joint, np.array([7, 7, 3])) < 1e-28
    assert information_loss(joint, np.array([7, 3, 7])) > 1e-2
    assert information_loss(joint, [0, 0, 1]) < 1e-28


def test_closed_forms():
    p = np.array([0.5, 0.25, 0.25, 0.0])
    assert entropy(p, GINI) == pytest.approx(0.5 * (1 - 0.375))
    assert entropy(p, SQUARED) == pytest.approx(entropy(p, GINI))
    assert entropy(np.full(4, 0.25), tsallis(3)) == pytest.approx((1 - 4 * 0.25**3) / 6)
    assert renyi_entropy(p, 0) == pytest.approx(np.log(3))
    assert renyi_entropy(p, 0.5) == pytest.approx(2 * np.log(np.sqrt(p).sum()))
    assert renyi_entropy(p, 1) == pytest.approx(1.5 * np.log(2))
    assert renyi_entropy(p, 1 + 1e-6) == pytest.approx(renyi_entropy(p, 1), abs=1e-6)
    assert renyi_entropy(p, 2) == pytest.approx(-np.log(0.375))
    assert renyi_entropy(p, np.inf) == pytest.approx(np.log(2))
    orders = [renyi_entropy(p, a) for a in (0, 0.3, 0.5, 1, 2, 10, np.inf)]
    assert orders == sorted(orders, reverse=True)


@given(joints, joints)
def test_total_variation_is_the_largest_difference_of_an_event(p, q):
    events = (np.arange(2**9)[:, None] >> np.arange(9)) & 1
    p, q = p.ravel()[:9] / max(p.ravel()[:9].sum(), 1e-300), q.ravel()[:9] / max(q.ravel()[:9].sum(), 1e-300)
    if p.sum() > 0.5 and q.sum() > 0.5:
        assert total_variation(p, q) == pytest.approx((events @ (p - q)).max(), abs=1e-12)


def test_answers_in_kind_and_in_batches():
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 4))
    assert isinstance(entropy(p), np.ndarray) and entropy(p).shape == (2, 4)
    assert isinstance(entropy(p[0, 0]), float)
    answer = entropy(torch.tensor(p, dtype=torch.float32))
    assert isinstance(answer, torch.Tensor) and answer.dtype == torch.float64
    np.testing.assert_allclose(answer, entropy(p), atol=1e-6)


@pytest.mark.parametrize("g", [SHANNON, POISSON, tsallis(3)], ids=lambda g: g.name)
@pytest.mark.parametrize("seen", [2, 1500])
def test_many_labels_take_no_square_of_their_number(g, seen):
    K, sizes = 4000, []
    watched = dataclasses.replace(g, value=lambda mu: sizes.append(mu.numel()) or g.value(mu))
    p = np.zeros(K)
    p[::K // seen] = 1 / len(p[::K // seen])
    few = p[p > 0]
    assert entropy(p, watched) == pytest.approx(entropy(few, g), rel=1e-9)
    assert max(sizes) <= 512 * K and sum(sizes) <= (len(few) + 1) * K


@pytest.mark.parametrize("call, message", [
    (lambda: entropy(np.array([0.5, 0.6])), "sum is off by 0.1"),
    (lambda: entropy(np.array([1.5, -0.5])), "negative"),
    (lambda: entropy(np.array([np.nan, 1])), "NaN"),
    (lambda: conditional_entropy(np.array([0.5, 0.5])), r"\(n_x, K\)|dimensions"),
    (lambda: mutual_information(np.full((2, 2, 2), 1 / 8)), r"\(n_x, K\)"),
    (lambda: information_loss(np.full((2, 2), 0.25), np.array([0, 1, 2])), r"shape \(3,\).*shape \(2,\)"),
    (lambda: information_loss(np.full((2, 2), 0.25), np.array([0.0, 1.0])), "integers"),
    (lambda: renyi_entropy(np.array([0.5, 0.5]), -1), "order=-1"),
    (lambda: total_variation(np.array([0.5, 0.5]), np.array([1.0])), "same shape"),
])
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("function, p", [(entropy, [0.5, 0.5]), (conditional_entropy, [[0.5, 0.5]]), (mutual_information, [[0.5, 0.5]])])
def test_what_is_no_generator_is_refused(function, p):
    with pytest.raises(TypeError, match="a Generator"):
        function(p, "SHANNON")
