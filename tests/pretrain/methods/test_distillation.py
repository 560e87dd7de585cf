"""Feature targets: leaks, losses, both heads, and teachers whose grid does not fit."""

import pytest
import torch
from torch import nn

from itpn_d2.backbone import create_model
from pretrain.masking import BlockMasking
from pretrain.methods import CLIPDistillation, FeatureDistillation
from pretrain.targets.base import Teacher

MASKING = BlockMasking(6, 4)


class Means(Teacher):
    """Eight projections of each patch's mean colour."""

    def __init__(self, image_size=(64, 64)):
        super().__init__()
        self.dim, self.image_size = 8, image_size
        self.register_buffer("weight", torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
        self.seen = None

    def forward(self, image):
        self.seen = image
        return nn.functional.avg_pool2d(image.float() / 255, 16).flatten(2).transpose(1, 2) @ self.weight.T


@pytest.mark.parametrize("name", ["fast_itpn_nano", "itpn_nano"])
def test_nothing_of_a_masked_patch_leaks(name, micro, images):
    method = FeatureDistillation(micro(name), Means(), masking=MASKING).eval()
    image = method.normalise(images())
    mask = MASKING(2, (4, 4))
    hidden = mask.unflatten(1, (4, 4)).repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    before = method.decode(method.encode(image, mask))
    changed = method.decode(method.encode(image + hidden * torch.randn_like(image), mask))
    assert torch.equal(before, changed)


@pytest.mark.parametrize("name", ["fast_itpn_nano", "itpn_nano"])
def test_every_parameter_learns(name, micro, images):
    method = FeatureDistillation(micro(name), Means(), masking=MASKING)
    losses = method({"image": images()})
    losses["loss_features"].backward()
    assert -1 <= losses["loss_features"] <= 1
    idle = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [n for n in idle if not n.endswith("qkv.bias")]


def test_cosine_by_hand_over_ragged_masks(micro, images):
    method = FeatureDistillation(micro(), Means())
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, :3] = mask[1, 5:12] = True
    batch = {"image": images(), "mask": mask}
    prediction = method.decode(method.encode(method.normalise(batch["image"]), mask))
    target = method.teacher(batch["image"])
    cosine = (prediction * target).sum(-1) / prediction.norm(dim=-1) / target.norm(dim=-1)
    assert torch.allclose(method(batch)["loss_features"], -cosine[mask].mean(), atol=1e-6)


def test_stem_gradient(micro, images):
    grads = []
    for factor in (1.0, 0.1):
        torch.manual_seed(0)
        method = FeatureDistillation(micro(), Means(), stem_gradient=factor)
        mask = torch.zeros(2, 16, dtype=torch.bool)
        mask[:, 3:9] = True
        method({"image": images(), "mask": mask})["loss_features"].backward()
        trunk = method.backbone.trunk
        grads.append((trunk.patch_embed.proj.weight.grad, trunk.stage1[0].mlp.fc1.weight.grad))
    assert torch.allclose(grads[1][0], 0.1 * grads[0][0], rtol=1e-4, atol=1e-9)
    assert torch.allclose(grads[1][1], grads[0][1], rtol=1e-4, atol=1e-9)


def test_the_teacher_sees_its_own_view(micro, images):
    teacher = Means()
    method = FeatureDistillation(micro(), teacher, masking=MASKING)
    second = images(seed=5)
    method({"image": images(), "teacher_image": second})
    assert torch.equal(teacher.seen, second)
    # without a second view the image is resized to what the teacher takes
    small = Means((32, 32))
    with pytest.raises(ValueError, match=r"teacher gives 4 tokens at 32x32 pixels, the student has 4x4"):
        FeatureDistillation(micro(), small, masking=MASKING)({"image": images()})
    assert small.seen.shape[-2:] == (32, 32)


def test_widths_must_be_known(micro, images):
    with pytest.raises(ValueError, match="needs teacher_dim"):
        FeatureDistillation(micro())
    with pytest.raises(ValueError, match="teacher_dim 5"):
        FeatureDistillation(micro(), Means(), teacher_dim=5)
    with pytest.raises(ValueError, match="no 'target' and the method has no teacher"):
        FeatureDistillation(micro(), teacher_dim=5, masking=MASKING)({"image": images()})


@pytest.mark.parametrize("rel_pos", ["none", "table", "decomposed"])
def test_clip_distillation_of_v1(rel_pos, micro, images):
    backbone = micro("itpn_nano", rel_pos=rel_pos, layer_scale=0.1)
    method = CLIPDistillation(backbone, Means(), masking=MASKING)
    assert method.aux_after == 4 and len(method.aux_blocks) == 2
    assert method.aux_blocks[0].norm1.eps == 1e-5 and backbone.trunk.stage3[0].norm1.eps == 1e-6
    losses = method({"image": images()})
    assert set(losses) == {"loss_features", "loss_aux"}
    sum(losses.values()).backward()
    idle = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [n for n in idle if not n.endswith("qkv.bias")]


@pytest.mark.parametrize("supervised", ["all", "masked"])
@pytest.mark.parametrize("loss", ["smooth_l1", "cosine"])
def test_losses_of_clip_distillation_by_hand(loss, supervised, micro, images):
    method = CLIPDistillation(micro("itpn_nano"), Means(), auxiliary=False, loss=loss, supervised=supervised)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, :3] = mask[1, 5:12] = True
    batch = {"image": images(), "mask": mask}
    prediction, none = method.predict_tokens(method.normalise(batch["image"]), mask)
    target = method.teacher(batch["image"])
    kept = mask if supervised == "masked" else torch.ones_like(mask)
    if loss == "cosine":
        unit = nn.functional.normalize(prediction, dim=-1) * nn.functional.normalize(target, dim=-1)
        expected = -unit.sum(-1)[kept].mean()
    else:
        expected = nn.functional.smooth_l1_loss(prediction[kept], target[kept])
    losses = method(batch)
    assert none is None and set(losses) == {"loss_features"}
    assert torch.allclose(losses["loss_features"], expected, atol=1e-6)
    losses["loss_features"].backward()
    idle = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [n for n in idle if not n.endswith("qkv.bias")]


def test_clip_distillation_wants_a_v1_trunk(micro):
    with pytest.raises(TypeError, match="ITPN trunk"):
        CLIPDistillation(micro("fast_itpn_nano"), Means())
    with pytest.raises(ValueError, match="aux_after 9"):
        CLIPDistillation(micro("itpn_nano"), Means(), aux_after=9)
    for key in ("loss", "supervised"):
        with pytest.raises(ValueError, match=f"{key} 'l2': choose"):
            CLIPDistillation(micro("itpn_nano"), Means(), **{key: "l2"})


@pytest.mark.parametrize("name", ["fast_itpn_tiny", "fast_itpn_small", "fast_itpn_base", "fast_itpn_large"])
def test_published_sizes(name):
    """Parameters of the reference's pre-training model with 768-wide targets."""
    expected = {"tiny": 28_782_386, "small": 44_465_330, "base": 90_235_602, "large": 319_123_730}
    with torch.device("meta"):
        method = FeatureDistillation(create_model(name, pyramid=True), teacher_dim=768)
    assert sum(p.numel() for p in method.parameters()) == expected[name.rsplit("_", 1)[1]]
