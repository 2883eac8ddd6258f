"""The dials of rooms: each changes what it names, in the same way at every read, and nothing else."""

import hashlib
import itertools

import numpy as np
import pytest

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import FolderDataset
from crodino_lib.data.folder_spec import read_spec
from crodino_lib.data.registry import open_dataset
from crodino_lib.data.sample import IGNORE, check_sample
from crodino_lib.data.scene_cache import load_scenes
from crodino_lib.rooms import generate
from crodino_lib.rooms.generate import SPEC, open_rooms, render_rooms
from crodino_lib.rooms.options import ORACLE_COLOURS, Dials, RoomsOptions, noisy_labels, told_classes
from crodino_lib.rooms.scene import CLASSES, PAIRS, SPLITS

CONFIG = DataConfig(size="64x48", scenes=(5, 2, 4), scene_seed=7)
SENSORS = ("rgb", "depth", "thermal")
QUALITIES = [("rgb", "night"), *itertools.product(SENSORS, ("coarse", "noisy", "blank"))]
EVERY_QUALITY = [{"student": sensor, "student_quality": quality} for sensor, quality in QUALITIES]
EVERY_OPTION = [
    {"evidence": 1.0},
    {"evidence": 0.5},
    {"evidence": 0.5, "private_to": "depth"},
    {"student_quality": "night"},
    {"student_quality": "noisy"},
    {"student_quality": "noisy", "student": "thermal"},
    {"label_noise": 0.3},
    {"label_noise": 0.4},
    {"oracle": True},
]
MERGED = {tuple(pair) for _, *pair in PAIRS.values()}
PRIVATE_TO_RGB = ["picture or rug", "wall or floor"]
GOLDEN = {  # evidence -> classes, where the rest is private to rgb
    1.0: [
        *("picture or wall", "rug or floor", "ceiling", "window", "door", "table", "seat", "appliance or cabinet"),
        *("lamp", "person or statue", "small ball or large ball"),
    ],
    0.75: ["ceiling", "window", "door", "table", "seat", "appliance or cabinet", *PRIVATE_TO_RGB],
    0.5: ["ceiling", "window", *PRIVATE_TO_RGB],
    0.0: PRIVATE_TO_RGB,
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Scenes that are rendered once; the options only change how they are read."""
    cache = tmp_path_factory.mktemp("cache")
    render_rooms(CONFIG, cache / "rooms")
    return cache


@pytest.fixture
def rooms(rendered, monkeypatch):
    monkeypatch.setenv("CRODINO_CACHE", str(rendered))
    monkeypatch.setattr(generate, "_render", None)  # they are all there
    return lambda **options: open_rooms(CONFIG.model_copy(update={"options": options}))


def samples(dataset):
    return [dataset.read(scene_id) for split in SPLITS for scene_id in dataset.ids(split)]


# -- evidence: which classes are told


def names(evidence, private_to="rgb"):
    return [" or ".join(group) for group in told_classes(evidence, private_to)]


def test_without_evidence_given_all_classes_are_told_as_rendered():
    assert names(None) == list(CLASSES)


def test_at_1_every_pair_is_one_class_whatever_is_private():
    for sensor in SENSORS:
        groups = told_classes(1.0, sensor)
        assert set(groups) >= MERGED
        assert sorted(name for group in groups for name in group) == sorted(CLASSES)
        assert len(groups) == len(CLASSES) - len(MERGED)


@pytest.mark.parametrize(
    ("private_to", "told"),
    [
        ("rgb", ["picture or rug", "wall or floor"]),
        ("depth", ["small ball", "large ball"]),
        ("thermal", ["person or appliance", "statue or cabinet"]),
    ],
)
def test_at_0_the_two_classes_of_the_one_sensor_are_left(private_to, told):
    assert names(0.0, private_to) == told


@pytest.mark.parametrize("evidence", GOLDEN)
def test_the_classes_of_every_level_are_those_written_down(evidence):
    assert names(evidence) == GOLDEN[evidence]


@pytest.mark.parametrize("private_to", SENSORS)
def test_the_share_that_every_sensor_tells_rises_with_the_evidence_and_is_the_nearest_there_is(private_to):
    pairs = [pair for sensor, *pair in PAIRS.values() if sensor == private_to]
    own, rest = {name for pair in pairs for name in pair}, len(told_classes(1.0, private_to)) - len(pairs)
    levels, shares = [1.0, *(count / (count + 2) for count in range(rest + 1))], []
    for evidence in np.linspace(0, 1, 101):
        groups = told_classes(evidence, private_to)
        private = [group for group in groups if own & set(group) and group not in MERGED]
        assert len(private) in (0, 2)
        shares.append(1 - len(private) / len(groups))
        assert abs(shares[-1] - evidence) == pytest.approx(min(abs(level - evidence) for level in levels))
    assert shares == sorted(shares)
    assert (shares[0], shares[50], shares[75], shares[-1]) == (0, 0.5, 0.75, 1)


def test_labels_are_those_rendered_joined_by_class_and_ignored_where_no_class_is_told(rooms):
    plain, dataset = rooms(), rooms(evidence=0.5, private_to="rgb")
    groups, seen = told_classes(0.5, "rgb"), set()
    for before, after in zip(samples(plain), samples(dataset), strict=True):
        for k, name in enumerate(CLASSES):
            (expected,) = [i for i, group in enumerate(groups) if name in group] or [IGNORE]
            assert (after["label"][before["label"] == k] == expected).all()
            seen |= {expected} if (before["label"] == k).any() else set()
    assert seen >= {IGNORE, 0, len(groups) - 1}
    assert dataset.card.classes == tuple(" or ".join(group) for group in groups)
    assert dataset.card.palette == tuple(plain.card.palette[CLASSES.index(group[0])] for group in groups)
    assert len(set(dataset.card.palette)) == len(groups)


# -- what stays, and what a fingerprint tells


def test_without_options_scenes_card_and_fingerprint_are_as_before_there_were_any(rooms):
    dataset = rooms()
    plain = FolderDataset(read_spec(SPEC), dataset.root, dataset.splits)
    assert dataset.card == plain.card
    for split in SPLITS:
        for scene_id in dataset.ids(split):
            np.testing.assert_equal(dataset.read(scene_id), plain.read(scene_id))
    text = f"rooms {dataset.root.name} {[5, 2, 4, 2]}"
    assert dataset.fingerprint() == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert rooms(evidence=None, label_noise=0.0).fingerprint() == dataset.fingerprint()


def test_every_option_has_a_fingerprint_of_its_own(rooms):
    found = [rooms(**options).fingerprint() for options in [{}, *EVERY_OPTION]]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("options", [*EVERY_OPTION, *EVERY_QUALITY], ids=str)
def test_scenes_keep_the_contract_and_can_be_loaded_under_every_option(options, rooms):
    dataset = rooms(**options)
    for sample in samples(dataset):
        check_sample(sample, dataset.card)
    scenes = load_scenes(dataset, "train", CONFIG, tuple(dataset.card.sensors))
    np.testing.assert_array_equal(scenes.labels[0], dataset.read("train-00000")["label"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"evidense": 0.5}, "Did you mean 'evidence'?"),
        ({"evidence": 1.5}, "evidence = 1.5: Input should be less than or equal to 1"),
        ({"private_to": "termal"}, "Did you mean 'thermal'?"),
        ({"student_quality": "dark"}, "student_quality = 'dark' is not allowed"),
        ({"student_quality": "night", "student": "depth"}, "only rgb sees.*given student 'depth'"),
        ({"label_noise": 1.0}, "label_noise = 1.0: Input should be less than 1"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_rendered(options, told, rooms, monkeypatch):
    monkeypatch.setattr(generate, "render_rooms", None)
    with pytest.raises(ValueError, match=f"options of rooms: (.|\n)*{told}"):
        open_dataset(CONFIG.model_copy(update={"options": options}))


# -- quality


@pytest.mark.parametrize(("student", "quality"), QUALITIES)
def test_a_quality_changes_the_sensor_it_names_and_no_other_entry(student, quality, rooms):
    dataset = rooms(student=student, student_quality=quality)
    for before, after in zip(samples(rooms()), samples(dataset), strict=True):
        check_sample(after, dataset.card)
        assert not np.array_equal(before[student], after[student])
        for name in before.keys() - {student, f"{student}_valid"}:
            np.testing.assert_array_equal(before[name], after[name])
        if student != "rgb":
            assert (after[student][~after[f"{student}_valid"]] == 0).all()


@pytest.mark.parametrize(("student", "quality"), QUALITIES)
def test_a_scene_looks_the_same_at_every_read(student, quality, rooms):
    first, second = (rooms(student=student, student_quality=quality).read("train-00001") for _ in range(2))
    np.testing.assert_equal(first, second)


def test_night_leaves_a_trace_of_the_scene_and_coarse_pixels_are_means_of_blocks(rooms):
    before = rooms().read("train-00000")
    dark = rooms(student_quality="night").read("train-00000")["rgb"]
    assert dark.mean() < 0.6 * before["rgb"].mean()
    assert np.corrcoef(dark.ravel(), before["rgb"].ravel())[0, 1] > 0.2
    coarse = rooms(student="depth", student_quality="coarse").read("train-00000")
    for y, x in itertools.product(range(12), range(16)):
        block = np.s_[0, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        measured = before["depth"][block][before["depth_valid"][block]]
        assert coarse["depth_valid"][block].all() == coarse["depth_valid"][block].any() == (len(measured) > 0)
        np.testing.assert_allclose(coarse["depth"][block], measured.mean() if len(measured) else 0, rtol=1e-5)


@pytest.mark.parametrize("sensor", SENSORS)
def test_noise_has_the_deviation_of_the_card(sensor, rooms):
    dataset = rooms(student=sensor, student_quality="noisy")
    before, after = rooms().read("train-00000"), dataset.read("train-00000")
    valid = np.broadcast_to(before.get(f"{sensor}_valid", True), before[sensor].shape)
    clear = valid & (after[sensor] > 0) & (after[sensor] < (255 if sensor == "rgb" else 1e9))  # rgb is clipped
    added = (after[sensor].astype(float) - before[sensor])[clear]
    assert added.std() == pytest.approx(np.mean(dataset.card.sensors[sensor].std), rel=0.35)


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_blank_sensor_holds_nothing_of_the_scene(sensor, rooms):
    """Another scene under the same name looks exactly the same to it, its holes included."""
    dials, dataset = Dials(RoomsOptions(student=sensor, student_quality="blank")), rooms()
    one, other = (dials.apply(dataset.read(i) | {"id": "train-00000"}, dataset.card) for i in dataset.ids("val"))
    np.testing.assert_array_equal(one[sensor], other[sensor])
    if sensor != "rgb":
        np.testing.assert_array_equal(one[f"{sensor}_valid"], other[f"{sensor}_valid"])
    assert not np.array_equal(one["label"], other["label"])
    assert not np.array_equal(one[sensor], dials.apply(dataset.read("val-00001"), dataset.card)[sensor])


# -- labels


def test_noise_of_labels_is_in_training_scenes_alone_and_the_same_at_every_read(rooms):
    clean, noisy, again = rooms(), rooms(label_noise=0.5), rooms(label_noise=0.5)
    for split in SPLITS:
        before, after = ([d.read(i)["label"] for i in clean.ids(split)] for d in (clean, noisy))
        changed = sum((a != b).any() for a, b in zip(before, after, strict=True))
        assert changed > 2 if split == "train" else changed == 0
        np.testing.assert_array_equal(after, [again.read(i)["label"] for i in clean.ids(split)])
    one, other = (rooms(label_noise=0.5, student_quality=q).read("train-00000") for q in ("clean", "noisy"))
    np.testing.assert_array_equal(one["label"], other["label"])  # no option changes another's draws


def test_a_wrong_class_is_that_of_whole_regions_and_never_ignored_or_unknown():
    label = np.arange(20).repeat(5).reshape(10, 10)
    label[label >= 16] = IGNORE
    found = noisy_labels(label, 0.5, 16, np.random.default_rng(0))
    assert all(len(np.unique(found[label == k])) == 1 for k in range(16))
    assert (found[label == IGNORE] == IGNORE).all()
    assert found[label != IGNORE].max() < 16


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_about_the_asked_share_of_regions_is_wrong_and_each_other_class_is_as_likely(share):
    label, wrong = np.arange(8)[:, None], []
    for seed in range(500):
        found = noisy_labels(label, share, 8, np.random.default_rng(seed))
        wrong += [(int(k), int(v)) for k, v in zip(label[:, 0], found[:, 0], strict=True) if k != v]
    assert len(wrong) / 4000 == pytest.approx(share, abs=0.03)
    distances = np.bincount([(new - old) % 8 for old, new in wrong], minlength=8)
    assert distances[0] == 0
    assert distances[1:].min() > 0.5 * distances[1:].mean()


def test_the_oracle_shows_the_clean_class_also_where_labels_are_noisy(rooms):
    clean, dataset = rooms(), rooms(oracle=True, label_noise=0.8)
    assert list(dataset.card.sensors) == [*SENSORS, "oracle"]
    wrong = 0
    for scene_id in clean.ids("train"):
        label, sample = clean.read(scene_id)["label"], dataset.read(scene_id)
        wrong += (sample["label"] != label).any()
        for k, colour in enumerate(ORACLE_COLOURS):
            assert (colour == sample["oracle"][:, label == k].T).all()
        assert sample["oracle_valid"].all()
    assert wrong


@pytest.mark.parametrize("evidence", [None, 1.0])
def test_what_is_private_makes_no_other_dataset_where_every_class_is_shared_or_all_are_told(evidence):
    options = RoomsOptions.parse({"evidence": evidence, "private_to": "thermal"})
    assert options == RoomsOptions.parse({"evidence": evidence})
    with pytest.raises(ValueError, match="private_to"):
        RoomsOptions.parse({"evidence": evidence, "private_to": "termal"})
