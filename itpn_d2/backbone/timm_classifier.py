"""A network of timm as a classifier."""

from collections.abc import Mapping
from typing import Any

import timm
from torch import nn

from .timm_features import check_name, plain


def timm_classifier(
    name: str,
    num_classes: int,
    drop_path: float = 0.0,
    img_size: int | tuple[int, int] | None = None,
    head_std: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """``timm.create_model`` with what configs say of our own classifiers.

    Args:
        drop_path: largest rate of stochastic depth.
        img_size: pixels, for networks that are built for a size; None: their own.
        head_std: of the head's initial weights, its bias then being 0; None: timm's. MAE and FastMIM
            fine-tune from 2e-5.
        options: further arguments of timm's constructor, such as ``global_pool``.

    Raises:
        ValueError: no such network, or none with a linear head where ``head_std`` is given.
    """
    check_name(name)
    arguments = {key: plain(value) for key, value in (options or {}).items()}
    if img_size is not None:
        arguments["img_size"] = plain(img_size)
    if drop_path:
        arguments["drop_path_rate"] = drop_path
    network = timm.create_model(name, num_classes=num_classes, **arguments)
    if head_std is not None:
        head: Any = network.get_classifier()
        if not isinstance(head, nn.Linear):
            raise ValueError(f"head_std={head_std}: {name} has no linear head but a {type(head).__name__}")
        nn.init.trunc_normal_(head.weight, std=head_std)
        nn.init.zeros_(head.bias)
    return network
