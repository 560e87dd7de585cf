"""Detectron2 ``.yaml`` configs, translated once into the LazyConfig that the engine runs."""

import logging
from collections.abc import Callable, Collection
from typing import Any

from detectron2.config import CfgNode, LazyCall
from detectron2.modeling import build_model
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..backbone import builders  # noqa: F401  (registers them)
from ..lazy.yaml_files import parse_yaml
from ..meta_arch import GeneralizedRCNN, ImageSegmentor, PanopticFPN, ProposalNetwork, RetinaNet
from ..solver import parameter_groups
from .schema import Training, defaults
from .yacs_checks import are_of_others, check_values
from .yacs_data import dataloader, dataset, seed
from .yacs_files import merge_yacs
from .yacs_keys import check_fates, is_ours
from .yacs_solver import build_schedule, build_yacs_optimizer

logger = logging.getLogger(__name__)
# by their names in Detectron2: what tells its backbone where images end, which Detectron2's do not
_SIZED: dict[str, Callable[[CfgNode], nn.Module]] = {
    "GeneralizedRCNN": GeneralizedRCNN,
    "PanopticFPN": PanopticFPN,
    "ProposalNetwork": ProposalNetwork,
    "RetinaNet": RetinaNet,
    "SemanticSegmentor": ImageSegmentor,
}


def build_yacs_model(yaml: str) -> nn.Module:
    """The model of the dumped text of a yacs config: as Detectron2's ``build_model``, with our form of its
    meta-architectures."""
    cfg, _ = merge_yacs("model.yaml", parse_yaml(yaml, "model.yaml"))
    cfg.MODEL.DEVICE = "cpu"  # the engine moves it
    sized = _SIZED.get(cfg.MODEL.META_ARCHITECTURE)
    return build_model(cfg) if sized is None else sized(cfg)


def translate(cfg: CfgNode, given: Collection[str], path: str) -> DictConfig:
    """The LazyConfig of a yacs config.

    The optimizer is Detectron2's, SGD with momentum, or AdamW where ``SOLVER.OPTIMIZER`` says so; either with
    layer decay. What is ignored is logged, see :mod:`.yacs_keys`.

    Args:
        given: the keys that the file and its overrides have.

    Raises:
        ConfigError: a key or value has no counterpart here.
    """
    check_fates(cfg, path)
    check_values(cfg, given, path)
    _say_what_others_expect(cfg, given, path)
    return OmegaConf.create(_translate(cfg, given), flags={"allow_objects": True})


def _say_what_others_expect(cfg: CfgNode, given: Collection[str], path: str) -> None:
    """Warn of settings for a ResNet that do not suit our backbones."""
    name, solver = cfg.MODEL.BACKBONE.NAME, cfg.SOLVER
    if are_of_others(cfg):
        logger.warning(
            "%s: MODEL.WEIGHTS=%s: Detectron2's weights are those of ResNets, but the backbone is %s, so "
            "no weights are loaded and training starts from scratch. Give a file or an address with "
            "weights for this backbone (python -m itpn_d2.model_zoo list shows the known ones)",
            path,
            cfg.MODEL.WEIGHTS,
            name,
        )
    if is_ours(cfg) and "SOLVER.OPTIMIZER" not in given:
        logger.warning(
            "%s: SOLVER.OPTIMIZER is not set, so SGD with momentum is used, as in Detectron2, with "
            "SOLVER.BASE_LR=%s. The recipes of these backbones use SOLVER.OPTIMIZER=AdamW "
            "SOLVER.BASE_LR=0.0001 SOLVER.WEIGHT_DECAY=0.05",
            path,
            solver.BASE_LR,
        )


def _translate(cfg: CfgNode, given: Collection[str]) -> dict[str, Any]:
    call, solver, number = LazyCall, cfg.SOLVER, seed(cfg)
    clip = solver.CLIP_GRADIENTS
    whole = clip.CLIP_TYPE == "full_model"
    return dict(
        model=call(build_yacs_model)(yaml=cfg.dump()),
        dataset=dataset(cfg),
        dataloader=dataloader(cfg, given, number),
        optimizer=call(build_yacs_optimizer)(
            params=call(parameter_groups)(
                model=None,
                lr=solver.BASE_LR,
                weight_decay=solver.WEIGHT_DECAY,
                layer_decay=solver.LAYER_DECAY,
            ),
            lr=solver.BASE_LR,
            name=solver.OPTIMIZER,
            momentum=solver.MOMENTUM,
            nesterov=solver.NESTEROV,
            clip_type=clip.CLIP_TYPE if clip.ENABLED and not whole else None,
            clip_value=clip.CLIP_VALUE,
            norm_type=clip.NORM_TYPE,
        ),
        lr_multiplier=call(build_schedule)(
            name=solver.LR_SCHEDULER_NAME,
            max_iter=solver.MAX_ITER,
            milestones=list(solver.STEPS),
            gamma=solver.GAMMA,
            warmup_iter=solver.WARMUP_ITERS,
            warmup_factor=solver.WARMUP_FACTOR,
            warmup_method=solver.WARMUP_METHOD,
            # the last two are keys of Detectron2's main branch
            end=solver.get("BASE_LR_END", 0.0) / solver.BASE_LR,
            num_decays=solver.get("NUM_DECAYS", 3),
        ),
        train={
            **defaults(Training),
            "output_dir": cfg.OUTPUT_DIR,
            "init_checkpoint": "" if are_of_others(cfg) else cfg.MODEL.WEIGHTS,
            "device": cfg.MODEL.DEVICE if "MODEL.DEVICE" in given else "auto",
            "max_iter": solver.MAX_ITER,
            "amp": dict(dtype="auto" if solver.AMP.ENABLED else "fp32"),
            # the key is of Detectron2's main branch; without it products are torch's, as by default here
            "tf32": "all" if cfg.get("FLOAT32_PRECISION", "") in ("high", "medium") else "convolutions",
            "cudnn_benchmark": cfg.CUDNN_BENCHMARK,
            "clip_grad_norm": clip.CLIP_VALUE if clip.ENABLED and whole else None,
            "checkpointer": dict(period=solver.CHECKPOINT_PERIOD, max_to_keep=3),
            # 0: at the end, as in Detectron2
            "eval_period": cfg.TEST.EVAL_PERIOD or solver.MAX_ITER,
            "seed": number,
        },
    )
