"""The trunks under timm's names: ``timm.create_model("fast_itpn_tiny")`` after ``import itpn_d2``.

As a classifier, or with ``features_only=True`` as maps at strides 4, 8 and 16. timm's own arguments apply:
``num_classes``, ``global_pool``, ``in_chans``, ``img_size`` (the grid of the position table; other sizes
run, too), ``drop_rate``, ``drop_path_rate``, ``device``, ``dtype``; any other goes to the trunk.

``pretrained=True`` loads the pre-training that the model zoo lists for the name, as
``itpn_d2.create_model(name, weights=True)`` does: it has no head, which starts anew. With an address of
timm's own (``local-dir:``, ``hf-hub:``) it is a file of :class:`TrunkClassifier`, as of ``checkpoint_path=``.
Position table and input bands are adapted in every case. ``torch.compile`` takes the models;
``torch.jit.script`` and ``torch.fx`` can't follow the trunk, which cuts its grid by the size of the image.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from torch import Tensor, nn

from .adapt import adapt
from .classifier import Pooling, TrunkClassifier
from .trunk import TOKEN_STRIDE
from .variants import VARIANTS

Loader = Callable[[nn.Module, str], None]
# variants of which the model zoo lists a pre-training, under itpn://VARIANT
_PUBLISHED = (
    "fast_itpn_tiny",
    "fast_itpn_small",
    "fast_itpn_base",
    "fast_itpn_large",
    "itpn_base",
    "itpn_large",
)
_CONFIG: dict[str, Any] = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": (14, 14),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "first_conv": "trunk.patch_embed.proj",  # a linear layer, adapted to other bands before timm sees it
    "classifier": "head",
}


def _config(variant: str) -> dict[str, Any]:
    # timm hands an address under "file" to the model's load_pretrained as it is
    source = {"file": f"itpn://{variant}", "custom_load": True} if variant in _PUBLISHED else {}
    return {**_CONFIG, **source}


default_cfgs = generate_default_cfgs({name: _config(name) for name in VARIANTS})
__all__: list[str] = []  # filled by register_model
_loaders: list[Loader] = []


def use_loader(load: Loader) -> None:
    """Let ``load`` read the weights of the model zoo: nothing in this package reads files."""
    _loaders[:] = [load]


class _TimmClassifier(TrunkClassifier):
    """A classifier that timm tells where its weights are."""

    def load_pretrained(self, address: str) -> None:
        """What timm calls for weights that are not in its own form."""
        if not _loaders:
            raise RuntimeError(f"{address}: import itpn_d2, which knows how to read it")
        _loaders[0](self, address)


def _classifier(
    variant: str,
    num_classes: int = 1000,
    global_pool: str = "avg",
    in_chans: int = 3,
    img_size: int | tuple[int, int] = 224,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> TrunkClassifier:
    if global_pool not in ("avg", ""):
        raise ValueError(f"{variant}: global_pool {global_pool!r}: choose avg, or an empty string for none")
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    pooling: Pooling = "mean_then_norm" if global_pool else "none"
    with torch.device(device) if device is not None else nullcontext():
        trunk = VARIANTS[variant].trunk(
            in_channels=in_chans,
            pos_grid=(-(-height // TOKEN_STRIDE), -(-width // TOKEN_STRIDE)),
            drop_path=drop_path_rate,
            **{"final_norm": False, **options},
        )
        return _TimmClassifier(trunk, num_classes, pooling, drop_rate=drop_rate).to(dtype=dtype)


def _fitted(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Position table and input bands of pre-trained weights as ``model`` has them."""
    out = dict(state)
    for key, like in model.state_dict().items():
        value = state.get(key)
        if value is not None and value.shape != like.shape and (found := adapt(key, value.float(), like)):
            out[key] = found[0].to(value.dtype)
    return out


def _entrypoint(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return build_model_with_cfg(
            partial(_classifier, name),
            name,
            pretrained,
            feature_cfg={"out_indices": (0, 1, 2), "feature_cls": "getter"},
            pretrained_filter_fn=_fitted,
            **kwargs,
        )

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"{name}, see the module."
    return create


for _name in VARIANTS:
    if not is_model(_name):  # a name that timm has itself stays timm's
        register_model(_entrypoint(_name))
