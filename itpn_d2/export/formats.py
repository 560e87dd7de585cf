"""How a model is written in each format, and run from there."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.fx.experimental._config as symbolic_shapes
from detectron2.modeling import GeneralizedRCNN
from torch import Tensor, nn

from ..files import written_whole
from ..meta_arch import DINO
from .subjects import Queries

STEP = 32  # sides of exported images are multiples of it
_LARGEST = 128  # times STEP
Outputs = list[Tensor]
Call = Callable[[Tensor], Outputs]


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
    # a coarse level of one row is no other program than one of two: without this, the example's sizes decide
    # on which side of 128 pixels the graph holds
    with torch.no_grad(), symbolic_shapes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(features, (image,), dynamic_shapes={"image": sides})


def write_program(features: nn.Module, image: Tensor, path: Path) -> None:
    """An exported program, for ``torch.export.load``.

    ``image`` is an example ``(1, 3, H, W)``, 0..255.
    """
    with written_whole(path) as partial:
        torch.export.save(_program(features, image), partial)


def load_program(path: Path) -> Call:
    """What :func:`write_program` wrote, as a function of an image."""
    module = torch.export.load(path).module()
    return lambda image: list(module(image))


def write_compiled(features: nn.Module, image: Tensor, path: Path) -> None:
    """A package of AOTInductor: machine code for this kind of device, for ``aoti_load_package``.

    ``image`` is an example ``(1, 3, H, W)``, 0..255.
    """
    with written_whole(path) as partial:
        torch._inductor.aoti_compile_and_package(_program(features, image), package_path=str(partial))


def load_compiled(path: Path) -> Call:
    """What :func:`write_compiled` wrote, as a function of an image."""
    package = torch._inductor.aoti_load_package(str(path))
    return lambda image: list(package(image))


def write_onnx(features: nn.Module, image: Tensor, path: Path) -> None:
    """ONNX, of features with free height and width.

    ``image`` is an example ``(1, 3, H, W)``, 0..255.
    """
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
    """An ONNX file as a function of an image, by onnxruntime on the CPU."""
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


def write_torchscript(detector: nn.Module, image: Tensor, path: Path) -> None:
    """TorchScript by Detectron2's tracing.

    ``image`` is an example ``(3, H, W)``, 0..255.
    """
    with written_whole(path) as partial:
        _traced(detector, image).save(str(partial))


def _traced(detector: nn.Module, image: Tensor) -> Any:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(detector, (image,), check_trace=False)


def load_torchscript(path: Path) -> Call:
    """A TorchScript file as a function of an image."""
    module = torch.jit.load(str(path))
    return lambda image: list(module(image))


def write_detector_onnx(detector: nn.Module, image: Tensor, path: Path) -> None:
    """ONNX of the traced detector, with free height, width and number of objects.

    ``image`` is an example ``(3, H, W)``, 0..255.
    """
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
