"""The trunks under timm's names, and what timm's tools call on them."""

import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.optim import create_optimizer_v2

import itpn_d2
from itpn_d2 import VARIANTS
from itpn_d2.backbone import TrunkClassifier
from itpn_d2.boxed import boxed_folder
from itpn_d2.model_zoo.entries import PRETRAINED
from itpn_d2.model_zoo.registry import find_weights

NANO = {"img_size": 64}
SMALL = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2)
FAMILIES = ["fast_itpn_nano", "itpn_nano"]


def test_names_are_registered_without_detectron2():
    code = (
        "import sys, timm; before = set(timm.list_models()); import itpn_d2; "
        "print(' '.join(sorted(set(timm.list_models()) - before))); "
        "print([m for m in sys.modules if m.split('.')[0] == 'detectron2'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, detectron2 = done.stdout.splitlines()
    assert names.split() == sorted(VARIANTS) and detectron2 == "[]"  # none of them hid one of timm's


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_a_classifier_of_its_size(name):
    with torch.device("meta"):
        model = timm.create_model(name)
        ours = itpn_d2.create_model(name, num_classes=1000)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in ours.state_dict().items()
    }
    assert model.num_features == VARIANTS[name].channels[2]


def test_which_names_have_weights():
    """Those whose pre-training the model zoo lists, by addresses that it knows."""
    found = timm.list_models("*itpn*", pretrained=True)
    assert found == sorted(PRETRAINED)
    assert all(find_weights(name) is PRETRAINED[name] for name in found)
    config = timm.create_model("itpn_nano").pretrained_cfg
    assert not config["url"] and not config.get("hf_hub_id") and config["num_classes"] == 1000
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model("itpn_nano", pretrained=True)


def test_the_weights_in_the_package():
    file = load_file(boxed_folder("fast_itpn_nano") / "model.safetensors")
    model = timm.create_model("fast_itpn_nano", pretrained=True, num_classes=3)
    own = model.state_dict()
    shared = [key for key in file if key.startswith("trunk.stage")]
    assert len(shared) > 100 and all(torch.equal(own[key], file[key].float()) for key in shared)


def test_the_first_layer_is_named():
    model = timm.create_model("fast_itpn_nano", in_chans=5)
    layer = model.get_submodule(model.pretrained_cfg["first_conv"])
    assert layer is model.trunk.patch_embed.proj and layer.in_features == 5 * 16


@pytest.mark.parametrize("name", FAMILIES)
def test_hooks_see_the_maps(name):
    torch.manual_seed(0)
    hooked = timm.create_model(name, features_only=True, feature_cls="hook", **NANO).eval()
    image = torch.rand(2, 3, 64, 48)
    maps = hooked(image)
    for found, expected in zip(maps, hooked.body.trunk(image), strict=True):
        assert torch.equal(found, expected)
    assert hooked.output_fmt == "NHWC" and hooked.feature_info.channels() == [48, 96, 192]
    some = timm.create_model(name, features_only=True, feature_cls="hook", out_indices=(1,), **NANO).eval()
    assert [tuple(m.shape) for m in some(image)] == [(2, 8, 6, 96)]


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_the_trunks_maps(name):
    torch.manual_seed(0)
    model = timm.create_model(name, features_only=True, **NANO).eval()
    image = torch.rand(2, 3, 64, 48)
    maps = model(image)
    assert model.feature_info.channels() == [48, 96, 192] and model.feature_info.reduction() == [4, 8, 16]
    assert [tuple(m.shape) for m in maps] == [(2, 48, 16, 12), (2, 96, 8, 6), (2, 192, 4, 3)]
    for found, expected in zip(maps, model.model.trunk(image), strict=True):
        assert torch.equal(found, expected.permute(0, 3, 1, 2))


def test_fewer_features_leave_out_stage_3():
    torch.manual_seed(0)
    whole = timm.create_model("fast_itpn_nano", **NANO).eval()
    some = timm.create_model("fast_itpn_nano", features_only=True, out_indices=(0, 1), **NANO).eval()
    some.model.load_state_dict(whole.state_dict(), strict=False)
    image = torch.rand(1, 3, 32, 32)
    for found, expected in zip(some(image), whole.trunk(image)[:2], strict=True):
        assert torch.equal(found, expected.permute(0, 3, 1, 2))
    assert not any("stage3" in n or "merge2" in n for n, _ in some.named_parameters())
    assert len(whole.forward_intermediates(image, indices=1, stop_early=True, intermediates_only=True)) == 1
    final, maps = whole.forward_intermediates(image, indices=[0], stop_early=True, output_fmt="NHWC")
    assert torch.equal(final, whole.forward_features(image)) and torch.equal(maps[0], whole.trunk(image)[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_and_pooling(name):
    image = torch.rand(2, 3, 64, 64)
    model = timm.create_model(name, num_classes=10, **NANO).eval()
    features = model.forward_features(image)
    assert features.shape == (2, 4, 4, 192) and model.output_fmt == "NHWC"
    assert torch.equal(model(image), model.forward_head(features)) and model(image).shape == (2, 10)
    pooled = model.forward_head(features, pre_logits=True)
    assert torch.allclose(pooled, model.fc_norm(features.mean((1, 2))), atol=1e-6)
    assert model.get_classifier() is model.head and model.head.out_features == model.num_classes == 10
    model.reset_classifier(0)
    assert torch.equal(model(image), pooled) and model.num_classes == 0
    model.reset_classifier(5)
    assert model(image).shape == (2, 5) and model.head.out_features == 5 and not model.head.training
    model.reset_classifier(0, "")
    assert torch.equal(model(image), features) and model.global_pool == ""
    assert timm.create_model(name, num_classes=0, **NANO)(image).shape == (2, 192)
    assert timm.create_model(name, num_classes=0, global_pool="", **NANO)(image).shape == (2, 4, 4, 192)
    for bad in ({"global_pool": "catavgmax"}, {"nonsense": 1}, {"dynamic_img_size": False}):
        with pytest.raises((ValueError, TypeError), match=next(iter(bad))):
            timm.create_model(name, **bad)
    with pytest.raises(ValueError, match="global_pool 'token'"):
        model.reset_classifier(3, "token")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_largest_value_of_each_channel(name):
    torch.manual_seed(0)
    image = torch.rand(2, 3, 64, 64)
    model = timm.create_model(name, num_classes=0, global_pool="max", dynamic_img_size=True, **NANO).eval()
    assert model.global_pool == "max"
    largest = model.fc_norm(model.forward_features(image).amax((1, 2)))
    assert torch.equal(model(image), largest)
    model.reset_classifier(0)
    assert torch.equal(model(image), largest)
    model.reset_classifier(0, "avg")
    assert model.global_pool == "avg" and not torch.allclose(model(image), largest)
    other = timm.create_model(name, num_classes=0, **NANO).eval()
    other.load_state_dict(model.state_dict())
    other.reset_classifier(0, "max")
    assert torch.equal(other(image), largest)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("own", [False, True])
def test_graphs_serve_every_size(name, own):
    """By torch.fx and TorchScript; also with the model's own position table at its own size."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, in_chans=2, **NANO, **SMALL).eval()
    torch.nn.init.normal_(model.head.weight)
    graphs = torch.fx.symbolic_trace(model), torch.jit.script(model)
    for size in [(64, 64)] if own else [(50, 75), (16, 96), (64, 80)]:
        image = torch.randn(2, 2, *size)
        with torch.no_grad():
            for graph in graphs:
                torch.testing.assert_close(graph(image), model(image), rtol=1e-5, atol=1e-6)
    image.requires_grad_()
    for graph in graphs:
        (gradient,) = torch.autograd.grad(graph(image).sum(), image)
        torch.testing.assert_close(gradient, torch.autograd.grad(model(image).sum(), image)[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_way_to_features_gives_the_same_maps(name):
    torch.manual_seed(0)
    image = torch.randn(1, 3, 40, 64)
    weights, expected = None, None
    for kind in ("getter", "fx", "hook"):
        features = timm.create_model(
            name, features_only=True, feature_cls=kind, out_indices=(0, 2), **NANO, **SMALL
        ).eval()
        inner = {key[key.find("trunk.") :]: p for key, p in features.named_parameters() if "trunk." in key}
        weights = weights or {key: value.detach().clone() for key, value in inner.items()}
        with torch.no_grad():
            for key, value in inner.items():
                value.copy_(weights[key])
            found = features(image)
        assert features.feature_info.channels() == [8, 32] and features.feature_info.reduction() == [4, 16]
        if features.output_fmt == "NHWC":
            found = [x.permute(0, 3, 1, 2) for x in found]
        expected = expected or found
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="feature_cls 'list'.*choose getter, fx or hook"):
        timm.create_model(name, features_only=True, feature_cls="list")


def test_checkpointing_under_features():
    torch.manual_seed(0)
    features = timm.create_model("fast_itpn_nano", features_only=True, **NANO, **SMALL).train()
    image, gradients = torch.randn(1, 3, 32, 32), []
    for enable in (False, True):
        features.model.set_grad_checkpointing(enable)
        features.zero_grad()
        sum(x.square().mean() for x in features(image)).backward()
        gradients.append([p.grad.clone() for p in features.parameters() if p.grad is not None])
    assert features.model.trunk.stage3[0].recompute and gradients[0]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_size_of_the_table_may_change(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, **NANO, **SMALL).eval()
    torch.nn.init.normal_(model.head.weight)
    image = torch.randn(1, 3, 96, 40)
    before = model(image)
    model.trunk.pos_embed.requires_grad_(False)
    model.set_input_size((96, 40))
    assert model.trunk.pos_embed.shape == (1, 6, 3, 32) and not model.trunk.pos_embed.requires_grad
    torch.testing.assert_close(model(image), before)


def test_intermediates_as_a_dict():
    model = timm.create_model("fast_itpn_nano", **NANO, **SMALL).eval()
    image = torch.randn(1, 3, 32, 32)
    final, maps = model.forward_intermediates(image, indices=[0, 2])
    found = model.forward_intermediates(image, indices=[0, 2], output_dict=True)
    assert set(found) == {"image_features", "image_intermediates"}
    assert torch.equal(found["image_features"], final)
    assert all(torch.equal(a, b) for a, b in zip(found["image_intermediates"], maps, strict=True))
    alone = model.forward_intermediates(image, output_dict=True, intermediates_only=True)
    assert set(alone) == {"image_intermediates"}


def test_channels_sizes_and_rates():
    model = timm.create_model(
        "fast_itpn_nano", in_chans=6, img_size=(48, 32), num_classes=3, drop_rate=0.5, drop_path_rate=0.2
    )
    assert model.trunk.pos_embed.shape == (1, 3, 2, 192)
    assert model.head_drop.p == 0.5 and model.trunk.stage3[-1].drop_path.drop_prob == pytest.approx(0.2)
    for size in ((48, 32), (64, 64), (50, 70)):
        assert model(torch.rand(1, 6, *size)).shape == (1, 3)
    placed = timm.create_model("fast_itpn_nano", device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in placed.parameters()} == {("meta", torch.bfloat16)}


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_for_timms_layer_decay(name):
    model = timm.create_model(name, **NANO)
    groups = timm.models.group_parameters(model, model.group_matcher(), reverse=True)
    assert set(groups) == {n for n, _ in model.named_parameters()}
    order = [
        "trunk.patch_embed.proj.weight",
        "trunk.stage1.0.norm.weight",
        "trunk.merge1.norm.weight",
        "trunk.stage2.0.norm.weight",
        "trunk.merge2.norm.weight",
        "trunk.stage3.0.norm1.weight",
        "trunk.stage3.5.norm1.weight",
        "head.weight",
    ]
    layers = [groups[n] for n in order]
    assert layers == [0, 1, 1, 2, 2, 3, 8, 9] and groups["trunk.pos_embed"] == 0
    coarse = timm.models.group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert coarse["trunk.stage1.0.norm.weight"] == coarse["trunk.merge1.norm.weight"] == 1
    optimizer = create_optimizer_v2(model, "adamw", lr=1.0, weight_decay=0.05, layer_decay=0.5)
    rates = {id(p): (g["lr_scale"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(model.head.weight)] == (1.0, 0.05)
    assert rates[id(model.trunk.pos_embed)] == (0.5**9, 0.0) and model.no_weight_decay() == {
        "trunk.pos_embed"
    }


def test_gradient_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    model, image = timm.create_model("fast_itpn_nano", num_classes=3, **NANO), torch.rand(2, 3, 32, 32)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable=enable)
        model.zero_grad()
        model(image).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(block.recompute for blocks in model.trunk.blocks().values() for block in blocks)
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b)


def test_a_checkpoint_goes_from_our_model_to_timms(tmp_path):
    ours = itpn_d2.create_model("fast_itpn_nano", num_classes=4, pos_grid=(4, 4))
    assert isinstance(ours, TrunkClassifier)
    torch.save({"state_dict": ours.state_dict()}, tmp_path / "ours.pth")
    theirs = timm.create_model(
        "fast_itpn_nano", num_classes=4, checkpoint_path=str(tmp_path / "ours.pth"), **NANO
    )
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(ours.eval()(image), theirs.eval()(image))
