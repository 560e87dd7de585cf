"""FastMIM: what is masked, what the loss counts, and where the gradient arrives."""

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from torch import nn

from itpn_d2.backbone import FastITPN, IntegralBackbone, IntegralPyramid
from itpn_d2.checkpoint.key_maps import to_native
from pretrain.encoders import Encoder, PyramidEncoder, SwinEncoder, TimmEncoder, ViTEncoder
from pretrain.masking import BlockMasking, GridMasking, RandomMasking
from pretrain.methods import FastMIM
from pretrain.targets import HOG, Pixels

SMALL = {"decoder_dim": 32, "decoder_heads": 2}


class Patches(Encoder):
    """One linear layer per token: no token sees another."""

    def __init__(self, stride=32, width=8):
        super().__init__()
        self.backbone, self.stride, self.width = nn.Conv2d(3, width, stride, stride), stride, width

    def forward(self, image):
        return self.backbone(image).flatten(2).transpose(1, 2)


def batch(size=(64, 64), count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"image": torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)}


def pyramid_method(**options):
    torch.manual_seed(0)
    channels = (8, 12, 16)
    backbone = IntegralBackbone(
        FastITPN(channels, (1, 1, 2), 2, pos_grid=(4, 4)), IntegralPyramid(channels, fpn_dim=24)
    )
    return FastMIM(PyramidEncoder(backbone), **SMALL, **options)


@pytest.mark.parametrize("target", [HOG(), Pixels()])
@pytest.mark.parametrize("masking", [None, GridMasking(block=32), RandomMasking(0.5), BlockMasking(8, 4)])
def test_gradient_reaches_mask_token_trunk_and_pyramid(target, masking):
    method = pyramid_method(target=target, masking=masking)
    losses = method(batch((64, 96)))
    assert list(losses) == [f"loss_{target.name}"]
    losses[f"loss_{target.name}"].backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        # a key bias and the like may cancel; every part as a whole must not
    assert method.mask_token.grad.abs().min() > 0
    for part in (method.backbone.trunk, method.backbone.pyramid):
        assert all(p.grad.abs().sum() > 0 for p in part.parameters())


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: ViTEncoder(img_size=64, embed_dim=32, depth=1, num_heads=2),
        lambda: SwinEncoder(
            img_size=64, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=2
        ),
        lambda: TimmEncoder("resnet10t"),
    ],
)
def test_training_at_two_sizes(encoder):
    torch.manual_seed(0)
    method = FastMIM(encoder(), **SMALL)
    for size in ((64, 64), (128, 128)):
        replaced = method.set_input_size(size)
        assert set(replaced) <= set(dict(method.named_parameters()))
        loss = method(batch(size))["loss_hog"]
        loss.backward()
        assert torch.isfinite(loss)
        assert method.mask_token.grad.abs().min() > 0


@pytest.mark.parametrize("block", [16, 32, 64])
@pytest.mark.parametrize("target", [HOG(), Pixels(normalise=False)])
def test_loss_counts_masked_squares_only(block, target):
    torch.manual_seed(0)
    method = FastMIM(Patches(), target, **SMALL)
    data = batch((64, 128))
    mask = RandomMasking(0.5)(2, (64 // block, 128 // block))
    grid = method.draw_mask(data["image"], mask)
    image = method.normalise(data["image"])
    values = target.tokens(image, 32)
    prediction = torch.randn(values.shape)
    # the same, square by square, on a map of the values of each pixel (or cell)
    fine = 8 if isinstance(target, HOG) else 1
    side = 32 // fine

    def as_map(x):
        x = x.unflatten(1, (2, 4))
        if fine == 8:
            return x.unflatten(-1, (27, side, side)).permute(0, 3, 1, 4, 2, 5).reshape(2, 27, 8, 16)
        return x.unflatten(-1, (side, side, 3)).permute(0, 5, 1, 3, 2, 4).reshape(2, 3, 64, 128)

    error = (as_map(prediction) - as_map(values)).square()
    weight = grid.repeat_interleave(block // fine, 1).repeat_interleave(block // fine, 2)[:, None]
    expected = (error * weight).sum() / (weight.sum() * error.shape[1])
    assert torch.allclose(method.loss(prediction, values, grid, (2, 4)), expected, rtol=1e-5)


def test_visible_squares_count_too():
    method = pyramid_method(visible_weight=0.5)
    given = {**batch(), "mask": torch.arange(16).expand(2, -1) < 4}
    losses = method(given)
    image = method.normalise(given["image"])
    mask = method.draw_mask(image, given["mask"])
    error = (method.reconstruct(image, mask) - method.target.tokens(image, 16)).square().mean(-1)
    assert torch.allclose(losses["loss_hog"], error[:, :4].mean())
    assert torch.allclose(losses["loss_visible"], error[:, 4:].mean() / 2)
    with pytest.raises(ValueError, match="visible_weight -1 is negative"):
        pyramid_method(visible_weight=-1)


def test_nothing_of_a_masked_square_is_seen():
    torch.manual_seed(0)
    method = FastMIM(Patches(16), **SMALL).eval()
    first, second = batch(), batch()
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 5] = True
    second["image"][:, :, 16:32, 16:32] = 7
    first["mask"] = second["mask"] = mask
    a, b = method.predict(first), method.predict(second)
    assert torch.equal(a["prediction"], b["prediction"])
    assert not torch.equal(a["target"], b["target"])
    mask[:, 5] = False
    assert not torch.equal(method.predict(first)["prediction"], method.predict(second)["prediction"])


def test_no_mask_no_loss():
    method = FastMIM(Patches(16), **SMALL)
    assert method({**batch(), "mask": torch.zeros(2, 16, dtype=torch.bool)})["loss_hog"] == 0


def test_default_recipe():
    method = FastMIM(Patches(32))
    assert method.masking.block == 32
    mask = method.draw_mask(batch((128, 128))["image"])
    assert mask.shape == (2, 4, 4)
    assert mask.flatten(1).sum(1).tolist() == [12, 12]
    assert method.decoder_pred.out_features == 432
    image = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert method.normalise(image).abs().max() < 1e-6


def test_predict_returns_what_a_picture_needs():
    method = pyramid_method(target=Pixels())
    found = method.predict(batch((64, 96)))
    assert found["image"].dtype == torch.uint8
    assert found["mask"].shape == (2, 4, 6)
    assert found["prediction"].shape == found["target"].shape == (2, 24, 768)
    assert found["stride"] == 16
    assert not found["prediction"].requires_grad


def test_seed_and_autocast():
    method = pyramid_method()
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses.append(method(batch())["loss_hog"])
    assert losses[0] == losses[1]
    assert losses[0].dtype == torch.float32


def test_backbone_goes_to_the_key_maps():
    method = pyramid_method()
    state = to_native(method.state_dict()).state
    assert torch.equal(state["trunk.pos_embed"], method.backbone.trunk.pos_embed)
    assert set(method.backbone.state_dict()) <= set(state)


@pytest.mark.parametrize(
    ("size", "mask", "message"),
    [
        ((72, 64), None, "image 72x64"),
        ((64, 64), torch.zeros(2, 9, dtype=torch.bool), "9 squares"),
        ((96, 96), torch.zeros(2, 4, dtype=torch.bool), "squares of 48"),
    ],
)
def test_sizes_that_do_not_fit(size, mask, message):
    data = batch(size)
    if mask is not None:
        data["mask"] = mask
    with pytest.raises(ValueError, match=message):
        FastMIM(Patches(32), **SMALL)(data)


def test_lazy_config():
    torch.manual_seed(0)
    node = L(FastMIM)(
        encoder=L(PyramidEncoder)(
            backbone=L(IntegralBackbone)(
                trunk=L(FastITPN)(channels=(8, 12, 16), depths=(1, 1, 2), num_heads=2),
                pyramid=L(IntegralPyramid)(channels=(8, 12, 16), fpn_dim=24),
            ),
            drop_last=1,
        ),
        target=L(HOG)(),
        masking=L(GridMasking)(ratio=0.5, block=32),
        decoder_dim=32,
        decoder_heads=2,
        pixel_mean=[0.0, 0.0, 0.0],
    )
    method = instantiate(node)
    assert len(method.backbone.trunk.stage3) == method.backbone.trunk.depths[2] == 1
    assert torch.isfinite(method(batch())["loss_hog"])
    swin = L(SwinEncoder)(
        img_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=2
    )
    assert instantiate(swin).width == 64
