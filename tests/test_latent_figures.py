import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from crodino_lib.figures.base import save
from crodino_lib.figures.latents import CALLED_COLOUR, NULL_MARKERS, beside_nulls, factor_matrix

BLOCKS = ["rgb/shared", "rgb/private", "depth/shared", "depth/private"]
FACTORS = ["class", "modality", "width", "hue", "holes"]
MM = 1 / 25.4


@pytest.fixture
def groups():
    generator = np.random.default_rng(0)
    sensors = pd.DataFrame(generator.random((5, 2)), FACTORS, ["rgb", "depth"])
    models = [pd.DataFrame(generator.random((5, 4)), FACTORS, BLOCKS) for _ in range(2)]
    models[0].iloc[2, 1] = np.nan
    return {"sensors": sensors, "kd seed 0": models[0], "N1 untrained": models[1]}


def frames(ax):
    """(row, column) of every framed cell."""
    patches = [patch for patch in ax.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
    return {(int(patch.get_y()), int(patch.get_x())) for patch in patches}


def test_every_group_has_its_columns_and_every_cell_its_number(groups):
    figure = factor_matrix(groups, {}, "caption")
    assert [ax.get_title() for ax in figure.axes] == ["sensors", "kd\nseed 0", "N1\nuntrained"]
    for ax, group in zip(figure.axes, groups.values(), strict=True):
        written = [text.get_text() for text in ax.texts]
        told = [f"{100 * value:.0f}" for value in group.to_numpy().ravel() if not np.isnan(value)]
        assert [text for text in written if text] == told
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == FACTORS
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["rgb", "depth"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["s rgb", "p rgb", "s depth", "p depth"]


def test_cells_are_coloured_on_one_scale_from_nothing_to_perfect(groups):
    for ax in factor_matrix(groups, {}, "caption").axes:
        assert ax.collections[0].get_clim() == (0, 1)


def test_cells_that_are_called_have_a_frame_and_no_others(groups):
    called = pd.DataFrame(False, FACTORS, BLOCKS)
    called.loc["modality", "rgb/private"] = called.loc["holes", "depth/private"] = True
    figure = factor_matrix(groups, {"kd seed 0": called}, "caption")
    assert [frames(ax) for ax in figure.axes] == [set(), {(1, 1), (4, 3)}, set()]


def test_groups_with_other_rows_are_refused(groups):
    groups["N1 untrained"] = groups["N1 untrained"].iloc[::-1]
    with pytest.raises(ValueError, match="the rows of N1 untrained differ from those of sensors"):
        factor_matrix(groups, {}, "caption")


def test_a_single_group_and_a_single_factor_can_be_drawn(groups):
    figure = factor_matrix({"kd": groups["kd seed 0"].iloc[:1]}, {}, "caption")
    assert len(figure.axes) == 1


@pytest.fixture
def table():
    """Two models and five quantities: the first model's values are above, within, below and nowhere."""
    records = []
    for model, values in {"kd": (0.9, 0.5, 0.1, np.nan, 0.4), "crodino": (0.5, 0.9, 0.5, 0.5, 0.5)}.items():
        for quantity, value in zip(("cka", "modality", "class", "rank", "swap"), values, strict=True):
            nulls = dict(zip(NULL_MARKERS, (0.3, 0.6, 0.4, np.nan), strict=True))
            told = "above" if value > 0.6 else "below" if value < 0.3 else "within"
            row = {
                "model": f"{model} seed 0",
                "row": model,
                "quantity": quantity,
                "value": value,
                "low": 0.3,
                "high": 0.6,
            }
            records.append(row | nulls | {"called": "" if np.isnan(value) else told})
    return pd.DataFrame(records)


def bars(ax):
    """(x, y, colour) of every model's value."""
    return [
        (line.get_xdata()[0], line.get_ydata()[0], to_hex(line.get_color()).upper())
        for line in ax.lines
        if line.get_marker() == "|" and len(line.get_xdata())
    ]


def test_a_panel_per_quantity_has_a_line_per_model_with_its_range(table):
    figure = beside_nulls(table, "caption")
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == ["cka", "modality", "class", "rank", "swap"]
    assert [label.get_text() for label in shown[0].get_yticklabels()] == ["kd", "crodino"]
    for ax in shown:
        assert ax.get_ylim() == (1.5, -0.5)
        ranges = [(*line.get_xdata(), *line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 2]
        assert ranges == [(0.3, 0.6, 0, 0), (0.3, 0.6, 1, 1)]


def test_values_outside_the_nulls_are_coloured_and_others_are_black(table):
    cka, modality, classes, rank, _ = [ax for ax in beside_nulls(table, "caption").axes if ax.get_visible()]
    inside = to_hex("0.1").upper()
    assert bars(cka) == [(0.9, 0, CALLED_COLOUR), (0.5, 1, inside)]
    assert bars(modality) == [(0.5, 0, inside), (0.9, 1, CALLED_COLOUR)]
    assert bars(classes) == [(0.1, 0, CALLED_COLOUR), (0.5, 1, inside)]
    assert np.isnan(bars(rank)[0][0])
    assert bars(rank)[1] == (0.5, 1, inside)


def test_every_null_has_its_marker_and_is_in_the_legend(table):
    figure = beside_nulls(table, "caption")
    ax = next(ax for ax in figure.axes if ax.get_title() == "modality")  # has no handles of the legend
    for null, value in zip(NULL_MARKERS, (0.3, 0.6, 0.4, np.nan), strict=True):
        drawn = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == NULL_MARKERS[null]]
        np.testing.assert_array_equal(drawn, [value, value])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *NULL_MARKERS,
        "model, outside the nulls' range",
        "model, inside",
    ]


def test_a_model_without_a_quantity_leaves_its_line_empty(table):
    figure = beside_nulls(table[(table["row"] == "kd") | (table["quantity"] != "cka")], "caption")
    (kd,) = bars(next(ax for ax in figure.axes if ax.get_title() == "cka"))
    assert kd[:2] == (0.9, 0)


def test_seeds_of_a_row_share_its_line(table):
    again = table[table["row"] == "kd"].assign(model="kd seed 1", value=0.2, called="below")
    figure = beside_nulls(pd.concat([table, again]), "caption")
    cka = next(ax for ax in figure.axes if ax.get_title() == "cka")
    assert [(x, y) for x, y, _ in bars(cka)] == [(0.9, 0), (0.5, 1), (0.2, 0)]
    assert [label.get_text() for label in cka.get_yticklabels()] == ["kd", "crodino"]


def test_figures_have_two_columns_and_leave_the_style_as_it_was(groups, table, tmp_path):
    before = dict(mpl.rcParams)
    figures = [factor_matrix(groups, {}, "says"), beside_nulls(table, "says")]
    for figure in figures:
        assert figure.get_size_inches()[0] == pytest.approx(183 * MM)
        assert figure.get_supxlabel() == "says"
    for file in save(figures[0], tmp_path, "matrix", table):
        assert file.stat().st_size > 0
    assert dict(mpl.rcParams) == before
