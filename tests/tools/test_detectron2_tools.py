"""Detectron2's own scripts on our configs; docs/detectron2-tools.md says how each is used.

The scripts are not in its package: DETECTRON2_SOURCE is a checkout of it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from PIL import Image

from itpn_d2.engine import load_config
from itpn_d2.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "COCO-Detection" / "faster_rcnn_fast_itpn_tiny_1x.py"
SCRIPTS = Path(os.environ.get("DETECTRON2_SOURCE", "none")) / "tools"


def test_what_the_scripts_read_of_a_config():
    train = LazyConfig.load(str(CONFIG)).train
    assert torch.device(train.device).type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert not train.amp.enabled and train.ddp is not None and train.checkpointer.period
    assert load_config(str(CONFIG)).train.device == "auto"  # another machine may go on
    assert load_config(str(CONFIG), ["train.device=cpu"]).train.device == "cpu"


@pytest.mark.parametrize(("enabled", "dtype"), [(True, "fp32"), (False, "bf16"), (False, "fp16")])
def test_precisions_that_contradict_each_other(enabled, dtype):
    with pytest.raises(ConfigError, match=f"train.amp.enabled={enabled} with train.amp.dtype={dtype}"):
        load_config(str(CONFIG), [f"train.amp.enabled={enabled}", f"train.amp.dtype={dtype}"])


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPTS.is_dir(), reason="DETECTRON2_SOURCE names no checkout of Detectron2")
def test_lazyconfig_train_net_as_it_is(tmp_path):
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES if c["isthing"]]
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        Image.fromarray(pixels).save(root / split / "1.jpg")
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 32, 32], "area": 1024, "iscrowd": 0}
        image = {"id": 1, "file_name": "1.jpg", "width": 96, "height": 64}
        data = {"images": [image], "annotations": [box], "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    small = ["train.max_iter=1", "train.init_checkpoint=''", f"train.output_dir={tmp_path / 'out'}"]
    small += ["dataloader.train.total_batch_size=1", "model.backbone.depths=[1,1,1]"]
    small += ["dataloader.train.num_workers=0", "dataloader.test.num_workers=0"]
    small += ["dataloader.image.test_short_side=64", "dataloader.image.max_size=96"]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    script = [sys.executable, str(SCRIPTS / "lazyconfig_train_net.py"), "--config-file", str(CONFIG)]
    done = subprocess.run([*script, *small], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model_final.pth").is_file()
