import base64
import dataclasses
import io
import json

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from crodino_lib.data.sample import IGNORE
from crodino_lib.explorer import Cloud, ExploredRun, payload, write_page
from crodino_lib.explorer.payload import packed, quantised


@pytest.fixture(scope="module")
def data(toy_scenes, toy_card, toy_runs):
    return payload("Toy latents", toy_card, toy_scenes, toy_runs)


def unpacked(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def picture(url):
    kind, text = url.removeprefix("data:image/").split(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    assert image.format.lower() == kind
    return np.asarray(image.convert("RGB"))


def kept_scenes(scenes, runs):
    return [index for index, name in enumerate(scenes.ids) if name in set(runs[0].rows["image"])]


def test_numbers_survive_packing():
    values = np.array([[0, 1], [256, 65535]])
    assert unpacked(packed(values), "<u2").reshape(2, 2).tolist() == values.tolist()
    assert base64.b64decode(packed(np.array([258]))) == b"\x02\x01"  # little-endian


def test_coordinates_keep_their_proportions():
    points = np.array([[-10.0, 2.0], [30.0, 22.0], [10.0, 2.0]])
    coded = quantised(points)
    assert coded[:, 0].tolist() == pytest.approx([0, 65535, 65535 / 2], abs=1)
    assert coded[1, 1] - coded[0, 1] == pytest.approx(65535 / 2, abs=1)
    back = (coded - coded[0]) * 40 / 65535 + points[0]
    np.testing.assert_allclose(back, points, atol=40 / 65535)


def test_points_that_all_coincide_have_a_place():
    assert np.isfinite(quantised(np.ones((3, 2)))).all()


def test_the_payload_is_json(data):
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_rows_boxes_and_errors_come_back(data, toy_scenes, toy_runs):
    for run, coded in zip(toy_runs, data["runs"], strict=True):
        assert [data["scenes"]["ids"][i] for i in unpacked(coded["scene"], "<u4")] == run.rows["image"].tolist()
        assert unpacked(coded["class"], "u1").tolist() == run.rows["class"].tolist()
        boxes = unpacked(coded["box"], "<u2").reshape(-1, 4)
        assert (boxes == run.rows[["left", "top", "right", "bottom"]]).all(axis=None)
        for block, errors in run.errors.items():
            np.testing.assert_array_equal(unpacked(coded["errors"][block], "<f4"), errors.astype(np.float32))
    assert np.isnan(unpacked(data["runs"][0]["errors"]["shared"], "<f4")[5])


def test_only_scenes_with_rows_are_stored_in_the_order_of_the_split(data, toy_scenes, toy_runs):
    kept = kept_scenes(toy_scenes, toy_runs)
    assert data["scenes"]["ids"] == [toy_scenes.ids[i] for i in kept]
    assert len(kept) == len(toy_scenes) - 2
    stored = [*data["scenes"]["pictures"].values(), {"urls": data["scenes"]["truth"]}]
    assert [len(pictures["urls"]) for pictures in stored] == [len(kept)] * 3
    factor = data["factors"][0]
    assert factor["name"] == "room_width_m"
    known = toy_scenes.factors["room_width_m"].to_numpy()[kept].astype(np.float32)
    np.testing.assert_array_equal(unpacked(factor["values"], "<f4"), known)


def test_truth_and_predictions_are_lossless_in_the_colours_of_the_classes(data, toy_scenes, toy_card, toy_runs):
    colours = np.array([*toy_card.palette, (224, 224, 224)])
    for place, index in enumerate(kept_scenes(toy_scenes, toy_runs)):
        truth = np.where(toy_scenes.labels[index] == IGNORE, 4, toy_scenes.labels[index])
        np.testing.assert_array_equal(picture(data["scenes"]["truth"][place]), colours[truth])
        said = data["runs"][1]["predictions"]["depth"][place]
        np.testing.assert_array_equal(picture(said), colours[toy_runs[1].predictions["depth"][index]])


def test_pictures_show_their_scene_and_holes_are_grey(data, toy_scenes, toy_runs):
    kept = kept_scenes(toy_scenes, toy_runs)
    for place, index in enumerate(kept):
        shown = picture(data["scenes"]["pictures"]["rgb"]["urls"][place]).astype(float)
        assert np.abs(shown - toy_scenes.images["rgb"][index].transpose(1, 2, 0)).mean() < 12
    depth = data["scenes"]["pictures"]["depth"]
    known = toy_scenes.images["depth"][kept][toy_scenes.valid["depth"][kept]].astype(np.float32)
    assert (depth["low"], depth["high"]) == pytest.approx(np.percentile(known, (1, 99)))
    assert depth["unit"] == "metres"
    seen = toy_scenes.valid["depth"][kept[0], 0]
    shares = (toy_scenes.images["depth"][kept[0], 0].astype(float) - depth["low"]) / (depth["high"] - depth["low"])
    expected = np.where(seen[..., None], 255 * mpl.colormaps["viridis"](np.clip(shares, 0, 1))[..., :3], 224)
    assert np.abs(picture(depth["urls"][0]) - expected).mean() < 15


def test_levels_of_a_factor_are_counted_from_the_most_frequent(toy_scenes, toy_card, toy_runs):
    rooms = ["hall", "attic", "attic", "attic"] * 4
    rooms[0] = None
    scenes = dataclasses.replace(toy_scenes, factors=pd.DataFrame({"room": rooms, "lit": [True, False] * 8}))
    room, lit = payload("x", toy_card, scenes, toy_runs)["factors"]
    assert room["levels"] == ["attic", "hall"]
    codes = unpacked(room["values"], "<f4")
    assert np.isnan(codes[0])
    assert codes[1:4].tolist() == [0, 0, 1]  # scene 3 is left out, scene 4 is in the hall
    assert sorted(lit["levels"]) == ["False", "True"]


def test_regions_without_a_class_come_after_the_last(toy_scenes, toy_card, toy_runs):
    rows = toy_runs[0].rows.assign(**{"class": IGNORE, "name": ""})
    run = dataclasses.replace(toy_runs[0], rows=rows)
    coded = payload("x", toy_card, toy_scenes, [run])["runs"][0]
    assert set(unpacked(coded["class"], "u1").tolist()) == {len(toy_card.classes)}


def test_scenes_without_factors_have_none_to_colour_by(toy_scenes, toy_card, toy_runs):
    scenes = dataclasses.replace(toy_scenes, factors=None)
    assert payload("x", toy_card, scenes, toy_runs)["factors"] == []


def test_a_page_forbids_requests_and_survives_any_name(tmp_path, data):
    evil = "</script><script>alert(1)</script>"
    path = write_page(data | {"title": evil}, tmp_path / "deep" / "page.html")
    text = path.read_text()
    assert "default-src 'none'" in text
    assert "unsafe-inline" not in text
    assert evil not in text
    assert text.count("</script>") == 2
    start = text.index('id="data">') + len('id="data">')
    assert json.loads(text[start : text.index("</script>", start)]) == data | {"title": evil}
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_a_cloud_is_refused_with_what_was_found():
    with pytest.raises(ValueError, match=r"block 'shard' does not exist.*shared"):
        Cloud("shard", "UMAP", "", np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"cloud shared/UMAP: points are \(4, 3\), expected \(points, 2\)"):
        Cloud("shared", "UMAP", "", np.zeros((4, 3)))
    with pytest.raises(ValueError, match="cloud private/PCA: 1 of 4 points are not finite"):
        Cloud("private", "PCA", "", np.where(np.eye(4, 2) * [1, 0] > 0, np.nan, 0.0))


def test_a_run_is_refused_with_what_was_found_and_expected(toy_runs):
    run = toy_runs[0]
    n = len(run.rows)
    short = Cloud("shared", "UMAP", "", np.zeros((n, 2)))
    refused = {
        rf"'trained': cloud shared/UMAP has {n} points, expected 2 sensors x {n} rows = {2 * n}": {"clouds": [short]},
        rf"'trained': errors of private are \(3,\), expected 2 sensors x {n} rows = {2 * n}": {
            "errors": {"private": np.zeros(3)}
        },
        r"errors of shared are 0\.\.1\.5, expected 0\.\.1 or NaN": {
            "errors": {"shared": np.r_[np.nan, 1.5, np.zeros(2 * n - 2)]}
        },
        "block of errors 'privat' does not exist.*private": {"errors": {"privat": np.zeros(2 * n)}},
        "sensor of predictions 'thermal' does not exist; it must be one of rgb, depth": {
            "predictions": {"thermal": run.predictions["rgb"]}
        },
        "rows have .*, but no left, top": {"rows": run.rows.drop(columns=["left", "top"])},
        "'trained': clouds are empty": {"clouds": []},
        "'trained': rows are empty": {"rows": run.rows.iloc[:0]},
    }
    for message, changes in refused.items():
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(run, **changes)


def test_a_payload_is_refused_where_runs_and_scenes_disagree(toy_scenes, toy_card, toy_runs):
    run, n = toy_runs[0], len(toy_runs[0].rows)
    foreign = run.rows.assign(image=["elsewhere", *run.rows["image"][1:]])
    strange = run.rows.assign(**{"class": [9, *run.rows["class"][1:]]})
    lidar = ExploredRun("trained", ("rgb", "lidar"), run.rows, run.clouds)
    refused = {
        rf"'trained': 1 of {n} rows are of images that are none of the 16 scenes, such as 'elsewhere'": [
            dataclasses.replace(run, rows=foreign)
        ],
        r"rows are of class \[9\], expected 0\.\.3 or 255": [dataclasses.replace(run, rows=strange)],
        r"predictions of rgb are \(2, 48, 64\), expected \(16, 48, 64\)": [
            dataclasses.replace(run, predictions={"rgb": run.predictions["rgb"][:2]})
        ],
        "sensor 'lidar' does not exist; it must be one of rgb, depth, thermal": [lidar],
        "runs are none; expected one or more": [],
        "runs are trained, trained; expected one or more of different names": [run, run],
    }
    for message, runs in refused.items():
        with pytest.raises(ValueError, match=message):
            payload("x", toy_card, toy_scenes, runs)
    factors = dataclasses.replace(toy_scenes, factors=toy_scenes.factors.iloc[:5])
    with pytest.raises(ValueError, match="factors have 5 rows, expected one for each of 16 scenes"):
        payload("x", toy_card, factors, toy_runs)
