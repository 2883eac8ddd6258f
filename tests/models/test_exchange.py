"""One trunk, two streams: statistics apart, channels exchanged by scale, plain networks cut out again."""

import copy

import pytest
import torch
from torch import nn

from crodino_lib.config import ModelConfig
from crodino_lib.models.cen import ExchangeRule, StreamedNet, StreamNorm, exchange, give_streams
from crodino_lib.models.csk_net import GatedFusion, GatedSpectralUnit
from crodino_lib.models.segnet import single_sensor_net

SMALL = ModelConfig(block_channels=16, decoder_channels=16)
SENSORS = ("rgb", "depth")


def images(seed=0, size=(32, 32)):
    generator = torch.Generator().manual_seed(seed)
    return {s: torch.randn(2, c, *size, generator=generator) for s, c in (("rgb", 3), ("depth", 1))}


def random_scales(channels):
    return torch.rand(channels, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def made():
    return single_sensor_net(3, 4, SMALL)


@pytest.fixture
def streamed(made):
    torch.manual_seed(0)
    return StreamedNet(copy.deepcopy(made), SENSORS, ExchangeRule(), "deep", fused=False)


class TestExchange:
    def features(self):
        generator = torch.Generator().manual_seed(1)
        return [torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2)]

    @pytest.mark.parametrize("form", ["hard", "mixed"])
    def test_equals_loops_over_channels(self, form):
        features = self.features()
        scales = [torch.tensor([0.5, -0.01, 0.3, 0.015, 0.02]), torch.tensor([0.001, 0.4, -0.5, 0.2, 0.3])]
        found = exchange(features, scales, ExchangeRule(form, threshold=0.02))
        for m in (0, 1):
            for c in range(5):
                own, other = features[m][:, c], features[1 - m][:, c]
                taken = other if form == "hard" else 0.5 * own + 0.5 * other
                expected = own if abs(scales[m][c]) >= 0.02 else taken
                assert torch.equal(found[m][:, c], expected)

    def test_the_relative_rule_takes_a_share_of_every_layer_from_each_stream_s_own_half(self):
        scale = torch.tensor([0.9, 0.3, -0.2, 0.8, 0.7, 0.6, 0.5, -0.4, 0.1, 1.0])  # nothing below CEN's threshold
        rule = ExchangeRule(share=0.2)
        assert rule.gives_way(scale, 0).nonzero().flatten().tolist() == [1, 2]
        assert rule.gives_way(scale, 1).nonzero().flatten().tolist() == [7, 8]
        assert not any(ExchangeRule(threshold=0.02).gives_way(scale, stream).any() for stream in (0, 1))

    @pytest.mark.parametrize("channels", [5, 10, 144])
    def test_no_channel_is_given_up_by_both_streams_not_even_with_equal_scales(self, channels):
        scale, rule = random_scales(channels), ExchangeRule(share=0.5)
        first, second = (rule.gives_way(scale, stream) for stream in (0, 1))
        assert not (first & second).any()
        assert first.sum() == second.sum() == channels // 2

    def test_none_leaves_both_alone(self):
        features = self.features()
        assert exchange(features, [torch.zeros(5)] * 2, ExchangeRule("none")) is features

    def test_the_decision_has_no_gradient_but_what_is_taken_has(self):
        features = [f.requires_grad_() for f in self.features()]
        scale = torch.tensor([0.0, 1, 1, 1, 1], requires_grad=True)
        exchange(features, [scale, torch.ones(5)], ExchangeRule("hard", threshold=0.02))[0].sum().backward()
        assert scale.grad is None
        assert not features[0].grad[:, 0].any()
        assert features[1].grad[:, 0].all()


class TestStreams:
    def test_statistics_of_one_sensor_do_not_move_on_the_others_batches(self, streamed):
        norms = [module for module in streamed.modules() if isinstance(module, StreamNorm)]
        before = [norm.norms["depth"].running_mean.clone() for norm in norms]
        streamed.train()
        streamed.decode(streamed.encode({"rgb": images()["rgb"]}))
        assert all(torch.equal(norm.norms["depth"].running_mean, old) for norm, old in zip(norms, before, strict=True))
        assert any(norm.norms["rgb"].running_mean.any() for norm in norms)

    def test_streams_without_exchange_do_not_see_each_other(self, streamed):
        streamed.eval()
        both = images() | {"rgb": torch.full((2, 3, 32, 32), float("nan"))}
        alone = streamed.decode(streamed.encode({"depth": both["depth"]}))["depth"].logits
        beside = streamed.decode(streamed.encode(both, exchanging=False))["depth"].logits
        torch.testing.assert_close(beside, alone)
        assert alone.isfinite().all()

    def test_streams_with_exchange_do(self, streamed):
        streamed.eval()
        with_one, with_other = (streamed.encode({**images(), "rgb": images(seed)["rgb"]}) for seed in (0, 1))
        assert torch.equal(with_one["depth"][2], with_other["depth"][2])  # the shallow stages exchange nothing
        assert not torch.allclose(with_one["depth"][-1], with_other["depth"][-1])

    @pytest.mark.parametrize("encoder", ["test_efficientnet", "test_resnet", "mobilenetv3_small_050", "regnetx_002"])
    def test_the_plain_network_of_a_sensor_equals_its_stream(self, encoder):
        config = SMALL.model_copy(update={"encoder": encoder, "weights": "none"})
        streamed = StreamedNet(single_sensor_net(3, 4, config), SENSORS, ExchangeRule(), "all", fused=True)
        streamed.train().decode(streamed.encode(images(1, (64, 64))))  # moves the statistics
        streamed.eval()
        for sensor, channels in (("rgb", 3), ("depth", 1)):
            plain = single_sensor_net(channels, 4, config)
            plain.load_state_dict(streamed.sensor_state(sensor, channels))
            image = {sensor: images()[sensor]}
            expected = streamed.decode(streamed.encode(image))[sensor].logits
            torch.testing.assert_close(plain.eval()(image[sensor]).logits, expected, rtol=1e-4, atol=1e-4)

    def test_every_residual_block_of_the_last_stages_exchanges(self, streamed):
        assert len(streamed.exchanging) == 11  # EfficientNet-Lite0: 3 + 3 blocks at stage 3, 4 + 1 at stage 4
        assert all(
            norm.norms["rgb"].num_features > 100 for norm in streamed.exchanging.values()
        )  # expanded, the middle

    def test_sparsity_is_the_first_half_of_one_sensor_and_the_second_of_the_other(self, streamed):
        expected = 0.0
        for norm in streamed.exchanging.values():
            for c, (a, b) in enumerate(zip(norm.norms["rgb"].weight, norm.norms["depth"].weight, strict=True)):
                expected += abs((a if c < len(norm.norms["rgb"].weight) // 2 else b).item())
        assert streamed.sparsity().item() == pytest.approx(expected, rel=1e-5)

    def test_what_gives_way_is_reported_with_its_size_relative_to_the_layer(self, streamed):
        layer, norm = next(iter(streamed.exchanging.items()))
        scale = norm.norms["depth"].weight.detach()
        half = scale[len(scale) // 2 :].abs().sort().values[: int(0.2 * len(scale))]
        assert streamed.exchanged_shares()[f"exchanged/depth/{layer}"] == pytest.approx(0.2, abs=0.01)
        found = streamed.exchanged_scales()[f"exchanged/depth/{layer}/scale"]
        assert found == pytest.approx((half.mean() / scale.abs().mean()).item(), rel=1e-5)

    @pytest.mark.parametrize("encoder", ["convnext_atto", "none of them"])
    def test_a_network_without_batchnorm_is_refused(self, encoder):
        if encoder == "convnext_atto":
            network = single_sensor_net(3, 4, SMALL.model_copy(update={"encoder": encoder, "weights": "none"})).encoder
        else:
            network = nn.Conv2d(3, 3, 1)
        with pytest.raises(ValueError, match=r"needs an encoder with BatchNorm, found .*choose tf_efficientnet_lite0"):
            give_streams(network, SENSORS)

    def test_a_two_channel_sensor_is_refused(self, streamed):
        with pytest.raises(ValueError, match="1 or 3 channels, this one has 2"):
            streamed.encode({"rgb": torch.zeros(1, 2, 32, 32)})


class TestGatedSpectralUnit:
    def maps(self):
        generator = torch.Generator().manual_seed(2)
        return [torch.randn(2, 6, 4, 5, generator=generator) for _ in range(2)]

    def test_the_unit_equals_its_equation(self):
        unit, (a, b) = GatedSpectralUnit(6), self.maps()
        fused = unit(a, b)
        for y, x in ((0, 0), (3, 4)):
            va, vb = a[0, :, y, x], b[0, :, y, x]
            matrices = [layer.weight[:, :, 0, 0] for layer in (unit.view_a, unit.view_b, unit.weigh)]
            ha, hb = torch.tanh(matrices[0] @ va + unit.view_a.bias), torch.tanh(matrices[1] @ vb + unit.view_b.bias)
            g = torch.sigmoid(matrices[2] @ torch.cat([va, vb]) + unit.weigh.bias)
            torch.testing.assert_close(fused[0, :, y, x], g * ha + (1 - g) * hb)

    @pytest.mark.parametrize("form", ["unit", "channel", "fourier", "none"])
    def test_gates_are_shares_and_an_open_gate_takes_its_sensor(self, form):
        unit, (a, b) = GatedSpectralUnit(6, form), self.maps()
        gate = unit.gate(a, b)
        assert 0 <= gate.min() <= gate.max() <= 1
        assert unit(a, b).shape == a.shape
        if form == "none":
            torch.testing.assert_close(unit(a, b), (a + b) / 2)

    def test_a_closed_fourier_gate_gives_back_the_second_sensor(self):
        unit, (a, b) = GatedSpectralUnit(6, "fourier"), self.maps()
        nn.init.zeros_(unit.weigh.weight)
        nn.init.constant_(unit.weigh.bias, -30)
        torch.testing.assert_close(unit(a, b), b, rtol=1e-3, atol=1e-4)

    def test_a_closed_channel_gate_gives_back_the_second_sensor(self):
        unit, (a, b) = GatedSpectralUnit(6, "channel"), self.maps()
        nn.init.zeros_(unit.weigh[2].weight)
        nn.init.constant_(unit.weigh[2].bias, -30)
        torch.testing.assert_close(unit(a, b), b)


def test_the_fused_output_deployed_is_the_fused_output_of_training():
    torch.manual_seed(0)
    network = GatedFusion(single_sensor_net(3, 4, SMALL), SENSORS, ExchangeRule(), "deep", "unit").eval()
    given = images()
    torch.testing.assert_close(network(*given.values()).logits, network.each(*given.values())["fused"].logits)
