"""The yacs keys of the backbone, for ``.yaml`` configs."""

from typing import Any

from detectron2.config import CfgNode

_LEVELS = ("p2", "p3", "p4", "p5", "p6")


def add_itpn_config(cfg: CfgNode) -> CfgNode:
    """Add ``MODEL.ITPN``, ``MODEL.TIMM``, ``MODEL.CLASSIFIER`` (of ``ImageClassifier``) and the solver keys
    of this project to a Detectron2 yacs config, in place; returns it."""
    cfg.MODEL.ITPN = CfgNode(
        {
            "NAME": "fast_itpn_tiny",
            "DROP_PATH": 0.0,
            "POS_GRID": [14, 14],
            "FPN_DIM": 256,
            "FPN_DEPTH": 1,
            "OUT_FEATURES": [],  # none: those of RetinaNet's IN_FEATURES under it, else p2 to p6
            "FREEZE_AT": 0,
            "CHECKPOINTING": [],  # e.g. ["stage3/2", "pyramid"], see set_checkpointing
            "MASK_PADDING": True,
            # token migration and gathering: the arguments of those classes, in capitals
            "MIGRATION": {
                "ENABLED": False,
                "KEEP": [0.7, 0.7, 0.7],
                "AT": [0.25, 0.5, 0.75],
                "METRIC": "mean_dissimilarity",
                "AFFINE": False,
            },
            "GATHERING": {"ENABLED": False, "WINDOW": 14, "TOKENS": 4, "GLOBAL_BLOCKS": []},
        }
    )
    # build_timm_backbone, build_timm_fpn_backbone, build_timm_simple_pyramid_backbone
    cfg.MODEL.TIMM = CfgNode(
        {
            "NAME": "swin_tiny_patch4_window7_224",
            "OUT_INDICES": [],  # none: strides 4 to 32
            "IMG_SIZE": [],  # none: the network's own
            "DROP_PATH": 0.0,
            "LEVEL_NORMS": False,
            "NORM": "",  # of batch norms: BN, FrozenBN, SyncBN
            "FREEZE_AT": 0,
            "CHECKPOINTING": False,
        }
    )
    cfg.MODEL.TIMM.OPTIONS = CfgNode({}, new_allowed=True)  # of timm's constructor, in capitals
    cfg.MODEL.CLASSIFIER = CfgNode(
        {"NUM_CLASSES": 1000, "POOLING": "mean_then_norm", "AUGMENTATION": True, "HEAD_ONLY": False}
    )
    cfg.SOLVER.OPTIMIZER = "SGD"  # Detectron2's only one; or AdamW
    cfg.SOLVER.LAYER_DECAY = 1.0
    return cfg


def yacs_options(node: CfgNode) -> dict[str, Any] | None:
    """The keys of an optional part in lower case, without ``ENABLED``; None where that is off."""
    return {key.lower(): node[key] for key in node if key != "ENABLED"} if node.ENABLED else None


def yacs_section(cfg: CfgNode, name: str) -> CfgNode:
    """``MODEL.<name>``, or its defaults in a config made without :func:`add_itpn_config`."""
    if name in cfg.MODEL:
        return cfg.MODEL[name]
    return add_itpn_config(CfgNode({"MODEL": {}, "SOLVER": {}})).MODEL[name]


def out_features(cfg: CfgNode) -> tuple[str, ...]:
    """The levels that the backbone of a config hands on, see ``MODEL.ITPN.OUT_FEATURES``."""
    levels = yacs_section(cfg, "ITPN").OUT_FEATURES
    if levels:
        return tuple(levels)
    return tuple(cfg.MODEL.RETINANET.IN_FEATURES) if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else _LEVELS
