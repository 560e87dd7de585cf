"""The trunks under timm's names: ``timm.create_model("fast_itpn_tiny")`` after ``import itpn_d2``.

As a classifier, or with ``features_only=True`` as maps at strides 4, 8 and 16. timm's own arguments apply:
``num_classes``, ``global_pool``, ``in_chans``, ``img_size`` (the grid of the position table; other sizes
run, too), ``drop_rate``, ``drop_path_rate``, ``device``, ``dtype``; any other goes to the trunk.

``pretrained=True`` loads the pre-training that the model zoo lists for the name, as
``itpn_d2.create_model(name, weights=True)`` does: it has no head, which starts anew. With an address of
timm's own (``local-dir:``, ``hf-hub:``) it is a file of :class:`TrunkClassifier`, as of ``checkpoint_path=``.
Position table and input bands are adapted in every case. ``torch.compile``, ``torch.fx`` and
``torch.jit.script`` take the models; the graphs serve images of any size. A scripted model only has
``forward``, in the mode (training or evaluation) that the model was in.
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
from .classifier import TrunkClassifier, pooling_of, token_grid
from .variants import VARIANTS

Loader = Callable[[nn.Module, str], None]
# variants of which the model zoo lists a pre-training, under itpn://VARIANT
_PUBLISHED = (
    "fast_itpn_nano",
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

# what timm's networks can be asked for
_ALWAYS = {"dynamic_img_size": True, "dynamic_img_pad": True, "strict_img_size": False}


def _config(variant: str) -> dict[str, Any]:
    # timm hands an address under "file" to the model's load_pretrained as it is
    source = {"file": f"itpn://{variant}", "custom_load": True} if variant in _PUBLISHED else {}
    return {**_CONFIG, **source}


default_cfgs = generate_default_cfgs({name: _config(name) for name in VARIANTS})
__all__: list[str] = []  # filled by register_model
_loaders: list[Loader] = []


def use_loader(load: Loader) -> None:
    """Let ``load`` read the weights of the model zoo, since nothing in this package reads files."""
    _loaders[:] = [load]


class _TimmClassifier(TrunkClassifier):
    """A classifier that timm tells where its weights are."""

    def load_pretrained(self, address: str) -> None:
        """The method that timm calls for weights that are not in its own format."""
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
    for name, always in _ALWAYS.items():
        if options.pop(name, always) is not always:
            raise ValueError(f"{variant}: {name}={not always}:images may have any size, so leave it out")
    pooling = pooling_of(global_pool)
    with torch.device(device) if device is not None else nullcontext():
        trunk = VARIANTS[variant].trunk(
            in_channels=in_chans,
            pos_grid=token_grid(img_size),
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
        if kwargs.get("features_only") and kwargs.get("feature_cls") in ("list", "dict"):
            raise ValueError(
                f"{name}: feature_cls {kwargs['feature_cls']!r} runs the parts of a model one after the "
                "other, which does not work for this model: choose getter, fx or hook"
            )
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
