"""Adapt a student's channels to the teacher's, and the size of a teacher's maps to the student's."""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from crodino_lib.models.segnet import SegOutput


def adapter(student_channels: int, teacher_channels: int, bias: bool = False) -> nn.Module:
    """Create the 1x1 convolution from the student's channels to the teacher's; the identity where they agree.

    Source: CIRKD losses/cwd.py, without bias; MGD's has one.
    """
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1, bias=bias)


def at_size_of(teacher: SegOutput, student: SegOutput) -> SegOutput:
    """Return the teacher's output at the sizes of the student's, interpolated only where they differ.

    Every distillation method therefore compares on the student's grid; the channels may differ, the number of maps not.
    """
    return replace(
        teacher,
        logits=_resized(teacher.logits, student.logits),
        pyramid=[_resized(level, like) for level, like in zip(teacher.pyramid, student.pyramid, strict=True)],
        context=_resized(teacher.context, student.context),
        decoded=_resized(teacher.decoded, student.decoded),
    )


def _resized(features: Tensor, like: Tensor) -> Tensor:
    if features.shape[-2:] == like.shape[-2:]:
        return features
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)
