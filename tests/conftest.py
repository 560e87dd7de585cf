"""A detector of a few weights, for whatever needs a trained one."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from itpn_d2.checkpoint import atomic_save
from itpn_d2.engine import load_config

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "Quickstart" / "mask_rcnn_fast_itpn_nano.py"
CLASSES = ["disc", "square", "triangle", "star", "ring"]
MICRO = [
    "model.backbone.channels=[8,16,32]",
    "model.backbone.depths=[1,1,2]",
    "model.backbone.num_heads=2",
    "model.backbone.fpn_dim=16",
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
    "model.roi_heads.box_predictor.test_topk_per_image=5",
]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a run: ``config.yaml`` and ``model_final.pth`` of a detector that has learned nothing,
    but finds five objects in every image."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config(str(CONFIG), MICRO)
    # what a wider pyramid changes in the heads
    for node in (cfg.model.roi_heads.box_head, cfg.model.roi_heads.mask_head):
        node.input_shape.channels = 16
    cfg.model.proposal_generator.head.in_channels = 16
    cfg.dataset.num_classes, cfg.dataset.class_names = len(CLASSES), CLASSES
    LazyConfig.save(cfg, str(folder / "config.yaml"))
    torch.manual_seed(0)
    atomic_save({"model": instantiate(cfg.model).state_dict()}, folder / "model_final.pth")
    return folder


@pytest.fixture
def refused(capsys):
    """``with refused(words):`` a command ends within it as with an error of use, saying what matches."""

    @contextmanager
    def check(words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            yield
        said = capsys.readouterr().err
        assert ended.value.code == 2 and re.search(words, said, re.DOTALL), said

    return check
