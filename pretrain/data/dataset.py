"""Images of a source, seen through a view; broken ones are replaced and reported."""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from itpn_d2.data.decode import BrokenImageError, open_image
from itpn_d2.data.image_sources import ImageSource
from itpn_d2.data.sampler import Place, stand_ins
from itpn_d2.errors import DatasetError

View = Callable[[Image.Image, int], dict[str, torch.Tensor]]
Sample = dict[str, Any]


class ImageDataset(Dataset[Sample]):
    """Samples by index, or by the (position, index) of a sampler; the view draws from the position.

    A sample has the view's tensors, ``index`` (of the image that is shown), ``position``, ``label`` where the
    source has labels, and ``broken``: (file name, reason) of images that could not be read and that this one
    stands in for.
    """

    def __init__(self, source: ImageSource, view: View):
        self.source, self.view = source, view

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, place: int | Place) -> Sample:
        """
        Raises:
            DatasetError: this image and all its stand-ins are broken.
        """
        position, index = place if isinstance(place, tuple) else (int(place), int(place))
        broken: list[tuple[str, str]] = []
        for candidate in stand_ins(index, position, len(self.source)):
            try:
                with open_image(self.source.path(candidate)) as image:
                    sample: Sample = dict(self.view(image, position))
            except BrokenImageError as error:
                broken.append((str(self.source.path(candidate)), str(error)))
                continue
            sample.update(index=candidate, position=position, broken=broken)
            if self.source.labels is not None:
                sample["label"] = int(self.source.labels[candidate])
            return sample
        raise DatasetError(
            f"{self.source.path(index)}: {broken[0][1]}; the {len(broken) - 1} images drawn instead of it "
            f"can't be read either; check that {self.source.root or 'the source'} holds the images"
        )


def collate(samples: list[Sample]) -> Sample:
    """Stack tensors to ``(B, ...)``, integers to int64 ``(B,)``; list positions and broken images."""
    batch: Sample = {}
    for key, first in samples[0].items():
        values = [sample[key] for sample in samples]
        if key == "broken":
            batch[key] = [entry for entries in values for entry in entries]
        elif key == "position":
            batch[key] = values  # a matter of the host
        elif isinstance(first, torch.Tensor):
            batch[key] = torch.stack(values)
        else:
            batch[key] = torch.tensor(values, dtype=torch.int64)
    return batch
