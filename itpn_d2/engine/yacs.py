"""Detectron2 ``.yaml`` configs, for people with yacs habits: translated once into the LazyConfig the engine
runs."""

from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode, LazyCall
from detectron2.modeling import build_model
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler, ParamScheduler
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import AdamW

from ..backbone import builders  # noqa: F401  (registers them)
from ..data import (
    TestMapper,
    TrainMapper,
    build_test_loader,
    build_train_loader,
    build_val_loss_loader,
    custom_augmentations,
    register_builtin,
    test_augmentations,
)
from ..errors import ConfigError
from ..evaluation import build_evaluator
from ..lazy.yaml_files import parse_yaml
from ..meta_arch import GeneralizedRCNN, ImageSegmentor, PanopticFPN, ProposalNetwork, RetinaNet
from ..solver import parameter_groups
from .schema import Training, defaults
from .yacs_files import merge_yacs

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
    cfg = merge_yacs("model.yaml", parse_yaml(yaml, "model.yaml"))
    cfg.MODEL.DEVICE = "cpu"  # the engine moves it
    sized = _SIZED.get(cfg.MODEL.META_ARCHITECTURE)
    return build_model(cfg) if sized is None else sized(cfg)


def translate(cfg: CfgNode, path: str) -> DictConfig:
    """The LazyConfig of a yacs config.

    The datasets are the registered names of ``DATASETS.TRAIN[0]`` and ``DATASETS.TEST[0]``; the optimizer is
    AdamW with layer decay, the schedule that of ``SOLVER``.
    """
    if len(cfg.DATASETS.TRAIN) != 1 or len(cfg.DATASETS.TEST) != 1:
        raise ConfigError(
            f"{path}: DATASETS.TRAIN={cfg.DATASETS.TRAIN} DATASETS.TEST={cfg.DATASETS.TEST}: "
            f"one registered name each; for your own json use configs/Custom/"
        )
    return OmegaConf.create(_translate(cfg), flags={"allow_objects": True})


def _translate(cfg: CfgNode) -> dict[str, Any]:
    call = LazyCall
    inputs, solver = cfg.INPUT, cfg.SOLVER
    test_views = call(test_augmentations)(short_side=inputs.MIN_SIZE_TEST, max_size=inputs.MAX_SIZE_TEST)
    train_mapper = dict(use_instance_mask=cfg.MODEL.MASK_ON, image_format=inputs.FORMAT)
    clip = solver.CLIP_GRADIENTS
    return dict(
        model=call(build_yacs_model)(yaml=cfg.dump()),
        dataset=dict(
            train=call(register_builtin)(name=cfg.DATASETS.TRAIN[0]),
            val=call(register_builtin)(name=cfg.DATASETS.TEST[0]),
            num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            class_names=None,
        ),
        dataloader=dict(
            train=call(build_train_loader)(
                dataset=cfg.DATASETS.TRAIN[0],
                mapper=call(TrainMapper)(
                    augmentations=call(custom_augmentations)(
                        short_sides=list(inputs.MIN_SIZE_TRAIN), max_size=inputs.MAX_SIZE_TRAIN, colour=False
                    ),
                    seed=max(cfg.SEED, 0),
                    **train_mapper,
                ),
                total_batch_size=solver.IMS_PER_BATCH,
                num_workers=cfg.DATALOADER.NUM_WORKERS,
                seed=max(cfg.SEED, 0),
                aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            ),
            test=call(build_test_loader)(
                dataset=cfg.DATASETS.TEST[0],
                mapper=call(TestMapper)(augmentations=test_views, image_format=inputs.FORMAT),
                num_workers=cfg.DATALOADER.NUM_WORKERS,
            ),
            val_loss=call(build_val_loss_loader)(
                dataset=cfg.DATASETS.TEST[0],
                mapper=call(TrainMapper)(augmentations=test_views, seed=0, **train_mapper),
                batch_size=1,
            ),
            evaluator=call(build_evaluator)(dataset_name=cfg.DATASETS.TEST[0], output_dir=None),
        ),
        optimizer=call(AdamW)(
            params=call(parameter_groups)(
                model=None,
                lr=solver.BASE_LR,
                weight_decay=solver.WEIGHT_DECAY,
                layer_decay=solver.LAYER_DECAY,
            ),
            lr=solver.BASE_LR,
        ),
        lr_multiplier=call(build_schedule)(
            name=solver.LR_SCHEDULER_NAME,
            max_iter=solver.MAX_ITER,
            milestones=list(solver.STEPS),
            gamma=solver.GAMMA,
            warmup_iter=solver.WARMUP_ITERS,
            warmup_factor=solver.WARMUP_FACTOR,
        ),
        train={
            **defaults(Training),
            "output_dir": cfg.OUTPUT_DIR,
            "init_checkpoint": cfg.MODEL.WEIGHTS,
            "max_iter": solver.MAX_ITER,
            "amp": dict(dtype="auto" if solver.AMP.ENABLED else "fp32"),
            "clip_grad_norm": clip.CLIP_VALUE if clip.ENABLED else None,
            "checkpointer": dict(period=solver.CHECKPOINT_PERIOD, max_to_keep=3),
            "eval_period": cfg.TEST.EVAL_PERIOD,
            "seed": max(cfg.SEED, 0),
        },
    )


def build_schedule(
    name: str, max_iter: int, milestones: list[int], gamma: float, warmup_iter: int, warmup_factor: float
) -> ParamScheduler:
    """The two schedules of Detectron2's yacs solver, as multipliers of the base rate."""
    if name == "WarmupCosineLR":
        after: ParamScheduler = CosineParamScheduler(1.0, 0.0)
    elif name == "WarmupMultiStepLR":
        milestones = [m for m in milestones if m < max_iter]
        values = [gamma**k for k in range(len(milestones) + 1)]
        after = MultiStepParamScheduler(values, milestones=milestones, num_updates=max_iter)
    else:
        raise ValueError(f"SOLVER.LR_SCHEDULER_NAME {name!r}: choose WarmupMultiStepLR or WarmupCosineLR")
    return WarmupParamScheduler(after, warmup_factor, min(warmup_iter / max_iter, 1.0))
