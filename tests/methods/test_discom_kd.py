import pytest
import torch
import torch.nn.functional as F

from crodino_lib.cost import inference_cost
from crodino_lib.methods.discom_kd import reversal_strength
from tests.methods.conftest import batch_for, images_of

SENSORS = ("rgb", "depth")
ROWS = ("discom-kd", "discom-kd-released", "discom-kd-1enc")


def reached(term, module):
    """Names of the module's parameters that the term has a gradient other than 0 for."""
    names, parameters = zip(*module.named_parameters(), strict=True)
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return {name for name, part in zip(names, found, strict=True) if part is not None and part.any()}


@pytest.mark.parametrize("name", ROWS)
def test_its_terms_are_those_of_the_equation(build, toy_scenes, name):
    method = build(name).eval()
    batch = batch_for(method, toy_scenes)
    terms = method(batch, 0.5)
    expected = dict.fromkeys(("domain", "adversarial", "overlap"), 0.0)
    weights = {("domain", True): 0.5, ("domain", False): 0.5, ("adversarial", True): 1, ("adversarial", False): 0.1}
    for modality, sensor in enumerate(SENSORS):
        logits, s, u, w = method.parts(sensor, batch.images[sensor])
        wide = torch.cat([u, u], dim=1) if name == "discom-kd-1enc" else u
        pixels = [F.interpolate(x, (48, 64), mode="bilinear") for x in (logits, *map(method.auxiliary, (s, wide)))]
        losses = [F.cross_entropy(x, batch.labels[sensor], ignore_index=255) for x in pixels]
        expected[f"segmentation/{sensor}"], expected[f"auxiliary/{sensor}"] = losses[0], losses[1] + losses[2]
        for part, features, head in (
            ("domain", u, method.tell_informative),
            ("domain", w, method.tell_irrelevant),
            ("adversarial", s, method.tell_shared),
        ):  # a 1x1 convolution, averaged over positions
            log_p = F.conv2d(features, head.weight[:, :, None, None], head.bias).mean(dim=(2, 3)).log_softmax(dim=1)
            told = log_p[:, modality] if name != "discom-kd-released" else (1 - modality) * log_p.sum(dim=1)
            expected[part] -= told.mean() * weights[part, name == "discom-kd-released"]
        for a, b in ((u, w), (wide, s)):
            lengths = (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-8)
            expected["overlap"] += ((a * b).sum(dim=1) / lengths).mean()
    assert set(terms) == set(expected)
    for term, value in expected.items():
        torch.testing.assert_close(terms[term], torch.as_tensor(value), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["auxiliary", "domain", "adversarial", "overlap"])
def test_a_weight_scales_its_term(build, toy_scenes, name):
    one, half = (build("discom-kd", **{f"{name}_weight": weight}).eval() for weight in (1.0, 0.5))
    batch = batch_for(one, toy_scenes)
    one, half = one(batch, 0.5), half(batch, 0.5)
    for term in one:
        assert half[term].item() == pytest.approx((0.5 if term.startswith(name) else 1) * one[term].item(), rel=1e-5)


def test_as_released_the_second_sensor_learns_nothing_about_domains(build, toy_scenes):
    for name in ROWS:
        method = build(name).train()
        terms = method(batch_for(method, toy_scenes), 0.5)
        for term in ("domain", "adversarial"):
            assert reached(terms[term], method.students["rgb"])
            assert bool(reached(terms[term], method.students["depth"])) == (name != "discom-kd-released")


def test_the_specific_branch_tells_the_sensor_and_the_invariant_one_hides_it(build, toy_scenes):
    method = build("discom-kd").train()
    terms = method(batch_for(method, toy_scenes), 0.5)
    for student in method.students.values():
        assert {name.split(".")[0] for name in reached(terms["domain"], student)} == {"specific"}
        assert {name.split(".")[0] for name in reached(terms["adversarial"], student)} == {"invariant"}


def test_with_one_encoder_half_hides_the_sensor_and_two_quarters_tell_it(build, toy_scenes):
    method = build("discom-kd-1enc").train()
    terms = method(batch_for(method, toy_scenes), 0.5)
    rows = {"domain": slice(16, 32), "adversarial": slice(16), "auxiliary/rgb": slice(24), "overlap": slice(32)}
    for term, seen in rows.items():
        (gradient,) = torch.autograd.grad(terms[term], [method.students["rgb"].projection[0].weight], retain_graph=True)
        moved = gradient.abs().sum(dim=(1, 2, 3)) > 0
        assert moved[seen].any(), term
        assert not moved.clone().index_fill(0, torch.arange(32)[seen], False).any(), term


@pytest.mark.parametrize("name", ["discom-kd", "discom-kd-1enc"])
def test_a_step_of_the_students_misleads_the_discriminator_and_its_own_step_does_not(build, toy_scenes, name):
    def loss_after(step_of):
        method = build(name).eval()
        batch = batch_for(method, toy_scenes)
        before = method(batch, 0.9)["adversarial"]
        parameters = list(step_of(method).parameters())
        gradients = torch.autograd.grad(before, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 1e-2 * gradient if gradient is not None else 0
            return before.item(), method(batch, 0.9)["adversarial"].item()

    before, after = loss_after(lambda method: method.students)
    assert after > before
    before, after = loss_after(lambda method: method.tell_shared)
    assert after < before


def test_the_reversal_rises_from_nothing(build, toy_scenes):
    strengths = [reversal_strength(progress / 10) for progress in range(11)]
    assert strengths[0] == 0
    assert strengths == sorted(strengths)
    assert strengths[1] == pytest.approx(0.462117, abs=1e-6)  # tanh(5 progress)
    assert strengths[-1] == pytest.approx(1, abs=1e-4)
    for name, silent in (("discom-kd", True), ("discom-kd-released", False)):
        method = build(name).train()
        terms = method(batch_for(method, toy_scenes), 0.0)
        assert bool(reached(terms["adversarial"], method.students)) != silent
        assert reached(terms["adversarial"], method.tell_shared)


def test_with_one_encoder_the_student_is_the_baseline(build):
    for sensor, student in build("discom-kd-1enc").students.items():
        baseline = build("baseline", (sensor,)).students[sensor].state_dict()
        own = student.state_dict()
        assert list(own) == list(baseline)
        assert all(torch.equal(own[name], value) for name, value in baseline.items())


def test_with_two_encoders_the_invariant_branch_and_the_decoder_start_as_the_baseline(build):
    for sensor, student in build("discom-kd").students.items():
        own = student.state_dict()
        for name, value in build("baseline", (sensor,)).students[sensor].state_dict().items():
            found = own[name if name.startswith("decoder") else f"invariant.{name}"]
            assert torch.equal(found, value[:16] if name.startswith("projection") and value.ndim else value), name


def test_two_encoders_cost_the_baseline_and_a_second_encoder_and_context(build):
    student, baseline = build("discom-kd").students["rgb"], build("baseline", ("rgb",)).students["rgb"]
    second = [*baseline.encoder.parameters(), *baseline.context.parameters()]
    image = [torch.zeros(1, 3, 48, 64)]
    found, one = inference_cost(student, image), inference_cost(baseline, image)
    assert found["parameters"] == one["parameters"] + sum(p.numel() for p in second)
    rest = inference_cost(_Rest(baseline), image)["flops"]
    assert found["flops"] == one["flops"] + rest


class _Rest(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net.context(self.net.encoder(image)[-1])


@pytest.mark.parametrize("name", ROWS)
def test_what_trains_the_students_is_not_in_them(build, toy_scenes, toy_card, name):
    method = build(name).eval()
    heads = {"auxiliary", "tell_shared", "tell_informative", "tell_irrelevant"}
    heads |= {"irrelevant"} if name != "discom-kd-1enc" else set()
    assert {key.split(".")[0] for key in method.state_dict()} == heads | {"students"}
    given = images_of(SENSORS, toy_scenes, toy_card)
    before = [method.predict({sensor: given[sensor]}) for sensor in SENSORS]
    for head in heads:
        delattr(method, head)
    for sensor, expected in zip(SENSORS, before, strict=True):
        torch.testing.assert_close(method.predict({sensor: given[sensor]}), expected, rtol=0, atol=0)


def test_the_irrelevant_part_reaches_domain_and_overlap_and_nothing_else(build, toy_scenes):
    method = build("discom-kd").eval()
    batch = batch_for(method, toy_scenes)
    before = method(batch, 0.5)
    with torch.no_grad():
        for projection in method.irrelevant.values():
            projection[0].weight.normal_(generator=torch.Generator().manual_seed(1))
    after = method(batch, 0.5)
    assert {term for term in before if not torch.equal(before[term], after[term])} == {"domain", "overlap"}
