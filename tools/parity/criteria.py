"""Fixtures of losses for tools/check_parity.py: matches, losses and gradients of DINO's and Mask DINO's
criteria for stored predictions, and Mask DINO's results from stored predictions. Everything is read from the
sidecar."""

import re
from typing import Any

import torch
from torch import Tensor

from itpn_d2.meta_arch.dino import Criterion, HungarianMatcher
from itpn_d2.meta_arch.dino.denoising import NoisyQueries
from itpn_d2.meta_arch.dino.structures import MaskLogits, Match, Predictions, Targets
from itpn_d2.meta_arch.mask_dino import MaskCriterion, MaskMatcher, inference
from parity.backbones import Outputs, Unsupported

TASKS = ("criterion",)
# loss_ce_dn_0: which loss, of what, of which prediction; without a number the last
_NAME = re.compile(r"loss_(class|ce|bbox|giou|mask|dice)(_enc|_interm|_dn)?(?:_(\d+))?")
_OURS = {"ce": "class", "bbox": "box"}
_COSTS = {
    "cost_class": "class_cost",
    "cost_bbox": "box_cost",
    "cost_giou": "giou_cost",
    "cost_mask": "mask_cost",
    "cost_dice": "dice_cost",
    "alpha": "alpha",
    "gamma": "gamma",
}


class StoredPoints(MaskCriterion):
    """Looks at every mask at the same stored points ``(1, P, 2)``."""

    stored: Tensor

    def points(self, logits: Tensor) -> Tensor:
        return self.stored.expand(len(logits), -1, -1)


def makes_results(case: dict[str, Any]) -> bool:
    """Whether a case starts from predictions, and results are made of them without a network."""
    return {"logits", "masks", "boxes"} <= case["inputs"].keys()


def build_criterion(build: dict[str, Any], variant: dict[str, Any], inputs: Outputs) -> Criterion:
    given, loss = build["matcher"], build["loss"]
    costs = {ours: given[name] for name, ours in _COSTS.items() if name in given}
    if given.get("things") is not None:
        raise Unsupported("a matcher that knows things: the fixtures' is the same for all classes")
    options: dict[str, Any] = {
        "alpha": loss["alpha"],
        "gamma": loss["gamma"],
        "class_loss": variant.get("class_loss", "focal"),
        "no_object_weight": loss.get("eos_weight", 0.1),
        "giou_eps": loss["giou_eps"],
        "unused_slots": build["denoising"]["unused_slots"].startswith("no object"),
    }
    if build["family"] == "dino":
        return Criterion(HungarianMatcher(**costs), **options)
    if loss["dice_smooth"] != 1:
        raise Unsupported(f"dice with {loss['dice_smooth']} added above and below the line; ours has 1")
    matcher = MaskMatcher(**costs, num_points=1)
    matcher.points = inputs["points_matcher"][0]
    if variant.get("box_losses", "all") == "things":
        options["things"] = loss["things"]
    criterion = StoredPoints(matcher, **options)
    criterion.stored = inputs["points_loss"]
    return criterion


def targets_of(build: dict[str, Any], batch: int, empty: bool, inputs: Outputs) -> list[Targets]:
    masks = torch.zeros(0, *build.get("image_size", (1, 1)), dtype=torch.bool)
    if empty:
        nothing = torch.zeros(0, dtype=torch.long), torch.zeros(0, 4)
        return [Targets(*nothing, masks) for _ in range(batch)]
    found = []
    for image in range(batch):
        classes, boxes = inputs[f"target/labels_{image}"], inputs[f"target/boxes_{image}"]
        found.append(Targets(classes, boxes, inputs.get(f"target/masks_{image}")))
    return found


def noisy_queries(build: dict[str, Any], targets: list[Targets], inputs: Outputs) -> NoisyQueries:
    """Their matches and which are unused; what they start with is of no concern here."""
    slots, groups = build["denoising"]["slots"], build["denoising"]["groups"]
    starts = torch.arange(groups)[:, None] * slots
    matches: list[Match] = [
        ((starts + torch.arange(len(t))).flatten(), torch.arange(len(t)).repeat(groups)) for t in targets
    ]
    unused = torch.nn.functional.pad(inputs["denoising/labels"] < 0, (0, build["num_queries"]))
    anchors = inputs["denoising/anchors"]
    return NoisyQueries(anchors, anchors, inputs["denoising/blocked"], unused, matches, groups)


def run_criterion(
    build: dict[str, Any], variant: dict[str, Any], case: dict[str, Any], tensors: Outputs
) -> Outputs:
    inputs = {role: tensors[key] for role, key in case["inputs"].items()}
    leaves = {
        role: value.clone().requires_grad_()
        for role, value in inputs.items()
        if role.endswith(("/logits", "/boxes", "/mask_embed", "mask_features"))
    }
    columns = variant.get("logits_per_class")

    def predictions(name: str) -> Predictions:
        embeddings = leaves.get(f"{name}/mask_embed")
        masks = None if embeddings is None else MaskLogits(embeddings, leaves["mask_features"])
        return Predictions(leaves[f"{name}/logits"][..., :columns], leaves[f"{name}/boxes"], masks)

    def numbered(stem: str) -> list[Predictions]:
        count = sum(re.fullmatch(rf"{stem}\d+/logits", role) is not None for role in inputs)
        return [predictions(f"{stem}{i}") for i in range(count)]

    criterion = build_criterion(build, variant, inputs)
    targets = targets_of(build, case["batch"], variant.get("empty_targets", False), inputs)
    layers, noisy_layers, noisy = numbered("layer"), [], None
    names = [f"layer{i}" for i in range(len(layers))]
    if variant.get("encoder_predictions", "encoder/logits" in inputs):
        layers, names = [*layers, predictions("encoder")], [*names, "encoder"]
    first = 0
    if variant["denoising"]:
        first = 0 if variant.get("initial_denoising_loss", True) else 1
        noisy_layers, noisy = numbered("denoising")[first:], noisy_queries(build, targets, inputs)
    matching, known = criterion.layer_losses(layers, targets, noisy_layers, noisy)
    last = names.index("encoder") - 1 if "encoder" in names else len(names) - 1

    def value(name: str) -> Tensor:
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise Unsupported(f"a loss named {name}")
        kind, of, number = parts.groups()
        kind = _OURS.get(kind, kind)
        if of in ("_enc", "_interm"):
            return matching[kind][-1]
        if of == "_dn":
            if noisy is None:
                return torch.zeros(())  # what the public code gives where there is no de-noising
            return known[kind][-1 if number is None else int(number) - first]
        return matching[kind][last if number is None else int(number)]

    weights = build["loss"]["weights"][case["prefix"].split("/")[1]]
    losses = {name: value(name) for name in weights}
    total = sum((weights[name] * loss for name, loss in losses.items()), torch.zeros(()))
    found: Outputs = {f"loss/{name}": loss.detach() for name, loss in losses.items()} | {
        "total": total.detach()
    }
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    for role, gradient in zip(leaves, gradients, strict=True):
        name = "pixels/mask_features" if role == "mask_features" else role
        gradient = torch.zeros_like(leaves[role]) if gradient is None else gradient
        found |= {f"grad/{name}": gradient, f"grad_norm/{name}": gradient.norm()}
    for name, images in zip(names, criterion.matcher(layers, targets), strict=True):
        for image, pairs in enumerate(images):
            found[f"match/{name}/{image}"] = torch.stack(pairs, 1)
    return found


def results_of(
    build: dict[str, Any],
    predicted: tuple[Tensor, Tensor, Tensor],
    frames: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
    transform: bool,
) -> Outputs:
    """Results by the names the sidecar uses.

    Args:
        predicted: logits, mask logits and boxes of one image, the boxes in fractions of the padded batch.
        frames: (height, width) of the padded batch, of the image, and of the results.
    """
    rules, things = build["inference"], build["things"]
    logits, masks, boxes = predicted
    (padded_h, padded_w), (height, width), _ = frames
    boxes = boxes * boxes.new_tensor((padded_w / width, padded_h / height)).repeat(2)
    temperature = rules["temperature"] if transform else None
    no_object = logits.shape[1] > build["num_classes"]
    scores = inference.class_scores(logits, temperature, no_object)
    resize: inference.Resize = "masks" if rules["resize_before"] else "scores"
    found = {"semantic": inference.semantic(scores, masks, frames, resize)}
    if rules["panoptic"]:
        thresholds = rules["object_mask_threshold"], rules["overlap_threshold"]
        segments, info = inference.panoptic(logits, masks, frames, things, *thresholds, temperature)
        found["panoptic_map"] = segments
        found["panoptic_segments"] = torch.tensor(
            [
                [s["id"], s["category_id"] + (0 if s["isthing"] else things - 1), int(s["isthing"])]
                for s in info
            ]
        ).view(-1, 3)
    if rules["instance"]:
        rest = {"things_first": False, "drop_empty": False, "clip_boxes": False}
        count = min(rules["top_k"], logits.numel())
        instances = inference.instances(logits, boxes, masks, frames, count, things, **rest)
        found |= {
            "instances_boxes": instances.pred_boxes.tensor,
            "instances_scores": instances.scores,
            "instances_classes": instances.pred_classes,
            "instances_masks": instances.pred_masks,
        }
    return found


def run_results(
    build: dict[str, Any], variant: dict[str, Any], case: dict[str, Any], tensors: Outputs
) -> Outputs:
    """``transform/...`` and ``no_transform/...`` of the first image."""
    logits, masks, boxes = (tensors[case["inputs"][x]][0] for x in ("logits", "masks", "boxes"))
    key = next(case["prefix"] + name for name in case["outputs"] if name.endswith("panoptic_map"))
    size = tensors[key].shape[-2:]
    frames = tuple(case["size"]), tuple(variant["image_sizes"][0]), (size[0], size[1])
    found: Outputs = {}
    for name, transform in (("transform", True), ("no_transform", False)):
        results = results_of(build, (logits, masks, boxes), frames, transform)
        found |= {f"{name}/{output}": value for output, value in results.items()}
    return found


def run_case(
    build: dict[str, Any], variant: dict[str, Any], case: dict[str, Any], tensors: Outputs
) -> Outputs:
    """Outputs of one case by the names the sidecar uses."""
    if makes_results(case):
        return run_results(build, variant, case, tensors)
    return run_criterion(build, variant, case, tensors)


def run_check(check: dict[str, Any], tensors: Outputs, build: dict[str, Any]) -> Tensor | None:
    """These fixtures have no further checks."""
    return None
