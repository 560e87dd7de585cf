"""Feed-forward layers in pieces: the same values, and when."""

import pytest
import torch

from itpn_d2.backbone.blocks import MlpBlock
from itpn_d2.layers import Mlp, in_pieces


class Counted(torch.nn.Module):
    """A layer, and how many cells each of its calls got."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.cells = layer, []

    def forward(self, x):
        self.cells.append(x.shape[:-1].numel())
        return self.layer(x)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return Counted(Mlp(6, 9, inner_norm=True))


@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (2, 3, 4, 4, 6), (11, 6), (1, 6), (0, 4, 6)])
@pytest.mark.parametrize("cells", [1, 4, 10, 1000])
@torch.no_grad()
def test_pieces_are_the_whole(layer, shape, cells):
    x = torch.randn(shape)
    torch.testing.assert_close(in_pieces(layer, x, cells), layer.layer(x), rtol=0, atol=1e-6)
    assert sum(layer.cells) == x.shape[:-1].numel() and max(layer.cells) <= cells


@torch.no_grad()
def test_another_width_and_type():
    out = in_pieces(torch.nn.Linear(6, 8, dtype=torch.float64), torch.randn(3, 4, 6, dtype=torch.float64), 5)
    assert out.shape == (3, 4, 8) and out.dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert in_pieces(torch.nn.Linear(6, 8), torch.randn(3, 4, 6), 5).dtype == torch.bfloat16


@torch.no_grad()
def test_a_map_that_is_not_contiguous(layer):
    x = torch.randn(2, 6, 5, 7).permute(0, 2, 3, 1)
    torch.testing.assert_close(in_pieces(layer, x, 4), layer.layer(x), rtol=0, atol=1e-6)


def test_gradients_and_recorded_graphs_take_all_cells_at_once(layer):
    x = torch.randn(5, 6)
    in_pieces(layer.requires_grad_(False), x, 2)
    with torch.no_grad():
        torch.jit.trace(lambda x: in_pieces(layer, x, 2), x, check_trace=False)
    assert set(layer.cells) == {5}


def test_the_blocks_use_it(monkeypatch):
    seen = []
    monkeypatch.setattr("itpn_d2.backbone.blocks.in_pieces", lambda f, x: seen.append(1) or f(x))
    block = MlpBlock(6, 9, inner_norm=True, drop=0.5)
    with torch.no_grad():
        block(torch.randn(2, 3, 6))
        assert not seen  # stochastic depth is per sample
        block.eval()(torch.randn(2, 3, 6))
    assert seen == [1]
