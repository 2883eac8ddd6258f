"""Dials: the study of each value, the order of runs, and gains of made-up runs whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from crodino_lib.config import StudyConfig
from crodino_lib.methods.registry import check_methods
from crodino_lib.study import dial_runs
from crodino_lib.study.dial_runs import CONTROLS, GAIN_COLUMNS, dial_table, gain_table, plan, runs_of, verdict
from crodino_lib.study.dials import BASE, DIALS, Dial, choose_dials
from crodino_lib.study.statistics import paired_interval, resampled_mious
from crodino_lib.study.study import Study

SMOKE = {**BASE, "profile": "smoke", "study": "base", "labelled": 12, "seeds": 3}


@pytest.fixture
def base(tmp_path):
    """A base whose dials can be planned and read; nothing is trained."""
    methods = ("kd", "self-training", "baseline")  # students before their teachers, and one teacher is not named
    return Study(StudyConfig.parse({**SMOKE, "methods": methods}), tmp_path / "results")


def dial(**changes):
    own = {"name": "some", "title": "t", "setting": "labelled", "values": (12,), "students": ("rgb",)}
    return Dial.parse({**own, "prediction": "p", "source": "s", **changes})


# -- the study of one value


def test_the_value_at_which_nothing_differs_is_the_base_itself():
    config = StudyConfig.parse(SMOKE)
    for name, value in (("evidence", 1.0), ("quality", "clean")):
        same = DIALS[name].config(value, config)
        assert (same.name, same.identity()) == ("base", config.identity())
    assert dial().config(12, config).name == "base"


def test_methods_and_seeds_make_no_other_study():
    config = StudyConfig.parse(SMOKE)
    other = dial(settings={"methods": ["baseline"], "seeds": 1}).config(12, config)
    assert (other.name, other.methods, other.seeds) == ("base", ("baseline",), 1)


def test_a_turned_value_changes_its_setting_alone_and_names_the_study():
    config = StudyConfig.parse(SMOKE)
    turned = dial().config(11, config)
    assert turned.name == "base-some-11"
    assert turned.identity() == config.identity() | {"labelled": 11}


def test_an_option_joins_those_of_the_base_and_of_the_dial():
    config = StudyConfig.parse(SMOKE)
    assert DIALS["quality"].config("night", config).data.options == {"evidence": 1.0, "student_quality": "night"}
    assert DIALS["evidence"].config(0.5, config).data.options == {"evidence": 0.5, "private_to": "depth"}
    control = DIALS["control"].config(0.4, config)
    assert control.data.options == {"evidence": 1.0, "oracle": True, "label_noise": 0.4}
    assert (control.sensors, control.teacher) == (("rgb", "oracle"), "baseline")


def test_options_of_the_dial_replace_those_of_the_base():
    assert DIALS["labels-as-rendered"].config(12, StudyConfig.parse(SMOKE)).data.options == {}


def test_only_a_dataset_of_your_own_gets_the_root():
    config = StudyConfig.parse(SMOKE)
    assert DIALS["labels"].config(11, config, "my/copy").data.root == ""
    nyu = DIALS["nyu"].config(100, config, "my/copy")
    assert (nyu.data.root, nyu.data.dataset, nyu.data.options) == ("my/copy", "nyu13", {})
    assert DIALS["nyu"].config(100, config).data.root == ""


def test_every_value_of_every_dial_makes_a_study_of_its_own():
    config = StudyConfig.parse({**BASE, "study": "base"})
    for one in DIALS.values():
        studies = [one.config(value, config) for value in one.values]
        assert len({study.name for study in studies}) == len(studies)
        assert set(one.headline) <= set(one.values)
        for study in studies:
            check_methods(study.methods, study.teacher)


def test_dials_are_chosen_by_name_and_all_built_in_ones_where_none_is_named():
    assert [one.name for one in choose_dials(["labels", "rows"])] == ["labels", "rows"]
    assert {one.name for one in choose_dials([])} == set(DIALS) - {"nyu"}
    with pytest.raises(ValueError, match="Did you mean 'labels'"):
        choose_dials(["label"])
    with pytest.raises(ValueError, match="'nyu' needs root"):
        choose_dials(["nyu"])
    assert choose_dials(["nyu"], "my/copy") == [DIALS["nyu"]]


# -- the order of runs


@pytest.fixture
def unfinished(monkeypatch):
    """No run is finished, and no data is opened to see that."""
    monkeypatch.setattr(Study, "is_finished", lambda self, run: False)


def test_headline_values_come_first_with_all_seeds_and_teachers_before_students(base, unfinished):
    planned = plan([dial(values=(11, 12), headline=(12,))], base)
    assert [run.data.labelled for _, run in planned] == [12] * (len(planned) // 2) + [11] * (len(planned) // 2)
    assert [study.config.name for study, _ in planned][:: len(planned) - 1] == ["base", "base-some-11"]
    for part in (planned[: len(planned) // 2], planned[len(planned) // 2 :]):
        runs = [run for _, run in part]
        assert [run.seed for run in runs] == sorted(run.seed for run in runs)
        for place, run in enumerate(runs):
            assert run.parent is None or run.parent in runs[:place]


def test_no_run_is_planned_twice_also_where_dials_share_a_value(base, unfinished):
    two = [dial(), dial(name="other", students=("rgb", "depth"))]
    planned = [run.model_dump_json() for _, run in plan(two, base)]
    assert len(planned) == len(set(planned))
    both, alone = (len(plan(dials, base)) for dials in (two, two[1:]))
    assert both == alone  # the first dial's runs are among those of the second


def test_students_of_other_sensors_are_not_planned(base, unfinished):
    planned = [run for _, run in plan([dial()], base)]
    assert {run.sensors for run in planned if not run.sensors[1:]} == {("rgb",)}
    assert {run.sensors for run in planned if run.sensors[1:]} == {("rgb", "depth")}
    assert {run.method for run in planned} == {"baseline", "acnet", "self-training", "kd"}
    assert len(planned) == 4 * 3


def test_finished_runs_are_not_planned(base, monkeypatch):
    monkeypatch.setattr(Study, "is_finished", lambda self, run: run.seed != 1)
    assert {run.seed for _, run in plan([dial()], base)} == {1}


def test_runs_of_a_seed_are_its_teachers_and_then_its_own(base):
    runs = runs_of(dial(), base, 2)
    assert {run.seed for run in runs} == {2}
    assert runs[: sum(run.parent is not None for run in runs)] == [run.parent for run in runs if run.parent]


# -- gains


def mious(**values):
    """Return a table of runs as ``run_table`` makes it: method -> mIoU of rgb per seed on the test split."""
    rows = [
        (name.replace("_", "-").replace("--", ":"), seed, miou)
        for name, column in values.items()
        for seed, miou in enumerate(column)
        if miou is not None
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "miou"]).assign(sensors="rgb", split="test")


NONE = {}  # resampled images, which three seeds do not need


def gain_of(table, method, control):
    (row,) = table[(table.method == method) & (table.control == control)].to_dict("records")
    return row


def test_a_gain_is_the_mean_difference_to_the_control_of_the_same_seed():
    table = gain_table(mious(baseline=[10, 20, 60], self_training=[11, 22, 63], kd=[15, 24, 66]), NONE, "rgb")
    row = gain_of(table, "kd", "baseline")
    assert (row["gain"], row["miou"], row["control miou"], row["seeds"]) == (5, 35, 30, 3)
    half = 4.302653 * 1 / 3**0.5  # of 5, 4 and 6
    assert (row["low"], row["high"]) == pytest.approx((5 - half, 5 + half))
    assert gain_of(table, "kd", "self-training")["gain"] == pytest.approx(3)
    assert list(table.columns) == GAIN_COLUMNS


def test_only_seeds_that_both_have_are_compared():
    draws = {("baseline", s): np.zeros(9) for s in range(4)} | {("kd", s): np.arange(9.0) - s for s in range(4)}
    table = gain_table(mious(baseline=[10, 20, 30, 40], kd=[None, 22, 33, None]), draws, "rgb")
    row = gain_of(table, "kd", "baseline")
    assert (row["gain"], row["control miou"], row["seeds"], row["interval over"]) == (2.5, 25, 2, "images")
    # the mean over seeds 1 and 2 of each draw: -1.5 to 6.5
    assert (row["low"], row["high"]) == pytest.approx((-1.5 + 0.2, 6.5 - 0.2))
    assert row["verdict"] == "undecided"
    assert gain_table(mious(baseline=[10, None], kd=[None, 20]), NONE, "rgb").empty


def test_of_two_controls_the_later_one_is_compared_with_the_earlier_alone():
    values = {name.replace(":", "__").replace("-", "_"): [1.0, 2, 3] for name in CONTROLS}
    table = gain_table(mious(**values), NONE, "rgb")
    order = list(CONTROLS)
    pairs = set(zip(table.method, table.control, strict=True))
    assert pairs == {(later, earlier) for i, earlier in enumerate(order) for later in order[i + 1 :]}


def test_other_students_and_splits_do_not_count():
    runs = mious(baseline=[1, 2, 3], kd=[2, 3, 4])
    other = runs.assign(miou=99)
    table = pd.concat([runs, other.assign(sensors="depth"), other.assign(split="test_night")])
    assert gain_of(gain_table(table, NONE, "rgb"), "kd", "baseline")["miou"] == 3
    assert gain_table(runs, NONE, "depth").empty


def test_a_verdict_is_what_the_interval_allows_to_say():
    assert verdict(0.1, 3.0) == "gain"
    assert verdict(-3.0, -0.1) == "loss"
    assert verdict(-0.1, 0.1) == verdict(0.0, 1.0) == verdict(-1.0, 0.0) == "undecided"


@pytest.mark.parametrize("seeds", [3, 8])
def test_the_interval_of_paired_seeds_is_that_of_scipy(seeds):
    first, second = np.random.default_rng(0).normal(size=(2, seeds))
    expected = stats.ttest_rel(first, second).confidence_interval(0.9)
    assert paired_interval(first - second, 0.9) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_have_no_interval(seeds):
    assert np.isnan(paired_interval(np.ones(seeds))).all()


def test_the_interval_covers_the_true_mean_as_often_as_it_promises():
    rng = np.random.default_rng(0)
    ends = np.array([paired_interval(rng.normal(2.0, 1.0, 3)) for _ in range(500)])
    assert ((ends[:, 0] < 2) & (ends[:, 1] > 2)).mean() == pytest.approx(0.95, abs=0.03)


# -- the table of a dial


def test_a_dial_s_table_has_each_finished_value_and_student(base, monkeypatch):
    tables = {"base": mious(baseline=[1, 2, 3], kd=[2, 3, 4]), "base-some-11": mious(baseline=[1], kd=[5])}
    monkeypatch.setattr(Study, "finished", lambda self: (self.config.name, []))
    monkeypatch.setattr(dial_runs, "miou_table", lambda name: tables[name])
    draws = {("baseline", 0): np.zeros(9), ("kd", 0): np.full(9, 3.0)}
    monkeypatch.setattr(dial_runs, "Resampled", lambda name, student: draws)
    turned = dial(values=(11, 12, 10), students=("rgb", "depth"))
    (base.folder.parent / "base-some-11").mkdir()
    table = dial_table(turned, base)
    assert table[["value", "student", "method", "gain", "verdict"]].to_numpy().tolist() == [
        ["11", "rgb", "kd", 4.0, "gain"],
        ["12", "rgb", "kd", 1.0, "gain"],
    ]


def test_reading_a_dial_makes_no_folder_and_an_unturned_one_has_an_empty_table(base):
    before = set(base.folder.parent.rglob("*"))
    for one in DIALS.values():
        table = dial_table(one, base)
        assert table.empty
        assert [*table] == [*GAIN_COLUMNS, "value", "student"]
    assert set(base.folder.parent.rglob("*")) == before


def test_images_are_resampled_once_and_only_for_runs_that_are_asked_for():
    counts, read = np.random.default_rng(0).integers(1, 9, (5, 3, 3)), []

    class Finished:
        def __init__(self, name, sensors):
            self.name, self.sensors = name, sensors
            self.record = {"config": {"seed": 0}, "metrics": [{"sensors": sensors}]}

        def confusion(self):
            read.append((self.name, self.sensors))
            return {("test", self.sensors): counts}

    runs = [Finished(name, sensors) for sensors in ("rgb", "depth") for name in ("kd", "baseline")]
    draws = dial_runs.Resampled(runs, "rgb")
    assert draws["kd", 0] is draws["kd", 0]
    assert read == [("kd", "rgb")]  # not the other sensor's run of this name and seed
    np.testing.assert_array_equal(draws["kd", 0], 100 * resampled_mious(counts, seed=0))
