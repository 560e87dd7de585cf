"""A classifier's config as arguments of the probe: the same file serves both."""

import argparse
from collections.abc import Sequence

from itpn_d2.engine import load_config
from itpn_d2.engine.start import named_weights


def expand(arguments: Sequence[str] | None) -> list[str] | None:
    """``--config-file F --opts key=value ...`` replaced by the values of that config: variant, images, size
    of images, crop, and weights where ``train.init_checkpoint`` has some. Other options come later and
    therefore take precedence. Without a config file the arguments as they are.

    Raises:
        ValueError: the config is not that of a classifier, or names no images.
    """
    p = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    p.add_argument("--config-file")
    p.add_argument("--opts", nargs=argparse.REMAINDER, default=[])
    given, others = p.parse_known_args(arguments)
    if given.config_file is None:
        return None if arguments is None else list(arguments)
    cfg = load_config(given.config_file, given.opts)
    network, data = cfg.model.get("network"), cfg.dataset
    if network is None or "name" not in network:
        raise ValueError(f"{given.config_file}: model.network.name is missing: give a classifier's config")
    places = {split: data[split].get("images") for split in ("train", "val")}
    missing = [f"dataset.{split}.images=IMAGES" for split, place in places.items() if not place]
    if missing:
        raise ValueError(f"{given.config_file} gives no images: add --opts {' '.join(missing)}")
    image = cfg.dataloader.image
    found = ["--name", network.name, "--train", places["train"], "--test", places["val"]]
    found += ["--image-size", str(image.size), "--crop-fraction", str(image.crop_fraction)]
    chosen = {"--weights", "--random"} & {text.split("=")[0] for text in others}
    weights = named_weights(cfg)
    if weights and not chosen:
        found += ["--weights", weights]
    return [*found, *others]
