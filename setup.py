"""Packaging of the backbones and of their pre-training. Detectron2 is installed apart (see README.md)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """``__version__`` as the package states it, read without importing it (it needs torch)."""
    text = (ROOT / "itpn_d2" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("itpn_d2/__init__.py states no __version__")
    return match.group(1)


def description() -> str:
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


setup(
    name="itpn-d2",
    version=version(),
    description="Integrally pre-trained Fast-iTPN and iTPN backbones with their pyramid, for Detectron2",
    long_description=description(),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    packages=find_packages(include=["itpn_d2", "itpn_d2.*", "pretrain", "pretrain.*"]),
    # The configs lie at the top of the repository, where people look for them; itpn_d2/configs links to them,
    # so that a checkout, an editable install and a wheel all have them under the package.
    package_data={"itpn_d2": ["configs/**/*.py", "configs/**/*.yaml", "evaluation/report/*.html"]},
    install_requires=[
        "cloudpickle>=2.0",
        "fvcore>=0.1.5.post20221221",
        "hydra-core>=1.1",
        "iopath>=0.1.9",
        "jinja2>=3.0",
        "matplotlib>=3.6",
        "numpy>=1.24",
        "omegaconf>=2.1",
        # The headless build: the other one needs libGL and libxcb from the system, which servers lack.
        "opencv-python-headless>=4.6",
        "Pillow>=9.1",
        "portalocker>=2.7",
        "pycocotools>=2.0.6",
        "rich>=13.0",
        "safetensors>=0.4",
        "scipy>=1.9",
        # fvcore imports it where a polygon is cropped, and does not require it.
        "shapely>=2.0",
        "tensorboard>=2.10",
        "huggingface_hub>=0.23",
        "timm>=1.0",
        "torch>=2.4",
        "torchvision>=0.19",
        "tqdm>=4.60",
    ],
    extras_require={
        "app": ["gradio>=6.0"],
        "export": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.2"],
        "dev": ["mypy>=1.8", "pytest>=8.0", "pytest-xdist>=3.5", "ruff>=0.6", "setuptools>=70.1", "uv>=0.4"],
    },
)
