"""The comparison of starting points: what is run, in which order, and what the table says."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import transfer
from itpn_d2.backbone import create_model
from itpn_d2.checkpoint import load_pretrained

SIZES = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2, fpn_dim=16, pyramid=True, pos_grid=(4, 4))


class Ended:
    """A process that has ended."""

    def __init__(self, status):
        self.status = status

    def wait(self):
        return self.status


@pytest.fixture
def commands(monkeypatch):
    """Instead of a run: note the command and leave what it would have left."""
    seen = []

    def fake(command, cwd, env, stdout, stderr):
        text = " ".join(command)
        seen.append(text)
        folder = Path(next(c for c in command if c.startswith("train.output_dir=")).split("=", 1)[1])
        if "-m pretrain" in text:
            torch.manual_seed(0)
            backbone = create_model("fast_itpn_nano", **SIZES)
            state = {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
            torch.save({"model": state, "pretraining": {}}, folder / "model_final.pth")
        (folder / "model_final.pth").touch()
        final = 20.0 if command[-1] == "train.init_checkpoint=" else 30.0
        lines = [{"iteration": i, "segm/AP": final * (i + 1) / 100} for i in (49, 99)]
        (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
        (folder / "results.json").write_text(json.dumps({"segm/AP": final + ("seed=2" in text)}))
        return Ended(0)

    monkeypatch.setattr(transfer.subprocess, "Popen", fake)
    return seen


def test_every_arm_and_seed_once(commands, tmp_path, capsys):
    arguments = ["--output", str(tmp_path), "--seeds", "1", "2", "--arms", "none", "trunk", "pixel"]
    options = ["--finetune", "train.max_iter=100", "--pretrain", "train.epochs=3"]
    assert transfer.main([*arguments, *options]) == 0
    assert len(commands) == 2 * (1 + 3)
    assert all("train.epochs=3" in c for c in commands if "-m pretrain" in c)
    assert all("train.max_iter=100" in c for c in commands if "train_net.py" in c)
    table = capsys.readouterr().out
    assert "| from scratch | 20.5 | 0.7 | 20.0, 21.0 |" in table
    assert "| trunk and pyramid (pixels) | 30.5 |" in table
    assert (tmp_path / "transfer.png").stat().st_size > 5000
    before = len(commands)
    transfer.main([*arguments, *options])
    assert len(commands) == before  # nothing is done twice
    with pytest.raises(SystemExit):
        transfer.main([*arguments, "--finetune", "train.max_iter=200", "--pretrain", "train.epochs=3"])
    assert "none_1: holds the results of another command" in capsys.readouterr().err


def test_the_trunk_alone_has_no_pyramid(commands, tmp_path):
    transfer.main(["--output", str(tmp_path), "--seeds", "1", "--arms", "trunk"])
    path = tmp_path / "trunk_1.safetensors"
    assert {k.split(".")[0] for k in load_file(path)} == {"trunk"}
    assert f"train.init_checkpoint={path}" in commands[-1]
    report = load_pretrained(create_model("fast_itpn_nano", **SIZES), path)
    assert report.missing and all(k.startswith("pyramid.") for k in report.missing)


def test_a_given_checkpoint_is_not_pre_trained(commands, tmp_path, capsys):
    file = tmp_path / "given.pth"
    backbone = create_model("fast_itpn_nano", **SIZES)
    torch.save({"model": {f"backbone.{k}": v for k, v in backbone.state_dict().items()}}, file)
    arguments = ["--output", str(tmp_path / "out"), "--seeds", "1", "2", "--checkpoint", str(file)]
    transfer.main([*arguments, "--arms", "none", "trunk", "pixel"])
    starts = sorted(command.rpartition("train.init_checkpoint=")[2] for command in commands)
    trunks = [str(tmp_path / "out" / f"trunk_{seed}.safetensors") for seed in (1, 2)]
    assert starts == sorted(["", "", str(file), str(file), *trunks])
    with pytest.raises(SystemExit):
        transfer.main([*arguments, "--arms", "mfm"])
    assert "--arms may only be none, trunk and pixel" in capsys.readouterr().err


ONE = ["--seeds", "1", "--arms", "none"]


def test_a_failed_run_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(transfer.subprocess, "Popen", lambda *a, **k: Ended(3))
    with pytest.raises(SystemExit) as ended:
        transfer.main(["--output", str(tmp_path), *ONE])
    text = capsys.readouterr().err
    assert ended.value.code == 2 and "exit status 3; its log is in" in text and "none_1" in text


def test_a_run_that_was_stopped_is_not_a_result(commands, monkeypatch, tmp_path, capsys):
    """results.json is there since the first evaluation, and a signal ends a run with status 0."""
    whole = transfer.subprocess.Popen

    def stopped(command, **options):
        done = whole(command, **options)
        (tmp_path / "none_1" / "model_final.pth").unlink()
        return done

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(transfer.subprocess, "Popen", stopped)
        transfer.main(["--output", str(tmp_path), *ONE])
    assert "stopped before its end" in capsys.readouterr().err
    assert transfer.main(["--output", str(tmp_path), *ONE]) == 0
    assert len(commands) == 2 and "--resume" in commands[1]


def test_an_interruption_keeps_what_is_there(monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "run", lambda *_: None)
    monkeypatch.setattr(transfer, "watch", interrupted)
    assert transfer.main(["--output", str(tmp_path), *ONE]) == 130
    assert "the same command goes on" in capsys.readouterr().err and not list(tmp_path.glob("transfer.*"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_request_to_stop_reaches_the_run(monkeypatch, tmp_path, capsys):
    """SIGTERM to this process alone; the run here ends as one that has saved does."""
    program = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); print(flush=True);"
    )
    started, processes = transfer.subprocess.Popen, []

    def sleeping(command, **options):
        options["stdout"] = transfer.subprocess.PIPE
        processes.append(started([command[0], "-c", program + "time.sleep(60)"], **options))
        processes[-1].stdout.readline()
        os.kill(os.getpid(), signal.SIGTERM)
        return processes[-1]

    monkeypatch.setattr(transfer.subprocess, "Popen", sleeping)
    assert transfer.main(["--output", str(tmp_path), *ONE]) == 130
    assert [process.wait(30) for process in processes] == [0]
    assert "the same command goes on" in capsys.readouterr().err


def test_where_the_runs_are_is_said(commands, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(transfer, "_LOOK", 0.05)
    monkeypatch.setattr(Ended, "wait", lambda self: time.sleep(0.6) or self.status)
    transfer.main(["--output", str(tmp_path), *ONE, "--parallel", "2"])
    assert "none_1: iteration 100" in capsys.readouterr().err


def test_runs_side_by_side_keep_their_output_apart(commands, tmp_path):
    arguments = ["--output", str(tmp_path), "--seeds", "1", "--arms", "none", "pixel"]
    transfer.main([*arguments, "--parallel", "2"])
    folders = {p.parent.name for p in tmp_path.glob("*/stdout.txt")}
    assert folders == {"none_1", "pixel_1", "pretrain_pixel_1"}
    assert "| from scratch | 20.0 | - | 20.0 |" in (tmp_path / "transfer.md").read_text()
