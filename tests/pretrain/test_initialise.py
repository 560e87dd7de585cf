"""The start of Fast-iTPN pre-training against what the reference code measures, and what keeps out of it."""

import math

import pytest
import torch

from itpn_d2.backbone import create_model
from pretrain.initialise import fast_itpn_start
from pretrain.methods import FeatureDistillation

GAIN = math.sqrt(math.log(48))  # 24 blocks in stage 3


@pytest.fixture(scope="module")
def base():
    """Fast-iTPN-B as pre-training starts it."""
    torch.manual_seed(0)
    return FeatureDistillation(create_model("fast_itpn_base", pyramid=True), teacher_dim=768)


def small(name="fast_itpn_nano"):
    return create_model(name, pyramid=True, fpn_dim=32, depths=(1, 1, 2))


def std_of(base, name):
    return float(base.get_parameter(name).detach().std())


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("backbone.trunk.stage3.0.attn.proj.weight", 0.0870),
        ("backbone.trunk.stage3.23.mlp.w1.weight", 0.0615),
        ("backbone.trunk.stage3.23.mlp.w2.weight", 0.0615),
        ("backbone.trunk.stage3.23.mlp.w3.weight", 0.0615),
        ("backbone.trunk.stage1.0.mlp.fc1.weight", 0.100),
        ("backbone.pyramid.out_p2.mlp.fc1.weight", 0.071),
        ("backbone.pyramid.blocks_p3.0.mlp.fc1.weight", 0.071),
        ("head.weight", 0.0395),
        ("backbone.trunk.pos_embed", 0.0108),
        ("mask_token", 0.0108),
        # not in the list of measured ones: PyTorch's default of a convolution, without the gain
        ("backbone.trunk.merge1.reduction.weight", 1 / math.sqrt(3 * 4 * 128)),
        ("backbone.pyramid.align_p4.weight", 1 / math.sqrt(3 * 512)),
        ("backbone.pyramid.split_p3.reduction.weight", 1 / math.sqrt(3 * 4 * 256)),
        ("fusion.embeds.2.weight", 1 / math.sqrt(3 * 16 * 256)),
        # Xavier-uniform over 48 inputs and 128 outputs
        ("backbone.trunk.patch_embed.proj.weight", math.sqrt(2 / (48 + 128))),
    ],
)
def test_standard_deviations_of_base(base, name, std):
    assert std_of(base, name) == pytest.approx(std, rel=0.03)


def test_parts_of_the_fused_qkv(base):
    q, k, v = base.backbone.trunk.stage3[5].attn.qkv.weight.detach().chunk(3)
    assert float(q.std()) == pytest.approx(0.0442, rel=0.01)
    assert float(k.std()) == pytest.approx(0.0442, rel=0.01)
    assert float(v.std()) == pytest.approx(0.0870, rel=0.01)


def test_biases(base):
    for name, value in base.backbone.trunk.stage3.named_parameters():
        if name.endswith("bias"):
            assert not value.any(), name
    assert not base.head.bias.any()
    # convolutions keep their biases, and the gain reaches those of the MLPs
    trunk, pyramid = base.backbone.trunk, base.backbone.pyramid
    for bias, fan_in, gain in (
        (trunk.patch_embed.proj.bias, 48, 1),
        (trunk.stage1[1].mlp.fc1.bias, 128, GAIN),
        (trunk.stage2[0].mlp.fc2.bias, 768, GAIN),
        (trunk.merge2.reduction.bias, 4 * 256, 1),
        (pyramid.lateral_p2.bias, 128, 1),
        (pyramid.blocks_p2[0].mlp.fc1.bias, 256, GAIN),
        (pyramid.split_p2.bias, 4 * 256, 1),
    ):
        largest, bound = float(bias.detach().abs().max()), gain / math.sqrt(fan_in)
        assert 0.9 * bound < largest <= bound * (1 + 1e-6)


def test_norms_and_layer_scale_are_left(base):
    for name, value in base.named_parameters():
        if "norm" in name and value.ndim == 1:
            assert (value == (0 if name.endswith("bias") else 1)).all(), name
        if "gamma" in name:
            assert (value == 0.1).all(), name


def test_a_second_start_does_not_add_to_the_first():
    backbone = small()
    torch.manual_seed(1)
    fast_itpn_start(backbone)
    first = {k: v.clone() for k, v in backbone.state_dict().items()}
    torch.manual_seed(1)
    fast_itpn_start(backbone)
    assert all(torch.equal(first[k], v) for k, v in backbone.state_dict().items())


def test_plain_leaves_the_backbone():
    backbone = small()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    FeatureDistillation(backbone, teacher_dim=8, init="plain")
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())
    FeatureDistillation(backbone, teacher_dim=8)
    name = "trunk.stage3.0.mlp.w1.weight"
    assert not torch.equal(before[name], backbone.state_dict()[name])


def test_other_trunks():
    backbone = small("itpn_nano")
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    FeatureDistillation(backbone, teacher_dim=8)
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())
    with pytest.raises(TypeError, match="not ITPN"):
        fast_itpn_start(backbone)
    with pytest.raises(ValueError, match="init 'xavier'"):
        FeatureDistillation(small(), teacher_dim=8, init="xavier")


def test_on_the_meta_device():
    with torch.device("meta"):
        method = FeatureDistillation(create_model("fast_itpn_nano", pyramid=True), teacher_dim=8)
    assert method.head.weight.is_meta
