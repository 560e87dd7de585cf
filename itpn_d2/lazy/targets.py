"""From the name of a target to the class or function; what a file of data may name."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from detectron2.utils.registry import _convert_target_to_string, locate

from ..errors import ConfigError

# Where a yaml may take a class from: packages, with what is below them. They hold parts of models,
# optimizers, schedules, transforms and evaluators, whose constructors neither run code that they are given
# nor write files.
_CLASSES = [
    "detectron2.data.common",
    "detectron2.data.dataset_mapper",
    "detectron2.data.samplers",
    "detectron2.data.transforms",
    "detectron2.evaluation",
    "detectron2.layers",
    "detectron2.modeling",
    "detectron2.projects",
    "detectron2.solver",
    "fvcore.common.param_scheduler",
    "fvcore.nn",
    "fvcore.transforms",
    "itpn_d2.backbone",
    "itpn_d2.data",
    "itpn_d2.evaluation",
    "itpn_d2.heads",
    "itpn_d2.layers",
    "itpn_d2.meta_arch",
    "pretrain.data",
    "pretrain.encoders",
    "pretrain.masking",
    "pretrain.methods",
    "pretrain.targets",
    "timm.layers",
    "timm.optim",
    "torch.nn",
    "torch.optim",
    "torchvision.ops",
    "torchvision.transforms",
]
# Functions one by one, since many of their neighbours write files: a package, and names in it or below.
_FUNCTIONS = {
    "detectron2.data": (
        "build_detection_test_loader",
        "build_detection_train_loader",
        "create_keypoint_hflip_indices",
        "get_detection_dataset_dicts",
    ),
    "detectron2.solver": ("get_default_optimizer_params",),
    "itpn_d2.backbone": ("create_model", "pyramid_shapes", "timm_classifier", "timm_shapes"),
    "itpn_d2.data": (
        "build_test_loader",
        "build_train_loader",
        "build_val_loss_loader",
        "coco_images",
        "custom_augmentations",
        "detectron2_augmentations",
        "hf_images",
        "image_folder",
        "image_shards",
        "lsj_augmentations",
        "multiscale_crop_augmentations",
        "register_ade20k",
        "register_builtin",
        "register_coco",
        "register_hf",
        "register_labelled_images",
        "register_panoptic",
        "register_scenes",
        "register_semantic",
        "register_together",
        "scenes",
        "semantic_augmentations",
        "test_augmentations",
        "text_list",
    ),
    "itpn_d2.engine.yacs": ("build_yacs_model",),
    "itpn_d2.engine.yacs_solver": ("build_schedule", "build_yacs_optimizer"),
    "itpn_d2.evaluation": ("build_evaluator", "build_registered_evaluator"),
    "itpn_d2.models": ("create_model",),
    "itpn_d2.heads": ("point_rend_mask_head",),
    "itpn_d2.solver": ("parameter_groups",),
    "pretrain.encoders": ("build_backbone",),
    "timm.data": ("create_transform",),
}
# Modules and functions that have another name now; configs that earlier versions wrote have the old one.
_RENAMED = {
    "itpn_d2.data.paths": "itpn_d2.data.image_sources",
    "itpn_d2.data.registry": "itpn_d2.data.catalogs",
    "itpn_d2.data.catalogs.register_coco": "itpn_d2.data.custom.register_coco",
}
_NOT = ("detectron2.modeling.mmdet_wrapper",)  # another library's loader of checkpoints
_trusted: set[str] = set()


def trust(package: str) -> None:
    """Let yaml configs name the classes and functions of ``package`` too, which this program vouches for."""
    _trusted.add(package)


def name_of(target: Any) -> str:
    """The name of a class or function in a config, as short as it can be found by."""
    return target if isinstance(target, str) else str(_convert_target_to_string(target))


def present_name(name: str) -> str:
    """The name that a class or function has today, of one that a file of an earlier version gives."""
    module, dot, rest = name.rpartition(".")
    found = f"{_RENAMED.get(module, module)}{dot}{rest}"
    return _RENAMED.get(found, found)


def find(target: Any, key: str) -> Callable[..., Any]:
    """What a config that is a program names.

    Raises:
        ConfigError: there is no such class or function; ``key`` is where it stands.
    """
    found = target
    if isinstance(target, str):
        try:
            found = locate(present_name(target)) if target else None
        except Exception as error:  # of the import of the module, which is anybody's
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise ConfigError(f"{key}={target!r}: there is no such class or function ({reason})") from error
    if not callable(found):
        raise ConfigError(f"{key}={target!r}: this is not a class or function; write package.module.Name")
    return found


def find_harmless(name: Any, key: str) -> Callable[..., Any]:
    """What a config that is data names, if it may. Modules outside the listed packages are not imported.

    Raises:
        ConfigError: there is none, or it is not on the list; ``key`` is where it stands.
    """
    found = _walk(present_name(name)) if isinstance(name, str) else None
    if found is None or not _is_harmless(found):
        raise ConfigError(
            f"{key}={name!r}: a .yaml is only data, and may name only parts of models and of training in "
            f"{', '.join(sorted({p.partition('.')[0] for p in (*_CLASSES, *_trusted)}))}; to run other "
            "code, write a .py config"
        )
    return found


def _walk(name: str) -> Any:
    """The object of a dotted name, None where there is none or its module is not one of the listed."""
    top, *rest = name.split(".")
    if not _leads_to_listed(top):
        return None
    try:
        found: Any = importlib.import_module(top)
        path = top
        for part in rest:
            path = f"{path}.{part}"
            if inspect.ismodule(found) and not hasattr(found, part):
                if not _leads_to_listed(path):
                    return None
                importlib.import_module(path)
            found = getattr(found, part)
            if inspect.ismodule(found) and not _leads_to_listed(found.__name__):
                return None
    except (ImportError, AttributeError, ValueError):
        return None
    return found


def _listed() -> set[str]:
    return {*_CLASSES, *_FUNCTIONS, *_trusted}


def _leads_to_listed(module: str) -> bool:
    return any(_is_below(module, package) or _is_below(package, module) for package in _listed())


def _is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _is_harmless(found: Any) -> bool:
    """By where it is defined, not by where it was found: a module also has what it imports."""
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return False
    module = str(found.__module__)
    if any(_is_below(module, package) for package in _trusted):
        return True
    if any(_is_below(module, package) for package in _NOT) or "." in found.__qualname__:
        return False
    if inspect.isclass(found):
        return any(_is_below(module, package) for package in _CLASSES)
    packages = [package for package in _FUNCTIONS if _is_below(module, package)]
    return any(found.__qualname__ in _FUNCTIONS[package] for package in packages)
