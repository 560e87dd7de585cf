"""DINO as a whole: losses, predictions, padding, and the odd batches."""

import copy
import math

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

from itpn_d2.checkpoint import Checkpointer
from itpn_d2.meta_arch import DINO
from itpn_d2.meta_arch.dino import Criterion, Decoder, Encoder, HungarianMatcher
from tests.meta_arch.small_dino import CLASSES, dino, lively, record, untrained

LOSSES = {f"loss_{n}{s}" for n in ("class", "box", "giou") for s in ("", "_aux", "_encoder", "_denoising")}


def outputs(model, batch):
    with torch.no_grad():
        return [o["instances"] for o in model.eval()(batch)]


def same(one, other, tolerance=1e-4):
    assert len(one) == len(other)
    torch.testing.assert_close(one.scores, other.scores, atol=tolerance, rtol=0)
    assert torch.equal(one.pred_classes, other.pred_classes)
    torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor, atol=1e-2, rtol=0)


@pytest.mark.parametrize("levels", [4, 5])
def test_losses_reach_every_parameter(levels):
    model = dino(levels=levels)
    losses = model([record(), record((48, 64), [[4, 4, 30, 30]], [0], seed=1)])
    assert losses.keys() == LOSSES
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert not untrained(model)


def test_predictions():
    model = lively(dino())
    batch = [{**record(), "height": 128, "width": 96}, {"image": record((40, 56))["image"]}]
    first, second = outputs(model, batch)
    assert first.image_size == (128, 96) and second.image_size == (40, 56)
    assert len(first) <= 20
    assert torch.equal(first.scores, first.scores.sort(descending=True).values)
    boxes = first.pred_boxes.tensor
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 96 and boxes[:, 3].max() <= 128
    assert int(first.pred_classes.min()) >= 0 and int(first.pred_classes.max()) < CLASSES


def test_an_image_is_found_the_same_alone_and_in_any_batch():
    model = lively(dino())
    small, large = record((40, 56), seed=1), record((96, 128), seed=2)
    alone = outputs(model, [small]) + outputs(model, [large])
    both = outputs(model, [small, large])
    turned = outputs(model, [large, small])
    for one, other, third in zip(alone, both, turned[::-1], strict=True):
        same(one, other)
        same(one, third)


def test_losses_do_not_depend_on_the_order_of_images():
    model = lively(dino(denoising=dict(number=2, label_noise=0.0, box_noise=0.0)))
    batch = [record(seed=1), record((48, 64), [[4, 4, 30, 30]], [0], seed=2)]
    one, other = model(batch), model(batch[::-1])
    assert {k: v.item() for k, v in one.items()} == pytest.approx(
        {k: v.item() for k, v in other.items()}, rel=1e-4
    )


def test_permuted_queries_predict_the_same():
    model = lively(dino())
    order = torch.randperm(12)
    before = outputs(model, [record()])[0]
    start = model.start
    model.start = lambda selected: tuple(x[:, order] for x in start(selected))
    same(before, outputs(model, [record()])[0])


@pytest.mark.parametrize("objects", [(0, 0), (0, 2), (9, 1)], ids=str)
def test_images_without_objects_and_with_many(objects):
    """Of nine objects six are de-noised; all are matched."""
    model = dino()
    batch = [
        record(
            boxes=[[4 + k, 4 + k, 30 + 2 * k, 40 + k] for k in range(n)], classes=[k % 3 for k in range(n)]
        )
        for n in objects
    ]
    losses = model(batch)
    assert losses.keys() == LOSSES and all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert not untrained(model)


def test_more_objects_than_queries():
    losses = dino(num_queries=2)([record(boxes=[[k, k, k + 20, k + 20] for k in range(5)], classes=[0] * 5)])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_degenerate_boxes_under_mixed_precision(dtype):
    model = dino()
    batch = [record(boxes=[[8, 8, 8, 8], [0, 0, 96, 0.5], [5, 5, 50, 50]], classes=[0, 1, 2])]
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        losses = model(batch)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert not untrained(model)


def test_an_image_smaller_than_a_cell():
    model = dino()
    found = outputs(model, [{"image": record((9, 7))["image"]}, {"image": record((64, 64))["image"]}])
    assert found[0].image_size == (9, 7) and found[0].pred_boxes.tensor.isfinite().all()


def test_without_denoising():
    losses = dino(denoising=None)([record()])
    assert losses.keys() == {name for name in LOSSES if "denoising" not in name}


def test_what_training_lacks_is_said():
    with pytest.raises(ValueError, match="'instances'.*training mapper"):
        dino()([{"image": record()["image"]}])
    with pytest.raises(ValueError, match="without a criterion"):
        dino(criterion=None)([record()])
    with pytest.raises(ValueError, match=r"in_features and extra_levels give 2 levels"):
        dino(in_features=("p3", "p4"))
    with pytest.raises(ValueError, match="choose auto, torch, triton"):
        dino(deformable="cuda")


def test_checkpointed_layers_have_the_same_gradients():
    model = lively(dino(denoising=None))
    recomputed = lively(dino(denoising=None, checkpointing=("encoder", "decoder")))
    assert all(b.recompute for b in (*recomputed.encoder.blocks(), *recomputed.decoder.blocks()))
    for m in (model, recomputed):
        sum(m([record()]).values()).backward()
    for (name, a), b in zip(model.named_parameters(), recomputed.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_saved_and_loaded(tmp_path):
    model = lively(dino())
    Checkpointer(model, str(tmp_path)).save("model")
    other = dino(seed=1)
    Checkpointer(other).load(str(tmp_path / "model.pth"), checkpointables=[])
    same(*(outputs(m, [record()])[0] for m in (model, other)), tolerance=1e-6)


def test_a_copy_is_a_model_of_its_own():
    """What a moving average of weights is made by."""
    model = dino()
    other = copy.deepcopy(model)
    nn.init.zeros_(model.class_head.weight)
    assert other.class_head.weight.any()
    assert other([record()]).keys() == LOSSES


class Plain(Backbone):
    """Two maps, no word of padding."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 16, 16), nn.Conv2d(8, 12, 2, 2)

    def forward(self, x):
        coarse = self.first(x)
        return {"res4": coarse, "res5": self.second(coarse)}

    def output_shape(self):
        return {"res4": ShapeSpec(channels=8, stride=16), "res5": ShapeSpec(channels=12, stride=32)}

    @property
    def size_divisibility(self):
        return 32


def test_other_backbones():
    sizes = dict(dim=16, num_heads=2, hidden=24, num_layers=1, levels=4, points=2)
    model = DINO(
        backbone=Plain(),
        num_classes=2,
        encoder=Encoder(**sizes),
        decoder=Decoder(**sizes),
        num_queries=5,
        criterion=Criterion(HungarianMatcher()),
        in_features=("res4", "res5"),
        extra_levels=2,
    )
    assert model.neck.strides == [16, 32, 64, 128]
    sum(model([record(classes=[0, 1])]).values()).backward()
    assert not untrained(model)
    assert outputs(model, [record()])[0].image_size == (64, 96)


def test_it_is_built_from_a_lazy_config():
    sizes = dict(dim=16, num_heads=2, hidden=24, num_layers=1, levels=2, points=2)
    cfg = L(DINO)(
        backbone=L(Plain)(),
        num_classes=2,
        encoder=L(Encoder)(**sizes),
        decoder=L(Decoder)(**sizes),
        num_queries=5,
        criterion=L(Criterion)(matcher=L(HungarianMatcher)(), weights={"class": 2.0}),
        denoising=dict(number=4),
        in_features=("res4", "res5"),
    )
    model = instantiate(cfg)
    assert model.criterion.weights["class"] == 2.0 and model.denoising.number == 4
    assert all(loss.isfinite() for loss in model([record(classes=[0, 1])]).values())


def test_first_scores_are_one_percent():
    model = dino()
    assert model.class_head.bias[0].item() == pytest.approx(-math.log(99))


@pytest.mark.slow
def test_it_learns_two_images_by_heart():
    model = dino(num_queries=10, denoising=dict(number=8))
    batch = [record(seed=1), record((48, 64), [[4, 4, 30, 30]], [0], seed=2)]
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.0)
    torch.manual_seed(0)
    first = None
    for step in range(150):
        losses = model(batch)
        total = sum(losses.values())
        matching = sum(loss.item() for name, loss in losses.items() if "denoising" not in name)
        first = first or matching
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / 150)
    assert matching < first / 8
    for found, item in zip(outputs(model, batch), batch, strict=True):
        truth = item["instances"]
        best = found[: len(truth)]
        order = best.pred_classes.argsort()
        assert torch.equal(best.pred_classes[order], truth.gt_classes.sort().values)
        wanted = truth.gt_boxes.tensor[truth.gt_classes.argsort()]
        torch.testing.assert_close(best.pred_boxes.tensor[order], wanted, atol=4.0, rtol=0)
