"""Attention by products: as exact as the fused kernel's type allows, and only where it is meant."""

import pytest
import torch
from torch.nn import functional as F

from itpn_d2.backbone import create_model
from itpn_d2.layers import attention_products
from itpn_d2.layers.attention_products import attend, product_attention

BF16 = torch.bfloat16


def qkv(queries, keys, batch=2, heads=3, dim=8, scale=1.0, seed=0):
    torch.manual_seed(seed)
    shapes = [(batch, heads, n, dim) for n in (queries, keys, keys)]
    q, k, v = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return scale * q, scale * k, v


@pytest.fixture
def chosen(monkeypatch):
    """Products are faster here; a list that grows with each use of them."""
    used = []

    def count(*arguments):
        used.append(arguments[0].shape)
        return product_attention(*arguments)

    monkeypatch.setattr("itpn_d2.layers.attention_products.products_are_faster", lambda: True)
    monkeypatch.setattr("itpn_d2.layers.attention_products.product_attention", count)
    return used


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 40), (64, 64), (100, 77)])
@pytest.mark.parametrize("block", [1, 500, 2**22])
@pytest.mark.parametrize("masked", [False, True])
def test_against_float64(queries, keys, block, masked, monkeypatch):
    monkeypatch.setattr("itpn_d2.layers.attention_products.BLOCK", block)
    q, k, v = qkv(queries, keys)
    mask = torch.rand(2, 1, 1, keys) < 0.5 if masked else None
    if mask is not None:
        mask[..., -1] = True
    found = product_attention(q, k, v, mask)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_sample_without_visible_keys():
    """Every key of the sample is hidden: a shift by what hides them would leave nothing of the logits."""
    q, k, v = qkv(20, 64)
    mask = torch.ones(2, 1, 1, 64, dtype=torch.bool)
    mask[0, ..., ::16] = False
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(product_attention(q, k, v, mask), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("scale", "gain"), [(1.0, 1.4), (2.0, 2.5)])
def test_bfloat16_is_near_the_fused_kernel(scale, gain):
    """Keys with something in common, as trained ones have: their logits are large, which plain products
    in bfloat16 pay for."""
    q, k, v = qkv(256, 1024, dim=64, scale=scale)
    k = k + 2 * scale * torch.randn(1, 3, 1, 64, dtype=torch.float64)
    low = [x.to(BF16) for x in (q, k, v)]
    expected = F.scaled_dot_product_attention(*(x.double() for x in low))
    q, k, v = low

    def error(found):
        return (found.double() - expected).square().mean().sqrt()

    fused = error(F.scaled_dot_product_attention(q, k, v))
    plain = error((q * 64**-0.5 @ k.transpose(2, 3)).softmax(-1) @ v)
    ours = error(product_attention(q, k, v))
    assert ours < 3 * fused and ours < plain / gain


@pytest.mark.parametrize("autocast", [False, True])
@torch.no_grad()
def test_type_and_autocast(autocast, chosen):
    q, k, v = (x.to(BF16) for x in qkv(70, 80))
    with torch.autocast("cpu", BF16, enabled=autocast):
        assert attend(q, k, v).dtype == BF16 and len(chosen) == 1


def test_where_it_is_used(chosen):
    q, k, v = (x.to(BF16) for x in qkv(70, 80))
    mask = torch.ones(2, 1, 1, 80, dtype=torch.bool)
    attend(q, k, v)  # gradients may be asked for
    with torch.no_grad():
        attend(q.float(), k.float(), v.float())
        attend(q[:, :, :9], k, v)
        attend(q, k[:, :, :9], v[:, :, :9])
        attend(q, k, v, mask.expand(-1, -1, 70, -1))  # not one of keys alone
        attend(q, k, v, torch.zeros(2, 1, 1, 80, dtype=BF16))
        torch.jit.trace(attend, (q, k, v), check_trace=False)
        assert not chosen
        attend(q, k, v), attend(q, k, v, mask), attend(q, k, v, mask[:1])
        assert len(chosen) == 3


@pytest.mark.parametrize(
    ("avx512", "amx", "faster"),
    [(True, False, True), (True, True, False), (False, False, False), (None, None, False)],
)
def test_other_processors(avx512, amx, faster, monkeypatch):
    for name, supported in (("avx512_bf16", avx512), ("amx_tile", amx)):
        if supported is None:  # an older torch can't tell
            monkeypatch.delattr(torch.cpu, f"_is_{name}_supported", raising=False)
        else:
            monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda x=supported: x, raising=False)
    assert attention_products.products_are_faster.__wrapped__() == faster


@pytest.mark.parametrize("options", [{}, {"gathering": {"window": 8}}, {"migration": {"keep": 0.7}}])
@torch.no_grad()
def test_a_backbone_with_it(options, chosen, monkeypatch):
    """240x208 pixels and 160x208 in one batch: masks, and windows at the edge that are smaller."""
    torch.manual_seed(0)
    model = create_model("fast_itpn_nano", pyramid=True, **options).eval()
    image, sizes = torch.randn(2, 3, 240, 208), [(240, 208), (160, 208)]
    image[1, :, 160:] = 0
    exact = model(image, image_sizes=sizes)
    assert not chosen
    with torch.autocast("cpu", BF16):
        found = model(image, image_sizes=sizes)
        assert chosen
        monkeypatch.setattr("itpn_d2.layers.attention_products.products_are_faster", lambda: False)
        fused = model(image, image_sizes=sizes)
    for level, x in found.items():
        ours, theirs = ((y[level].float() - exact[level]).square().mean().sqrt() for y in (found, fused))
        assert ours < 1.5 * theirs + 1e-4 and x.isfinite().all()
