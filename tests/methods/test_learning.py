"""Every kind of method learns: on one batch it lowers its loss and beats a constant prediction, whatever it serves."""

import pytest
import torch
import torch.nn.functional as F

from crodino_lib.data.sample import IGNORE
from crodino_lib.evaluate import confusion_per_image, scores
from tests.methods.conftest import batch_for, learn

KINDS = ("baseline", "early", "acnet", "late", "cen", "kd", "kd-v1", "crodino-kd", "csk-net", "shaspec", "discom-kd")


@pytest.mark.parametrize("name", [*KINDS, "c2kd", "discom-kd-1enc"])
def test_a_few_steps_beat_every_constant_prediction(name, build, toy_scenes, toy_card):
    method, classes = build(name), len(toy_card.classes)
    batch = batch_for(method, toy_scenes)

    def miou(prediction, label):
        return scores(confusion_per_image(prediction, label, classes).numpy())["miou"]

    def judge(served):
        label = batch.labels[served[0]]
        with torch.inference_mode():
            logits = method.predict({sensor: batch.images[sensor] for sensor in served})
        loss = F.cross_entropy(logits, label, ignore_index=IGNORE).item()
        return loss, miou(logits.argmax(dim=1), label)

    method.eval().export()
    before = {served: judge(served)[0] for served in method.serves}
    learn(method, toy_scenes)
    for served in method.serves:
        label = batch.labels[served[0]]
        loss, found = judge(served)
        assert loss < before[served], served
        assert found > max(miou(torch.full_like(label, k), label) for k in range(classes)), served
