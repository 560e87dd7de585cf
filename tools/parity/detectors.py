"""DINO and Mask DINO of the parity checker, above their backbone: its maps are stored.

The network is built as a sidecar's ``build`` block (schema 2) says, loaded through the key maps, and run in
the reference's mode. Results are compared in the reference's order of levels.
"""

from dataclasses import replace
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import Tensor, nn

from itpn_d2.checkpoint import CheckpointError
from itpn_d2.checkpoint.detectors import to_native_detector
from itpn_d2.meta_arch import DINO, MaskDINO
from itpn_d2.meta_arch.dino import Decoder, Encoder
from itpn_d2.meta_arch.dino.denoising import NoisyQueries
from itpn_d2.meta_arch.dino.geometry import Geometry, sine_embedding
from itpn_d2.meta_arch.dino.reference import Name, Reference, reference_of
from itpn_d2.meta_arch.dino.structures import Predictions, bounded_logit
from parity import criteria
from parity.backbones import Block, Outputs, Unsupported, variant_weights

FAMILIES = ("dino", "mask_dino")


class StoredMaps(Backbone):
    """A backbone that says what the fixture holds."""

    def __init__(self, build: Block):
        super().__init__()
        parts = zip(build["in_features"], build["in_channels"], build["strides"], strict=True)
        self.shapes = {name: ShapeSpec(channels=c, stride=s) for name, c, s in parts}
        self.maps: Outputs = {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self.shapes

    def forward(self, x: Tensor) -> Outputs:
        return self.maps


def rules_of(build: Block, variant: Block) -> Reference:
    """The reference's rules, with what the block says of them."""
    name: Name = "detrex" if build["names"] == "detrex" else "dino"
    if build["family"] == "mask_dino":
        name = "maskdino"
    masked = bool(variant["padding_mask"])
    return replace(
        reference_of(name),
        padding_in_training=masked,
        padding_in_evaluation=masked,
        logit_eps=build["inverse_sigmoid_eps"],
        unused_hidden=bool((build.get("denoising") or {}).get("unused_slots_blocked")),
    )


def build_model(build: Block, variant: Block) -> DINO:
    check_known(build)
    masks = build["family"] == "mask_dino"
    position = build["position"]
    sizes: dict[str, Any] = {
        "dim": build["embed_dim"],
        "num_heads": build["num_heads"],
        "levels": build["num_levels"],
        "points": build["num_points"],
    }
    encoder = Encoder(
        **sizes,
        hidden=build.get("enc_ffn_dim") or build["ffn_dim"],
        num_layers=build["enc_layers"],
        temperature=position["temperature"],
        centred=position["offset"] == -0.5,
        interleaved=True,
    )
    decoder = Decoder(
        **sizes,
        hidden=build["ffn_dim"],
        num_layers=build["dec_layers"],
        share_heads=build["share_heads"],
        refine_normed=not build["refine_from"].startswith("state before"),
    )
    features = build.get("encoder_features") or build["in_features"]
    learnt = build["query_content"].startswith("learnt")
    shared: dict[str, Any] = {
        "backbone": StoredMaps(build),
        "num_classes": build["num_classes"],
        "encoder": encoder,
        "decoder": decoder,
        "num_queries": build["num_queries"],
        "denoising": {"rows": build["label_rows"]},
        "in_features": features,
        "extra_levels": build["num_levels"] - len(features),
        "groups": build["neck"]["groups"] if build["neck"]["norm"] == "group" else None,
        "two_stage": build["two_stage"],
        "learnt_queries": learnt,
        "no_object": build["logits_per_class"] > build["num_classes"],
        "deformable": "torch",
        "reference": rules_of(build, variant),
    }
    if not masks:
        model = DINO(**shared, test_topk_per_image=build["top_k"])
    else:
        panoptic = build.get("things") is not None
        if panoptic:
            shared["num_classes"] = build["things"]
        model = MaskDINO(
            **shared,
            task=build["task"],
            num_semantic_classes=build["num_classes"] - build["things"] + 1 if panoptic else None,
            mask_feature=build["in_features"][0],
            mask_dim=build["mask_dim"],
            box_init=variant.get("box_init") or build["box_init"] or "no",
            initial_prediction=build["initial_prediction"],
            norm_twice="normed twice" in build["predict_from"],
            shared_encoder_heads="shared" in build["encoder_heads"],
            coarsest_first=build["feature_order"] == "low2high",
            things_first=False,
            test_topk_per_image=build["inference"]["top_k"],
        )
        for module in model.pixel_features.modules():
            if isinstance(module, nn.GroupNorm):
                module.num_groups = build["pixel"]["groups"]
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = build["norm_eps"]
        elif isinstance(module, nn.GroupNorm):
            module.eps = build["neck"]["norm_eps"]
    return model


def check_known(build: Block) -> None:
    """Unsupported: something that no model here can be told."""
    position, query = build["position"], build["query_position"]
    wrong = [
        f"{name} {value!r}"
        for name, value, known in (
            ("schema", build["schema"], (2,)),
            ("activation", build["activation"], ("relu",)),
            ("position.offset", position["offset"], (0, -0.5)),
            ("position.feats", position["feats"], (build["embed_dim"] // 2,)),
            ("position.normalise", position["normalise"], (True,)),
            ("query_position.temperature", query["temperature"], (10000,)),
            ("query_position.feats", query["feats"], (build["embed_dim"] // 2,)),
            ("query_position.order", query["order"], ("y, x, w, h",)),
            ("neck.kernel", build["neck"]["kernel"], (1,)),
        )
        if value not in known
    ]
    if wrong:
        raise Unsupported(", ".join(wrong))


def load(model: DINO, build: Block, weights: Outputs) -> None:
    mapped = to_native_detector(weights, build["num_heads"], build.get("feature_order"))
    lost = set(mapped.ignored) - set(build["aliases"])
    problems = model.load_state_dict(mapped.state, strict=False)
    if lost or problems.missing_keys or problems.unexpected_keys:
        raise CheckpointError(
            f"the weights do not fit the model: not known {sorted(lost)[:3]}, missing "
            f"{problems.missing_keys[:3]}, unexpected {problems.unexpected_keys[:3]}"
        )


def run_case(build: Block, variant: Block, case: Block, tensors: Outputs) -> Outputs:
    """Build, load and run the network of one case."""
    given = {role: tensors[key] for role, key in case["inputs"].items()}
    model = build_model(build, variant)
    load(model, build, variant_weights(variant, case, tensors))
    model.train()  # there is no dropout; the rules do not ask
    assert isinstance(model.backbone, StoredMaps)
    model.backbone.maps = {name: given[name] for name in build["in_features"]}
    sizes = [(int(h), int(w)) for h, w in variant["image_sizes"]]
    images = ImageList(torch.zeros(case["batch"], 3, *case["size"]), sizes)
    with torch.no_grad():
        return run_model(build, variant, model, images, given)


def run_model(build: Block, variant: Block, model: DINO, images: ImageList, given: Outputs) -> Outputs:
    found: Outputs = {}
    outputs: list[Tensor] = []  # of the decoder's layers, before the norm
    handles = [
        layer.register_forward_hook(lambda m, args, out: outputs.append(out))
        for layer in model.decoder.layers
    ]
    selected, memory, geometry, finest = model.encode(images)
    noisy = noisy_queries(model, given, build) if variant["denoising"] else None
    layers = model.decode(selected, noisy, memory, geometry, finest)
    for handle in handles:
        handle.remove()
    x, anchors = model.start(selected)
    if noisy is not None:
        anchors = torch.cat((noisy.anchors, anchors), 1)
    count = 0 if noisy is None else len(noisy)
    describe_levels(build, model, memory, geometry, given, found)
    describe_selected(build, model, selected, geometry, found)
    found["initial_boxes"] = anchors.sigmoid()
    states = torch.stack([model.decoder.norm(out) for out in outputs])
    found["states"] = states[:, :, count:]
    found["references"] = references(build, model, anchors, outputs)[:, :, count:]
    for start, end, prefix in ((count, None, ""), (0, count, "dn_")):
        if prefix and noisy is None:
            continue
        parts = [p.queries(start, end) for p in layers]
        found[f"{prefix}logits"] = torch.stack([p.logits for p in parts])
        found[f"{prefix}boxes"] = torch.stack([p.boxes for p in parts])
        if finest is not None:
            masks = torch.stack([whole_masks(p) for p in parts])
            found[f"{prefix}masks"] = masks[-1] if prefix else masks
    if finest is not None:
        found["mask_features"] = finest
    if noisy is None and build.get("output_sizes"):
        describe_results(build, model, layers[-1], images, found)
    return found


def whole_masks(predictions: Predictions) -> Tensor:
    masks = predictions.masks
    assert masks is not None
    return torch.stack([masks.of(i) for i in range(len(predictions.logits))])


def noisy_queries(model: DINO, given: Outputs, build: Block) -> NoisyQueries:
    """The stored de-noising queries; -1 is the label of an unused slot."""
    assert model.denoising is not None
    labels, anchors, blocked = given["dn_labels"], given["dn_anchors"], given["dn_blocked"]
    unused = labels < 0
    content = model.denoising.labels(labels.clamp(min=0)).masked_fill(unused[..., None], 0)
    hidden = nn.functional.pad(unused, (0, len(blocked) - labels.shape[1]))
    return NoisyQueries(content, anchors, blocked.bool(), hidden, [], build["denoising"].get("groups", 1))


def split_levels(x: Tensor, geometry: Geometry) -> list[Tensor]:
    """``(B, S, ...)`` to ``(B, h, w, ...)`` of each level, finest first."""
    parts = x.split([h * w for h, w in geometry.shapes], 1)
    return [part.unflatten(1, shape) for part, shape in zip(parts, geometry.shapes, strict=True)]


def describe_levels(
    build: Block, model: DINO, memory: Tensor, geometry: Geometry, given: Outputs, found: Outputs
) -> None:
    padding = geometry.padding
    if padding is None:
        padding = torch.zeros(memory.shape[:2], dtype=torch.bool)
    found["memory"] = memory.masked_fill(padding[..., None], 0)
    levels = split_levels(memory, geometry)
    if build.get("feature_order") == "high2low":
        levels.reverse()
    found |= {f"memory{k}": level.permute(0, 3, 1, 2) for k, level in enumerate(levels)}
    found |= {f"level{k}": level for k, level in enumerate(model.neck(given))}
    masks = split_levels(padding, geometry)
    found |= {f"mask{k}": mask for k, mask in enumerate(masks)}
    positions = split_levels(model.encoder.positions(geometry), geometry)
    outside = outer_positions(build, masks)
    for k, (inner, mask, outer) in enumerate(zip(positions, masks, outside, strict=True)):
        found[f"position{k}"] = torch.where(mask[..., None], outer, inner).permute(0, 3, 1, 2)


def outer_positions(build: Block, masks: list[Tensor]) -> list[Tensor]:
    """What the references give to cells outside their image, which reaches nothing: detrex nothing that could
    be compared, the official DINO the end of the image along one side, zero along the other."""
    feats, temperature = build["position"]["feats"], build["position"]["temperature"]
    found = []
    for mask in masks:
        counts = torch.stack([(~mask).cumsum(d, dtype=torch.float32) for d in (1, 2)], -1)
        ends = torch.stack(
            (counts[:, -1:, :, 0].expand(mask.shape), counts[:, :, -1:, 1].expand(mask.shape)), -1
        )
        waves = sine_embedding(counts / (ends + 1e-6), feats, temperature, interleaved=True)
        found.append(torch.zeros_like(waves) if build["names"] == "detrex" else waves)
    return found


def describe_selected(build: Block, model: DINO, selected: Any, geometry: Geometry, found: Outputs) -> None:
    if model.selection is None:
        return
    found["selected_token"], found["selected_logits"] = selected.tokens, selected.predictions.logits
    found["selected_boxes"] = selected.predictions.boxes
    head = model.selection.class_head or model.class_head
    found["selected_score"] = head(selected.tokens).amax(-1)
    if selected.predictions.masks is not None:
        found["selected_masks"] = whole_masks(selected.predictions)
    proposals, silent = model.selection.propose(geometry, model.reference)
    proposals = torch.where(silent[..., None], torch.ones_like(proposals), proposals)
    found["proposals"] = proposals.gather(1, selected.cells[..., None].expand(-1, -1, 4))
    numbers = torch.arange(proposals.shape[1])[None]
    if build.get("feature_order") == "low2high":  # chosen among the decoder's levels, coarsest first
        order = torch.cat([part.flatten(1) for part in split_levels(numbers, geometry)[::-1]], 1)
        numbers = order.argsort(1)
    found["selected_index"] = numbers[0][selected.cells]


def references(build: Block, model: DINO, anchors: Tensor, outputs: list[Tensor]) -> Tensor:
    """The refined boxes after each layer, the last one's too, which nothing uses."""
    found = []
    boxes = anchors.sigmoid()
    for number, out in enumerate(outputs):
        state = model.decoder.norm(out) if model.decoder.refine_normed else out
        shift = model.decoder.head(model.decoder.box_head, number)(state)
        boxes = (bounded_logit(boxes, build["inverse_sigmoid_eps"]) + shift).sigmoid()
        found.append(boxes)
    return torch.stack(found)


def describe_results(
    build: Block, model: DINO, predictions: Predictions, images: ImageList, found: Outputs
) -> None:
    """Instances through the model; maps through the functions that it uses."""
    sizes = [(int(h), int(w)) for h, w in build["output_sizes"]]
    if isinstance(model, MaskDINO):
        padded = (images.tensor.shape[-2], images.tensor.shape[-1])
        for number, (image, size) in enumerate(zip(images.image_sizes, sizes, strict=True)):
            assert predictions.masks is not None
            stored = predictions.logits[number], predictions.masks.of(number), predictions.boxes[number]
            frames = padded, (int(image[0]), int(image[1])), size
            for prefix, transform in (("", build["inference"]["transform"]), ("no_transform/", False)):
                results = criteria.results_of(build, stored, frames, transform)
                found |= {f"{prefix}results_{number}/{name}": x for name, x in results.items()}
    batch = [{"height": h, "width": w} for h, w in sizes]
    for number, result in enumerate(model.inference(predictions, batch, images)):
        instances = result.get("instances")
        start = f"instances_{number}/" if build["family"] == "dino" else f"results_{number}/instances_"
        if instances is not None:
            found[f"{start}boxes"] = instances.pred_boxes.tensor
            found[f"{start}scores"] = instances.scores
            found[f"{start}classes"] = instances.pred_classes
            if instances.has("pred_masks"):
                found[f"{start}masks"] = instances.pred_masks


def run_check(check: Block, tensors: Outputs, build: Block) -> Tensor | None:
    """None: these fixtures have no tensors that need no network."""
    return None
