"""The learning rate of another batch."""

from pathlib import Path

import pytest
import torch

from itpn_d2.engine import Run, load_config
from itpn_d2.engine.config_reading import read_config
from itpn_d2.errors import ConfigError
from itpn_d2.solver import group_table, rate_factor, scale_rates
from pretrain.run import PretrainRun

ROOT = Path(__file__).resolve().parents[2] / "configs"
OFFICIAL = [p for kind in ("COCO-*", "ADE20K-*", "ImageNet-*") for p in sorted(ROOT.glob(f"{kind}/*.py"))]


@pytest.mark.parametrize(
    ("batch", "reference", "rule", "factor"),
    [
        (64, 16, "linear", 4.0),
        (8, 16, "linear", 0.5),
        (64, 16, "sqrt", 2.0),
        (16, 16, "sqrt", 1.0),
        (3, None, "linear", 1.0),
    ],
)
def test_the_factor(batch, reference, rule, factor):
    assert rate_factor(batch, reference, rule) == factor


def test_all_groups_keep_their_part_of_the_rate():
    values = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": values[0], "lr": 1e-4}, {"params": values[1]}], 1e-3)
    before = group_table(optimizer, torch.nn.Linear(1, 1)).splitlines()
    scale_rates(optimizer, 4.0)
    assert [g["lr"] for g in optimizer.param_groups] == [4e-4, 4e-3]
    after = group_table(optimizer, torch.nn.Linear(1, 1)).splitlines()
    assert [line.split()[1] for line in before[1:]] == [line.split()[1] for line in after[1:]]


@pytest.mark.parametrize("path", OFFICIAL, ids=lambda p: p.stem)
def test_a_recipe_is_as_published_at_its_batch(path):
    loader = read_config(str(path), []).dataloader.train
    assert loader.reference_batch == loader.total_batch_size


def test_detection_follows_its_batch_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    cfg = load_config(
        str(ROOT / "Quickstart" / "mask_rcnn_fast_itpn_nano.py"),
        [
            "dataset.train.num_images=4",
            "dataset.val.num_images=1",
            "dataset.train.size=64",
            "dataset.val.size=64",
            "dataloader.train.total_batch_size=2",
            "dataloader.train.reference_batch=8",
            "optimizer.lr=1e-3",
            "train.max_iter=100",
            "train.show_groups=True",
            "train.init_checkpoint=",
            "train.device=cpu",
            f"train.output_dir={tmp_path / 'out'}",
        ],
    )
    trainer = Run(cfg)._build_trainer()
    assert max(g["lr"] for g in trainer.optimizer.param_groups) == pytest.approx(2.5e-4)
    log = (tmp_path / "out" / "log.txt").read_text()
    said = "2 images a step instead of 8: rates times 0.25 (linear); "
    assert f"Learning rate: {said}" in log and f"Parameter groups; {said}" in log
    assert "train.max_iter=400" in log and "   0.00025   1.0000" in log


def test_pre_training_follows_its_batch(tmp_path):
    options = [
        "dataset.train={_target_: pretrain.data.scenes, split: train, num_images: 8, size: 64}",
        "dataloader.train.view.size=64",
        "model.backbone.pos_grid=[4,4]",
        "train.progressive=[{epoch: 0, size: 64}, {epoch: 1, size: 64, lr: 4e-4}]",
        "train.device=cpu",
        "train.epochs=2",
        f"train.output_dir={tmp_path}",
    ]
    path = str(ROOT / "Pretrain" / "pixel_mim_fast_itpn_nano.py")
    four = ["dataloader.train.total_batch_size=4", "dataloader.train.reference_batch=1"]
    run = PretrainRun(load_config(path, [*options, *four, "dataloader.train.reference_rule=sqrt"]))
    assert run._build_optimizer().param_groups[0]["lr"] == pytest.approx(2 * 3e-4)
    # a stage's own rate is the one that is written there
    assert [s.lr_scale for s in run.clock.segments] == pytest.approx([1.0, 4e-4 / 6e-4])
    with pytest.raises(ConfigError, match="reference_batch=1 with train.base_lr=0.001: .*train.base_lr=null"):
        load_config(path, [*options, *four, "train.base_lr=1e-3"])
