"""How a model is written in each format, and run from there."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import ImageList
from torch import Tensor, nn

from itpn_d2.backbone.backbone import ITPNBackbone
from itpn_d2.engine.parts import find_part
from itpn_d2.errors import ConfigError
from itpn_d2.files import written_whole
from itpn_d2.meta_arch import DINO

STEP = 32  # sides of exported images are multiples of it
_LARGEST = 128  # times STEP
Outputs = list[Tensor]
Call = Callable[[Tensor], Outputs]


class Features(nn.Module):
    """Backbone and pyramid of a detector with its normalisation: ``(1, 3, H, W)``, 0..255, channels in the
    order of the model, H and W multiples of 32, to the levels p2, p3, ... All of the image is content; a
    program that takes image sizes as well, for padded batches, is exported as docs/heads.md shows.

    Raises:
        ConfigError: the model has no such backbone.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: nn.Module):
        super().__init__()
        backbone = find_part(model, ITPNBackbone)
        if backbone is None:
            raise ConfigError(f"{type(model).__name__} has no backbone of this project to export")
        self.backbone = backbone
        self.names = list(backbone.output_shape())
        for name in ("pixel_mean", "pixel_std"):
            self.register_buffer(name, getattr(model, name).detach().clone(), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone((image - self.pixel_mean) / self.pixel_std).values())


@dataclass
class Format:
    """A format: what it is a form of, how it is written and run.

    Attributes:
        subject: ``features``, ``detector`` or ``queries``.
        suffix: of its file.
        write: from the subject and an example image, to the file.
        load: the file to something that runs it.
        needs: packages beyond torch.
        fixed: it serves images of the size that it is exported with only.
    """

    subject: str
    suffix: str
    write: Callable[[nn.Module, Tensor, Path], None]
    load: Callable[[Path], Call]
    needs: tuple[str, ...] = ()
    fixed: bool = False


def _program(features: nn.Module, image: Tensor) -> torch.export.ExportedProgram:
    if isinstance(features, Queries):
        with torch.no_grad():
            return torch.export.export(features, (image,))
    rows = torch.export.Dim("rows", min=2, max=_LARGEST)
    columns = torch.export.Dim("columns", min=2, max=_LARGEST)
    sides = {2: STEP * rows, 3: STEP * columns}
    with torch.no_grad():
        return torch.export.export(features, (image,), dynamic_shapes={"image": sides})


def write_program(features: nn.Module, image: Tensor, path: Path) -> None:
    """An exported program, for ``torch.export.load``."""
    with written_whole(path) as partial:
        torch.export.save(_program(features, image), partial)


def load_program(path: Path) -> Call:
    module = torch.export.load(path).module()
    return lambda image: list(module(image))


def write_compiled(features: nn.Module, image: Tensor, path: Path) -> None:
    """A package of AOTInductor: machine code for this kind of device, for ``aoti_load_package``."""
    with written_whole(path) as partial:
        torch._inductor.aoti_compile_and_package(_program(features, image), package_path=str(partial))


def load_compiled(path: Path) -> Call:
    package = torch._inductor.aoti_load_package(str(path))
    return lambda image: list(package(image))


def write_onnx(features: nn.Module, image: Tensor, path: Path) -> None:
    """ONNX, of features with free height and width."""
    names = [str(name) for name in features.names]  # type: ignore[union-attr]
    with written_whole(path) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _program(features, image),
            (),
            str(partial),
            input_names=["image"],
            output_names=names,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def load_onnx(path: Path) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(image: Tensor) -> Outputs:
        found: Sequence[Any] = session.run(None, {name: image.cpu().numpy()})
        return [torch.from_numpy(np.asarray(values)) for values in found]

    return run


class Queries(nn.Module):
    """DINO or Mask DINO with its normalisation, for images of one size ``(1, 3, H, W)``, 0..255, sides
    multiples of 32: what the last layer says of each query, ``logits`` ``(1, Q, K)`` for a sigmoid, ``boxes``
    ``(1, Q, 4)``, (x, y, w, h) of centre and size in fractions of the image, and ``masks``
    ``(1, Q, H / 4, W / 4)``, logits, where the model has them."""

    def __init__(self, model: DINO):
        super().__init__()
        self.model = model
        self.names = ["logits", "boxes"] + ["masks"] * hasattr(model, "mask_head")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        size = (image.shape[-2], image.shape[-1])
        normalised = (image - self.model.pixel_mean) / self.model.pixel_std
        found = self.model.detect(ImageList(normalised, [size]))
        masks = () if found.masks is None else (found.masks.of(0)[None],)
        return (found.logits, found.boxes, *masks)


class Detector(nn.Module):
    """A Detectron2 detector of one image ``(3, H, W)``, 0..255: boxes XYXY, classes, masks of the boxes
    ``(n, 1, side, side)`` where it has them, scores, in pixels of that image; in the order of ``fields``."""

    def __init__(self, model: nn.Module, image: Tensor):
        super().__init__()
        self.adapter = TracingAdapter(model, [{"image": image}], _instances)
        with torch.no_grad():
            found = _instances(model, [{"image": image}])[0]["instances"]
        self.fields = sorted(found.get_fields())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        # the last output is the size of the image
        return self.adapter(image)[: len(self.fields)]


def _instances(model: Any, inputs: Any) -> list[dict[str, Any]]:
    # pasting masks into the image is left to the caller: it takes long, and depends on the size wanted
    return [{"instances": model.inference(inputs, do_postprocess=False)[0]}]


def write_torchscript(detector: nn.Module, image: Tensor, path: Path) -> None:
    """TorchScript by Detectron2's tracing."""
    with written_whole(path) as partial:
        _traced(detector, image).save(str(partial))


def _traced(detector: nn.Module, image: Tensor) -> Any:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(detector, (image,), check_trace=False)


def load_torchscript(path: Path) -> Call:
    module = torch.jit.load(str(path))
    return lambda image: list(module(image))


def write_detector_onnx(detector: nn.Module, image: Tensor, path: Path) -> None:
    """ONNX of the traced detector, with free height, width and number of objects."""
    fields = [str(name) for name in detector.fields]  # type: ignore[union-attr]
    axes: dict[str, dict[int, str]] = {name: {0: "objects"} for name in fields}
    with written_whole(path) as partial, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            detector,
            (image,),
            str(partial),
            input_names=["image"],
            output_names=fields,
            dynamic_axes={"image": {1: "height", 2: "width"}, **axes},
            opset_version=17,
            dynamo=False,
        )


FORMATS = {
    "program": Format("features", "_features.pt2", write_program, load_program),
    "aoti": Format("features", "_features_aoti.pt2", write_compiled, load_compiled),
    "onnx": Format(
        "features", "_features.onnx", write_onnx, load_onnx, ("onnx", "onnxscript", "onnxruntime")
    ),
    "torchscript": Format("detector", "_detector.ts", write_torchscript, load_torchscript),
    "detector-onnx": Format(
        "detector", "_detector.onnx", write_detector_onnx, load_onnx, ("onnx", "onnxruntime")
    ),
    "queries-program": Format("queries", "_queries.pt2", write_program, load_program, fixed=True),
    "queries-onnx": Format(
        "queries",
        "_queries.onnx",
        write_onnx,
        load_onnx,
        ("onnx", "onnxscript", "onnxruntime"),
        fixed=True,
    ),
}


def formats_of(model: nn.Module) -> list[str]:
    """The formats that a model can be written in: of its features always, of the whole where it is one of
    Detectron2's R-CNNs, a DINO or a Mask DINO."""
    subjects = {"features"}
    if isinstance(model, GeneralizedRCNN):
        subjects.add("detector")
    if isinstance(model, DINO):
        subjects.add("queries")
    return [name for name, format in FORMATS.items() if format.subject in subjects]
