"""Losses: tensors in, scalar out; no knowledge of batches or models. Computed in float32."""

from crodino_lib._torchvision import import_torchvision

import_torchvision()
