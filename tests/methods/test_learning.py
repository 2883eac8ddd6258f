"""Every row learns: on one batch it lowers its loss and beats a constant prediction, for everything it serves."""

import pytest
import torch
import torch.nn.functional as F

from crodino_lib.augment import plain
from crodino_lib.data.sample import IGNORE
from crodino_lib.evaluate import confusion_per_image, scores
from crodino_lib.methods.registry import METHODS
from tests.methods.conftest import learn


@pytest.mark.parametrize("name", METHODS)
def test_a_few_steps_teach_it_more_than_any_constant_says(name, build, toy_scenes, toy_card):
    method = build(name)
    given = plain(toy_scenes, list(range(4)), toy_card, method.sensors, torch.device("cpu"))
    label = given.labels[method.sensors[0]]

    def judge(served):
        with torch.inference_mode():
            logits = method.predict({sensor: given.images[sensor] for sensor in served})
        matrix = confusion_per_image(logits.argmax(dim=1), label, len(toy_card.classes)).numpy()
        return F.cross_entropy(logits, label, ignore_index=IGNORE).item(), scores(matrix)["miou"]

    method.eval().export()
    before = {served: judge(served)[0] for served in method.serves}
    learn(method, toy_scenes)
    constant = max(
        scores(confusion_per_image(torch.full_like(label, k), label, len(toy_card.classes)).numpy())["miou"]
        for k in range(len(toy_card.classes))
    )
    for served in method.serves:
        loss, miou = judge(served)
        assert loss < before[served], served
        assert miou > constant, served
