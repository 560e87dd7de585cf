"""The yacs keys of the backbone, for ``.yaml`` configs."""

from detectron2.config import CfgNode


def add_itpn_config(cfg: CfgNode) -> CfgNode:
    """Add ``MODEL.ITPN`` and the solver keys of this project to a Detectron2 yacs config, in place; returns
    it."""
    cfg.MODEL.ITPN = CfgNode(
        {
            "NAME": "fast_itpn_tiny",
            "DROP_PATH": 0.0,
            "POS_GRID": [14, 14],
            "FPN_DIM": 256,
            "FPN_DEPTH": 1,
            "OUT_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
            "FREEZE_AT": 0,
            "CHECKPOINT_STAGES": [],
            "MASK_PADDING": True,
        }
    )
    cfg.SOLVER.LAYER_DECAY = 1.0
    return cfg
