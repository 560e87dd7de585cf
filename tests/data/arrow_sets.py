"""Small generated sets of Hugging Face's ``datasets``: eleven pictures with labels and objects."""

import io

import numpy as np
from PIL import Image

COUNT, WIDTH, HEIGHT = 11, 72, 56


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def pictures(seed=0, count=COUNT):
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(count)]


def rectangle(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def rows(seed=0, count=COUNT):
    """Two objects a picture, of both classes; label images are the picture's upper half."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[: HEIGHT // 2] = 1
    found = []
    for number, array in enumerate(pictures(seed, count)):
        boxes = [[2.0 + number, 3.0, 20.0, 12.0], [40.0, 20.0 + number, 10.0, 15.0]]
        found.append(
            {
                "image": {"bytes": png(array), "path": None},
                "label": number % 2,
                "annotation": {"bytes": png(labels), "path": None},
                "objects": {
                    "bbox": boxes,
                    "category": [0, 1],
                    "segmentation": [rectangle(*box) for box in boxes],
                    "area": [240.0, 150.0],
                },
            }
        )
    return found


def features(datasets):
    number = datasets.Value("float64")
    objects = {
        "bbox": datasets.Sequence(number, length=4),
        "category": datasets.ClassLabel(names=["bolt", "nut"]),
        "segmentation": datasets.Sequence(datasets.Sequence(number)),
        "area": number,
    }
    return datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "annotation": datasets.Image(),
            "objects": datasets.Sequence(objects),
        }
    )


def made(datasets, given=None):
    return datasets.Dataset.from_list(rows() if given is None else given, features=features(datasets))
