"""The two views of a feature map are moves only: no value is changed, lost or doubled."""

import pytest
import torch
from torch import nn

from itpn_d2.layers import PatchEmbed, PatchMerge, PatchSplit
from itpn_d2.layers.units import map_to_units, merge_cells, split_cells, tiles, units_to_map


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 8, 4, 5), (2, 7, 4, 4, 3)])
def test_split_inverts_merge(shape):
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    assert torch.equal(split_cells(merge_cells(x)), x)


@pytest.mark.parametrize("grid", [(2, 3), (4, 1), (1, 1)])
@pytest.mark.parametrize("unit", [1, 2, 4])
def test_units_invert(grid, unit):
    x = torch.randn(2, grid[0] * unit, grid[1] * unit, 5)
    units = map_to_units(x, unit)
    assert units.shape == (2, grid[0] * grid[1], unit, unit, 5)
    assert torch.equal(units_to_map(units, grid), x)
    assert torch.equal(units[:, grid[1] - 1], x[:, :unit, -unit:])  # row-major order


def test_layers_agree_on_both_layouts():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 12, 6)
    for layer, out in ((PatchMerge(6, 10), 2), (PatchSplit(6, 10), 8)):
        whole = layer(x)
        assert torch.allclose(units_to_map(layer(map_to_units(x, 4)), (2, 3)), whole, atol=1e-6)
        assert whole.shape[1] == 2 * out


def test_patch_embed_is_the_convolution():
    torch.manual_seed(0)
    conv, ours = nn.Conv2d(3, 7, 4, 4), PatchEmbed(3, 7)
    ours.proj.weight.data = conv.weight.data.flatten(1)
    ours.proj.bias.data = conv.bias.data
    image = torch.randn(2, 3, 16, 24)
    assert torch.allclose(ours(image).permute(0, 3, 1, 2), conv(image), atol=1e-6)


def test_patch_merge_is_the_convolution():
    torch.manual_seed(0)
    conv, ours = nn.Conv2d(6, 10, 2, 2), PatchMerge(6, 10)
    ours.reduction.weight.data = conv.weight.data.permute(0, 2, 3, 1).flatten(1)
    ours.reduction.bias.data = conv.bias.data
    x = torch.randn(2, 4, 8, 6)
    expected = conv(ours.norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert torch.allclose(ours(x), expected, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_patch_split_is_the_transposed_convolution(bias):
    torch.manual_seed(0)
    conv, ours = nn.ConvTranspose2d(6, 10, 2, 2, bias=bias), PatchSplit(6, 10, bias)
    ours.reduction.weight.data = conv.weight.data.permute(2, 3, 1, 0).reshape(40, 6)
    if bias:
        ours.bias.data = conv.bias.data
    x = torch.randn(2, 4, 8, 6)
    expected = conv(ours.norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert torch.allclose(ours(x), expected, atol=1e-6)


@pytest.mark.parametrize("function", [merge_cells, split_cells])
def test_no_size_of_the_example_is_traced(function):
    """ONNX's exporter of traced graphs takes every size that unflatten meets for a constant."""
    traced = torch.jit.trace(function, torch.rand(2, 4, 6, 8))
    assert "unflatten" not in str(traced.graph)
    other = torch.rand(1, 8, 2, 8)
    assert torch.equal(traced(other), function(other))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 6), (3, 1)])
def test_means_of_tiles_are_pooling(size):
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = min(2, size[0]), min(2, size[1])
    found = tiles(image, *kernel)
    assert torch.allclose(found.mean((-2, -1)), nn.functional.avg_pool2d(image, kernel))
    assert torch.equal(found.amax((-2, -1)), nn.functional.max_pool2d(image, kernel))
