import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from crodino_lib import figures
from crodino_lib.augment import AugmentConfig, augment
from crodino_lib.data.sample import Scenes

MM = 1 / 25.4


@pytest.fixture
def scores():
    generator = np.random.default_rng(0)
    rows = [
        (m, s, seed, 100 * generator.random())
        for m in ("baseline", "kd")
        for s in ("rgb", "depth")
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["method", "sensors", "seed", "miou"])


def class_scores(card):
    rows = [("kd", s, c, seed, 50 + 10 * seed) for s in ("rgb", "depth") for c in card.classes for seed in (0, 2)]
    return pd.DataFrame(rows, columns=["method", "sensors", "class", "seed", "iou"])


def manifolds(card):
    generator = np.random.default_rng(0)
    points = pd.DataFrame(
        [
            (model, half, embedding, sensor, name, *generator.normal(size=2))
            for model in ("trained", "untrained")
            for half in ("shared", "private")
            for embedding in ("UMAP", "PCA")
            for sensor in ("rgb", "depth")
            for name in card.classes
        ],
        columns=["model", "half", "embedding", "sensor", "name", "x", "y"],
    )
    table = points[["model", "half", "embedding"]].drop_duplicates(ignore_index=True)
    table[["points", "k", "seeds", "rnx_auc", "says", "misleads"]] = 8, 3, 5, 0.44, "", False
    table["seed"] = pd.array([7, None] * 4, dtype="Int64")
    table["trustworthiness"], table["continuity"] = 0.91, 0.82
    table["cross_modality_hd"], table["cross_modality_2d"] = 0.48, 0.37
    table["class_purity_hd"], table["class_purity_2d"] = 0.61, 0.72
    return points, table


def stages():
    places = [("csk-net", "before exchange"), ("csk-net", "after exchange"), ("two baselines", "alone")]
    rows = [(n, p, stage, 0.1 * stage, 1 - 0.1 * stage, 90) for n, p in places for stage in range(5)]
    return pd.DataFrame(rows, columns=["network", "place", "stage", "cka", "probe", "regions"])


def history():
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "learning_rate": 1e-3,
            "segmentation/rgb": [2.0, 1.0, 0.5],
            "contrast": [0.2, 0.1, 0.1],
            "val_miou/rgb": [0.1, 0.2, 0.3],
            "seconds": [1.0, 2.0, 3.0],
        }
    )


def words(figure):
    """All text that is drawn."""
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_visible()).replace("\n", " ")


@pytest.fixture(params=["scenes", "predictions", "augmentation", "shares", "curves", "iou", "comparison", "manifold",
                        "confusion", "factors", "maps"])  # fmt: skip
def figure(request, toy_scenes, toy_card, scores):
    """Every figure of the study."""
    names, generator = list(toy_card.classes), torch.Generator().manual_seed(0)
    return {
        "scenes": lambda: figures.scene_sheet(toy_scenes, toy_card, [0, 5]),
        "predictions": lambda: figures.prediction_sheet(toy_scenes, toy_card, [0], {"kd": toy_scenes.labels[:1]}),
        "augmentation": lambda: figures.augmentation_sheet(
            augment(
                toy_scenes,
                [0, 1],
                toy_card,
                ("rgb", "depth"),
                "decoupled",
                generator,
                torch.device("cpu"),
                AugmentConfig(),
            ),
            toy_card,
        ),
        "shares": lambda: figures.class_shares(
            figures.class_share_table({"train": toy_scenes, "test": toy_scenes}, toy_card), toy_card
        ),
        "curves": lambda: figures.training_curves({"kd, seed 0": history()}),
        "iou": lambda: figures.per_class_iou(class_scores(toy_card), toy_card),
        "comparison": lambda: figures.comparison(scores),
        "stage_alignment": lambda: figures.stage_alignment(stages()),
        "manifold": lambda: figures.manifold(*manifolds(toy_card), toy_card),
        "confusion": lambda: figures.confusion(np.eye(4, dtype=int), names, "kd, rgb, test"),
        "factors": lambda: figures.factor_table(pd.DataFrame({"light": [0.9, 0.1]}, ["rgb", "depth"]), "n = 8"),
        "maps": lambda: figures.map_sheet({f"token {i}": np.eye(6, 8) for i in range(8)}, "mask", "One scene."),
    }[request.param]()


def test_every_figure_is_two_columns_wide_and_fits_a_page(figure):
    width, height = figure.get_size_inches()
    assert width == pytest.approx(183 * MM)
    assert height < 247 * MM


def test_nothing_is_cut_off(figure):
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    slack = 0.5 * MM
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -slack


def test_a_notebook_can_show_every_figure(figure):
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_figure_is_saved_in_three_formats_with_the_numbers_behind_it(scores, tmp_path):
    paths = figures.save(figures.comparison(scores), tmp_path / "new", "comparison", scores)
    assert [path.name for path in paths] == [f"comparison.{kind}" for kind in ("pdf", "svg", "png", "csv")]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)
    beginnings = [path.read_bytes()[:4] for path in paths[:3]]
    assert beginnings == [b"%PDF", b"<?xm", b"\x89PNG"]
    pd.testing.assert_frame_equal(pd.read_csv(paths[-1]), scores)


def test_an_index_with_a_meaning_is_saved_too(tmp_path):
    table = pd.DataFrame({"light": [0.9, 0.1]}, index=["rgb", "depth"])
    *_, path = figures.save(figures.factor_table(table, "n = 8"), tmp_path, "factors", table)
    pd.testing.assert_frame_equal(pd.read_csv(path, index_col=0), table)


def test_the_same_figure_saves_the_same_bytes(scores, tmp_path):
    for name in ("a", "b"):
        figures.save(figures.comparison(scores), tmp_path / name, "comparison", scores)
    for kind in ("pdf", "svg", "png", "csv"):
        assert (tmp_path / "a" / f"comparison.{kind}").read_bytes() == (
            tmp_path / "b" / f"comparison.{kind}"
        ).read_bytes()


def test_a_failed_save_leaves_the_old_figure(scores, tmp_path, monkeypatch):
    figures.save(figures.comparison(scores), tmp_path, "comparison", scores)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    figure = figures.comparison(scores.tail(3))
    monkeypatch.setattr(figure, "savefig", lambda path, **_: (path.write_bytes(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        figures.save(figure, tmp_path, "comparison", scores)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_sensor_has_one_colour_wherever_it_stands():
    known = figures.modality_styles(["depth", "rgb"])
    assert known["rgb"][0] == figures.MODALITY_COLOURS["rgb"]
    mixed = figures.modality_styles(["rgb+depth", "rgb", "sonar", "depth"])
    assert {s: mixed[s] for s in known} == known
    assert len(set(mixed.values())) == 4
    with pytest.raises(ValueError, match="at most 4 sensors have no colour of their own"):
        figures.modality_styles("abcde")


def test_sensors_are_drawn_in_their_units_and_holes_are_grey(toy_scenes, toy_card):
    figure = figures.scene_sheet(toy_scenes, toy_card, [3])
    assert "depth (metres)" in words(figure)
    assert "thermal (degrees C)" in words(figure)
    shown = next(ax for ax in figure.axes if ax.get_title() == "depth").images[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), ~toy_scenes.valid["depth"][3, 0])
    np.testing.assert_allclose(shown.compressed(), toy_scenes.images["depth"][3, 0][toy_scenes.valid["depth"][3, 0]])


def test_labels_are_drawn_in_the_palette_of_the_dataset(toy_scenes, toy_card):
    figure = figures.scene_sheet(toy_scenes, toy_card, [3])
    shown = next(ax for ax in figure.axes if ax.get_title() == "label").images[0].get_array()
    labels = toy_scenes.labels[3]
    for index, colour in enumerate(toy_card.palette):
        np.testing.assert_allclose(shown[labels == index], np.broadcast_to(colour, ((labels == index).sum(), 3)) / 255)


def test_a_sensor_that_saw_nothing_is_drawn_all_the_same(toy_scenes, toy_card):
    blind = {**toy_scenes.valid, "depth": np.zeros_like(toy_scenes.valid["depth"])}
    scenes = Scenes(toy_scenes.images, blind, toy_scenes.labels, toy_scenes.ids)
    assert "depth (metres)" in words(figures.scene_sheet(scenes, toy_card, [0]))


def test_predictions_of_other_scenes_are_refused(toy_scenes, toy_card):
    with pytest.raises(ValueError, match=r"'kd' is \(16, 48, 64\), expected 2 pictures of 48 x 64 pixels"):
        figures.prediction_sheet(toy_scenes, toy_card, [0, 1], {"kd": toy_scenes.labels})


def test_augmented_pictures_are_shown_in_the_units_of_the_sensor(toy_scenes, toy_card):
    still = AugmentConfig(
        scale_min=1,
        scale_max=1,
        flip=0,
        rgb_jitter=0,
        rgb_hue=0,
        blur_sigma=0,
        depth_gain=0,
        depth_noise=0,
        depth_holes=0,
    )
    batch = augment(
        toy_scenes,
        [2],
        toy_card,
        ("rgb", "depth"),
        "paired",
        torch.Generator().manual_seed(0),
        torch.device("cpu"),
        still,
    )
    figure = figures.augmentation_sheet(batch, toy_card)
    shown = next(ax for ax in figure.axes if ax.get_title() == "depth").images[0].get_array()
    valid = toy_scenes.valid["depth"][2, 0]
    np.testing.assert_allclose(shown[valid], toy_scenes.images["depth"][2, 0][valid], atol=0.01)


def test_shares_are_of_labelled_pixels_and_sum_to_a_hundred(toy_scenes, toy_card):
    table = figures.class_share_table({"train": toy_scenes}, toy_card)
    labelled = toy_scenes.labels[toy_scenes.labels != 255]
    assert table["percent"].sum() == pytest.approx(100)
    assert table["percent"].tolist() == pytest.approx([100 * (labelled == k).mean() for k in range(4)])


def test_curves_show_losses_on_the_left_and_scores_in_percent_on_the_right():
    losses, scores = figures.training_curves({"kd": history()}).axes
    assert {line.get_label() for line in losses.lines} == {"segmentation/rgb", "contrast"}
    assert losses.get_yscale() == "log"
    np.testing.assert_allclose(scores.lines[0].get_ydata(), [10, 20, 30])


def test_a_loss_that_reaches_zero_is_not_drawn_on_a_logarithm():
    table = history().assign(contrast=[0.0, 0.1, 0.1])
    assert figures.training_curves({"kd": table}).axes[0].get_yscale() == "linear"


def test_what_is_no_loss_is_not_drawn_as_one():
    table = history().assign(**{"gradient/contrast": [np.nan, 0.5, np.nan], "exchanged/rgb/stage 0 block 0": 0.2})
    losses, _ = figures.training_curves({"kd": table}).axes
    assert {line.get_label() for line in losses.lines} == {"segmentation/rgb", "contrast"}


def test_maps_share_their_colours_and_a_mark_stands_in_its_cell():
    maps = {"fine": np.arange(48.0).reshape(6, 8), "coarse": np.full((3, 4), 99.0)}
    figure = figures.map_sheet(maps, "similarity", "One scene.", {"coarse": (2, 0)})
    fine, coarse = (next(ax for ax in figure.axes if ax.get_title() == title) for title in maps)
    assert {ax.images[0].get_clim() for ax in (fine, coarse)} == {(0, 99)}
    assert (coarse.lines[0].get_xdata().item(), coarse.lines[0].get_ydata().item()) == (1, 5)  # of the fine grid
    assert not fine.lines
    assert "similarity" in words(figure)


def test_the_interval_of_the_comparison_is_student_s():
    table = pd.DataFrame({"method": "kd", "sensors": "rgb", "seed": [0, 1, 2], "miou": [40.0, 50.0, 60.0]})
    (ax,) = figures.comparison(table).axes
    (left, _), (right, _) = ax.collections[0].get_segments()[0]
    assert (left, right) == pytest.approx((50 - 4.302653 * 10 / 3**0.5, 50 + 4.302653 * 10 / 3**0.5))
    assert "3 seeds (0, 1, 2)" in words(ax.figure)


def test_one_seed_has_no_interval(scores):
    figure = figures.comparison(scores[scores["seed"] == 0])
    assert not any(ax.collections for ax in figure.axes)
    assert "1 seed (0)" in words(figure)


def test_bars_are_means_over_seeds(toy_card):
    figure = figures.per_class_iou(class_scores(toy_card), toy_card)
    heights = [bar.get_height() for bar in figure.axes[0].patches if bar.get_width() and bar.get_height()]
    assert heights == pytest.approx([60] * 4)


def test_a_manifold_is_told_with_its_fidelity_and_its_seed(toy_card):
    told = words(figures.manifold(*manifolds(toy_card), toy_card))
    for number in ("T(3) 0.91", "C(3) 0.82", "R 0.44", "0.48 → 0.37", "0.61 → 0.72", "n = 8", "seed 7", "3 nearest"):
        assert number in told
    assert "median trustworthiness of 5 seeds" in told
    assert "(misleads)" not in told


def test_a_manifold_that_misleads_says_so(toy_card):
    points, table = manifolds(toy_card)
    table["misleads"] = True
    assert words(figures.manifold(points, table, toy_card)).count("(misleads)") == 4


def test_the_second_opinion_has_no_seed_and_its_own_points(toy_card):
    points, table = manifolds(toy_card)
    points.loc[points["embedding"] == "PCA", "x"] += 100
    figure = figures.manifold(points, table, toy_card, embedding="PCA")
    assert "seed" not in words(figure)
    assert all((ax.collections[0].get_offsets()[:, 0] > 50).all() for ax in figure.axes)


def test_an_embedding_that_was_not_fitted_is_refused(toy_card):
    with pytest.raises(ValueError, match="embedding 'tsne' is not in the table; it has UMAP, PCA"):
        figures.manifold(*manifolds(toy_card), toy_card, embedding="tsne")


def test_a_collapsed_half_is_told_in_words_where_its_points_would_be(toy_card):
    points, table = manifolds(toy_card)
    gone = (table["model"] == "trained") & (table["half"] == "private")
    table.loc[gone, "points"], table.loc[gone, "says"] = 0, "collapsed: all vectors are equal"
    table.loc[gone, ["k", "seed", "trustworthiness"]] = np.nan
    figure = figures.manifold(points[(points["model"] != "trained") | (points["half"] != "private")], table, toy_card)
    assert [len(ax.collections) for ax in figure.axes] == [1, 0, 1, 1]
    assert "collapsed: all vectors are equal" in words(figure)


def test_a_manifold_has_the_colours_of_classes_and_every_point(toy_card):
    points, table = manifolds(toy_card)
    figure = figures.manifold(points, table, toy_card)
    for ax in figure.axes:
        assert len(ax.collections[0].get_offsets()) == 8
        drawn = {tuple(np.round(255 * colour[:3]).astype(int)) for colour in ax.collections[0].get_facecolors()}
        assert drawn == set(toy_card.palette)


def test_confusion_is_in_percent_of_the_truth_and_summed_over_images():
    per_image = np.array([[[3, 0], [1, 1]], [[0, 1], [0, 0]]])
    figure = figures.confusion(per_image, ["a", "b"], "kd")
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25", "50", "50"]
    assert "6 pixels" in words(figure)


def test_a_class_that_does_not_occur_has_no_percentages():
    figure = figures.confusion(np.array([[2, 0], [0, 0]]), ["a", "b"], "kd")
    assert [text.get_text() for text in figure.axes[0].texts] == ["100", "0"]


def test_a_table_without_a_column_is_refused(scores):
    with pytest.raises(ValueError, match="the table has no column miou; it has method, sensors, seed"):
        figures.comparison(scores.drop(columns="miou"))


def test_drawing_opens_no_window_and_leaves_settings_alone(scores):
    before = dict(mpl.rcParams)
    figures.comparison(scores)
    assert dict(mpl.rcParams) == before
    assert not plt.get_fignums()


def test_a_prediction_titled_as_a_sensor_is_refused_or_it_would_replace_the_picture(toy_scenes, toy_card):
    with pytest.raises(ValueError, match="cannot be titled rgb"):
        figures.prediction_sheet(toy_scenes, toy_card, [0], {"rgb": toy_scenes.labels[:1]})
