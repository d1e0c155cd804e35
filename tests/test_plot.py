"""Figures: they return axes, leave no trace, survive odd input, and say in words what they show."""

from __future__ import annotations

import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import alliancedyn as ad
from alliancedyn import plot
from alliancedyn.decompose import decompose
from alliancedyn.errors import SpecificationError
from alliancedyn.plot import missing, style
from alliancedyn.plot.numerals import interval, number
from alliancedyn.simulate import Dropout, Dynamics, simulate


@pytest.fixture(scope="module")
def panel() -> ad.SessionPanel:
    truth = Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=-0.12,
        backward=-0.10,
        between_cov=[[1.0, -0.3], [-0.3, 2.0]],
        mean=(4.0, 12.0),
    )
    dropout = Dropout(rule="random", rate=0.3, first=3)
    return simulate(truth, clients=150, sessions=8, dropout=dropout, missing=0.1, seed=3)


@pytest.fixture(scope="module")
def fit(panel: ad.SessionPanel) -> ad.Fit:
    return ad.RICLPM().fit(panel)


@pytest.fixture(scope="module")
def comparison(panel: ad.SessionPanel, fit: ad.Fit) -> object:
    return ad.compare_models({"CLPM": ad.CLPM().fit(panel), "RI-CLPM": fit})


def test_every_figure_returns_axes_and_has_words(panel, fit, comparison):
    drawn = {
        "spaghetti": plot.spaghetti(panel),
        "missingness": plot.missingness(panel),
        "path_diagram": plot.path_diagram(fit),
        "direction_forest": plot.direction_forest(comparison),
        "impulse_response": plot.impulse_response(fit),
    }
    for name, axes in drawn.items():
        assert isinstance(axes, Axes), name
        assert plot.alt_text(axes).endswith("."), name
        assert plot.svg(axes).startswith("<?xml"), name


def test_between_within_returns_two_axes_with_the_correlations_of_the_decomposition(panel):
    parts = decompose(panel)
    axes = plot.between_within(parts)
    assert axes.shape == (2,)
    between = float(parts.correlation_between.loc["symptoms", "alliance"])
    within = float(parts.correlation_within.loc["symptoms", "alliance"])
    assert number(between) in axes[0].get_title(loc="left")
    assert number(within) in axes[1].get_title(loc="left")
    assert number(between) in plot.alt_text(axes)
    assert number(within) in plot.alt_text(axes)


def test_given_axes_are_drawn_on(panel, fit):
    figure = Figure()
    axes = figure.add_subplot()
    assert plot.spaghetti(panel, "alliance", ax=axes) is axes
    pair = plot.panels(2, (6, 3))
    assert plot.impulse_response(fit, "symptoms", ax=pair[1]) is pair[1]
    assert len(figure.axes) == 1


def test_no_trace_is_left_in_matplotlib(panel):
    before = dict(matplotlib.rcParams)
    plot.svg(plot.spaghetti(panel))
    assert dict(matplotlib.rcParams) == before


def test_no_window_system_is_touched():
    code = (
        "import sys, alliancedyn.plot; "
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_figure_is_the_same_bytes(panel):
    assert plot.svg(plot.spaghetti(panel, seed=5)) == plot.svg(plot.spaghetti(panel, seed=5))
    assert plot.svg(plot.spaghetti(panel, seed=5)) != plot.svg(plot.spaghetti(panel, seed=6))


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_save_writes_the_format_that_the_suffix_names(panel, tmp_path, suffix):
    magic = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[suffix]
    path = plot.save(plot.missingness(panel), tmp_path / f"figure.{suffix}")
    assert path.read_bytes().startswith(magic)


# -- what is drawn ------------------------------------------------------------------------------


def test_spaghetti_draws_as_many_lines_as_asked_and_the_true_mean(panel):
    axes = plot.spaghetti(panel, "symptoms", clients=12)
    mean = axes.lines[-1]
    scores = panel.arrays().Y[:, :, panel.variables.index("symptoms")]
    np.testing.assert_allclose(mean.get_ydata(), np.nanmean(scores, axis=0), rtol=1e-12)
    courses = [line for line in axes.lines[:-1] if len(line.get_xdata()) == panel.n_sessions]
    assert len(courses) == 12
    assert "12 of 150" in plot.alt_text(axes)


def test_the_mean_stops_where_fewer_than_five_clients_are_seen():
    Y = np.full((8, 4, 2), 3.0)
    Y[4:, 2:] = np.nan
    axes = plot.spaghetti(_bare(Y), "symptoms")
    assert np.isfinite(axes.lines[-1].get_ydata()).tolist() == [True, True, False, False]


def test_a_handful_of_clients_is_not_drawn_one_by_one():
    axes = plot.spaghetti(_bare(np.random.default_rng(0).normal(size=(4, 6, 2))))
    assert len(axes.lines) == 1
    assert "no mean" in plot.alt_text(axes)


def test_missingness_tells_gaps_from_the_end():
    Y = np.full((3, 4, 2), 1.0)
    Y[0, 2:] = np.nan  # ends after session 2
    Y[1, 1] = np.nan  # a gap
    Y[2, 3, 0] = np.nan  # one score of two
    cells = missing._map(_bare(Y))
    expected = [
        [missing.ALL, missing.ALL, missing.OVER, missing.OVER],
        [missing.ALL, missing.ALL, missing.ALL, missing.SOME],
        [missing.ALL, missing.GAP, missing.ALL, missing.ALL],
    ]
    assert cells.codes.tolist() == expected
    assert cells.shares == pytest.approx((8 / 10, 1 / 10, 1 / 10))


def test_missingness_of_many_clients_stays_small():
    Y = np.random.default_rng(0).normal(size=(5000, 30, 2))
    Y[np.random.default_rng(1).random(Y.shape) < 0.3] = np.nan
    assert len(plot.svg(plot.missingness(_bare(Y)))) < 200_000


def test_shades_of_the_map_differ_in_lightness():
    grey = sorted(np.dot(to_rgb(color), (0.299, 0.587, 0.114)) for color in missing._COLORS)
    assert min(np.diff(grey)) > 0.15


def test_series_differ_in_more_than_color():
    looks = style.LOOKS
    assert len({one.marker for one in looks}) == len(looks)


def test_path_diagram_prints_the_structural_paths_in_standard_deviations(panel, fit):
    words = plot.alt_text(plot.path_diagram(fit))
    answer = ad.compare_directions(fit, basis="structural")
    for one in (answer.forward, answer.backward):
        assert interval(one.value, one.lower, one.upper) in words
    assert "in the order in which the scores are taken" in words


def test_path_diagram_turns_round_with_the_timing(panel):
    scored = panel.frame[["client", "session", "alliance", "symptoms"]]
    turned = ad.SessionPanel.from_frame(
        scored,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        timing={"alliance": "before", "symptoms": "after"},
    )
    fit = ad.RICLPM().fit(turned)
    answer = ad.compare_directions(fit, basis="structural")
    words = plot.alt_text(plot.path_diagram(fit))
    path = interval(answer.forward.value, answer.forward.lower, answer.forward.upper)
    assert f"alliance → symptoms: {path}" in words


def test_path_diagram_without_timing_shows_the_lags(panel):
    fit = ad.RICLPM().fit(_unknown_timing(panel))
    words = plot.alt_text(plot.path_diagram(fit))
    one = fit.effect("wai", "phq", standardized="within")
    assert f"wai → phq: {interval(one.value, one.lower, one.upper)}" in words
    with pytest.raises(SpecificationError, match="unknown"):
        plot.path_diagram(fit, "structural")


def test_forest_shows_every_model_both_ways_raw_and_standardized(comparison):
    raw = ["estimate", "lower", "upper"]
    scaled = ["standardized", "standardized_lower", "standardized_upper"]
    for standardized, columns in ((True, scaled), (False, raw)):
        axes = plot.direction_forest(comparison, standardized=standardized)
        for prefix in ("", "structural_"):
            for values in comparison[[f"{prefix}{name}" for name in columns]].to_numpy():
                assert interval(*map(float, values)) in plot.alt_text(axes)
        names = [text.get_text() for text in axes.texts]
        assert names.count("alliance → symptoms") == names.count("symptoms → alliance") == 4
        assert {"RI-CLPM, time order", "RI-CLPM, session to session"} < set(names)
    assert len(plot.direction_forest(comparison).patches) == 1
    assert not plot.direction_forest(comparison, standardized=False).patches


def test_forest_draws_directions_too(fit):
    answer = ad.compare_directions(fit)
    words = plot.alt_text(plot.direction_forest({"RI-CLPM": answer}))
    for one in answer.by_basis.values():
        assert number(one.forward.value) in words and number(one.backward.value) in words
    with pytest.raises(SpecificationError, match="compare_models"):
        plot.direction_forest({"RI-CLPM": answer}, standardized=False)


def test_many_models_have_a_line_each_and_one_scale(comparison):
    axes = plot.model_forest(comparison, apart=["CLPM"])
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [
        *("RI-CLPM, time order", "session to session"),
        *("CLPM, time order", "session to session"),
    ]
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert [ax.get_title(loc="left") for ax in axes] == [
        "alliance → symptoms",
        "symptoms → alliance",
    ]
    words = plot.alt_text(axes)
    for row in comparison.to_dict("records"):
        path = f"{row['model']}, {row['source']} → {row['target']}"
        for form, prefix in (("session to session", ""), ("time order", "structural_")):
            ends = (row[f"{prefix}standardized{end}"] for end in ("", "_lower", "_upper"))
            assert f"{path}, {form}: {interval(*ends)}" in words
    for ax, (source, target) in zip(
        axes, (("alliance", "symptoms"), ("symptoms", "alliance")), strict=True
    ):
        mine = comparison[(comparison["source"] == source) & (comparison["target"] == target)]
        points = [line.get_xdata()[0] for line in ax.lines if line.get_marker() in ("o", "s")]
        both = [*mine["standardized"], *mine["structural_standardized"]]
        assert sorted(points) == pytest.approx(sorted(both))
    assert plot.model_forest(comparison)[0].get_ylim()[0] < axes[0].get_ylim()[0]
    with pytest.raises(SpecificationError, match="no effect to draw"):
        plot.model_forest(comparison.assign(standardized=np.nan, structural_standardized=np.nan))


def test_groups_and_other_lags_are_named_in_a_forest(comparison):
    groups = comparison.assign(group="arm=0", lag="7 days")
    both = pd.concat([comparison, groups], ignore_index=True)
    for axes in (plot.direction_forest(both), plot.model_forest(both)):
        words = plot.alt_text(axes)
        assert "RI-CLPM, arm=0, over 7 days, alliance → symptoms" in words
        assert words.count("; ") == 15
    lines = plot.model_forest(both, apart=["RI-CLPM"])[0].get_yticklabels()
    assert [label.get_text() for label in lines][4::2] == [
        "RI-CLPM, time order",
        "RI-CLPM, arm=0, over 7 days, time order",
    ]


def test_forest_of_nothing_is_refused(comparison):
    with pytest.raises(SpecificationError, match="no effect to draw"):
        plot.direction_forest(comparison.iloc[:0])
    with pytest.raises(SpecificationError, match="no effect to draw"):
        plot.direction_forest(comparison, process="alliance", outcome="nothing")


def test_impulse_response_is_that_of_the_fit(fit):
    frame = fit.impulse_response("alliance", 6)
    axes = plot.impulse_response(fit, "alliance", 6, response="symptoms")
    drawn = axes.lines[-1].get_ydata()
    np.testing.assert_allclose(drawn, frame["symptoms"]["estimate"], rtol=1e-12)
    assert len(drawn) == 7


def test_an_unknown_variable_is_refused_by_name(panel):
    with pytest.raises(SpecificationError, match=r"no variable 'mood'.*alliance, symptoms"):
        plot.spaghetti(panel, "mood")


def test_axes_of_others_have_no_words():
    with pytest.raises(SpecificationError, match="no alternative text"):
        plot.alt_text(Figure().add_subplot())


@pytest.mark.parametrize("name", ["$x_$", "a & b <c>", "α–β", "x" * 70, "100 %", r"\frac{1}"])
def test_any_variable_name_can_be_drawn(name):
    Y = np.random.default_rng(0).normal(size=(20, 5, 2))
    panel = _bare(Y, (name, "symptoms"))
    figure = Figure()
    for axes in (None, figure.add_subplot()):
        drawn = plot.spaghetti(panel, name, ax=axes)
        assert plot.svg(drawn)
        assert name in plot.alt_text(drawn)


def test_numbers_read_well():
    assert number(-0.114) == "−0.11"
    assert number(-0.001) == "0.00"
    assert number(float("nan")) == "–"
    assert number(12345.678, 1) == "12,345.7"
    assert interval(-0.114, -0.171, -0.056) == "−0.11 [−0.17, −0.06]"
    assert interval(0.02, 0.001, 0.04) == "0.020 [0.001, 0.040]"
    assert interval(-0.0102, -0.0138, -0.0066) == "−0.010 [−0.014, −0.007]"
    assert interval(0.0, 0.0, 0.0) == "0.00 [0.00, 0.00]"
    assert interval(0.2, float("nan"), float("nan")) == "0.20 [no interval]"


def _bare(Y: np.ndarray, variables: tuple[str, ...] = ("alliance", "symptoms")) -> ad.SessionPanel:
    """Return a panel of scores (clients, sessions, variables) and nothing else."""
    clients, sessions = np.indices(Y.shape[:2]).reshape(2, -1)
    scores = {f"score {j}": Y[:, :, j].ravel() for j in range(len(variables))}
    frame = pd.DataFrame({"client": clients, "session": sessions + 1, **scores})
    return ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=dict(zip(variables, scores, strict=True)),
        single_items=list(scores),
    )


def _unknown_timing(panel: ad.SessionPanel) -> ad.SessionPanel:
    frame = panel.frame.rename(columns={"alliance": "wai", "symptoms": "phq"})
    return ad.SessionPanel.from_frame(
        frame[["client", "session", "wai", "phq"]],
        client="client",
        session="session",
        variables={"wai": "wai", "phq": "phq"},
    )


def test_axes_of_ones_own_are_saved_too(tmp_path):
    axes = plot.panels(1, (3.0, 2.0))
    axes[0].plot([0.0, 1.0], [1.0, 0.0])
    assert plot.save(axes, tmp_path / "own.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("ax", [["a", "b"], np.eye(2), "a", [None, None]])
def test_two_clouds_need_two_axes(ax: object) -> None:
    parts = ad.decompose(ad.datasets.load("trial"))
    with pytest.raises(ad.SpecificationError, match=r"two Axes|ax is"):
        plot.between_within(parts, ax=ax)
