"""Networks: one encoder-decoder for every method of a study."""
# ruff: noqa: E402, F401

from crodino_lib._torchvision import import_torchvision

import_torchvision()  # before timm and torchvision's ASPP: with a CPU build of torch their plain import fails

from crodino_lib.models.bank import ClassBank
from crodino_lib.models.cen import ExchangeFusion, ExchangeRule, StreamedNet, StreamNorm
from crodino_lib.models.csk_net import GatedFusion, GatedSpectralUnit
from crodino_lib.models.encoder import create_encoder
from crodino_lib.models.fusion import EarlyFusion, LateFusion, MiddleFusion, fusion_net
from crodino_lib.models.segnet import SegNet, SegOutput, single_sensor_net
from crodino_lib.models.shared_specific import SharedSpecificNet, TwoEncoderNet
