"""The loss of predictions that ignore the visible patches, which a pre-training has to beat.

python -m pretrain.probe.constant --config-file configs/Pretrain/fastmim_hog_fast_itpn_nano.py \\
    dataset.train.root=FOLDER

For methods whose target follows from the image alone (pixels, HOG). A network learns the average target in
its first steps; if its loss stays there, it has learnt nothing else yet, and needs more steps.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from itpn_d2.engine import ConfigError, load_config
from itpn_d2.errors import add_debug, config_errors, errors_of_use
from itpn_d2.lazy.build import build

from ..data import build_pretrain_loader
from ..methods import FastMIM, PixelMIM


def constant_losses(targets: Tensor) -> dict[str, float]:
    """Mean squared errors of the best predictions that do not depend on the visible patches (ours).

    Args:
        targets: ``(B, N, C)``, N tokens of each image in the same order.

    Returns:
        ``constant``, one vector for all tokens; ``place``, one for each position; and ``image``, one for each
        image, which a network can only estimate, from the visible patches.
    """
    values = targets.double()
    means = {"constant": values.mean((0, 1)), "place": values.mean(0), "image": values.mean(1, keepdim=True)}
    return {name: (values - mean).square().mean().item() for name, mean in means.items()}


def measure(cfg: Any, num_images: int) -> tuple[str, dict[str, float]]:
    """The name of the loss in a run's log and :func:`constant_losses` of its targets.

    Args:
        cfg: the config of a pre-training.
        num_images: how many training views are drawn.

    Raises:
        ConfigError: the method's targets do not follow from the image alone.
    """
    method = build(cfg.model)
    if not isinstance(method, FastMIM | PixelMIM):
        raise ConfigError(
            f"model: the targets of {type(method).__name__} come from a network; this command needs PixelMIM "
            "or FastMIM, whose targets follow from the image alone"
        )
    stride = method.encoder.stride if isinstance(method, FastMIM) else 16
    options = cfg.dataloader.train
    batch = min(num_images, options.total_batch_size)
    loader = build_pretrain_loader(
        build(cfg.dataset.train), build(options.view), batch, options.num_workers, cfg.train.seed
    )
    found: list[Tensor] = []
    for views in loader:
        found.append(method.target.tokens(method.normalise(views["image"]), stride))
        if sum(map(len, found)) >= num_images:
            break
    return method.target.name, constant_losses(torch.cat(found)[:num_images])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    p = argparse.ArgumentParser(
        prog="python -m pretrain.probe.constant",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--config-file", required=True, metavar="F", help="config of the pre-training")
    p.add_argument(
        "--num-images", type=int, default=512, help="number of training views (default: %(default)s)"
    )
    p.add_argument("opts", nargs="*", metavar="key=value", help="overrides of the config")
    add_debug(p)
    args = p.parse_args(arguments)
    if args.num_images < 2:
        p.error("--num-images: at least two images are needed")
    with errors_of_use(args.debug), config_errors():
        torch.manual_seed(0)
        name, losses = measure(load_config(args.config_file, args.opts), args.num_images)
        print(f"loss_{name} of the best prediction that is")
        for kind, text in (
            ("constant", "the same for all patches"),
            ("place", "the same for each position in all images"),
            ("image", "the same for all patches of an image"),
        ):
            print(f"  {text:<42}{losses[kind]:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
