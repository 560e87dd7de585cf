"""One picture in, what the model finds out: Detectron2's DefaultPredictor for LazyConfigs."""

from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.catalog import Metadata
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn

from .config import ConfigError
from .precision import autocast, resolve_dtype


class Predictor:
    """A model with the test view of its config (``dataloader.test.mapper``): resizing as in evaluation, the
    order of the channels the model wants.

    Args:
        cfg: a config of this project or any LazyConfig whose test mapper is Detectron2's.
        model: built from ``cfg.model`` and loaded; put in evaluation mode, where it stays.
        dtype: ``fp32``, ``bf16``, ``fp16``, or ``auto`` as in training.

    Attributes:
        metadata: of the classes, as far as the config or Detectron2's catalog knows them; for Visualizer.

    Raises:
        ConfigError: the config has no such mapper.
    """

    def __init__(self, cfg: DictConfig, model: nn.Module, dtype: str = "fp32"):
        self.cfg, self.model = cfg, model.eval()
        self.device = next(model.parameters()).device
        self.dtype = resolve_dtype(dtype, self.device)
        node = OmegaConf.select(cfg, "dataloader.test.mapper")
        mapper = instantiate(node) if node is not None else None
        mapper = getattr(mapper, "mapper", mapper)
        self.view = getattr(mapper, "view", None)
        self.augmentations = getattr(mapper, "augmentations", None)
        self.image_format: str = getattr(mapper, "image_format", "RGB")
        if self.view is None and self.augmentations is None:
            raise ConfigError(
                f"dataloader.test.mapper is {type(mapper).__name__}: a predictor needs one "
                f"with augmentations (like Detectron2's DatasetMapper) or a view (like LabelledImageMapper)"
            )
        if self.image_format not in ("RGB", "BGR"):
            raise ConfigError(f"dataloader.test.mapper.image_format={self.image_format!r}: choose RGB or BGR")
        self.metadata = _metadata(cfg)

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """
        Args:
            image: ``(H, W, 3)``, BGR as from ``cv2.imread``, 0..255.

        Returns:
            What the model has for one image: ``instances`` in the coordinates of ``image``, or ``scores`` of
            the classes.

        Raises:
            ValueError: not such an image (None is what ``cv2.imread`` returns for a file it can't read).
        """
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
            found = f"shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"an image is an array (H, W, 3) in BGR, this is one of {found}; was it read?")
        height, width = image.shape[:2]
        sample = {"image": self._view(image), "height": height, "width": width}
        with torch.inference_mode(), autocast(self.device, self.dtype):
            return self.model([sample])[0]

    def _view(self, image: np.ndarray) -> torch.Tensor:
        if self.view is not None:  # of pictures
            picture = Image.fromarray(np.ascontiguousarray(image[..., ::-1]).astype(np.uint8))
            return torch.as_tensor(self.view(picture))
        assert self.augmentations is not None
        pixels = image[..., ::-1] if self.image_format == "RGB" else image
        given = T.AugInput(np.ascontiguousarray(pixels))
        T.AugmentationList(_as_list(self.augmentations))(given)
        return torch.as_tensor(np.ascontiguousarray(given.image.astype("float32").transpose(2, 0, 1)))


def _as_list(augmentations: Any) -> list[Any]:
    return list(getattr(augmentations, "augs", augmentations))


def _metadata(cfg: DictConfig) -> Metadata:
    """Not written into the catalog: a name that is registered later gets its own."""
    name = OmegaConf.select(cfg, "dataset.val.name") or OmegaConf.select(cfg, "dataloader.test.dataset.names")
    known = MetadataCatalog.get(name) if isinstance(name, str) and name in MetadataCatalog.list() else None
    if known is not None and known.get("thing_classes"):
        return known
    names = OmegaConf.select(cfg, "dataset.class_names")
    return Metadata(thing_classes=list(names)) if names else Metadata()
