"""crodino: an open study of cross-modal knowledge distillation for RGB-D and RGB-thermal segmentation."""

from crodino_lib._torchvision import import_torchvision

import_torchvision()

__version__ = "0.1.0"
