"""No key and no value reaches a target unchecked: wrong ones are generated from what there is."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from itpn_d2.engine import load_config
from itpn_d2.engine.config import check_config
from itpn_d2.engine.schema import Config, Dataloader, Pretraining, Section, Training
from itpn_d2.errors import ConfigError
from itpn_d2.lazy.calls import calls

ROOT = Path(__file__).resolve().parents[2] / "configs"
FILES = {
    "detector": "Quickstart/mask_rcnn_fast_itpn_nano.py",
    "cascade": "Quickstart/cascade_rcnn_fast_itpn_nano.py",
    "dino": "Quickstart/dino_fast_itpn_nano.py",
    "segmentor": "Quickstart/upernet_vit_nano.py",
    "classifier": "Custom/classifier_fast_itpn_nano.py",
    "pretraining": "Quickstart/pixel_mim_fast_itpn_nano.py",
    "encoder": "Pretrain/fastmim_hog_vit_base.py",
    "yacs": "yacs/mask_rcnn_fast_itpn_tiny_1x.yaml",
}


@pytest.fixture(scope="module")
def loaded():
    return {name: load_config(str(ROOT / file)) for name, file in FILES.items()}


def misspelt(name):
    """Two letters swapped, or one doubled."""
    for k in range(1, len(name) - 1):
        if name[k] != name[k + 1]:
            return name[:k] + name[k + 1] + name[k] + name[k + 2 :]
    return name + name[-1]


@pytest.mark.parametrize("name", FILES)
def test_a_misspelt_argument_of_any_call_names_the_right_one(loaded, name):
    arguments = [(key, str(a)) for key, node in calls(loaded[name]) for a in node if a != "_target_"]
    assert len(arguments) > 20
    for key, argument in arguments:
        wrong = misspelt(argument)
        config = loaded[name].copy()
        node = OmegaConf.select(config, key)
        if wrong in node:
            continue
        node[wrong] = 1
        with pytest.raises(ConfigError) as caught:
            check_config(config)
        said = str(caught.value)
        assert key in said and wrong in said and argument in said, said


@pytest.mark.parametrize("name", ["detector", "segmentor", "classifier", "pretraining"])
@pytest.mark.parametrize("kind", ["extra", "override", "added"])
def test_a_misspelt_key_of_a_plain_section_names_the_right_one(loaded, name, kind):
    config = loaded[name]
    places = [(s, k) for s in ("train", "dataloader", "dataset") for k in config[s]]
    places += [
        (f"{s}.{k}", inner)
        for s, k in list(places)
        if OmegaConf.is_dict(config[s]._get_node(k)) and config[s][k] and "_target_" not in config[s][k]
        for inner in config[s][k]
    ]
    for section, key in places:
        wrong = misspelt(str(key))
        with pytest.raises(ConfigError) as caught:
            if kind == "extra":
                changed = config.copy()
                OmegaConf.update(changed, f"{section}.{wrong}", 1, force_add=True)
                check_config(changed)
            else:
                plus = "+" if kind == "added" else ""
                load_config(str(ROOT / FILES[name]), [f"{plus}{section}.{wrong}=1"])
        assert f"{section}.{wrong}" in str(caught.value) and str(key) in str(caught.value)
        if kind != "extra":
            break  # each of them loads a file: one place is enough, the others are the same code


def fields(section, key):
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from fields(inner, f"{key}.{name}")
        else:
            yield f"{key}.{name}"


# what no key of that kind can be, whatever its range
NOT = {
    int: ["abc", "", 1.5, True, [], {}, -1, float("nan"), float("inf")],
    float: ["abc", "", True, [], {}, -1.0, float("nan"), float("inf")],
    bool: ["maybe", 1, 0.5, None, [], {}],
    str: [5, 1.5, True, [], {}],
}


def wrong_values(section, key):
    """Values that the key's default tells to be wrong."""
    value = OmegaConf.select(section, key)
    if value is not None and not OmegaConf.is_config(value):
        kind = float if key.endswith((".epochs", "_lr")) and key != "train.epochs" else type(value)
        yield from NOT[kind]
    yield {"abc": 1}
    yield [{"abc": 1}]


@pytest.mark.parametrize(("name", "section"), [("detector", Training), ("pretraining", Pretraining)])
def test_every_key_of_train_refuses_what_it_cannot_use(loaded, name, section):
    keys = list(fields(section, "train"))
    assert len(keys) > 20
    for key in keys:
        for value in wrong_values(loaded[name], key):
            config = loaded[name].copy()
            OmegaConf.update(config, key, value, merge=False, force_add=True)
            with pytest.raises(ConfigError) as caught:
                check_config(config)
            assert key in str(caught.value), (key, value, str(caught.value))


@pytest.mark.parametrize("section", ["model", "dataset", "dataloader", "optimizer", "lr_multiplier", "train"])
@pytest.mark.parametrize("value", [None, "abc", 5, [], {}])
def test_a_section_is_a_section(loaded, section, value):
    config = loaded["detector"].copy()
    OmegaConf.update(config, section, value, merge=False)
    if (section, value) in [("train", {}), ("dataset", {})]:
        return  # all keys have defaults
    with pytest.raises(ConfigError, match=section):
        check_config(config)


WRONG = [  # key=value of the command line, and what the message says besides the key
    ("train.max_iter=-5", "greater than or equal to 1"),
    ("lr_multiplier.scheduler.end_value=-1", "greater than or equal to 0"),  # it would ascend at the end
    ("model.roi_heads.batch_size_per_image=0", "greater than or equal to 1"),
    ("model.roi_heads.positive_fraction=1.5", "less than or equal to 1"),
    ("model.roi_heads.box_predictor.test_nms_thresh=-1", "greater than 0"),
    ("model.proposal_generator.nms_thresh=true", "number"),
    ("model.proposal_generator.post_nms_topk=[1,2,3]", "at most 2 items"),
    ("train.max_iter=0", "greater than or equal to 1"),
    ("train.max_iter=1.5", "integer"),
    ("train.max_iter=abc", "integer"),
    ("train.max_iter=1000000000000000000000000000000", "at most 9007199254740992"),
    ("train.eval_period=1e30", "at most 9007199254740992"),
    ("dataloader.train.num_workers=1025", "less than or equal to 1024"),
    ("train.max_iter=${nope}", "nope"),
    ("train.max_iter=${train.max_iter}", "ecursi"),
    ("train.max_iter=${oc.env:NOT_SET_AT_ALL}", "NOT_SET_AT_ALL"),
    ("train.clip_grad_norm=-1", "greater than 0"),
    ("train.clip_grad_norm=0", "greater than 0"),
    ("train.eval_period=-1", "greater than or equal to 0"),
    ("train.eval_period=null", "integer"),
    ("train.checkpointer.period=0", "greater than or equal to 1"),
    ("train.checkpointer.period=null", "integer"),
    ("train.checkpointer.max_to_keep=0", "null: all"),
    ("train.log_period=-1", "greater"),
    ("train.seed=-1", "^train.seed=-1: it should be greater"),
    ("optimizer.lr=abc", "^optimizer.lr='abc': it should be a valid number$"),
    ("train.seed=99999999999", "less"),
    ("train.accumulate=0", "greater"),
    ("train.accumulate=7", "total_batch_size"),
    ("train.ema.decay=2", "less than 1"),
    ("train.ema.enabled=maybe", "boolean"),
    ("train.ema=null", "section"),
    ("train.ddp=null", "section"),
    ("train.best_metric=foo", "segm/AP"),
    ("train.visualize.images=-1", "greater"),
    ("train.report=abc", "boolean"),
    ("train.device=tpu", "cuda:N"),
    ("train.device=", "cuda:N"),
    ("train.amp.dtype=fp17", "fp16"),
    ("train.output_dir=", "at least 1"),
    ("train.output_dir=null", "string"),
    ("dataloader.train.total_batch_size=0", "greater"),
    ("dataloader.train.total_batch_size=abc", "integer"),
    ("dataloader.train.total_batch_size=null", "integer"),
    ("dataloader.train.num_workers=-1", "greater"),
    ("dataloader.train.num_workers=1.5", "integer"),
    ("dataloader.test.batch_size=0", "greater"),
    ("dataloader.train.repeat_threshold=abc", "number"),
    ("dataloader.train.mapper=null", "not a container"),
    ("dataloader.train.mapper.augmentations=null", "list"),
    ("dataloader.train.mapper.augmentations=[1]", "augmentations"),
    ("dataloader.evaluator=null", "section"),
    ("dataloader.image.short_sides=[]", "at least 1"),
    ("dataloader.image.short_sides=[1]", "16"),
    ("dataloader.image.short_sides=abc", "list"),
    ("dataloader.image.test_short_side=0", "16"),
    ("dataset.train.num_images=0", "greater"),
    ("dataset.train.name=", "at least 1"),
    ("dataset.train.name=null", "string"),
    ("dataset.val.name=quickstart_train", "name"),
    ("dataset.num_classes=0", "greater"),
    ("dataset.num_classes=abc", "integer"),
    ("optimizer.lr=-1", "greater than 0"),
    ("optimizer.lr=nan", "number"),
    ("optimizer.lr=inf", "number"),
    ("optimizer.lr=null", "number"),
    ("optimizer.betas=[2,2]", "less than 1"),
    ("optimizer.betas=abc", "list"),
    ("optimizer.params.layer_decay=-1", "greater than 0"),
    ("optimizer.nope=1", "takes no nope"),
    ("optimizer._target_=nope.nope", "no such class"),
    ("optimizer._target_=", "not a class or function"),
    ("model.backbone._target_=os.path.join", "model.backbone.name: join takes no"),
    ("lr_multiplier.warmup_length=2", "less than or equal to 1"),
    ("lr_multiplier.warmup_length=abc", "number"),
    ("model.backbone.name=foo", "model.backbone: unknown variant"),
    ("model.backbone.migratoin={keep: 0.5}", "migration"),
    ("model.roi_heads.num_clases=2", "num_classes"),
    ("model.pixel_mean=[1]", "pixel_std"),
    ("model.pixel_mean=abc", "list"),
    ("model.input_format=XYZ", "RGB"),
    ("~train.max_iter", "removed"),
    ("train.max_iter=1,2", "a single value"),
    ("+train.new=1", "no such key"),
    ("trian.max_iter=1", "did you mean train"),
    ("max_iter", "key=value"),
    ("train.max_iter.deep=1", "no keys"),
]


@pytest.mark.parametrize(("override", "words"), WRONG)
def test_wrong_overrides(override, words):
    with pytest.raises(ConfigError) as caught:
        load_config(str(ROOT / FILES["detector"]), [override])
    said = str(caught.value)
    key = override.partition("=")[0].lstrip("+~").removesuffix(".deep")
    assert words.strip("^$") in said and (key in said or "model.backbone" in words), said
    assert not words.startswith("^") or re.match(words, said), said


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochs=abc", "integer"),
        ("train.epochs=0.5", "integer"),
        ("train.epochs=0", "greater"),
        ("train.max_iter=5", "train.epochs"),
        ("train.checkpointer.epochs=-1", "greater"),
        ("train.base_lr=abc", "number"),
        ("train.progressive=[{epoch: 0}]", "size"),
        ("train.progressive=[{epoch: 0, size: 64, bacth: 2}]", "batch"),
        ("train.eval_period=5", "no key train.eval_period"),
        ("train.knn.neighbours=0", "greater"),
        ("dataloader.train.view.size=63", "train.size_divisor=16"),
        ("dataloader.train.total_batch_size=0", "greater"),
        ("dataset.train={_target_: pretrain.data.image_folder, roto: x}", "root"),
    ],
)
def test_wrong_overrides_of_pre_training(override, words):
    with pytest.raises(ConfigError, match=words):
        load_config(str(ROOT / FILES["pretraining"]), [override])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.best_metric=val_loss", "train.validation_loss=false"], "train.validation_loss=true"),
        (["train.best_metric=ema/segm/AP", "train.ema.enabled=false"], "train.ema.enabled=true"),
        (["train.accumulate=3", "dataloader.train.total_batch_size=8"], "total_batch_size=8.*multiple of 3"),
        (["dataset.num_classes=3", "dataset.class_names=[a,b]"], "class_names has 2 names"),
        (["dataset.num_classes=3", "model.roi_heads.num_classes=5"], "model.roi_heads.num_classes=5"),
        (["model.pixel_mean=[1,2]", "model.pixel_std=[1,2]"], "3 channels"),
    ],
)
def test_what_only_two_keys_together_tell(overrides, words):
    with pytest.raises(ConfigError, match=words):
        load_config(str(ROOT / FILES["detector"]), overrides)


def test_a_call_of_its_own_takes_the_place_of_another():
    call = "{_target_: pretrain.data.image_folder, root: /x}"
    config = load_config(str(ROOT / FILES["pretraining"]), [f"dataset.train={call}"])
    assert set(config.dataset.train) == {"_target_", "root"}


def test_whole_numbers_may_be_written_as_floats():
    config = load_config(str(ROOT / FILES["pretraining"]), ["train.epochs=100.0", "train.log_period=1e2"])
    assert (config.train.epochs, config.train.log_period) == (100, 100)
    assert type(config.train.epochs) is int and type(config.train.log_period) is int


def test_classes_of_the_head_are_those_of_the_data(loaded):
    config = loaded["detector"].copy()
    config.dataset.num_classes = 5
    check_config(config)
    config.model.roi_heads.num_classes = 2
    with pytest.raises(ConfigError, match=r"model.roi_heads.num_classes=2.*dataset.num_classes=5"):
        check_config(config)


def test_every_section_has_its_schema(loaded):
    assert set(Config.model_fields) == {
        "model",
        "dataset",
        "dataloader",
        "optimizer",
        "lr_multiplier",
        "train",
    }
    assert set(Dataloader.model_fields) >= set(loaded["detector"].dataloader)
