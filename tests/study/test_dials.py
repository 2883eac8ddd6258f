"""Dials: the study of each value, the order of runs, and their table."""

import pytest

from crodino_lib.config import StudyConfig
from crodino_lib.methods.registry import check_methods
from crodino_lib.study.dial_runs import dial_table, plan, runs_of, started_studies, study_of
from crodino_lib.study.dials import BASE, DIALS, Dial, choose_dials
from crodino_lib.study.gains import GAIN_COLUMNS
from crodino_lib.study.study import Study
from tests.study.finished import runs

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


# -- the table of a dial


def test_a_dial_s_table_has_each_finished_value_and_student(base, monkeypatch):
    there = {"base": runs(baseline=[1, 2, 3], kd=[2, 3, 4], cwd=[2, 3, 4]), "base-some-11": runs(baseline=[1], kd=[5])}
    monkeypatch.setattr(Study, "finished", lambda self: (there[self.config.name], []))
    turned = dial(values=(11, 12, 10), students=("rgb", "depth"))
    (base.folder.parent / "base-some-11").mkdir()
    table = dial_table(turned, base)
    found = table[["value", "student", "method", "gain", "verdict"]].round(6)
    assert found.to_numpy().tolist() == [["11", "rgb", "kd", 4.0, "-"], ["12", "rgb", "kd", 1.0, "gain"]]


def test_reading_a_dial_makes_no_folder_and_an_unturned_one_has_an_empty_table(base):
    before = set(base.folder.parent.rglob("*"))
    for one in DIALS.values():
        table = dial_table(one, base)
        assert table.empty
        assert [*table] == ["student", *GAIN_COLUMNS[1:], "value"]
    assert set(base.folder.parent.rglob("*")) == before


def test_started_studies_are_the_base_and_the_values_that_have_a_folder(base):
    turned = dial(values=(11, 12, 13))
    assert [study.config.name for study in started_studies([turned], base)] == ["base"]
    study_of(turned, 13, base)
    assert [study.config.name for study in started_studies([turned, turned], base)] == ["base", "base-some-13"]


# -- ablations


def test_an_ablation_has_the_differences_to_its_reference(base, monkeypatch):
    found = runs(baseline=[40, 41, 42], crodino_kd=[41, 42, 43], crodino_kd__no_contrast=[43, 44, 45])
    monkeypatch.setattr(Study, "finished", lambda self: (found, []))
    groups = {"parts": {"crodino-kd": "reference", "crodino-kd:no-contrast": "no contrast"}}
    ablation = dial(reference="crodino-kd", groups=groups)
    assert ablation.settings["methods"] == ["baseline", "crodino-kd", "crodino-kd:no-contrast"]
    table = dial_table(ablation, base).set_index(["method", "control"])
    assert table.gain["crodino-kd:no-contrast", "crodino-kd"] == pytest.approx(2)
    assert table.gain["crodino-kd", "baseline"] == pytest.approx(1)
    assert ("crodino-kd", "crodino-kd") not in table.index
    plain = dial_table(dial(settings={"methods": ["baseline", "crodino-kd", "crodino-kd:no-contrast"]}), base)
    assert set(plain.control) == {"baseline"}


def test_the_methods_of_every_group_exist_and_the_reference_is_among_them():
    for one in DIALS.values():
        assert bool(one.groups) == bool(one.reference)
        assert not one.reference or one.reference in one.settings["methods"]


def test_two_dials_of_one_setting_train_their_runs_in_both_of_their_studies(base):
    methods = ["baseline"]
    twins = [dial(name=name, values=(11,), settings={"methods": methods}) for name in ("one", "two")]
    planned = plan(twins, base)
    assert [study.config.name for study, _ in planned] == ["base-one-11"] * 3 + ["base-two-11"] * 3
    assert len(plan([twins[0], twins[0]], base)) == 3
