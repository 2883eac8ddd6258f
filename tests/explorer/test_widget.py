import dataclasses

import numpy as np
import pytest
import traitlets

from crodino_lib.explorer import payload

widget = pytest.importorskip("crodino_lib.explorer.widget", reason="anywidget is not installed")


@pytest.fixture
def explorer(toy_scenes, toy_card, toy_runs):
    return widget.Explorer("Toy latents", toy_card, toy_scenes, toy_runs)


def test_the_browser_gets_the_payload_and_the_module(explorer, toy_scenes, toy_card, toy_runs):
    state = explorer.get_state()
    assert state["data"] == payload("Toy latents", toy_card, toy_scenes, toy_runs)
    assert "export function mount" in state["_esm"]
    assert ".crodino-explorer" in state["_css"]
    assert (state["run"], state["block"], state["selected"]) == ("trained", "shared", [])


def test_the_selection_is_the_rows_behind_the_points(explorer, toy_scenes, toy_runs):
    run, count = toy_runs[0], len(toy_runs[0].rows)
    points = [count + 2, 0, 5]
    explorer.selected = points
    table = explorer.selection
    assert table["point"].tolist() == points
    assert table["sensor"].tolist() == ["depth", "rgb", "rgb"]
    for place, point in enumerate(points):
        row, found = run.rows.iloc[point % count], table.iloc[place]
        assert found[row.index].tolist() == row.tolist()
        scene = toy_scenes.ids.index(row["image"])
        assert found["factor/room_width_m"] == toy_scenes.factors["room_width_m"][scene]
        np.testing.assert_equal(found["probe_error"], run.errors["shared"][point])
    assert np.isnan(table["probe_error"][2])


def test_the_selection_follows_the_run_and_block_that_the_browser_shows(explorer, toy_runs):
    explorer.set_state({"run": "untrained", "block": "private", "selected": [1]})
    found = explorer.selection.iloc[0]
    assert found["image"] == toy_runs[1].rows["image"][1]
    assert found["probe_error"] == toy_runs[1].errors["private"][1]


def test_an_empty_selection_has_the_columns_of_a_full_one(explorer):
    explorer.selected = [0]
    full = explorer.selection
    explorer.selected = []
    assert explorer.selection.columns.tolist() == full.columns.tolist()
    assert len(explorer.selection) == 0


def test_a_run_without_errors_has_none_in_its_selection(toy_scenes, toy_card, toy_runs):
    run = dataclasses.replace(toy_runs[0], errors={})
    explorer = widget.Explorer("x", toy_card, dataclasses.replace(toy_scenes, factors=None), [run])
    explorer.selected = [0, 1]
    assert explorer.selection["probe_error"].isna().all()
    assert not [name for name in explorer.selection if name.startswith("factor/")]


def test_points_that_do_not_exist_are_refused_by_number(explorer, toy_runs):
    last = 2 * len(toy_runs[0].rows) - 1
    explorer.selected = [0, last + 1]
    with pytest.raises(ValueError, match=rf"selected holds \[{last + 1}\], but run 'trained' has points 0..{last}"):
        explorer.selection  # noqa: B018


def test_what_the_browser_shows_is_not_set_from_python(explorer):
    for name in ("run", "block", "data"):
        with pytest.raises(traitlets.TraitError, match="read-only"):
            setattr(explorer, name, "other")
