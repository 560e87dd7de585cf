"""What timm's validate, train and benchmark scripts do to a model, and the command that runs them on ours."""

import argparse
import subprocess
import sys
from functools import partial

import pytest
import timm
import torch
from timm.data import Mixup, resolve_data_config
from timm.loss import SoftTargetCrossEntropy
from timm.models import load_checkpoint, resume_checkpoint
from timm.optim import create_optimizer_v2
from timm.utils import CheckpointSaver, ModelEmaV3, NativeScaler, dispatch_clip_grad, reparameterize_model

import itpn_d2
from itpn_d2.checkpoint import load_pretrained
from itpn_d2.timm import main

FAMILIES = ["fast_itpn_nano", "itpn_nano"]
SMALL = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2)
# what the scripts hand on when nothing is asked for
UNSET = dict(num_classes=None, global_pool=None, drop_path_rate=None, drop_block_rate=None, bn_eps=None)

SCRIPT = """
import sys
import beside
import timm
if __name__ == "__main__":
    count = sum(p.numel() for p in timm.create_model(sys.argv[2], num_classes=2).parameters())
    print(sys.argv[1:], beside.WORD, count)
"""


def test_the_command_runs_a_script_as_python_would(tmp_path):
    (tmp_path / "beside.py").write_text("WORD = 'beside'")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "itpn_d2.timm", str(script), "--model", "fast_itpn_nano"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count = sum(p.numel() for p in itpn_d2.create_model("fast_itpn_nano", num_classes=2).parameters())
    assert done.stdout.split("\n")[0] == f"['--model', 'fast_itpn_nano'] beside {count}"


@pytest.mark.parametrize(
    ("arguments", "status"), [([], 2), (["--help"], 0), (["absent.py"], "absent.py: no")]
)
def test_the_command_says_where_the_scripts_are(capsys, arguments, status):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    if isinstance(status, str):
        assert str(caught.value).startswith(status)
    else:
        assert caught.value.code == status and "its repository" in capsys.readouterr().out


@pytest.mark.parametrize("name", FAMILIES)
def test_data_config(name):
    model = timm.create_model(name, scriptable=False, **{**UNSET, **SMALL})
    assert model.num_classes == 1000
    found = resolve_data_config({"crop_pct": None, "interpolation": ""}, model=model, use_test_size=True)
    assert found["input_size"] == (3, 224, 224) and found["interpolation"] == "bicubic"
    assert found["mean"] == (0.485, 0.456, 0.406) and found["crop_pct"] == 0.875
    smaller = resolve_data_config({"img_size": 64, "in_chans": 1, "mean": [0.5], "std": [0.5]}, model=model)
    assert smaller["input_size"] == (1, 64, 64) and smaller["mean"] == (0.5,)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("way", ["plain", "channels_last", "autocast", "bfloat16", "reparameterised"])
def test_validation(name, way):
    """Each way gives the plain logits, as near as its precision allows."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, img_size=64, in_chans=6, **SMALL).eval()
    image = torch.randn(2, 6, 80, 64)  # of another size than the table of positions
    with torch.inference_mode():
        expected = model(image)
    context, tolerance = partial(torch.autocast, "cpu", enabled=False), 1e-6
    if way == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
    elif way == "autocast":
        context, tolerance = partial(torch.autocast, device_type="cpu", dtype=torch.bfloat16), 2e-2
    elif way == "bfloat16":
        model, image, tolerance = model.to(device="cpu", dtype=torch.bfloat16), image.bfloat16(), 2e-2
    elif way == "reparameterised":
        model = reparameterize_model(model)
    with torch.inference_mode(), context():
        found = model(image)
    assert found.shape == (2, 5)
    scale = expected.abs().max()
    torch.testing.assert_close(found.float() / scale, expected / scale, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_training(name, tmp_path):
    """Mixed labels, layer decay, checkpointing, a moving average; its file resumes there and loads here."""
    torch.manual_seed(0)
    create = partial(
        timm.create_model,
        name,
        img_size=32,
        drop_rate=0.1,
        scriptable=False,
        checkpoint_path="",
        **{**UNSET, **SMALL, "num_classes": 4, "drop_path_rate": 0.1},
    )
    model = create()
    with torch.no_grad():  # --head-init-scale
        model.get_classifier().weight.mul_(0.5)
    model.set_grad_checkpointing(enable=True)
    model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.8)
    average = ModelEmaV3(model, decay=0.5)
    mix, loss_of = Mixup(0.8, 1.0, num_classes=4), SoftTargetCrossEntropy()
    first = model.trunk.patch_embed.proj.weight.detach().clone()
    model.train()
    for _ in range(2):
        images, targets = mix(torch.randn(4, 3, 32, 32), torch.randint(4, (4,)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model(images.contiguous(memory_format=torch.channels_last)), targets)
        loss.backward()
        dispatch_clip_grad(timm.models.model_parameters(model, exclude_head=True), 1.0, mode="agc")
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)
    assert not torch.equal(model.trunk.patch_embed.proj.weight, first)

    saver = CheckpointSaver(
        model,
        optimizer,
        args=argparse.Namespace(model=name, lr=1e-3),
        model_ema=average,
        amp_scaler=NativeScaler(device="cpu"),
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(epoch=3, metric=50.0)
    file = str(tmp_path / "model_best.pth.tar")
    resumed = create()
    assert resume_checkpoint(resumed, file, create_optimizer_v2(resumed, "adamw", layer_decay=0.8)) == 4
    weights = {"own": model, "average": average.module}
    for which, of in weights.items():
        theirs = create()
        load_checkpoint(theirs, file, use_ema=which == "average")
        ours = itpn_d2.create_model(name, num_classes=4, pos_grid=(2, 2), **SMALL)
        report = load_pretrained(ours, file, prefer_average=which == "average")
        assert not (report.missing or report.unexpected or report.mismatched)
        for key, value in of.state_dict().items():
            assert torch.equal(theirs.state_dict()[key], value) and torch.equal(ours.state_dict()[key], value)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_of_timms_own_format(name, tmp_path):
    """As its hub has models: a config and safetensors, with classes that may be replaced."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4, img_size=64, **SMALL).eval()
    timm.models.save_for_hf(model, str(tmp_path), model_args={"img_size": 64, **SMALL})
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(image), model(image))
    other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=7).eval()
    assert torch.equal(other.forward_features(image), model.forward_features(image))
    assert other(image).shape == (1, 7)
    grey = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=1).eval()
    kernel = model.trunk.patch_embed.proj.weight.unflatten(1, (3, 16)).sum(1)
    torch.testing.assert_close(grey.trunk.patch_embed.proj.weight, kernel)


def test_counting_operations_and_benchmarking():
    """``global_pool="fast"`` is what an older benchmark.py asks for where nothing is chosen."""
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

    model = timm.create_model("fast_itpn_nano", in_chans=3, scriptable=True, **{**UNSET, **SMALL}).eval()
    image = torch.ones(1, 3, 64, 64)
    small, large = (FlopCountAnalysis(model, image.repeat(n, 1, 1, 1)).total() for n in (1, 2))
    assert small > 0 and large == 2 * small and ActivationCountAnalysis(model, image).total() > 0
