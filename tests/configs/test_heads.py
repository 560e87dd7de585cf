"""Every quick-start head takes a training step on scenes, predicts, and is scored and drawn."""

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage

from itpn_d2.data import prepare_datasets
from itpn_d2.engine import load_config
from itpn_d2.evaluation import flatten, save_prediction_grid

ROOT = Path(__file__).resolve().parents[2] / "configs"
SMALL = [
    "dataset.train.num_images=4",
    "dataset.val.num_images=2",
    "dataset.train.size=64",
    "dataset.val.size=64",
    "dataloader.image.test_short_side=64",
    "dataloader.train.total_batch_size=2",
    "model.backbone.channels=[16,32,64]",
    "model.backbone.depths=[1,1,1]",
    "model.backbone.num_heads=2",
]
# Where a processor has no bfloat16 products, convolutions of many regions take minutes.
REGIONS = [
    "model.proposal_generator.post_nms_topk=[20,20]",
    "model.roi_heads.batch_size_per_image=8",
]
HEADS = {  # losses, and what is scored
    "faster_rcnn": ({"loss_cls", "loss_box_reg"}, "bbox/AP"),
    "mask_rcnn": ({"loss_mask"}, "segm/AP"),
    "cascade_rcnn": ({"loss_cls_stage2"}, "bbox/AP"),
    "cascade_mask_rcnn": ({"loss_box_reg_stage0", "loss_mask"}, "segm/AP"),
    "point_rend": ({"loss_mask", "loss_mask_point"}, "segm/AP"),
    "retinanet": ({"loss_cls", "loss_box_reg"}, "bbox/AP"),
    "fcos": ({"loss_fcos_cls", "loss_fcos_ctr"}, "bbox/AP"),
    "keypoint_rcnn": ({"loss_keypoint"}, "keypoints/AP"),
    "panoptic_fpn": ({"loss_sem_seg", "loss_mask"}, "panoptic_seg/PQ"),
    "upernet": ({"loss_sem_seg", "loss_auxiliary"}, "sem_seg/mIoU"),
    "semantic_fpn": ({"loss_sem_seg"}, "sem_seg/mIoU"),
}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITPN_D2_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("head", HEADS)
def test_head(head, tmp_path):
    losses, metric = HEADS[head]
    torch.manual_seed(0)
    small = [*SMALL, *(REGIONS if "rcnn" in head or head in ("point_rend", "panoptic_fpn") else ())]
    cfg = load_config(str(ROOT / "Quickstart" / f"{head}_fast_itpn_nano.py"), small)
    best = cfg.train.best_metric.removeprefix("ema/")
    assert best == metric
    prepare_datasets(cfg.dataset)
    model = instantiate(cfg.model)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    with EventStorage(), torch.autocast("cpu", torch.bfloat16):  # what a run chooses on most machines
        found = model(next(iter(instantiate(cfg.dataloader.train))))
        assert losses <= found.keys() and all(torch.isfinite(v) for v in found.values())
        with torch.autocast("cpu", enabled=False):
            sum(found.values()).backward()
            optimizer.step()
        with torch.no_grad():
            held_out = [model(batch) for batch in instantiate(cfg.dataloader.val_loss)]
    assert len(held_out) == 2 and losses <= held_out[0].keys()
    assert model.backbone.trunk.patch_embed.proj.weight.grad.abs().sum() > 0
    # several processes wait for the gradient of everything that is not frozen
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    model.eval()
    batches = list(instantiate(cfg.dataloader.test))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        predictions = [model(batch)[0] for batch in batches]
    records, metadata = DatasetCatalog.get(cfg.dataset.val.name), MetadataCatalog.get(cfg.dataset.val.name)
    save_prediction_grid(tmp_path / "drawn.png", records, predictions, metadata)
    assert (tmp_path / "drawn.png").is_file()
    evaluator = instantiate(cfg.dataloader.evaluator)
    evaluator.reset()
    for batch, prediction in zip(batches, predictions, strict=True):
        evaluator.process(batch, [prediction])
    assert metric in flatten(evaluator.evaluate())


@pytest.mark.parametrize("head", [h for h in HEADS if h != "mask_rcnn"])
def test_custom_form_has_the_same_head(head):
    quick, custom = (
        load_config(str(ROOT / folder / f"{head}_fast_itpn_nano.py")) for folder in ("Quickstart", "Custom")
    )
    kinds = []
    for cfg in (quick, custom):
        cfg.dataset.num_classes = 3
        for key in ("num_semantic_classes", "num_keypoints"):
            if key in cfg.dataset:
                cfg.dataset[key] = 4
        with torch.device("meta"):
            model = instantiate(cfg.model)
        kinds.append({n: tuple(p.shape) for n, p in model.named_parameters()})
    assert kinds[0] == kinds[1]
    assert quick.train.best_metric == custom.train.best_metric


def test_recipes_of_upernet():
    """Batch, rate, schedule, windows, drop path and decay as the reference has them."""
    for name, drop, decay, scale, depth in (
        ("upernet_itpn_base_160k", 0.1, 0.958, None, 2),
        ("upernet_itpn_large_160k", 0.2, 0.986, None, 2),
        ("upernet_itpn_clip_base_160k", 0.2, 0.958, 0.1, 1),
        ("upernet_itpn_clip_large_160k", 0.2, 0.986, 0.1, 1),
    ):
        cfg = load_config(str(ROOT / "ADE20K-SemanticSegmentation" / f"{name}.py"))
        backbone = cfg.model.backbone
        assert (cfg.train.max_iter, cfg.optimizer.lr, backbone.drop_path) == (160000, 3e-5, drop)
        assert cfg.optimizer.params.layer_decay == pytest.approx(decay, abs=5e-4)
        assert cfg.dataloader.train.total_batch_size == 16
        assert (backbone.get("layer_scale"), backbone.fpn_depth, backbone.rel_pos) == (scale, depth, "table")
        assert (cfg.model.window, cfg.model.stride, cfg.model.sem_seg_head.channels) == (512, 341, 768)
        multiplier = instantiate(cfg.lr_multiplier)
        assert [round(multiplier(p), 3) for p in (0.25, 0.5, 0.75)] == [0.75, 0.5, 0.25]
        assert multiplier(1499 / 160000) > 0.98 and multiplier(0.0) < 1e-5
