"""The calibration: what is tried, measured once and kept, drawn and chosen."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate

import calibrate
from calibration import measure as calibrate_measure
from calibration.grid import DENSE, Acceleration, build_grid, combine, default_windows, numbers
from calibration.measure import Options, accelerate, learned_parameters, twin_of
from calibration.report import Point, command, fastest, front, overrides, points
from itpn_d2 import create_model
from itpn_d2.engine import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "Quickstart" / "mask_rcnn_fast_itpn_nano.py")
YACS = str(next((ROOT / "configs").rglob("*.yaml")))
SMALL = [
    "dataset.train.num_images=2",
    "dataset.val.num_images=5",
    "dataset.train.size=64",
    "dataset.val.size=64",
    "dataloader.image.test_short_side=64",
    "model.backbone.depths=[1,1,4]",
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
    "model.roi_heads.box_predictor.test_topk_per_image=5",
    "model.proposal_generator.post_nms_topk=[20,20]",
    "train.amp.dtype=fp32",
]
FEW = ["--samples", "1", "--rounds", "2", "--images", "2"]
GRID = ["--keep", "0.5", "1", "0.5,0.6", "--at", "0.5", "--windows", "2", "9", "--tokens", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file of weights, made with gathering tokens whose offset is not zero."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITPN_D2_CACHE", str(folder / "cache"))
        cfg = load_config(CONFIG, [*SMALL, "model.backbone.gathering={window: 2, tokens: 4}"])
        cfg.dataset.num_classes = 5
        torch.manual_seed(0)
        model = instantiate(cfg.model)
        torch.nn.init.normal_(model.backbone.trunk.gathering.offset)
        torch.save({"model": model.state_dict()}, folder / "model.pth")
        yield folder / "model.pth"


def run(trained, folder, *more):
    found = calibrate.parse(
        [
            "--config-file",
            CONFIG,
            "--output",
            str(folder),
            *SMALL,
            f"train.init_checkpoint={trained}",
            *FEW,
            *GRID,
            *more,
        ]
    )
    return calibrate.calibrate(found)


def rows(folder):
    return {
        calibrate._setting(row["setting"]): row
        for row in json.loads((folder / "calibration.json").read_text())["results"]
    }


def test_grid_says_what_is_not_tried():
    keep, at = [(0.5,), (1.0,), (0.5, 0.6)], [(0.25, 0.3), (0.5,), (0.55,)]
    grid = build_grid(6, (4, 5), keep, at, [2, 4, 5], [0, 4])
    names = [s.name for s in grid.settings]
    assert names == ["keep 0.5 at 0.5", *(f"window {w}, {t} tokens" for w in (2, 4) for t in (0, 4))]
    reasons = grid.skipped
    assert "two drops before one block of 6" in reasons["keep 0.5/0.5 at 0.25/0.3"]
    assert "that is dense" in reasons["keep 1 at 0.5"]
    assert "2 keep ratios for 1 drops" in reasons["keep 0.5/0.6 at 0.5"]
    assert "same blocks as keep 0.5 at 0.5" in reasons["keep 0.5 at 0.55"]
    assert "covers the map of 4x5 tokens" in reasons["window 5, 4 tokens"]
    both = list(combine(grid.of("migration"), grid.of("gathering")))
    assert len(both) == 4 and all(s.kind == "both" for s in both)
    assert both[0].name == "keep 0.5 at 0.5 + window 2, 0 tokens"


@pytest.mark.parametrize(
    ("grid", "windows"),
    [((8, 8), [4, 7]), ((14, 14), [4, 7]), ((32, 32), [7, 14, 16, 28]), ((50, 84), [14, 16, 28, 32])],
)
def test_default_windows_cut_the_map(grid, windows):
    assert default_windows(grid) == windows


def test_twins_share_weights_and_nothing_else():
    model = create_model("fast_itpn_nano", pyramid=True).eval()
    twin = twin_of(model)
    assert [id(p) for p in model.parameters()] == [id(p) for p in twin.parameters()]
    twin.trunk.accelerate(migration={"keep": 0.5})
    image = torch.randn(1, 3, 64, 96)
    assert model.trunk.migration is None
    assert not torch.equal(model(image)["p4"], twin(image)["p4"])


def test_learned_parameters_are_used_where_they_fit():
    trunk = create_model("fast_itpn_nano", depths=(1, 1, 4), migration={"metric": "norm"})
    options = Options.of(trunk)
    learned = {
        "gathering.offset": torch.randn(4, 192),
        "migration.scale": torch.full((1, 192), 2.0),
        "migration.shift": torch.ones(1, 192),
    }
    setting = Acceleration((0.5,), (0.5,), 2, 4)
    complete = options.complete(setting, learned)
    assert complete["migration"] == {"metric": "norm", "keep": [0.5], "at": [0.5], "affine": True}
    assert accelerate(trunk, complete, learned) == []
    assert torch.equal(trunk.gathering.offset, learned["gathering.offset"])
    assert torch.equal(trunk.migration.scale, learned["migration.scale"])
    other = options.complete(Acceleration((0.5, 0.5), (0.25, 0.5), 2, 3), learned)
    assert accelerate(trunk, other, learned) == ["gathering.offset"]
    assert trunk.migration.scale is None and not trunk.gathering.offset.any()
    accelerate(trunk, options.complete(DENSE, learned), learned)
    assert trunk.migration is None and trunk.gathering is None


def point(name, score, latency):
    setting = DENSE if name == "dense" else Acceleration((name,), (0.5,))
    return Point(setting, score, {"model": 10 / latency}, {"model": latency})


def test_front_and_choice():
    dense, a, b, c, bad = (
        point(*row)
        for row in (
            ("dense", 40.0, 10.0),
            (0.9, 40.2, 8.0),
            (0.7, 39.6, 6.0),
            (0.5, 37.0, 5.0),
            (0.6, 36.0, 7.0),
        )
    )
    undefined = point(0.1, float("nan"), 1.0)
    found = [dense, a, b, c, bad, undefined]
    assert front(found) == [c, b, a]
    assert [fastest(found, loss) for loss in (0, 0.5, 3, 100)] == [a, b, c, c]
    assert fastest([dense, c], 0.5) == dense
    with pytest.raises(ValueError, match="choose another --metric"):
        fastest([point("dense", float("nan"), 1.0)], 1)


def result(ratio, score=1.0, dense=2.0):
    seconds = {"value": ratio, "seconds": [[dense], [dense / ratio]]}
    return {"metrics": {"AP": score}, "latency": {"backbone": seconds, "model": seconds}}


def test_latency_trusts_the_ratios_of_pairs():
    """A machine that was slower while one setting was timed does not count against it."""
    slow = Acceleration((0.5,), (0.5,))
    found = points(
        {
            slow: result(2.0, dense=20.0),
            DENSE: result(1.1),
            Acceleration(window=2): result(1.0),
            Acceleration(window=3): {"reason": "no"},
        },
        "AP",
    )
    assert [p.setting for p in found] == [DENSE, slow, Acceleration(window=2)]
    assert found[0].speed["model"] == 1 and found[0].latency["model"] == 2.0
    assert found[1].latency["model"] == 1.0


@pytest.mark.parametrize("before", [[], ["model.backbone.migration={metric: norm}"]])
@pytest.mark.parametrize(
    "setting",
    [Acceleration((0.5, 0.75), (0.25, 0.5)), Acceleration(window=3, tokens=2), DENSE],
    ids=lambda s: s.name,
)
def test_overrides_build_the_setting(before, setting):
    small = ["model.backbone.depths=[1,1,4]"]
    here = instantiate(load_config(CONFIG, [*small, *before]).model.backbone)
    options = Options.of(here.trunk)
    complete = options.complete(setting, {})
    more = overrides(complete, {"migration": bool(options.migration), "gathering": False}, yacs=False)
    trunk = instantiate(load_config(CONFIG, [*small, *before, *more]).model.backbone).trunk
    here.trunk.accelerate(**complete)
    assert str(trunk.migration) == str(here.trunk.migration)
    assert str(trunk.gathering) == str(here.trunk.gathering)
    assert (more == []) == (setting == DENSE and not before)
    text = command("f.py", "w.pth", ["a=1"], more)
    assert text.startswith("python train_net.py --config-file f.py --eval-only a=1")
    assert text.endswith("train.init_checkpoint=w.pth")


def test_yacs_overrides_build_the_setting():
    complete = Options({}, {}).complete(Acceleration((0.5, 0.75), (0.25, 0.5), 3, 2), {})
    more = overrides(complete, {"migration": False, "gathering": False}, yacs=True)
    trunk = instantiate(load_config(YACS, more).model).backbone.trunk
    assert trunk.migration.ratios == (0.5, 0.75)
    assert (trunk.gathering.window, trunk.gathering.tokens) == (3, 2)
    off = {"migration": None, "gathering": None}
    assert overrides(off, {"migration": True, "gathering": False}, True) == [
        "MODEL.ITPN.MIGRATION.ENABLED=False"
    ]


def test_a_whole_calibration(trained, tmp_path, capsys, monkeypatch):
    seen = []
    original = calibrate_measure.evaluate_once

    def noting(cfg, model, *rest):
        trunk = model.backbone.trunk
        offset = None if trunk.gathering is None else trunk.gathering.offset.clone()
        seen.append((trunk.migration, offset))
        if trunk.migration is not None and trunk.gathering is None:
            raise RuntimeError("out of\nmemory")
        return original(cfg, model, *rest)

    monkeypatch.setattr(calibrate_measure, "evaluate_once", noting)
    best = run(trained, tmp_path, "--combine", "all")
    results = rows(tmp_path)
    assert [s.kind for s in results] == ["dense", "migration", "gathering", "both"]
    failed = results[Acceleration((0.5,), (0.5,))]
    assert failed["reason"] == "RuntimeError: out of memory"
    learned = learned_parameters(str(trained))["gathering.offset"]
    assert [offset is None or torch.equal(offset, learned) for _, offset in seen] == [True] * 4
    for row in results.values():
        if "reason" not in row:
            assert {"bbox/AP", "segm/AP"} <= row["metrics"].keys()
            assert len(row["latency"]["model"]["seconds"][0]) == 2
    assert best.setting in results
    text = capsys.readouterr().out
    assert "keep 1 at 0.5: not tried, keeps every token" in text
    assert "window 9, 4 tokens: not tried, a window covers the map of 4x4 tokens" in text
    assert "Fastest within 0.5 segm/AP of dense" in text
    table = (tmp_path / "calibration.md").read_text()
    assert "- keep 0.5 at 0.5: RuntimeError: out of memory" in table and "2 images" in table
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*partial*"))

    # the same again: only what failed is done again
    seen.clear()
    monkeypatch.setattr(
        calibrate_measure,
        "evaluate_once",
        lambda cfg, model, *rest: seen.append(model.backbone.trunk.migration) or original(cfg, model, *rest),
    )
    run(trained, tmp_path, "--combine", "all", "--max-loss", "100", "--by", "backbone")
    assert len(seen) == 1 and seen[0] is not None
    assert all("reason" not in row for row in rows(tmp_path).values())


def test_what_was_measured_otherwise_is_not_mixed(tmp_path):
    path, setting = tmp_path / "calibration.json", Acceleration((0.5,), (0.5,), 2, 4)
    journal = calibrate.Journal(path, {"images": 3})
    journal.add(setting, result(2.0))
    again = calibrate.Journal(path, {"images": 3})
    assert again.results == {setting: result(2.0)} and again.done(setting)
    with pytest.raises(calibrate.ConfigError, match="images: 3 there and 4 here.*--fresh"):
        calibrate.Journal(path, {"images": 4})
    path.write_text("[1]")
    with pytest.raises(calibrate.ConfigError, match="not written by this tool"):
        calibrate.Journal(path, {})


def test_both_are_made_of_what_is_on_the_front():
    args = calibrate.parse(["--config-file", "f"])
    keep = [Acceleration((k,), (0.5,)) for k in (0.9, 0.7)]
    windows = [Acceleration(window=w, tokens=4) for w in (2, 3)]
    grid = build_grid(4, (8, 8), [k.keep for k in keep], [(0.5,)], [2, 3], [4])
    results = {
        DENSE: result(1, 40),
        keep[0]: result(1.1, 35),
        keep[1]: result(1.4, 39),
        windows[0]: result(2, 39),
        windows[1]: {"reason": "failed"},
    }
    assert calibrate.combinations(args, grid, results, "AP") == list(combine([keep[1]], [windows[0]]))
    args.combine = "none"
    assert calibrate.combinations(args, grid, results, "AP") == []


def test_arguments():
    given = ["--config-file", "f", "--keep", "0.5", "0.7,0.6", "a.b=1", "--windows", "2", "c=[1, 2]"]
    args = calibrate.parse(given)
    assert args.keep == [(0.5,), (0.7, 0.6)] and args.windows == [2] and args.opts == ["a.b=1", "c=[1, 2]"]
    assert numbers("0.5,1") == (0.5, 1.0)
    for wrong in (["stray"], ["--rounds", "0"], ["--keep", "half"]):
        with pytest.raises(SystemExit):
            calibrate.parse(["--config-file", "f", *wrong])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "calibration needs weights: train.init_checkpoint=FILE"),
        (["train.init_checkpoint={trained}", "--metric", "segm/Ap"], "--metric segm/Ap: not measured"),
    ],
)
def test_errors_are_one_line(trained, tmp_path, more, words, refused):
    more = [m.format(trained=trained) for m in more]
    with refused(words):
        calibrate.main(["--config-file", CONFIG, "--output", str(tmp_path), *SMALL, *FEW, *GRID, *more])
