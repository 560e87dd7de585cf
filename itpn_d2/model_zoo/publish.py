"""A trained checkpoint into a folder that may be published, after a look at whether it should be."""

from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..backbone import VARIANTS, create_model
from ..checkpoint import Checkpointer, Classes, load_pretrained, load_state_file, local_path
from ..checkpoint.completeness import require_all
from ..download import sha256_of
from ..engine import load_config
from ..errors import ZooError
from ..lazy.build import build
from ..lazy.texts import Texts
from .card import Card
from .description import WEIGHTS
from .pretrained import check_repository, save_detector, save_pretrained, upload
from .zoo import backbone_options

_COUNTS = ("num_classes", "num_semantic_classes", "num_keypoints")


def publish(
    checkpoint: str,
    config: str,
    card: Card,
    folder: str | Path,
    half: bool = False,
    push: str | None = None,
    overrides: Sequence[str] = (),
) -> str:
    """Check a checkpoint, and write its folder; with ``push``, send that to the hub.

    The load has to be complete, all weights finite (also in half precision), and the names of the classes
    known: from the checkpoint, where it has them, else from ``config.yaml`` beside it, or from ``overrides``.
    Of a pre-training the backbone with its pyramid is written, without what predicts pixels or features.

    Args:
        config: the config of this project that it was trained with.
        overrides: ``key=value``, where it was trained with other values.

    Returns:
        What was written, with its digest, for people.

    Raises:
        CheckpointError: it can't be read, or is not all of this model. ZooError: no names of classes, or
            see :func:`.save_detector`. ConfigError: no such config or key.
    """
    if push is not None:
        check_repository(push)
    cfg = load_config(config, list(overrides))
    path = Path(local_path(checkpoint))
    dtype = torch.float16 if half else torch.float32
    if "epochs" in cfg.train:
        model: nn.Module = _backbone(cfg, config, path)
        place = save_pretrained(model, folder, card, dtype, push)
        return _said(place, model, "without classes", dtype, push)
    names = Classes.of(load_state_file(path).get(Classes.KEY)).names
    if (path.parent / "config.yaml").is_file():
        theirs = OmegaConf.select(load_config(str(path.parent / "config.yaml")), "dataset", default={})
        for key in (*_COUNTS, "class_names", "semantic_class_names"):
            if cfg.dataset.get(key) is None and theirs.get(key) is not None:
                cfg.dataset[key] = theirs[key]
    for key in ("names", "semantic_names"):
        if key in names and cfg.dataset.get(f"{'semantic_' * (key != 'names')}class_names") is None:
            cfg.dataset[f"{'semantic_' * (key != 'names')}class_names"] = Texts(names[key])
    found = cfg.dataset.get("class_names")
    if not found:
        raise ZooError(
            f"{checkpoint}: contains no class names, without which the detector can't be used: keep "
            "config.yaml of its training beside it, or give 'dataset.class_names=[a,b]'"
        )
    if cfg.dataset.get("num_classes") is None:
        cfg.dataset.num_classes = len(found)
    if missing := [key for key in _COUNTS if key in cfg.dataset and cfg.dataset[key] is None]:
        raise ZooError(f"{checkpoint}: dataset.{missing[0]} is not known: give dataset.{missing[0]}=N")
    model = build(cfg.model)
    classes = Classes(found, cfg.dataset.get("semantic_class_names"))
    Checkpointer(model, classes=classes).load(str(path), [], complete=True)
    place = save_detector(model, cfg, config, folder, card, dtype, push)
    return _said(place, model, f"{len(found)} classes", dtype, push)


def _backbone(cfg: DictConfig, config: str, path: Path) -> nn.Module:
    """Trunk and pyramid of a pre-training, loaded; nothing of them may be missing."""
    node = cfg.model.get("backbone")
    if node is None or node.get("name") not in VARIANTS:
        raise ZooError(
            f"{config}: its network is not one of {', '.join(VARIANTS)}: share the checkpoint itself"
        )
    model = create_model(**backbone_options(node), pyramid=True)
    require_all(load_pretrained(model, path), model)
    return model


def _said(place: Path, model: nn.Module, classes: str, dtype: torch.dtype, push: str | None) -> str:
    lines = [f"{place}: {len(model.state_dict())} tensors, {classes}, {dtype}".replace("torch.", "")]
    lines.append(f"{WEIGHTS}: sha256 {sha256_of(place / WEIGHTS)}")
    if push is not None:
        lines.append(upload(place, push))
    return "\n".join(lines)
