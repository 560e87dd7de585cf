"""All layers' losses at once equal those of one layer after another, in values and gradients."""

import pytest
import torch

from itpn_d2.meta_arch.dino.criterion import Criterion
from itpn_d2.meta_arch.dino.denoising import Denoising
from itpn_d2.meta_arch.dino.matcher import HungarianMatcher
from itpn_d2.meta_arch.dino.structures import MaskLogits, Predictions, Targets
from itpn_d2.meta_arch.mask_dino import MaskCriterion, MaskMatcher
from tests.meta_arch.simple_losses import total_losses

CLASSES, SIZE = 5, (12, 16)


class FixedPoints(MaskCriterion):
    def points(self, logits):
        drawn = torch.rand(1, self.num_points, 2, generator=torch.Generator().manual_seed(7))
        return drawn.expand(len(logits), -1, -1)


def boxes(generator, *size):
    return torch.rand(*size, 4, generator=generator) * 0.5 + 0.2


def made(counts, layers=2, queries=9, masks=False, width=CLASSES, dtype=torch.float32, seed=0):
    """Predictions of layers, encoder and de-noising, all leaves, and targets."""
    generator = torch.Generator().manual_seed(seed)
    targets = [
        Targets(
            torch.randint(CLASSES, (n,), generator=generator),
            boxes(generator, n),
            torch.rand(n, 24, 32, generator=generator) > 0.5 if masks else None,
        )
        for n in counts
    ]
    features = torch.randn(len(counts), 6, *SIZE, generator=generator).to(dtype).requires_grad_()

    def predicted(number):
        one = torch.randn(len(counts), number, width, generator=generator).to(dtype).requires_grad_()
        embeddings = torch.randn(len(counts), number, 6, generator=generator).to(dtype).requires_grad_()
        found = boxes(generator, len(counts), number).requires_grad_()
        return Predictions(one, found, MaskLogits(embeddings, features) if masks else None)

    torch.manual_seed(seed)
    noisy = Denoising(CLASSES, 8, number=8)(targets, queries)
    return (
        [predicted(queries) for _ in range(layers)],
        predicted(queries),
        targets,
        [predicted(len(noisy)) for _ in range(layers)],
        noisy,
    )


def gradients(losses, *layers):
    leaves = []
    for p in layers:
        leaves += [p.logits, p.boxes]
        leaves += [] if p.masks is None else [p.masks.embeddings, p.masks.features]
    found = torch.autograd.grad(sum(losses.values()), leaves, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]


def check(criterion, layers, selected, targets, noisy_layers, noisy, rtol=1e-5):
    given = (layers, selected, targets, noisy_layers, noisy)
    found, expected = criterion(*given), total_losses(criterion, *given)
    assert found.keys() == expected.keys()
    for name, loss in expected.items():
        loss = torch.as_tensor(loss).detach()
        assert found[name].item() == pytest.approx(loss.item(), rel=rtol, abs=1e-6), name
    everything = [*layers, *([] if selected is None else [selected]), *noisy_layers]
    for one, other in zip(gradients(found, *everything), gradients(expected, *everything), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=max(rtol, 1e-5))


COUNTS = [(3, 2), (4, 0, 1), (0, 0), (12,), (0, 11)]


@pytest.mark.parametrize("options", [{}, {"unused_slots": True, "giou_eps": 1e-6}], ids=["ours", "public"])
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_dino(counts, options):
    check(Criterion(HungarianMatcher(), **options), *made(counts))


@pytest.mark.parametrize("things", [None, 2])
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_masks(counts, things):
    criterion = FixedPoints(MaskMatcher(num_points=32), num_points=24, things=things)
    check(criterion, *made(counts, masks=True))


@pytest.mark.parametrize("unused_slots", [False, True])
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_cross_entropy_without_an_encoder(counts, unused_slots):
    """One more logit; queries that are learnt; a prediction before the first layer, without de-noising."""
    criterion = FixedPoints(
        MaskMatcher(num_points=32), num_points=24, class_loss="cross_entropy", unused_slots=unused_slots
    )
    layers, _, targets, noisy_layers, noisy = made(counts, masks=True, width=CLASSES + 1)
    check(criterion, layers, None, targets, noisy_layers[1:], noisy)
    check(criterion, layers, None, targets, [], None)


def test_in_bfloat16():
    """Logits, embeddings and features in half precision; the losses are float32 all the same."""
    criterion = FixedPoints(MaskMatcher(num_points=32), num_points=24)
    given = made((3, 1), masks=True, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(loss.dtype == torch.float32 for loss in criterion(*given).values())
    check(criterion, *given, rtol=1e-2)


def test_an_images_losses_do_not_depend_on_its_batch():
    """Slots that fill up an image with fewer objects have no loss, unless the public rule is asked for."""
    layers, selected, targets, noisy_layers, noisy = made((4, 1))
    other = [Predictions(torch.where(noisy.unused[:, : len(noisy), None], 3.0, p.logits), p.boxes)
             for p in noisy_layers]  # fmt: skip
    criterion = Criterion(HungarianMatcher())
    first, second = (criterion(layers, selected, targets, n, noisy) for n in (noisy_layers, other))
    assert noisy.unused.any() and torch.equal(first["loss_class_denoising"], second["loss_class_denoising"])
    criterion = Criterion(HungarianMatcher(), unused_slots=True)
    first, second = (criterion(layers, selected, targets, n, noisy) for n in (noisy_layers, other))
    assert second["loss_class_denoising"].item() > 1.1 * first["loss_class_denoising"].item()


def test_a_wrong_class_loss_is_named():
    with pytest.raises(ValueError, match="choose focal, cross_entropy"):
        Criterion(HungarianMatcher(), class_loss="hinge")
