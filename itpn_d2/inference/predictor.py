"""Predictions of a trained model on images: Detectron2's DefaultPredictor for LazyConfigs."""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.data.catalog import Metadata
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn

from ..backbone import Trunk
from ..backbone.checkpointing import Block
from ..checkpoint import Checkpointer, Classes
from ..data.decode import BrokenImageError
from ..data.decoder import Decoder
from ..data.read import ChannelOrder, Source, read_image
from ..data.view import View
from ..engine.parts import find_part
from ..engine.precision import autocast, resolve_device, resolve_dtype
from ..engine.token_exits import token_exits
from ..errors import ConfigError
from ..lazy.build import build
from ..model_zoo import Card, pretrained
from .configs import class_metadata, find_config
from .seconds import Seconds, stages_of

logger = logging.getLogger(__name__)


@dataclass
class Prediction:
    """The result for one image.

    Attributes:
        source: what was given.
        image: the image as upright RGB uint8 ``(H, W, 3)``; None if it could not be read.
        output: output of the model, in pixels of ``image``; None if there is none.
        error: the reason why there is none, on one line.
        seconds: duration of each stage, if requested.
    """

    source: Any
    image: np.ndarray | None = None
    output: dict[str, Any] | None = None
    error: str | None = None
    seconds: Seconds = field(default_factory=dict)


class Predictor:
    """A trained model with the test view of its config (``dataloader.test.mapper``): resizing as in
    evaluation, and the channel order that the model expects.

    In a batch of different sizes images are padded; the backbone does not see padding, but the convolutions
    of Detectron2's heads do at the edge of an image, so that scores there may differ slightly from those of
    the image alone.

    Any number of threads may call one predictor: images are read and resized in parallel, and the model runs
    for one call at a time.

    Args:
        config: a config file, the name of a zoo entry, or a config; any LazyConfig whose test mapper is that
            of this project or of Detectron2.
        weights: a file, or any path that Detectron2's PathManager knows; None: see :func:`.find_config`.
        device: None: CUDA if there is one, else the CPU.
        dtype: ``fp32``, ``bf16``, ``fp16``, or ``auto`` as in training.
        overrides: ``key=value`` of the config, as on the command line.
        compile: compile the blocks of trunk and pyramid: the first images of a new size take longer.
        migration, gathering: turn on token migration or gathering; see
            :meth:`~itpn_d2.backbone.Trunk.accelerate`.
        array_order: the order of the channels of arrays.
        allow_incomplete: accept weights that leave parts of the model as they were initialised, and those for
            other classes.
        model: a model that is built and loaded already; it is put into evaluation mode.

    Attributes:
        model, cfg, device, dtype: what runs.
        metadata: Detectron2's metadata of the classes: names, ids and colours as far as they are known.

    Raises:
        ConfigError: see :func:`.find_config`; the config has no such mapper; or acceleration is requested for
            a model without such a trunk. CheckpointError: the weights are those of another model, not
            complete, or of other classes. ZooError: nothing is published.
    """

    def __init__(
        self,
        config: str | Path | DictConfig,
        weights: str | Path | None = None,
        device: torch.device | str | None = None,
        dtype: str = "fp32",
        *,
        overrides: Sequence[str] = (),
        compile: bool = False,
        migration: Mapping[str, Any] | None = None,
        gathering: Mapping[str, Any] | None = None,
        array_order: ChannelOrder = "BGR",
        allow_incomplete: bool = False,
        model: nn.Module | None = None,
    ):
        if array_order not in ("BGR", "RGB"):
            raise ValueError(f"array_order={array_order!r}: choose BGR or RGB")
        if model is None:
            self.cfg, source = find_config(config, weights, overrides)
            self.device = resolve_device("auto" if device is None else str(device))
            self.model = build(self.cfg.model).to(self.device)
        elif isinstance(config, DictConfig) and weights is None:
            self.cfg, self.model, source = config, model, None
            self.device = next(model.parameters()).device if device is None else torch.device(device)
            self.model.to(self.device)
        else:
            raise ConfigError("a model that is already loaded needs only its config, without weights")
        self._find_view()
        try:
            self.dtype = resolve_dtype(dtype, self.device)
        except ValueError as error:
            raise ConfigError(str(error).replace("train.amp.dtype", "dtype")) from error
        self.array_order: ChannelOrder = array_order
        if migration is not None or gathering is not None:
            trunk = find_part(self.model, Trunk)
            if trunk is None:
                raise ConfigError(f"{type(self.model).__name__} has no trunk of this project to accelerate")
            trunk.accelerate(migration, gathering)
        self.metadata = class_metadata(self.cfg)
        if source is not None:
            self._load(source, allow_incomplete)
        self.model.eval()
        if compile:
            # Block by block: one graph serves all of a stage, and what looks at the sizes stays outside.
            for block in self.model.modules():
                if isinstance(block, Block):
                    block.compile()
        self._running = threading.Lock()
        self._config = None if isinstance(config, DictConfig) else config

    @classmethod
    def from_pretrained(
        cls, source: str | Path, device: torch.device | str | None = None, dtype: str = "fp32", **options: Any
    ) -> "Predictor":
        """Load a model from a folder that :meth:`save_pretrained` has written, or from a repository on the
        hub.

        Args:
            source: a folder; ``org/name`` or ``org/name@revision`` of the hub.
            options: of the constructor.

        Raises:
            ZooError: there is no such folder or repository; it is not a detector; or its description is not
                valid or does not match its weights.
            CheckpointError: the weights can't be read.
        """
        where = resolve_device("auto" if device is None else str(device))
        cfg, model, name = pretrained.load_detector(source, where)
        made = cls(cfg, None, where, dtype, model=model, **options)
        made._config = name
        return made

    def save_pretrained(
        self,
        folder: str | Path,
        card: Card | None = None,
        dtype: torch.dtype | None = None,
        config: str | Path | None = None,
        address: str | None = None,
    ) -> Path:
        """Write the model into a folder: weights, description and card.

        Args:
            card: what people should know of it.
            dtype: of the weights in the file; None: as they are.
            config: name of the config of this project that describes the model; None: the one that it was
                made from.
            address: address for its card, from which it will be loaded; None: the folder.

        Raises:
            ZooError: no config of this project describes it, or it differs from that config by more than
                values.
        """
        return pretrained.save_detector(
            self.model, self.cfg, config or self._config, folder, card, dtype, address
        )

    def push_to_hub(
        self,
        repository: str,
        card: Card | None = None,
        dtype: torch.dtype | None = None,
        config: str | Path | None = None,
        private: bool = False,
    ) -> str:
        """:meth:`save_pretrained` into the repository ``org/name`` of the hub; returns its address.

        Raises:
            ZooError: see :meth:`save_pretrained`; or no such name, no permission, no network.
        """
        pretrained.check_repository(repository)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, card, dtype, config, repository)
            return pretrained.upload(folder, repository, private)

    def _load(self, source: str, allow_incomplete: bool) -> None:
        """Load the weights, and take the class names from them if the config has none."""
        dataset = self.cfg.get("dataset") or {}
        classes = Classes(dataset.get("class_names"), dataset.get("semantic_class_names"))
        checkpointer = Checkpointer(self.model, classes=classes)
        beside = checkpointer.load(source, checkpointables=[], complete=not allow_incomplete)
        names = Classes.of(beside.get(Classes.KEY)).names.get("names")
        known = [list(self.metadata.get(f"{kind}_classes") or ()) for kind in ("thing", "stuff")]
        if names and not dataset.get("class_names") and list(names) not in known:
            self.metadata = Metadata(thing_classes=names, stuff_classes=names)

    def _find_view(self) -> None:
        node = OmegaConf.select(self.cfg, "dataloader.test.mapper")
        mapper = build(node) if node is not None else None
        mapper = getattr(mapper, "mapper", mapper)
        self.view = getattr(mapper, "view", None)
        self.augmentations = getattr(mapper, "augmentations", None)
        self.image_format: str = getattr(mapper, "image_format", "RGB")
        self.decoder: Decoder = getattr(mapper, "decoder", "pillow")  # Detectron2's mapper knows Pillow alone
        if self.view is None and self.augmentations is None:
            raise ConfigError(
                f"dataloader.test.mapper is {type(mapper).__name__}: a predictor needs one "
                f"with augmentations (like Detectron2's DatasetMapper) or a view (like LabelledImageMapper)"
            )
        if self.image_format not in ("RGB", "BGR"):
            raise ConfigError(f"dataloader.test.mapper.image_format={self.image_format!r}: choose RGB or BGR")

    @overload
    def __call__(self, images: Source) -> dict[str, Any]: ...
    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...]) -> list[dict[str, Any]]: ...
    def __call__(self, images: Source | list[Any] | tuple[Any, ...]) -> dict[str, Any] | list[dict[str, Any]]:
        """Predict on one image, or on a list of images, which are run as one batch.

        Args:
            images: anything :func:`.read_image` takes; arrays have their channels in ``array_order``.

        Returns:
            Detectron2's output, one for each image, in pixels of the upright image: ``instances``;
            ``sem_seg``, ``(classes, H, W)``, whose maximum is the class; ``panoptic_seg``; or ``scores`` of
            an image's classes.

        Raises:
            BrokenImageError: an image can't be read.
        """
        if isinstance(images, list | tuple):
            return self._run([self._sample(self._image(image)) for image in images])
        return self._run([self._sample(self._image(images))])[0]

    def timed(self, image: Source) -> Prediction:
        """One image with the seconds of ``preprocess`` and of each stage of :func:`.stages_of`.

        Raises:
            BrokenImageError: it can't be read.
        """
        started = time.perf_counter()
        picture = self._image(image)
        sample = self._sample(picture)
        seconds = {"preprocess": time.perf_counter() - started}
        (output,) = self._run([sample], seconds)
        return Prediction(image, picture, output, None, seconds)

    def stream(
        self, sources: Iterable[Source], batch_size: int = 1, readers: int = 2
    ) -> Iterator[Prediction]:
        """Predictions for any number of images, in their order; a failed image does not affect the others.

        Args:
            batch_size: number of images per batch. A batch that fails (for example for lack of memory) is
                retried image by image.
            readers: threads that read ahead.

        Raises:
            ValueError: ``batch_size`` or ``readers`` is below 1; when the first prediction is asked for.
        """
        if batch_size < 1 or readers < 1:
            raise ValueError(f"batch_size={batch_size}, readers={readers}: at least 1 each")
        left = iter(sources)
        with ThreadPoolExecutor(readers, "read") as pool:
            ahead = [pool.submit(self._read, source) for source in islice(left, 2 * batch_size)]
            while ahead:
                batch = [task.result() for task in ahead[:batch_size]]
                ahead = ahead[batch_size:]
                ahead += [pool.submit(self._read, source) for source in islice(left, batch_size)]
                self._fill([item for item in batch if item[1] is not None])
                yield from (prediction for prediction, _ in batch)

    def exits(self, image: Source) -> tuple[np.ndarray, np.ndarray] | None:
        """Which tokens migrate: the image as the model sees it, ``(H, W, 3)``, and ``(rows, columns)``
        blocks of stage 3 each token goes through, for :func:`~itpn_d2.evaluation.exit_picture`. None
        without migration."""
        trunk = find_part(self.model, Trunk)
        if trunk is None or trunk.migration is None:
            return None
        sample = self._sample(self._image(image))
        with self._running, torch.inference_mode(), autocast(self.device, self.dtype):
            return token_exits(self.model, trunk, sample)

    def _image(self, source: Source) -> np.ndarray:
        try:
            return read_image(source, self.array_order, self.decoder)
        except BrokenImageError as error:
            if not isinstance(source, str | os.PathLike):
                raise
            raise type(error)(f"{os.fspath(source)}: the image can't be read ({error})") from error

    def _read(self, source: Source) -> tuple[Prediction, dict[str, Any] | None]:
        prediction = Prediction(source)
        try:
            prediction.image = read_image(source, self.array_order, self.decoder)
            return prediction, self._sample(prediction.image)
        except BrokenImageError as error:
            prediction.error = str(error)
        except Exception as error:
            logger.warning("an image could not be prepared", exc_info=True)
            prediction.error = _one_line(error)
        return prediction, None

    def _fill(self, batch: list[tuple[Prediction, dict[str, Any] | None]]) -> None:
        """Add the outputs, or the reason why there are none, to predictions whose images could be read."""
        if not batch:
            return
        try:
            outputs = self._run([sample for _, sample in batch if sample is not None])
        except Exception as error:
            if len(batch) > 1:
                logger.warning(
                    "a batch of %d failed (%s); retrying its images one by one", len(batch), _one_line(error)
                )
                for item in batch:
                    self._fill([item])
                return
            logger.warning("the model failed on an image", exc_info=True)
            batch[0][0].error = _one_line(error)
            return
        for (prediction, _), output in zip(batch, outputs, strict=True):
            prediction.output = output

    def _sample(self, image: np.ndarray) -> dict[str, Any]:
        """The input of the model for an RGB uint8 image."""
        height, width = image.shape[:2]
        return {"image": self._view(image), "height": height, "width": width}

    def _run(self, samples: list[dict[str, Any]], seconds: Seconds | None = None) -> list[dict[str, Any]]:
        if not samples:
            return []
        with self._running, torch.inference_mode(), autocast(self.device, self.dtype):
            if seconds is None:
                return self.model(samples)
            with stages_of(self.model, self.device) as spent:
                outputs = self.model(samples)
            seconds.update(spent)
            return outputs

    def _view(self, image: np.ndarray) -> torch.Tensor:
        if self.view is not None:  # of pictures
            return torch.as_tensor(self.view(Image.fromarray(image)))
        assert self.augmentations is not None
        pixels = image if self.image_format == "RGB" else image[..., ::-1]
        given = View(np.ascontiguousarray(pixels), decoder=self.decoder)
        augmentations = list(getattr(self.augmentations, "augs", self.augmentations))
        T.AugmentationList(augmentations)(given)
        return torch.as_tensor(np.ascontiguousarray(given.image.astype("float32").transpose(2, 0, 1)))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
