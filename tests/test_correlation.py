"""Correlations of curves, against scipy on logarithms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from clt_utils.correlation import changes_pearson, local_pearson, pearson

positive = st.floats(1e-6, 1e6)


@given(arrays(float, 30, elements=positive), arrays(float, 30, elements=positive), st.integers(3, 30))
def test_pearson_is_scipys_on_logarithms(x, y, window):
    ours = local_pearson(x, y, window)
    assert ours.shape == (30 - window + 1,)
    for start, value in enumerate(ours):
        a, b = np.log(x[start:start + window]), np.log(y[start:start + window])
        if np.ptp(a) < 1e-6 or np.ptp(b) < 1e-6:  # too close to constant for either to mean anything
            continue
        assert value == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-6)
    assert pearson(x, y) == pytest.approx(local_pearson(x, y, 30)[0], nan_ok=True)


def test_pearson_where_it_is_not_defined():
    x = np.exp(np.arange(10.0))
    assert pearson(x, x**-2) == pytest.approx(-1)
    assert np.isnan(pearson(x, np.full(10, 0.1)))
    for bad in (0, -1, np.inf, np.nan):
        y = x.copy()
        y[4] = bad
        assert np.isnan(pearson(x, y))
        assert np.isnan(changes_pearson(x, y))
        assert np.isnan(local_pearson(x, y, 3)).tolist() == [False] * 2 + [True] * 3 + [False] * 3
    with pytest.raises(ValueError, match="equal length"):
        pearson(x, x[:5])
    with pytest.raises(ValueError, match="window=50 for 10"):
        local_pearson(x, x)


@given(arrays(float, 30, elements=positive), arrays(float, 30, elements=positive))
def test_pearson_of_changes_is_scipys_on_ratios(x, y):
    a, b = np.log(x[1:] / x[:-1]), np.log(y[1:] / y[:-1])
    if min(np.ptp(a), np.ptp(b)) > 1e-6:  # closer to constant neither means anything
        assert changes_pearson(x, y) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-6)


def test_pearson_of_changes_forgets_a_common_trend():
    """Two curves fall alike, their jumps are opposite."""
    step = np.arange(50)
    x, y = (np.exp(-step + jump) for jump in (0.5 * (-1.0) ** step, -0.5 * (-1.0) ** step))
    assert pearson(x, y) > 0.99 and changes_pearson(x, y) == pytest.approx(-1)
    assert np.isnan(changes_pearson(x, np.exp(-step)))  # each change is the same
    with pytest.raises(ValueError, match="2 measurements.*at least 3"):
        changes_pearson(x[:2], y[:2])
