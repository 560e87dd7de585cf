"""Masked feature modelling: targets, branches, and the moving average."""

import pytest
import torch

from pretrain.encoders import visible_patches
from pretrain.methods import MFM
from pretrain.methods.mfm import value_at

SMALL = dict(decoder_dim=32, decoder_depths=(1, 1, 1), decoder_heads=2)


@pytest.mark.parametrize("name", ["fast_itpn_nano", "itpn_nano"])
@pytest.mark.parametrize("teacher_input", ["image", "masked"])
def test_losses_and_gradients(name, teacher_input, micro, images):
    method = MFM(micro(name), teacher_input=teacher_input, **SMALL)
    losses = method({"image": images()})
    assert set(losses) == {"loss_pixels", "loss_stage1", "loss_stage2", "loss_stage3"}
    sum(losses.values()).backward()
    trained = [(n, p) for n, p in method.named_parameters() if not n.startswith("teacher.")]
    idle = [n for n, p in trained if p.grad is None or not p.grad.any()]
    assert not [n for n in idle if not n.endswith("qkv.bias")]
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


def test_targets_are_the_teachers_features(micro, images):
    method = MFM(micro(), **SMALL)
    image = method.normalise(images())
    mask = method.masking(2, (4, 4))
    targets = method.targets(image, mask)
    f1, f2, f3 = method.teacher(image)
    f2 = torch.nn.functional.layer_norm(f2, f2.shape[-1:])
    assert torch.allclose(targets["stage2"][1, 6].view(2, 2, -1), f2[1, 2:4, 4:6], atol=1e-5)
    assert targets["stage1"].shape == (2, 16, 256) and targets["stage3"].shape == (2, 16, 32)
    partly = MFM(micro(), teacher_input="masked", **SMALL)
    partly.teacher.load_state_dict(method.teacher.state_dict())
    targets = partly.targets(image, mask)
    assert not targets["stage3"][~mask].any() and targets["stage3"][mask].abs().min() > 0


def test_targets_without_what_all_tokens_share(micro, images):
    method = MFM(micro(), target_norm="image", **SMALL)
    image = method.normalise(images())
    targets = method.targets(image, method.masking(2, (4, 4)))
    f1, _, _ = method.teacher(image)
    flat = f1.flatten(1, 2)
    whitened = (flat - flat.mean(1, keepdim=True)) / flat.std(1, correction=0, keepdim=True)
    expected = whitened.unflatten(1, f1.shape[1:3])[1, 4:8, 8:12]  # patch 6 of the second image
    assert torch.allclose(targets["stage1"][1, 6].view(4, 4, -1), expected, atol=1e-3)


def test_feature_losses_come_in_by_schedule(micro, images):
    batch = {"image": images(), "mask": torch.arange(16).expand(2, -1) < 8}
    method = MFM(micro(), feature_schedule=[(0, 0), (10, 1)], momentum=[(0, 1)], **SMALL)
    assert method(batch)["loss_stage1"] == 0 and method(batch)["loss_pixels"] > 0
    method.after_step(2.5)
    quarter = method(batch)
    again = MFM(micro(), **SMALL)
    again.load_state_dict(method.state_dict())  # a resumed run knows how far it is
    again.feature_schedule = method.feature_schedule
    assert torch.equal(again(batch)["loss_stage2"], quarter["loss_stage2"])
    method.after_step(99)
    assert torch.allclose(method(batch)["loss_stage2"] / 4, quarter["loss_stage2"])


def test_a_branch_sees_its_own_level_and_those_above(micro, images):
    """The gradient of each branch: p4 gets it from all, p2 from the last only."""
    method = MFM(micro(), **SMALL)
    image = method.normalise(images())
    visible = visible_patches(method.masking(2, (4, 4)))
    seen = {}
    for name in ("stage3", "stage2", "stage1", "pixels"):
        method.zero_grad()
        method.predict_tokens(image, visible)[name].sum().backward()
        pyramid = method.backbone.pyramid
        seen[name] = [
            out.mlp.fc1.weight.grad is not None for out in (pyramid.out_p4, pyramid.out_p3, pyramid.out_p2)
        ]
    assert seen == {
        "stage3": [True, False, False],
        "stage2": [True, True, False],
        "stage1": [True, True, True],
        "pixels": [True, True, True],
    }


def test_weights(micro, images):
    batch = {"image": images(), "mask": torch.arange(16).expand(2, -1) < 8}
    method = MFM(micro(), **SMALL)
    plain = method(batch)
    method.weights = {"stage1": 0.5, "stage2": 2.0, "stage3": 0.0}
    method.pixel_weight = 0
    weighted = method(batch)
    assert set(weighted) == {"loss_stage1", "loss_stage2", "loss_stage3"}
    assert torch.allclose(weighted["loss_stage1"], plain["loss_stage1"] / 2)
    assert torch.allclose(weighted["loss_stage2"], plain["loss_stage2"] * 2)
    assert weighted["loss_stage3"] == 0
    assert method.predict(batch)["kind"] == "features"


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_visible_patches_count_too(weight, micro, images):
    batch = {"image": images(), "mask": torch.arange(16).expand(2, -1) < 8}
    method = MFM(micro(), visible_weight=weight, xavier_decoder=True, **SMALL)
    losses = method(batch)
    image = method.normalise(batch["image"])
    prediction = method.predict_tokens(image, visible_patches(batch["mask"]))["pixels"]
    error = (prediction - method.target.tokens(image, 16)).square().mean(-1)
    assert torch.allclose(losses["loss_visible"], weight * error[:, 8:].mean())
    assert torch.allclose(losses["loss_pixels"], error[:, :8].mean())


def test_moving_average(micro):
    method = MFM(micro(), momentum=[(0, 0.5), (10, 0.9)], **SMALL)
    assert [value_at(method.momentum, e) for e in (0, 5, 10, 99)] == [0.5, pytest.approx(0.7), 0.9, 0.9]
    old = {k: v.clone() for k, v in method.teacher.state_dict().items()}
    with torch.no_grad():
        for p in method.backbone.trunk.parameters():
            p.add_(1)
    method.after_step(5)
    for key, value in method.teacher.state_dict().items():
        assert torch.allclose(value, 0.7 * old[key] + 0.3 * (old[key] + 1), atol=1e-6)


def test_the_teacher_never_trains(micro):
    method = MFM(micro(drop_path=0.5), **SMALL)
    assert method.train().backbone.trunk.training and not method.teacher.training


def test_bad_options(micro):
    with pytest.raises(ValueError, match="choose image or masked"):
        MFM(micro(), teacher_input="half", **SMALL)
    with pytest.raises(ValueError, match="one value for each of three stages"):
        MFM(micro(), feature_weight=(1, 2), **SMALL)
    for bad in (dict(visible_weight=-1), dict(visible_weight=1, pixel_weight=0)):
        with pytest.raises(ValueError, match="visible_weight -?1 with pixel_weight"):
            MFM(micro(), **bad, **SMALL)
    with pytest.raises(ValueError, match="choose token or image"):
        MFM(micro(), target_norm="batch", **SMALL)
    with pytest.raises(ValueError, match="in order of the epochs"):
        MFM(micro(), momentum=[(5, 0.9), (0, 0.5)], **SMALL)
