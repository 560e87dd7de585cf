"""Published DINO and Mask DINO checkpoints into models: into one that is there, or into one of their sizes.

Sizes are read from names and shapes. Options that these do not show follow from the code that the names
belong to (positions, norms, rules), or are arguments whose defaults are the values of all published files.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.modeling import Backbone
from torch import Tensor, nn

from ..errors import CheckpointError
from ..meta_arch.dino import DINO, Decoder, Encoder
from ..meta_arch.dino.decoder import DecoderLayer
from ..meta_arch.mask_dino import MaskDINO
from .detectors import FeatureOrder, MappedDetector, to_native_detector
from .finite import check_finite
from .report import LoadReport
from .state import Stored

logger = logging.getLogger(__name__)
State = dict[str, Tensor]
# they depend on the classes, or on the backbone, of which another one may be used
_CLASSES = ("class_head.", "selection.class_head.", "denoising.labels.")
_MAPS = ("neck.", "pixel_features.lateral.0.")


@dataclass(frozen=True)
class DetectorSizes:
    """The sizes that names and shapes show.

    ``points`` follows from ``num_heads``, which none of them shows; ``num_queries`` is None where queries are
    the encoder's cells, of which any number may be taken.
    """

    layout: str
    dim: int
    num_heads: int
    levels: int
    points: int
    encoder_layers: int
    encoder_hidden: int
    decoder_layers: int
    decoder_hidden: int
    maps: tuple[int, ...]
    extra_levels: int
    num_classes: int
    no_object: bool
    label_rows: int | None
    num_queries: int | None
    two_stage: bool
    learnt_queries: bool
    share_heads: bool
    mask_channels: int | None
    mask_dim: int | None
    feature_order: FeatureOrder | None

    def __str__(self) -> str:
        name = "a Mask DINO" if self.layout == "maskdino" else f"a DINO (names of {self.layout})"
        queries = "cells as queries" if self.num_queries is None else f"{self.num_queries} queries"
        maps = f"{len(self.maps)} maps of {'/'.join(map(str, self.maps))} channels"
        return (
            f"{name}: dim {self.dim}, {self.encoder_layers} + {self.decoder_layers} layers, "
            f"{self.levels} levels ({maps}), {self.num_heads} heads x {self.points} points, "
            f"{self.num_classes} classes, {queries}"
        )


def detector_sizes(mapped: MappedDetector, num_heads: int = 8) -> DetectorSizes:
    """The sizes of a published detector.

    Raises:
        CheckpointError: a tensor that all of them have is missing, or does not go with the number of heads.
    """
    state = mapped.state
    try:
        return _read(mapped, num_heads)
    except KeyError as error:
        raise CheckpointError(
            f"not a complete {mapped.layout}: {error} is missing ({len(state)} tensors)"
        ) from error


def _read(mapped: MappedDetector, num_heads: int) -> DetectorSizes:
    state = mapped.state
    levels, dim = state["encoder.level"].shape
    rows = len(state["decoder.layers.0.attention.weights.weight"])
    if dim % num_heads or rows % (num_heads * levels):
        raise CheckpointError(
            f"num_heads={num_heads}: {dim} channels and {rows} weights on {levels} levels are not "
            "divisible by it"
        )
    maps = tuple(
        state[f"neck.project.{i}.0.weight"].shape[1] for i in range(_count(state, r"neck\.project\.(\d+)\."))
    )
    share = "class_head.weight" in state
    logits = len(state["class_head.weight" if share else "class_head.0.weight"])
    labels = state.get("denoising.labels.weight")
    known = len(labels) if labels is not None else logits
    no_object = mapped.layout == "maskdino" and logits == known + 1
    learnt = state.get("content.weight")
    lateral, proj = state.get("pixel_features.lateral.0.weight"), state.get("pixel_features.proj.weight")
    return DetectorSizes(
        layout=mapped.layout,
        dim=dim,
        num_heads=num_heads,
        levels=levels,
        points=rows // (num_heads * levels),
        encoder_layers=_count(state, r"encoder\.layers\.(\d+)\."),
        encoder_hidden=len(state["encoder.layers.0.feed_forward.0.weight"]),
        decoder_layers=_count(state, r"decoder\.layers\.(\d+)\."),
        decoder_hidden=len(state["decoder.layers.0.feed_forward.0.weight"]),
        maps=maps,
        extra_levels=_count(state, r"neck\.extra\.(\d+)\."),
        num_classes=logits - no_object,
        no_object=no_object,
        label_rows=None if labels is None else known,
        num_queries=None if learnt is None else len(learnt),
        two_stage="selection.proj.weight" in state,
        learnt_queries=learnt is not None,
        share_heads=share,
        mask_channels=None if lateral is None else lateral.shape[1],
        mask_dim=None if proj is None else len(proj),
        feature_order=mapped.feature_order,
    )


def _count(state: State, pattern: str) -> int:
    return len({m[1] for k in state if (m := re.match(pattern, k))})


def published_options(sizes: DetectorSizes) -> dict[str, Any]:
    """The options of the code behind a layout that no shape shows, by the name of the model's attribute."""
    options: dict[str, Any] = {
        "reference": sizes.layout,
        "encoder.temperature": 20.0 if sizes.layout == "dino" else 10000.0,
        "encoder.centred": sizes.layout == "detrex",
        "encoder.interleaved": True,
        "decoder.refine_normed": False,
    }
    if sizes.layout == "maskdino":
        options |= {"initial_prediction": True, "norm_twice": True}
        if sizes.two_stage:
            options["selection.coarsest_first"] = sizes.feature_order == "low2high"
    return options


def find_detector(model: nn.Module) -> tuple[str, DINO] | None:
    """The first DINO or Mask DINO in a model, and what stands before its names."""
    return next(((f"{n}." if n else "", m) for n, m in model.named_modules() if isinstance(m, DINO)), None)


def load_detector(model: nn.Module, stored: Stored, name: str = "") -> LoadReport:
    """A published DINO or Mask DINO into a model that is or holds one; the backbone where it has the same
    names.

    Heads of classes, and what reads the backbone's maps, may be of other shapes: they stay as they are, and
    are rows of the report.

    Raises:
        CheckpointError: the rest of the network is of another size or kind; the model is then untouched.
    """
    found = find_detector(model)
    assert found is not None
    root, detector = found
    layer = detector.decoder.layers[0]
    assert isinstance(layer, DecoderLayer)
    heads = layer.attention.num_heads
    mapped = to_native_detector(stored.state, heads)
    sizes = detector_sizes(mapped, heads)
    report = LoadReport(name, mapped.layout, contents=f"{stored}\n{'':11} {sizes}", ignored=mapped.ignored)
    own = detector.state_dict()
    state = {**mapped.state, **{k[k.index("backbone.") :]: stored.state[k] for k in mapped.backbone}}
    chosen: State = {}
    for key, value in state.items():
        like = own.get(key)
        if like is None:
            report.unexpected.append(key)
        elif value.shape != like.shape:
            row = f"{root}{key}: file {tuple(value.shape)}, model {tuple(like.shape)}"
            report.mismatched.append(row)
        else:
            report.loaded.append(root + key)
            chosen[key] = value.to(like.dtype)
    report.missing = [root + k for k in own if k not in chosen]
    free = (*_CLASSES, *_MAPS, "backbone.")
    no_noise = ("denoising.",) if detector.denoising is None else ()
    odd = [k for k in report.unexpected if not k.startswith((*_MAPS, *no_noise, "backbone."))]
    odd += [k for k in report.missing + report.mismatched if not k.removeprefix(root).startswith(free)]
    shared = "class_head.weight" in own
    if shared != sizes.share_heads or odd:
        which = odd[0] if odd else f"decoder.share_heads={sizes.share_heads}"
        raise CheckpointError(
            f"the detector is of another size or kind ({which}); the file holds {sizes}: build it so, or "
            f"with itpn_d2.checkpoint.create_from_checkpoint(file, backbone=...)\n{report}"
        )
    for option, wanted in published_options(sizes).items():
        has = _attribute(detector, option)
        if has != wanted:
            report.hints.append(f"it was trained with {option}={wanted!r}, but the model has {has!r}")
    check_finite(
        {root + key: value for key, value in chosen.items()}, {root + k: v for k, v in state.items()}
    )
    detector.load_state_dict(chosen, strict=False)
    logger.info("Checkpoint %s", report)
    return report


def _attribute(detector: DINO, option: str) -> Any:
    if option == "reference":
        return detector.reference.name
    *parts, last = option.split(".")
    owner: Any = detector
    for part in parts:
        owner = getattr(owner, part)
    return getattr(owner, last, None)


def create_detector(
    stored: Stored,
    *,
    backbone: Backbone | None,
    num_heads: int = 8,
    feature_order: FeatureOrder | None = None,
    in_features: Sequence[str] | None = None,
    name: str = "",
    **overrides: Any,
) -> DINO:
    """A DINO or Mask DINO of a published file's sizes and rules, loaded; see
    :func:`~.create.create_from_checkpoint`.

    Raises:
        CheckpointError: there is no ``backbone``; or, for ``task="panoptic"``, no ``num_classes``, the number
            of things.
    """
    mapped = to_native_detector(stored.state, num_heads, feature_order)
    sizes = detector_sizes(mapped, num_heads)
    if backbone is None:
        raise CheckpointError(f"it holds {sizes}: pass its backbone (backbone=..., any Detectron2 backbone)")
    shapes = backbone.output_shape()
    finest = sorted(shapes, key=lambda k: shapes[k].stride)
    features = list(in_features or finest[-len(sizes.maps) :])
    known: dict[str, Any] = {
        "dim": sizes.dim,
        "num_heads": num_heads,
        "levels": sizes.levels,
        "points": sizes.points,
    }
    rules = published_options(sizes)
    encoder = Encoder(
        **known,
        hidden=sizes.encoder_hidden,
        num_layers=sizes.encoder_layers,
        **{k: rules[f"encoder.{k}"] for k in ("temperature", "centred", "interleaved")},
    )
    decoder = Decoder(
        **known,
        hidden=sizes.decoder_hidden,
        num_layers=sizes.decoder_layers,
        share_heads=sizes.share_heads,
        refine_normed=rules["decoder.refine_normed"],
    )
    options: dict[str, Any] = {
        "num_classes": sizes.num_classes,
        "num_queries": sizes.num_queries or (300 if sizes.layout == "maskdino" else 900),
        "denoising": {"rows": sizes.label_rows},
        "in_features": features,
        "extra_levels": sizes.levels - len(features),
        "groups": 32,
        "two_stage": sizes.two_stage,
        "learnt_queries": sizes.learnt_queries,
        "no_object": sizes.no_object,
        "reference": rules["reference"],
    }
    if sizes.layout == "maskdino":
        options |= {
            "task": "semantic" if sizes.no_object else "instance",
            "mask_feature": finest[0],
            "mask_dim": sizes.mask_dim,
            "box_init": "mask2box" if sizes.two_stage else "no",
            "initial_prediction": rules["initial_prediction"],
            "norm_twice": rules["norm_twice"],
            "shared_encoder_heads": sizes.two_stage,
            "coarsest_first": bool(rules.get("selection.coarsest_first")),
            "things_first": False,
            "test_topk_per_image": 100,
            "denoising": {
                "rows": sizes.label_rows,
                "contrastive": False,
                "label_noise": 0.4,
                "box_noise": 0.4,
            },
            "resize": "scores" if sizes.no_object else "masks",
        }
        if overrides.get("task") == "panoptic":
            things = overrides.get("num_classes")
            if things is None:
                raise CheckpointError(
                    f"task 'panoptic': say how many of the {sizes.num_classes} classes are things "
                    f"(num_classes=80 of COCO's 133)"
                )
            options |= {"num_semantic_classes": sizes.num_classes - things + 1, "box_init": "no"}
    options |= overrides
    kind = MaskDINO if sizes.layout == "maskdino" else DINO
    model = kind(backbone=backbone, encoder=encoder, decoder=decoder, **options)
    load_detector(model, stored, name)
    return model
