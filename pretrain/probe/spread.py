"""The richness of features: whether a pre-trained trunk and pyramid encode more than colour and position.

python -m pretrain.probe.spread --weights FILE --name fast_itpn_nano --images FOLDER

A short pre-training can collapse the maps to almost one direction, which a detector then has to unlearn;
random weights (--random) show the starting point.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from itpn_d2.backbone import create_model
from itpn_d2.checkpoint import load_pretrained
from itpn_d2.errors import config_errors, errors_of_use
from itpn_d2.normalisation import IMAGENET

from ..data import TestView, build_image_loader, image_folder
from .command import start_parser
from .features import LEVELS


@dataclass(frozen=True)
class Spread:
    """Statistics of features at all positions of all images (ours).

    Attributes:
        rms: root of their mean square.
        dimensions: participation ratio of the covariance's eigenvalues, (sum)^2 / sum of squares: how many
            directions share the variance, from 1 to the number of channels.
        of_image: share of the variance that all positions of an image have in common.
        of_place: share that a position has in common in all images. The remainder to 1 is content.
    """

    rms: float
    dimensions: float
    of_image: float
    of_place: float


def spread(maps: Tensor) -> Spread:
    """Of maps ``(B, h, w, C)``; both shares without the bias that few images or places bring.

    Raises:
        ValueError: a single image or a single position.
    """
    values = maps.double().flatten(1, 2)
    images, places = values.shape[:2]
    if images < 2 or places < 2:
        raise ValueError(
            f"the spread of {images} images with {places} places: at least two of each are needed"
        )
    rms = values.square().mean().sqrt().item()
    values = values - values.mean((0, 1))
    flat = values.flatten(0, 1)
    eigenvalues = torch.linalg.eigvalsh(flat.T @ flat / len(flat)).clamp(min=0)
    total = eigenvalues.sum().clamp(min=torch.finfo(torch.float64).tiny)

    def shared(dim: int, count: int) -> float:
        between = values.mean(dim).square().sum(-1).mean() / total
        return max(0.0, ((count * between - 1) / (count - 1)).item())

    ratio = (total**2 / eigenvalues.square().sum()).item()
    return Spread(rms, ratio, shared(1, places), shared(0, images))


@torch.no_grad()
def measure(model: Any, images: Tensor) -> dict[str, Spread]:
    """The spread of every level of a backbone with ``trunk`` and ``pyramid``.

    Args:
        images: ``(B, 3, H, W)`` in 0..255, sides multiples of 16.
    """
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))
    found: dict[str, list[Tensor]] = {level: [] for level in LEVELS}
    for batch in tqdm(images.split(16), desc="features", unit="batch", disable=None):
        stages = model.trunk((batch.float() - mean) / std)
        levels = model.pyramid(*stages)
        found["f3"].append(stages[-1])
        for level in LEVELS[1:]:
            found[level].append(levels[level].permute(0, 2, 3, 1))
    return {level: spread(torch.cat(maps)) for level, maps in found.items()}


def table(found: dict[str, Spread]) -> str:
    """A line per level."""
    lines = [f"{'':<6}{'rms':>8}{'dimensions':>12}{'of image':>10}{'of place':>10}"]
    lines += [
        f"{level:<6}{s.rms:>8.2f}{s.dimensions:>12.1f}{s.of_image:>10.2f}{s.of_place:>10.2f}"
        for level, s in found.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    p = start_parser("python -m pretrain.probe.spread", __doc__)
    p.add_argument("--images", required=True, metavar="FOLDER")
    p.add_argument(
        "--image-size", type=int, default=128, help="side of the images in pixels (default: %(default)s)"
    )
    p.add_argument(
        "--num-images",
        type=int,
        default=64,
        help="number of images, the first ones in the folder (default: %(default)s)",
    )
    p.add_argument("--fpn-dim", type=int, default=128, help="width of the pyramid (default: %(default)s)")
    args = p.parse_args(arguments)
    with errors_of_use(args.debug), config_errors():
        torch.manual_seed(0)
        model = create_model(args.name, pyramid=True, fpn_dim=args.fpn_dim).eval()
        if args.weights:
            print(load_pretrained(model, args.weights), file=sys.stderr)
        loader = build_image_loader(image_folder(args.images), TestView(args.image_size, 1.0), 16, 0)
        batches = []
        for batch in loader:
            batches.append(batch["image"])
            if sum(map(len, batches)) >= args.num_images:
                break
        print(table(measure(model, torch.cat(batches)[: args.num_images])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
