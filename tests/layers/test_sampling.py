"""Samples of maps at points: whatever the type and the memory format, they are those of float64."""

import re
from pathlib import Path

import pytest
import torch

from itpn_d2.layers import grid_levels, sample_levels, sample_points

ROOT = Path(__file__).resolve().parents[2]
FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(96, 32, 32), (8, 200, 300)], ids=str)  # C*H*W and H*W beyond 32767
def test_half_types_read_the_right_cells(dtype, layout, size):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, *size, generator=generator).to(dtype).contiguous(memory_format=layout)
    points = torch.rand(2, 500, 2, generator=generator) * 1.1 - 0.05
    found = sample_points(maps, points)
    assert found.dtype == torch.float32
    expected = sample_points(maps.double(), points.double())
    assert expected.dtype == torch.float64
    torch.testing.assert_close(found, expected.float(), atol=1e-4, rtol=0)


def test_by_hand():
    maps = torch.arange(6.0).view(1, 1, 2, 3)
    middles = torch.tensor([[[0.5 / 3, 0.25], [2.5 / 3, 0.75], [1 / 3, 0.5], [5.0, 0.5]]])
    assert sample_points(maps, middles).flatten().tolist() == pytest.approx([0, 5, 2, 0], abs=1e-5)
    shaped = sample_points(maps, middles.view(1, 2, 2, 2))
    assert shaped.shape == (1, 1, 2, 2) and torch.equal(
        shaped.flatten(), sample_points(maps, middles).flatten()
    )
    masks = sample_points(maps > 2, middles)
    assert masks.dtype == torch.float32 and masks.flatten().tolist() == pytest.approx(
        [0, 1, 0.5, 0], abs=1e-5
    )


def test_autocast_does_not_reach_it_and_gradients_do():
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 16, 16, requires_grad=True)
    points = torch.rand(1, 30, 2) * 0.8 + 0.1  # no share of a sample is lost at the border
    with torch.autocast("cpu", torch.bfloat16):
        found = sample_points(maps, points)
    assert found.dtype == torch.float32 and torch.equal(found, sample_points(maps, points))
    half = maps.detach().bfloat16().requires_grad_()
    sample_points(half, points).sum().backward()
    assert half.grad.dtype == torch.bfloat16 and half.grad.float().sum().item() == pytest.approx(
        120, rel=0.05
    )


@pytest.mark.parametrize("form", [sample_levels, grid_levels])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_deformable_samples_of_large_half_maps(form, dtype):
    generator = torch.Generator().manual_seed(1)
    shapes = [(64, 80), (32, 40)]
    value = torch.randn(1, 6400, 2, 32, generator=generator).to(dtype)
    locations = torch.rand(1, 50, 2, 2, 4, 2, generator=generator)
    weights = torch.rand(1, 50, 2, 2, 4, generator=generator)
    expected = form(value.double(), shapes, locations.double(), weights.double())
    found = form(value, shapes, locations, weights)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=0.03, rtol=0.01)


def test_nothing_else_calls_grid_sample():
    calls = re.compile(r"\b(grid_sample|point_sample)\(")
    files = [p for name in ("itpn_d2", "pretrain", "tools", "demo") for p in (ROOT / name).rglob("*.py")]
    found = {p.relative_to(ROOT).as_posix() for p in files if calls.search(p.read_text(encoding="utf-8"))}
    assert found == {"itpn_d2/layers/sampling.py"}
