"""Networks: one encoder-decoder for every method of a study."""

from crodino_lib._torchvision import import_torchvision

import_torchvision()  # timm and torchvision's ASPP need it
