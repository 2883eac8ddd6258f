"""The explorer as data, as a reader meets it in a browser, and in JupyterLab."""

import base64
import dataclasses
import io
import pickle
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import numpy as np
import pandas as pd
import pytest
from bokeh.models import Div
from PIL import Image

from crodino_lib.data.sample import IGNORE
from crodino_lib.explorer import Contents, draw, write_page

BLOCKS = ("shared", "private")
MODELS, SENSORS = ("trained", "trained, untrained"), ("rgb", "depth")
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
CELLS = (
    "import crodino_lib, pickle\nfrom crodino_lib.explorer import Contents, draw\n"
    "explorer = draw(Contents(**pickle.load(open('toy.pkl', 'rb'))))\nexplorer",
    "print('selected', len(explorer.selection), sorted(set(explorer.selection['name'])))",
)


def toy(scenes, card, models=MODELS):
    """Arguments of ``Contents``: in the shared block class 0 lies on the left, in the private block rgb does."""
    generator, rows = np.random.default_rng(2), []
    for image, labels in zip(scenes.ids, scenes.labels, strict=True):
        for label in np.setdiff1d(labels, [IGNORE]):
            y, x = np.nonzero(labels == label)
            rows.append((image, card.classes[label], x.min(), y.min(), x.max() + 1, y.max() + 1))
    rows = pd.DataFrame(rows, columns=["image", "name", "left", "top", "right", "bottom"])
    points = pd.concat([rows.assign(sensor=sensor) for sensor in SENSORS], ignore_index=True)
    clouds = {}
    for model in models:
        for block, right in (("shared", points["name"] != card.classes[0]), ("private", points["sensor"] == "depth")):
            points[f"probe error {model}/{block}"] = generator.random(len(points))
            for embedding in ("UMAP", "PCA"):
                clouds[model, block, embedding] = generator.random((len(points), 2)) + np.outer(3.0 * right, [1, 0])
    maps = {(models[0], sensor): generator.integers(4, size=scenes.labels.shape).astype(np.uint8) for sensor in SENSORS}
    for epoch, known in ((0, 0.5), (4, 1.0)):  # the film of the first model has half of the points
        for block in BLOCKS:
            cloud = generator.random((len(points), 2)) + np.outer(epoch * (points["sensor"] == "depth"), [1, 0])
            cloud[generator.permutation(len(points))[round(known * len(points)) :]] = np.nan
            clouds[models[0], block, f"epoch {epoch}"] = cloud
    captions = {key: f"{' of '.join(key)}: trustworthiness 0.91" for key in clouds}
    nearest = np.stack([(np.arange(len(points)) + step) % len(points) for step in (1, 2, 3)], axis=1)
    arguments = {
        "title": "Toy",
        "card": card,
        "scenes": scenes,
        "points": points,
        "clouds": clouds,
    }
    nearest = {(model, block): nearest for model in models for block in BLOCKS}
    return arguments | {"captions": captions, "predictions": maps, "nearest": nearest}


@pytest.fixture(scope="module")
def arguments(toy_scenes, toy_card):
    factors = toy_scenes.factors.assign(place=["hall", "attic", None, "hall"] * 4)
    return toy(dataclasses.replace(toy_scenes, factors=factors), toy_card)


@pytest.fixture(scope="module")
def explorer(arguments):
    return draw_from(**arguments)


def draw_from(**arguments):
    return draw(Contents(**arguments))


def script_of(explorer):
    return explorer.source.selected.js_property_callbacks["change:indices"][0].args


def test_every_cloud_keeps_its_shape_and_its_points(explorer, arguments):
    keys = ["image", "name", "sensor"]
    place = explorer.points.reset_index().set_index(keys)["index"]
    place = place.loc[list(arguments["points"][keys].itertuples(index=False))].to_numpy()
    assert sorted(place) == list(range(len(explorer.points)))
    for key, cloud in arguments["clouds"].items():
        x, y = (explorer.source.data[f"{axis} {'/'.join(key)}"][place] for axis in "xy")
        if key[2].startswith("epoch"):
            continue  # epochs of a film share a window, see below
        assert np.corrcoef(x, cloud[:, 0])[0, 1] == pytest.approx(1)
        assert np.ptp(x) / np.ptp(y) == pytest.approx(np.ptp(cloud[:, 0]) / np.ptp(cloud[:, 1]), rel=1e-4)
        assert max(abs(x).max(), abs(y).max()) == pytest.approx(0.5)


def test_epochs_of_a_film_are_moved_and_scaled_alike(explorer, arguments):
    keys = ["image", "name", "sensor"]
    place = explorer.points.reset_index().set_index(keys)["index"]
    place = place.loc[list(arguments["points"][keys].itertuples(index=False))].to_numpy()
    for block in BLOCKS:
        drawn = [explorer.source.data[f"x {MODELS[0]}/{block}/epoch {epoch}"][place] for epoch in (0, 4)]
        given = [arguments["clouds"][MODELS[0], block, f"epoch {epoch}"][:, 0] for epoch in (0, 4)]
        np.testing.assert_array_equal(np.isnan(drawn[0]), np.isnan(given[0]))
        drawn, given = np.concatenate(drawn), np.concatenate(given)
        known = ~np.isnan(given)
        assert np.corrcoef(drawn[known], given[known])[0, 1] == pytest.approx(1)
        assert np.ptp(drawn[known]) == pytest.approx(1)


def test_every_point_keeps_its_neighbours_through_the_shuffle(explorer, arguments):
    keys = ["image", "name", "sensor"]
    given = list(arguments["points"][keys].itertuples(index=False, name=None))
    place = {key: index for index, key in enumerate(given)}
    shown = list(explorer.points[keys].itertuples(index=False, name=None))
    for key, near in zip(shown, explorer.source.data["near trained/shared"], strict=True):
        assert [shown[other] for other in near] == [given[(place[key] + step) % len(given)] for step in (1, 2, 3)]


def test_class_names_stand_where_their_points_are(explorer):
    labels = script_of(explorer)["labels"][0]
    names = pd.DataFrame(labels.source.data).set_index("name")
    for name, points in explorer.points.groupby("name"):
        own = explorer.source.data["x trained/shared/UMAP"][points.index]
        x = names.loc[name, "x trained/shared/UMAP"]
        assert np.isnan(x) or own.min() <= x <= own.max()
    assert names["x trained/shared/UMAP"].notna().any()


def test_the_selection_is_the_rows_behind_the_points(explorer):
    explorer.source.selected.indices = [5, 2]
    table = explorer.selection
    assert table.index.tolist() == [5, 2]
    assert table["name"].tolist() == [explorer.source.data["name"][5], explorer.source.data["name"][2]]
    assert {"sensor", "image", "factor/place", "probe error trained/shared", "correct pixels trained"} <= set(table)
    explorer.source.selected.indices = []
    assert explorer.selection.groupby(["sensor", "name"]).size().empty


def test_correct_pixels_are_counted_in_the_region_alone(explorer, arguments):
    scenes, card = arguments["scenes"], arguments["card"]
    for _, point in explorer.points.sample(12, random_state=0).iterrows():
        scene = scenes.ids.index(point["image"])
        region = scenes.labels[scene] == card.classes.index(point["name"])
        said = arguments["predictions"]["trained", point["sensor"]][scene]
        right = np.mean(said[region] == card.classes.index(point["name"]))
        assert point["correct pixels trained"] == pytest.approx(right)
    assert explorer.points["correct pixels trained, untrained"].isna().all()


def test_every_scene_is_a_picture_once_per_sensor_truth_and_prediction(explorer, arguments):
    scenes, sprites = arguments["scenes"], script_of(explorer)["pictures"].data
    assert set(sprites) == {"rgb", "depth", "truth", "rgb trained", "depth trained"}
    palette = np.full((256, 3), 224)
    palette[:4] = arguments["card"].palette
    for name, labels in {"truth": scenes.labels, "rgb trained": arguments["predictions"]["trained", "rgb"]}.items():
        seen = [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in sprites[name]]
        np.testing.assert_array_equal(np.stack(seen), palette[labels])
    assert explorer.points["scene"].tolist() == [scenes.ids.index(image) for image in explorer.points["image"]]


def test_every_colouring_has_a_legend_in_the_colours_of_its_points(explorer):
    script = script_of(explorer)
    mapper, legend = script["mappers"]["name"], script["legends"]["name"]
    assert dict(zip(mapper.factors, mapper.palette, strict=True))["box"] == "#c85000"
    assert "#c85000" in legend
    assert "box" in legend
    assert script["mappers"]["factor/place"].factors == ["hall", "attic"]  # the most frequent first
    assert "other or no value" in script["legends"]["factor/place"]
    assert script["mappers"]["factor/room_width_m"].high == pytest.approx(explorer.points["factor/room_width_m"].max())


def test_a_block_that_has_collapsed_has_a_reason_and_no_points(arguments):
    key = (MODELS[0], "private", "PCA")
    clouds = {name: cloud for name, cloud in arguments["clouds"].items() if name != key}
    explorer = draw_from(**arguments | {"clouds": clouds, "captions": arguments["captions"] | {key: "Nothing to draw"}})
    assert np.isnan(explorer.source.data["x trained/private/PCA"]).all()
    assert "Nothing to draw" in script_of(explorer)["texts"]["trained/private/PCA"]


@pytest.mark.parametrize("licensed", [False, True])
def test_licensed_pictures_come_with_a_warning(arguments, licensed):
    card = dataclasses.replace(arguments["card"], licensed=licensed)
    texts = [words.text for words in draw_from(**arguments | {"card": card}).layout.select({"type": Div})]
    assert any("must not be passed on" in text for text in texts) == licensed


def test_a_page_of_seventy_scenes_and_four_thousand_points_stays_small(arguments, tmp_path):
    scenes, generator, taken = arguments["scenes"], np.random.default_rng(0), np.arange(70) % 16
    larger = {name: stack[taken].repeat(2, axis=2).repeat(2, axis=3) for name, stack in scenes.images.items()}
    many = dataclasses.replace(
        scenes,
        images=larger | {"rgb": larger["rgb"] ^ generator.integers(16, size=larger["rgb"].shape, dtype=np.uint8)},
        valid={name: stack[taken].repeat(2, axis=2).repeat(2, axis=3) for name, stack in scenes.valid.items()},
        labels=scenes.labels[taken].repeat(2, axis=1).repeat(2, axis=2),
        ids=[f"{i:04d}" for i in range(70)],
        factors=pd.DataFrame(generator.random((70, 20))).add_prefix("factor"),
    )
    page = toy(many, arguments["card"])
    times = -(-4000 // len(page["points"]))
    page["points"] = pd.concat([page["points"]] * times, ignore_index=True)
    for part in ("clouds", "nearest"):
        page[part] = {key: np.concatenate([values] * times) for key, values in page[part].items()}
    assert write_page(draw_from(**page), tmp_path / "page.html").stat().st_size < 10e6


@pytest.fixture
def visit(chromium, tmp_path):
    """Open the page of ``draw``; afterwards it must not have complained, asked for anything, or run a name."""
    complaints, requests = [], []
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))

    def open_page(arguments):
        page.goto(write_page(draw_from(**arguments), tmp_path / "page.html").as_uri())
        page.locator(".bk-Figure canvas").last.wait_for()
        page.get_by_text("Drag over a cloud").wait_for()
        return page

    yield open_page
    page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def drag(page, left, right):
    """Drag over shares of the width of the shared block."""
    box = page.locator(".bk-Figure").first.bounding_box()
    page.mouse.move(box["x"] + 12 + left * (box["width"] - 24), box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 12 + right * (box["width"] - 24), box["y"] + box["height"] - 15, steps=4)
    page.mouse.up()


def picture(page):
    return page.locator(".bk-Figure").nth(1).screenshot()


def test_selected_points_are_pictures_and_a_table(visit, arguments, explorer):
    page = visit(arguments)
    drag(page, 0, 0.5)
    floors = (explorer.points["name"] == "floor").sum()
    page.get_by_text(f"{floors} points").wait_for()
    assert page.locator(".patch").count() == min(24, floors)
    assert page.locator(".patch").first.locator("svg image").count() == 5
    assert set(page.locator(".patch b").all_inner_texts()) == {"floor"}
    rows = page.locator(".slick-row").all_inner_texts()
    assert len(rows) > 5
    assert all(row.split()[0] == "floor" and row.split()[1] in SENSORS for row in rows)
    drag(page, 0.5, 1)
    page.get_by_text(f"{len(explorer.points) - floors} points").wait_for()
    assert "floor" not in page.locator(".patch b").all_inner_texts()


def links(page, block):
    """Return the ends of the links that are drawn in a block, by colour."""
    script = "([block]) => Bokeh.documents[0].get_model_by_name(`links ${block}`).data"
    return pd.DataFrame(page.evaluate(script, [block])).groupby("colour")


def test_the_same_region_of_the_other_sensor_and_the_nearest_ones_are_marked(visit, arguments, explorer):
    page = visit(arguments)
    page.evaluate("Bokeh.documents[0].get_model_by_name('points').selected.indices = [3]")
    page.get_by_text("1 points").wait_for()
    own, points = explorer.points.loc[3], explorer.points
    twin = points[(points["image"] == own["image"]) & (points["name"] == own["name"])].drop(index=3)
    for block in BLOCKS:
        x = explorer.source.data[f"x trained/{block}/UMAP"]
        marked = {colour: part for colour, part in links(page, block)}
        np.testing.assert_allclose(marked["#222222"]["to_x"], x[twin.index])
        near = explorer.source.data[f"near trained/{block}"][3]
        np.testing.assert_allclose(marked["#0072B2"]["to_x"], x[near])
        np.testing.assert_allclose(marked["#0072B2"]["x"], [x[3]] * len(near))
    assert page.locator(".near").count() == 2
    assert page.locator(".near").first.locator("svg image").count() == 3
    page.evaluate("Bokeh.documents[0].get_model_by_name('points').selected.indices = [3, 4, 5, 6]")
    page.get_by_text("4 points").wait_for()
    assert page.locator(".near").count() == 0  # of a few points alone
    assert set(links(page, "shared").groups) == {"#222222"}


def test_a_region_that_the_mouse_points_at_is_shown_by_both_sensors(visit, arguments, explorer):
    page = visit(arguments)
    x, y = (explorer.source.data[f"{axis} trained/shared/UMAP"] for axis in "xy")
    alone = np.argmax([np.sort(np.hypot(x - a, y - b))[1] for a, b in zip(x, y, strict=True)])
    place = page.evaluate(
        """([x, y]) => {
          const view = Bokeh.index.roots[0].owner.get_one(Bokeh.documents[0].get_model_by_name("shared"));
          const frame = view.el.getBoundingClientRect();
          const {x_scale, y_scale} = view.frame;
          return [frame.left + x_scale.compute(x), frame.top + y_scale.compute(y)];
        }""",
        [float(x[alone]), float(y[alone])],
    )
    page.mouse.move(place[0] + 30, place[1])
    page.mouse.move(*place)
    tip = page.locator(".bk-Tooltip")
    tip.get_by_text(f"seen by {explorer.points['sensor'][alone]}, scene {explorer.points['image'][alone]}").wait_for()
    sources = [image.get_attribute("href") for image in tip.locator("svg image").all()]
    pictures, scene = script_of(explorer)["pictures"].data, explorer.points["scene"][alone]
    assert sources == [pictures[sensor][scene] for sensor in SENSORS]


def test_the_slider_goes_through_the_epochs_of_the_film(visit, arguments):
    page = visit(arguments)
    assert page.get_by_text("frame of 2").is_visible()
    page.evaluate("Bokeh.documents[0].get_model_by_name('film').value = 1")
    page.get_by_text("trained of shared of epoch 0").wait_for()
    page.locator("select").nth(0).select_option(MODELS[1])
    page.get_by_text("The film shows trained alone").first.wait_for()


def test_the_selection_is_saved_as_csv_without_rounding(visit, arguments, explorer):
    page = visit(arguments)
    button = page.get_by_text("Save selection as CSV")
    assert button.is_disabled()
    page.evaluate("Bokeh.documents[0].get_model_by_name('points').selected.indices = [5, 2]")
    page.get_by_text("2 points").wait_for()
    with page.expect_download() as download:
        button.click()
    assert download.value.suggested_filename == "Toy.csv"
    saved = pd.read_csv(download.value.path(), dtype={"image": str})
    expected = explorer.points.loc[[5, 2], list(saved)].reset_index(drop=True)
    assert {"image", "name", "sensor", "left", "probe error trained/shared", "factor/place"} <= set(saved)
    pd.testing.assert_frame_equal(saved, expected, check_dtype=False, rtol=1e-6)


def test_the_page_fits_800_pixels(visit, arguments):
    page = visit(arguments)
    page.set_viewport_size({"width": 800, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    boxes = [plot.bounding_box() for plot in page.locator(".bk-Figure").all()]
    assert all(box["width"] >= 320 and box["x"] + box["width"] <= 800 for box in boxes)
    assert boxes[0]["y"] == boxes[1]["y"]  # side by side


def test_menus_change_what_is_drawn_and_keep_what_is_selected(visit, arguments, explorer):
    page = visit(arguments)
    drag(page, 0, 0.5)
    floors = (explorer.points["name"] == "floor").sum()
    page.get_by_text(f"{floors} points").wait_for()
    seen = [picture(page)]
    for place, value, text in (
        (2, "place", "other or no value"),
        (2, "probe error", "0 to 1"),
        (1, "PCA", "trained of private of PCA"),
        (0, MODELS[1], "trained, untrained of private of PCA"),
    ):
        page.locator("select").nth(place).select_option(value)
        page.get_by_text(text).first.wait_for()
        page.wait_for_timeout(200)
        seen.append(picture(page))
    assert len(set(seen)) == 5
    assert page.get_by_text(f"{floors} points").is_visible()
    assert page.locator(".patch").first.locator("svg image").count() == 3  # the untrained network predicts nothing
    page.locator("select").nth(3).select_option("rgb")
    drag(page, 0, 1)
    page.get_by_text(f"{len(explorer.points) // 2} points").wait_for()


def test_names_of_any_text_are_shown_and_not_run(visit, arguments):
    card = dataclasses.replace(arguments["card"], classes=(EVIL, "box", "ball", "lamp"), title=EVIL)
    factors = arguments["scenes"].factors.assign(place=EVIL).add_prefix(EVIL)
    scenes = dataclasses.replace(arguments["scenes"], ids=[f"{EVIL}{i}" for i in range(16)], factors=factors)
    evil = toy(scenes, card, (EVIL, MODELS[1]))
    page = visit(evil | {"title": EVIL, "captions": dict.fromkeys(evil["captions"], EVIL)})
    page.locator("select").nth(2).select_option(index=5)
    drag(page, 0, 1)
    page.locator(".patch").first.wait_for()
    page.mouse.move(*[page.locator(".bk-Figure").first.bounding_box()[side] + 150 for side in "xy"])
    page.wait_for_timeout(300)
    assert page.locator("img[src=x]").count() == 0
    assert page.get_by_text("<img src=x").count() > 5


@pytest.fixture
def jupyterlab(arguments, tmp_path):
    """Serve a notebook that shows the explorer, and asks in its next cell what is selected."""
    pytest.importorskip("jupyter_bokeh", reason="jupyter_bokeh is not installed")
    (tmp_path / "toy.pkl").write_bytes(pickle.dumps(arguments))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "explore.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--IdentityProvider.token=", "--LabApp.news_url=None"]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    for _ in range(120):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=1)
            break
        except OSError:
            time.sleep(0.5)
    yield f"http://127.0.0.1:{port}/lab/tree/explore.ipynb?reset"
    server.terminate()
    server.wait(60)


def test_what_is_selected_in_jupyterlab_comes_back_to_python(chromium, jupyterlab, arguments, tmp_path):
    errors = []
    page = chromium.new_page(viewport={"width": 1500, "height": 1300})
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(jupyterlab, timeout=120_000)
    page.get_by_text("(ipykernel) | Idle").wait_for(timeout=120_000)  # what is run before is lost
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    page.locator(".bk-Figure canvas").last.wait_for(timeout=120_000)
    page.locator(".jp-OutputArea select").nth(2).select_option("sensor")
    for _ in range(10):  # cells move until everything is laid out
        page.locator(".bk-Figure").first.scroll_into_view_if_needed()
        drag(page, 0, 0.5)
        page.wait_for_timeout(2000)
        if page.locator(".patch").count():
            break
    page.screenshot(path=str(tmp_path / "lab.png"))
    page.locator(".jp-CodeCell .cm-content").nth(1).click()
    page.keyboard.press("Shift+Enter")
    floors = (arguments["points"]["name"] == "floor").sum()
    page.get_by_text(f"selected {floors} ['floor']").wait_for(timeout=60_000)
    assert errors == []
