"""UPerNet and FCN heads: sizes, losses, gradients, and the parameters of the reference's configuration."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_sem_seg_head
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead as Detectron2SemSegFPNHead
from torch.nn import functional as F

from itpn_d2 import create_model
from itpn_d2.backbone.shapes import pyramid_shapes
from itpn_d2.heads import FCNHead, SemSegFPNHead, UPerNetHead
from itpn_d2.heads.upernet import PyramidPooling

STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}
SHAPES = {
    name: ShapeSpec(channels=c, stride=STRIDES[name]) for name, c in zip(STRIDES, (6, 7, 8, 9), strict=True)
}


def maps(height, width, batch=2, seed=0):
    torch.manual_seed(seed)
    return {
        n: torch.randn(batch, s.channels, height // s.stride, width // s.stride) for n, s in SHAPES.items()
    }


def upernet(**options):
    torch.manual_seed(0)
    return UPerNetHead(SHAPES, **{"num_classes": 5, "channels": 64, "norm": "GN", **options})


def fcn(**options):
    torch.manual_seed(0)
    return FCNHead(SHAPES, **{"num_classes": 5, "channels": 64, "norm": "GN", **options})


@pytest.mark.parametrize("head", [upernet, fcn])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 160), (32, 32)])
def test_logits_have_the_images_size(head, height, width):
    logits, losses = head().eval()(maps(height, width))
    assert logits.shape == (2, 5, height, width) and losses == {}


@pytest.mark.parametrize("head", [upernet, fcn])
def test_every_parameter_learns(head):
    head = head(dropout=0.0)
    targets = torch.randint(0, 5, (2, 64, 96))
    nothing, losses = head(maps(64, 96), targets)
    assert nothing is None and list(losses) == [head.loss_name]
    losses[head.loss_name].backward()
    assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_loss_is_the_mean_over_pixels_that_count():
    head = upernet(dropout=0.0, loss_weight=0.5)
    features = maps(64, 64)
    targets = torch.randint(0, 5, (2, 64, 64))
    targets[:, :40] = 255
    loss = head(features, targets)[1]["loss_sem_seg"]
    logits = head.eval()(features)[0]
    assert torch.allclose(loss, 0.5 * F.cross_entropy(logits, targets, ignore_index=255), atol=1e-6)


def test_nothing_to_learn_from_is_no_loss_and_not_nan():
    head = upernet()
    loss = head(maps(64, 64), torch.full((2, 64, 64), 255))[1]["loss_sem_seg"]
    loss.backward()
    assert loss.item() == 0.0
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_dropout_takes_whole_channels_in_training_only():
    head = upernet(dropout=0.5)
    features = maps(64, 64)
    torch.manual_seed(1)
    seen = []
    head.predictor.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    head(features, torch.zeros(2, 64, 64, dtype=torch.long))
    dropped = (seen[0].flatten(2) == 0).all(-1).float().mean()
    assert 0.3 < dropped < 0.7
    head.eval()(features)
    assert (seen[1].flatten(2) == 0).all(-1).float().mean() < 0.1


def test_pyramid_pooling_sees_the_whole_map():
    """A constant map stays constant; a change in one corner is felt in the other."""
    torch.manual_seed(0)
    pooling = PyramidPooling(4, 32, (1, 2, 3, 6), "").eval()
    assert pooling.fuse.in_channels == 4 + 4 * 32
    x = torch.randn(1, 4, 12, 18, requires_grad=True)
    pooling(x)[0, :, -1, -1].sum().backward()
    assert (x.grad[0, :, 0, 0].abs() > 0).any()


def test_the_references_size():
    """768 channels on the maps of iTPN-B's segmentation form: parameters of each part, counted by hand."""
    shapes = pyramid_shapes("itpn_base", concat_trunk=True)
    widths = [s.channels for s in shapes.values()]
    assert widths == [384, 512, 768, 768]
    with torch.device("meta"):
        head = UPerNetHead(shapes, num_classes=150)
        auxiliary = FCNHead({"p4": shapes["p4"]}, num_classes=150)
    norm = 2 * 768
    pools = 4 * (768 * 768 + norm) + (768 + 4 * 768) * 768 * 9 + norm
    laterals = sum(w * 768 + norm for w in widths[:3]) + 3 * (768 * 768 * 9 + norm)
    expected = pools + laterals + 4 * 768 * 768 * 9 + norm + 768 * 150 + 150
    assert sum(p.numel() for p in head.parameters()) == expected
    assert sum(p.numel() for p in auxiliary.parameters()) == 768 * 256 * 9 + 512 + 256 * 150 + 150
    assert auxiliary.loss_weight == 0.4 and auxiliary.in_feature == "p4"
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in head.modules())


@pytest.mark.parametrize("concat", [False, True])
@pytest.mark.parametrize("name", ["fast_itpn_nano", "itpn_nano"])
def test_shapes_are_those_of_the_backbone(name, concat):
    levels = ("p2", "p3", "p4", "p5", "p6", "p7")
    with torch.device("meta"):
        backbone = create_model(name, pyramid=True, fpn_dim=64, concat_trunk=concat, out_features=levels)
    found = pyramid_shapes(name, levels, fpn_dim=64, concat_trunk=concat)
    for level, shape in backbone.output_shape().items():
        assert (shape.channels, shape.stride) == (found[level].channels, found[level].stride)
    with pytest.raises(KeyError, match="p2, p3"):
        pyramid_shapes(name, ("p1",))


def test_from_a_yacs_config():
    cfg = get_cfg()
    node = cfg.MODEL.SEM_SEG_HEAD
    node.NAME, node.IN_FEATURES, node.NUM_CLASSES, node.CONVS_DIM = "UPerNetHead", list(SHAPES), 5, 64
    head = build_sem_seg_head(cfg, SHAPES)
    assert isinstance(head, UPerNetHead) and head.num_classes == 5
    assert head.eval()(maps(64, 64))[0].shape == (2, 5, 64, 64)


def test_group_norm_needs_more_than_a_value():
    for channels in (32, 80):
        with pytest.raises(ValueError, match="multiple of 32 that is at least 64"):
            UPerNetHead(SHAPES, num_classes=3, channels=channels, norm="GN")


def test_no_map():
    with pytest.raises(ValueError, match="input_shape is empty"):
        UPerNetHead({}, num_classes=3)


@pytest.mark.parametrize("head", [upernet, fcn])
def test_under_autocast(head):
    head = head(dropout=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(maps(64, 64), torch.randint(0, 5, (2, 64, 64)))[1][head.loss_name]
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_semantic_fpn_of_ignored_pixels_alone():
    """Of a batch without a class the loss is 0, and distributed training sees every parameter."""
    shapes = {"p2": ShapeSpec(channels=8, stride=4), "p3": ShapeSpec(channels=8, stride=8)}
    options = dict(num_classes=3, conv_dims=8, common_stride=4, norm="", ignore_value=255)
    torch.manual_seed(0)
    head = SemSegFPNHead(shapes, **options)
    features = {"p2": torch.randn(1, 8, 8, 8), "p3": torch.randn(1, 8, 4, 4)}
    some = torch.full((1, 32, 32), 255)
    _, losses = head(features, some)
    assert losses["loss_sem_seg"] == 0
    losses["loss_sem_seg"].backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())
    some[0, :5] = 1
    plain = Detectron2SemSegFPNHead(shapes, **options)
    plain.load_state_dict(head.state_dict())
    assert torch.equal(head(features, some)[1]["loss_sem_seg"], plain(features, some)[1]["loss_sem_seg"])
