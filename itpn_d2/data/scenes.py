"""Quick-start scenes: generated pictures of textured, overlapping shapes with boxes, masks, keypoints,
semantic and panoptic labels.

Made on first use, the same bytes for the same seed; nothing is downloaded. The classes differ in shape only:
colour, texture, size, angle and light are drawn independently, so a detector has to look at the outline. The
keypoints of every shape are the ends of its outline in the picture: the topmost point, and so on.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
from tqdm import tqdm

from ..errors import OutputError
from ..files import commit, partial_name, remove_partials, write_json

logger = logging.getLogger(__name__)
CLASSES = ("disc", "square", "triangle", "star", "ring")
KEYPOINTS = ("top", "right", "bottom", "left")
_FORMAT = 3  # raise when the files change, so that cached ones are made anew
_SPLITS = {"train": 0, "val": 1, "test": 2}
_MIN_VISIBLE = 0.35  # of a shape's area; what is hidden further is no longer an object
_SUPERSAMPLING = 4


@dataclass
class SceneObject:
    """One shape of a scene.

    Attributes:
        kind: index into :data:`CLASSES`.
        mask: (size, size) bool, what can be seen of it.
        keypoints: (4, 3) x and y of :data:`KEYPOINTS` in pixel indices, and 2 visible, 1 hidden by another
            shape, 0 outside the picture (then x and y are 0 as well).
        area: pixels it covers, hidden or not.
    """

    kind: int
    mask: np.ndarray
    keypoints: np.ndarray
    area: float


def _ends(kind: str, centre: np.ndarray, radius: float, angle: float, size: int) -> np.ndarray:
    """Keypoints of a shape that nothing hides."""
    outline = _outline(kind, radius, angle)[0] + centre
    x, y = outline.T
    ends = outline[[y.argmin(), x.argmax(), y.argmax(), x.argmin()]]
    inside = ((ends >= 0) & (ends < size - 0.5)).all(1)
    pixels = np.where(inside[:, None], np.round(ends), 0)
    return np.concatenate((pixels, 2.0 * inside[:, None]), 1).astype(np.int64)


def _hide(keypoints: np.ndarray, cover: np.ndarray) -> None:
    """Mark what lies under ``cover`` (size, size) bool; in place."""
    for point in keypoints:
        if point[2] and cover[point[1], point[0]]:
            point[2] = 1


def _outline(kind: str, radius: float, angle: float) -> list[np.ndarray]:
    """Closed curves (points, 2) around the origin; the second one, if any, is a hole."""
    if kind in ("disc", "ring"):
        turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        circle = np.stack((np.cos(turn), np.sin(turn)), 1)
        return [radius * circle] if kind == "disc" else [radius * circle, 0.55 * radius * circle]
    corners = {"square": 4, "triangle": 3, "star": 10}[kind]
    turn = angle + 2 * np.pi * np.arange(corners) / corners
    length = np.full(corners, radius * 1.1)
    if kind == "star":
        length[1::2] *= 0.42
    return [np.stack((np.cos(turn), np.sin(turn)), 1) * length[:, None]]


def _coverage(kind: str, centre: np.ndarray, radius: float, angle: float, size: int) -> np.ndarray:
    """Soft mask ``(size, size)`` in 0..1."""
    big = np.zeros((size * _SUPERSAMPLING,) * 2, np.uint8)
    curves = [np.round((c + centre) * _SUPERSAMPLING).astype(np.int32) for c in _outline(kind, radius, angle)]
    cv2.fillPoly(big, curves, 255)  # even-odd: the second curve of a ring is its hole
    return cv2.resize(big, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    coarse = rng.random((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]


def _texture(rng: np.random.Generator, size: int, contrast: float) -> np.ndarray:
    """``(size, size, 3)`` in 0..1: stripes, checks, dots or clouds of two colours."""
    first = rng.random(3, dtype=np.float32)
    second = np.clip(first + contrast * rng.uniform(-1, 1, 3).astype(np.float32), 0, 1)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 18)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    wave = 2 * np.pi / period
    pattern = [
        np.sin(u * wave) > 0,
        (np.sin(u * wave) > 0) ^ (np.sin(v * wave) > 0),
        np.sin(u * wave) * np.sin(v * wave) > 0.5,
        _noise(rng, size, 10)[..., 0] > 0.5,
    ][rng.integers(4)]
    blend = cv2.GaussianBlur(pattern.astype(np.float32), (0, 0), 0.8)[..., None]
    return first * (1 - blend) + second * blend


def _shade(rng: np.random.Generator, size: int) -> np.ndarray:
    """Light from one side, ``(size, size, 1)`` around 1."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    return (1 + rng.uniform(0.05, 0.3) * (x * np.cos(angle) + y * np.sin(angle)))[..., None]


def draw_scene(seed: list[int], size: int) -> tuple[np.ndarray, list[SceneObject]]:
    """One picture: RGB uint8 ``(size, size, 3)``, and its objects that show enough of themselves, back to
    front."""
    rng = np.random.default_rng(seed)
    picture = (0.25 + 0.5 * _texture(rng, size, 0.35)) * (0.8 + 0.4 * _noise(rng, size, 5))
    objects: list[SceneObject] = []
    for _ in range(rng.integers(3, 9)):
        kind = int(rng.integers(len(CLASSES)))
        radius = size * rng.uniform(0.08, 0.2)
        centre = rng.uniform(0.08, 0.92, 2) * size
        form = (CLASSES[kind], centre, radius, rng.uniform(0, 2 * np.pi), size)
        cover = _coverage(*form)
        shadow = cv2.GaussianBlur(np.roll(cover, (2, 2), (0, 1)), (0, 0), 2)[..., None]
        picture = picture * (1 - 0.45 * shadow)
        surface = _texture(rng, size, 0.6) * _shade(rng, size)
        picture = picture * (1 - cover[..., None]) + surface * cover[..., None]
        mask = cover > 0.5
        for behind in objects:
            behind.mask &= ~mask
            _hide(behind.keypoints, mask)
        objects.append(SceneObject(kind, mask, _ends(*form), float(mask.sum())))
    picture = picture * _shade(rng, size) + rng.normal(0, 0.02, picture.shape)
    visible = [o for o in objects if o.mask.sum() >= max(_MIN_VISIBLE * o.area, 16)]
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8), visible


def _encode(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}


def _write_image(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f"{path}: could not be written")


def generate_scenes(root: Path, split: str, num_images: int, size: int, seed: int) -> Path:
    """Make (or find) a split: ``images/``, ``instances.json``, ``panoptic.json``, ``panoptic/`` and
    ``sem_seg/``.

    The folder appears whole or not at all, so processes may race for it.

    Raises:
        ValueError: an unknown ``split``, no image, or a ``size`` below 32 pixels.
        OutputError: the folder can't be written.
    """
    if split not in _SPLITS:
        raise ValueError(f"split {split!r}: choose from {', '.join(_SPLITS)}")
    if num_images < 1 or size < 32:
        raise ValueError(f"num_images={num_images}, size={size}: at least 1 image of at least 32 pixels")
    target = root / f"scenes_v{_FORMAT}_{split}_{num_images}x{size}_seed{seed}"
    if (target / "instances.json").is_file():
        return target
    folder = partial_name(target)
    remove_partials(root)  # of processes that were killed while they drew
    try:
        folder.mkdir()
        _fill(folder, split, num_images, size, seed)
        commit(folder, target)
    except (OSError, OutputError) as error:
        if not (target / "instances.json").is_file():  # else another process was first
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{target}: the scenes can't be written ({error})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _fill(folder: Path, split: str, num_images: int, size: int, seed: int) -> None:
    for name in ("images", "panoptic", "sem_seg"):
        (folder / name).mkdir()
    categories: list[dict[str, Any]] = [{"id": i, "name": n, "isthing": 1} for i, n in enumerate(CLASSES, 1)]
    for category in categories:
        category.update(keypoints=list(KEYPOINTS), skeleton=[[1, 2], [2, 3], [3, 4], [4, 1]])
    categories.append({"id": len(CLASSES) + 1, "name": "background", "isthing": 0})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    for number in tqdm(range(num_images), f"drawing {split} scenes", delay=1.0, leave=False):
        picture, objects = draw_scene([seed, _SPLITS[split], number], size)
        stem = f"{number:05d}"
        image = {"id": number + 1, "file_name": f"{stem}.png", "width": size, "height": size}
        images.append(image)
        _write_image(folder / "images" / f"{stem}.png", picture[..., ::-1])
        background = np.ones((size, size), bool)
        semantic = np.full((size, size), len(CLASSES), np.uint8)
        identity = np.zeros((size, size), np.int32)
        segments: list[dict[str, Any]] = []
        for thing in objects:
            kind, mask = thing.kind, thing.mask
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            number_of = len(annotations) + 1
            fields = {"category_id": kind + 1, "bbox": [x, y, w, h], "area": int(mask.sum()), "iscrowd": 0}
            annotations.append(
                {
                    "id": number_of,
                    "image_id": image["id"],
                    **fields,
                    "segmentation": _encode(mask),
                    "keypoints": thing.keypoints.ravel().tolist(),
                    "num_keypoints": int((thing.keypoints[:, 2] > 0).sum()),
                }
            )
            background &= ~mask
            semantic[mask] = kind
            identity[mask] = len(segments) + 1
            segments.append({"id": len(segments) + 1, **fields})
        if background.any():
            identity[background] = len(segments) + 1
            x, y, w, h = cv2.boundingRect(background.astype(np.uint8))
            fields = {
                "category_id": len(CLASSES) + 1,
                "bbox": [x, y, w, h],
                "area": int(background.sum()),
                "iscrowd": 0,
            }
            segments.append({"id": len(segments) + 1, **fields})
        _write_image(folder / "sem_seg" / f"{stem}.png", semantic)
        # COCO panoptic: id = R + 256 G + 65536 B
        _write_image(
            folder / "panoptic" / f"{stem}.png",
            np.stack([identity >> s & 255 for s in (16, 8, 0)], -1).astype(np.uint8),
        )
        panoptic.append({"image_id": image["id"], "file_name": f"{stem}.png", "segments_info": segments})
    info = {"description": f"generated scenes, {split}, seed {seed}"}
    common = {"info": info, "images": images}
    write_json(folder / "panoptic.json", {**common, "annotations": panoptic, "categories": categories}, None)
    write_json(
        folder / "instances.json", {**common, "annotations": annotations, "categories": categories[:-1]}, None
    )
