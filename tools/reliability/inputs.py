"""Files, values and addresses that are wrong in some way, and the calls that get them."""

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import save

from itpn_d2 import create_model
from itpn_d2.data.scenes import draw_scene, generate_scenes
from itpn_d2.engine import load_config
from itpn_d2.inference import read_image

from . import calls, hostile, runs
from .mutations import BAD, damaged, mutated, places, short

MARKER = "code_was_executed"
_PICTURES = (
    *(("png", "RGB"), ("png", "RGBA"), ("png", "P"), ("png", "I;16"), ("jpeg", "RGB"), ("jpeg", "CMYK")),
    *(("bmp", "RGB"), ("gif", "P"), ("tiff", "F"), ("webp", "RGB"), ("ppm", "RGB")),
)


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        family: what kind of thing is wrong.
        name: what is wrong with it, in words.
        call: does what a user would do with it.
    """

    family: str
    name: str
    call: Callable[[], object]


class Inputs:
    """The generators; what they write goes below ``folder``, one numbered folder a case."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.rng = folder, random.Random(seed)
        self._count = 0
        self.marker = folder / MARKER
        folder.mkdir(parents=True, exist_ok=True)
        self.good = self._write_scenes()
        self._coco = json.loads((self.good / "instances.json").read_text())
        self._panoptic = json.loads((self.good / "panoptic.json").read_text())
        torch.manual_seed(0)
        self._model: dict[str, Any] = {
            "channels": (8, 16, 32),
            "depths": (1, 1, 1),
            "num_heads": 2,
            "fpn_dim": 16,
        }
        self._state = create_model("fast_itpn_nano", pyramid=True, **self._model).state_dict()
        self._values = self._config_values()

    def __iter__(self) -> Iterator[Case]:
        """Cases without end, the families in turns."""
        families = (
            self.coco, self.checkpoint, self.override, self.image, self.yaml, self.pickle, self.tensors,
            self.coco_bytes, self.address, self.panoptic, self.semantic,
        )  # fmt: skip
        while True:
            for family in families:
                yield family()

    def _place(self) -> Path:
        self._count += 1
        place = self.folder / f"{self._count:05}"
        place.mkdir()
        return place

    # what is right

    def _write_scenes(self) -> Path:
        """Three scenes with boxes, masks (one of them a polygon), semantic and panoptic labels."""
        folder = generate_scenes(self.folder / "good", "train", 3, 64, 7)
        path = folder / "instances.json"
        tree = json.loads(path.read_text())
        x, y, width, height = tree["annotations"][0]["bbox"]
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        tree["annotations"][0]["segmentation"] = [corners]
        path.write_text(json.dumps(tree))
        (folder / "classes.txt").write_text("\n".join(f"class {n}" for n in range(20)))
        return folder

    def _config_values(self) -> dict[str, Any]:
        cfg = load_config(str(runs.CONFIGS["training"]))
        tree = OmegaConf.to_container(cfg, resolve=False)
        keys = (".".join(map(str, path)) for path in places(tree))
        return {key: None for key in keys if "_target_" not in key and all(map(_is_key, key.split(".")))}

    # what is wrong with it

    def coco(self) -> Case:
        """A json of boxes and masks with one wrong field, trained on and evaluated."""
        tree, what = mutated(self._coco, self.rng)
        return Case("COCO json", what, self._train_on("mask_rcnn", json.dumps(tree).encode()))

    def coco_bytes(self) -> Case:
        """The same as a damaged text."""
        data, what = damaged(json.dumps(self._coco).encode(), self.rng)
        return Case("COCO text", what, self._train_on("mask_rcnn", data))

    def panoptic(self) -> Case:
        """A panoptic json with one wrong field."""
        tree, what = mutated(self._panoptic, self.rng)
        labels = [f"dataset.{split}.labels={self.good / 'panoptic'}" for split in ("train", "val")]
        return Case("panoptic json", what, self._train_on("panoptic_fpn", json.dumps(tree).encode(), *labels))

    def _train_on(self, config: str, data: bytes, *more: str) -> Callable[[], None]:
        place = self._place()
        (place / "set.json").write_bytes(data)
        sources = [
            f"dataset.{split}.{key}={value}"
            for split in ("train", "val")
            for key, value in (("json", place / "set.json"), ("images", self.good / "images"))
        ]
        return partial(calls.train, config, place, [*sources, *more])

    def semantic(self) -> Case:
        """Label images, of which one, or the file of classes, is damaged or missing."""
        place = self._place()
        shutil.copytree(self.good / "sem_seg", place / "labels")
        shutil.copytree(self.good / "images", place / "images")
        shutil.copy(self.good / "classes.txt", place)
        path = self.rng.choice(sorted(p for p in place.rglob("*") if p.is_file()))
        if self.rng.random() < 0.2:
            path.unlink()
            what = "missing"
        else:
            data, what = damaged(path.read_bytes(), self.rng)
            path.write_bytes(data)
        sources = [
            f"dataset.{split}.{key}={place / key}"
            for split in ("train", "val")
            for key in ("images", "labels")
        ]
        call = partial(
            calls.train, "semantic_fpn", place, [*sources, f"dataset.classes={place / 'classes.txt'}"]
        )
        return Case("label images", f"{path.relative_to(place)}: {what}", call)

    def override(self) -> Case:
        """A wrong value of one key of a config, trained with."""
        key, value = self.rng.choice(sorted(self._values)), self.rng.choice(BAD)
        place = self._place()
        text = f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        return Case("override", short(text), partial(calls.override, place, text))

    def checkpoint(self) -> Case:
        """A damaged checkpoint file, in one of three formats."""
        form = self.rng.choice(("zip", "legacy", "safetensors"))
        data, what = damaged(self._saved(form), self.rng)
        path = self._place() / ("model.safetensors" if form == "safetensors" else "model.pth")
        path.write_bytes(data)
        return Case("checkpoint bytes", f"{form}: {what}", partial(calls.load, path, self._model))

    def pickle(self) -> Case:
        """A pickle that would run code, or that grows beyond all bounds."""
        data, what = hostile.pickled(self._state, self.marker, self.rng)
        path = self._place() / self.rng.choice(("model.pth", "model.pkl"))
        if path.suffix == ".pth" and self.rng.random() < 0.5:
            data, what = hostile.as_zip(data), f"{what}, in a zip"
        path.write_bytes(data)
        return Case("pickle", what, partial(calls.load, path, self._model))

    def tensors(self) -> Case:
        """A readable checkpoint in which one entry is of another shape, type or value."""
        state = dict(self._state)
        key = self.rng.choice(sorted(state))
        value = state[key]
        bad: dict[str, Any] = {
            "NaN": torch.full_like(value, float("nan")),
            "infinite": torch.full_like(value, float("inf")),
            "scalar": torch.tensor(1.0),
            "empty": value.new_empty(0),
            "0x0": value.new_empty(0, 0),
            "longer": torch.cat([value.flatten()] * 2),
            "integers": value.to(torch.int64),
            "complex": value.to(torch.complex64),
            "a text": "abc",
            "None": None,
            "a list": [1, 2],
            "meta": value.to("meta"),
        }
        what = self.rng.choice(sorted(bad))
        if what == "meta" or self.rng.random() < 0.1:
            state[f"trunk.stage3.{self.rng.choice((10**9, -1, 'x', 10**30))}.norm.weight"] = value
        else:
            state[key] = bad[what]
        path = self._place() / "model.pth"
        torch.save({"model": state}, path)
        return Case("checkpoint tensors", f"{key}: {what}", partial(calls.load, path, self._model))

    def image(self) -> Case:
        """A damaged picture, in one of many formats and modes."""
        form, mode = self.rng.choice(_PICTURES)
        pixels = Image.fromarray(draw_scene([3, self._count], 48)[0])
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(pixels.convert("L"), np.uint16) * 200)
        else:
            picture = pixels.convert(mode)
        stream = io.BytesIO()
        picture.save(stream, form)
        data, what = damaged(stream.getvalue(), self.rng)
        path = self._place() / f"picture.{form}"
        path.write_bytes(data)
        return Case("picture", f"{form} {mode}: {what}", partial(read_image, str(path)))

    def yaml(self) -> Case:
        """A foreign YAML: objects, targets, bases, bombs, other types."""
        place, texts = self._place(), hostile.yaml_texts(self.marker)
        what = self.rng.choice(sorted(texts))
        data = texts[what].encode()
        if self.rng.random() < 0.3:
            data, more = damaged(data, self.rng)
            what = f"{what}, {more}"
        (place / "config.yaml").write_bytes(data)
        (place / "other.yaml").write_text(hostile.other_yaml(self.marker))
        return Case("YAML", what, partial(calls.from_yaml, place / "config.yaml", place))

    def address(self) -> Case:
        """An address of weights from which nothing can come."""
        found = hostile.address(self.rng)
        return Case("address", ascii(found)[:60], partial(calls.load, found, self._model))

    def clear_marker(self) -> None:
        """Forget that an input had something executed."""
        if self.marker.is_dir():
            self.marker.rmdir()
        else:
            self.marker.unlink()

    def _saved(self, form: str) -> bytes:
        if form == "safetensors":
            return save({k: v.contiguous() for k, v in self._state.items()})
        stream = io.BytesIO()
        torch.save({"model": self._state}, stream, _use_new_zipfile_serialization=form == "zip")
        return stream.getvalue()


def _is_key(part: str) -> bool:
    return part.isidentifier() or part.isdigit()
