"""Trunk and pyramid: shapes at any size, independence of padding and batch, checkpointing, gradients."""

import pytest
import torch

from itpn_d2 import VARIANTS, create_model
from itpn_d2.layers.units import map_to_units, units_to_map

SMALL = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2)


def small_backbone(**overrides):
    torch.manual_seed(0)
    model = create_model(
        "fast_itpn_nano", pyramid=True, fpn_dim=24, pos_grid=(4, 4), **SMALL, **overrides
    ).eval()
    # the usual initialisation hides mistakes behind small values
    for name, p in model.named_parameters():
        torch.nn.init.normal_(p, std=0.5 if p.ndim == 1 or "pos" in name else p.shape[-1] ** -0.5)
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    with torch.device("meta"):
        trunk = create_model(name)
        maps = trunk(torch.empty(2, 3, 64, 96))
    variant = VARIANTS[name]
    assert trunk.depths == variant.depths
    assert [tuple(m.shape) for m in maps] == [
        (2, 64 // s, 96 // s, c) for s, c in zip((4, 8, 16), variant.channels, strict=True)
    ]


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (50, 70), (33, 31), (5, 200)])
def test_any_size(size):
    model = small_backbone()
    outputs = model(torch.randn(2, 3, *size))
    padded = [-(-s // 32) * 32 for s in size]
    for name, shape in model.output_shape().items():
        expected = [max(1, side // shape.stride) for side in padded]
        assert tuple(outputs[name].shape) == (2, shape.channels, *expected)
        assert outputs[name].isfinite().all()


@pytest.mark.parametrize(
    "sizes", [[(64, 64), (96, 40)], [(33, 47), (64, 96), (96, 64)], [(20, 130), (130, 20)]]
)
def test_features_do_not_depend_on_the_batch(sizes):
    """Every image alone gives what it gives inside a padded batch, on its own cells."""
    model = small_backbone()
    images = [torch.randn(3, *size) for size in sizes]
    batch = torch.zeros(len(sizes), 3, max(s[0] for s in sizes), max(s[1] for s in sizes))
    for slot, image in zip(batch, images, strict=True):
        slot[:, : image.shape[1], : image.shape[2]] = image
    together = model(batch)
    for i, image in enumerate(images):
        alone = model(image[None])
        for level in alone:
            # cells that lie wholly on the image's own 32-pixel grid
            h, w = (-(-side // 32) * 32 // 2 ** int(level[1]) for side in image.shape[1:])
            assert torch.allclose(alone[level][0, :, :h, :w], together[level][i, :, :h, :w], atol=2e-5), level


def test_explicit_sizes_equal_found_ones():
    model = small_backbone()
    batch = torch.zeros(2, 3, 64, 96)
    batch[0, :, :40, :50] = torch.randn(3, 40, 50)
    batch[1] = torch.randn(3, 64, 96)
    found, told = model(batch), model(batch, image_sizes=[(40, 50), (64, 96)])
    assert all(torch.equal(found[k], told[k]) for k in found)


def test_mask_padding_off_attends_to_padding():
    model, naive = small_backbone(), small_backbone(mask_padding=False)
    batch = torch.zeros(1, 3, 64, 96)
    batch[0, :, :40, :50] = torch.randn(3, 40, 50)
    assert not torch.allclose(model(batch)["p4"], naive(batch)["p4"], atol=1e-3)


def test_pyramid_works_on_units():
    """No layer of the pyramid mixes two 16x16 units: the unit layout gives the dense result."""
    model = small_backbone()
    maps = model.trunk(torch.randn(2, 3, 64, 96))
    dense = model.pyramid.top_down(*maps)
    units = model.pyramid.top_down(*(map_to_units(m, u) for m, u in zip(maps, (4, 2, 1), strict=True)))
    for a, b in zip(dense, units, strict=True):
        assert torch.allclose(a, units_to_map(b, (4, 6)), atol=1e-5)


@pytest.mark.parametrize("freeze_at", range(5))
def test_freeze(freeze_at):
    model = small_backbone(freeze_at=freeze_at)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    parts = ["trunk.patch_embed.", "trunk.stage1.", "trunk.stage2.", "trunk.stage3."]
    for i, part in enumerate(parts):
        assert any(n.startswith(part) for n in frozen) == (i < freeze_at)
    assert not any(n.startswith("pyramid.") for n in frozen)
    model(torch.randn(1, 3, 32, 32))["p2"].sum().backward()


def test_every_parameter_gets_a_gradient():
    model = small_backbone(drop_path=0.0).train()
    sum(p.square().mean() for p in model(torch.randn(2, 3, 64, 64)).values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_drop_path_grows_linearly():
    trunk = create_model("fast_itpn_nano", drop_path=0.7)
    blocks = [*trunk.stage1, *trunk.stage2, *trunk.stage3]
    rates = [getattr(b.drop_path, "drop_prob", 0.0) for b in blocks]
    assert rates == pytest.approx([0.1 * i for i in range(8)])


def test_autocast_gives_one_type():
    model = small_backbone()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.randn(1, 3, 64, 64))
    assert {p.dtype for p in outputs.values()} == {torch.bfloat16}


@pytest.mark.parametrize("pooling", ["mean_then_norm", "norm_then_mean"])
def test_classifier(pooling):
    model = create_model("fast_itpn_nano", num_classes=7, pooling=pooling, **SMALL)
    assert model(torch.randn(2, 3, 50, 64)).shape == (2, 7)
    assert ("trunk.norm.weight" in model.state_dict()) == (pooling == "norm_then_mean")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (dict(name="fast_itpn_huge"), KeyError, "fast_itpn_nano"),
        (dict(name="fast_itpn_nano", pyramid=True, num_classes=3), ValueError, "not both"),
        (dict(name="fast_itpn_nano", colour="red"), TypeError, "colour"),
        (dict(name="fast_itpn_nano", num_classes=3, pooling="max"), ValueError, "mean_then_norm"),
        (dict(name="fast_itpn_nano", pyramid=True, out_features=("p9",)), ValueError, "p2"),
        (dict(name="fast_itpn_nano", pyramid=True, freeze_at=9), ValueError, "freeze_at"),
        (dict(name="fast_itpn_nano", pyramid=True, checkpointing="stage4"), ValueError, "stage3, pyramid"),
    ],
)
def test_wrong_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        create_model(**arguments)


def test_trunk_refuses_what_it_cannot_cut():
    with pytest.raises(ValueError, match="multiple of 16"):
        create_model("fast_itpn_nano")(torch.randn(1, 3, 40, 64))
