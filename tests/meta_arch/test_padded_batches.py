"""An image in a padded batch has the features it has alone, whatever the meta-architecture, also where its
own border is as black as padding."""

import warnings

import pytest
import torch
from detectron2.config import instantiate
from detectron2.export import TracingAdapter
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.structures import BitMasks, Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from itpn_d2 import model_zoo
from itpn_d2.engine import load_config
from itpn_d2.meta_arch import GeneralizedRCNN, ProposalNetwork
from itpn_d2.meta_arch.sized import pad_labels, sizes_of, takes_sizes

TINY = ["model.backbone.channels=[8,16,32]", "model.backbone.depths=[1,1,2]", "model.backbone.num_heads=2"]
REGIONS = ("faster_rcnn", "mask_rcnn", "cascade_mask_rcnn", "keypoint_rcnn", "point_rend", "panoptic_fpn")
DENSE = ("retinanet", "fcos")
MAPS = ("semantic_fpn", "upernet")
QUERIES = ("dino", "mask_dino", "semantic_mask_dino", "panoptic_mask_dino")
# not windows but whole images; few regions, whose masks take long
FEW = {name: ["model.window=null", "model.stride=null"] for name in MAPS} | {
    name: ["model.proposal_generator.post_nms_topk=[20,20]"] for name in REGIONS
}
SIZES = [(128, 192), (192, 128)]  # of images that every level cuts where they end


def strong(model):
    """The usual initialisation hides mistakes behind small values."""
    for name, p in model.backbone.named_parameters():
        nn.init.normal_(p, std=0.5 if p.ndim == 1 or "pos" in name else p.shape[-1] ** -0.5)


def build(name, *overrides):
    torch.manual_seed(0)
    given = [*TINY, *overrides]
    if name == "proposals":
        rcnn = build("faster_rcnn", *overrides)
        model = ProposalNetwork(
            backbone=rcnn.backbone,
            proposal_generator=rcnn.proposal_generator,
            pixel_mean=[0.0] * 3,
            pixel_std=[60.0] * 3,
        ).eval()
        return model
    model = model_zoo.get(f"Quickstart/{name}_fast_itpn_nano", device="cpu", overrides=given).eval()
    strong(model)
    model.pixel_mean.zero_()
    return model


def picture(size, seed):
    """Noise, with a black border at the right and bottom."""
    image = torch.randint(1, 256, (3, *size), generator=torch.Generator().manual_seed(seed)).float()
    image[:, size[0] * 3 // 4 :], image[:, :, size[1] * 3 // 4 :] = 0, 0
    return {"image": image, "height": size[0], "width": size[1]}


def features_of(model, batch):
    """What the backbone gives while the model runs."""
    seen = []
    hook = model.backbone.register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.no_grad():
        model(batch)
    hook.remove()
    return seen[0]


def check_features(together, alone, number, size, atol):
    """Equal on every level whose cells end where the image does."""
    for level, maps in alone.items():
        stride = 2 ** int(level[1])
        if size[0] % stride or size[1] % stride:
            continue
        h, w = size[0] // stride, size[1] // stride
        a, b = maps[0, :, :h, :w].float(), together[level][number, :, :h, :w].float()
        assert (a - b).abs().max() <= atol * a.abs().max(), level


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.float32) for name in (*REGIONS, *DENSE, *MAPS, *QUERIES, "proposals")]
    + [(name, torch.bfloat16) for name in ("mask_rcnn", "panoptic_fpn", "fcos", "upernet", "mask_dino")],
)
def test_features(name, dtype):
    model = build(name, *FEW.get(name, ()))
    batch = [picture(size, seed) for seed, size in enumerate(SIZES)]
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        together = features_of(model, batch)
        for number, (item, size) in enumerate(zip(batch, SIZES, strict=True)):
            alone = features_of(model, [item])
            check_features(together, alone, number, size, 2e-5 if dtype == torch.float32 else 3e-2)
            # all of the image counts, its border as well
            image = (item["image"] - model.pixel_mean) / model.pixel_std
            with torch.no_grad():
                told = model.backbone(image[None], [size])
                searched = model.backbone(image[None])
            check_features(told, alone, 0, size, 1e-6)
            assert (searched["p4"] - told["p4"]).abs().max() > 0.1 * told["p4"].abs().max()


def pointwise(model):
    """Let the heads' convolutions see their own cell alone, so that what is left to compare is exact."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith("backbone") and module.kernel_size != (1, 1):
            middle = module.weight.data[..., 1:2, 1:2].clone()
            module.weight.data.zero_()
            module.weight.data[..., 1:2, 1:2] = middle
    return model


class FixedProposals(nn.Module):
    """The same boxes in every image, away from its end, where regions are sampled beyond it."""

    def forward(self, images, features, targets):
        corners = torch.rand(20, 2, 2, generator=torch.Generator().manual_seed(0)) * 90
        boxes = torch.cat((corners.amin(1), corners.amax(1) + 3), 1)
        found = [
            Instances(
                (int(h), int(w)), proposal_boxes=Boxes(boxes), objectness_logits=torch.linspace(1, 0, 20)
            )
            for h, w in images.image_sizes
        ]
        return found, {}


def check_equal(found, alone):
    """All fields of two ``Instances``."""
    assert len(alone) > 5 and found.get_fields().keys() == alone.get_fields().keys()
    for name, a in alone.get_fields().items():
        b = getattr(found, name)
        a, b = (x.tensor if isinstance(x, Boxes) else x for x in (a, b))
        torch.testing.assert_close(b.float(), a.float(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", REGIONS)
def test_regions(name):
    """Boxes, scores, masks and keypoints of given regions."""
    predictor = "model.roi_heads.box_predictor" + ("s.2" if "cascade" in name else "")
    model = pointwise(
        build(name, f"{predictor}.test_score_thresh=0.0", f"{predictor}.test_topk_per_image=20")
    )
    model.proposal_generator = FixedProposals()
    batch = [picture(size, seed) for seed, size in enumerate(SIZES)]
    with torch.no_grad():
        for item, found in zip(batch, model(batch), strict=True):
            check_equal(found["instances"], model([item])[0]["instances"])


# no suppression, no limits: a detection depends on itself alone
ALL = {name: [] for name in DENSE} | {
    "proposals": [
        "model.proposal_generator.pre_nms_topk=[99999,99999]",
        "model.proposal_generator.post_nms_topk=[99999,99999]",
        "model.proposal_generator.nms_thresh=1.0",
    ]
}
for name in DENSE:
    ALL[name] = [
        "model.head.norm=''",  # statistics of GroupNorm are taken over the padding, too
        "+model.test_topk_candidates=99999",
        "model.test_score_thresh=0.0",
        "model.test_nms_thresh=1.0",
        "model.max_detections_per_image=99999",
    ]


@pytest.mark.parametrize("name", ALL)
def test_cells(name):
    """What is found in the image alone is found in the batch; padding may have boxes of its own that reach
    into the image."""
    model = pointwise(build(name, *ALL[name]))
    batch = [picture(size, seed) for seed, size in enumerate(SIZES)]
    with torch.no_grad():
        for item, found in zip(batch, model(batch), strict=True):
            (alone,), (beside,) = model([item])[0].values(), found.values()
            numbers = [
                torch.cat((boxes.tensor / 32, scores[:, None]), 1)
                for boxes, scores in (list(x.get_fields().values())[:2] for x in (alone, beside))
            ]
            assert len(alone) > 1000
            every = torch.linspace(0, len(alone) - 1, 200).long()
            apart = torch.cdist(numbers[0][every], numbers[1], compute_mode="donot_use_mm_for_euclid_dist")
            assert apart.amin(1).max() < 1e-3


@pytest.mark.parametrize("name", MAPS)
def test_windows(name):
    """Of images that are smaller than the window as well."""
    model = build(name, "model.window=160")
    batch = [picture(size, seed) for seed, size in enumerate(SIZES)]
    with torch.no_grad():
        for item, found in zip(batch, model(batch), strict=True):
            torch.testing.assert_close(found["sem_seg"], model([item])[0]["sem_seg"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", QUERIES)
def test_queries(name):
    """Boxes and scores, or maps but for their ends, where they are interpolated over the padding."""
    model = pointwise(build(name))
    for part in (
        model.selection,
        model.class_head,
    ):  # else all cells are alike, and rounding chooses among them
        for module in part.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.5)
    batch = [picture(size, seed) for seed, size in enumerate(SIZES)]
    with torch.no_grad():
        for item, found in zip(batch, model(batch), strict=True):
            (alone,) = model([item])
            if "sem_seg" in alone:
                a, b = (x["sem_seg"][:, :-32, :-32] for x in (found, alone))
                torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
            if "instances" in alone:
                a, b = (x["instances"] for x in (found, alone))
                # a mask's certainty counts in a score, and is interpolated as well
                torch.testing.assert_close(a.scores, b.scores, atol=2e-3 if "mask" in name else 1e-5, rtol=0)
                if "mask" not in name:
                    check_equal(a, b)


def test_training_is_told_too():
    """An image's ground truth is where it was; its features, so its losses, do not follow the other image."""
    model = build("mask_rcnn")
    batch = [picture(size, seed) for seed, size in enumerate(SIZES)]
    for item, size in zip(batch, SIZES, strict=True):
        item["instances"] = Instances(size, gt_boxes=Boxes(torch.tensor([[8.0, 8, 70, 60]])))
        item["instances"].gt_classes = torch.tensor([1])
        item["instances"].gt_masks = BitMasks(torch.ones(1, *size, dtype=torch.bool))
    calls = []
    model.backbone.register_forward_hook(lambda _, args, out: calls.append((args[1], out)))
    alone = features_of(model, batch[:1])
    calls.clear()
    model.train()
    with EventStorage():
        losses = model(batch)
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    ((told, together),) = calls
    assert told.tolist() == [list(size) for size in SIZES]
    check_features(together, alone, 0, SIZES[0], 2e-5)
    sum(losses.values()).backward()


@pytest.mark.parametrize("name", ["mask_rcnn", "panoptic_fpn", "retinanet", "semantic_fpn", "faster_rcnn"])
def test_losses_are_those_of_detectron2(name):
    """Where nothing is padded the model's own class, derived from Detectron2's, adds nothing of its own."""
    model = build(name, "model.pixel_mean=[100,100,100]")
    theirs = next(c for c in type(model).__mro__ if c.__module__.startswith("detectron2"))
    size = (64, 96)
    item = picture(size, 0)
    item["image"] = item["image"].clamp(min=1)
    item["instances"] = Instances(size, gt_boxes=Boxes(torch.tensor([[8.0, 8, 70, 60]])))
    item["instances"].gt_classes = torch.tensor([1])
    item["instances"].gt_masks = BitMasks(torch.ones(1, *size, dtype=torch.bool))
    item["sem_seg"] = torch.ones(size, dtype=torch.int64)
    with torch.no_grad():
        found, expected = model([item])[0], theirs.forward(model, [item])[0]
    assert found.keys() == expected.keys()
    model.train()
    losses = []
    for forward in (type(model).forward, theirs.forward):
        torch.manual_seed(3)
        model.loss_normalizer = 100  # RetinaNet's, which moves
        with EventStorage():
            losses.append(forward(model, [item, item]))
    assert list(losses[0]) == list(losses[1]) and losses[0]
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name])


class Plain(Backbone):
    """A backbone that knows nothing of sizes."""

    def forward(self, x):
        return {"p2": nn.functional.avg_pool2d(x, 4)}

    def output_shape(self):
        return {"p2": ShapeSpec(channels=3, stride=4)}


class Without(FixedProposals):
    """Regions whose results are the features."""

    def forward(self, images, features, proposals, targets=None):
        return [Instances(tuple(size), pred_boxes=Boxes(torch.ones(1, 4))) for size in images.image_sizes], {}


def test_a_backbone_that_takes_no_sizes():
    model = GeneralizedRCNN(
        backbone=Plain(),
        proposal_generator=FixedProposals(),
        roi_heads=Without(),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    ).eval()
    assert not takes_sizes(model.backbone) and takes_sizes(build("faster_rcnn").backbone)
    assert len(model([picture(size, 0) for size in SIZES])) == 2


def test_sizes():
    batch = torch.zeros(2, 3, 64, 96)
    sizes = sizes_of(ImageList(batch, [(64, 96), (40, 50)]))
    assert sizes.dtype == torch.int64 and sizes.tolist() == [[64, 96], [40, 50]]
    assert sizes_of(ImageList(batch, [(64, 96)] * 2)) == ()
    traced = sizes_of(ImageList(batch, [torch.tensor([64, 96]), torch.tensor([40, 50])]))
    assert torch.equal(traced, sizes)


def test_labels_are_padded_like_images():
    images = ImageList(torch.zeros(2, 3, 4, 6), [(2, 6), (4, 3)])
    labels = pad_labels([torch.ones(2, 6).long(), torch.zeros(4, 3).long()], images, 255)
    assert labels.shape == (2, 4, 6) and labels.dtype == torch.int64
    assert labels[0].tolist() == [[1] * 6] * 2 + [[255] * 6] * 2
    assert labels[1].tolist() == [[0] * 3 + [255] * 3] * 4


def test_the_names_of_yacs_configs(tmp_path):
    """Detectron2's names give the class here."""
    (tmp_path / "c.yaml").write_text(
        "MODEL:\n"
        "  META_ARCHITECTURE: GeneralizedRCNN\n"
        "  BACKBONE: {NAME: build_itpn_backbone}\n"
        "  ITPN: {NAME: fast_itpn_nano}\n"
        "  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6]}\n"
        "  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]]}\n"
        "  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3, p4, p5]}\n"
        "  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, POOLER_RESOLUTION: 7}\n"
        "DATASETS: {TRAIN: [coco_2017_train], TEST: [coco_2017_val]}\n"
        "VERSION: 2\n"
    )
    model = instantiate(load_config(str(tmp_path / "c.yaml"), []).model)
    assert type(model) is GeneralizedRCNN and model._tells_sizes


def test_boxes_around_masks_end_with_the_image():
    """Whatever a mask says of padding, the box it starts with is that of the image's own part."""
    model = build("mask_dino")
    maps = torch.full((1, 2, 16, 24), -1.0)
    maps[0, 0, 4:8, 4:12] = 1
    images = ImageList(torch.zeros(1, 3, 64, 96), [(40, 62)])
    anchors = torch.zeros(1, 2, 4)
    alone = model._around_masks(Maps(maps), anchors, images)
    maps[0, :, 10:], maps[0, :, :, 16:] = 1, 1
    assert torch.equal(model._around_masks(Maps(maps), anchors, images), alone)
    box = alone[0, 0].sigmoid()
    assert box.tolist() == pytest.approx([32 / 62, 24 / 40, 32 / 62, 16 / 40], abs=1e-4)
    assert torch.equal(alone[0, 1], anchors[0, 1])  # nothing within the image


class Maps:
    """Masks of given logits."""

    def __init__(self, maps):
        self.maps = maps

    def of(self, number):
        return self.maps[number]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcos", "mask_rcnn", "dino"])
def test_a_compiled_backbone(name):
    """A graph is recorded for few kinds of padded batch, not for each size."""
    model, graphs = build(name, *FEW.get(name, ())), []
    images = [picture(size, seed) for seed, size in enumerate([*SIZES, (64, 128), (96, 64), (128, 128)])]
    expected = [features_of(model, [item]) for item in images]

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    model.backbone.compile(backend=backend, dynamic=True, fullgraph=True)
    counts = []
    for numbers in ((2, 1), (0, 1), (4, 3), (3, 2), (0, 4), (3, 0), (1, 3)):
        together = features_of(model, [images[n] for n in numbers])
        for place, number in enumerate(numbers):
            check_features(together, expected[number], place, images[number]["image"].shape[1:], 2e-5)
        counts.append(len(graphs))
    # some sides of maps are special, such as that of one cell; later sizes need nothing new
    assert counts[3] <= 3 and counts[3:] == [counts[3]] * 4
    torch._dynamo.reset()


def same(found, expected):
    """Two predictions of any kind: classes and segments the same, scores and boxes but for rounding."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, Instances):
            for name, a in value.get_fields().items():
                b = found[key].get(name)
                a, b = (x.tensor if isinstance(x, Boxes) else x for x in (a, b))
                torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-5)
        else:
            for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (value, found[key])), strict=True):
                if isinstance(
                    a, torch.Tensor
                ):  # scores of classes are sums in another order; numbers are not
                    exact = 0 if not a.is_floating_point() else 1e-5
                    torch.testing.assert_close(b, a, atol=exact, rtol=exact)
                else:
                    assert a == b


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REGIONS, *DENSE, *MAPS, *QUERIES])
def test_a_compiled_detector(name):
    """The whole of it, in as many graphs as its heads break into: the same features and predictions, for
    padded batches of several sizes."""
    options = ["model.test_score_thresh=0.0"] if name in DENSE else []
    model = build(name, *FEW.get(name, ()), *options)
    images = [picture(size, seed) for seed, size in enumerate([*SIZES, (64, 128)])]
    batches = [[images[0], images[1]], [images[2], images[1]]]
    expected = []
    for batch in batches:
        with torch.no_grad():
            expected.append((features_of(model, batch), model(batch)))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", dynamic=True)
    for batch, (features, predictions) in zip(batches, expected, strict=True):
        seen = []
        hook = model.backbone.register_forward_hook(lambda *call, seen=seen: seen.append(call[-1]))
        with torch.no_grad():
            found = compiled(batch)
        hook.remove()
        for level, maps in features.items():
            torch.testing.assert_close(seen[0][level], maps, atol=1e-5, rtol=1e-5)
        for a, b in zip(found, predictions, strict=True):
            same(a, b)
    torch._dynamo.reset()


def test_traced_features():
    """The graph of a detector, as Detectron2 traces it, serves images of other sizes: their padding is not
    attended to."""
    model = build("faster_rcnn")
    images = [[picture((100, 170), 1), picture((128, 96), 2)], [picture((64, 64), 3), picture((33, 200), 4)]]
    given = [[{"image": item["image"]} for item in batch] for batch in images]
    adapter = TracingAdapter(model, given[0], lambda m, x: list(m.features(m.preprocess_image(x)).values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    for batch, inputs in zip(images, given, strict=True):
        expected = features_of(model, batch)
        with torch.no_grad():
            found = traced(*(item["image"] for item in inputs))
        for a, b in zip(expected.values(), found, strict=True):
            torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4)
