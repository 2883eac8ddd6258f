"""C2KD: what its terms are, what trains them, and what becomes of its teacher."""

import pytest
import torch
import torch.nn.functional as F

from crodino_lib import losses
from crodino_lib.methods.c2kd import proxy
from crodino_lib.methods.registry import build_method
from tests.methods.conftest import batch_for, learn, run_of

TERMS = {f"{term}/{name}" for term in ("segmentation", "proxy", "selected") for name in ("rgb", "teacher")}


def step(method, batch):
    method.zero_grad()
    terms = method.train()(batch, 0.5)
    torch.stack(list(terms.values())).sum().backward()
    return terms


def reached(module):
    return [p.grad is not None and bool(p.grad.isfinite().all() and p.grad.any()) for p in module.parameters()]


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_its_terms_are_those_of_the_released_step(build, toy_scenes):
    method = build("c2kd").eval()  # no dropout
    batch = batch_for(method, toy_scenes)
    with torch.no_grad():
        terms = method(batch, 0.0)
        student, partner = method.students["rgb"](batch.images["rgb"]), method.partner(*batch.images.values())
        s, t = (head(out.decoded) for head, out in zip(method.proxies, (student, partner), strict=True))
    size = s.shape[-2:]
    weight, labels = losses.cover(batch.inside["rgb"], size), losses.nearest_labels(batch.labels["rgb"], size)

    def follow(q, p):
        p, q = p.softmax(dim=1), q.softmax(dim=1)
        return ((p * (p / q).log()).sum(dim=1) * weight).sum() / weight.sum()

    expected = {}
    for name, out, own, other in (("rgb", student, s, t), ("teacher", partner, t, s)):
        up = F.interpolate(out.logits, size=(48, 64), mode="bilinear")
        expected[f"segmentation/{name}"] = F.cross_entropy(up, batch.labels["rgb"], ignore_index=255)
        expected[f"proxy/{name}"] = follow(own, out.logits) + follow(out.logits, own)
        expected[f"selected/{name}"] = losses.selected_distillation(own, other, labels)
    assert set(terms) == TERMS
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-6)
        assert value > 0


@pytest.mark.parametrize("setting", ["proxy_weight", "selected_weight"])
def test_a_weight_multiplies_its_terms_alone(setting, build, toy_scenes):
    batch = batch_for(build("c2kd"), toy_scenes)
    with torch.no_grad():
        once, twice = (build("c2kd", **{setting: weight}).eval()(batch, 0.0) for weight in (1.0, 2.0))
    for name in TERMS:
        factor = 2 if name.startswith(setting.removesuffix("_weight")) else 1
        torch.testing.assert_close(twice[name], factor * once[name])


def test_a_position_counts_above_the_threshold_and_its_target_as_it_is_told(build, toy_scenes):
    batch = batch_for(build("c2kd"), toy_scenes)
    with torch.no_grad():
        found = [
            build(name, **settings).eval()(batch, 0.0)["selected/rgb"].item()
            for name, settings in (("c2kd", {}), ("c2kd:no-target", {}), ("c2kd", {"threshold": 1.0}))
        ]
    assert found[2] == 0 < min(found[:2])
    assert found[0] != pytest.approx(found[1], rel=1e-3)


@pytest.mark.parametrize("teacher", ["early", "acnet", "late", "cen"])
def test_student_partner_and_proxies_are_all_trained_and_the_teacher_is_not(teacher, build, toy_scenes):
    method = build("c2kd", teacher=teacher)
    terms = step(method, batch_for(method, toy_scenes))
    assert set(terms) == TERMS
    for part in (method.students, method.proxies, method.partner):
        assert sum(reached(part)) > 0.9 * len(reached(part))  # of a late teacher the classifiers are not: see C2KD
    assert not any(reached(method.teacher))


def test_each_network_follows_the_other_s_proxy_and_moves_it_nowhere(build, toy_scenes):
    method = build("c2kd")
    batch = batch_for(method, toy_scenes)
    parts = {"rgb": (method.students, method.partner), "teacher": (method.partner, method.students)}
    for name, (network, other) in parts.items():
        method.zero_grad()
        method.train()(batch, 0.5)[f"selected/{name}"].backward()
        assert any(reached(network))
        assert not any(reached(other))


def test_a_baseline_of_the_other_sensor_teaches_as_published(toy_card, toy_scenes):
    other = {"teacher": "baseline", "teacher_sensors": ("depth",)}
    method = build_method(run_of("c2kd", ("rgb", "depth")).model_copy(update=other), toy_card)
    assert method.batch_sensors == ("rgb", "depth")
    assert set(step(method, batch_for(method, toy_scenes))) == TERMS
    assert all(p.grad is not None for p in method.partner.parameters())


def test_the_partner_starts_as_the_trained_teacher_and_leaves_it_behind(build, toy_scenes):
    method = build("c2kd")
    taught = {name: value.clone() for name, value in method.teacher.network.state_dict().items()}
    assert same(taught, method.partner.state_dict())
    assert not same(taught, build_method(method.config, method.card).partner.state_dict())
    learn(method, toy_scenes, steps=2)
    assert same(taught, method.teacher.network.state_dict())
    assert not same(taught, method.partner.state_dict())


def test_the_trained_partner_is_in_the_saved_state_and_in_no_student(build, toy_scenes):
    method, baseline = build("c2kd"), build("baseline")
    assert method.students["rgb"].state_dict().keys() == baseline.students["rgb"].state_dict().keys()
    learn(method, toy_scenes, steps=2)
    again = build_method(method.config, method.card)
    again.load_state_dict(method.state_dict())
    assert same(method.partner.state_dict(), again.partner.state_dict())


def test_without_labels_only_networks_and_their_own_proxies_learn_and_only_inside_the_scene(build, toy_scenes):
    method = build("c2kd").eval()
    batch = batch_for(method, toy_scenes)
    batch.labels = {sensor: torch.full_like(labels, 255) for sensor, labels in batch.labels.items()}
    assert set(method.label_free) == {name for name, term in method(batch, 0.5).items() if term > 0}
    batch.inside = {sensor: torch.zeros_like(inside) for sensor, inside in batch.inside.items()}
    assert not any(method(batch, 0.5).values())
    assert build("c2kd", proxy_weight=0.0).label_free == ()


def test_a_proxy_classifies_every_position_by_itself():
    head, features = proxy(6, 4).eval(), torch.randn(2, 6, 3, 5)
    alone = head(features[:, :, 1:2, 2:3])
    torch.testing.assert_close(head(features)[:, :, 1:2, 2:3], alone)
    assert alone.shape == (2, 4, 1, 1)
