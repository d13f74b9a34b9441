"""Figures: small, in the page's colours, with words; and what they draw is what they were given."""

import re
import xml.etree.ElementTree as ET

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from clt_utils import figures, plots

matplotlib.use("agg")
ALT = "Five words are enough here."


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


def traces(seeds=3, steps=500):
    """Plausible columns, different for each seed."""
    found = []
    for seed in range(seeds):
        step, noise = np.arange(steps + 1.0), np.random.default_rng(seed).normal(0, 0.1, steps + 1)
        risk = 2.3 * np.exp(noise - step / 100)
        found.append({"step": step, "risk": risk, "lower": risk / 3, "upper": risk * 4, "lower_sharp": risk / 2,
                      "upper_sharp": risk * 2, "lam_min": 1 + step, "lam_max": 2 + 20 * step, "energy": risk * (1 + step)})
    return found


def contrast(color, other):
    def luminance(color):
        parts = [int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        return np.dot([0.2126, 0.7152, 0.0722], [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts])
    light, dark = sorted((luminance(color), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", ["blue", "vermillion", "green"])
@pytest.mark.parametrize("page", ["#ffffff", "#14181e"])
def test_colors_of_lines_stand_out_from_light_and_dark_pages(name, page):
    assert contrast(plots.COLORS[name], page) >= 3


def test_no_two_lines_differ_by_color_alone():
    _, ax = plt.subplots()
    lines = [ax.plot([0, 1], [i, i])[0] for i in range(len(plots.COLORS))]
    assert len({line.get_color() for line in lines}) == len({str(line._dash_pattern) for line in lines}) == len(lines)


FIGURES = {"risk": lambda: plots.risk_between_bounds(traces(), sharp=True), "spectrum": lambda: plots.spectrum(traces()),
           "energy_and_optimum": figures.energy_and_optimum, "framework": figures.framework, "models_ab": figures.models_ab}


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_svg_is_small_well_formed_and_takes_the_colors_of_the_page(figure):
    text = plots.svg(figure(), ALT)
    root = ET.fromstring(text)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == ALT
    assert len(text) < 120_000
    assert "currentColor" in text and "#000000" not in text and "<style" not in text and "http" not in text
    assert text.count("#ffffff") == (2 if figure is figures.models_ab else 0)  # no white behind; two plus signs lie on blue


def test_ids_are_unique_over_figures_and_every_reference_leads_somewhere():
    texts = [plots.svg(plots.risk_between_bounds(traces()), ALT) for _ in range(2)]
    ids = [re.findall(r' id="([^"]+)"', text) for text in texts]
    assert ids[0] and not set(ids[0]) & set(ids[1])
    for text, own in zip(texts, ids, strict=True):
        assert len(own) == len(set(own))
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) == set(own)


@pytest.mark.parametrize("alt", ["", "a figure", None, "   "])
def test_figure_without_words_is_refused(alt):
    with pytest.raises(ValueError if alt is not None else TypeError, match="what the figure shows"):
        plots.show(figures.models_ab(), alt=alt)


def test_words_are_escaped():
    assert ET.fromstring(plots.svg(figures.models_ab(), 'risk < 1 & "more"\nwords follow here')).attrib["aria-label"] == \
        'risk < 1 & "more" words follow here'


def test_show_gives_every_format_and_closes_the_figure():
    InteractiveShell.instance()  # without one, display only prints
    fig = figures.models_ab()
    with capture_output() as shown:
        plots.show(fig, alt=ALT)
    data = shown.outputs[0].data
    assert data["text/html"].startswith("<svg") and data["text/plain"] == ALT
    assert data["image/png"].startswith(b"\x89PNG")
    assert not plt.fignum_exists(fig.number)


def test_minified_path_draws_the_same_points():
    """Every point of a line lands within 0.1 points of where matplotlib's own transform puts it."""
    x = np.linspace(0, 50, 40)
    fig, ax = plt.subplots()
    line, = ax.plot(x, np.sin(x), color="#123456")
    text = plots.svg(fig, ALT)
    path = next(tag for tag in re.findall(r"<path[^>]*>", text) if "#123456" in tag)
    drawn = np.array(re.findall(r"-?[\d.]+", re.search(r' d="([^"]+)"', path)[1]), dtype=float).reshape(-1, 2)
    expected = ax.transData.transform(np.column_stack([x, line.get_ydata()])) / fig.dpi * 72
    expected[:, 1] = fig.get_figheight() * 72 - expected[:, 1]
    assert drawn.shape == expected.shape
    assert np.abs(drawn - expected).max() < 0.1


def test_risk_is_drawn_as_median_and_range_over_seeds():
    given = traces(seeds=5, steps=100)
    ax = plots.risk_between_bounds(given).axes[0]
    columns = {name: np.sort([trace[name] for trace in given], axis=0) for name in ("upper", "risk", "lower")}
    assert ax.get_yscale() == "log" and len(ax.lines) == 3
    for line, band, values in zip(ax.lines, ax.collections, columns.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), values[2])
        drawn = band.get_paths()[0].vertices
        np.testing.assert_allclose([drawn[:, 1].min(), drawn[:, 1].max()], [values.min(), values.max()])


def test_long_runs_are_thinned_and_keep_their_ends():
    line = plots.risk_between_bounds(traces(seeds=1, steps=20_000)[0]).axes[0].lines[0]
    assert len(line.get_xdata()) <= plots.POINTS
    assert line.get_xdata()[[0, -1]].tolist() == [0, 20_000]


def test_epochs_make_runs_of_different_batch_sizes_comparable():
    given = traces(seeds=2, steps=100)
    for trace in given:
        trace["epoch"] = trace["step"] / 8
    ax = plots.spectrum(given, against="epoch").axes[0]
    assert ax.lines[0].get_xdata()[-1] == 12.5 and ax.get_xlabel() == "epoch"
    with pytest.raises(ValueError, match="epoch"):
        plots.spectrum(given, against="epochs")


def test_run_that_ended_early_shortens_the_curve():
    given = traces(seeds=2, steps=100)
    given[1] = {name: column[:31] for name, column in given[1].items()}
    assert plots.spectrum(given).axes[0].lines[0].get_xdata()[-1] == 30


def test_values_without_a_logarithm_leave_gaps():
    given = traces(seeds=1, steps=10)[0]
    given["upper"][[2, 5]] = np.inf, np.nan
    given["lower"][3] = 0
    upper, _, lower = plots.risk_between_bounds(given).axes[0].lines
    assert np.flatnonzero(np.isnan(upper.get_ydata())).tolist() == [2, 5]
    assert np.flatnonzero(np.isnan(lower.get_ydata())).tolist() == [3]


def test_seeds_measured_at_different_steps_are_refused():
    given = traces(seeds=2)
    given[1]["step"] = given[1]["step"] * 2
    with pytest.raises(ValueError, match="different steps"):
        plots.spectrum(given)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_fixed_axes_have_room_for_the_legend_and_for_powers_of_ten(rows):
    fig, ax = plots.fixed_axes(legend_rows=rows)
    for i in range(rows):
        ax.plot([0, 1], [1e-6, 1e4], label=rf"share of $\hat E$ seen, $m={i}$")
    plots.log_scale(ax)
    ax.set_ylabel("median of the seeds (log scale)")
    found = plots.legend(fig, ncols=1)
    fig.draw_without_rendering()
    assert found.get_window_extent().y0 >= ax.get_window_extent().y1
    assert ax.get_tightbbox().x0 >= 0 and ax.get_tightbbox().y0 >= 0
    plt.close(fig)


def test_unknown_curve_names_the_closest():
    with pytest.raises(ValueError, match="lower_sharp"):
        plots.draw_curve(plt.subplots()[1], traces(), "lower_shrap")


def test_log_axis_writes_what_its_ticks_are():
    fig, ax = plt.subplots()
    ax.plot([1, 2], [1e-9, 1e5])
    plots.log_scale(ax)
    fig.draw_without_rendering()
    labels = {value: text.get_text() for value, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    superscripts = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    assert len(labels) > 3
    for value, label in labels.items():
        base, power = re.fullmatch(r"([\d.]+?)([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]*)", label).groups()
        assert float(base) ** int(power.translate(superscripts) or 1) == pytest.approx(value)
    assert plots._power_of_ten(2.5e-5) == "2.5e-05"  # narrow ranges have ticks between the powers


def test_description_names_each_line_with_its_ends():
    fig, ax = plt.subplots()
    ax.plot([0, 1, 2], [np.nan, 2.345, 0.5], label=r"$\lambda_{\min}(A_x)$")
    ax.plot([0, 1], [1, 1])
    ax.plot([0, 1], [3600, -1e-9], label=r"risk $\hat R$")
    ax.set(xlabel="step $k$", ylabel="eigenvalue")
    assert plots.describe(fig) == "Eigenvalue against step k: lambda_min(A_x) from 2.35 to 0.5; risk R-hat from 3600 to -1e-09."
