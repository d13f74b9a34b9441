"""The book's own figures: what they draw is what they were given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from test_plots import no_figure_stays_open, traces

from clt_utils import figures


def test_a_watched_network_has_its_local_correlations_at_the_middle_of_the_windows():
    given = traces(seeds=3, steps=30)
    for i, trace in enumerate(given):
        trace["epoch"] = trace["step"] / 8
        trace["upper"] = 2.0 + np.sin(trace["step"] + i)
    fig = figures.watched(given, window=10)
    assert [len(ax.get_lines()) for ax in fig.axes] == [5, 3, 3]
    line = fig.axes[2].get_lines()[1]
    expected = np.median([stats.pearsonr(np.log(t["risk"][4:14]), np.log(t["upper"][4:14])).statistic for t in given])
    assert line.get_ydata()[4] == pytest.approx(expected)
    assert line.get_xdata()[4] == pytest.approx(given[0]["epoch"][4:14].mean())
    bounds, spectrum = ({line.get_label(): (line.get_color(), line.get_linestyle()) for line in ax.get_lines()} for ax in fig.axes[:2])
    assert len({*bounds.values(), *spectrum.values()}) == 8, "one look for each of the eight curves"
    hues = {color for color, _ in bounds.values()} & {color for color, _ in spectrum.values()}
    assert hues == {"#000000"}, "a hue of a bound stands for an eigenvalue or the energy as well; black tells its lines apart by dashes"
    plt.close(fig)


def test_groups_side_by_side_share_a_scale():
    given = traces(seeds=3, steps=100)
    for trace in given:
        trace["epoch"] = trace["step"] / 8
    fig = figures.side_by_side({"one": given, "another": given[:1]}, ("risk", "lower"))
    left, right = fig.axes
    assert (left.get_title(), right.get_title()) == ("one", "another") and left.get_ylim() == right.get_ylim()
    np.testing.assert_allclose(left.get_lines()[0].get_ydata(), np.median([trace["risk"] for trace in given], axis=0))
    np.testing.assert_allclose(right.get_lines()[1].get_ydata(), given[0]["lower"])
    plt.close(fig)


def test_start_and_end_show_medians_and_extremes():
    given = traces(seeds=3)
    for i, trace in enumerate(given):
        trace["lam_max"] = trace["lam_min"] * (2.0 + i)
    fig = figures.start_and_end({"depth": {2: (given, given), None: (given, given[:1] * 3)}})
    assert [text.get_text() for text in fig.axes[3].get_xticklabels()] == ["2", "none"]
    bars = fig.axes[1].containers
    assert [bar.get_label() for bar in bars] == ["Model A, start", "Model A, end", "Model B, start", "Model B, end"]
    np.testing.assert_allclose(bars[0][0].get_ydata(), [3, 3])
    np.testing.assert_allclose(bars[1][0].get_ydata(), [3, 3])
    np.testing.assert_allclose(bars[3][0].get_ydata(), [3, 2])
    np.testing.assert_allclose([bar[0].get_ydata()[0] for bar in fig.axes[0].containers], [1, 501, 1, 501])  # λ_min = 1 + step
    np.testing.assert_allclose([segment[:, 1] for segment in bars[0][2][0].get_segments()], [[2, 4], [2, 4]])
    plt.close(fig)


def test_time_against_arithmetic_draws_each_machine_and_its_roof():
    fig = figures.time_against_arithmetic({"one": ({"a": ([1, 100], [7, 9]), "b": ([10], [30])}, 50.0), "two": ({"a": ([2], [5])}, 1.0)})
    left, right = fig.axes
    assert (left.get_title(), right.get_title()) == ("one", "two") and left.get_xscale() == left.get_yscale() == "log"
    a, b, roof = left.get_lines()
    np.testing.assert_allclose(np.stack([a.get_xdata(), a.get_ydata()]), [[1, 100], [7, 9]])
    assert list(b.get_xdata()) == [10] and a.get_marker() != b.get_marker() and a.get_color() != b.get_color()
    np.testing.assert_allclose(np.stack([roof.get_xdata(), roof.get_ydata()]), [[1, 100], [20, 2000]])  # 1 GFLOP at 50 GFLOP/s: 20 ms
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b", "the arithmetic alone"]
    plt.close(fig)
    with pytest.raises(ValueError, match="a with 2 counts and 1 times"):
        figures.time_against_arithmetic({"one": ({"a": ([1, 2], [3])}, 1.0)})


def test_energy_figure_marks_the_stationary_points_with_their_energy():
    """The numbers in the picture against root finding and finite differences of the two losses."""
    def losses(theta, first):
        return np.array([(theta - first) ** 2 / 2, (theta**2 - 4) ** 2 / 2])

    def gradients(theta, first):
        return (losses(theta + 1e-5, first) - losses(theta - 1e-5, first)) / 2e-5

    axes = np.array(figures.energy_and_optimum().axes).reshape(3, 2)
    for column, first in zip(axes.T, (0.5, 2.0), strict=True):
        grid = np.linspace(-2.6, 2.6, 300)
        slopes = [gradients(theta, first).mean() for theta in grid]
        roots = [brentq(lambda theta: gradients(theta, first).mean(), a, b)
                 for a, b, sa, sb in zip(grid, grid[1:], slopes, slopes[1:], strict=False) if sa * sb < 0]
        assert len(roots) == 3
        for ax, number in ((column[0], lambda t: losses(t, first).sum()),
                           (column[2], lambda t: (gradients(t, first) ** 2).mean())):
            assert [text.get_text() for text in ax.texts] == [f"{number(root):.2f}" for root in roots]
            np.testing.assert_allclose([text.get_position()[0] for text in ax.texts], roots, atol=1e-4)
