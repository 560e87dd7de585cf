"""Write the pure-Python Detectron2 wheel, byte for byte the same from the same sources."""

import base64
import csv
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

NAME = "detectron2"
VERSION = "0.6+pure.1"
WHEEL_NAME = f"{NAME}-{VERSION}-py3-none-any.whl"
_DIST_INFO = f"{NAME}-{VERSION}.dist-info"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can hold

PROJECTS = {
    "projects/PointRend/point_rend": "detectron2/projects/point_rend",
    "projects/DeepLab/deeplab": "detectron2/projects/deeplab",
    "projects/Panoptic-DeepLab/panoptic_deeplab": "detectron2/projects/panoptic_deeplab",
}
ADDED_FILES = {"_C.py": "detectron2/_C.py", "panoptic_api.py": "detectron2/utils/panoptic_api.py"}

# As setup.py of 0.6 has them, except: the pin of black lifted, future and pydot (caffe2 only) dropped, and
# the packages added that it imports but leaves to the user. OpenCV is the headless build: the other one needs
# libGL and libxcb from the system, which servers and containers lack.
REQUIREMENTS = (
    "Pillow>=7.1",
    "black",
    "cloudpickle",
    "fvcore>=0.1.5,<0.1.6",
    "hydra-core>=1.1",
    "iopath>=0.1.7,<0.1.10",
    "matplotlib",
    "numpy",
    "omegaconf>=2.1",
    "opencv-python-headless",
    "pycocotools>=2.0.2",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "torch>=2.0",
    "torchvision>=0.15",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)

_DESCRIPTION = """\
The Python files of Detectron2 0.6 without its compiled operators, adapted to current Python, torch, numpy
and Pillow. Built by itpn-install-detectron2 of the package itpn-d2, whose module
itpn_d2.detectron2_wheel.substitutions lists every change.
Detectron2 is licensed under Apache 2.0.
"""


def metadata() -> str:
    """The wheel's METADATA file."""
    head = [
        "Metadata-Version: 2.1",
        f"Name: {NAME}",
        f"Version: {VERSION}",
        "Summary: Detectron2 0.6 as a pure-Python build",
        "Home-page: https://github.com/facebookresearch/detectron2",
        "License: Apache 2.0",
        "License-File: LICENSE",
        "Requires-Python: >=3.8",
        *(f"Requires-Dist: {requirement}" for requirement in REQUIREMENTS),
    ]
    return "\n".join(head) + "\n\n" + _DESCRIPTION


def wheel_contents(root: Path) -> Iterator[tuple[str, bytes]]:
    """Archive name and bytes of every file of the package; ``root`` is the unpacked, substituted sdist."""
    sources = {"detectron2": "detectron2", **PROJECTS}
    for source, target in sources.items():
        for path in sorted((root / source).rglob("*")):
            relative = path.relative_to(root / source)
            wanted = path.suffix == ".py" or relative.parts[:2] == ("model_zoo", "configs")
            if path.is_file() and wanted and "__pycache__" not in relative.parts:
                yield f"{target}/{relative.as_posix()}", path.read_bytes()
    added = Path(__file__).with_name("added")
    for name, target in ADDED_FILES.items():
        yield target, (added / name).read_bytes()
    yield f"{_DIST_INFO}/LICENSE", (root / "LICENSE").read_bytes()
    yield f"{_DIST_INFO}/METADATA", metadata().encode()
    tags = "Wheel-Version: 1.0\nGenerator: install_detectron2\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    yield f"{_DIST_INFO}/WHEEL", tags.encode()
    yield f"{_DIST_INFO}/top_level.txt", f"{NAME}\n".encode()


def record_entry(name: str, data: bytes) -> tuple[str, str, str]:
    """One line of RECORD: archive name, urlsafe unpadded base64 of the SHA-256, size in bytes."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return name, f"sha256={digest}", str(len(data))


def write_wheel(root: Path, directory: Path) -> Path:
    """Write the wheel of the sources at ``root`` into ``directory`` and return its path.

    File order, times and modes are fixed, so that the same sources give the same bytes; the file appears only
    when complete.

    Raises:
        FileNotFoundError: ``root`` holds no Detectron2 package or no LICENSE.
    """
    if not (root / "detectron2" / "__init__.py").is_file():
        raise FileNotFoundError(f"{root} holds no package detectron2: unpack the sdist there first")
    contents = sorted(wheel_contents(root))
    record_name = f"{_DIST_INFO}/RECORD"
    record = io.StringIO()
    csv.writer(record, lineterminator="\n").writerows(
        [*(record_entry(name, data) for name, data in contents), (record_name, "", "")]
    )
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / WHEEL_NAME
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*contents, (record_name, record.getvalue().encode())]:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    os.replace(partial, target)
    return target
