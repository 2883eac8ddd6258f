"""Losses: tensors and settings in, a scalar out, computed in float32; they take no batch and no model."""
# ruff: noqa: E402, F401

from crodino_lib._torchvision import import_torchvision

import_torchvision()  # before anything imports torchvision: with a CPU build of torch the plain import fails

from crodino_lib.losses.contrast import (
    info_nce,
    pixel_contrast,
    sample_pixels,
    sample_shared_points,
    supervised_contrast,
)
from crodino_lib.losses.disentangle import (
    cosine_overlap,
    debiased_cka,
    domain_cross_entropy,
    frobenius_overlap,
    masked_l1,
    modality_cross_entropy,
    reverse_gradient,
    shared_distance,
)
from crodino_lib.losses.distillation import (
    alpha_for,
    channel_distillation,
    cross_image_similarity,
    decoupled_distillation,
    feature_imitation,
    mask_overlap,
    masked_distillation,
    masked_generation,
    memory_similarity,
    pixel_distillation,
    prototype_map_distance,
    rank_correlation,
    receptive_masks,
    selected_distillation,
)
from crodino_lib.losses.regions import (
    RegionVectors,
    cover,
    fill_unlabelled,
    likely_labels,
    nearest_labels,
    region_vectors,
    region_weights,
)
from crodino_lib.losses.segmentation import in_float32, segmentation_cross_entropy
