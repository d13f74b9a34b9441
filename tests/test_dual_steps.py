"""Dual steps: conjugates and steps against numeric maximization, gradients against finite differences."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from clt_utils.dual_steps import ball_smoothness, descend, power_regression, power_smoothness, quadratic_smoothness, separable_smoothness

SOME = {"power 1.5": power_smoothness(0.7, 1.5), "power 3": power_smoothness(2.0, 3.0), "ball": ball_smoothness(1.5, 0.6),
        "separable": separable_smoothness(np.array([0.5, 2.0]), 1.5), "quadratic": quadratic_smoothness(np.array([[2.0, 0.5], [0.5, 1.0]]))}


@pytest.mark.parametrize("name", SOME)
@given(g=st.tuples(st.floats(-3, 3), st.floats(-3, 3)).filter(lambda g: np.hypot(*g) > 0.05))
@example(g=(2.5, -0.3125))  # the Nelder–Mead method stops early here
def test_step_and_conjugate_solve_the_supremum(name, g):
    psi, g = SOME[name], np.array(g)
    step = psi.step(g)
    assert g @ step - psi.value(step) == pytest.approx(psi.conjugate(g), rel=1e-9)  # attained at the step
    rng = np.random.default_rng(0)
    others = step + rng.standard_normal((3000, 2)) * 10 ** rng.uniform(-5, 1, (3000, 1))
    assert (others @ g - psi.value(others)).max() <= psi.conjugate(g) * (1 + 1e-9)  # and nowhere more


@pytest.mark.parametrize("name", SOME)
def test_even_and_zero_at_zero(name, seed):
    d = np.random.default_rng(seed).uniform(-0.4, 0.4, (20, 2))
    np.testing.assert_allclose(SOME[name].value(d), SOME[name].value(-d))
    assert SOME[name].value(np.zeros(2)) == 0 and (SOME[name].value(d) > 0).all()


def test_a_step_never_leaves_the_ball_and_beyond_it_psi_is_infinite():
    psi = SOME["ball"]
    assert np.linalg.norm(psi.step(np.array([1e9, 0.0]))) <= 0.6
    assert psi.value(np.array([0.7, 0.0])) == np.inf


@pytest.mark.parametrize("p", [1.3, 2.0])
def test_power_regression(p, seed):
    rng = np.random.default_rng(seed)
    a, y, theta = rng.standard_normal((7, 3)), rng.standard_normal(7), rng.standard_normal(3)
    objective, psi = power_regression(a, y, p)
    value, gradient = objective(theta)
    assert value == pytest.approx(np.mean([abs(row @ theta - t) ** p / p for row, t in zip(a, y)]))
    np.testing.assert_allclose(gradient, approx_fprime(theta, lambda t: objective(t)[0], 1e-7), rtol=1e-4, atol=1e-6)
    for d in rng.standard_normal((200, 3)) * rng.lognormal(size=(200, 1)):
        assert objective(theta + d)[0] <= value + gradient @ d + psi.value(d) + 1e-12
    with pytest.raises(ValueError, match="p=3.*1, 2"):
        power_regression(a, y, 3)


@pytest.mark.parametrize("p", [1.3, 2.0])
def test_constant_of_power_regression_grows_with_the_power_of_the_inputs(p):
    """Two inputs of lengths 3 and 5: Ψ(d) = 2^(2−p)/p · (3^p + 5^p)/2 · ‖d‖^p."""
    psi = power_regression(np.array([[3.0, 0.0], [3.0, 4.0]]), np.zeros(2), p)[1]
    assert psi.value(np.array([0.0, 2.0])) == pytest.approx(2 ** (2 - p) / p * (3**p + 5**p) / 2 * 2**p)


def test_descend_follows_the_step_and_stops_at_infinity():
    objective, _ = power_regression(np.eye(1), np.zeros(1), 2.0)
    np.testing.assert_allclose(descend(objective, np.array([1.0]), lambda g: 0.5 * g, 3), 0.5 * 0.25 ** np.arange(4))
    values = descend(objective, np.array([1.0]), lambda g: 1e200 * g, 4)
    assert values[0] == 0.5 and np.isinf(values[-1])
    np.testing.assert_allclose(descend(objective, np.array([2.0]), lambda g: g, 0), [2.0])


@pytest.mark.parametrize("call, words", [
    *((lambda bad=bad: power_smoothness(bad, 2.0), r"L=") for bad in (0.0, -1.0, np.inf)),
    *((lambda bad=bad: ball_smoothness(bad, 0.5), r"L=") for bad in (0.0, -1.0, np.inf)),
    *((lambda bad=bad: ball_smoothness(1.0, bad), r"radius=") for bad in (0.0, -1.0, np.inf)),
    *((lambda bad=bad: separable_smoothness(np.array(bad), 2.0), "positive numbers") for bad in ([0.0, 1.0], [1.0, -1.0])),
    (lambda: quadratic_smoothness(np.stack([np.eye(2)] * 2)), r"\(2, 2, 2\).*one matrix"),
    (lambda: quadratic_smoothness(np.eye(2, dtype=np.float16)), "float16.*float32 or float64"),
    (lambda: power_regression(np.ones((3, 2)), np.ones(2), 1.5), r"\(3, 2\) and y of shape \(2,\)"),
    (lambda: power_regression(np.ones((3, 2, 1)), np.ones(3), 1.5), r"\(3, 2, 1\) and y of shape \(3,\)"),
])
def test_bad_numbers_are_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
