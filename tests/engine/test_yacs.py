"""Detectron2's yacs configs through the engine: each key is used, ignored with a word, or refused by name."""

import logging
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from itpn_d2.backbone.yacs import add_itpn_config
from itpn_d2.data import register_together
from itpn_d2.engine import load_config
from itpn_d2.engine.yacs_keys import FATES, fate_of, leaves
from itpn_d2.engine.yacs_solver import build_schedule, build_yacs_optimizer
from itpn_d2.errors import ConfigError, DatasetError
from itpn_d2.lazy.build import build

EXAMPLE = Path(__file__).resolve().parents[2] / "configs" / "yacs" / "mask_rcnn_fast_itpn_tiny_1x.yaml"
MAIN_BRANCH = [
    "SOLVER.BASE_LR_END",
    "SOLVER.NUM_DECAYS",
    "SOLVER.RESCALE_INTERVAL",
    "DATALOADER.REPEAT_SQRT",
    "FLOAT32_PRECISION",
]


def translated(*overrides):
    return load_config(str(EXAMPLE), list(overrides))


def test_every_key_of_detectron2_has_a_fate():
    keys = [key for key, _ in leaves(add_itpn_config(get_cfg()))]
    assert len(keys) > 150
    assert [key for key in [*keys, *MAIN_BRANCH] if fate_of(key) is None] == []
    assert all(fate.note for fate in FATES.values() if fate.kind != "used")


REFUSED = {
    "MODEL.LOAD_PROPOSALS=True": "precomputed",
    "SOLVER.REFERENCE_WORLD_SIZE=8": "IMS_PER_BATCH",
    "SOLVER.BIAS_LR_FACTOR=2.0": "1.0",
    "SOLVER.WEIGHT_DECAY_NORM=0.1": "0.0",
    "SOLVER.WEIGHT_DECAY_BIAS=0.1": "choose from None, 0",
    "SOLVER.BASE_LR=0.02": "SGD.*SOLVER.OPTIMIZER=SGD",
    "SOLVER.BASE_LR=0.0": "greater than 0",
    "SOLVER.OPTIMIZER=Lion": "AdamW, SGD",
    "SOLVER.WARMUP_METHOD=cubic": "linear, constant",
    "SOLVER.LR_SCHEDULER_NAME=Nope": "WarmupCosineLR",
    "TEST.PRECISE_BN.ENABLED=True": "running statistics",
    "DATALOADER.SAMPLER_TRAIN=RandomSubsetTrainingSampler": "RepeatFactor",
    "MODEL.META_ARCHITECTURE=ImageClassifier": "ImageNet-Classification",
    "INPUT.FORMAT=L": "RGB, BGR",
    "INPUT.MASK_FORMAT=rle": "polygon, bitmask",
    "INPUT.RANDOM_FLIP=both": "horizontal, vertical, none",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING=range": "MIN_SIZE_TRAIN.*smallest",
    "DATASETS.TRAIN=()": "at least one",
    "DATASETS.TEST=('coco_2017_val','coco_2014_val')": "one registered dataset",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(override):
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{EXAMPLE.name}: {key}=.*{REFUSED[override]}"):
        translated(override)


@pytest.mark.parametrize(
    "override",
    [
        "SOLVER.MOMENTUM=0.8",
        "SOLVER.NESTEROV=True",
        "TEST.EXPECTED_RESULTS=[['bbox','AP',38.5,0.2]]",
        "MODEL.RESNETS.DEPTH=101",
        "MODEL.FPN.NORM=GN",
        "MODEL.BACKBONE.FREEZE_AT=0",
        "DATASETS.PROPOSAL_FILES_TRAIN=('a.pkl',)",
    ],
)
def test_what_is_ignored_is_said(caplog, override):
    with caplog.at_level(logging.WARNING):
        translated(override)
    said = [record.getMessage() for record in caplog.records if "is ignored" in record.getMessage()]
    assert len(said) == 1 and override.partition("=")[0] in said[0]


def test_the_example_ignores_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        translated()
    assert caplog.records == []


def test_crop_flip_and_sizes():
    mapper = translated(
        "INPUT.CROP.ENABLED=True",
        "INPUT.CROP.TYPE=absolute",
        "INPUT.CROP.SIZE=[64,48]",
        "INPUT.RANDOM_FLIP=vertical",
        "INPUT.MIN_SIZE_TRAIN=(32,40)",
        "INPUT.MIN_SIZE_TRAIN_SAMPLING=range",
        "INPUT.MASK_FORMAT=bitmask",
    ).dataloader.train.mapper
    crop, resize, flip = build(mapper.augmentations)
    assert crop.crop_type == "absolute" and list(crop.crop_size) == [64, 48]
    assert resize.is_range and resize.short_edge_length == (32, 40) and flip.vertical and not flip.horizontal
    assert mapper.recompute_boxes and mapper.instance_mask_format == "bitmask"
    assert len(build(translated("INPUT.RANDOM_FLIP=none").dataloader.train.mapper.augmentations)) == 1


def test_sampling_of_images():
    train = translated(
        "DATALOADER.SAMPLER_TRAIN=RepeatFactorTrainingSampler",
        "DATALOADER.REPEAT_THRESHOLD=0.001",
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS=False",
    ).dataloader.train
    assert train.repeat_threshold == 0.001 and train.filter_empty is False
    assert translated("DATALOADER.REPEAT_THRESHOLD=0.001").dataloader.train.repeat_threshold is None


def test_keypoints():
    cfg = translated(
        "MODEL.KEYPOINT_ON=True", "MODEL.ROI_HEADS.NUM_CLASSES=1", f"TEST.KEYPOINT_OKS_SIGMAS={[0.1] * 17}"
    )
    assert cfg.dataset.num_keypoints == 17 and cfg.dataloader.train.min_keypoints == 1
    assert cfg.dataloader.train.mapper.use_keypoint and cfg.dataloader.evaluator.keypoint_sigmas == [0.1] * 17


def test_products():
    train = translated().train
    assert train.tf32 == "convolutions" and not train.cudnn_benchmark
    assert translated("CUDNN_BENCHMARK=True").train.cudnn_benchmark


def test_the_run():
    train = translated().train
    assert (train.seed, train.device, train.eval_period) == (42, "auto", 21987)  # 0: at the end
    train = translated("SEED=7", "MODEL.DEVICE=cuda", "TEST.EVAL_PERIOD=100").train
    assert (train.seed, train.device, train.eval_period) == (7, "cuda", 100)


def test_views():
    cfg = translated("TEST.AUG.ENABLED=True", "TEST.AUG.MIN_SIZES=(400,600)", "TEST.AUG.MAX_SIZE=1000")
    views, image = cfg.dataloader.test_views, cfg.dataloader.image
    assert [round(scale * image.test_short_side) for scale in views.scales] == [400, 600]
    assert views.enabled and views.flip and image.max_size == 1000


def clipped(kind, *gradient):
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = build_yacs_optimizer(parameters, 1.0, "SGD", 0.0, clip_type=kind, clip_value=1.0)
    for parameter, value in zip(parameters, gradient, strict=True):
        parameter.grad = torch.tensor(value)
    optimizer.step()
    return [[round(-x, 3) for x in parameter.tolist()] for parameter in parameters]


def test_gradients_are_clipped_one_by_one():
    assert clipped(None, [3.0, -4.0], [0.5, 0.0]) == [[3, -4], [0.5, 0]]
    assert clipped("value", [3.0, -4.0], [0.5, 0.0]) == [[1, -1], [0.5, 0]]
    assert clipped("norm", [3.0, -4.0], [0.5, 0.0]) == [[0.6, -0.8], [0.5, 0]]


@pytest.mark.parametrize(("kind", "each", "whole"), [("value", "value", None), ("full_model", None, 0.5)])
def test_clipping(kind, each, whole):
    options = [f"SOLVER.CLIP_GRADIENTS.{o}" for o in ("ENABLED=True", f"CLIP_TYPE={kind}", "CLIP_VALUE=0.5")]
    cfg = translated(*options)
    assert (cfg.optimizer.clip_type, cfg.train.clip_grad_norm) == (each, whole)


def test_sgd():
    cfg = translated("SOLVER.OPTIMIZER=SGD", "SOLVER.BASE_LR=0.02", "SOLVER.NESTEROV=True")
    cfg.optimizer.params = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = build(cfg.optimizer)
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["nesterov"] and optimizer.defaults["momentum"] == 0.9


def test_without_an_optimizer(tmp_path, caplog):
    """Detectron2's, at the rate that it is for; whose that is, is said."""
    file = tmp_path / "sgd.yaml"
    file.write_text(EXAMPLE.read_text().replace("  OPTIMIZER: AdamW\n", "").replace("0.0002", "0.02"))
    with caplog.at_level(logging.WARNING):
        optimizer = load_config(str(file)).optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("SGD", 0.02, 0.9)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "sgd.yaml: SOLVER.OPTIMIZER is not set" in said and "BASE_LR=0.02" in said and "AdamW" in said


@pytest.mark.parametrize(
    "weights",
    [
        "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
        "detectron2://COCO-Detection/retinanet_R_50_FPN_1x/190397773/model_final_bfca0b.pkl",
        "catalog://ImageNetPretrained/FAIR/X-101-32x8d",
        "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-101.pkl",
    ],
)
def test_weights_of_a_resnet(caplog, weights):
    """Left out under our backbones, with a word; for Detectron2's own they are what they are."""
    with caplog.at_level(logging.WARNING):
        cfg = translated(f"MODEL.WEIGHTS={weights}")
    (said,) = [record.getMessage() for record in caplog.records]
    assert cfg.train.init_checkpoint == "" and weights in said and "training starts from scratch" in said
    other = translated(f"MODEL.WEIGHTS={weights}", "MODEL.BACKBONE.NAME=build_resnet_fpn_backbone")
    assert other.train.init_checkpoint == weights
    assert translated("MODEL.WEIGHTS=ours.pth").train.init_checkpoint == "ours.pth"


def test_schedules():
    plain = dict(max_iter=100, milestones=[50], gamma=0.1, warmup_iter=10, warmup_factor=0.5)
    steps = build_schedule("WarmupMultiStepLR", **plain, warmup_method="constant")
    assert [round(steps(k / 100), 3) for k in (0, 5, 20, 60)] == [0.5, 0.5, 1, 0.1]
    assert build_schedule("WarmupCosineLR", **plain, end=0.2)(1.0) == pytest.approx(0.2)
    fixed = build_schedule("WarmupStepWithFixedGammaLR", **plain, num_decays=1)
    assert [fixed(0.4), fixed(0.6)] == pytest.approx([1, 0.1])


def test_statistics_of_a_resnet_with_our_weights(tmp_path):
    """Refused where nobody has said them; what a file says is taken as it is."""
    text = EXAMPLE.read_text()
    bare = "\n".join(x for x in text.splitlines() if "PIXEL_" not in x and "FORMAT" not in x)
    (tmp_path / "bare.yaml").write_text(bare)
    path = str(tmp_path / "bare.yaml")
    assert load_config(path).dataloader.train.mapper.image_format == "BGR"  # from scratch
    with pytest.raises(ConfigError, match="MODEL.WEIGHTS=a.pth with MODEL.PIXEL_MEAN=.*INPUT.FORMAT=RGB"):
        load_config(path, ["MODEL.WEIGHTS=a.pth"])
    default = get_cfg()
    said = [f"MODEL.PIXEL_MEAN={default.MODEL.PIXEL_MEAN}", "MODEL.PIXEL_STD=[1.0,1.0,1.0]"]
    assert load_config(path, ["MODEL.WEIGHTS=a.pth", "INPUT.FORMAT=BGR", *said]).train.init_checkpoint


@pytest.fixture
def sets(tmp_path, monkeypatch):
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    for name, classes in (("yacs_a", ["x", "y"]), ("yacs_b", ["x", "y"]), ("yacs_c", ["y", "x"])):
        DatasetCatalog.register(name, lambda name=name: [{"file_name": str(tmp_path / f"{name}.png")}])
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
        MetadataCatalog.get(name).set(thing_classes=classes, evaluator_type="coco")
    yield
    for name in ("yacs_a", "yacs_b", "yacs_c"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_several_training_sets(sets):
    cfg = translated("DATASETS.TRAIN=('yacs_a','yacs_b')")
    assert build(cfg.dataset.train) == cfg.dataloader.train.dataset == "yacs_a+yacs_b"
    assert [Path(r["file_name"]).stem for r in DatasetCatalog.get("yacs_a+yacs_b")] == ["yacs_a", "yacs_b"]
    assert MetadataCatalog.get("yacs_a+yacs_b").thing_classes == ["x", "y"]
    with pytest.raises(DatasetError, match=r"'yacs_a' and 'yacs_c' have different classes"):
        register_together("yacs_d", ["yacs_a", "yacs_c"])
