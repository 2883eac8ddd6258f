import math

import pytest
import torch
import torch.nn.functional as F

from crodino_lib.augment import AugmentConfig, random_warp
from crodino_lib.losses.info_nce import info_nce, sample_shared_points


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equals_its_definition(temperature):
    queries, keys = random(7, 5), random(7, 5, seed=1)
    total = 0.0
    for one, other in ((queries, keys), (keys, queries)):
        for i in range(7):
            s = [(one[i] @ other[k] / (one[i].norm() * other[k].norm())).item() / temperature for k in range(7)]
            total -= math.log(math.exp(s[i]) / sum(map(math.exp, s))) / 14
    assert info_nce(queries, keys, temperature).item() == pytest.approx(total, rel=1e-6)


def test_golden_values_of_matched_swapped_and_equal_rows():
    unit = torch.eye(2, dtype=torch.float64)
    assert info_nce(unit, 3 * unit).item() == pytest.approx(4.53989e-05, rel=1e-5)
    assert info_nce(unit, unit.flip(0)).item() == pytest.approx(10.0000454, rel=1e-8)
    assert info_nce(unit[:1].expand(5, 2), unit[:1].expand(5, 2)).item() == pytest.approx(math.log(5))


def test_exchanging_the_sides_changes_nothing():
    assert info_nce(random(6, 4), random(6, 4, seed=1)).item() == pytest.approx(
        info_nce(random(6, 4, seed=1), random(6, 4)).item()
    )


def test_gradients_reach_both_sides_and_a_step_lowers_the_loss():
    queries, keys = random(6, 4).requires_grad_(), random(6, 4, seed=1).requires_grad_()
    before = info_nce(queries, keys)
    before.backward()
    assert info_nce(queries - 0.1 * queries.grad, keys) < before
    assert info_nce(queries, keys - 0.1 * keys.grad) < before


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_score_zero_with_zero_gradients(rows):
    queries, keys = torch.rand(rows, 4).requires_grad_(), torch.rand(rows, 4).requires_grad_()
    loss = info_nce(queries, keys)
    loss.backward()
    assert loss.item() == 0
    assert not queries.grad.any()
    assert not keys.grad.any()


def random_warps(count=16):
    generator = torch.Generator().manual_seed(3)
    return [random_warp(count, generator, AugmentConfig()) for _ in range(2)]


def test_both_views_show_the_same_scene_point_at_every_visible_point():
    """Maps that say where in the scene they look agree exactly, but for the half cell at the edge of a view."""
    warps = random_warps()
    *grids, visible = sample_shared_points(*warps, 500, torch.Generator().manual_seed(0))
    samples = []
    for warp, grid in zip(warps, grids, strict=True):
        where = F.affine_grid(warp, [len(warp), 2, 32, 48], align_corners=False).permute(0, 3, 1, 2)
        samples.append(F.grid_sample(where, grid, align_corners=False, padding_mode="border").squeeze(-1).mT)
    inner = visible & torch.stack([(grid.abs() <= 1 - 1 / 32).all(dim=-1)[..., 0] for grid in grids]).all(dim=0)
    assert inner.sum() > 500
    torch.testing.assert_close(samples[0][inner], samples[1][inner], atol=1e-5, rtol=0)
    torch.testing.assert_close(samples[0][visible], samples[1][visible], atol=0.15, rtol=0)


def test_visible_means_inside_the_scene_and_the_other_view():
    """Loops over points of warps that flip, zoom and shift."""
    warp_a, warp_b = random_warps()
    grid_a, grid_b, visible = sample_shared_points(warp_a, warp_b, 40)
    assert grid_a.shape == grid_b.shape == (16, 40, 1, 2)
    for n in range(16):
        for p in range(40):
            scene = warp_a[n, :, :2] @ grid_a[n, p, 0] + warp_a[n, :, 2]
            assert warp_b[n, :, :2] @ grid_b[n, p, 0] + warp_b[n, :, 2] == pytest.approx(scene, abs=1e-5)
            assert visible[n, p] == (max(*scene.abs(), *grid_b[n, p, 0].abs()) <= 1)
    assert visible.any()
    assert not visible.all()


def test_equal_views_share_every_point_of_the_scene_and_views_apart_share_none():
    whole = torch.eye(2, 3).expand(2, 2, 3)
    grid_a, grid_b, visible = sample_shared_points(whole, whole, 50)
    torch.testing.assert_close(grid_a, grid_b)
    assert visible.all()
    left, right = (torch.tensor([[[0.4, 0, x], [0, 0.4, 0]]]) for x in (-0.5, 0.5))
    assert not sample_shared_points(left, right, 50)[2].any()


def test_points_are_even_over_the_view_and_repeat_with_the_generator():
    whole = torch.eye(2, 3)[None]
    grid, _, _ = sample_shared_points(whole, whole, 20_000, torch.Generator().manual_seed(5))
    assert (grid > 0).float().mean(dim=(0, 1, 2)) == pytest.approx([0.5, 0.5], abs=0.02)
    assert (grid.abs() < 0.5).float().mean(dim=(0, 1, 2)) == pytest.approx([0.5, 0.5], abs=0.02)
    assert grid.equal(sample_shared_points(whole, whole, 20_000, torch.Generator().manual_seed(5))[0])
