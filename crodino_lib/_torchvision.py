"""Import torchvision where its compiled operators do not load.

With a CPU build of torch, a torchvision wheel built for CUDA dies on import with ``operator torchvision::nms does not
exist``, and so do timm and torchmetrics. What this project uses of torchvision is Python: so the missing schemas are
declared, and the import is tried once more.
"""

import sys

import torch

_MISSING = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # a library's schemas live as long as the object


def import_torchvision() -> None:
    """Import torchvision, declaring the schemas of its compiled operators if they are missing.

    Raises:
        RuntimeError: torchvision failed for any other reason than the missing operator.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _declared.append(library)
        import torchvision  # noqa: F401
