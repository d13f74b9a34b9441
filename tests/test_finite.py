"""Merging, sampling and estimating on finite inputs, against enumeration and plain loops."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clt_utils.bounds import max_loss
from clt_utils.duality import GINI, SHANNON
from clt_utils.entropy import conditional_entropy
from clt_utils.finite import (
    brighter_half,
    count,
    cross_entropies,
    draw,
    estimate_conditional_entropy,
    expected_tv,
    fit_table,
    fitted_gap,
    label_losses,
    largest_gap,
    merge,
    number_rows,
    strip_features,
)


def tables(rows=st.integers(1, 4), columns=st.integers(2, 4), largest=6):
    return rows.flatmap(lambda n: columns.flatmap(lambda K: st.lists(
        st.lists(st.integers(0, largest), min_size=K, max_size=K), min_size=n, max_size=n))).map(np.array).filter(lambda c: c.sum() >= 2)


@given(tables(), st.data())
def test_merge_adds_the_rows_of_each_feature(joint, data):
    features = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(joint), max_size=len(joint))))
    expected = np.zeros((4, joint.shape[1]))
    for row, u in zip(joint, features):
        expected[u] += row
    np.testing.assert_allclose(merge(joint, features, 4), expected)
    np.testing.assert_allclose(merge(joint, features), expected[: features.max() + 1])


def test_merge_takes_many_joints_and_many_features_at_once(seed):
    rng = np.random.default_rng(seed)
    joints, features = rng.random((5, 6, 2)), rng.integers(3, size=(5, 6))
    together = merge(joints, features, 3)
    for joint, g, merged in zip(joints, features, together):
        np.testing.assert_allclose(merged, merge(joint, g, 3))


@pytest.mark.parametrize("features", [[0.0, 1.0], [-1, 0]])
def test_merge_wants_numbers_of_features(features):
    with pytest.raises(ValueError, match="integers from 0 on"):
        merge(np.ones((2, 2)), np.array(features))


def test_draw_is_a_multinomial():
    rng, joint = np.random.default_rng(1), np.array([[0.1, 0.2], [0.0, 0.7]])
    samples = draw(rng, joint, 7, draws=20_000)
    assert samples.shape == (20_000, 2, 2) and draw(rng, joint, 7).shape == (2, 2)
    np.testing.assert_allclose(samples.sum((1, 2)), 1)
    assert (samples[:, 1, 0] == 0).all()
    np.testing.assert_allclose(samples.mean(0), joint, atol=5 * math.sqrt(0.25 / (7 * 20_000)))
    np.testing.assert_allclose(samples.var(0), joint * (1 - joint) / 7, rtol=0.06)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_expected_tv_by_enumerating_all_samples(n):
    q = np.array([0.5, 0.3, 0.2])
    mean = 0.0
    for pairs in itertools.product(range(3), repeat=n):
        empirical = np.bincount(pairs, minlength=3) / n
        mean += q[list(pairs)].prod() * np.abs(empirical - q).sum() / 2
    assert expected_tv(q, n) == pytest.approx(mean, rel=1e-12)


def test_cross_entropies_are_surprises():
    outputs = np.log([[0.2, 0.3, 0.5]]) + 7
    np.testing.assert_allclose(cross_entropies(outputs), -np.log([[0.2, 0.3, 0.5]]))


def test_fit_table_orders_labels_by_their_counts():
    outputs = fit_table(np.array([[0, 3, 100], [5, 5, 5]]), clip=2.0)
    assert outputs[0, 0] == -2 and outputs[0, 2] == 2 and -2 < outputs[0, 1] < 2
    np.testing.assert_allclose(outputs[1], 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(fit_table([[2, 5]], clip=9.0)), np.log(5.1 / 2.1))


def test_largest_gap_by_trying_every_table(seed):
    rng = np.random.default_rng(seed)
    difference = rng.standard_normal((2, 3))
    gaps = []
    for outputs in itertools.product([-1.5, 1.5], repeat=6):
        outputs = np.reshape(outputs, (2, 3))
        losses = np.log(np.exp(outputs).sum(1, keepdims=True)) - outputs
        gaps.append(abs((difference * losses).sum()))
    assert largest_gap(difference, 1.5) == pytest.approx(max(gaps))
    np.testing.assert_allclose(largest_gap(np.stack([difference, -difference]), 1.5), max(gaps))


def test_count_numbers_the_features_it_sees():
    features = np.array([[5, 1], [0, 0], [5, 1], [0, 0], [5, 1]])
    np.testing.assert_array_equal(count(features, [0, 1, 0, 0, 2], 3), [[1, 1, 0], [2, 0, 1]])
    np.testing.assert_array_equal(count([9, 9, 2], [1, 1, 0], 2), [[1, 0], [0, 2]])


@given(tables(), st.sampled_from([SHANNON, GINI]))
def test_the_jackknife_leaves_out_one_sample_at_a_time(counts, generator):
    n = counts.sum()
    plug_in = conditional_entropy(counts / n, generator)
    without = []
    for u, y in itertools.product(range(len(counts)), range(counts.shape[1])):
        fewer = counts.copy()
        fewer[u, y] -= 1
        without += [conditional_entropy(fewer / (n - 1), generator)] * counts[u, y] if counts[u, y] else []
    estimate = estimate_conditional_entropy(counts, generator)
    assert estimate.plug_in == pytest.approx(plug_in, abs=1e-12)
    assert estimate.jackknife == pytest.approx(n * plug_in - (n - 1) * np.mean(without), abs=1e-9)
    assert estimate.error == pytest.approx(math.sqrt((n - 1) * np.var(without)), abs=1e-9)


@given(tables())
def test_miller_madow_counts_the_cells_seen(counts):
    estimate = estimate_conditional_entropy(counts)
    cells, rows = (counts > 0).sum(), (counts.sum(1) > 0).sum()
    assert estimate.miller_madow == pytest.approx(estimate.plug_in + (cells - rows) / (2 * counts.sum()))
    assert math.isnan(estimate_conditional_entropy(counts, GINI).miller_madow)


def test_corrections_remove_most_of_the_bias():
    rng = np.random.default_rng(0)
    joint, n = rng.dirichlet(np.ones(20)).reshape(5, 4), 100
    estimates = [estimate_conditional_entropy(np.rint(n * draw(rng, joint, n)).astype(int)) for _ in range(1500)]
    truth = conditional_entropy(joint, SHANNON)
    bias = {name: np.mean([getattr(e, name) for e in estimates]) - truth for name in ("plug_in", "jackknife", "miller_madow")}
    assert bias["plug_in"] < -0.04
    assert abs(bias["jackknife"]) < 0.2 * abs(bias["plug_in"])
    assert abs(bias["miller_madow"]) < 0.5 * abs(bias["plug_in"])
    spread = np.std([e.plug_in for e in estimates])
    assert np.mean([e.error for e in estimates]) == pytest.approx(spread, rel=0.15)


def test_one_sample_is_not_enough():
    with pytest.raises(ValueError, match="at least two"):
        estimate_conditional_entropy([[1, 0]])


def test_brighter_half():
    inputs, joint = brighter_half(4, noise=0.3)
    assert inputs.shape == (16, 4) and joint.shape == (16, 3) and joint.sum() == pytest.approx(1)
    for strip, row in zip(inputs, joint):
        left, right = sum(strip[:2]), sum(strip[2:])
        label = 0 if left < right else 1 if left == right else 2
        assert row[label] == pytest.approx(0.7 / 16) and row.sum() == pytest.approx(1 / 16)
        assert sorted(np.delete(row, label)) == pytest.approx([0.15 / 16] * 2)
    with pytest.raises(ValueError, match="even"):
        brighter_half(5)


def test_strip_features_against_a_loop_over_strips():
    strips = brighter_half(6)[0]
    found = strip_features(strips)

    def seen(strip):
        a, b = sorted(strip[:3]), sorted(strip[3:])
        A, B = sum(a), sum(b)
        return {"all pixels": tuple(strip), "sums": (A, B), "maxima": (a[-1], b[-1]), "first pixels": (strip[0], strip[3]),
                "difference": A - B, "sign": (A > B) - (A < B), "total": A + B, "nothing": 0}

    told = [seen(strip.tolist()) for strip in strips]
    assert set(found) == set(told[0])
    for name, numbers in found.items():
        values = sorted({row[name] for row in told})
        assert numbers.tolist() == [values.index(row[name]) for row in told], name
    with pytest.raises(ValueError, match="even number of pixels"):
        strip_features(np.eye(3))


def test_fitted_gap_against_plain_loops(seed):
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.ones(6)).reshape(3, 2)
    samples = draw(rng, joint, 20, 4)
    for sample, gap in zip(samples, fitted_gap(joint, samples, 20, 0.7)):
        table = fit_table(20 * sample, 0.7)
        losses = [[math.log(sum(map(math.exp, row))) - f for f in row] for row in table]
        assert gap == pytest.approx(sum((joint[u, y] - sample[u, y]) * losses[u][y] for u in range(3) for y in range(2)))


def test_label_losses_against_plain_sums_and_never_above_the_largest(seed):
    rng = np.random.default_rng(seed)
    outputs, labels = 5 * rng.standard_normal((2, 30, 4)), rng.integers(4, size=(2, 30))
    plain = [math.log(sum(map(math.exp, f))) - f[y] for f, y in zip(outputs.reshape(60, 4), labels.ravel())]
    np.testing.assert_allclose(label_losses(outputs, labels).ravel(), plain)
    raised = label_losses(outputs, labels, reach=1.0)
    assert raised.max() <= max_loss(1.0, 4) + 1e-12 and label_losses([[0.0, -9.0]], [1], reach=1.0) == pytest.approx(math.log1p(math.e))
    with pytest.raises(ValueError, match="one label a sample"):
        label_losses(outputs, labels[0])


def test_number_rows():
    numbers = number_rows(np.array([[[2.0], [1.0]], [[0.0], [0.0]], [[2.0], [1.0]]]))
    assert numbers.tolist() == [1, 0, 1]


def test_the_smallest_of_everything():
    np.testing.assert_array_equal(brighter_half(2, noise=0.0)[1], np.eye(3)[[1, 0, 2, 1]] / 4)
    np.testing.assert_array_equal(merge([[0.3, 0.7]], [0]), [[0.3, 0.7]])
    np.testing.assert_array_equal(merge([[1.0], [2.0]], [0, 0]), [[3.0]])
    np.testing.assert_allclose(fit_table([9, 1], clip=9.0), np.array([0.5, -0.5]) * np.log(9.1 / 1.1))
    assert fitted_gap([[0.5, 0.5]], [[1.0, 0.0]], n=1, clip=1.0) == pytest.approx(1.0)  # half of what two outputs ±1 lie apart
    np.testing.assert_array_equal(count([0], [0], num_classes=1), [[1]])
    assert expected_tv([0.5, 0.5], n=1) == 0.5
    assert [estimate_conditional_entropy([[n, n]]).plug_in for n in (1, 500)] == pytest.approx([math.log(2)] * 2)
    assert label_losses([[0.0, 3.0]], [0], reach=0) == pytest.approx([math.log(2)])
    assert largest_gap([[0.1, -0.1]], clip=0) == pytest.approx(0, abs=1e-15)


RNG = np.random.default_rng(0)
THREE = np.zeros((2, 5, 3))  # two batches of five samples


@pytest.mark.parametrize("call, words", [
    (lambda: brighter_half(0), "pixels=0"),
    (lambda: brighter_half(4, noise=1.1), "noise=1.1"),
    (lambda: merge(np.ones((2, 3)), [0, 2], num_features=2), "features up to 2 with num_features=2"),
    (lambda: merge(np.ones((2, 3)), [0, 1, 1]), "one feature for each row"),
    (lambda: merge(np.ones((2, 2, 3)), np.zeros((3, 2), dtype=int)), "shapes that broadcast"),
    (lambda: draw(RNG, [[-0.1, 1.1]], 5), "`joint`.*numbers ≥ 0"),
    (lambda: draw(RNG, [[0.0, 0.0]], 5), "a joint with the sum 0"),
    (lambda: draw(RNG, [[0.5, np.inf]], 5), "a joint with the sum inf"),
    (lambda: draw(RNG, [[0.5, 0.5]], 0), "n=0"),
    (lambda: label_losses(THREE, np.full((2, 5), 3)), "labels"),
    (lambda: label_losses(THREE, np.full((2, 5), -1)), "labels"),
    (lambda: label_losses(THREE, np.zeros((2, 5), dtype=int), reach=-1.0), "reach=-1"),
    (lambda: fit_table([[-0.05, 2.0]], clip=1.0), "`counts`.*numbers ≥ 0"),
    (lambda: fit_table([[1.0, 2.0]], clip=-1.0), "clip=-1"),
    (lambda: fitted_gap(np.ones((2, 3)), np.ones((3, 3)), 5, 1.0), "shapes that broadcast"),
    (lambda: fitted_gap(np.ones((2, 3)), np.ones((2, 3)), 0, 1.0), "n=0"),
    (lambda: largest_gap([[0.1, -0.1]], clip=-1.0), "clip=-1"),
    (lambda: expected_tv([0.5, 0.6], 3), "sum is off by 0.1"),
    (lambda: expected_tv([0.5, 0.5], 0), "n=0"),
    (lambda: count([0, 1], [0, 2], 2), "labels"),
    (lambda: count([0, 1], [0, -1], 2), "labels"),
    (lambda: count([0, 1], [0], 2), "one label a feature"),
    (lambda: count([0, 1], [0, 0], 0), "num_classes=0"),
    (lambda: estimate_conditional_entropy(np.ones((1, 2, 2))), "one table"),
    (lambda: estimate_conditional_entropy([[3, -1]]), "`counts`.*numbers ≥ 0"),
    (lambda: estimate_conditional_entropy([[2, 1.5]]), "not all whole"),
    (lambda: estimate_conditional_entropy([[2.0, 2.0**53]]), "not all whole"),
])
def test_errors_say_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words):
        call()
