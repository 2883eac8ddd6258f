import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from crodino_lib.figures.animation import BETWEEN, STILL_MS, _Panel, film, film_strip

COLLAPSED = "collapsed: all vectors are equal"


def played(card, halves=("shared", "private"), epochs=(0, 2, 5), gone=()):
    """Two points per class and sensor; ``gone`` are the halves and epochs that collapsed."""
    generator = np.random.default_rng(0)
    points = pd.DataFrame(
        [
            (half, epoch, sensor, name, *generator.normal(size=2))
            for half in halves
            for epoch in epochs
            if (half, epoch) not in gone
            for sensor in ("rgb", "depth")
            for name in card.classes * 2
        ],
        columns=["half", "epoch", "sensor", "name", "x", "y"],
    )
    table = pd.DataFrame([(half, epoch) for half in halves for epoch in epochs], columns=["half", "epoch"])
    table[["points", "seed", "k", "says"]] = 16, 7, 5, ""
    table["trustworthiness"], table["cross_modality_hd"], table["cross_modality_2d"] = 0.93, 0.42, 0.31
    table["class_purity_hd"], table["class_purity_2d"] = 0.61, 0.72
    for half, epoch in gone:
        here = (table["half"] == half) & (table["epoch"] == epoch)
        table.loc[here, "points"], table.loc[here, "says"], table.loc[here, "trustworthiness"] = 0, COLLAPSED, np.nan
    return points, table


def words(figure):
    """All text that is drawn."""
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_visible()).replace("\n", " ")


def panel(card, half="shared", gone=()):
    points, table = played(card, gone=gone)
    return _Panel(Figure().subplots(), points, table, half, card), points[points["half"] == half]


def test_the_film_has_a_picture_for_every_step_and_rests_at_every_epoch(toy_card, tmp_path):
    path = film(*played(toy_card, ["shared"]), toy_card, tmp_path / "new" / "film.gif")
    with Image.open(path) as picture:
        assert picture.n_frames == 3 + 2 * BETWEEN
        assert picture.info["loop"] == 0
        durations = []
        for position in range(picture.n_frames):
            picture.seek(position)
            durations.append(picture.info["duration"])
    assert [i for i, duration in enumerate(durations) if duration >= STILL_MS] == [0, BETWEEN + 1, 2 * BETWEEN + 2]
    assert path.stat().st_size < 3e6
    assert [file.name for file in path.parent.iterdir()] == ["film.gif"]


def test_one_half_alone_makes_half_as_wide_a_film(toy_card, tmp_path):
    widths = []
    for halves in (("shared",), ("shared", "private")):
        path = film(*played(toy_card, halves, epochs=(0, 1)), toy_card, tmp_path / "film.gif")
        with Image.open(path) as picture:
            widths.append(picture.width)
    assert widths[1] == 2 * widths[0]


def test_a_point_keeps_its_class_on_its_way(toy_card):
    shown, points = panel(toy_card)
    colours = {name: np.array(colour) / 255 for name, colour in zip(toy_card.classes, toy_card.palette, strict=True)}
    for epoch in (0, 2, 5):
        shown.show(epoch, epoch, 0.0)
        here = points[points["epoch"] == epoch]
        for place, colour in zip(shown.dots.get_offsets(), shown.dots.get_facecolors(), strict=True):
            row = here.iloc[np.abs(here[["x", "y"]].to_numpy() - place).sum(axis=1).argmin()]
            np.testing.assert_allclose(place, row[["x", "y"]].astype(float))
            np.testing.assert_allclose(colour[:3], colours[row["name"]])


def test_points_are_half_way_between_two_epochs(toy_card):
    shown, _ = panel(toy_card)
    places = []
    for epoch, following, way in ((0, 0, 0.0), (2, 2, 0.0), (0, 2, 0.5)):
        shown.show(epoch, following, way)
        places.append(np.array(shown.dots.get_offsets()))
    np.testing.assert_allclose(places[2], (places[0] + places[1]) / 2)
    assert shown.ax.get_title() == "shared, epoch 0 → 2"


def test_numbers_are_told_at_an_epoch_and_not_on_the_way(toy_card):
    shown, _ = panel(toy_card)
    shown.show(0, 2, 0.0)
    assert shown.ax.get_title() == "shared, epoch 0"
    assert "other sensor 0.42 → 0.31" in words(shown.ax.figure)
    shown.show(0, 2, 0.3)
    assert "other sensor" not in words(shown.ax.figure)


def test_a_collapse_is_told_in_words_while_it_lasts(toy_card, tmp_path):
    shown, _ = panel(toy_card, "private", gone=[("private", 2)])
    for epoch, gone in ((0, False), (2, True), (5, False)):
        shown.show(epoch, epoch, 0.0)
        assert shown.dots.get_visible() != gone
        assert (COLLAPSED in words(shown.ax.figure)) == gone
    points, table = played(toy_card, ["private"], epochs=(0, 1), gone=[("private", 0)])
    assert film(points, table, toy_card, tmp_path / "film.gif").exists()


def test_the_strip_shows_every_epoch_of_every_half(toy_card):
    points, table = played(toy_card, epochs=range(7), gone=[("private", 6)])
    figure = film_strip(points, table, toy_card)
    drawn = [ax for ax in figure.axes if ax.collections]
    assert [ax.get_title() for ax in drawn[:7]] == [f"shared, epoch {epoch}" for epoch in range(7)]
    assert [ax.get_title() for ax in drawn[7:]] == [f"private, epoch {epoch}" for epoch in range(6)]
    for ax in drawn:
        half, _, epoch = ax.get_title().partition(", epoch ")
        here = points[(points["half"] == half) & (points["epoch"] == int(epoch))]
        assert sorted(map(tuple, ax.collections[0].get_offsets())) == sorted(map(tuple, here[["x", "y"]].to_numpy()))
    told = words(figure)
    for text in (COLLAPSED, "other sensor 0.42 → 0.31", "T 0.93", "seed 7", "5 nearest", "same 16 points"):
        assert text in told


@pytest.mark.parametrize("epochs", [2, 4, 7])
def test_the_strip_fits_a_page_and_nothing_is_cut_off(toy_card, epochs):
    figure = film_strip(*played(toy_card, epochs=range(epochs)), toy_card)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert width == pytest.approx(183 / 25.4)
    assert height < 247 / 25.4
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.02
