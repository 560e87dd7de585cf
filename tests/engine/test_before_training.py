"""What a run asks of its validation set is checked before it starts, and evaluation needs that set alone."""

import json
import os

import pytest
from detectron2.config import LazyCall as L
from omegaconf import OmegaConf
from PIL import Image

from itpn_d2.data import (
    TrainMapper,
    build_train_loader,
    build_val_loss_loader,
    prepare_datasets,
    register_coco,
)
from itpn_d2.engine.evaluate import check_evaluation
from itpn_d2.errors import ConfigError, DatasetError
from itpn_d2.evaluation import build_evaluator


@pytest.fixture
def write(tmp_path, monkeypatch):
    """From the masks of annotations, None for no annotations at all, to the paths of a json and images."""
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{number}.png")

    def json_of(masks, name="set"):
        data = {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)],
            "categories": [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}],
            "annotations": [
                {"id": i, "image_id": i, "category_id": i, "bbox": [2, 2, 10, 10], "segmentation": mask}
                for i, mask in enumerate(masks or (), 1)
            ],
        }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(data))
        return str(path), str(tmp_path / "images")

    return json_of


SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]


def config(name, metric=""):
    return OmegaConf.create(
        {
            "dataset": {"val": {"name": name}},
            "dataloader": {"evaluator": L(build_evaluator)(dataset_name=name)},
            "train": {"best_metric": metric, "eval_period": 5, "output_dir": os.environ["ITPN_D2_CACHE"]},
        },
        flags={"allow_objects": True},
    )


def test_a_set_without_annotations_cannot_be_measured(write):
    name = register_coco("measured_none", *write(None))
    with pytest.raises(DatasetError, match="train.eval_period=0.*--eval-only"):
        check_evaluation(config(name))


@pytest.mark.parametrize("metric", ["", "bbox/AP", "segm/AP50", "ema/bbox/AP", "bbox/AP-nut", "val_loss"])
def test_metrics_that_are_measured(write, metric):
    check_evaluation(config(register_coco("measured", *write([SQUARE, SQUARE])), metric))


@pytest.mark.parametrize(
    ("metric", "words"),
    [("bbox/ap", "did you mean bbox/AP"), ("bbox/AP-ring", "AP-nut|there are"), ("AP", "there are: bbox/AP")],
)
def test_a_metric_that_is_not_measured_is_said(write, metric, words):
    with pytest.raises(ConfigError, match=f"best_metric.*({words})"):
        check_evaluation(config(register_coco("measured_not", *write([SQUARE, SQUARE])), metric))


def test_masks_are_not_measured_where_one_is_missing(write):
    with pytest.raises(ConfigError, match="segm/AP is never measured"):
        check_evaluation(config(register_coco("measured_part", *write([SQUARE, None])), "segm/AP"))


def test_validation_loss_asks_for_masks(write):
    name = register_coco("loss_part", *write([SQUARE, None]))
    build_val_loss_loader(name, TrainMapper([], use_instance_mask=False))
    with pytest.raises(DatasetError, match="1 annotations have no segmentation.*validation_loss=False"):
        build_val_loss_loader(name, TrainMapper([]))
    with pytest.raises(DatasetError, match="no annotations, which the validation loss needs"):
        build_val_loss_loader(register_coco("loss_none", *write(None)), TrainMapper([]))


def test_images_that_are_left_out_are_counted(write, caplog):
    name = register_coco("background", *write([SQUARE]))
    with caplog.at_level("INFO", "itpn_d2"):
        loader = build_train_loader(name, TrainMapper([]), 1)
    assert "2 images are left out" in caplog.text and len(loader.dataset) == 1
    assert len(build_train_loader(name, TrainMapper([]), 1, filter_empty=False).dataset) == 3


def section(train, val):
    call = {"_target_": "itpn_d2.data.register_coco"}
    named = {"train": train, "val": val}
    return OmegaConf.create(
        {
            **{k: v and {**call, "name": f"s_{k}", "json": v[0], "images": v[1]} for k, v in named.items()},
            "num_classes": None,
            "class_names": None,
        }
    )


@pytest.mark.parametrize("train", [("", ""), None, ("no.json", "nowhere")])
def test_evaluation_needs_the_validation_set_alone(write, train):
    dataset = section(train, write([SQUARE, SQUARE]))
    prepare_datasets(dataset, evaluate_only=True)
    assert list(dataset.class_names) == ["bolt", "nut"]


def test_training_needs_annotations(write):
    with pytest.raises(DatasetError, match="no annotations to learn from"):
        prepare_datasets(section(write(None), write([SQUARE], "other")))
    dataset = section(write([SQUARE]), write(None, "test"))
    prepare_datasets(dataset)
    assert dataset.num_classes == 2
