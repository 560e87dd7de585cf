"""train_net.py from outside: train, stop, resume, evaluate, two processes, bad arguments."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from itpn_d2.checkpoint import load_state_file
from itpn_d2.commands.train import main
from itpn_d2.engine import Run, load_config
from itpn_d2.engine.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "Quickstart" / "mask_rcnn_fast_itpn_nano.py")
SMALL = [
    "dataset.train.num_images=6",
    "dataset.val.num_images=3",
    "dataset.train.size=64",
    "dataset.val.size=64",
    "dataloader.image.short_sides=[64]",
    "dataloader.image.test_short_side=64",
    "dataloader.train.total_batch_size=2",
    "model.backbone.depths=[1,1,1]",
    "train.log_period=1",
    "train.eval_period=0",
    "train.visualize.period=0",
    "train.amp.dtype=fp32",
]
# An untrained model detects something, but not much: some processors have no quick products in bfloat16.
DETECTIONS = [
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
    "model.roi_heads.box_predictor.test_topk_per_image=10",
    "model.roi_heads.batch_size_per_image=16",
    "model.proposal_generator.post_nms_topk=[30,30]",
]
MIGRATION = "model.backbone.migration={keep: 0.6, at: [0.0], affine: True}"


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITPN_D2_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small(folder, *overrides):
    return load_config(CONFIG, [*SMALL, f"train.output_dir={folder}", *overrides])


def weights(folder):
    state = load_state_file(folder / "model_final.pth")
    return {**state["model"], **{f"average.{k}": v for k, v in state["trainer"]["average"].items()}}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stopped_run_resumes_bit_for_bit(tmp_path, monkeypatch, workers):
    extra = ["train.max_iter=4", f"dataloader.train.num_workers={workers}", "model.backbone.drop_path=0.2"]
    Run(small(tmp_path / "whole", *extra)).train()

    step = Trainer.run_step

    def stopped_step(trainer):
        if trainer.iter == 1:
            signal.raise_signal(signal.SIGTERM)
        step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", stopped_step)
        Run(small(tmp_path / "parts", *extra)).train()
    assert (tmp_path / "parts" / "model_0000001.pth").is_file()
    assert not (tmp_path / "parts" / "model_final.pth").exists()
    torch.manual_seed(12345)
    Run(small(tmp_path / "parts", *extra)).train(resume=True)

    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert [k for k in whole if not torch.equal(whole[k], parts[k])] == []


def test_everything_switched_on(tmp_path):
    folder = tmp_path / "out"
    cfg = small(
        folder,
        "train.max_iter=2",
        "train.eval_period=1",
        "train.visualize.period=2",
        "train.visualize.images=2",
        "train.accumulate=2",
        "train.amp.dtype=bf16",
        "train.best_metric=val_loss",
        "train.show_groups=True",
        *DETECTIONS,
        MIGRATION,
    )
    Run(cfg).train()
    names = {p.name for p in folder.iterdir()}
    wanted = {
        "config.yaml",
        "metrics.json",
        "results.json",
        "log.txt",
        "curves.png",
        "predictions.png",
        "exits.png",
        "model_final.pth",
    }
    assert wanted | {"last_checkpoint"} <= names
    assert any(n.startswith("events.out.tfevents") for n in names)
    assert not [n for n in names if "partial" in n]
    results = json.loads((folder / "results.json").read_text())
    assert {"bbox/AP", "segm/AP50", "ema/bbox/AP", "ema/segm/AP"} <= results.keys()
    last = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert {"total_loss", "val_loss", "lr", "bbox/AP", "grad_norm"} <= last.keys()

    again = small(
        tmp_path / "eval",
        f"train.init_checkpoint={folder / 'model_final.pth'}",
        "train.amp.dtype=bf16",
        "train.visualize.images=2",
        *DETECTIONS,
        MIGRATION,
    )
    Run(again).evaluate()
    assert (tmp_path / "eval" / "exits.png").is_file()
    evaluated = json.loads((tmp_path / "eval" / "results.json").read_text())
    for name, value in evaluated.items():
        assert value == pytest.approx(results[name], abs=1e-6, nan_ok=True), name


def train_net(*arguments, launcher=()):
    command = [sys.executable, *launcher, str(ROOT / "train_net.py"), "--config-file", CONFIG]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, cwd=ROOT)


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [[row[k] for k in sorted(row) if k.startswith(("loss_", "total_loss"))] for row in rows]


@pytest.mark.slow  # tests/engine/test_same_run.py compares more within one command
def test_two_processes_train_as_one(tmp_path):
    # Everything is sampled and every image gives as many proposals, so that a mean of two means is the mean
    # of all. A # mask loss is a mean over objects, of which images have different numbers: boxes only.
    exhaustive = [
        "train.max_iter=3",
        "train.clip_grad_norm=null",
        "dataloader.train.total_batch_size=4",
        "model.proposal_generator.batch_size_per_image=4096",
        "model.proposal_generator.post_nms_topk=[40,40]",
        "model.roi_heads.batch_size_per_image=4096",
        "model.roi_heads.proposal_append_gt=False",
        "model.roi_heads.mask_in_features=null",
        "model.roi_heads.mask_pooler=null",
        "model.roi_heads.mask_head=null",
    ]
    for name, flags in {"one": [], "two": ["--num-processes", "2"]}.items():
        done = train_net(*flags, *SMALL, *exhaustive, f"train.output_dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train.max_itr=1"], "did you mean train.max_iter"),
        (["--eval-only"], "train.init_checkpoint=FILE"),
        (["--eval-only", "train.init_checkpoint=nothing.pth"], "nothing.pth: no such file"),
        (
            ["dataloader.train.total_batch_size=3", "train.accumulate=2"],
            "not divisible by train.accumulate=2",
        ),
    ],
)
def test_errors_are_one_line(arguments, words, tmp_path, refused):
    flags = [a for a in arguments if a.startswith("--")]
    rest = [a for a in arguments if not a.startswith("--")]
    with refused(words):
        main([*flags, "--config-file", CONFIG, *SMALL, f"train.output_dir={tmp_path}", *rest])


def test_an_error_of_use_in_a_process_of_its_own(tmp_path):
    done = train_net(*SMALL, f"train.output_dir={tmp_path}", "train.max_itr=1")
    assert done.returncode == 2 and "did you mean train.max_iter" in done.stderr
    assert "Traceback" not in done.stderr


def test_custom_data_without_paths_says_what_to_set(tmp_path, refused):
    config = str(ROOT / "configs" / "Custom" / "mask_rcnn_fast_itpn_nano.py")
    with refused("dataset.train.json=PATH"):
        main(["--config-file", config, f"train.output_dir={tmp_path}"])
