"""Fusion networks against their equations."""

import pytest
import torch

from crodino_lib.config import ModelConfig
from crodino_lib.models.encoder import DEFAULT_ENCODER, create_encoder, stages
from crodino_lib.models.fusion import AttentionComplementaryModule, EarlyFusion, LateFusion, MiddleFusion, fusion_net

SMALL = ModelConfig(encoder="test_efficientnet", weights="none", block_channels=16, decoder_channels=16)  # fast
RGB, DEPTH = torch.randn(2, 3, 32, 32), torch.randn(2, 1, 32, 32)


def test_the_attention_unit_equals_its_equation():
    unit, features = AttentionComplementaryModule(4), torch.randn(2, 4, 3, 5)
    out = unit(features)
    for n in range(2):
        mean = torch.stack([features[n, c].sum() / 15 for c in range(4)])
        weight = 1 / (1 + torch.exp(-(unit.weigh.weight[:, :, 0, 0] @ mean + unit.weigh.bias)))
        torch.testing.assert_close(out[n], weight[:, None, None] * features[n])


def test_the_stacked_stem_answers_equal_channels_as_the_rgb_stem_does():
    grey = torch.rand(2, 1, 32, 32)
    rgb = create_encoder(DEFAULT_ENCODER, "packaged", 3, 16).eval()(grey.expand(-1, 3, -1, -1))
    stacked = EarlyFusion([3, 1], ModelConfig()).eval()(grey.expand(-1, 3, -1, -1), grey)
    torch.testing.assert_close(stacked[0], rgb[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_100", "convnext_atto"])
def test_stages_one_after_the_other_are_the_encoder(encoder):
    torch.manual_seed(0)
    network = create_encoder(encoder, "none", 3, 16).eval()
    maps, current = [], RGB
    for stage in stages(network):
        current = stage(current)
        maps.append(current)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(maps, network(RGB), strict=True))


def test_middle_fusion_adds_weighed_maps_stage_by_stage():
    fusion = MiddleFusion([3, 1], SMALL).eval()
    rgb, depth = fusion.branches[0](RGB), fusion.branches[1](DEPTH)
    merged = fusion.attention[0][0](rgb[0]) + fusion.attention[1][0](depth[0])
    found = fusion(RGB, DEPTH)
    torch.testing.assert_close(found[0], merged)
    for i, stage in enumerate(fusion.merge, 1):
        merged = stage(merged) + fusion.attention[0][i](rgb[i]) + fusion.attention[1][i](depth[i])
        torch.testing.assert_close(found[i], merged, rtol=1e-3, atol=1e-4)


def test_branches_of_middle_fusion_receive_nothing_from_the_merged_one():
    fusion = MiddleFusion([3, 1], SMALL)
    fusion(RGB, DEPTH)[-1].sum().backward()
    assert all(p.grad is not None for p in fusion.parameters())
    assert sum(p.numel() for p in fusion.merge.parameters()) < sum(p.numel() for p in fusion.branches[0].parameters())


def test_late_fusion_weighs_detached_logits():
    network = LateFusion([3, 1], 4, SMALL)
    outputs = network.each(RGB, DEPTH)
    fused = network.ensemble(outputs)
    torch.testing.assert_close(fused.logits, (outputs[0].logits + outputs[1].logits) / 2)
    fused.logits.square().sum().backward()
    assert network.ensemble.learned.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.networks.parameters())
    assert fused.decoded.shape[1] == 2 * outputs[0].decoded.shape[1]


@pytest.mark.parametrize(("fusion", "encoders"), [("early", 1), ("middle", 3), ("late", 2)])
def test_parameters_are_those_of_so_many_encoders(fusion, encoders):
    large = ModelConfig(weights="none", block_channels=16, decoder_channels=16)  # beside its encoder all is small
    one = sum(p.numel() for p in create_encoder(large.encoder, "none", 3, 16).parameters())
    network = fusion_net(fusion, [3, 1], 4, large)
    assert round(sum(p.numel() for p in network.parameters()) / one) in (encoders, encoders + 1)
