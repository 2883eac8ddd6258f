import pytest
import timm
import torch
from torch import nn

from crodino_lib.config import ModelConfig
from crodino_lib.models.encoder import DEFAULT_ENCODER, create_encoder, dilated_by_phases
from crodino_lib.models.segnet import single_sensor_net

SMALL = ModelConfig(block_channels=16, decoder_channels=16)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return single_sensor_net(3, 5, SMALL, split=True).eval()


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_bottleneck_has_the_stride_asked_for(stride):
    network = single_sensor_net(1, 5, SMALL.model_copy(update={"output_stride": stride, "weights": "none"})).eval()
    out = network(torch.rand(1, 1, 64, 96))
    assert out.context.shape == (1, 32, 64 // stride, 96 // stride)
    assert out.logits.shape == (1, 5, 16, 24)
    assert out.decoded.shape == (1, 16, 16, 24)


def test_the_split_names_channels_and_adds_none(network):
    out = network(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(torch.cat([out.shared, out.private], dim=1), out.context, rtol=0, atol=0)
    whole = single_sensor_net(3, 5, SMALL, split=False)
    assert whole(torch.rand(2, 3, 32, 32)).shared is None
    assert sum(p.numel() for p in whole.parameters()) == sum(p.numel() for p in network.parameters())


def test_the_bottleneck_is_not_negative(network):
    assert network(torch.randn(2, 3, 32, 32)).context.min() >= 0


def test_packaged_weights_are_those_of_the_network_they_are_loaded_into():
    """The pyramid of the trained encoder differs from a random one and is the same on every load."""
    image = torch.rand(1, 3, 64, 64)
    first, second = (create_encoder(DEFAULT_ENCODER, "packaged", 3, 16).eval()(image)[-1] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.manual_seed(0)
    assert not torch.allclose(create_encoder(DEFAULT_ENCODER, "none", 3, 16).eval()(image)[-1], first)


def test_packaged_tensors_landed_in_their_own_places():
    """Scales and biases alternate in the file: out of step by one, some BatchNorm scale would be about zero."""
    encoder = create_encoder(DEFAULT_ENCODER, "packaged", 3, 16)
    smallest = min(m.weight.abs().min().item() for name, m in encoder.named_modules() if name.endswith("bn2"))
    assert smallest == pytest.approx(0.19, abs=0.01)


def test_a_one_channel_stem_answers_grey_as_the_rgb_stem_does():
    grey = torch.rand(1, 1, 64, 64)
    rgb = create_encoder(DEFAULT_ENCODER, "packaged", 3, 16).eval()(grey.expand(1, 3, 64, 64))
    one = create_encoder(DEFAULT_ENCODER, "packaged", 1, 16).eval()(grey)
    torch.testing.assert_close(one[-1], rgb[-1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_dilated_convolution_by_phases_is_the_convolution(kernel):
    conv = nn.Conv2d(6, 6, kernel, padding=kernel // 2 * 2, dilation=2, groups=6)
    x = torch.randn(2, 6, 8, 12, requires_grad=True)
    plain, phased = conv(x), dilated_by_phases(conv, x)
    torch.testing.assert_close(phased, plain)
    (plain_gradient,) = torch.autograd.grad(plain.square().sum(), x, retain_graph=True)
    (phased_gradient,) = torch.autograd.grad(phased.square().sum(), x)
    torch.testing.assert_close(phased_gradient, plain_gradient)


def test_the_fast_route_leaves_the_encoder_what_timm_made_it():
    torch.manual_seed(0)
    hastened = single_sensor_net(3, 5, SMALL).encoder.eval()
    plain = timm.create_model(DEFAULT_ENCODER, features_only=True, output_stride=16).eval()
    plain.load_state_dict(hastened.state_dict())
    image = torch.rand(2, 3, 64, 96)
    for mine, theirs in zip(hastened(image), plain(image), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


class TestErrors:
    def test_an_encoder_that_does_not_exist_is_answered_with_the_nearest(self):
        with pytest.raises(ValueError, match=r"'resnet19' is not a timm model.*'resnet18'"):
            create_encoder("resnet19", "none", 3, 16)

    def test_an_encoder_without_a_pyramid_is_refused(self):
        with pytest.raises(ValueError, match="no convolutional feature pyramid"):
            create_encoder("vit_tiny_patch16_224", "none", 3, 16)

    def test_packaged_weights_of_another_encoder_are_refused(self):
        with pytest.raises(ValueError, match="'packaged' exist for tf_efficientnet_lite0 only"):
            create_encoder("resnet18", "packaged", 3, 16)

    def test_a_missing_weights_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
            create_encoder("resnet18", str(tmp_path / "gone.safetensors"), 3, 16)

    def test_a_damaged_weights_file_is_named(self, tmp_path):
        (tmp_path / "junk.safetensors").write_bytes(b"junk")
        with pytest.raises(ValueError, match=r"junk\.safetensors is no readable"):
            create_encoder("resnet18", str(tmp_path / "junk.safetensors"), 3, 16)

    def test_a_pickle_is_never_opened(self, tmp_path):
        (tmp_path / "weights.pth").write_bytes(b"x")
        with pytest.raises(ValueError, match=r"only \.safetensors"):
            create_encoder("resnet18", str(tmp_path / "weights.pth"), 3, 16)

    def test_weights_the_hub_cannot_give_are_an_error_not_a_random_start(self, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(OSError, match="weights='hub': timm could not get weights for 'resnet18'"):
            create_encoder("resnet18", "hub", 3, 16)
