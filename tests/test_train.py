import functools
import math

import pytest
import torch

from crodino_lib.augment import augment
from crodino_lib.callbacks import CountOperations, gradient_ratios
from crodino_lib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from crodino_lib.device import autocast, resolve_precision
from crodino_lib.io import atomic_write
from crodino_lib.methods.registry import METHODS, build_method, parse_method
from crodino_lib.train import separately_trained, train
from crodino_lib.training import Callback, one_cycle, seeded

SENSORS = ("rgb", "depth")


def config_of(method="crodino-kd", sensors=SENSORS, **settings):
    return RunConfig(
        method=method,
        sensors=sensors,
        model=ModelConfig(encoder="mobilenetv3_small_050", weights="none", block_channels=16, decoder_channels=16),
        train=TrainConfig(**{"epochs": 2, "batch_size": 4, **settings}),
    )


def run(config, scenes, card, folder):
    method = build_method(config, card)
    return train(method, scenes, scenes, config, folder / "resume.pt", resume_every_s=0), method


def taught(name, **settings):
    """A row of these sensors with the teacher it asks for."""
    name, chosen = parse_method(name)
    kind = METHODS[name].build
    seen = {"fusion": ("early", SENSORS), "first": ("baseline", SENSORS[:1]), None: ("", ())}[kind.taught_by]
    config = config_of(name, SENSORS[: kind.sensor_count], **settings)
    return config.model_copy(update={"teacher": seen[0], "teacher_sensors": seen[1], "settings": chosen})


class Killed(BaseException):
    """The process died."""


def interrupted(config, scenes, card, folder, died_after, monkeypatch):
    """A run that dies after so many resume files and goes on in what might be another process."""
    writes = 0

    def die(path):
        nonlocal writes
        writes += 1
        if writes > died_after:
            raise Killed
        return atomic_write(path)

    monkeypatch.setattr("crodino_lib.training.atomic_write", die)
    with pytest.raises(Killed):
        run(config, scenes, card, folder)
    monkeypatch.undo()
    torch.manual_seed(99)  # another process draws other numbers
    return run(config, scenes, card, folder)[0]


def assert_equal_runs(first, second):
    for name, weights in first.students.items():
        assert all(torch.equal(tensor, second.students[name][key]) for key, tensor in weights.items()), name
    columns = [column for column in first.history if column != "seconds"]
    assert first.history[columns].equals(second.history[columns])


@pytest.fixture(scope="module")
def uninterrupted(toy_scenes, toy_card, tmp_path_factory):
    """The run that no interruption may change, by precision."""
    return functools.cache(
        lambda precision: run(config_of(precision=precision), toy_scenes, toy_card, tmp_path_factory.mktemp("whole"))[0]
    )


@pytest.mark.parametrize(("died_after", "precision"), [(1, "fp32"), (4, "fp32"), (3, "bf16"), (7, "bf16")])
def test_a_run_interrupted_after_any_step_ends_with_the_same_weights_bit_for_bit(
    died_after, precision, uninterrupted, toy_scenes, toy_card, tmp_path, monkeypatch
):
    parts = interrupted(config_of(precision=precision), toy_scenes, toy_card, tmp_path, died_after, monkeypatch)
    assert_equal_runs(uninterrupted(precision), parts)


@pytest.mark.parametrize("name", ["cirkd", "maskd", "c2kd", "crodino-kd:queue", "csk-net", "shaspec"])
def test_banks_tokens_draws_and_cut_students_survive_an_interruption(name, toy_scenes, toy_card, tmp_path, monkeypatch):
    config = taught(name, epochs=1, precision="fp32")
    whole, _ = run(config, toy_scenes, toy_card, tmp_path / "whole")
    parts = interrupted(config, toy_scenes, toy_card, tmp_path / "parts", 2, monkeypatch)
    assert_equal_runs(whole, parts)


@pytest.mark.parametrize("name", ["kd", "crodino-kd:predicted"])
def test_a_run_with_unlabelled_scenes_goes_on_with_the_same_batches(name, toy_scenes, toy_card, tmp_path, monkeypatch):
    seen = []

    def noted(scenes, indices, *args):
        seen.append(indices)
        return augment(scenes, indices, *args)

    config = taught(name, steps=5, precision="fp32").model_copy(update={"data": DataConfig(labelled=6)})
    monkeypatch.setattr("crodino_lib.train.augment", noted)
    whole, _ = run(config, toy_scenes, toy_card, tmp_path / "whole")
    batches = seen.copy()
    with monkeypatch.context() as patch:
        parts = interrupted(config, toy_scenes, toy_card, tmp_path / "parts", 2, patch)
    assert len(batches) == 5
    assert seen[5:8] + seen[8:] == batches[:3] + batches[2:]  # the step that died is done again
    assert_equal_runs(whole, parts)
    assert whole.cost["scenes"] == {"labelled": 6, "unlabelled": 10}


def test_a_run_of_so_many_steps_makes_them_and_validates_at_even_distances(toy_scenes, toy_card, tmp_path):
    config = config_of("baseline", ("rgb",), steps=7, epochs=3)
    method, watch = build_method(config, toy_card), Validations()
    trained = train(method, toy_scenes, toy_scenes, config, tmp_path / "resume.pt", [watch])
    assert trained.cost["steps"] == 7
    assert trained.history["epoch"].tolist() == [1, 2, 3]
    assert watch.steps == [3, 5, 7]
    assert trained.history["learning_rate"].is_monotonic_decreasing


class Validations(Callback):
    """Record the steps done at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_epoch_end(self, training):
        self.steps.append(training.step)
        return {}


def test_an_epoch_s_terms_are_means_over_its_own_steps(toy_scenes, toy_card, tmp_path, monkeypatch):
    config, values = config_of("baseline", ("rgb",), steps=3, epochs=2), iter([1.0, 2.0, 6.0])
    method = build_method(config, toy_card)
    weight = next(method.parameters())
    told = lambda batch, progress: {"segmentation/rgb": 0 * weight.sum() + next(values)}  # noqa: E731
    monkeypatch.setattr(method, "training_step", told)
    trained = train(method, toy_scenes, toy_scenes, config, tmp_path / "resume.pt")
    assert trained.history["segmentation/rgb"].tolist() == [1.5, 6.0]  # two steps, then one


def test_two_trainings_of_one_config_are_equal_and_of_two_seeds_are_not(toy_scenes, toy_card, tmp_path):
    first, _ = run(config_of("baseline", ("rgb",)), toy_scenes, toy_card, tmp_path / "1")
    second, _ = run(config_of("baseline", ("rgb",)), toy_scenes, toy_card, tmp_path / "2")
    other = config_of("baseline", ("rgb",)).model_copy(update={"seed": 1})
    third, _ = run(other, toy_scenes, toy_card, tmp_path / "3")
    weight = "decoder.classify.weight"
    assert torch.equal(first.students["rgb"][weight], second.students["rgb"][weight])
    assert not torch.equal(first.students["rgb"][weight], third.students["rgb"][weight])


def test_each_student_keeps_the_weights_of_its_own_best_epoch(toy_scenes, toy_card, tmp_path):
    trained, method = run(config_of(epochs=3), toy_scenes, toy_card, tmp_path)
    for sensor in SENSORS:
        best = trained.history[f"val_miou/{sensor}"].idxmax() + 1
        assert trained.cost["best_epoch"][sensor] == best
        weights = method.students[sensor].state_dict()
        assert all(torch.equal(weights[name], tensor) for name, tensor in trained.students[sensor].items())


def test_the_history_has_every_term_and_ends_at_the_last_epoch(toy_scenes, toy_card, tmp_path):
    trained, _ = run(config_of(), toy_scenes, toy_card, tmp_path)
    assert list(trained.history.epoch) == [1, 2]
    terms = {"segmentation/rgb", "segmentation/depth", "auxiliary/rgb", "auxiliary/depth", "overlap", "contrast"}
    assert terms < set(trained.history.columns)
    assert trained.history[list(terms)].map(math.isfinite).all(axis=None)


def test_the_resume_file_holds_no_pickled_code(toy_scenes, toy_card, tmp_path):
    run(config_of("baseline", ("rgb",), epochs=1), toy_scenes, toy_card, tmp_path)
    saved = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert set(saved) == {"training", "callbacks", "method", "optimiser", "schedule"}


def test_a_loss_that_is_not_finite_is_an_error_that_shows_its_terms(toy_scenes, toy_card, tmp_path, monkeypatch):
    config = config_of("baseline", ("rgb",))
    method = build_method(config, toy_card)
    monkeypatch.setattr(method, "training_step", lambda batch, progress: {"segmentation/rgb": torch.tensor(math.nan)})
    with pytest.raises(ValueError, match=r"segmentation/rgb is not finite at step 0, .*nan\}\. The batch: 00\d\d, 00"):
        train(method, toy_scenes, toy_scenes, config, tmp_path / "resume.pt")


@pytest.mark.parametrize("steps", range(1, 31))
def test_the_learning_rate_rises_to_its_peak_and_falls_in_any_number_of_steps(steps):
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], 1e-3)
    schedule = one_cycle(optimiser, TrainConfig(), steps)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert max(rates[:2]) < 1.0001e-3
    if steps >= 3:
        assert rates[0] < max(rates)
        assert rates[-1] < max(rates)
        assert max(rates) > 0.9e-3


def test_each_student_is_clipped_as_if_it_were_alone(toy_card):
    method = build_method(config_of(), toy_card)
    parts = separately_trained(method)
    assert len(parts) == 3
    assert sum(len(part) for part in parts) == len(list(method.parameters()))


def test_a_damaged_resume_file_is_named(toy_scenes, toy_card, tmp_path):
    (tmp_path / "resume.pt").write_bytes(b"not a resume file")
    with pytest.raises(ValueError, match=r"resume\.pt is damaged"):
        run(config_of("baseline", ("rgb",)), toy_scenes, toy_card, tmp_path)


def test_generators_of_two_purposes_differ_and_of_one_agree():
    draw = [torch.rand(3, generator=seeded(0, purpose)) for purpose in ("order", "order", "dropout")]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


def test_precision_is_what_was_asked_for_and_autocast_obeys():
    cpu = torch.device("cpu")
    assert resolve_precision("fp32", cpu) == "fp32"
    assert resolve_precision("auto", cpu) in ("fp32", "bf16")
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with autocast(cpu, precision):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


class Watch(Callback):
    """Record which events come, and draw numbers of its own."""

    def on_start(self, training):
        self.state["events"] = self.state.get("events", 0)
        self.noise = torch.rand(3, generator=torch.Generator().manual_seed(1))

    def on_terms(self, training, terms):
        self.state["events"] += len(terms)

    def on_epoch_end(self, training):
        return {"watched": self.state["events"]}


def test_a_callback_measures_and_changes_nothing(toy_scenes, toy_card, tmp_path):
    config, watch = config_of("baseline", ("rgb",)), Watch()
    method = build_method(config, toy_card)
    watched = train(method, toy_scenes, toy_scenes, config, tmp_path / "resume.pt", [watch])
    assert watched.history["watched"].tolist() == [4, 8]
    plain, _ = run(config, toy_scenes, toy_card, tmp_path / "plain")
    assert all(torch.equal(weights, plain.students["rgb"][name]) for name, weights in watched.students["rgb"].items())


def test_what_a_callback_stores_survives_an_interruption(toy_scenes, toy_card, tmp_path):
    config = config_of("baseline", ("rgb",), epochs=1)
    counter = CountOperations()
    train(build_method(config, toy_card), toy_scenes, toy_scenes, config, tmp_path / "resume.pt", [counter])
    again = CountOperations()
    train(build_method(config, toy_card), toy_scenes, toy_scenes, config, tmp_path / "resume.pt", [again])
    assert again.cost(4) == counter.cost(4)
    assert again.cost(4)["train_flops"] > 0


def test_gradient_norms_are_relative_to_cross_entropy(toy_scenes, toy_card, tmp_path):
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    terms = {"segmentation/rgb": 3 * weight.sum(), "other": 4 * weight.sum(), "absent": torch.zeros(())}
    assert gradient_ratios(terms, [weight]) == pytest.approx({"gradient/other": 4 / 3, "gradient/absent": 0.0})
