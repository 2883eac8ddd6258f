"""Every figure is drawn at its printed size and can be saved; a few show what they are given."""

from itertools import product

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist

from crodino_lib.analysis.gain_correlations import SCORES
from crodino_lib.analysis.robustness import Confidence
from crodino_lib.augment import plain
from crodino_lib.data.folder_spec import read_spec
from crodino_lib.data.sample import Scenes
from crodino_lib.figures import charts, image_grids
from crodino_lib.figures.base import (
    FLAG_COLOUR,
    MISSING_COLOUR,
    SENSOR_COLOURS,
    WIDTHS_MM,
    StudyFigure,
    printed,
    save,
    sensor_styles,
)
from crodino_lib.figures.charts import gains
from crodino_lib.figures.costs import cost_and_accuracy
from crodino_lib.figures.latents import correlation_figure, factor_matrix, null_comparison
from crodino_lib.figures.manifolds import film_strip, manifold, one_or_two
from crodino_lib.figures.robustness import fault_curves, reliability
from crodino_lib.rooms.scene import SPEC
from tests.figures.tables import embedded, filmed, gain_table, null_table, words

CPU = torch.device("cpu")


def class_scores(card):
    keys = product(("baseline", "kd"), ("rgb", "depth"), card.classes, (0, 2))
    rows = [(m, s, c, seed, 50 + 10 * seed + (m == "kd")) for m, s, c, seed in keys]
    return pd.DataFrame(rows, columns=["method", "sensors", "class", "seed", "iou"])


def stages():
    places = [("csk-net", "before exchange"), ("csk-net", "after exchange"), ("two baselines", "alone")]
    rows = [(n, p, stage, 0.1 * stage, 1 - 0.1 * stage, 90) for n, p in places for stage in range(5)]
    return pd.DataFrame(rows, columns=["network", "place", "stage", "cka", "probe", "regions"])


def history(**columns):
    losses = {"segmentation/rgb": [2.0, 1.0, 0.5], "contrast": [0.2, 0.1, 0.1], "val_miou/rgb": [0.1, 0.2, 0.3]}
    return pd.DataFrame({"epoch": [1, 2, 3], "learning_rate": 1e-3, **losses, "seconds": 1.0, **columns})


def panel(figure, title):
    return next(ax for ax in figure.axes if ax.get_title() == title)


def test_every_figure_has_its_printed_width_fits_a_page_and_nothing_is_cut_off(toy_scenes, toy_card):
    settings = dict(mpl.rcParams)
    shares = charts.class_share_table({"train": toy_scenes, "test": toy_scenes}, toy_card)
    cells = [
        ("rgb", "room_width_m", 0.9),
        ("rgb", "night", 0.1),
        ("depth", "room_width_m", 0.2),
        ("depth", "night", 0.8),
    ]
    factors = pd.DataFrame(cells, columns=["sensor", "target", "skill"]).assign(group="sensors", half="", flag=False)
    scores, points = class_scores(toy_card), embedded(toy_card)
    both = {  # figures that are drawn at either width
        "shares": lambda width: charts.class_shares(shares, toy_card, width),
        "curves": lambda width: charts.training_curves({"kd, seed 0": history()}, width),
        "iou": lambda width: charts.per_class_iou(scores[scores.method == "baseline"], toy_card, width),
        "differences": lambda width: charts.class_differences(scores, width),
        "confusion": lambda width: charts.confusion(np.eye(4, dtype=int), toy_card.classes, "kd, rgb, test", width),
        "stages": lambda width: charts.stage_alignment(stages(), width),
        "gains": lambda width: gains(gain_table(), width=width),
        "costs": lambda width: cost_and_accuracy(costs(), width=width),
        "faults": lambda width: fault_curves(faults(), "rgb", width),
        "reliability": lambda width: reliability({"rgb": sure(0.9), "rgb + depth, zeros": sure(0.5)}, width),
        "nulls": lambda width: null_comparison(null_table(), "One seed.", width),
        "factors": lambda width: factor_matrix(factors, "One seed.", width),
        "correlations": lambda width: correlation_figure({"all": correlated(), "within": correlated()}, "90.", width),
    }
    drawn = {(width, name): draw(width) for width in WIDTHS_MM for name, draw in both.items()}
    sheet = image_grids.prediction_sheet(toy_scenes, toy_card, [0, 5], {"kd": toy_scenes.labels[:2]})
    drawn["page", "predictions"] = sheet
    drawn["page", "maps"] = image_grids.map_sheet({f"token {i}": np.eye(6, 8) for i in range(8)}, "mask", "One scene.")
    drawn["page", "film"] = film_strip(*filmed(toy_card, epochs=range(7)), toy_card)
    drawn["column", "manifold"] = manifold(*points, toy_card)
    drawn["column", "one or two"] = one_or_two(*points, "crodino-kd", "untrained")
    for (printed_as, name), figure in drawn.items():
        figure.draw_without_rendering()
        (width, height), box = figure.get_size_inches(), figure.get_tightbbox()
        assert width * 25.4 == pytest.approx(WIDTHS_MM[printed_as]), name
        assert height * 25.4 < 247, name
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.02, (printed_as, name)
        sizes = {text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_text().strip()}
        assert min(sizes) >= 6, (printed_as, name)
        assert max(sizes) <= 9, (printed_as, name)
    assert dict(mpl.rcParams) == settings
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="width"):
        gains(gain_table(), width="poster")


def correlated():
    """Return correlations of every score, of which the first alone predicts, and of one null model."""
    rows = [(name, 0.8 if not i else 0.0, i == 0) for i, name in enumerate(SCORES)]
    table = pd.DataFrame(rows, columns=["score", "rho", "predicts"])
    table = table.assign(low=table.rho - 0.1, high=table.rho + 0.1, chance=0.3, models=90)
    return {"value": table, "shuffled_channels": table.assign(rho=-0.2)[5:]}


def test_correlations_stand_beside_chance_and_null_models():
    (ax,) = correlation_figure({"all models": correlated()}, "Ninety models.").axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [score.title for score in SCORES.values()]
    band = ax.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.3, 0.3))
    marks = {line.get_label(): list(line.get_xdata()) for line in ax.lines if not line.get_label().startswith("_")}
    assert marks == {"trained": [0.8] + [0.0] * (len(SCORES) - 1), "shuffled channels": [-0.2] * (len(SCORES) - 5)}
    (lines,) = ax.collections
    colours = [mpl.colors.to_hex(colour) for colour in lines.get_colors()]
    assert colours == [FLAG_COLOUR.lower()] + ["#666666"] * (len(SCORES) - 1)


def test_both_sensors_are_drawn_by_half_and_before_training_with_the_share_of_the_other_sensor(toy_card):
    points, table = embedded(toy_card)
    table["cross_modality_hd"] = np.where(table.model == "untrained", 0.0, np.where(table.half == "shared", 0.4, 0.1))
    figure = one_or_two(points, table, "crodino-kd", "untrained")
    shown = {ax.get_title(): ax.get_xlabel()[:4].strip() for ax in figure.axes}
    assert shown == {"shared half": "40 %", "private half": "10 %", "shared, untrained": "0 %"}
    here = points[(points.model == "crodino-kd") & (points.half == "private") & (points.embedding == "UMAP")]
    (marks,) = figure.axes[1].collections  # of both sensors in turn, so that none covers the other
    drawn = {
        (x, y, mpl.colors.to_hex(c)) for (x, y), c in zip(marks.get_offsets(), marks.get_facecolors(), strict=True)
    }
    assert drawn == {(row.x, row.y, SENSOR_COLOURS[row.sensor].lower()) for row in here.itertuples()}
    table.loc[0, ["points", "remark"]] = 0, "collapsed"
    assert "collapsed" in words(one_or_two(points[points.half == "private"], table, "crodino-kd", "untrained"))


def sure(accuracy):
    """Return the confidence of a network in two bins, of which the other thirteen are empty."""
    bins = np.full((15, 3), np.nan)
    bins[:, 0] = 0
    bins[7], bins[14] = (0.4, 0.5, accuracy), (0.6, 0.97, accuracy)
    return Confidence(0.5, 1.0, 0.4, bins)


def costs():
    """Return what three methods of RGB and two of both sensors reach and cost."""
    names = ["baseline", "kd", "crodino-kd", "acnet", "csk-net"]
    table = pd.DataFrame({"method": names, "sensors at test": ["rgb"] * 3 + ["rgb+depth"] * 2})
    table = table.assign(**{"mIoU": 50.0, "mIoU low": 45.0, "mIoU high": 55.0, "seeds": 3, "split": "test"})
    return table.assign(**{"cost of training": [1, 4.7, 4, 1.6, 7.3], "cost of inference": [1, 1, 1, 1.6, 1.35]})


def test_a_panel_of_costs_has_the_methods_of_its_sensors_at_what_they_cost():
    figure = cost_and_accuracy(costs())
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "RGB (inference 1.00x)",
        "RGB + depth (inference 1.35x to 1.60x)",
    ]
    found = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[0].lines}
    assert found == {"baseline": (1, 50), "KD": (4.7, 50), "CroDiNo-KD": (4, 50)}
    with pytest.raises(ValueError, match="no cost on split 'val'"):
        cost_and_accuracy(costs(), split="val")


def faults():
    """Return two networks under two faults of RGB in two severities."""
    rows = [("acnet", "rgb+depth", "-", "none", 0, 60.0), ("baseline", "depth", "-", "none", 0, 50.0)]
    rows += [("acnet", "rgb+depth", "rgb", fault, s, 55.0 - s) for fault in ("dark", "noisy") for s in (1, 5)]
    table = pd.DataFrame(rows, columns=["method", "sensors", "sensor", "fault", "severity", "miou"])
    return table.assign(seed=0, split="test", images=8)


def test_lines_of_faults_begin_with_the_whole_network_and_are_flat_without_the_broken_sensor():
    figure = fault_curves(faults(), "rgb")
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.get_visible()] == ["dark", "noisy"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["ACNet, RGB + depth"].get_xdata()) == [0, 1, 5]
    assert list(lines["ACNet, RGB + depth"].get_ydata()) == [60, 54, 50]
    assert set(lines["baseline, depth"].get_ydata()) == {50}
    three = pd.concat([faults(), faults().query("fault == 'dark'").assign(fault="blurred")])
    assert [ax.get_visible() for ax in fault_curves(three, "rgb", "column").axes] == [True, True, True, False]
    with pytest.raises(ValueError, match="no fault of depth"):
        fault_curves(faults(), "depth")


def small(caption):
    figure = StudyFigure("column", 20, caption)
    figure.subplots().plot([0, 1], [1, 2])
    return figure


def test_a_figure_is_saved_in_three_formats_with_its_numbers_and_always_as_the_same_bytes(tmp_path):
    table = pd.DataFrame({"light": [0.9, 0.1]}, index=["rgb", "depth"])
    for name in ("a", "b"):
        paths = save(small("Caption."), tmp_path / name, "gains", table)
    assert [path.name for path in paths] == [f"gains.{kind}" for kind in ("pdf", "svg", "png", "txt", "csv")]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in paths)
    assert [path.read_bytes()[:4] for path in paths[:3]] == [b"%PDF", b"<?xm", b"\x89PNG"]
    assert all((tmp_path / "a" / path.name).read_bytes() == path.read_bytes() for path in paths)
    pd.testing.assert_frame_equal(pd.read_csv(paths[-1], index_col=0), table)
    assert paths[3].read_text() == "Caption.\n"
    assert "<figcaption>a &lt; b</figcaption>" in small("a < b")._repr_html_()


def test_a_failed_save_leaves_every_old_file(tmp_path, monkeypatch):
    table, new = pd.DataFrame({"gain": [1.0]}), small("New.")
    before = {path: path.read_bytes() for path in save(small("Old."), tmp_path, "gains", table)}
    drawn = new.savefig
    monkeypatch.setattr(
        new, "savefig", lambda path, format, **_: 1 / 0 if format == "png" else drawn(path, format=format)
    )
    with pytest.raises(ZeroDivisionError):
        save(new, tmp_path, "gains", table)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_sensor_has_one_colour_and_one_printed_name_in_every_figure():
    known, mixed = sensor_styles(["depth", "rgb"]), sensor_styles(["rgb+depth", "rgb", "sonar", "depth"])
    assert known["rgb"][0] == SENSOR_COLOURS["rgb"]
    assert {s: mixed[s] for s in known} == known
    assert len(set(mixed.values())) == 4
    with pytest.raises(ValueError, match="at most 4 sensors have no colour of their own"):
        sensor_styles("abcde")
    assert [printed(name) for name in ("rgb+depth", "depth/private", "room_width_m", "cka shared")] == [
        "RGB + depth", "depth private", "room width (m)", "CKA shared",
    ]  # fmt: skip


def test_sensors_are_drawn_in_their_units_with_grey_holes_and_labels_in_the_palette(toy_scenes, toy_card):
    figure = image_grids.scene_sheet(toy_scenes, toy_card, [3])
    assert {"depth (metres)", "thermal (degrees C)"} <= {ax.get_xlabel() for ax in figure.axes}
    shown, valid = panel(figure, "depth").images[0].get_array(), toy_scenes.valid["depth"][3, 0]
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), ~valid)
    np.testing.assert_allclose(shown.compressed(), toy_scenes.images["depth"][3, 0][valid])
    rgb = panel(figure, "RGB").images[0].get_array()
    np.testing.assert_allclose(rgb, toy_scenes.images["rgb"][3].transpose(1, 2, 0) / 255, atol=1e-6)
    colours, labels = panel(figure, "label").images[0].get_array(), toy_scenes.labels[3]
    np.testing.assert_allclose(colours[labels != 255], np.array(toy_card.palette)[labels[labels != 255]] / 255)


def test_a_sensor_without_a_valid_value_is_drawn_all_the_same(toy_scenes, toy_card):
    blind = {**toy_scenes.valid, "depth": np.zeros_like(toy_scenes.valid["depth"])}
    scenes = Scenes(toy_scenes.images, blind, toy_scenes.labels, toy_scenes.ids)
    assert "depth (metres)" in words(image_grids.scene_sheet(scenes, toy_card, [0]))


def test_predictions_of_other_scenes_or_with_the_title_of_a_sensor_are_refused(toy_scenes, toy_card):
    with pytest.raises(ValueError, match=r"'kd' is \(16, 48, 64\), expected 2 images of 48 x 64 pixels"):
        image_grids.prediction_sheet(toy_scenes, toy_card, [0, 1], {"kd": toy_scenes.labels})
    with pytest.raises(ValueError, match="cannot be titled rgb"):
        image_grids.prediction_sheet(toy_scenes, toy_card, [0], {"rgb": toy_scenes.labels[:1]})


def test_a_batch_is_drawn_in_the_units_of_its_sensors(toy_scenes, toy_card):
    batch = plain(toy_scenes, [2], toy_card, ("rgb", "depth"), CPU)
    shown = panel(image_grids.augmentation_sheet(batch, toy_card), "depth").images[0].get_array()
    valid = toy_scenes.valid["depth"][2, 0]
    np.testing.assert_allclose(shown[valid], toy_scenes.images["depth"][2, 0][valid], atol=0.01)


def test_maps_share_their_colours_and_a_mark_stands_in_its_cell():
    maps = {"fine": np.arange(48.0).reshape(6, 8), "coarse": np.full((3, 4), 99.0)}
    figure = image_grids.map_sheet(maps, "similarity", "One scene.", {"coarse": (2, 0)})
    fine, coarse = (panel(figure, title) for title in maps)
    assert {ax.images[0].get_clim() for ax in (fine, coarse)} == {(0, 99)}
    assert (coarse.lines[0].get_xdata().item(), coarse.lines[0].get_ydata().item()) == (1, 5)  # of the fine grid
    assert not fine.lines


def test_shares_are_of_labelled_pixels_and_sum_to_a_hundred(toy_scenes, toy_card):
    table = charts.class_share_table({"train": toy_scenes}, toy_card)
    labelled = toy_scenes.labels[toy_scenes.labels != 255]
    assert table["percent"].tolist() == pytest.approx([100 * (labelled == k).mean() for k in range(4)])


def test_curves_show_losses_on_the_left_and_scores_in_percent_on_the_right():
    others = {"gradient/contrast": [np.nan, 0.5, np.nan], "exchanged/rgb/stage 0 block 0": 0.2}
    losses, scores = charts.training_curves({"kd": history(**others)}).axes
    assert {line.get_label() for line in losses.lines} == {"segmentation RGB", "contrast"}
    assert losses.get_yscale() == "log"
    np.testing.assert_allclose(scores.lines[0].get_ydata(), [10, 20, 30])
    assert charts.training_curves({"kd": history(contrast=[0.0, 0.1, 0.1])}).axes[0].get_yscale() == "linear"


def test_marks_are_means_over_seeds_and_differences_are_paired(toy_card):
    scores = class_scores(toy_card)
    figure = charts.per_class_iou(scores[scores.method == "baseline"], toy_card)
    means = [mark.get_xdata() for mark in figure.axes[0].lines if mark.get_marker() in "o^"]
    assert [set(line) for line in means] == [{60.0}, {60.0}]
    unpaired = scores[(scores.method == "kd") | (scores.seed == 0)].assign(iou=scores.iou + 9 * (scores.seed == 2))
    figure = charts.class_differences(unpaired)
    assert [ax.get_title() for ax in figure.axes] == ["RGB at test", "depth at test"]
    assert {text.get_text() for ax in figure.axes for text in ax.texts} == {"1"}  # seed 2 has no baseline
    with pytest.raises(ValueError, match="iou"):
        charts.class_differences(scores.drop(columns="iou"))
    with pytest.raises(ValueError, match="no method of the table has a baseline"):
        charts.class_differences(scores[scores.method == "kd"])


def test_confusion_is_in_percent_of_the_truth_summed_over_images_and_empty_for_absent_classes():
    per_image = np.array([[[3, 0], [1, 1]], [[0, 1], [0, 0]]])
    figure = charts.confusion(per_image, ["a", "b"], "kd")
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25", "50", "50"]
    absent = charts.confusion(np.array([[2, 0], [0, 0]]), ["a", "b"], "kd")
    assert [text.get_text() for text in absent.axes[0].texts] == ["100", "0"]


SIGHT = {  # how linear RGB looks to eyes of three cones, and without green or red ones (Machado et al., 2009)
    "three cones": np.eye(3),
    "no green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
}


def oklab(linear):
    """Return (n, 3) lightness and two colour axes of linear RGB, in hundredths (Ottosson, 2020)."""
    cones = linear @ np.array([[0.412, 0.536, 0.051], [0.212, 0.681, 0.107], [0.088, 0.282, 0.630]]).T
    axes = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])
    return 100 * np.cbrt(cones.clip(0)) @ axes.T


@pytest.mark.parametrize("sight", SIGHT)
def test_classes_of_rooms_can_be_told_apart_by_their_colours(sight):
    colours = np.array([*map(mpl.colors.to_rgb, read_spec(SPEC).palette), MISSING_COLOUR])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    distances = pdist(oklab((linear @ np.transpose(SIGHT[sight])).clip(0, 1)))
    assert distances.min() > 6  # about 2 are just seen side by side
