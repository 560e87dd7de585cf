"""Detectron2's own yacs configs with the backbone's name changed: one iteration and an evaluation each.

Their weights of a ResNet and their rate for SGD stay.
"""

import json
from pathlib import Path

import detectron2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from detectron2.data.datasets.coco_panoptic import register_coco_panoptic_separated
from PIL import Image

from itpn_d2.engine import Run, load_config
from itpn_d2.errors import ConfigError
from itpn_d2.lazy.yaml_files import parse_yaml

ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs"
SIZE = 64
NANO = [
    "MODEL.BACKBONE.NAME=build_itpn_backbone",
    "MODEL.ITPN.NAME=fast_itpn_nano",
    "MODEL.ITPN.FPN_DIM=32",
    "MODEL.DEVICE=cpu",
    "MODEL.RPN.POST_NMS_TOPK_TEST=20",
    "MODEL.ROI_BOX_HEAD.FC_DIM=32",
    "MODEL.ROI_MASK_HEAD.CONV_DIM=16",
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS=(16,)",
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS=2",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES=2",
    "MODEL.ROI_HEADS.NUM_CLASSES=1",
    "MODEL.RETINANET.NUM_CLASSES=1",
    "MODEL.RETINANET.NUM_CONVS=1",
    f"INPUT.MIN_SIZE_TRAIN=({SIZE},)",
    f"INPUT.MIN_SIZE_TEST={SIZE}",
    "DATALOADER.NUM_WORKERS=0",
    "SOLVER.IMS_PER_BATCH=1",
    "SOLVER.MAX_ITER=1",
    "SOLVER.STEPS=()",
]


def instances():
    box = [8, 8, 32, 32]
    polygon = [8, 8, 40, 8, 40, 40, 8, 40]
    return {
        "images": [{"id": 1, "file_name": "1.jpg", "width": SIZE, "height": SIZE}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 1024, "iscrowd": 0}
            | {"segmentation": [polygon], "keypoints": [8, 8, 2, 40, 40, 2], "num_keypoints": 2}
        ],
        "categories": [{"id": 1, "name": "square"}],
    }


def panoptic():
    segments = [
        {"id": 1, "category_id": 1, "area": 1024, "bbox": [8, 8, 32, 32], "iscrowd": 0},
        {"id": 2, "category_id": 2, "area": 3072, "bbox": [0, 0, SIZE, SIZE], "iscrowd": 0},
    ]
    return {
        "images": instances()["images"],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
        "categories": [
            {"id": 1, "name": "square", "isthing": 1, "supercategory": "a"},
            {"id": 2, "name": "ground", "isthing": 0, "supercategory": "b"},
        ],
    }


VOC = """<annotation><size><height>64</height><width>64</width></size><object><name>square</name>
<difficult>0</difficult><truncated>0</truncated><pose>Unspecified</pose>
<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object></annotation>"""


def pascal_voc(folder, image):
    """Two images in the folders of PascalVOC."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for name in ("000001", "000002"):
        (folder / "Annotations" / f"{name}.xml").write_text(VOC)
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(image.read_bytes())
    (folder / "ImageSets" / "Main" / "train.txt").write_text("000001\n000002\n")
    return str(folder)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """One image as Detectron2 registers its kinds of sets; their names by the kind."""
    folder = tmp_path_factory.mktemp("zoo_sets")
    for name in ("images", "panoptic", "semantic"):
        (folder / name).mkdir()
    labels = np.ones((SIZE, SIZE), np.uint8)  # the ground; things are 0
    labels[8:40, 8:40] = 0
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8)).save(
        folder / "images" / "1.jpg"
    )
    Image.fromarray(labels).save(folder / "semantic" / "1.png")
    Image.fromarray(np.stack([labels + 1, labels * 0, labels * 0], -1)).save(folder / "panoptic" / "1.png")
    (folder / "instances.json").write_text(json.dumps(instances()))
    (folder / "panoptic.json").write_text(json.dumps(panoptic()))
    people = {"keypoint_names": ["left", "right"], "keypoint_flip_map": [("left", "right")]}
    metadata = {
        "thing_classes": ["square"],
        "stuff_classes": ["things", "ground"],
        "thing_dataset_id_to_contiguous_id": {1: 0},
        "stuff_dataset_id_to_contiguous_id": {2: 1},
    }
    before = set(DatasetCatalog.list())
    paths = [
        str(folder / name) for name in ("images", "panoptic", "panoptic.json", "semantic", "instances.json")
    ]
    register_coco_instances("zoo_instances", {}, paths[4], paths[0])
    register_coco_instances("zoo_keypoints", people, paths[4], paths[0])
    register_coco_panoptic_separated("zoo_panoptic", metadata, *paths)
    voc = pascal_voc(folder / "VOC2007", folder / "images" / "1.jpg")
    for year in (2007, 2012):
        register_pascal_voc(f"zoo_voc_{year}", voc, "train", year, ("square",))
        MetadataCatalog.get(f"zoo_voc_{year}").evaluator_type = "pascal_voc"
    yield {
        "voc": ("zoo_voc_2007", "zoo_voc_2012"),
        "instances": ("zoo_instances",),
        "keypoints": ("zoo_keypoints",),
        "panoptic": ("zoo_panoptic_separated",),
        "semantic": ("zoo_panoptic_stuffonly",),
    }
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


CONFIGS = {
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml": ("instances", ["bbox/AP", "segm/AP"]),
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml": ("keypoints", ["bbox/AP", "keypoints/AP"]),
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml": (
        "panoptic",
        ["bbox/AP", "segm/AP", "sem_seg/mIoU", "panoptic_seg/PQ"],
    ),
    "Misc/semantic_R_50_FPN_1x.yaml": ("semantic", ["sem_seg/mIoU"]),
    "COCO-Detection/retinanet_R_50_FPN_1x.yaml": ("instances", ["bbox/AP"]),
    "PascalVOC-Detection/faster_rcnn_R_50_FPN.yaml": ("voc", ["bbox/AP50"]),
}


def config(path, kind, sets, folder):
    data = [f"DATASETS.TRAIN={sets[kind]}", f"DATASETS.TEST={sets[kind][:1]}"]
    return load_config(str(path), [*NANO, *data, f"OUTPUT_DIR={folder}"])


def train(path, kind, sets, folder):
    results = Run(config(path, kind, sets, folder)).train()
    return [f"{task}/{metric}" for task, found in results.items() for metric in found]


@pytest.mark.parametrize("name", CONFIGS)
def test_trains_and_is_measured(sets, tmp_path, name):
    kind, expected = CONFIGS[name]
    assert set(expected) <= set(train(ZOO / name, kind, sets, tmp_path))
    assert (tmp_path / "model_final.pth").is_file()
    load_config(str(tmp_path / "config.yaml"))  # what the run has written is a config again


def test_the_anchors_of_retinanet_are_those_of_its_python_code():
    cfg = load_config(str(ZOO / "COCO-Detection" / "retinanet_R_50_FPN_1x.yaml"), NANO)
    sizes = parse_yaml(cfg.model.yaml, "model")["MODEL"]["ANCHOR_GENERATOR"]["SIZES"]
    assert sizes == [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in [32, 64, 128, 256, 512]]


def test_an_evaluation_needs_weights_of_its_own(sets, tmp_path):
    """Those of a ResNet are none, and a network that has learned nothing is not measured."""
    cfg = config(ZOO / next(iter(CONFIGS)), "instances", sets, tmp_path)
    with pytest.raises(ConfigError, match="--eval-only needs weights.*MODEL.WEIGHTS=FILE"):
        Run(cfg, evaluate_only=True).evaluate()


def test_no_panoptic_set(sets, tmp_path):
    with pytest.raises(ValueError, match="no stuff|sem_seg_file_name|panoptic"):
        train(ZOO / "COCO-PanopticSegmentation" / "panoptic_fpn_R_50_1x.yaml", "instances", sets, tmp_path)
