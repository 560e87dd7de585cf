"""The decoder's positions and the filling of dropped places."""

import torch

from pretrain.decoder import MaskFill, TokenDecoder
from pretrain.positions import sincos_2d


def test_fill_puts_every_token_in_its_place():
    torch.manual_seed(0)
    fill = MaskFill(5, times=3)
    tokens = torch.randn(2, 3, 5)
    visible = torch.tensor([[0, 4, 7], [7, 2, 1]])
    filled = fill(tokens, visible, 9)
    for b in range(2):
        for place in range(9):
            at = (visible[b] == place).nonzero().flatten()
            expected = tokens[b, at[0]] if len(at) else 3 * fill.token[0, 0]
            assert torch.equal(filled[b, place], expected)


def test_outputs_and_positions_of_other_grids():
    torch.manual_seed(0)
    decoder = TokenDecoder(16, 2, 2, (7, 3), grid=(4, 4))
    a, b = decoder(torch.randn(2, 24, 16), (4, 6))
    assert a.shape == (2, 24, 7) and b.shape == (2, 24, 3)
    zeros = torch.zeros(1, 16, 16)
    assert torch.equal(decoder.place(zeros, (4, 4)), sincos_2d(16, (4, 4)))
    # one row of a native grid's height in the middle of which it lies
    assert decoder.place(zeros[:, :4], (1, 4)).shape == (1, 4, 16)
    assert "positions" not in decoder.state_dict()
