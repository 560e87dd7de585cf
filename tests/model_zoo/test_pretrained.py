"""Models as folders and as repositories of the hub; descriptions that somebody else has written."""

import json
import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from itpn_d2 import Predictor, create_model, model_zoo
from itpn_d2.errors import CheckpointError, ZooError
from itpn_d2.model_zoo import Card

MICRO = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2)
KINDS = {
    "trunk": dict(drop_path=0.1, pos_grid=(3, 3)),
    "backbone": dict(pyramid=True, fpn_dim=24, out_features=("p2", "p3", "p4"), freeze_at=2),
    "classifier": dict(num_classes=6, pooling="norm_then_mean"),
}
CONFIG = "Quickstart/mask_rcnn_fast_itpn_nano"


def same(model, other):
    state = other.state_dict()
    return model.state_dict().keys() == state.keys() and all(
        torch.equal(v, state[k]) for k, v in model.state_dict().items()
    )


def built(kind, seed=0):
    torch.manual_seed(seed)
    return create_model("fast_itpn_nano", **{**MICRO, **KINDS[kind]})


@pytest.fixture
def folder(tmp_path):
    return model_zoo.save_pretrained(built("backbone"), tmp_path / "backbone")


def changed(folder, change):
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind, tmp_path):
    model = built(kind)
    card = Card("apache-2.0", "Title", "generated scenes", {"top-1": 12.345})
    folder = model_zoo.save_pretrained(model, tmp_path / kind, card)
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again = model_zoo.from_pretrained(folder)
    assert type(again) is type(model) and same(again, model)
    text = (folder / "README.md").read_text()
    for words in ('license: "apache-2.0"', "generated scenes", "**top-1:** 12.3", "from_pretrained"):
        assert words in text
    assert "_target_" not in (folder / "config.json").read_text()
    direct = create_model("fast_itpn_nano", **MICRO, **KINDS[kind], weights=folder / "model.safetensors")
    assert same(direct, model)


def test_half_precision_and_other_arguments(tmp_path):
    model = built("trunk")
    folder = model_zoo.save_pretrained(model, tmp_path, dtype=torch.float16)
    assert {v.dtype for v in load_file(folder / "model.safetensors").values()} == {torch.float16}
    again = model_zoo.from_pretrained(folder, pos_grid=(5, 4))
    assert again.pos_embed.shape[1:3] == (5, 4) and again.pos_embed.dtype == torch.float32
    assert torch.allclose(again.stage3[0].norm1.weight, model.stage3[0].norm1.weight, atol=1e-3)


def test_what_no_arguments_describe(tmp_path):
    model = built("classifier")
    model.reset_classifier(3)
    with pytest.raises(ZooError, match="has been changed"):
        model_zoo.save_pretrained(model, tmp_path)
    with pytest.raises(ZooError, match="not built by itpn_d2.create_model"):
        model_zoo.save_pretrained(built("backbone").trunk, tmp_path)
    with pytest.raises(ZooError, match="Linear is not a trunk"):
        model_zoo.save_pretrained(torch.nn.Linear(1, 1), tmp_path)
    broken = built("trunk")
    broken.pos_embed.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ZooError, match="NaN"):
        model_zoo.save_pretrained(broken, tmp_path)
    large = built("trunk")
    large.pos_embed.data[0, 0, 0, 0] = 1e6
    with pytest.raises(ZooError, match="beyond the range of float16"):
        model_zoo.save_pretrained(large, tmp_path, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(library="timm"), "its library is 'timm'"),
        (lambda c: c.update(format=99), "format 99"),
        (lambda c: c.update(kind="spell"), "'spell'"),
        (lambda c: c.update(_target_="os.system"), "unknown key '_target_'"),
        (lambda c: c.update(arguments=[1]), "arguments is .1., not a mapping"),
        (lambda c: c["arguments"].update(name="../../x"), "arguments.name='../../x'"),
        (lambda c: c["arguments"].update(name=["fast_itpn_nano"]), "arguments.name"),
        (lambda c: c["arguments"].update(_target_="os.system"), "no '_target_'"),
        (lambda c: c["arguments"].update(weights="https://x/y"), "no 'weights'"),
        (lambda c: c["arguments"].update(trunk="x"), "no 'trunk'"),
        (lambda c: c["arguments"].update(depths=[10**9, 1, 1]), "arguments.depths=1000000000 is beyond"),
        (lambda c: c["arguments"].update(depths=[1, 1]), "arguments.depths=.* wrong type"),
        (lambda c: c["arguments"].update(channels=[30000, 60000, 60000]), "another model than|no such"),
        (lambda c: c["arguments"].update(channels=[8, 16, "x"]), "channels=.* wrong type"),
        (lambda c: c["arguments"].update(mask_padding="false"), "mask_padding='false' has a wrong type"),
        (lambda c: c["arguments"].update(fpn_dim=True), "fpn_dim=True has a wrong type"),
        (lambda c: c["arguments"].update(freeze_at={"a": 1}), "freeze_at=.* wrong type"),
        (lambda c: c["arguments"].update(out_features=["p2", "$(rm)"]), "not a plain word"),
        (lambda c: c["arguments"].update(out_features=["p9"]), "no such backbone can be built"),
        (lambda c: c["arguments"].update(migration={"_target_": "os.system"}), "no such backbone|beyond"),
        (lambda c: c["arguments"].update(fpn_dim=32), "than the one in model.safetensors"),
        (lambda c: c["arguments"].update(pyramid=False), "arguments has no 'fpn_dim'"),
        (lambda c: c.update(kind="trunk"), "not those of a trunk"),
    ],
)
def test_descriptions_of_others(change, words, folder):
    with pytest.raises(ZooError, match=words) as caught:
        model_zoo.from_pretrained(changed(folder, change))
    assert "config.json" in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"library": NaN}', "[" * 100_000, '"' + "x" * (5 << 20) + '"', "\xff\xfe"]
)
def test_files_that_are_no_description(text, folder):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ZooError, match="config.json: "):
        model_zoo.from_pretrained(folder)


def test_folders_and_names_that_are_none(tmp_path, folder):
    for name in ("org/name/more", "name", "../x/y", "org/name@a/b"):
        with pytest.raises(ZooError, match="not org/name of the hub"):
            model_zoo.from_pretrained(name)
    with pytest.raises(ZooError, match="has no config.json"):
        model_zoo.from_pretrained(tmp_path)
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="model.safetensors: not a complete"):
        model_zoo.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ZooError, match="has no model.safetensors"):
        model_zoo.from_pretrained(folder)


def test_from_the_hub(folder, cache):
    """Placed by hand, as without network; the client's own ways: test_hub_server.py."""
    for name in ("org/name", "org/name@v1"):
        shutil.copytree(folder, cache / "hub" / name)
        assert same(model_zoo.from_pretrained(name), built("backbone"))
    for page in (
        "hf://org/name",
        "https://huggingface.co/org/name",
        "https://huggingface.co/org/name/tree/v1",
    ):
        assert same(model_zoo.from_pretrained(page), built("backbone"))
    with pytest.raises(ZooError, match="hf://org/other/config.json"):
        model_zoo.from_pretrained("org/other")


@pytest.fixture
def hub(cache, monkeypatch):
    """Sends to the hub go where files are placed by hand."""
    sent = {}

    def create(self, repo_id, private, exist_ok):
        sent[repo_id] = private
        return f"https://hub/{repo_id}"

    def upload(self, repo_id, folder_path, allow_patterns):
        shutil.copytree(folder_path, cache / "hub" / repo_id, dirs_exist_ok=True)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    return sent


def test_to_the_hub_and_back(hub, cache, monkeypatch):
    model = built("classifier")
    assert model_zoo.push_to_hub(model, "org/new", private=True) == "https://hub/org/new"
    assert hub == {"org/new": True} and same(model_zoo.from_pretrained("org/new"), model)
    assert 'from_pretrained("org/new")' in (cache / "hub/org/new/README.md").read_text()
    with pytest.raises(ZooError, match="write org/name"):
        model_zoo.push_to_hub(model, "new")

    def refuse(self, *args, **kwargs):
        raise PermissionError("401 Client Error")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(ZooError, match="org/new: can't be sent to the hub .401"):
        model_zoo.push_to_hub(model, "org/new")


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor(trained / "config.yaml", trained / "model_final.pth", "cpu")


@pytest.fixture
def detector(predictor, tmp_path):
    return predictor.save_pretrained(tmp_path / "detector", Card("mit"), config=CONFIG)


def test_a_detector_there_and_back(predictor, detector, hub, monkeypatch):
    content = json.loads((detector / "config.json").read_text())
    assert content["config"] == CONFIG and content["dataset"]["class_names"][0] == "disc"
    assert content["overrides"]["model.backbone.channels"] == [8, 16, 32]
    assert "_target_" not in json.dumps(content)
    again = Predictor.from_pretrained(detector, device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    found, expected = again(image)["instances"], predictor(image)["instances"]
    assert torch.equal(found.scores, expected.scores) and len(found) == 5
    assert again.metadata.thing_classes == predictor.metadata.thing_classes
    again.push_to_hub("org/detector")  # it remembers its config
    assert same(Predictor.from_pretrained("org/detector", "cpu").model, predictor.model)
    with pytest.raises(ZooError, match="a detector: load it with Predictor.from_pretrained"):
        model_zoo.from_pretrained(detector)
    with pytest.raises(ZooError, match="is not a config of this project"):
        predictor.save_pretrained(detector)


def test_backbones_are_no_detectors(folder):
    with pytest.raises(ZooError, match="a backbone: load it with model_zoo.from_pretrained"):
        Predictor.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(config="../configs/x"), "not a config of this project"),
        (lambda c: c.update(config="/etc/passwd"), "not a config of this project"),
        (lambda c: c.update(config="common/train"), "not a config of this project"),
        (lambda c: c.update(config=""), "not a config of this project"),
        (lambda c: c.update(config=CONFIG + ".py"), "write 'Quickstart"),
        (
            lambda c: c.update(config="Quickstart/retinanet_fast_itpn_nano"),
            "overrides.model.* no such setting",
        ),
        (lambda c: c["overrides"].update({"model._target_": "os.system"}), "model._target_"),
        (lambda c: c["overrides"].update({"model.backbone._target_": "x"}), "may set values below model"),
        (lambda c: c["overrides"].update({"model.backbone": {"_target_": "x"}}), "by plain data"),
        (lambda c: c["overrides"].update({"model.backbone.fpn_dim": "${oc.env:HOME}"}), "not a plain word"),
        (lambda c: c["overrides"].update({"model.backbone.weights": "x"}), "no such setting"),
        (lambda c: c["overrides"].update({"train.output_dir": "x"}), "may set values below model"),
        (lambda c: c["overrides"].update({"model.none.x": 1}), "no such setting"),
        (lambda c: c["overrides"].update({"model.pixel_mean": [1e99]}), "beyond"),
        (lambda c: c["dataset"].update(class_names=["a"]), "1 class_names, and num_classes=5"),
        (lambda c: c["dataset"].update(class_names=["a\nb"] * 5), "not a plain word"),
        (lambda c: c["dataset"].update(class_names="abcde"), "not a list of names"),
        (lambda c: c["dataset"].update(num_classes=True), "not a number"),
        (lambda c: c["dataset"].update(num_classes=-1), "more than any model has"),
        (lambda c: c["dataset"].update(train={"_target_": "x"}), "dataset has no 'train'"),
        (lambda c: c["dataset"].update(num_classes=7, class_names=["a"] * 7), "describes another model"),
        (lambda c: c["dataset"].pop("num_classes"), "num_classes is missing"),
    ],
)
def test_descriptions_of_detectors_of_others(change, words, detector):
    with pytest.raises(ZooError, match=words):
        Predictor.from_pretrained(changed(detector, change), "cpu")


def test_a_detector_that_data_cannot_describe(predictor, tmp_path):
    with pytest.raises(ZooError, match="differs from the config of this project"):
        predictor.save_pretrained(tmp_path / "x", config="Quickstart/retinanet_fast_itpn_nano")
