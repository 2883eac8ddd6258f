"""ShaSpec: sensors that are missing, and what is cut out for each alone."""

import pytest
import torch

from tests.methods.conftest import batch_for, images_of


@pytest.fixture
def method(build):
    return build("shaspec")


def test_a_sensor_alone_says_what_the_whole_network_says_without_the_other(method, toy_scenes, toy_card):
    method.train()(batch_for(method, toy_scenes), 0.0)  # moves the statistics
    method.eval().export()
    images, whole = images_of(method.sensors, toy_scenes, toy_card), method.students["rgb+depth"]
    for sensor in method.sensors:
        expected = whole.decode(whole.features({sensor: images[sensor]})).logits
        torch.testing.assert_close(method.students[sensor](images[sensor]).logits, expected, rtol=1e-4, atol=1e-5)


def test_a_missing_sensor_is_replaced_by_the_shared_map_of_the_one_that_is_there(method, toy_scenes, toy_card):
    whole, images = method.eval().students["rgb+depth"], images_of(("rgb", "depth"), toy_scenes, toy_card)
    features = whole.features({"depth": images["depth"]})
    seen = []
    whole.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    whole.decode(features)
    substitute, own = seen[0].chunk(2, dim=1)
    shared, specific = features.shared["depth"], features.specific["depth"]
    torch.testing.assert_close(substitute, shared)
    torch.testing.assert_close(own, shared + whole.compose(torch.cat([shared, specific], dim=1)))


def test_every_sensor_is_there_in_the_first_stage_and_some_go_missing_after_it(method):
    torch.manual_seed(0)
    drawn = {method.draw_present() for _ in range(50)}
    assert drawn == {("rgb",), ("depth",), ("rgb", "depth")}


def test_an_absent_sensor_counts_in_no_term(method, toy_scenes, monkeypatch):
    monkeypatch.setattr(method, "draw_present", lambda: ("depth",))
    batch = batch_for(method, toy_scenes)
    batch.images["rgb"] = torch.full_like(batch.images["rgb"], float("nan"))
    terms = method.train()(batch, 0.9)
    assert all(term.isfinite() for term in terms.values())
    assert terms["shared"].item() == 0


def test_its_terms_are_weighed_as_published(method, toy_scenes):
    method.eval()
    terms = method(batch_for(method, toy_scenes), 0.0)
    features = method.students["rgb+depth"].features(batch_for(method, toy_scenes).images)
    expected = 0.1 * (features.shared["rgb"] - features.shared["depth"]).abs().mean()
    torch.testing.assert_close(terms["shared"], expected)
    told = [method.tell_sensor(features.pooled[s]).log_softmax(1)[:, i] for i, s in enumerate(method.sensors)]
    torch.testing.assert_close(terms["specific"], -0.02 * torch.stack(told).mean())


def test_a_decoder_norm_moves_only_on_its_own_set_of_sensors(method, toy_scenes, monkeypatch):
    norms = method.students["rgb+depth"].decoder.fuse[0][1].norms
    before = {name: norm.running_mean.clone() for name, norm in norms.items()}
    monkeypatch.setattr(method, "draw_present", lambda: ("rgb",))
    method.train()(batch_for(method, toy_scenes), 0.9)
    assert {name for name, norm in norms.items() if not torch.equal(norm.running_mean, before[name])} == {"rgb"}
