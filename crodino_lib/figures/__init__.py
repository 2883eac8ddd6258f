"""Every figure of the study, drawn at the size it is printed.

A function takes what a figure shows and returns the figure; ``save`` writes it with the numbers behind it.
"""

from crodino_lib.figures.base import MODALITY_COLOURS, modality_styles, save
from crodino_lib.figures.charts import (
    class_share_table,
    class_shares,
    comparison,
    confusion,
    factor_table,
    manifold,
    per_class_iou,
    stage_alignment,
    training_curves,
)
from crodino_lib.figures.image_grids import augmentation_sheet, map_sheet, prediction_sheet, scene_sheet

__all__ = [
    "MODALITY_COLOURS",
    "augmentation_sheet",
    "class_share_table",
    "class_shares",
    "comparison",
    "confusion",
    "factor_table",
    "manifold",
    "map_sheet",
    "modality_styles",
    "per_class_iou",
    "prediction_sheet",
    "save",
    "scene_sheet",
    "stage_alignment",
    "training_curves",
]
