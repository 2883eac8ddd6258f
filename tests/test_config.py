import json

import pytest

from crodino_lib.config import DataConfig, RunConfig, StudyConfig, parse_size, profiles


def message(**settings):
    with pytest.raises(ValueError, match=r".") as caught:
        StudyConfig.parse(settings)
    return str(caught.value)


@pytest.mark.parametrize("profile", profiles())
def test_every_profile_makes_a_valid_study(profile):
    config = StudyConfig.parse({"profile": profile})
    assert config.train.epochs == profiles()[profile]["epochs"]
    assert config.data.size == profiles()[profile]["size"]
    assert config.seeds == profiles()[profile]["seeds"]


def test_the_profiles_are_there_and_the_tour_says_that_it_is_one():
    assert list(profiles()) == ["smoke", "quick", "cpu", "dials", "gpu", "paper"]
    assert profiles()["quick"]["description"] == "a tour, not evidence"


def test_a_studys_own_setting_wins_over_the_profiles_and_the_profiles_over_the_default():
    config = StudyConfig.parse({"profile": "paper", "epochs": 3})
    assert (config.train.epochs, config.model.encoder, config.train.batch_size) == (3, "resnet50", 16)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"profil": "quick"}, "there is no parameter 'profil' (given 'quick'). Did you mean 'profile'?"),
        (
            {"profile": "quik"},
            "profile 'quik' does not exist; it must be one of smoke, quick, cpu, dials, gpu, paper."
            " Did you mean 'quick'?",
        ),
        ({"epochs": 0}, "epochs = 0: Input should be greater than or equal to 1"),
        ({"epochs": "3"}, "epochs = '3': Input should be a valid integer"),
        ({"epochs": True}, "epochs = True: Input should be a valid integer"),
        ({"labelled": 0}, "labelled = 0: Input should be greater than or equal to 1"),
        ({"labelled": 0.5}, "labelled = 0.5: Input should be a valid integer"),
        ({"steps": 0}, "steps = 0: Input should be greater than or equal to 1"),
        ({"sensors": "('rgb', 'depth')"}, "a list or tuple that arrived as text"),
        ({"scenes": "[1, 2, 3]"}, "a list or tuple that arrived as text"),
        ({"size": "128"}, "size '128' must be 'native', or WIDTHxHEIGHT"),
        ({"size": "120x96"}, "try '128x96'"),
        ({"output_stride": 12}, "output_stride = 12 is not allowed"),
        ({"precision": "bf61"}, "Did you mean 'bf16'?"),
        ({"study": "../escape"}, "study = '../escape'"),
        ({"study": ".."}, "study = '..'"),
        ({"size": ""}, "size '' must be 'native', or WIDTHxHEIGHT"),
        ({"sensors": ("rgb", "rgb")}, "two different sensors"),
        ({"methods": ()}, "at least one method"),
        ({"methods": ("baseline", "baseline")}, "none twice"),
    ],
)
def test_an_error_names_parameter_value_what_is_allowed_and_the_nearest(settings, told):
    assert told in message(**settings)


@pytest.mark.parametrize(
    ("labelled", "scenes", "told"),
    [
        (3, 20, "labelled 3 is fewer than 4 classes; give 4 to 20, or 'all'"),
        (21, 20, "labelled 21 is more than the 20 training scenes; give 4 to 20, or 'all'"),
        (2, 3, "labelled 2 is fewer than 4 classes; give more than 3 training scenes, or 'all'"),
        (4, 3, "labelled 4 is more than the 3 training scenes; give more than 3 training scenes, or 'all'"),
    ],
)
def test_a_wrong_count_of_labelled_scenes_is_answered_with_what_to_give(labelled, scenes, told):
    with pytest.raises(ValueError, match=told):
        DataConfig(labelled=labelled).check_labelled(scenes, classes=4)


def test_every_count_from_the_classes_to_the_scenes_and_none_may_be_labelled():
    for labelled in (None, 4, 11, 20):
        DataConfig(labelled=labelled).check_labelled(20, classes=4)


def test_every_wrong_parameter_is_told_at_once():
    assert len(message(profil="quick", epochs=0, datset="rooms").splitlines()) == 3


def test_a_key_that_is_no_string_is_refused():
    with pytest.raises(ValueError, match="1"):
        RunConfig.parse({"method": "baseline", "sensors": ["rgb"], 1: 2})


def test_a_run_reads_back_from_json_as_it_was():
    shared = StudyConfig.parse({"profile": "cpu"})
    parts = {"data": shared.data, "model": shared.model, "train": shared.train}
    config = RunConfig(method="crodino-kd", seed=3, settings={"temperature": 0.2}, **parts)
    assert RunConfig.parse(json.loads(config.model_dump_json())) == config


def test_native_sizes_are_cut_to_what_networks_can_halve():
    assert DataConfig(size="native").pixels((650, 485)) == (640, 480)
    assert parse_size("160x128") == (160, 128)


def identity(**settings):
    return StudyConfig.parse(settings).identity()


def test_identity_changes_with_the_budget_but_not_with_methods_seeds_and_place():
    base = identity(profile="quick")
    assert identity(profile="quick", seeds=3, methods=("baseline",), root="elsewhere") == base
    usual = {name: profiles()["quick"][name] for name in ("epochs", "batch_size")}
    assert identity(profile="quick", **usual) == base  # what they are anyway
    assert identity(profile="quick", epochs=usual["epochs"] + 1) != base
    assert identity(profile="quick", steps=100) != base
    assert identity(profile="quick", labelled=20) != base


def test_flat_settings_make_the_same_study_again():
    config = StudyConfig.parse({"profile": "smoke", "epochs": 3, "scenes": [4, 5, 6], "seeds": None, "size": "64x48"})
    assert config.given == {"epochs": 3, "scenes": (4, 5, 6), "profile": "smoke"}
    assert StudyConfig.parse(json.loads(json.dumps(config.flat()))) == config


def test_the_caveat_names_what_was_changed_of_the_profile():
    epochs = profiles()["quick"]["epochs"]
    assert StudyConfig.parse({"profile": "quick", "epochs": epochs}).caveat() == "Profile quick: a tour, not evidence."
    assert StudyConfig.parse({"epochs": 9, "depth_encoding": "log"}).caveat() == (
        "Profile quick, changed: epochs 9, depth_encoding log."
    )
