"""The explorer as a reader meets it: in a browser, from a file."""

import base64
import dataclasses
import io
import json
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from crodino_lib.data.sample import Scenes
from crodino_lib.explorer import Cloud, ExploredRun, payload, write_page
from crodino_lib.explorer.page import SCRIPT, STYLE

MOST_SECONDS, MOST_MB = 6.0, 15.0  # three seconds are promised; a busy machine may take twice as long


@pytest.fixture(scope="module")
def browser(chromium):
    return chromium.new_context(viewport={"width": 1280, "height": 860})


@pytest.fixture
def visit(browser):
    """Opens a file and waits for its points; afterwards nothing may have been complained about or asked for."""
    complaints, requests, pages = [], [], []

    def open_file(path, theme="light"):
        page = browser.new_page()
        pages.append(page)
        page.emulate_media(color_scheme=theme)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("[data-testid=cloud][data-points]")
        return page

    yield open_file
    for page in pages:
        page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module")
def toy_path(toy_scenes, toy_card, toy_runs, tmp_path_factory):
    data = payload("Toy latents", toy_card, toy_scenes, toy_runs)
    return write_page(data, tmp_path_factory.mktemp("page") / "toy.html")


@pytest.fixture
def page(visit, toy_path):
    return visit(toy_path)


def cloud_state(page, name):
    return page.get_by_test_id("cloud").get_attribute(f"data-{name}")


def pixels(page, selector):
    """(H, W, 3) of a canvas."""
    url = page.locator(selector).first.evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def drawn(page):
    """(H, W) bool: where the cloud is not background."""
    picture = pixels(page, "[data-testid=cloud]")
    return (picture != picture[0, 0]).any(axis=2)


def brush(page, left, right, top=0.0, bottom=1.0, modifier=None):
    """Drag over shares of the cloud's canvas."""
    box = page.get_by_test_id("cloud").bounding_box()
    x = [box["x"] + 1 + share * (box["width"] - 2) for share in (left, right)]
    y = [box["y"] + 1 + share * (box["height"] - 2) for share in (top, bottom)]
    if modifier:
        page.keyboard.down(modifier)
    page.mouse.move(x[0], y[0])
    page.mouse.down()
    page.mouse.move(x[1], y[1], steps=3)
    page.mouse.up()
    if modifier:
        page.keyboard.up(modifier)


def patches(page):
    names = ("point", "scene", "class", "sensor", "box")
    return page.get_by_test_id("patch").evaluate_all(
        "(rows, names) => rows.map(row => Object.fromEntries(names.map(name => [name, row.dataset[name]])))", names
    )


def wait_for_patches(page):
    page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('[data-testid=patch] canvas[data-picture]')];"
        "return all.length && all.every(one => 'ready' in one.dataset) }"
    )


def patch_pixels(page, place, name):
    """Centres of the enlarged pixels of a crop, and the crop: x, y, width, height in the scene."""
    selector = f"[data-testid=patch] >> nth={place} >> canvas[data-picture='{name}']"
    times = int(page.locator(selector).get_attribute("data-times"))
    crop = [int(part) for part in page.locator(selector).get_attribute("data-crop").split(",")]
    return pixels(page, selector)[times // 2 :: times, times // 2 :: times], crop


def beside_the_outline(box, crop):
    """(h, w) bool: pixels of the crop that the outline of the box does not touch."""
    x, y, w, h = crop
    left, top, right, bottom = (int(part) for part in box.split(","))
    columns, rows = np.arange(w) + x, np.arange(h) + y
    near_x = np.minimum(abs(columns + 0.5 - left), abs(columns + 0.5 - right)) < 3
    near_y = np.minimum(abs(rows + 0.5 - top), abs(rows + 0.5 - bottom)) < 3
    return ~(near_y[:, None] | near_x[None])


def test_every_point_is_drawn(page, toy_runs):
    assert cloud_state(page, "points") == str(2 * len(toy_runs[0].rows))
    cover = drawn(page)
    assert 0.01 < cover.mean() < 0.6
    middle = cover.shape[1] // 2
    assert cover[:, : middle - 60].any()
    assert cover[:, middle + 120 :].any()
    assert not cover[:, middle - 60 : middle].any()  # the gap between class 0 and the others


def test_the_caption_of_the_cloud_shown_is_always_there(page):
    assert "UMAP of shared: T 0.91" in page.get_by_test_id("caption").inner_text()
    page.get_by_test_id("block-private").check(force=True)
    page.get_by_test_id("embedding-PCA").check(force=True)
    text = page.get_by_test_id("caption").inner_text()
    assert "PCA of private" in text
    assert "Distances between islands, their sizes and the gaps between them mean nothing." in text


def test_brushing_lists_the_points_of_the_rectangle(page, toy_runs):
    brush(page, 0, 0.5)
    rows = toy_runs[0].rows
    floors = np.flatnonzero(np.tile(rows["class"] == 0, 2))
    assert cloud_state(page, "selected") == str(len(floors))
    found = patches(page)
    assert len(found) == min(24, len(floors))
    for patch in found:
        row = rows.iloc[int(patch["point"]) % len(rows)]
        assert int(patch["point"]) in floors
        assert patch["sensor"] == ("rgb", "depth")[int(patch["point"]) // len(rows)]
        assert (patch["scene"], patch["class"]) == (row["image"], "floor")
        assert patch["box"] == ",".join(str(row[side]) for side in ("left", "top", "right", "bottom"))
    summary = page.get_by_test_id("summary").inner_text()
    assert f"floor {len(floors)}" in summary
    assert f"rgb {len(floors) // 2}" in summary


def test_large_coordinates_are_at_the_right_and_the_top(page, toy_runs):
    points = toy_runs[0].clouds[0].points
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    brush(page, 0.5, 1, top=0, bottom=0.5)
    expected = np.flatnonzero((points > middle).all(axis=1))
    assert 0 < len(expected) < len(points) / 2
    assert abs(int(cloud_state(page, "selected")) - len(expected)) <= 2  # the middle is found to a pixel
    listed = [int(patch["point"]) for patch in patches(page)]
    assert (points[listed] > middle - 0.02).all()


def test_the_list_grows_until_every_brushed_point_is_in_it(page, toy_runs):
    page.get_by_test_id("brush-view").click()
    count = 2 * len(toy_runs[0].rows)
    assert page.get_by_test_id("shown").inner_text().startswith(f"24 of {count} shown")
    while page.get_by_test_id("more").is_visible():
        page.get_by_test_id("more").click()
    assert sorted(int(patch["point"]) for patch in patches(page)) == list(range(count))


def test_patches_show_the_right_part_of_the_right_scene(page, toy_scenes, toy_card, toy_runs):
    brush(page, 0.5, 1)
    wait_for_patches(page)
    colours = np.array([*toy_card.palette, *[(224, 224, 224)] * 252])
    for place, patch in enumerate(patches(page)[:6]):
        scene = toy_scenes.ids.index(patch["scene"])
        seen, crop = patch_pixels(page, place, "truth")
        x, y, w, h = crop
        left, top, right, bottom = (int(part) for part in patch["box"].split(","))
        assert x <= left < right <= x + w <= 64
        assert y <= top < bottom <= y + h <= 48
        for low, high, start, size, whole in ((left, right, x, w, 64), (top, bottom, y, h, 48)):
            assert size == min(max(32, np.ceil(1.3 * max(right - left, bottom - top))), whole)
            assert start == pytest.approx(np.clip((low + high - size) / 2, 0, whole - size), abs=0.5)
        inside, window = beside_the_outline(patch["box"], crop), np.s_[y : y + h, x : x + w]
        assert inside.mean() > 0.3
        np.testing.assert_array_equal(seen[inside], colours[toy_scenes.labels[scene][window]][inside])
        for sensor in ("rgb", "depth"):
            said, _ = patch_pixels(page, place, f"prediction:{sensor}")
            expected = colours[toy_runs[0].predictions[sensor][scene][window]]
            np.testing.assert_array_equal(said[inside], expected[inside])
        photograph, _ = patch_pixels(page, place, "rgb")
        distances = [
            np.abs(photograph - image.transpose(1, 2, 0)[window].astype(float))[inside].mean()
            for image in toy_scenes.images["rgb"]
        ]
        assert np.argmin(distances) == scene
        assert distances[scene] < 15


def test_another_run_block_embedding_or_colour_changes_the_picture(page):
    before = pixels(page, "[data-testid=cloud]")
    changes = {
        "colour": lambda: page.get_by_test_id("colour").select_option("modality"),
        "block": lambda: page.get_by_test_id("block-private").check(force=True),
        "embedding": lambda: page.get_by_test_id("embedding-PCA").check(force=True),
        "run": lambda: page.get_by_test_id("run").select_option("untrained"),
    }
    shown = {"colour": "modality", "block": "private", "embedding": "PCA", "run": "untrained"}
    for name, change in changes.items():
        change()
        assert cloud_state(page, name) == shown[name]
        after = pixels(page, "[data-testid=cloud]")
        assert (after != before).any(), name
        before = after


def test_colours_of_numbers_have_a_bar_with_numbers(page, toy_scenes, toy_runs):
    page.get_by_test_id("colour").select_option("error")
    assert page.get_by_test_id("colour-bar").inner_text().split() == ["0", "0.25", "0.5", "0.75", "1"]
    assert "no value: 1" in page.get_by_test_id("legend").inner_text()
    page.get_by_test_id("colour").select_option("factor:room_width_m")
    ticks = [float(tick) for tick in page.get_by_test_id("colour-bar").inner_text().split()]
    stored = toy_scenes.factors["room_width_m"][[i for i in range(16) if i not in (3, 7)]]
    assert ticks[0] == pytest.approx(stored.min(), rel=0.01)
    assert ticks[-1] == pytest.approx(stored.max(), rel=0.01)


def test_brushed_regions_stay_brushed_in_another_block_and_run(page, toy_runs):
    brush(page, 0, 0.5)
    first = {(p["scene"], p["class"], p["sensor"]) for p in patches(page)}
    count = cloud_state(page, "selected")
    page.get_by_test_id("block-private").check(force=True)
    page.get_by_test_id("colour").select_option("error")
    assert cloud_state(page, "selected") == count
    assert {(p["scene"], p["class"], p["sensor"]) for p in patches(page)} == first
    page.get_by_test_id("run").select_option("untrained")
    rows = toy_runs[1].rows
    assert cloud_state(page, "selected") == str(2 * (rows["class"] == 0).sum())
    assert {p["class"] for p in patches(page)} == {"floor"}
    for patch in patches(page):
        assert patch["scene"] == rows["image"][int(patch["point"]) % len(rows)]
    page.get_by_test_id("run").select_option("trained")
    assert cloud_state(page, "selected") == count  # what the other run has not is not forgotten


def test_the_legend_hides_a_class_and_a_sensor_from_eye_and_brush(page, toy_runs):
    rows = toy_runs[0].rows
    middle = drawn(page).shape[1] // 2
    page.get_by_test_id("class-floor").click()
    assert page.get_by_test_id("class-floor").get_attribute("aria-pressed") == "false"
    assert cloud_state(page, "points") == str(2 * (rows["class"] != 0).sum())
    assert not drawn(page)[:, : middle - 60].any()
    brush(page, 0, 0.5)
    assert cloud_state(page, "selected") == "0"
    page.get_by_test_id("sensor-depth").click()
    assert cloud_state(page, "points") == str((rows["class"] != 0).sum())
    assert f"{(rows['class'] != 0).sum()} of {2 * len(rows)} points" in page.get_by_test_id("status").inner_text()
    page.get_by_test_id("classes-all").click()
    assert cloud_state(page, "points") == str(len(rows))


def test_the_wheel_zooms_shift_pans_and_a_double_click_resets(page):
    whole = pixels(page, "[data-testid=cloud]")
    box = page.get_by_test_id("cloud").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -600)
    page.wait_for_timeout(100)
    zoomed = pixels(page, "[data-testid=cloud]")
    assert (zoomed != whole).any()
    brush(page, 0.5, 0.7, 0.5, 0.6, modifier="Shift")
    page.wait_for_timeout(100)
    assert (pixels(page, "[data-testid=cloud]") != zoomed).any()
    assert cloud_state(page, "selected") == "0"
    page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + 3)
    page.wait_for_timeout(100)
    np.testing.assert_array_equal(pixels(page, "[data-testid=cloud]"), whole)


def test_everything_can_be_done_with_the_keyboard(page):
    page.get_by_test_id("cloud").focus()
    for key in ("+", "+", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_timeout(100)
    page.get_by_test_id("brush-view").focus()
    page.keyboard.press("Enter")
    assert 0 < int(cloud_state(page, "selected")) < int(cloud_state(page, "points"))
    page.get_by_test_id("cloud").focus()
    page.keyboard.press("Escape")
    assert cloud_state(page, "selected") == "0"
    page.get_by_test_id("block-shared").focus()
    page.keyboard.press("ArrowRight")
    assert cloud_state(page, "block") == "private"
    assert page.evaluate("document.activeElement.dataset.testid") == "block-private"


def test_every_control_has_a_name(page):
    page.get_by_test_id("brush-view").click()
    nameless = page.evaluate(
        "() => [...document.querySelectorAll('button, select, input, canvas[role=img]')].filter(one => !("
        "one.textContent.trim() || one.ariaLabel || (one.labels && one.labels[0]?.textContent.trim())))"
        ".map(one => one.outerHTML)"
    )
    assert nameless == []


def test_hovering_says_class_and_scene(page, toy_runs):
    box = page.get_by_test_id("cloud").bounding_box()
    cover = drawn(page)
    y, x = np.argwhere(cover)[cover.sum() // 2].tolist()
    page.mouse.move(box["x"] + x, box["y"] + y)
    text = page.get_by_test_id("tooltip").inner_text()
    assert text.split(" · ")[0] in ("floor", "box", "ball", "lamp")
    assert text.splitlines()[1].removeprefix("scene ") in set(toy_runs[0].rows["image"])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_follows_the_theme_and_fits_900_pixels(visit, toy_path, theme):
    page = visit(toy_path, theme)
    page.set_viewport_size({"width": 900, "height": 700})
    page.wait_for_timeout(100)
    assert (pixels(page, "[data-testid=cloud]")[0, 0].mean() > 128) == (theme == "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= 900


def test_a_licensed_dataset_says_that_the_page_stays_here(visit, page, toy_scenes, toy_card, toy_runs, tmp_path):
    assert page.get_by_test_id("licence").count() == 0
    card = dataclasses.replace(toy_card, licensed=True)
    other = visit(write_page(payload("x", card, toy_scenes, toy_runs), tmp_path / "page.html"))
    assert "must not be passed on" in other.get_by_test_id("licence").inner_text()


NOTEBOOK = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,"><style>STYLE</style>
<div id="cell"></div>
<script type="module">SCRIPT
const state = { data: DATA, selected: [0, 3], run: "untrained", block: "private" };
const listeners = new Map();
window.saved = [];
const model = {
  get: (name) => state[name],
  set: (name, value) => { state[name] = value; listeners.get(`change:${name}`)?.(); },
  save_changes: () => saved.push({ run: state.run, block: state.block, selected: state.selected }),
  on: (name, listener) => listeners.set(name, listener),
  off: (name) => listeners.delete(name),
};
const render = () => explorer.render({ model, el: document.getElementById("cell") });
const clean = render();
window.model = model;
window.again = () => {
  clean();
  const left = [listeners.size, document.getElementById("cell").children.length];
  render();
  return left;
};
</script>"""


@pytest.fixture
def cell(visit, toy_scenes, toy_card, toy_runs, tmp_path):
    """The module as a widget, with a stand-in for the model that anywidget hands it."""
    script = SCRIPT.read_text().replace("export default {", "const explorer = {")
    data = json.dumps(payload("Toy", toy_card, toy_scenes, toy_runs))
    text = NOTEBOOK.replace("STYLE", STYLE.read_text()).replace("SCRIPT", script).replace("DATA", data)
    (tmp_path / "cell.html").write_text(text)
    return visit(tmp_path / "cell.html")


def test_a_widget_shows_the_state_of_its_model_and_saves_what_is_brushed(cell, toy_runs):
    assert (cloud_state(cell, "run"), cloud_state(cell, "block")) == ("untrained", "private")
    assert {patch["point"] for patch in patches(cell)} == {"0", "3"}
    brush(cell, 0, 0.5)
    count = len(toy_runs[1].rows)
    expected = {"run": "untrained", "block": "private", "selected": list(range(count))}  # rgb lies on the left
    assert cell.evaluate("saved") == [expected]
    cell.get_by_test_id("run").select_option("trained")
    saved = cell.evaluate("saved")[-1]
    assert saved["run"] == "trained"
    known = set(toy_runs[1].rows[["image", "class"]].itertuples(index=False, name=None))
    pairs = toy_runs[0].rows[["image", "class"]].itertuples(index=False, name=None)
    assert saved["selected"] == [row for row, pair in enumerate(pairs) if pair in known]
    brush(cell, 0, 0.5)
    for run in ("untrained", "trained"):
        cell.get_by_test_id("run").select_option(run)
    assert cell.evaluate("saved")[-1]["selected"] == list(range(len(toy_runs[0].rows)))  # its own echo takes nothing


def test_a_widget_follows_python_and_leaves_nothing_behind(cell):
    cell.evaluate("model.set('selected', [1])")
    assert [patch["point"] for patch in patches(cell)] == ["1"]
    assert cell.evaluate("saved") == []
    assert cell.evaluate("again()") == [0, 0]
    cell.wait_for_selector("[data-testid=cloud][data-points]")
    assert cell.get_by_test_id("explorer").count() == 1
    assert [patch["point"] for patch in patches(cell)] == ["1"]


@pytest.fixture(scope="module")
def large_path(toy_card, tmp_path_factory):
    """300 scenes of 128 x 96 pixels, 20,000 points."""
    generator = np.random.default_rng(0)
    count, rows = 300, 10000
    coarse = generator.integers(4, size=(count, 6, 8))
    labels = coarse.repeat(16, axis=1).repeat(16, axis=2).astype(np.uint8)
    noise = generator.normal(size=(count, 1, *labels.shape[1:])).astype(np.float32)
    colours = np.asarray(toy_card.palette)[labels].transpose(0, 3, 1, 2)
    scenes = Scenes(
        images={
            "rgb": np.clip(colours + 8 * noise, 0, 255).astype(np.uint8),
            "depth": (1.5 + labels[:, None] + 0.1 * noise).astype(np.float16),
        },
        valid={"depth": noise > -2},
        labels=labels,
        ids=[f"{i:04d}" for i in range(count)],
    )
    left, top = 16 * generator.integers(8, size=rows), 16 * generator.integers(6, size=rows)
    image = np.arange(rows) % count
    table = pd.DataFrame({"image": np.asarray(scenes.ids)[image], "class": labels[image, top, left]})
    table = table.assign(left=left, top=top, right=left + 16, bottom=top + 16)
    clouds = [
        Cloud(block, embedding, "", generator.normal(size=(2 * rows, 2)))
        for block in ("shared", "private")
        for embedding in ("UMAP", "PCA")
    ]
    errors = {block: generator.random(2 * rows) for block in ("shared", "private")}
    predictions = {sensor: np.roll(labels, (3, 5), (1, 2)) for sensor in ("rgb", "depth")}
    run = ExploredRun("large", ("rgb", "depth"), table, clouds, errors, predictions)
    return write_page(payload("Large", toy_card, scenes, [run]), tmp_path_factory.mktemp("large") / "page.html")


def test_a_page_of_twenty_thousand_points_and_300_scenes_is_small_and_opens_fast(visit, large_path):
    started = time.perf_counter()
    page = visit(large_path)
    seconds, megabytes = time.perf_counter() - started, large_path.stat().st_size / 1e6
    print(f"{megabytes:.1f} MB, points drawn {seconds:.2f} s after the navigation began")
    assert cloud_state(page, "points") == "20000"
    assert megabytes < MOST_MB
    assert seconds < MOST_SECONDS
