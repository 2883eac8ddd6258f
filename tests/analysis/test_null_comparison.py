import numpy as np
import pytest

from crodino_lib.analysis.null_comparison import beside_nulls
from crodino_lib.analysis.suite import ROW_KEYS
from tests.analysis.factories import answers


def cka(value, where="shared", measure="cka"):
    return answers(("region", "cka", measure, where, value))


@pytest.mark.parametrize(
    ("value", "called"),
    [(0.51, "above"), (0.5, "within"), (0.3, "within"), (0.1, "within"), (0.09, "below"), (np.nan, "")],
)
def test_a_value_is_called_where_it_leaves_the_range_of_the_nulls(value, called):
    table = beside_nulls(cka(value), {"N1": cka(0.1), "N2": cka(0.5), "N3": cka(0.3)}, {})
    assert table["called"].tolist() == [called]
    assert table[["N1", "N2", "N3", "low", "high"]].iloc[0].tolist() == [0.1, 0.5, 0.3, 0.1, 0.5]
    assert np.isnan(table["N4"].iloc[0])


def test_nulls_that_are_missing_or_have_no_value_do_not_count():
    table = beside_nulls(cka(0.4), {"N1": cka(0.1), "N2": cka(np.nan), "N3": answers()}, {})
    assert table[["low", "high", "nulls"]].iloc[0].tolist() == [0.1, 0.1, 1]
    assert table["called"].tolist() == [""]  # beside so few, everything would be
    assert beside_nulls(cka(0.4), {}, {})["called"].tolist() == [""]


def test_nulls_are_matched_by_unit_question_measure_and_place_in_any_order():
    rows = [
        ("region", "cka", "cka", "shared", 1.0),
        ("image", "cka", "cka", "shared", 2.0),
        ("region", "hsic", "cka", "shared", 3.0),
        ("region", "cka", "cka_whitened", "shared", 4.0),
        ("region", "cka", "cka", "private", 5.0),
    ]
    theirs = answers(*[(*keys, 10 * value) for *keys, value in reversed(rows)], ("pixel", "cka", "cka", "shared", 0.0))
    table = beside_nulls(answers(*rows), {"N1": theirs}, {})
    assert table["value"].tolist() == [1, 2, 3, 4, 5]
    assert table["N1"].tolist() == [10, 20, 30, 40, 50]


def test_shuffled_rows_count_only_for_pairs_across_the_sensors():
    paired = {"cka": ("cka",)}
    rows = [
        ("region", "cka", "cka", "shared"),
        ("region", "cka", "other", "shared"),
        ("region", "gap", "cka", "shared"),
    ]
    rows += [("region", "cka", "cka", "rgb/shared"), ("region", "cka", "cka", "rgb")]
    value, theirs = (answers(*[(*keys, number) for keys in rows]) for number in (0.5, 0.9))
    table = beside_nulls(value, {"N4": theirs}, paired)
    assert table["N4"].fillna(-1).tolist() == [0.9, -1, -1, -1, -1]


def test_shuffled_pairs_bound_from_above_alone():
    nulls = {"N1": cka(0.6), "N2": cka(0.7), "N3": cka(0.8), "N4": cka(0.0)}
    paired = {"cka": ("cka",)}
    assert beside_nulls(cka(0.1), nulls, paired)["called"].tolist() == ["below"]
    assert beside_nulls(cka(0.1), nulls | {"N4": cka(0.9)}, paired)["high"].tolist() == [0.9]


@pytest.mark.parametrize("measure", ["alignment", "median_rank", "lost_swap_shared"])
def test_where_low_is_alike_shuffled_pairs_bound_from_below_alone(measure):
    """Halves around a common offset align as well unpaired as paired: that is no sharing."""
    theirs = {"N1": 2.0, "N2": 1.9, "N3": 0.13, "N4": 0.07}
    nulls = {name: cka(value, measure=measure) for name, value in theirs.items()}
    paired = {"cka": (measure,)}
    assert beside_nulls(cka(0.08, measure=measure), nulls, paired)["called"].tolist() == ["within"]
    assert beside_nulls(cka(0.06, measure=measure), nulls, paired)["called"].tolist() == ["below"]
    high = beside_nulls(cka(2.1, measure=measure), nulls | {"N4": cka(9.0, measure=measure)}, paired)
    assert high["called"].tolist() == ["above"]


@pytest.mark.parametrize(
    "measure",
    ["hsic_p", "mmd_p", "chance_recall_1", "width_chance", "cosine_floor", "hsic_p_floor", "factors"],
)
def test_measures_that_judge_others_are_not_judged(measure):
    nulls = {name: cka(0.0, measure=measure) for name in ("N1", "N2", "N3")}
    assert beside_nulls(cka(9.0, measure=measure), nulls, {})["called"].tolist() == [""]


@pytest.mark.parametrize("measure", ["cka", "class", "class_mlp", "recall_1", "effective_rank", "gap_scaled", "mrr"])
def test_all_others_are(measure):
    table = beside_nulls(
        cka(9.0, measure=measure), {name: cka(0.0, measure=measure) for name in ("N1", "N2", "N3")}, {}
    )
    assert table["called"].tolist() == ["above"]


def test_the_answers_themselves_are_not_changed():
    value = cka(0.4)
    beside_nulls(value, {"N1": cka(0.1)}, {})
    assert list(value) == [*ROW_KEYS, "value"]
