"""Pixel reconstruction: what is dropped is really not seen, and the loss counts masked patches only."""

import pytest
import torch

from pretrain.encoders import encode_masked_patches, encode_visible, visible_patches
from pretrain.masking import BlockMasking, RandomMasking
from pretrain.methods import PixelMIM

DECODER = dict(decoder_dim=32, decoder_depth=1, decoder_heads=2)
FAMILIES = pytest.mark.parametrize("name", ["fast_itpn_nano", "itpn_nano"])


@FAMILIES
def test_masked_pixels_have_no_influence(name, micro, images):
    method = PixelMIM(micro(name), **DECODER)
    image = method.normalise(images())
    mask = RandomMasking(0.75)(2, (4, 4))
    visible = visible_patches(mask)
    before = method.predict_tokens(image, visible)
    hidden = mask.unflatten(1, (4, 4)).repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    assert torch.equal(before, method.predict_tokens(image + hidden * torch.randn_like(image), visible))
    assert not torch.equal(before, method.predict_tokens(image + ~hidden * torch.randn_like(image), visible))


@FAMILIES
def test_keeping_all_patches_is_the_dense_pass(name, micro, images):
    backbone = micro(name).eval()
    image = images(size=(64, 96)).float() / 64
    everything = torch.arange(24).expand(2, -1)
    features = encode_visible(backbone, image, everything)
    dense = backbone.top_down(image)
    for units, grid in zip(features.levels, dense, strict=True):
        side = grid.shape[1] // 4
        cut = grid.unflatten(1, (4, side)).unflatten(3, (6, side)).transpose(2, 3).flatten(1, 2)
        assert torch.allclose(units, cut, atol=1e-5)
    again = encode_masked_patches(backbone, image)
    assert all(torch.equal(a, b) for a, b in zip(again.levels, features.levels, strict=True))


@FAMILIES
@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_every_parameter_learns(name, size, micro, images):
    method = PixelMIM(micro(name), **DECODER)
    loss = method({"image": images(size=size)})["loss_pixels"]
    loss.backward()
    assert torch.isfinite(loss)
    # a key bias cancels in the softmax
    idle = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [n for n in idle if not n.endswith("qkv.bias")]


@pytest.mark.parametrize("xavier", [False, True])
def test_starts_of_the_decoder(xavier, micro):
    torch.manual_seed(0)
    method = PixelMIM(micro(), **DECODER, xavier_decoder=xavier)
    linear = method.decoder.blocks[0].mlp.fc1
    wanted = (2 / (linear.in_features + linear.out_features)) ** 0.5 if xavier else 0.02
    assert linear.weight.std().item() == pytest.approx(wanted, rel=0.1)
    assert not linear.bias.any()


def test_loss_by_hand(micro, images):
    method = PixelMIM(micro(), **DECODER)
    batch = {"image": images(), "mask": RandomMasking(0.5)(2, (4, 4))}
    image = method.normalise(batch["image"])
    prediction = method.predict_tokens(image, visible_patches(batch["mask"]))
    errors = []
    for b in range(2):
        for n in range(16):
            if batch["mask"][b, n]:
                y, x = 16 * (n // 4), 16 * (n % 4)
                patch = image[b, :, y : y + 16, x : x + 16].permute(1, 2, 0).flatten()
                patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
                errors.append((prediction[b, n] - patch).square().mean())
    assert torch.allclose(method(batch)["loss_pixels"], torch.stack(errors).mean(), atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_weight_of_visible_patches(weight, micro, images):
    method = PixelMIM(micro(), **DECODER, visible_weight=weight)
    batch = {"image": images(), "mask": RandomMasking(0.75)(2, (4, 4))}
    losses, shown = method(batch), method.predict(batch)
    assert set(losses) == ({"loss_pixels", "loss_visible"} if weight else {"loss_pixels"})
    errors = (shown["prediction"] - shown["target"]).square().mean(-1)
    assert torch.allclose(losses["loss_pixels"], errors[batch["mask"]].mean(), atol=1e-5)
    if weight:
        assert torch.allclose(losses["loss_visible"], weight * errors[~batch["mask"]].mean(), atol=1e-5)
    with pytest.raises(ValueError, match="visible_weight -1"):
        PixelMIM(micro(), **DECODER, visible_weight=-1)


def test_the_picture_shows_what_the_loss_saw(micro, images):
    method = PixelMIM(micro(), **DECODER)
    batch = {"image": images(), "mask": RandomMasking(0.5)(2, (4, 4))}
    shown = method.predict(batch)
    assert shown["kind"] == "pixels" and shown["mask"].shape == (2, 4, 4)
    error = (shown["prediction"] - shown["target"]).square().mean(-1)[batch["mask"]].mean()
    assert torch.allclose(error, method(batch)["loss_pixels"], atol=1e-5)


def test_bad_options(micro, images):
    with pytest.raises(ValueError, match="rel_pos='none'"):
        PixelMIM(micro("itpn_nano", rel_pos="table"), **DECODER)({"image": images()})
    with pytest.raises(ValueError, match="same number of visible"):
        visible_patches(torch.tensor([[True, False], [True, True]]))
    with pytest.raises(ValueError, match="multiple of 16"):
        PixelMIM(micro(), decoder_dim=24, decoder_depth=1, decoder_heads=2)
    ragged = PixelMIM(micro(), BlockMasking(8, 4, exact=True), **DECODER)
    assert ragged({"image": images()})["loss_pixels"].isfinite()
