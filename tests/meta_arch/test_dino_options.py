"""Every option of DINO and Mask DINO, alone and with a reference's rules: losses, gradients, results."""

import itertools

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn

from itpn_d2.meta_arch.dino import Decoder, Encoder
from itpn_d2.meta_arch.dino.denoising import Denoising
from itpn_d2.meta_arch.dino.geometry import count_cells, locate, sine_embedding
from itpn_d2.meta_arch.dino.neck import Neck
from itpn_d2.meta_arch.dino.reference import Reference, reference_of
from itpn_d2.meta_arch.dino.selection import QuerySelection
from itpn_d2.meta_arch.dino.structures import MaskLogits, Predictions, Targets, bounded_logit
from tests.meta_arch.small_dino import DIM, dino, mask_dino, parts, record, untrained
from tests.meta_arch.test_mask_dino import batch_of

CPU = torch.device("cpu")
SIZES = dict(dim=DIM, num_heads=4, hidden=48, num_layers=2, levels=4, points=2)
BATCH = [record(), record((48, 64), [[4, 4, 30, 30]], [0], seed=1)]
PUBLISHED = dict(temperature=10000.0, centred=False, interleaved=True)
MASK_OPTIONS = dict(
    shared_encoder_heads=True, coarsest_first=True, groups=4, norm_twice=True, initial_prediction=True
)


def finite(model, batch, dtype=torch.float32):
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        losses = model(batch)
    assert all(loss.isfinite() for loss in losses.values()), losses
    sum(losses.values()).backward()
    assert not untrained(model)
    return losses


@pytest.mark.parametrize("reference", [None, "detrex", "dino"])
@pytest.mark.parametrize(
    ("share", "normed", "two_stage", "learnt"),
    [
        (True, False, True, None),
        (False, False, True, None),
        (False, True, True, False),
        (True, False, False, None),
    ],
)
def test_dino_learns_everything(reference, share, normed, two_stage, learnt):
    model = dino(
        encoder=Encoder(**SIZES, **PUBLISHED),
        decoder=Decoder(**SIZES, share_heads=share, refine_normed=normed),
        two_stage=two_stage,
        learnt_queries=learnt,
        groups=4,
        reference=reference,
    )
    losses = finite(model, BATCH)
    assert any("encoder" in name for name in losses) == two_stage
    with torch.no_grad():
        found = model.eval()(BATCH)
    assert all(len(f["instances"]) for f in found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reference", [None, "maskdino"])
@pytest.mark.parametrize("box_init", ["bitmask", "mask2box", "no"])
def test_mask_dino_learns_everything(dtype, reference, box_init):
    model = mask_dino(
        decoder=Decoder(**SIZES, refine_normed=False),
        reference=reference,
        box_init=box_init,
        mask_dim=24,
        **MASK_OPTIONS,
    )
    losses = finite(model, BATCH, dtype)
    alone = mask_dino(decoder=Decoder(**SIZES), box_init=box_init)(BATCH)
    assert losses.keys() == alone.keys()
    with torch.no_grad():
        assert all("instances" in f for f in model.eval()(BATCH))


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
def test_one_stage_learns_its_queries_and_boxes(task):
    model = mask_dino(task, two_stage=False, initial_prediction=True, reference="maskdino")
    losses = finite(model, batch_of(task))
    assert not any("encoder" in name for name in losses)
    assert model.anchors.weight.grad.abs().sum() > 0 and model.content.weight.grad.abs().sum() > 0


def test_initial_predictions_are_one_more_layer(monkeypatch):
    seen = {}
    for stages, options in ((2, {}), (1, {"two_stage": False})):
        model = mask_dino(initial_prediction=True, **options)

        def keep(layers, selected, targets, known, noisy, stages=stages):
            seen[stages] = (len(layers), len(known), selected is None)
            return {}

        monkeypatch.setattr(model, "criterion", keep)
        model(BATCH)
    # of one stage, what noisy queries start with is not judged
    assert seen == {2: (3, 3, False), 1: (3, 2, True)}
    model.eval()
    selected, memory, geometry, finest = model.encode(model.preprocess(BATCH))
    assert len(model.decode(selected, None, memory, geometry, finest)) == 2


def test_shared_heads_are_one_module():
    model = mask_dino(shared_encoder_heads=True)
    names = dict(model.named_parameters())
    assert not any(k.startswith(("selection.class_head", "selection.box_head")) for k in names)
    with pytest.raises(ValueError, match="share_heads=True"):
        dino(decoder=Decoder(**SIZES, share_heads=False), shared_encoder_heads=True)


def test_no_object_is_one_more_number():
    model = mask_dino("semantic", no_object=True, criterion=None)
    assert model.class_head.out_features == 4 and model.selection.class_head.out_features == 4
    assert model.denoising.labels.num_embeddings == 3


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="choose bitmask, mask2box, no"):
        mask_dino(box_init="boxes")
    with pytest.raises(ValueError, match="choose detrex, dino, maskdino"):
        dino(reference="detr")


def test_refinement_from_the_state_before_the_norm():
    torch.manual_seed(0)
    normed, plain = Decoder(**SIZES), Decoder(**SIZES, refine_normed=False)
    nn.init.normal_(normed.box_head[6].weight, std=0.2)
    nn.init.normal_(normed.norm.weight)
    plain.load_state_dict(normed.state_dict())
    shapes = ((4, 6), (2, 3), (1, 2), (1, 1))
    where = locate(shapes, (8, 16, 32, 64), [(32, 48)], CPU)
    given = torch.randn(1, 5, DIM), torch.randn(1, 5, 4), torch.randn(1, 33, DIM), where
    (states, boxes), (others, moved) = normed(*given), plain(*given)
    assert torch.equal(boxes[0], moved[0]) and torch.equal(states[0], others[0])
    assert not torch.allclose(boxes[1], moved[1], atol=1e-3)


def test_bounds_act_between_layers():
    """A box of next to no width keeps its logit in our rules, and is pulled to the bound in the others'."""
    torch.manual_seed(0)
    decoder = Decoder(**SIZES)  # whose box head moves nothing at first
    where = locate(((4, 6), (2, 3), (1, 2), (1, 1)), (8, 16, 32, 64), [(32, 48)], CPU)
    anchors = torch.tensor([0.0, 0.0, -20.0, 20.0]).expand(1, 5, 4)
    given = torch.randn(1, 5, DIM), anchors, torch.randn(1, 33, DIM), where
    ours, theirs = decoder(*given)[1][1], decoder(*given, rules=Reference(logit_eps=1e-3))[1][1]
    torch.testing.assert_close(ours, anchors.sigmoid())
    torch.testing.assert_close(theirs[0, 0], torch.tensor([0.5, 0.5, 1 / 1001, 1000 / 1001]))
    bounded = bounded_logit(torch.tensor([0.0, 0.3, 1.0, 2.0]), 1e-3)
    torch.testing.assert_close(
        bounded[[0, 2, 3]], torch.tensor([-1.0, 1.0, 1.0]) * torch.tensor(1000.0).log()
    )
    torch.testing.assert_close(bounded[1], torch.tensor(0.3).logit())


def test_counted_cells():
    """20 x 33 pixels of 32 x 48: the cells whose nearest pixel (the first of each) lies inside."""
    shapes = ((4, 6), (2, 3), (1, 2))
    found = count_cells(shapes, [(32, 48), (20, 33)], (32, 48), CPU)
    held = [int((~found.padding[1, a:b]).sum()) for a, b in ((0, 24), (24, 30), (30, 32))]
    assert held == [3 * 5, 2 * 3, 1 * 2]
    torch.testing.assert_close(found.centres[1, 8], torch.tensor([2.5 / 5, 1.5 / 3]))
    torch.testing.assert_close(found.ends()[1, 8], torch.tensor([3 / 5, 2 / 3]))
    torch.testing.assert_close(found.scale[1, 0], torch.tensor([5 / 6, 3 / 4, 5 / 6, 3 / 4]))
    assert count_cells(shapes, [(32, 48)], (32, 48), CPU).padding is None


@pytest.mark.parametrize("pixels, cells", [(100, 13), (150, 19), (1199, 150), (97, 7), (31, 31), (800, 25)])
def test_counts_are_those_of_nearest_resampling(pixels, cells):
    inside = torch.arange(pixels) < torch.arange(1, pixels + 1)[:, None]  # row k: k + 1 pixels
    nearest = nn.functional.interpolate(inside[None].float(), cells, mode="nearest")[0].sum(1)
    counted = [
        int((~count_cells(((1, cells),), [(1, n), (1, pixels)], (1, pixels), CPU).padding[0]).sum())
        if nearest[n - 1] < cells
        else cells
        for n in range(1, pixels + 1)
    ]
    assert counted == nearest.tolist()


def test_positions_in_the_order_of_detr():
    places = torch.rand(2, 5, 2)
    ours, theirs = sine_embedding(places, 8, 100.0), sine_embedding(places.flip(-1), 8, 100.0, True)
    order = torch.arange(16).view(2, 2, 4).flip(0).transpose(1, 2).flatten()  # y first, sine beside cosine
    assert torch.equal(theirs, ours[..., order])
    where = locate(((4, 6), (2, 3)), (8, 16), [(32, 48)], CPU)
    sizes = dict(dim=16, num_heads=2, hidden=8, num_layers=1, levels=2, points=2)
    middle, end = (Encoder(**sizes, centred=c).positions(where)[0, 0] for c in (True, False))
    torch.testing.assert_close(middle, sine_embedding(torch.tensor([0.5 / 6, 0.5 / 4]), 8))
    torch.testing.assert_close(end, sine_embedding(torch.tensor([1 / 6, 1 / 4]), 8))


def test_smallest_proposals_on_the_coarsest_level():
    where = locate(((4, 6), (2, 3), (1, 1)), (8, 16, 32), [(32, 48)], CPU)
    sizes = [QuerySelection(16, 3, coarsest_first=c).propose(where, Reference())[0][0, :, 2] for c in (0, 1)]
    levels = where.level_numbers()
    torch.testing.assert_close(sizes[0], 0.05 * 2.0**levels)
    torch.testing.assert_close(sizes[1], 0.05 * 2.0 ** (2 - levels))


def test_silent_tokens_share_a_score_and_propose_everything():
    torch.manual_seed(0)
    where = count_cells(((4, 6), (2, 3), (1, 1)), [(32, 48), (16, 16)], (32, 48), CPU)
    module = QuerySelection(16, 3)
    nn.init.normal_(module.class_head.weight)
    nn.init.zeros_(module.class_head.bias)
    nn.init.normal_(module.norm.bias)
    memory = torch.randn(2, 31, 16)
    silent = module.propose(where, reference_of("dino"))[1]
    chosen = module(memory, where, 31, reference_of("dino"))
    picked = silent.gather(1, chosen.cells)
    scores = chosen.predictions.logits.amax(-1)
    assert torch.equal(scores, scores.sort(1, descending=True).values)  # by score alone
    torch.testing.assert_close(scores[picked], scores[picked][:1].expand(int(picked.sum())))
    assert (chosen.predictions.boxes[picked] == 1).all() and picked.any()
    ours = module(memory, where, 31)
    last = silent.gather(1, ours.cells)
    assert torch.equal(last, last.sort(1).values)  # after all others
    assert ours.predictions.boxes.isfinite().all()


def test_groups_take_whole_maps():
    class Maps(nn.Module):
        def output_shape(self):
            return {"p3": ShapeSpec(channels=6, stride=8)}

    torch.manual_seed(0)
    maps = {"p3": torch.randn(1, 6, 4, 6)}
    larger = {"p3": nn.functional.pad(maps["p3"], (0, 3))}
    for groups, same in ((None, True), (4, False)):
        neck = Neck(Maps(), ["p3"], 16, groups=groups)
        one, other = neck(maps)[0], neck(larger)[0][..., :6]
        assert torch.allclose(one, other, atol=1e-6) == same


def test_boxes_around_masks_of_the_reference():
    model = mask_dino(reference="maskdino", box_init="mask2box")
    features = torch.full((1, 3, 16, 24), -1.0)
    features[0, 0, 2:6, 4:12] = 1.0
    features[0, 1, 5, 7] = 1.0  # a single cell
    masks = MaskLogits(torch.eye(3)[None], features)
    images = model.preprocess([{"image": record((60, 90))["image"]}])  # 64 x 96 with its padding
    found = model._around_masks(masks, torch.zeros(1, 3, 4), images).sigmoid()[0]
    expected = [[7.5 / 24, 3.5 / 16, 7 / 24, 3 / 16], [7 / 24, 5 / 16, 1e-5, 1e-5], [1, 1, 1e-5, 1e-5]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=2e-5, rtol=0)
    model.box_init = "bitmask"
    found = model._around_masks(masks, torch.zeros(1, 3, 4), images).sigmoid()[0]
    expected = [[8 / 24, 4 / 16, 8 / 24, 4 / 16], [7.5 / 24, 5.5 / 16, 1 / 24, 1 / 16], [1e-5] * 4]
    torch.testing.assert_close(found, torch.tensor(expected), atol=2e-5, rtol=0)


def test_padding_is_part_of_the_image_where_the_reference_has_it_so():
    """Mask DINO: never told apart; detrex: in training only."""
    batch = [record((64, 96), seed=1), record((40, 56), [[4, 4, 30, 30]], [0], seed=2)]
    for name, training, masked in (
        ("maskdino", True, False),
        ("maskdino", False, False),
        ("detrex", True, True),
        ("detrex", False, False),
        ("dino", False, True),
        (None, False, True),
    ):
        model = dino(reference=name).train(training)
        images = model.preprocess(batch)
        padding = model.encode(images)[2].padding
        assert (padding is not None) == masked
        sizes = [(64, 96), (40, 56)] if masked else [(64, 96)] * 2
        assert model.frames(images) == sizes


def test_final_boxes_of_the_reference():
    """Neither clipped nor dropped; Mask DINO's are fractions of the batch."""
    model = mask_dino(reference="maskdino").eval()
    logits, boxes = torch.full((1, 2, 3), -9.0), torch.tensor([[[0.5, 0.5, 1.2, 0.5], [0.5, 0.5, 0.2, 0.2]]])
    logits[0, 0, 1], logits[0, 1, 2] = 3.0, 2.0
    features = torch.full((1, 2, 16, 24), -1.0)
    features[0, 0, 2:6, 4:12] = 1.0
    predictions = Predictions(logits, boxes, MaskLogits(torch.eye(2)[None], features))
    item = {"image": record((48, 96))["image"]}
    images = model.preprocess([item])
    padded = images.tensor.shape[-2:]
    found = model.inference(predictions, [item], images)[0]["instances"]
    assert len(found) == 6 and (found.scores[found.pred_masks.flatten(1).sum(1) == 0] == 0).all()
    best = found.pred_boxes.tensor[0].tolist()
    assert best == pytest.approx([-0.1 * padded[1], 0.25 * padded[0], 1.1 * padded[1], 0.75 * padded[0]])


def objects(*counts):
    return [Targets(torch.arange(n) % 3, torch.full((n, 4), 0.3)) for n in counts]


def test_unused_slots_of_the_reference_start_as_nothing():
    torch.manual_seed(0)
    module = Denoising(3, dim=8, number=4)
    noisy = module(objects(2, 1), 5, reference_of("detrex"))
    unused = noisy.unused[:, : len(noisy)]
    assert unused[1].any() and not unused[0].any()
    assert not noisy.content[unused].any() and (noisy.anchors[unused] == 0).all()
    assert noisy.content[~unused].any(-1).all()


@pytest.mark.parametrize("contrastive", [True, False])
def test_denoising_with_and_without_very_noisy_queries(contrastive):
    torch.manual_seed(0)
    module = Denoising(3, dim=8, number=6, label_noise=0.0, contrastive=contrastive, rows=4)
    assert module.labels.num_embeddings == 4
    noisy = module(objects(2, 1), 5)
    copies = 1 + contrastive
    assert len(noisy) == 3 * copies * 2 and noisy.groups == 3
    queries, found = noisy.matches[0]
    assert queries.tolist() == [g * copies * 2 + k for g in range(3) for k in range(2)]
    assert found.tolist() == [0, 1] * 3
    # groups do not see each other, nor do matching queries see them
    groups = [k // (copies * 2) for k in range(len(noisy))] + [-1] * 5
    expected = [[b >= 0 and a != b for b in groups] for a in groups]
    assert noisy.blocked.tolist() == expected


def test_boxes_near_their_objects_move_centre_and_size():
    torch.manual_seed(0)
    module = Denoising(3, dim=8, number=400, label_noise=0.0, box_noise=0.4, contrastive=False)
    boxes = module(objects(1), 1).anchors.sigmoid()[0]
    moved = (boxes - 0.3).abs()
    assert moved[:, :2].max() <= 0.4 * 0.15 + 1e-4 and moved[:, 2:].max() <= 0.4 * 0.3 + 1e-4
    assert moved[:, 2:].max() > 0.4 * 0.2


@pytest.mark.parametrize("name, reference", itertools.product(("dino", "mask_dino"), ("detrex", "maskdino")))
def test_checkpointed_layers_have_the_same_gradients(name, reference):
    build = {"dino": dino, "mask_dino": mask_dino}[name]
    grads = []
    for checkpointing in ((), ("encoder", "decoder")):
        model = build(denoising=None, reference=reference, checkpointing=checkpointing, groups=4)
        torch.manual_seed(1)
        sum(model(BATCH).values()).backward()
        grads.append([p.grad for p in model.parameters()])
    for one, other in zip(*grads, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other)


def test_parts_are_of_one_size():
    assert parts()["encoder"].level.shape == (4, DIM)
