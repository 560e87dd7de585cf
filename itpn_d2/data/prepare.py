"""The datasets that a config names are registered and checked against each other, and their facts are filled
in."""

from functools import partial
from inspect import signature
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override

from ..errors import DatasetError
from ..lazy.build import build
from ..lazy.targets import find
from .catalogs import dataset_facts, has_annotations, registered_once
from .registered import take_over

_ASKED = {
    "num_semantic_classes": "stuff",
    "num_keypoints": "keypoints (names under 'keypoints' in its categories)",
}


def prepare_datasets(
    dataset: DictConfig, evaluate_only: bool = False, skip_bad_records: bool = False
) -> None:
    """Register ``dataset.train`` and ``dataset.val`` (either may be None) and fill in what of
    :func:`dataset_facts` the section asks for (``num_classes`` and all names always); where
    ``dataset.val.classes`` is None, it becomes the classes of the training set.

    Datasets that other programs have registered are checked, see :func:`.take_over`.

    Args:
        skip_bad_records: drop bad records of all sets, whatever their own argument of that name says.
        evaluate_only: leave the training set alone, unless the validation set takes its classes from it.

    Raises:
        DatasetError: a dataset can't be used, lacks what the config asks for, or the two have different
            classes.
    """
    facts: dict[str, dict[str, Any]] = {}
    for split in ("train", "val"):
        call = OmegaConf.select(dataset, split)
        if split == "train" and evaluate_only and not _gives_classes(dataset):
            continue
        if call is not None:
            if facts and call.get("classes", "") is None:
                call.classes = facts["train"]["class_names"]  # labelled images take the numbers of the other
            if skip_bad_records and "skip_bad_records" in signature(find(call._target_, split)).parameters:
                call.skip_bad_records = True
            name = registered_once(partial(_register, call, skip_bad_records))
            if split == "train":
                _require_annotations(name)
            facts[split] = dataset_facts(name)
    if len(facts) == 2 and facts["train"] != facts["val"]:
        key = next(k for k in facts["train"] if facts["train"][k] != facts["val"].get(k))
        key = "class_names" if facts["train"]["class_names"] != facts["val"]["class_names"] else key
        raise DatasetError(
            f"the classes differ: dataset.train has {facts['train'][key]}, dataset.val has "
            f"{facts['val'].get(key)}; give both sets the same categories"
        )
    for split, found in facts.items():
        given = dataset.get("num_classes")
        if given is not None and given != found["num_classes"]:
            raise DatasetError(
                f"dataset.num_classes={given}, but dataset.{split} has {found['num_classes']} classes: "
                "leave it at null (and dataset.class_names too), or use the dataset with those classes"
            )
        for key, what in _ASKED.items():
            if key in dataset and key not in found:
                raise DatasetError(f"dataset.{split} has no {what}, which the model of this config learns")
        wanted = {
            k: v for k, v in found.items() if k in dataset or k == "num_classes" or k.endswith("class_names")
        }
        with flag_override(dataset, "allow_objects", True):
            dataset.update(wanted)


def _register(call: DictConfig, skip_bad_records: bool) -> str:
    name: str = build(call)
    skip = skip_bad_records or bool(call.get("skip_bad_records"))
    take_over(name, skip, call.get("verify_images") or "decode")
    return name


def _require_annotations(name: str) -> None:
    if not has_annotations(name):
        raise DatasetError(
            f"dataset {name!r} has no annotations to learn from: set dataset.train.json to a json with "
            "annotations"
        )


def _gives_classes(dataset: DictConfig) -> bool:
    """Whether the validation set takes its classes from a training set that is there."""
    train, val = OmegaConf.select(dataset, "train"), OmegaConf.select(dataset, "val")
    asks = val is not None and val.get("classes", "") is None
    return asks and train is not None and "" not in (train.get("images"), train.get("json"))
