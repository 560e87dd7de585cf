"""From the name of an entry to its config, model, backbone or predictor."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..backbone import VARIANTS, create_model
from ..backbone.classifier import TrunkClassifier
from ..checkpoint import Checkpointer, load_pretrained
from ..engine import load_config
from ..engine.config_files import configs_folder
from ..engine.precision import resolve_device
from ..engine.start import named_weights
from ..errors import ZooError
from ..lazy.build import build
from .loading import create_loaded, pretrained_address
from .registry import get_entry, pretrained_weights, trained_weights
from .weights_files import PREFIX

_PLACES = ("backbone", "network", "encoder.backbone")  # of a trunk's options in the model of a config


def get_config_file(name: str) -> str:
    """The path of an entry's config, as Detectron2's function of this name gives it.

    Raises:
        UnknownModelError: no such entry; a RuntimeError, as Detectron2's.
    """
    return str(configs_folder() / get_entry(name).config)


def get_checkpoint_url(name: str) -> str:
    """The address of an entry's trained weights (of a pre-training, or of a variant: what it leaves), which
    every loader here and Detectron2's PathManager take: ``itpn://FILE``.

    Raises:
        UnknownModelError: no such entry, or nobody has published any; a RuntimeError, as Detectron2's.
    """
    weights = pretrained_weights(name) if name in VARIANTS else trained_weights(get_entry(name))
    return PREFIX + weights.file


def get_config(name: str, trained: bool = False, overrides: Sequence[str] = ()) -> DictConfig:
    """The LazyConfig of an entry.

    Args:
        trained: ``train.init_checkpoint`` becomes the entry's published weights.
        overrides: ``key=value``, as on the command line.

    Raises:
        ZooError: no such entry, or ``trained`` and there are no weights. ConfigError: see
            :func:`~itpn_d2.engine.load_config`.
    """
    entry = get_entry(name)
    cfg = load_config(str(configs_folder() / entry.config), list(overrides))
    if entry.classes and cfg.dataset.class_names is None:
        cfg.dataset.num_classes, cfg.dataset.class_names = len(entry.classes), list(entry.classes)
    if trained:
        cfg.train.init_checkpoint = PREFIX + trained_weights(entry).file
    return cfg


def get(
    name: str,
    trained: bool = False,
    device: torch.device | str | None = None,
    weights: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> nn.Module:
    """The model of an entry, in training mode like Detectron2's; of a pre-training what it leaves: the
    backbone (of iTPN with its pyramid).

    Args:
        trained: load the published weights.
        device: None: CUDA if there is one, else the CPU.
        weights: a file, or any path that Detectron2's PathManager knows, to load instead.
        overrides: ``key=value``, as on the command line; where the classes come from your data,
            ``dataset.num_classes=N``.

    Raises:
        ZooError: no such entry; no weights; or the number of classes is not known. CheckpointError: the
            weights are those of another model.
    """
    return _build(get_config(name, trained, overrides), name, device, weights)


def get_backbone(name: str, weights: bool | str | Path | None = None, **options: Any) -> nn.Module:
    """The trunk of an entry or of a variant (``fast_itpn_base``) with its pyramid: a Detectron2 backbone.

    Args:
        weights: True: what is published for the entry, or for its start, or for the variant; else a file, or
            any path that Detectron2's PathManager knows. A report of what fits is logged: the pyramid starts
            anew where the file has none.
        options: arguments of :func:`itpn_d2.create_model` instead of the entry's.

    Raises:
        ZooError: no such name, no weights, or the entry is a network of timm. CheckpointError: the weights
            are those of another trunk.
    """
    if name in VARIANTS and weights:  # what no argument says is as in the file
        return create_loaded(name, True, None, weights, options)
    found: dict[str, Any] = {"name": name}
    if name not in VARIANTS:
        cfg = get_config(name)
        nodes = (OmegaConf.select(cfg.model, place) for place in _PLACES)
        node = next((n for n in nodes if n is not None and n.get("name") in VARIANTS), None)
        if node is None:
            raise ZooError(
                f"{name}: its network is not one of {', '.join(VARIANTS)}; model_zoo.get builds it"
            )
        found = backbone_options(node)
    if weights is True:
        weights = _published(name)
    backbone = create_model(**{**found, **options}, pyramid=True)
    if weights:
        load_pretrained(backbone, str(weights))
    return backbone


def _build(
    cfg: DictConfig, name: str, device: torch.device | str | None, weights: str | Path | None
) -> nn.Module:
    source = str(weights or named_weights(cfg))
    where = resolve_device("auto" if device is None else str(device))
    if get_entry(name).task == "pretraining":
        backbone = (
            build(cfg.model.encoder).backbone
            if "encoder" in cfg.model and "backbone" not in cfg.model.encoder
            else get_backbone(name)
        )
        if source:
            load_pretrained(backbone, source)
        return backbone.to(where)
    counts = ("num_classes", "num_semantic_classes", "num_keypoints")
    unknown = [f"'dataset.{key}=N'" for key in counts if cfg.dataset.get(key, 0) is None]
    if unknown:
        raise ZooError(
            f"{name}: its classes come from your data; give their number, overrides=[{', '.join(unknown)}]"
        )
    model = build(cfg.model).to(where)
    Checkpointer(model).load(source, checkpointables=[])
    return model


def backbone_options(node: DictConfig) -> dict[str, Any]:
    """Arguments of ``create_model`` for a backbone, from those of a detector, classifier or pre-training."""
    head = {*inspect.signature(TrunkClassifier).parameters, "final_norm", "pyramid", "_target_"}
    options = {str(key): node[key] for key in node if key not in head}
    return {k: tuple(v) if OmegaConf.is_list(v) else v for k, v in options.items()}


def _published(name: str) -> str:
    if name in VARIANTS:
        return pretrained_address(name)
    entry = get_entry(name)
    return PREFIX + (entry.weights or entry.start or trained_weights(entry)).file
