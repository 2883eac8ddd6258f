"""Maps of two networks made comparable: the student's channels and the teacher's size follow the other's."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from crodino_lib.models.segnet import SegOutput


def adapter(student_channels: int, teacher_channels: int, bias: bool = False) -> nn.Module:
    """What gives a student's map the teacher's channels: a 1x1 convolution, nothing where they agree.

    Source: CIRKD losses/cwd.py, without bias; MGD's has one.
    """
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1, bias=bias)


def at_size_of(teacher: SegOutput, student: SegOutput) -> SegOutput:
    """The teacher's maps at the height and width of the student's, interpolated only where they differ.

    The teacher follows the student, so that every row compares on the student's grid.

    Args:
        teacher: its maps may differ in channels and size, not in number.
        student: whose sizes count.
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
