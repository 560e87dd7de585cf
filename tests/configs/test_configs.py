"""Every config in the tree loads, and its model, optimizer, schedule and data calls can be built."""

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import OmegaConf
from PIL import Image

from itpn_d2.engine.config import load_config
from itpn_d2.errors import ConfigError
from itpn_d2.meta_arch import ImageClassifier, MaskDINO
from itpn_d2.solver import parameter_rules
from pretrain.schedule import ProgressiveSchedule

ROOT = Path(__file__).resolve().parents[2] / "configs"
ALL = sorted(p for p in ROOT.rglob("*") if p.suffix in (".py", ".yaml") and "common" not in p.parts)
CLASSIFICATION = [
    p
    for p in ALL
    if "ImageNet-Classification" in p.parts or p.name.startswith(("classifier_", "linear_probe_"))
]
METHODS = {
    "pixel": "PixelMIM",
    "mfm": "MFM",
    "distillation": "FeatureDistillation",
    "clip": "CLIPDistillation",
    "fastmim": "FastMIM",
}
PRETRAIN = [p for p in ALL if p.stem.split("_")[0] in METHODS]
CONFIGS = [p for p in ALL if p not in PRETRAIN and p not in CLASSIFICATION]
META_ARCHITECTURES = {
    "retinanet": "RetinaNet",
    "fcos": "FCOS",
    "upernet": "ImageSegmentor",
    "semantic_fpn": "ImageSegmentor",
    "panoptic_fpn": "PanopticFPN",
    "dino": "DINO",
    "mask_dino": "MaskDINO",
    "semantic_mask_dino": "MaskDINO",
    "panoptic_mask_dino": "MaskDINO",
}
COUNTS = {"num_classes": 3, "num_semantic_classes": 4, "num_keypoints": 5}  # where the data would tell


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT)))
def test_config(path):
    cfg = load_config(str(path))
    for key, count in COUNTS.items():
        if key in cfg.dataset:
            cfg.dataset[key] = cfg.dataset[key] or count
    if path.suffix == ".py":
        with torch.device("meta"):
            model = instantiate(cfg.model)
    else:
        model = instantiate(cfg.model)
    expected = (n for kind, n in META_ARCHITECTURES.items() if path.name.startswith(kind))
    assert type(model).__name__ == next(expected, "GeneralizedRCNN")
    masks = ("mask", "point_rend", "panoptic")
    if hasattr(model, "roi_heads"):
        assert model.roi_heads.num_classes == cfg.dataset.num_classes
        assert model.roi_heads.mask_on == any(kind in path.name for kind in masks)
        assert model.roi_heads.keypoint_on == ("keypoint" in path.name)
    elif "ImageSegmentor" in type(model).__name__:
        assert model.sem_seg_head.predictor.out_channels == cfg.dataset.num_classes
    else:
        classes = model.things if isinstance(model, MaskDINO) else model.num_classes
        assert classes == cfg.dataset.num_classes
    if "fast_itpn" in path.name and path.suffix == ".py":
        assert cfg.model.backbone.name in path.stem
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    assert max(g["lr"] for g in optimizer.param_groups) == pytest.approx(cfg.optimizer.lr)
    multiplier = instantiate(cfg.lr_multiplier)
    assert isinstance(multiplier, ParamScheduler)
    assert 0 <= multiplier(0.0) < 0.1 and multiplier(0.2) > multiplier(0.999) > 0
    LRMultiplier(optimizer, multiplier, cfg.train.max_iter)
    for loader in ("train", "test", "val_loss"):
        mapper = instantiate(cfg.dataloader[loader].mapper)
        assert callable(mapper)
    for split in ("train", "val"):
        assert cfg.dataset[split].name
    if cfg.train.best_metric:
        assert cfg.train.ema.enabled or not cfg.train.best_metric.startswith("ema/")
    assert cfg.train.output_dir not in ("", "./output")


@pytest.mark.parametrize("path", CLASSIFICATION, ids=lambda p: str(p.relative_to(ROOT)))
def test_classification_config(path):
    cfg = load_config(str(path))
    cfg.dataset.num_classes = cfg.dataset.num_classes or 3
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert isinstance(model, ImageClassifier) and model.network.num_classes == cfg.dataset.num_classes
    assert model.head_only == ("linear_probe" in path.name)
    name = cfg.model.network.name
    of_timm = "timm" in str(cfg.model.network._target_)
    assert name in path.name or "_".join(path.stem.split("_")[:2]) == name or of_timm
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == trained
    assert max(g["lr"] for g in optimizer.param_groups) == pytest.approx(cfg.optimizer.lr)
    multiplier = instantiate(cfg.lr_multiplier)
    assert 0 <= multiplier(0.0) < 0.1 and multiplier(0.2) > multiplier(0.999) >= 0
    size = cfg.dataloader.image.size
    if of_timm:
        assert model.network(torch.empty(1, 3, size, size, device="meta")).shape == (
            1,
            cfg.dataset.num_classes,
        )
    else:
        assert tuple(model.network.trunk.pos_embed.shape[1:3]) == (size // 16, size // 16)
    if "ImageNet-Classification" in path.parts and not model.head_only:
        assert path.stem.endswith(f"_{size}")
    picture = Image.new("RGB", (90, 70), (200, 100, 50))
    for loader in ("train", "test", "val_loss"):
        view = torch.as_tensor(instantiate(cfg.dataloader[loader].mapper).view(picture))
        assert view.shape == (3, size, size) and view.dtype == torch.uint8
    assert instantiate(cfg.dataloader.train.mapper).seed == cfg.train.seed
    if cfg.train.best_metric:
        assert cfg.train.ema.enabled or not cfg.train.best_metric.startswith("ema/")
    assert cfg.dataloader.train.total_batch_size % (2 * cfg.train.accumulate) == 0


RATES = {  # of the patch embedding, the last block and the head, of the base rate: the reference's tables
    "fast_itpn_tiny_224": (0.80**17, 0.80),
    "fast_itpn_small_224": (0.90**27, 0.90),
    "fast_itpn_base_224": (0.90**33, 0.90),
    "fast_itpn_large_640": (0.95**47, 0.95),
    "itpn_base_pixel_224": (0.60**13, 0.60 ** (13 / 31)),
    "itpn_large_clip_224": (0.55**13, 0.55 ** (13 / 45)),
}


@pytest.mark.parametrize("name", RATES)
def test_layer_decay_of_the_references_recipes(name):
    cfg = load_config(str(ROOT / "ImageNet-Classification" / f"{name}.py"))
    with torch.device("meta"):
        model = instantiate(cfg.model)
    params = cfg.optimizer.params
    rules = parameter_rules(model, 0.05, params.layer_decay, params.get("count_merges", False))
    scales = {rule.name: rule.lr_scale for _, rule in rules}
    last = model.network.trunk.depths[2] - 1
    found = (
        scales["network.trunk.patch_embed.proj.weight"],
        scales[f"network.trunk.stage3.{last}.mlp.{'w3' if 'fast' in name else 'fc2'}.weight"],
        scales["network.head.weight"],
    )
    assert found == pytest.approx((*RATES[name], 1.0))
    assert scales["network.trunk.pos_embed"] == found[0]


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda p: str(p.relative_to(ROOT)))
def test_pretraining_config(path):
    cfg = load_config(str(path))
    if "teacher" in cfg.model:
        cfg.model.teacher.random = True  # instead of a file
    with torch.device("meta"):
        method = instantiate(cfg.model)
    assert type(method).__name__ == METHODS[path.stem.split("_")[0]]
    encoder = cfg.model.get("encoder", cfg.model)
    assert encoder.get("backbone", {}).get("name", "") in path.stem
    cfg.optimizer.params.model = method
    optimizer = instantiate(cfg.optimizer)
    trained = {id(p) for p in method.parameters() if p.requires_grad}
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == trained
    multiplier = instantiate(cfg.lr_multiplier)
    assert multiplier(0.0) < 0.1 and multiplier(0.2) > multiplier(0.999)
    assert instantiate(cfg.dataloader.train.view).size % 16 == 0
    if cfg.train.progressive:
        stages = OmegaConf.to_container(cfg.train.progressive)
        schedule = ProgressiveSchedule(stages, cfg.train.size_divisor)
        assert schedule.stages[-1].epoch < cfg.train.epochs
    assert cfg.train.output_dir not in ("", "./output", "./output/pretrain")


ITPN_RECIPES = {  # epochs' iterations, rate, layer decay, drop path, layer scale, blocks, relative positions
    "mask_rcnn_itpn_base_1x": (21987, 2e-4, 0.90, 0.05, None, 2, "none"),
    "mask_rcnn_itpn_base_3x": (65962, 1.5e-4, 0.90, 0.3, None, 2, "none"),
    "mask_rcnn_itpn_clip_base_3x": (65962, 1.5e-4, 0.90, 0.3, 0.1, 1, "none"),
    "mask_rcnn_itpn_clip_large_1x": (21987, 2e-4, 0.95, 0.2, 0.1, 1, "decomposed"),
    "cascade_mask_rcnn_itpn_base_3x": (65962, 1e-4, 0.90, 0.2, None, 2, "none"),
    "cascade_mask_rcnn_itpn_clip_base_3x": (65962, 1e-4, 0.90, 0.2, 0.1, 1, "none"),
}


@pytest.mark.parametrize("name", ITPN_RECIPES)
def test_recipes_of_itpn(name):
    iterations, lr, decay, drop_path, scale, depth, rel_pos = ITPN_RECIPES[name]
    cfg = load_config(str(ROOT / "COCO-InstanceSegmentation" / f"{name}.py"))
    backbone = cfg.model.backbone
    assert (cfg.train.max_iter, cfg.optimizer.lr, backbone.drop_path) == (iterations, lr, drop_path)
    assert cfg.optimizer.params.layer_decay == decay and cfg.dataloader.train.total_batch_size == 64
    assert (backbone.get("layer_scale"), backbone.fpn_depth) == (scale, depth)
    assert backbone.get("rel_pos", "none") == rel_pos
    multiplier = instantiate(cfg.lr_multiplier)
    assert [round(multiplier(p), 4) for p in (0.7, 0.8, 0.99)] == [1, 0.1, 0.01]


DINO_RECIPES = {  # iterations, clip, weight decay, queries, layers, drops of the rate
    "COCO-Detection/dino_fast_itpn_tiny_1x": (87949, 0.1, 1e-4, 900, (6, 6), (0.92,)),
    "COCO-Detection/dino_itpn_large_3x": (263848, 0.1, 1e-4, 900, (6, 6), (0.84,)),
    "COCO-InstanceSegmentation/mask_dino_fast_itpn_base_1x": (88500, 0.01, 0.05, 300, (6, 9), (0.9, 0.97)),
    "COCO-InstanceSegmentation/mask_dino_itpn_base_50ep": (368750, 0.01, 0.05, 300, (6, 9), (0.9, 0.97)),
}


@pytest.mark.parametrize("name", DINO_RECIPES)
def test_recipes_of_dino(name):
    iterations, clip, decay, queries, layers, drops = DINO_RECIPES[name]
    cfg = load_config(str(ROOT / f"{name}.py"))
    assert (cfg.train.max_iter, cfg.train.clip_grad_norm) == (iterations, clip)
    assert (cfg.optimizer.lr, cfg.optimizer.params.weight_decay) == (1e-4, decay)
    assert cfg.dataloader.train.total_batch_size == 16 and cfg.model.num_queries == queries
    assert (cfg.model.encoder.num_layers, cfg.model.decoder.num_layers) == layers
    multiplier = instantiate(cfg.lr_multiplier)
    assert multiplier(500 / iterations) == pytest.approx(0.5, abs=0.01)  # warm-up
    found = [multiplier(p) for p in (0.8, *drops)]
    assert found == pytest.approx([0.1**k for k in range(len(drops) + 1)])


def test_cascade_heads_grow_in_overlap():
    path = ROOT / "COCO-InstanceSegmentation" / "cascade_mask_rcnn_itpn_base_3x.py"
    with torch.device("meta"):
        heads = instantiate(load_config(str(path)).model).roi_heads
    assert [m.thresholds[1] for m in heads.proposal_matchers] == [0.5, 0.6, 0.7]
    assert [p.box2box_transform.weights[0] for p in heads.box_predictor] == [10, 20, 30]
    assert all(p.bbox_pred.out_features == 4 and p.box_reg_loss_type == "giou" for p in heads.box_predictor)
    assert len({id(h) for h in heads.box_head}) == 3


def test_a_cascade_trains_and_predicts():
    torch.manual_seed(0)
    cfg = load_config(str(ROOT / "COCO-InstanceSegmentation" / "cascade_mask_rcnn_itpn_clip_base_3x.py"))
    cfg.dataset.num_classes = 2
    cfg.model.backbone.update(name="itpn_nano", channels=(8, 16, 32), depths=(1, 1, 1), num_heads=2)
    for head in (*cfg.model.roi_heads.box_heads, cfg.model.roi_heads.mask_head):
        head.conv_norm = "GN"  # SyncBN needs a GPU
    model = instantiate(cfg.model)
    target = Instances(
        (64, 96), gt_boxes=Boxes(torch.tensor([[8.0, 8, 40, 48]])), gt_classes=torch.tensor([1])
    )
    target.gt_masks = BitMasks(torch.ones(1, 64, 96, dtype=torch.bool))
    with EventStorage():
        losses = model([{"image": torch.rand(3, 64, 96) * 255, "instances": target}])
    assert {f"loss_cls_stage{k}" for k in range(3)} <= losses.keys() and "loss_mask" in losses
    sum(losses.values()).backward()
    assert model.backbone.trunk.stage1[0].gamma_2.grad.abs().sum() > 0
    with torch.no_grad():
        found = model.eval()([{"image": torch.rand(3, 64, 96) * 255}])[0]["instances"]
    assert found.pred_boxes.tensor.shape[1] == 4 and len(found) == len(found.pred_masks)


def test_output_folders_are_distinct():
    folders = [load_config(str(p)).train.output_dir for p in ALL]
    assert len(set(folders)) == len(folders)


QUICKSTART = str(ROOT / "Quickstart" / "mask_rcnn_fast_itpn_nano.py")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.max_itr=5", "train.max_iter"),
        ("trian.max_iter=5", "train"),
        ("model.backbone.trunk.depth=5", "no key"),
        ("max_iter", "key=value"),
    ],
)
def test_wrong_override_names_the_right_key(override, words):
    with pytest.raises(ConfigError, match=words):
        load_config(QUICKSTART, [override])


def test_overrides_reach_defaults_and_new_arguments():
    cfg = load_config(
        QUICKSTART, ["train.max_iter=7", "model.backbone.norm_eps=1e-5", "dataloader.image.short_sides=[64]"]
    )
    assert cfg.train.max_iter == 7 and cfg.model.backbone.norm_eps == 1e-5
    assert cfg.dataloader.train.mapper.augmentations.short_sides == [64]


def test_missing_file():
    with pytest.raises(ConfigError, match="no such file"):
        load_config("configs/nothing.py")
