"""Images to one vector each, by a trunk or its pyramid."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from itpn_d2.backbone import IntegralPyramid, Trunk
from itpn_d2.backbone.padding import pad_to_multiple
from itpn_d2.backbone.trunk import TOKEN_STRIDE
from itpn_d2.data import BrokenImages
from itpn_d2.normalisation import IMAGENET

from .gathering import gather_rows

LEVELS = ("f3", "p2", "p3", "p4")


class TrunkFeatures(nn.Module):
    """Images ``(B, 3, H, W)`` in 0..255 to one vector each, ``(B, C)``: a level's mean over the image.

    Args:
        trunk: whose stage 3 is ``level`` f3.
        pixel_mean, pixel_std: in 0..255, in the order of the images' channels.
        pyramid: needed for the levels p2, p3 and p4.

    Raises:
        ValueError: ``level`` is unknown, or belongs to a pyramid that is not given.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        trunk: Trunk,
        pixel_mean: Sequence[float] = IMAGENET.mean,
        pixel_std: Sequence[float] = IMAGENET.std,
        pyramid: IntegralPyramid | None = None,
        level: str = "f3",
    ):
        super().__init__()
        if level not in LEVELS:
            raise ValueError(f"level {level!r}: choose from {', '.join(LEVELS)}")
        if level != "f3" and pyramid is None:
            raise ValueError(f"level {level!r} belongs to the pyramid: pass the pyramid, or choose f3")
        self.trunk, self.pyramid, self.level = trunk, pyramid, level
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` in 0..255, of any size, to float32 ``(B, C)``."""
        size = (image.shape[-2], image.shape[-1])
        x = pad_to_multiple((image.float() - self.pixel_mean) / self.pixel_std, TOKEN_STRIDE)
        maps = self.trunk(x, None if x.shape[-2:] == size else [size] * len(x))
        if self.level == "f3" or self.pyramid is None:
            return maps[-1].float().mean((1, 2))
        return self.pyramid(*maps)[self.level].float().mean((2, 3))


@torch.no_grad()
def extract_features(
    model: nn.Module,
    loader: Iterable[dict[str, Any]],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    broken: BrokenImages | None = None,
) -> tuple[Tensor, Tensor]:
    """Run ``model`` in evaluation mode over a labelled loader; collective.

    Args:
        model: uint8 images ``(B, 3, H, W)`` to vectors ``(B, C)``, as :class:`TrunkFeatures`.
        loader: batches with ``image`` and ``label``, from :func:`pretrain.data.build_image_loader`, which
            gives each process its share.
        dtype: of autocast; float32 for none.
        broken: takes note of the images that could not be read.

    Returns:
        Features ``(N, C)`` float32 and labels ``(N,)`` int64 of the images of all processes, in their order,
        on the CPU.

    Raises:
        ValueError: the batches have no label, or there is none.
    """
    device = torch.device(device)
    mode = model.training
    model.to(device).eval()
    features, labels = [], []
    mixed = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
    try:
        for batch in tqdm(loader, desc="features", unit="batch", disable=None):
            if "label" not in batch:
                raise ValueError("the images have no labels: build their source with labelled=True")
            with mixed:
                features.append(model(batch["image"].to(device, non_blocking=True)).float().cpu())
            labels.append(batch["label"])
            if broken is not None:
                broken.add(batch["broken"])
    finally:
        model.train(mode)
    features.append(torch.zeros(0, features[0].shape[1] if features else 0))
    labels.append(torch.zeros(0, dtype=torch.int64))
    found = gather_rows(torch.cat(features)), gather_rows(torch.cat(labels))
    if not len(found[0]):
        raise ValueError("the loader has no batch")
    return found
