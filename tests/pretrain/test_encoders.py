"""Shapes, size changes and partial encoders."""

import pytest
import torch

from itpn_d2.backbone import FastITPN, IntegralBackbone, IntegralPyramid
from pretrain.encoders import PyramidEncoder, SwinEncoder, TimmEncoder, ViTEncoder


def image(size=64, batch=2, device="cpu"):
    side = (size, size) if isinstance(size, int) else size
    if device == "meta":
        return torch.empty(batch, 3, *side, device=device)
    return torch.randn(batch, 3, *side, generator=torch.Generator().manual_seed(0))


def vit(**options):
    return ViTEncoder(img_size=64, embed_dim=32, depth=3, num_heads=2, **options)


def swin(**options):
    return SwinEncoder(
        img_size=64, embed_dim=8, depths=(1, 1, 2, 2), num_heads=(1, 2, 4, 8), window_size=2, **options
    )


def pyramid(**options):
    channels = (8, 12, 16)
    trunk = FastITPN(channels, (1, 1, 3), 2, pos_grid=(4, 4))
    return PyramidEncoder(IntegralBackbone(trunk, IntegralPyramid(channels, fpn_dim=24)), **options)


def convnet():
    return TimmEncoder("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))


ALL = [vit, swin, pyramid, convnet]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
def test_tokens_then_a_larger_size(make, size):
    torch.manual_seed(0)
    encoder = make().eval()
    for side in (size, (128, 128), size):
        encoder.set_input_size(side)
        with torch.no_grad():
            tokens = encoder(image(side))
        count = (side[0] // encoder.stride) * (side[1] // encoder.stride)
        assert tokens.shape == (2, encoder.num_prefix + count, encoder.width)
        assert torch.isfinite(tokens).all()


@pytest.mark.parametrize(("make", "tokens", "parameters"), [("vit", 65, 85.8), ("swin", 16, 86.7)])
def test_base_models_at_128(make, tokens, parameters):
    with torch.device("meta"):
        encoder = {"vit": ViTEncoder, "swin": SwinEncoder}[make]()
    count = sum(p.numel() for p in encoder.parameters()) / 1e6
    assert abs(count - parameters) < 0.2
    assert encoder(image(128, 2, "meta")).shape == (2, tokens, encoder.width)


def test_swin_windows_follow_the_size():
    with torch.device("meta"):
        encoder = SwinEncoder(depths=(1, 1, 1, 1))
    windows = []
    for size in (128, 192, 224):
        encoder.set_input_size((size, size))
        windows.append(encoder.backbone.layers[0].blocks[0].window_size)
    assert windows == [(4, 4), (6, 6), (7, 7)]


def test_positions_do_not_depend_on_the_sizes_before():
    torch.manual_seed(0)
    encoder = vit()
    start = encoder.backbone.pos_embed.clone()
    assert not encoder.backbone.pos_embed.requires_grad
    encoder.set_input_size((128, 96))
    direct = encoder.backbone.pos_embed.clone()
    encoder.set_input_size((80, 80))
    encoder.set_input_size((128, 96))
    assert torch.equal(encoder.backbone.pos_embed, direct)
    encoder.set_input_size((64, 64))
    assert torch.equal(encoder.backbone.pos_embed, start)


def test_replaced_parameters_are_named():
    torch.manual_seed(0)
    assert pyramid().set_input_size((128, 128)) == []
    assert vit().set_input_size((128, 128)) == []  # a fixed table is none of the optimizer's business
    encoder = swin()
    names = encoder.set_input_size((128, 128))
    assert names
    assert all(name.endswith("relative_position_bias_table") for name in names)
    assert set(names) <= set(dict(encoder.named_parameters()))
    assert encoder.set_input_size((128, 128)) == []


@pytest.mark.parametrize(
    ("make", "drop", "gone"),
    [
        (vit, 2, ["backbone.blocks.1.", "backbone.blocks.2."]),
        (swin, 1, ["backbone.layers.3.blocks.1."]),
        (swin, 3, ["backbone.layers.3.blocks.", "backbone.layers.2.blocks.1."]),
        (pyramid, 1, ["backbone.trunk.stage3.2."]),
    ],
)
def test_partial_encoder_keeps_the_names(make, drop, gone):
    torch.manual_seed(0)
    whole, part = make(), make(drop_last=drop)
    expected = [k for k in whole.state_dict() if not k.startswith(tuple(gone))]
    assert list(part.state_dict()) == expected
    assert len(expected) < len(whole.state_dict())
    assert part(image()).shape == whole(image()).shape
    part.set_input_size((128, 128))
    assert torch.isfinite(part(image(128))).all()


@pytest.mark.parametrize(("make", "drop"), [(vit, 3), (swin, 4), (pyramid, 3), (vit, -1)])
def test_too_many_left_out(make, drop):
    with pytest.raises(ValueError, match="drop_last"):
        make(drop_last=drop)


def test_pyramid_token_sees_its_own_cells():
    # without stage 3 no layer mixes two tokens: only the token of a changed pixel may change
    torch.manual_seed(0)
    encoder = pyramid().eval()
    encoder.backbone.trunk.stage3 = torch.nn.ModuleList()
    first, second = image(), image()
    second[:, :, 40, 20] += 1
    with torch.no_grad():
        changed = (encoder(first) - encoder(second)).abs().amax((0, 2)).nonzero().flatten().tolist()
    assert changed == [2 * 4 + 1]
