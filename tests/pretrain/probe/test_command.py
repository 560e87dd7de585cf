"""``python -m pretrain.probe`` on a handful of images."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from itpn_d2.backbone import create_model
from pretrain.probe.__main__ import main, parser

ROOT = Path(__file__).resolve().parents[3]
COLOURS = {"blue": (20, 30, 200), "green": (30, 190, 20), "red": (210, 20, 30)}


@pytest.fixture
def places(tmp_path):
    """Folders ``train`` and ``test`` of plain images of three colours, in several shades."""
    for split, shades in (("train", 4), ("test", 2)):
        for name, colour in COLOURS.items():
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(shades):
                shade = tuple(max(0, value - 7 * i) for value in colour)
                Image.new("RGB", (32, 32), shade).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def arguments(places, *more, start=("--random",)):
    common = ["--train", str(places / "train"), "--test", str(places / "test"), "--image-size", "32"]
    return [*start, "--name", "fast_itpn_nano", *common, "--num-workers", "0", "--k", "3", *more]


def probe(places, *more, **options):
    out = places / "out.json"
    assert main(arguments(places, "--device", "cpu", "--json", str(out), *more, **options)) == 0
    return json.loads(out.read_text())


def test_prints_and_writes(places, capsys):
    result = probe(places)
    text = capsys.readouterr().out
    assert "12 training and 6 test images" in text and "random weights: f3 at 32 pixels" in text
    assert "k-NN, k = 3" in text and f"{result['knn']['top1']:.2f}" in text
    assert result["classes"] == 3 and result["sources"]["test"]["images"] == 6
    assert result["largest_class"]["top1"] == pytest.approx(100 / 3)
    # plain colours are told apart by random weights, too
    assert result["knn"]["top1"] == result["linear"]["top1"] == 100.0
    assert probe(places) == result


def test_a_classifiers_config_says_what_to_probe(places, tmp_path, refused):
    config = ["--config-file", str(ROOT / "configs" / "Custom" / "linear_probe_fast_itpn_nano.py")]
    options = ["--num-workers", "0", "--k", "3", "--device", "cpu", "--json", str(places / "out.json")]
    opts = ["--opts", *(f"dataset.{a}.images={places / b}" for a, b in (("train", "train"), ("val", "test")))]
    assert main([*config, "--random", *options, *opts, "dataloader.image.size=32"]) == 0
    assert json.loads((places / "out.json").read_text()) == probe(places)
    weights = tmp_path / "weights.pth"
    torch.save({"model": create_model("fast_itpn_nano").state_dict()}, weights)
    assert (
        main([*config, *options, *opts, "dataloader.image.size=32", f"train.init_checkpoint={weights}"]) == 0
    )
    assert json.loads((places / "out.json").read_text())["weights"] == str(weights)
    with refused("gives no images: add --opts dataset.val.images=IMAGES"):
        main([*config, "--random", *opts[:2]])
    detector = str(ROOT / "configs" / "Custom" / "mask_rcnn_fast_itpn_nano.py")
    with refused("model.network.name is missing"):
        main(["--config-file", detector, "--random"])


def test_reads_lists(places):
    expected = probe(places)
    for split in ("train", "test"):
        files = sorted((places / split).rglob("*.png"))
        lines = [f"{file.relative_to(places)},{file.parent.name}\n" for file in files]
        (places / f"{split}.csv").write_text("path,label\n" + "".join(lines))
    lists = ["--train", str(places / "train.csv"), "--test", str(places / "test.csv")]
    found = probe(places, *lists, "--root", str(places))
    assert found["knn"] == expected["knn"] and found["linear"] == expected["linear"]


def test_test_set_may_lack_classes(places, refused):
    for file in (places / "test" / "blue").iterdir():
        file.unlink()
    (places / "test" / "blue").rmdir()
    result = probe(places)  # green is class 0 there, and class 1 in training
    assert result["knn"]["top1"] == 100.0 and result["sources"]["test"]["images"] == 4
    (places / "test" / "green").rename(places / "test" / "violet")
    with refused("class violet has no training image"):
        main(arguments(places))


def test_loads_weights(places, refused):
    torch.manual_seed(3)
    path = places / "weights.pt"
    torch.save({"model": create_model("fast_itpn_nano", pyramid=True).state_dict()}, path)
    for level in ("f3", "p2"):
        result = probe(places, "--level", level, start=("--weights", str(path)))
        assert result["weights"] == str(path) and result["level"] == level
    torch.save(create_model("fast_itpn_nano").state_dict(), path)
    with refused("its pyramid is missing or incomplete; choose --level f3"):
        main(arguments(places, "--level", "p2", start=("--weights", str(path))))


@pytest.mark.parametrize(
    "more, message",
    [
        (("--train", "/nowhere"), "Error: /nowhere: no such folder"),
        (("--name", "none"), "Error: unknown variant 'none'"),
        (("--image-size", "0"), "Error: size=0"),
    ],
)
def test_errors_are_one_line(places, refused, more, message):
    with refused(message):
        main(arguments(places, *more))


def test_weights_or_random(places, refused):
    for start in ((), ("--random", "--weights", "x")):
        with pytest.raises(SystemExit):
            parser().parse_args(arguments(places, start=start))
    with refused("/nowhere.pt: no such file"):
        main(arguments(places, start=("--weights", "/nowhere.pt")))
