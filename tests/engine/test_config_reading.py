"""Config files that can't be used, and those that would do more than describe a run."""

import re
import time
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from itpn_d2.engine import load_config
from itpn_d2.engine.config import save_config
from itpn_d2.errors import ConfigError
from itpn_d2.lazy.targets import find, find_harmless
from itpn_d2.lazy.texts import Texts

SOURCES = ("coco_images", "hf_images", "image_folder", "image_shards", "scenes", "text_list")
ROOT = Path(__file__).resolve().parents[2] / "configs"
QUICKSTART = ROOT / "Quickstart" / "mask_rcnn_fast_itpn_nano.py"
YACS = ROOT / "yacs" / "mask_rcnn_fast_itpn_tiny_1x.yaml"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + BOMB.partition("\n")[2].replace("[", "{<<: [").replace("]", "]}")
BROKEN = {
    "syntax.py": ("train = dict(\nmodel = 5 5\n", r"syntax.py:\d.*SyntaxError"),
    "imports.py": ("\nimport not_there_at_all\n", "imports.py:2.*not_there_at_all"),
    "raises.py": ("def f():\n    raise RuntimeError('boom')\nf()\n", "raises.py:2.*boom"),
    "relative.py": ("from .nothing import model\n", "relative.py:1.*nothing"),
    "itself.py": ("from .itself import model\n", "itself.py:1.*ecursion"),
    "latin.py": (b"# \xff\xe9\n", "latin.py.*UnicodeDecodeError"),
    "zero.py": (b"x = 1\0", "zero.py"),
    "nothing.py": ("x = 5\n", "section model, dataset"),
    "typo.py": ("optimzer = dict(a=1)\nmodel = dict(b=2)\n", "did you mean optimizer"),
    "config.json": ("{}", "LazyConfig"),
    "empty.yaml": ("", "empty"),
    "list.yaml": ("[1, 2]", "list"),
    "text.yaml": ("hello", "str"),
    "latin.yaml": (b"a: \xff\xe9", "latin.yaml.*UTF-8"),
    "broken.yaml": ("a: [1\nb: 2", r"broken.yaml:\d"),
    "tab.yaml": ("a:\n\t- b", "tab.yaml:2"),
    "twice.yaml": ("MODEL: {WEIGHTS: a}\nMODEL: {WEIGHTS: b}", "twice.yaml:2: MODEL occurs twice"),
    "two.yaml": ("a: 1\n---\nb: 2", "another document"),
    "object.yaml": ("MODEL: !!python/object/apply:os.mkdir [made]", "python/object"),
    "bomb.yaml": (BOMB, "aliases"),
    "sections.yaml": ("model: {}\n" + BOMB, "aliases"),
    "merge.yaml": (MERGES, "aliases"),
    "loop.yaml": ("model: &m {a: *m}", "inside the value that it repeats"),
    "deep.yaml": ("a: " + "[" * 50000, "levels|nesting depth"),
    "long.yaml": ("a: [" + "1," * 500_000 + "]", "values"),
    "unknown.yaml": ("NOPE: 1", "no key NOPE"),
    "key.yaml": ("MODEL: {WEIGTHS: a}", "did you mean WEIGHTS"),
    "type.yaml": ("SOLVER: {MAX_ITER: abc}", "SOLVER.MAX_ITER='abc'.*Type mismatch"),
    "section.yaml": ("SOLVER: 5", "SOLVER=5.*section"),
    "leaf.yaml": ("SOLVER: {MAX_ITER: {A: 1}}", "SOLVER.MAX_ITER.A"),
    "version.yaml": ("VERSION: 99", "VERSION=99"),
    "base_missing.yaml": ("_BASE_: nothing.yaml", "nothing.yaml: no such file"),
    "base_self.yaml": ("_BASE_: base_self.yaml", "based on"),
    "base_text.yaml": ("_BASE_: 5", "name a file"),
    "base_url.yaml": ("_BASE_: https://example.org/a.yaml", "name a file"),
    "base_object.yaml": ("_BASE_: object.yaml", "object.yaml:1.*python/object"),
    "range.yaml": ("SOLVER: {MAX_ITER: -5}\n_BASE_: " + str(YACS), "max_iter=-5.*greater"),
    "environment.yaml": ("OUTPUT_DIR: '${oc.env:HOME}'", "OUTPUT_DIR.*no references"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_in_a_second(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for file in {name, "object.yaml"}:
        content = BROKEN[file][0]
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    began, importer = time.perf_counter(), __import__
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / name))
    assert time.perf_counter() - began < 5  # a second, on a busy machine
    said = str(caught.value)
    assert re.search(BROKEN[name][1], said, re.DOTALL) and name.removeprefix("base_object.") in f"{said} yaml"
    assert __import__ is importer and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("path", "words"), [("", "folder|no such"), ("x" * 5000 + ".py", "no such"), ("a\0.py", "no such")]
)
def test_a_name_that_is_no_file(path, words):
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="folder"):
        load_config(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"import no_such_module", ":1"), (b"\xff\xfe\x00", ""), (b"import json\njson.loads('[')", ":2")],
)
def test_an_error_within_a_library_names_the_config(tmp_path, content, line):
    file = tmp_path / "own.py"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_config(str(file))
    assert str(error.value).startswith(f"{file}{line}: ")


def test_an_error_within_an_imported_config_names_that_file(tmp_path):
    (tmp_path / "inner.py").write_text("a = 1\nmodel = dict(b=1 / 0)\n")
    (tmp_path / "outer.py").write_text("from .inner import model\n")
    with pytest.raises(ConfigError, match="inner.py:2.*division"):
        load_config(str(tmp_path / "outer.py"))


def test_bases_of_bases(tmp_path):
    (tmp_path / "a.yaml").write_text(f"_BASE_: {YACS}\nSOLVER: {{MAX_ITER: 7, BASE_LR: 1e-3}}\n")
    (tmp_path / "b.yaml").write_text("_BASE_: a.yaml\nSOLVER: {MAX_ITER: 9}\n")
    overrides = ["SOLVER.IMS_PER_BATCH=8", "SEED", "5", "train.device=cpu"]
    config = load_config(str(tmp_path / "b.yaml"), overrides)
    assert (config.train.max_iter, config.optimizer.lr, config.train.seed) == (9, 1e-3, 5)
    assert config.dataloader.train.total_batch_size == 8 and config.train.device == "cpu"
    assert config.train.report is False  # a default of the schema, not of the translation


# A whole config in yaml, of which parts are replaced
@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "config.yaml"
    save_config(load_config(str(QUICKSTART)), path)
    return path.read_text()


CODE = [
    "os.mkdir",
    "os.system",
    "subprocess.Popen",
    "builtins.eval",
    "torch.os.mkdir",
    "torch.os.system",
    "torch.load",
    "torch.save",
    "torch.hub.load",
    "torch.jit.load",
    "torch.utils.cpp_extension.load_inline",
    "torch.nn.modules.module.torch.load",
    "torch.nn.functional.torch.os.mkdir",
    "torch.nn.Module.load_state_dict",
    "torch.distributed.run.main",
    "detectron2.utils.env.setup_custom_environment",
    "detectron2.config.LazyConfig.load",
    "detectron2.data.catalog.DatasetCatalog.get",
    "detectron2.data.datasets.coco.convert_to_coco_json",
    "detectron2.evaluation.coco_evaluation.os.mkdir",
    "detectron2.engine.launch",
    "fvcore.common.download.download",
    "fvcore.common.file_io.PathManager.rm",
    "timm.models.load_checkpoint",
    "timm.data.create_dataset",
    "timm.layers.attention.torch.load",
    "torchvision.datasets.utils.download_url",
    "torchvision.io.write_file",
    "torchvision.transforms.functional.torch.load",
    "itpn_d2.files.write_text",
    "itpn_d2.evaluation.write_results",
    "itpn_d2.evaluation.results.write_results",
    "itpn_d2.data.catalogs.os.mkdir",
    "itpn_d2.data.catalogs.cleaned_json",
    "itpn_d2.checkpoint.atomic_save",
    "itpn_d2.engine.launch.launch",
    "itpn_d2.timm.main",
    "pretrain.hooks.write_summary",
    "hydra.utils.instantiate",
    "omegaconf.OmegaConf.register_new_resolver",
    "",
    5,
    {"_target_": "os.getcwd"},
]


@pytest.mark.parametrize("target", CODE, ids=str)
@pytest.mark.parametrize("place", ["dataset.num_classes", "model", "model.backbone", "train.seed", "extra"])
def test_a_yaml_names_no_code(tmp_path, foreign, target, place):
    content = OmegaConf.create(foreign)
    call = {"_target_": target, "path": str(tmp_path / "made")}
    OmegaConf.update(content, place, call, merge=False, force_add=True)
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(content))
    with pytest.raises(ConfigError, match=r"_target_.*a .yaml is"):
        load_config(str(tmp_path / "config.yaml"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "target", ["torch.nn.Conv2d", "torch.optim.SGD", "timm.optim.Lars", "detectron2.layers.ShapeSpec",
               "torchvision.ops.DeformConv2d", "fvcore.common.param_scheduler.ConstantParamScheduler",
               "itpn_d2.data.paths.image_folder", "itpn_d2.data.paths.text_list",
               "itpn_d2.data.catalogs.register_coco", "itpn_d2.data.registry.register_coco",  # earlier names
               *(f"pretrain.data.{name}" for name in SOURCES)],
)  # fmt: skip
def test_a_yaml_names_parts(target):
    found = find_harmless(target, "model._target_")
    assert callable(found) and found is find(target, "model._target_")


@pytest.mark.parametrize(
    "text",
    ["${oc.env:HOME}", "x${oc.env:HOME,y}", "${oc.decode:'1'}", "${custom:1}", "${${train.device}:HOME}",
     "${oc.select:${train.device}}", "\\\\${oc.env:HOME}", "${oc.create:{a:1}}"],
)  # fmt: skip
def test_a_yaml_does_not_reach_the_environment(tmp_path, foreign, text):
    content = OmegaConf.to_container(OmegaConf.create(foreign))
    content["train"]["init_checkpoint"] = text
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"train.init_checkpoint.*a .yaml is"):
        load_config(str(tmp_path / "config.yaml"))


def test_references_to_its_own_keys_stay(foreign):
    assert "${dataset.num_classes}" in foreign


def test_the_command_line_reaches_the_environment(monkeypatch):
    monkeypatch.setenv("PLACE_OF_A_TEST", "/x")
    config = load_config(str(QUICKSTART), ["train.output_dir=${oc.env:PLACE_OF_A_TEST}/y"])
    assert config.train.output_dir == "/x/y"


NAMES = ["${oc.env:HOME}", "???", "a ${b", "\\${c}", "{d}", "${train.seed}", "e: f", "- g", "#h", "null", "1"]


def test_names_of_classes_are_texts(tmp_path):
    config = load_config(str(QUICKSTART))
    config.dataset.class_names = Texts(NAMES)
    config.dataset.num_classes = len(NAMES)
    assert list(config.dataset.class_names) == NAMES and config.dataset.class_names == NAMES
    save_config(config, tmp_path / "config.yaml")
    again = load_config(str(tmp_path / "config.yaml"))
    assert list(again.dataset.class_names) == NAMES


def test_a_config_that_holds_an_object_is_written_with_a_word(tmp_path, caplog):
    config = OmegaConf.create({"a": {"b": object()}}, flags={"allow_objects": True})
    save_config(config, tmp_path / "config.yaml")
    assert "a.b" in caplog.text
