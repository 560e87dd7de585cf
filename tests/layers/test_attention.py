"""Attention against its definition, in float64."""

import pytest
import torch

from itpn_d2.layers import Attention


def reference(layer: Attention, x: torch.Tensor, key_mask=None) -> torch.Tensor:
    b, n, c = x.shape
    q, k, v = (x @ w.T for w in layer.qkv.weight.chunk(3))
    q, v = q + layer.q_bias, v + layer.v_bias
    d = c // layer.num_heads
    out = torch.empty_like(x)
    for head in range(layer.num_heads):
        s = slice(head * d, (head + 1) * d)
        logits = q[..., s] @ k[..., s].transpose(1, 2) * d**-0.5
        if key_mask is not None:
            logits = logits.masked_fill(~key_mask[:, 0], float("-inf"))
        out[..., s] = logits.softmax(-1) @ v[..., s]
    return layer.proj(out)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = Attention(24, 3).double()
    for bias in (layer.q_bias, layer.v_bias):
        torch.nn.init.normal_(bias)
    return layer


@pytest.mark.parametrize("masked", [False, True])
def test_against_definition(layer, masked):
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    mask = torch.arange(7)[None, None, None] < torch.tensor([7, 4])[:, None, None, None] if masked else None
    assert torch.allclose(layer(x, mask), reference(layer, x, mask), atol=1e-12)


def test_gradients(layer):
    x = torch.randn(1, 4, 24, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([True, True, True, False])[None, None, None]
    assert torch.autograd.gradcheck(lambda x: layer(x, mask), (x,))


def test_heads_must_divide():
    with pytest.raises(ValueError, match="not divisible"):
        Attention(10, 3)
