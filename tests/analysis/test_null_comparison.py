import numpy as np
import pandas as pd
import pytest

from crodino_lib.analysis.null_models import NULL_MODELS, compare_to_nulls, factor_table
from crodino_lib.analysis.suite import KEYS
from tests.analysis.factories import results

THREE = list(NULL_MODELS)[:3]


def cka(value, measure="cka"):
    return results(("region", "cka", measure, "", "", "shared", value))


@pytest.mark.parametrize(
    ("value", "flag"),
    [(0.51, "above"), (0.5, "within"), (0.3, "within"), (0.1, "within"), (0.09, "below"), (np.nan, "")],
)
def test_a_value_outside_the_range_of_the_null_models_is_flagged(value, flag):
    nulls = dict(zip(THREE, map(cka, (0.1, 0.5, 0.3)), strict=True))
    table = compare_to_nulls(cka(value), nulls)
    assert table["flag"].tolist() == [flag]
    assert table[[*THREE, "low", "high"]].iloc[0].tolist() == [0.1, 0.5, 0.3, 0.1, 0.5]
    assert np.isnan(table["shuffled_pairs"].iloc[0])


def test_null_models_that_are_missing_or_have_no_value_do_not_count():
    nulls = {"untrained": cka(0.1), "independent_baselines": cka(np.nan), "shuffled_channels": results()}
    table = compare_to_nulls(cka(0.4), nulls)
    assert table[["low", "high", "nulls"]].iloc[0].tolist() == [0.1, 0.1, 1]
    assert table["flag"].tolist() == [""]  # beside so few, everything would be
    assert compare_to_nulls(cka(0.4), {})["flag"].tolist() == [""]


def test_null_models_are_matched_by_all_keys_in_any_order():
    rows = [
        ("region", "cka", "cka", "", "", "shared", 1.0),
        ("image", "cka", "cka", "", "", "shared", 2.0),
        ("region", "gap", "cka", "", "", "shared", 3.0),
        ("region", "cka", "other", "", "", "shared", 4.0),
        ("region", "cka", "cka", "width", "", "shared", 5.0),
        ("region", "cka", "cka", "", "rgb", "shared", 6.0),
        ("region", "cka", "cka", "", "", "private", 7.0),
    ]
    untrained = results(*[(*keys, 10 * value) for *keys, value in reversed(rows)], ("x", "", "", "", "", "", 0.0))
    table = compare_to_nulls(results(*rows), {"untrained": untrained})
    assert table["value"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert table["untrained"].tolist() == [10, 20, 30, 40, 50, 60, 70]


def test_shuffled_pairs_bound_from_above_alone():
    nulls = dict(zip(NULL_MODELS, map(cka, (0.6, 0.7, 0.8, 0.0)), strict=True))
    assert compare_to_nulls(cka(0.1), nulls)["flag"].tolist() == ["below"]
    assert compare_to_nulls(cka(0.1), nulls | {"shuffled_pairs": cka(0.9)})["high"].tolist() == [0.9]


def test_of_losses_shuffled_pairs_bound_from_below_alone():
    """A decoder that loses as little with another scene's half as with the same scene's has no shared half."""
    nulls = {null: cka(v, "lost_swap") for null, v in zip(NULL_MODELS, (2.0, 1.9, 0.13, 0.07), strict=True)}
    assert compare_to_nulls(cka(0.08, "lost_swap"), nulls)["flag"].tolist() == ["within"]
    assert compare_to_nulls(cka(0.06, "lost_swap"), nulls)["flag"].tolist() == ["below"]
    high = compare_to_nulls(cka(2.1, "lost_swap"), nulls | {"shuffled_pairs": cka(9.0, "lost_swap")})
    assert high["flag"].tolist() == ["above"]


@pytest.mark.parametrize("measure", ["chance_recall_1", "skill_chance", "class_chance"])
def test_chance_levels_are_not_flagged(measure):
    nulls = {name: cka(0.0, measure) for name in THREE}
    assert compare_to_nulls(cka(9.0, measure), nulls)["flag"].tolist() == [""]


def test_the_results_themselves_are_not_changed():
    value = cka(0.4)
    compare_to_nulls(value, {"untrained": cka(0.1)})
    assert list(value) == [*KEYS, "value"]


# -- the factor table --------------------------------------------------------------------------------------------------


def compared(model="kd seed 0", variant="kd", **changes):
    """Skills of one model: width above its null models and chance, hue above them but not above chance, night below."""
    rows = []
    for target, value, chance in (("width", 0.8, 0.1), ("hue", 0.6, 0.7), ("night", 0.2, 0.1), ("class", 0.9, None)):
        rows.append(("image", "factors", "skill", target, "rgb", "shared", changes.get(target, value)))
        if chance:
            rows.append(("image", "factors", "skill_chance", target, "rgb", "shared", chance))
    table = compare_to_nulls(results(*rows), dict.fromkeys(THREE, results(*[(*row[:-1], 0.5) for row in rows])))
    return table.assign(model=model, variant=variant)


def test_cells_above_the_null_models_and_above_chance_are_flagged():
    table = factor_table(compared())
    ours = table[table["group"] == "kd"].set_index("target")
    assert ours["skill"].to_dict() == {"width": 0.8, "hue": 0.6, "night": 0.2, "class": 0.9}
    assert ours["flag"].to_dict() == {"width": True, "hue": False, "night": False, "class": True}
    assert (ours["sensor"] == "rgb").all()


def test_of_several_seeds_a_cell_has_the_mean_and_a_flag_where_every_seed_has_one():
    table = factor_table(pd.concat([compared(), compared("kd seed 1", width=0.4)]))
    ours = table[table["group"] == "kd"].set_index("target")
    assert ours.loc["width", "skill"] == pytest.approx(0.6)
    assert ours["flag"].to_dict() == {"width": False, "hue": False, "night": False, "class": True}


def test_null_models_of_the_first_variant_and_sensors_have_groups_of_their_own():
    truth = pd.DataFrame({"rgb": [0.7, -0.2], "depth": [0.1, 0.3]}, index=pd.Index(["width", "hue"], name="factor"))
    table = factor_table(pd.concat([compared(), compared("c3 seed 0", "c3")]), truth)
    assert table["group"].unique().tolist() == ["sensors", "kd", "c3", *THREE]
    assert (table.loc[table["group"] == "untrained", "skill"] == 0.5).all()
    sensors = table[table["group"] == "sensors"].set_index(["target", "sensor"])["skill"]
    assert (sensors["width", "rgb"], sensors["hue", "rgb"], sensors["hue", "depth"]) == (0.7, 0.0, 0.3)
    assert table["flag"].dtype == bool
