"""crodino: an open study of cross-modal knowledge distillation for RGB-D and RGB-thermal segmentation."""

__version__ = "0.2.0"
