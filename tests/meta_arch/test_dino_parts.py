"""Parts of DINO on their own: places, selection, noisy queries, decoder."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn

from itpn_d2.meta_arch.dino.decoder import Decoder
from itpn_d2.meta_arch.dino.denoising import Denoising
from itpn_d2.meta_arch.dino.encoder import Encoder
from itpn_d2.meta_arch.dino.geometry import locate, sine_embedding
from itpn_d2.meta_arch.dino.neck import Neck
from itpn_d2.meta_arch.dino.selection import QuerySelection
from itpn_d2.meta_arch.dino.structures import Targets, inverse_sigmoid

CPU = torch.device("cpu")
SHAPES, STRIDES = ((4, 6), (2, 3), (1, 1)), (8, 16, 32)


def geometry(sizes=((32, 48), (32, 48))):
    return locate(SHAPES, STRIDES, list(sizes), CPU)


def test_cells_lie_where_their_pixels_are():
    found = geometry([(32, 48), (20, 33)])
    assert found.centres.shape == (2, 31, 2)
    # second level, row 1, column 2: pixels 32..48 and 16..32
    torch.testing.assert_close(found.centres[0, 24 + 5], torch.tensor([40 / 48, 24 / 32]))
    torch.testing.assert_close(found.centres[1, 24 + 5], torch.tensor([40 / 33, 24 / 20]))
    # 20 x 33 pixels are 3 rows of 5 cells of 8 pixels, 2 of 3 of 16, 1 of 2 of 32 (of which there is one)
    counts = [int((~found.padding[1, a:b]).sum()) for a, b in ((0, 24), (24, 30), (30, 31))]
    assert counts == [15, 6, 1] and not found.padding[0].any()
    assert found.level_numbers().tolist() == [0] * 24 + [1] * 6 + [2]


def test_without_padding_there_is_no_mask():
    assert geometry().padding is None
    assert geometry([(32, 48), (25, 41)]).padding is None  # the last cells hold some pixels
    assert geometry([(32, 48), (24, 41)]).padding is not None


def test_boxes_are_scaled_to_what_a_level_covers():
    """The last level is a cell of 32 pixels, though the image is 48 wide."""
    box = torch.tensor([0.5, 0.5, 0.25, 1.0]).expand(2, 1, 4)
    levels = geometry([(32, 48), (16, 48)]).boxes(box)
    torch.testing.assert_close(levels[0, 0, 0], torch.tensor([0.5, 0.5, 0.25, 1.0]))
    torch.testing.assert_close(levels[0, 0, 2], torch.tensor([0.75, 0.5, 0.375, 1.0]))
    torch.testing.assert_close(levels[1, 0, 0], torch.tensor([0.5, 0.25, 0.25, 0.5]))


def test_boxes_around_cells():
    around = geometry([(32, 48)]).around_cells(4)
    assert around.shape == (1, 31, 3, 4)
    # cell (0, 0) of the first level: 4 pixels from the corner; 4 cells to each side
    torch.testing.assert_close(around[0, 0, 0], torch.tensor([0.5 / 6, 0.5 / 4, 8 / 6, 8 / 4]))
    torch.testing.assert_close(around[0, 0, 1], torch.tensor([0.25 / 3, 0.25 / 2, 8 / 3, 8 / 2]))


def test_sine_embedding():
    found = sine_embedding(torch.tensor([[0.25, 0.5]]), 4, temperature=100.0)
    angles = torch.tensor([0.25, 0.025, 0.5, 0.05]) * 2 * math.pi
    expected = [*angles[:2].sin(), *angles[:2].cos(), *angles[2:].sin(), *angles[2:].cos()]
    torch.testing.assert_close(found, torch.stack(expected)[None])


def test_inverse_sigmoid_is_bounded():
    found = inverse_sigmoid(torch.tensor([0.0, 0.5, 1.0, -1.0]))
    assert found.isfinite().all() and found[1] == 0
    torch.testing.assert_close(found.sigmoid(), torch.tensor([1e-5, 0.5, 1 - 1e-5, 1e-5]))


class Maps(nn.Module):
    def output_shape(self):
        return {"res4": ShapeSpec(channels=6, stride=16), "res5": ShapeSpec(channels=8, stride=32)}


def test_neck_adds_levels():
    neck = Neck(Maps(), ["res4", "res5"], dim=16, extra_levels=2)
    assert neck.strides == [16, 32, 64, 128]
    levels = neck({"res4": torch.rand(1, 6, 8, 10), "res5": torch.rand(1, 8, 4, 5)})
    assert [tuple(x.shape) for x in levels] == [
        (1, 16, 8, 10),
        (1, 16, 4, 5),
        (1, 16, 2, 3),
        (1, 16, 1, 2),
    ]


def test_neck_names_what_there_is():
    with pytest.raises(ValueError, match=r"\['res3'\]: the backbone has res4, res5"):
        Neck(Maps(), ["res3"])


def selection():
    torch.manual_seed(0)
    found = QuerySelection(16, 3)
    nn.init.normal_(found.class_head.weight)
    return found


def test_selected_are_the_best_cells_of_the_image():
    where = geometry([(32, 48), (20, 33)])
    memory = torch.randn(2, 31, 16)
    chosen = selection()(memory, where, 5)
    assert chosen.tokens.shape == (2, 5, 16) and chosen.anchors.dtype == torch.float32
    module = selection()
    logits = module.class_head(module.norm(module.proj(memory)))
    best = logits.amax(-1)
    # a box of the coarsest levels is .1 or .2 large, so that none is silent but padding
    best = best.masked_fill(where.padding, -torch.inf)
    centre_ok = ((where.centres > 0.01) & (where.centres < 0.99)).all(-1)
    best = best.masked_fill(~centre_ok, -torch.inf)
    order = best.topk(5).indices
    torch.testing.assert_close(
        chosen.predictions.logits, logits.gather(1, order[..., None].expand(-1, -1, 3)), atol=1e-5, rtol=0
    )
    # the box head gives zeros at first: boxes are the proposals
    centres = where.centres.gather(1, order[..., None].expand(-1, -1, 2))
    torch.testing.assert_close(chosen.predictions.boxes[..., :2], centres, atol=1e-4, rtol=0)
    sizes = 0.05 * 2.0 ** where.level_numbers()[order]
    torch.testing.assert_close(chosen.predictions.boxes[..., 2], sizes, atol=1e-4, rtol=0)


def test_padding_is_selected_last_and_there_may_be_fewer_cells_than_queries():
    where = geometry([(32, 48), (8, 8)])
    chosen = selection()(torch.randn(2, 31, 16), where, 100)
    assert chosen.tokens.shape[1] == 31
    assert chosen.anchors.isfinite().all()
    real = (chosen.predictions.boxes[1, :, :2] < 0.99).all(-1)
    assert real[: int(real.sum())].all()  # those of the image come first


def targets(*counts, classes=4):
    generator = torch.Generator().manual_seed(0)
    return [
        Targets(
            torch.randint(classes, (n,), generator=generator),
            torch.rand(n, 4, generator=generator) * 0.2 + torch.tensor([0.4, 0.4, 0.1, 0.1]),
        )
        for n in counts
    ]


def test_groups_of_noisy_queries():
    torch.manual_seed(0)
    given = targets(2, 3)
    noisy = Denoising(4, 8, number=10)(given, num_matching=7)
    assert noisy.groups == 3 and len(noisy) == 3 * 2 * 3
    assert noisy.content.shape == (2, 18, 8) and noisy.anchors.shape == (2, 18, 4)
    assert noisy.matches[0][0].tolist() == [0, 1, 6, 7, 12, 13] and noisy.matches[0][1].tolist() == [0, 1] * 3
    assert noisy.matches[1][0].tolist() == [0, 1, 2, 6, 7, 8, 12, 13, 14]
    # the third place of the first image is filled up, in each half of each group
    assert noisy.unused[0].nonzero().flatten().tolist() == [2, 5, 8, 11, 14, 17]
    assert not noisy.unused[1].any()


def test_who_sees_whom():
    blocked = Denoising(4, 8, number=4)(targets(2), num_matching=3).blocked
    assert blocked.shape == (11, 11)
    seen = ~blocked
    assert seen[:4, :4].all() and seen[4:8, 4:8].all()  # a group sees itself
    assert not seen[:4, 4:8].any() and not seen[4:8, :4].any()  # not the other group
    assert seen[:8, 8:].all()  # noisy ones see matching ones
    assert not seen[8:, :8].any() and seen[8:, 8:].all()  # not the other way round


def test_noise_is_little_and_much():
    torch.manual_seed(0)
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.1]]).repeat(50, 1)
    given = [Targets(torch.zeros(50, dtype=torch.long), boxes)]
    noisy = Denoising(4, 8, number=50, box_noise=0.4)(given, 1)
    found = noisy.anchors.sigmoid()[0].reshape(2, 50, 4)
    corners = torch.cat((found[..., :2] - found[..., 2:] / 2, found[..., :2] + found[..., 2:] / 2), -1)
    moved = (corners - torch.tensor([0.4, 0.45, 0.6, 0.55])).abs() / torch.tensor([0.1, 0.05, 0.1, 0.05])
    assert moved[0].max() < 0.4 + 1e-3
    assert moved[1].min() > 0.4 - 1e-3 and moved[1].max() < 0.8 + 1e-3


def test_labels_are_noisy_at_half_the_rate():
    torch.manual_seed(0)
    module = Denoising(1000, 4, label_noise=0.5)
    classes = torch.zeros(200, 1, 1, 100, dtype=torch.long)
    share = (module._noisy_labels(classes) != 0).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.02)
    module.label_noise = 0.0
    assert torch.equal(module._noisy_labels(classes), classes)


def test_more_objects_than_places():
    torch.manual_seed(0)
    noisy = Denoising(4, 8, number=5)(targets(12, 2), num_matching=3)
    assert noisy.groups == 1 and len(noisy) == 10
    queries, objects = noisy.matches[0]
    assert queries.tolist() == [0, 1, 2, 3, 4]
    assert len(set(objects.tolist())) == 5 and max(objects.tolist()) < 12


def test_no_object_at_all():
    noisy = Denoising(4, 8, number=5)(targets(0, 0), num_matching=3)
    assert noisy.anchors.isfinite().all() and noisy.unused[:, :-3].all() and not noisy.unused[:, -3:].any()
    assert all(len(q) == len(o) == 0 for q, o in noisy.matches)
    noisy.content.sum().backward()  # the labels have a gradient in every step


def test_a_number_is_needed():
    with pytest.raises(ValueError, match="denoising=None"):
        Denoising(4, 8, number=0)


def decoding(queries=6):
    torch.manual_seed(0)
    decoder = Decoder(16, 4, 24, num_layers=3, levels=3, points=2)
    for layer in decoder.layers:
        nn.init.normal_(layer.attention.offsets.weight, std=0.3)
    for linear in decoder.box_head.modules():
        if isinstance(linear, nn.Linear):
            nn.init.normal_(linear.weight, std=0.3)
    return decoder, torch.randn(2, queries, 16), torch.randn(2, queries, 4), torch.randn(2, 31, 16)


def test_the_order_of_queries_does_not_matter():
    decoder, x, anchors, memory = decoding()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    states, boxes = decoder(x, anchors, memory, geometry())
    others, moved = decoder(x[:, order], anchors[:, order], memory, geometry())
    for a, b in zip([*states, *boxes], [*others, *moved], strict=True):
        torch.testing.assert_close(a[:, order], b, atol=1e-5, rtol=1e-5)
    assert len(states) == len(boxes) == 3


def test_gradients_look_forward_twice():
    """A layer's box depends on its own shift and on that of the layer before, not on earlier ones."""
    decoder, x, anchors, memory = decoding()
    anchors.requires_grad_()
    shifts = []

    def noting(module, given, out):
        out = out.detach().requires_grad_()
        shifts.append(out)
        return out

    decoder.box_head.register_forward_hook(noting)
    _, boxes = decoder(x.detach(), anchors, memory, geometry())
    for number, box in enumerate(boxes):
        found = torch.autograd.grad(box.sum(), [*shifts, anchors], retain_graph=True, allow_unused=True)
        reached = [g is not None and bool(g.any()) for g in found]
        assert reached[:3] == [number - 1 <= k <= number for k in range(3)]


def test_boxes_add_up_the_shifts():
    decoder, x, anchors, memory = decoding()
    shifts = []
    decoder.box_head.register_forward_hook(lambda module, given, out: shifts.append(out))
    _, boxes = decoder(x, anchors, memory, geometry())
    torch.testing.assert_close(boxes[2], (anchors + sum(shifts)).sigmoid())


def test_unused_queries_are_not_seen():
    decoder, x, anchors, memory = decoding()
    unused = torch.zeros(2, 6, dtype=torch.bool)
    unused[:, 4:] = True
    states, _ = decoder(x, anchors, memory, geometry(), None, unused)
    x[:, 4:] += 3
    others, _ = decoder(x, anchors, memory, geometry(), None, unused)
    torch.testing.assert_close(states[-1][:, :4], others[-1][:, :4])


def test_encoder_sees_no_padding():
    """Cells of the small image have the same memory alone and beside a larger one."""
    torch.manual_seed(0)
    encoder = Encoder(16, 4, 24, num_layers=2, levels=3, points=2)
    for layer in encoder.layers:
        nn.init.normal_(layer.attention.offsets.weight, std=0.3)
    levels = [torch.randn(1, 16, h, w) for h, w in ((2, 4), (1, 2), (1, 1))]
    alone = encoder(levels, locate(((2, 4), (1, 2), (1, 1)), STRIDES, [(16, 32)], CPU))
    padded = [nn.functional.pad(x, (0, w - x.shape[3], 0, h - x.shape[2]), value=9.0)
              for x, (h, w) in zip(levels, SHAPES, strict=True)]  # fmt: skip
    beside = encoder(padded, locate(SHAPES, STRIDES, [(16, 32)], CPU))
    inside = beside[:, [0, 1, 2, 3, 6, 7, 8, 9, 24, 25, 30]]
    torch.testing.assert_close(inside, alone, atol=2e-5, rtol=1e-4)
