"""Figures of results: gains, null comparison, factor matrix, manifolds and the film."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from crodino_lib.figures.base import FLAG_COLOUR, class_colours
from crodino_lib.figures.charts import FAMILY_COLOURS, gains
from crodino_lib.figures.latents import NULL_MARKERS, factor_matrix, null_comparison
from crodino_lib.figures.manifolds import BETWEEN, STILL_MS, _MovingPanel, film, film_strip, manifold
from tests.figures.tables import COLLAPSED, embedded, filmed, gain_table, null_table, words

FACTORS = ["class", "modality", "room_width_m"]


def test_every_method_has_its_gain_and_interval_sorted_within_its_sensors():
    figure = gains(gain_table())
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "RGB at test", "CroDiNo-KD", "KD (from ACNet, RGB + depth)", "depth at test", "CroDiNo-KD",
        "RGB + depth at test", "ACNet",
    ]  # fmt: skip
    dots = {line.get_ydata()[0]: line for line in ax.lines if line.get_marker() != "None"}
    assert {y: dot.get_xdata()[0] for y, dot in dots.items()} == {1: 0.2, 2: -4.3, 4: 1.7, 6: 1.6}
    intervals = {line.get_ydata()[0]: tuple(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 1.2}
    assert intervals == {1: (-0.3, 0.8), 2: (-4.9, -3.6), 4: (0.9, 2.5), 6: (0.5, 2.9)}
    families = ("teacher-free", "distillation", "teacher-free", "fusion")
    assert [dots[y].get_color() for y in (1, 2, 4, 6)] == [FAMILY_COLOURS[name] for name in families]
    assert [dots[y].get_markerfacecolor() == "white" for y in (1, 2, 4, 6)] == [True, False, False, False]
    assert "Split test, 70 images, 1 seed." in words(figure)
    assert "not over other seeds" in words(figure)


def test_the_caption_names_what_intervals_of_several_seeds_cover():
    figure = gains(gain_table().query("method == 'acnet'").assign(**{"gain seeds": 3}))
    assert "3 seeds" in words(figure)
    assert "over paired seeds and test images" in words(figure)
    assert "From:" not in words(figure)


def test_a_table_without_gains_or_a_column_is_refused():
    with pytest.raises(ValueError, match="no gain over a baseline on split 'val'; it has splits test, test_night"):
        gains(gain_table(), split="val")
    with pytest.raises(ValueError, match="the table has no column gain low"):
        gains(gain_table().drop(columns="gain low"))


@pytest.fixture
def factors():
    """Skills of two sensors, a model and a null model; one of the model has no value, two are flagged."""
    generator = np.random.default_rng(0)
    columns = [("sensors", sensor, "") for sensor in ("rgb", "depth")]
    blocks = [(sensor, half) for sensor in ("rgb", "depth") for half in ("shared", "private")]
    columns += [(group, *block) for group in ("kd", "shuffled_channels") for block in blocks]
    rows = [(*column, target, generator.random()) for column in columns for target in FACTORS]
    table = pd.DataFrame(rows, columns=["group", "sensor", "half", "target", "skill"]).assign(flag=False)
    kd, cell = table["group"] == "kd", table["target"] + " " + table["sensor"] + " " + table["half"]
    table.loc[kd & (cell == f"{FACTORS[2]} rgb private"), "skill"] = np.nan
    table.loc[kd & cell.isin(["modality rgb private", "class depth private"]), "flag"] = True
    return table


def test_every_group_has_its_columns_and_sensors_and_framed_cells_their_numbers_on_one_scale(factors):
    figure = factor_matrix(factors, "One seed.")
    assert [ax.get_title() for ax in figure.axes] == ["sensors", "KD", "shuffled\nchannels"]
    for ax, (title, group) in zip(figure.axes, factors.groupby("group", sort=False), strict=True):
        shown = group if title == "sensors" else group[group.flag]
        skills = [shown.loc[shown["target"] == target, "skill"] for target in FACTORS]
        numbers = [f"{100 * value:.0f}" for value in pd.concat(skills).dropna()]
        assert [text.get_text() for text in ax.texts if text.get_text()] == numbers
        assert ax.collections[0].get_clim() == (0, 1)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["class", "modality", "room width (m)"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()][:2] == ["RGB shared", "RGB private"]


def test_flagged_cells_have_a_frame_and_no_others(factors):
    frames = [
        {(int(p.get_y()), int(p.get_x())) for p in ax.patches if isinstance(p, Rectangle) and not p.get_fill()}
        for ax in factor_matrix(factors, "One seed.").axes
    ]
    assert frames == [set(), {(1, 1), (0, 3)}, set()]


def ticks(ax, colour):
    """Return (x, y) of every model's value in this colour."""
    (line,) = (line for line in ax.lines if line.get_marker() == "|" and line.get_color() == colour)
    return {(x, y) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}


def test_a_panel_per_metric_shows_models_null_models_and_their_range():
    again = null_table().query("variant == 'kd'").assign(value=0.2, flag="below")  # another seed
    figure = null_comparison(pd.concat([null_table(), again]), "One seed.")
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == ["CKA shared", "sensor", "class", "rank", "swap"]
    assert [label.get_text() for label in shown[0].get_yticklabels()] == ["KD", "crodino"]
    assert [ticks(ax, FLAG_COLOUR) for ax in shown[:2]] == [{(0.9, 0), (0.2, 0)}, {(0.9, 1), (0.2, 0)}]
    assert [ticks(ax, "0.1") for ax in shown[:2]] == [{(0.5, 1)}, {(0.5, 0)}]
    ranges = [segment.tolist() for segment in shown[0].collections[0].get_segments()]
    assert ranges[:2] == [[[0.3, 0], [0.6, 0]], [[0.3, 1], [0.6, 1]]]
    for marker, value in zip(NULL_MARKERS.values(), (0.3, 0.6, 0.4, np.nan), strict=True):
        (line,) = (line for line in shown[0].lines if line.get_marker() == marker)
        np.testing.assert_array_equal(line.get_xdata(), [value] * 3)
    assert len(figure.legends[0].get_texts()) == len(NULL_MARKERS) + 2


def test_small_differences_between_models_look_small():
    table = null_table().assign(value=0.999, low=0.998, high=1.0).assign(**dict.fromkeys(NULL_MARKERS, 0.999))
    left, right = null_comparison(table, "One seed.").axes[0].get_xlim()
    assert right - left == pytest.approx(0.05)


def test_a_manifold_shows_every_point_in_the_colours_of_classes_with_its_fidelity(toy_card):
    points, table = embedded(toy_card)
    table.loc[0, "misleads"] = True
    figure = manifold(points, table, toy_card)
    titles = ["CroDiNo-KD, shared", "CroDiNo-KD, private", "untrained, shared", "untrained, private"]
    assert [ax.get_title() for ax in figure.axes] == titles
    for ax in figure.axes:
        assert len(ax.collections[0].get_offsets()) == 16
        drawn = {tuple(np.round(255 * colour[:3]).astype(int)) for colour in ax.collections[0].get_facecolors()}
        assert drawn == set(toy_card.palette)
    text = words(figure)
    assert text.count("T 0.93") == 4
    assert text.count("(misleads)") == 1
    for number in ("own class 0.61 → 0.72", "other sensor 0.42 → 0.31", "of 5 seeds; 16 points", "5 nearest"):
        assert number in text


def test_the_second_opinion_shows_its_own_points_and_an_unknown_one_is_refused(toy_card):
    points, table = embedded(toy_card)
    points.loc[points["embedding"] == "PCA", "x"] += 100
    figure = manifold(points, table, toy_card, embedding="PCA")
    assert all((ax.collections[0].get_offsets()[:, 0] > 50).all() for ax in figure.axes)
    assert "median" not in words(figure)
    with pytest.raises(ValueError, match="tsne"):
        manifold(points, table, toy_card, embedding="tsne")


def test_words_stand_in_place_of_a_collapsed_block(toy_card):
    points, table = embedded(toy_card)
    gone = (table["model"] == "crodino-kd") & (table["half"] == "private")
    table.loc[gone, ["points", "remark"]] = 0, COLLAPSED
    figure = manifold(points[(points["model"] != "crodino-kd") | (points["half"] != "private")], table, toy_card)
    assert [len(ax.collections) for ax in figure.axes] == [1, 0, 1, 1]
    assert COLLAPSED in words(figure)


def test_the_strip_shows_every_epoch_of_every_half_in_one_window(toy_card):
    points, table = filmed(toy_card, epochs=range(7), gone=[("private", 6)])
    figure = film_strip(points, table, toy_card)
    drawn = [ax for ax in figure.axes if ax.collections]
    assert [ax.get_title() for ax in drawn[:7]] == [f"shared, epoch {epoch}" for epoch in range(7)]
    assert [ax.get_title() for ax in drawn[7:]] == [f"private, epoch {epoch}" for epoch in range(6)]
    assert len({ax.get_xlim() for ax in drawn[:7]}) == 1
    assert COLLAPSED in words(figure)


def test_the_film_has_an_image_for_every_step_and_rests_at_every_epoch(toy_card, tmp_path):
    path = film(*filmed(toy_card, ["shared"]), toy_card, tmp_path / "new" / "film.gif")
    with Image.open(path) as image:
        assert image.n_frames == 3 + 2 * BETWEEN
        assert image.info["loop"] == 0
        durations = []
        for position in range(image.n_frames):
            image.seek(position)
            durations.append(image.info["duration"])
    assert [i for i, duration in enumerate(durations) if duration >= STILL_MS] == [0, BETWEEN + 1, 2 * BETWEEN + 2]
    assert [file.name for file in path.parent.iterdir()] == ["film.gif"]


def test_points_keep_their_colour_and_are_half_way_between_two_epochs(toy_card):
    points, table = filmed(toy_card, gone=[("private", 2)])
    moving = _MovingPanel(Figure().subplots(), points, table, "shared", toy_card)
    here, colours, places = points[points["half"] == "shared"], class_colours(toy_card), []
    for epoch in (0, 2):
        moving.show(epoch, epoch, 0.0)
        places.append(np.array(moving.dots.get_offsets()))
        frame = here[here["epoch"] == epoch].set_index(["x", "y"])["name"]
        for place, colour in zip(places[-1], moving.dots.get_facecolors(), strict=True):
            np.testing.assert_allclose(colour[:3], colours[frame[tuple(place)]])
    assert moving.ax.get_xlabel().endswith("other sensor 0.42 → 0.31")
    moving.show(0, 2, 0.5)
    np.testing.assert_allclose(moving.dots.get_offsets(), (places[0] + places[1]) / 2)
    assert moving.ax.get_title() == "shared, epoch 0 → 2"
    assert not moving.ax.get_xlabel().strip()
    moving = _MovingPanel(Figure().subplots(), points, table, "private", toy_card)
    moving.show(2, 2, 0.0)
    assert not moving.dots.get_visible()
    assert COLLAPSED in words(moving.ax.figure)
