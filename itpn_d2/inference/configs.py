"""From the name of a config, and perhaps a file of weights, to a config whose classes are known."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from omegaconf import DictConfig, OmegaConf, flag_override

from .. import model_zoo
from ..data import prepare_datasets
from ..engine.config import load_config
from ..engine.start import named_weights
from ..errors import ConfigError
from ..lazy.texts import Texts
from ..lazy.types import fits
from ..lazy.yaml_files import read_yaml
from ..model_zoo.registry import trained_weights
from ..model_zoo.weights_files import PREFIX

# what the config.yaml beside a file of weights is asked for
_FACTS = {
    "num_classes": int,
    "class_names": list[str],
    "num_semantic_classes": int,
    "semantic_class_names": list[str],
    "num_keypoints": int,
    "keypoint_flip": list[int],
}


def find_config(
    config: str | Path | DictConfig, weights: str | Path | None = None, overrides: Sequence[str] = ()
) -> tuple[DictConfig, str]:
    """The config and the weights to load into its model.

    Args:
        config: a file (LazyConfig ``.py``, yacs ``.yaml``, the ``config.yaml`` of a run), the name of a zoo
            entry, or a config.
        weights: None: those the config names as ``train.init_checkpoint``, or of an entry what is published.
        overrides: ``key=value``, as on the command line.

    Raises:
        ConfigError: no such file or entry, no weights, or unknown classes. ZooError: the entry
            is a pre-training, or has no published weights.
    """
    entry = None
    if isinstance(config, DictConfig):
        cfg = config.copy()
        if overrides:
            raise ConfigError(
                "overrides are only for configs that are given by name; change the config object itself"
            )
    elif Path(config).is_file():
        cfg = load_config(str(config), list(overrides))
    else:
        try:
            entry = model_zoo.get_entry(str(config))
        except model_zoo.ZooError as error:
            raise ConfigError(f"{config}: no such file, and {error}") from error
        if entry.task == "pretraining":
            raise model_zoo.ZooError(
                f"{entry.name}: a pre-trained backbone predicts nothing by itself; model_zoo.get builds it"
            )
        cfg = model_zoo.get_config(entry.name, overrides=overrides)
    source = str(weights or named_weights(cfg))
    if not source and entry is not None:
        source = PREFIX + trained_weights(entry).file
    if not source:
        raise ConfigError(
            f"{_name(config)}: no weights; give a file as weights, or train.init_checkpoint=FILE"
        )
    _tell_classes(cfg, source, _name(config))
    return cfg, source


def _name(config: str | Path | DictConfig) -> str:
    return "the config" if isinstance(config, DictConfig) else str(config)


def _tell_classes(cfg: DictConfig, weights: str, name: str) -> None:
    """Fill in the keys of ``dataset`` that depend on the data: from the ``config.yaml`` beside the weights,
    which every run writes, else from the validation data that the config names."""
    dataset = cfg.get("dataset")
    if dataset is None:
        return
    known = Path(weights).parent / "config.yaml"
    unknown = [key for key in _FACTS if key in dataset and dataset.get(key) is None]
    if unknown and known.is_file():
        facts = classes_of_run(known)
        with flag_override(dataset, "allow_objects", True):
            dataset.update({key: facts[key] for key in (*unknown, "semantic_class_names") if key in facts})
    if "num_classes" in dataset and dataset.num_classes is None and _has_paths(dataset):
        alone = OmegaConf.create({**dataset, "train": None}, flags={"allow_objects": True})
        prepare_datasets(alone)
        for key in dataset:
            if dataset.get(key) is None:
                dataset[key] = alone.get(key)
    if "num_classes" in dataset and dataset.num_classes is None:
        raise ConfigError(
            f"{name}: its classes come from the data. Keep config.yaml of the training beside {weights}, "
            "or give their number: dataset.num_classes=N 'dataset.class_names=[a,b]'"
        )


def classes_of_run(path: Path) -> dict[str, Any]:
    """Numbers and names of the classes that a ``config.yaml`` states, and nothing else of it: the file came
    with the weights, and is data.

    Raises:
        ConfigError: it is no yaml, or states something else in their places.
    """
    content = read_yaml(path)
    dataset = content.get("dataset") if isinstance(content, Mapping) else None
    found: dict[str, Any] = {}
    for key, kind in _FACTS.items():
        value = dataset.get(key) if isinstance(dataset, Mapping) else None
        if value is None:
            continue
        if not fits(value, kind) or (kind is int and value < 1):
            raise ConfigError(
                f"{path}: dataset.{key}={str(value)[:80]}: this does not give the classes of the weights"
            )
        found[key] = Texts(value) if kind == list[str] else value
    return found


def _has_paths(dataset: DictConfig) -> bool:
    node = dataset.get("val")
    return node is not None and all(value != "" for value in node.values())


def class_metadata(cfg: DictConfig) -> Metadata:
    """Names, colours and ids of the classes, as far as Detectron2's catalog or the config knows them.

    The catalog is asked for a set of the same classes only: another run of this process may have registered
    other data under the name. Nothing is written into it: a set that is registered later gets its own.
    """
    names = list(OmegaConf.select(cfg, "dataset.class_names") or ())
    name = OmegaConf.select(cfg, "dataset.val.name") or OmegaConf.select(cfg, "dataloader.test.dataset.names")
    if isinstance(name, str) and name in MetadataCatalog.list():
        known = MetadataCatalog.get(name)
        theirs = [list(known.get(f"{kind}_classes") or ()) for kind in ("thing", "stuff")]
        if names in theirs or (not names and any(theirs)):
            return known
    if not names:
        return Metadata()
    semantic = OmegaConf.select(cfg, "dataset.semantic_class_names")
    if semantic is None:
        stuff = OmegaConf.select(cfg, "dataset.num_semantic_classes")  # beside things, the first of them
        semantic = names if stuff is None else ["things", *(f"stuff {i}" for i in range(1, stuff))]
    return Metadata(thing_classes=names, stuff_classes=list(semantic))
