"""itpn-install-detectron2, offline: a small sdist with the texts that the substitutions look for."""

import base64
import csv
import email
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from itpn_d2.detectron2_wheel import install as install_detectron2
from itpn_d2.detectron2_wheel import substitutions, wheel
from itpn_d2.detectron2_wheel.install import InstallError, build_wheel, installed_detectron2, verify_sha256
from itpn_d2.detectron2_wheel.substitutions import (
    SUBSTITUTIONS,
    Substitution,
    SubstitutionError,
    apply_substitutions,
)

TOP = "pb1-detectron2-0.6"

# What makes the real script fail in a plain `pip download`: torch, the compiled extension, the direct URL.
SETUP_PY = """
from setuptools import setup
import torch
from torch.utils.cpp_extension import CUDA_HOME, ROCM_HOME, CppExtension, CUDAExtension
assert [int(x) for x in torch.__version__.split(".")[:2]] >= [1, 8]
assert not torch.cuda.is_available() and torch.version.hip is None
setup(
    name="pb1-detectron2", version="0.6", packages=["detectron2"], install_requires=["black==21.4b2"],
    extras_require={"all": ["panopticapi @ https://example.invalid/panopticapi.zip"]},
    ext_modules=[CppExtension("detectron2._C", ["vision.cpp"], include_dirs=["."])],
    cmdclass={"build_ext": torch.utils.cpp_extension.BuildExtension},
)
"""


def write_sources(root: Path) -> Path:
    """Files that hold every text to be replaced, as often as stated, and the others that the wheel takes."""
    texts: dict[str, str] = {"detectron2/__init__.py": '__version__ = "0.6"\n', "LICENSE": "Apache 2.0\n"}
    for s in SUBSTITUTIONS:
        texts[s.file] = texts.get(s.file, "") + f"{s.old}\n" * s.count
    texts["detectron2/model_zoo/configs/common/train.py"] = "train = {}\n"
    texts["detectron2/model_zoo/configs/Base.yaml"] = "VERSION: 2\n"
    texts["detectron2/layers/csrc/README.md"] = "not Python\n"
    texts["projects/PointRend/point_rend/__init__.py"] = "\n"
    texts["setup.py"] = SETUP_PY
    texts["PKG-INFO"] = "Metadata-Version: 2.1\nName: pb1-detectron2\nVersion: 0.6\n"
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return write_sources(tmp_path / "sources" / TOP)


@pytest.fixture
def sdist(sources: Path, tmp_path: Path) -> Path:
    path = tmp_path / "index" / f"{TOP}.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        archive.add(sources, arcname=TOP)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestHash:
    def test_wrong_hash_names_file_and_both_digests(self, sdist: Path) -> None:
        expected = "0" * 64
        with pytest.raises(InstallError) as error:
            verify_sha256(sdist, expected)
        assert all(part in str(error.value) for part in (str(sdist), expected, sha256(sdist), "Delete it"))

    def test_right_hash_passes(self, sdist: Path) -> None:
        verify_sha256(sdist, sha256(sdist))

    def test_absent_file(self, tmp_path: Path) -> None:
        with pytest.raises(InstallError, match="does not exist"):
            verify_sha256(tmp_path / "absent.tar.gz")

    def test_nothing_is_built_from_a_wrong_file(self, sdist: Path, tmp_path: Path) -> None:
        with pytest.raises(InstallError, match="SHA-256"):
            build_wheel(sdist, tmp_path / "wheels")
        assert not (tmp_path / "wheels").exists()


class TestSubstitutions:
    def test_every_place_is_changed(self, sources: Path) -> None:
        assert apply_substitutions(sources) == sum(s.count for s in SUBSTITUTIONS)
        hooks = (sources / "detectron2/engine/hooks.py").read_text()
        assert hooks == "lr_scheduler.LRScheduler\n" * 2
        assert "pkg_resources" not in (sources / "detectron2/model_zoo/model_zoo.py").read_text()

    @pytest.mark.parametrize("s", SUBSTITUTIONS, ids=lambda s: f"{Path(s.file).stem}-{s.old.strip()[:20]}")
    @pytest.mark.parametrize("change", [-1, 1])
    def test_wrong_count_names_file_text_and_counts(
        self, sources: Path, s: Substitution, change: int
    ) -> None:
        path = sources / s.file
        text = path.read_text()
        path.write_text(text.replace(s.old, "", 1) if change < 0 else text + s.old)
        with pytest.raises(SubstitutionError) as error:
            apply_substitutions(sources)
        message = str(error.value)
        assert str(path) in message and repr(s.old) in message
        assert f"expected {s.count} x" in message and f"found {s.count + change}" in message

    def test_missing_file_is_named(self, sources: Path) -> None:
        (sources / "detectron2/engine/hooks.py").unlink()
        with pytest.raises(SubstitutionError, match=r"hooks\.py is missing"):
            apply_substitutions(sources)

    def test_an_error_leaves_every_file_as_it_was(self, sources: Path) -> None:
        last = sources / SUBSTITUTIONS[-1].file
        last.write_text("other")
        before = {path: path.read_bytes() for path in sources.rglob("*.py")}
        with pytest.raises(SubstitutionError):
            apply_substitutions(sources)
        assert {path: path.read_bytes() for path in sources.rglob("*.py")} == before

    def test_refused_the_second_time(self, sources: Path) -> None:
        apply_substitutions(sources)
        with pytest.raises(SubstitutionError):
            apply_substitutions(sources)


class TestWheel:
    def test_same_bytes_from_the_same_sources(self, sdist: Path, tmp_path: Path) -> None:
        first = build_wheel(sdist, tmp_path / "one", sha256(sdist))
        again = write_sources(tmp_path / "elsewhere")
        apply_substitutions(again)
        for path in again.rglob("*.py"):
            os.utime(path, (10**9, 10**9))
            path.chmod(0o755)
        second = wheel.write_wheel(again, tmp_path / "two")
        assert first.name == second.name == "detectron2-0.6+pure.1-py3-none-any.whl"
        assert first.read_bytes() == second.read_bytes()
        assert os.listdir(first.parent) == [first.name]  # no partial file stays

    def test_record_lists_every_file_with_its_digest(self, sdist: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(build_wheel(sdist, tmp_path, sha256(sdist))) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        record_name = "detectron2-0.6+pure.1.dist-info/RECORD"
        rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(files[record_name].decode()))}
        assert set(rows) == set(files)
        assert rows.pop(record_name) == ["", ""]
        for name, (digest, size) in rows.items():
            raw = base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "=")
            assert raw == hashlib.sha256(files[name]).digest() and int(size) == len(files[name]), name

    def test_contents(self, sdist: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(build_wheel(sdist, tmp_path, sha256(sdist))) as archive:
            names = set(archive.namelist())
            metadata = email.message_from_bytes(archive.read("detectron2-0.6+pure.1.dist-info/METADATA"))
            evaluation = archive.read("detectron2/evaluation/panoptic_evaluation.py").decode()
        assert names >= {
            "detectron2/__init__.py",
            "detectron2/_C.py",
            "detectron2/utils/panoptic_api.py",
            "detectron2/model_zoo/configs/Base.yaml",
            "detectron2/model_zoo/configs/common/train.py",
            "detectron2/projects/deeplab/build_solver.py",
            "detectron2/projects/panoptic_deeplab/dataset_mapper.py",
            "detectron2/projects/point_rend/__init__.py",
            "detectron2-0.6+pure.1.dist-info/LICENSE",
        }
        assert not [name for name in names if "csrc" in name or name == "setup.py"]
        assert "panopticapi" not in evaluation
        assert (metadata["Name"], metadata["Version"]) == ("detectron2", "0.6+pure.1")
        required = metadata.get_all("Requires-Dist") or []
        assert {"black", "torch>=2.0", "numpy"} <= set(required)
        assert not [r for r in required if r.startswith(("future", "pydot"))]

    def test_folder_without_detectron2(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no package detectron2"):
            wheel.write_wheel(tmp_path, tmp_path / "wheels")


class TestPresence:
    @pytest.fixture
    def bare_python(self, tmp_path: Path) -> str:
        """An interpreter without any package."""
        venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
        return str(tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))

    @pytest.fixture
    def fake_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        package = tmp_path / "path" / "detectron2"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text('__version__ = "0.7"\n')
        (package / "engine.py").write_text("")
        monkeypatch.setenv("PYTHONPATH", str(package.parent))
        return package

    def test_absent(self, bare_python: str) -> None:
        assert installed_detectron2(bare_python) is None

    def test_a_source_checkout_in_the_current_folder_does_not_count(
        self, bare_python: str, fake_package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PYTHONPATH")
        monkeypatch.chdir(fake_package.parent)
        assert installed_detectron2(bare_python) is None

    def test_present(self, bare_python: str, fake_package: Path) -> None:
        assert installed_detectron2(bare_python) == f"0.7 {fake_package}"

    def test_broken(self, bare_python: str, fake_package: Path) -> None:
        (fake_package / "engine.py").write_text("import pkg_resources_of_old\n")
        with pytest.raises(InstallError, match="No module named 'pkg_resources_of_old'"):
            installed_detectron2(bare_python)


class TestCommand:
    @pytest.fixture(autouse=True)
    def no_side_effects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: object) -> None:
            pytest.fail("neither download nor installation is expected here")

        monkeypatch.setattr(install_detectron2, "download_sdist", refuse)
        monkeypatch.setattr(install_detectron2, "install_wheel", refuse)

    def test_present_stays(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(install_detectron2, "installed_detectron2", lambda: "0.7 /opt/d2")
        assert install_detectron2.main([]) == 0
        assert "0.7 /opt/d2 is installed already and stays" in capsys.readouterr().out

    def test_torch_missing(self, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
        monkeypatch.setattr(install_detectron2, "installed_detectron2", lambda: None)
        monkeypatch.setattr(install_detectron2.importlib.util, "find_spec", lambda name: None)
        with refused("torch, torchvision missing.*pip install torch torchvision"):
            install_detectron2.main([])

    def test_only_build(
        self, sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
    ) -> None:
        arguments = ["--sdist", str(sdist), "--wheel-dir", str(tmp_path / "out"), "--no-install"]
        with refused(install_detectron2.SDIST_SHA256):
            install_detectron2.main(arguments)
        monkeypatch.setattr(install_detectron2.build_wheel, "__defaults__", (sha256(sdist),))
        assert install_detectron2.main(arguments) == 0
        assert (tmp_path / "out" / wheel.WHEEL_NAME).is_file()

    def test_no_install_needs_a_place_for_the_wheel(self) -> None:
        with pytest.raises(SystemExit):
            install_detectron2.main(["--no-install"])


class TestDownload:
    """Real pip, from a folder instead of an index."""

    @pytest.fixture(autouse=True)
    def local_index(self, sdist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("pip")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(sdist.parent))
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")

    def test_stand_in_gets_past_the_setup_script(
        self, sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(install_detectron2, "SDIST_SHA256", sha256(sdist))
        fetched = install_detectron2.download_sdist(tmp_path / "fetched")
        assert fetched.read_bytes() == sdist.read_bytes()

    def test_another_file_under_the_same_name_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InstallError, match=r"(?s)DO NOT MATCH THE HASHES.*--sdist"):
            install_detectron2.download_sdist(tmp_path / "fetched")

    def test_unreachable_index(self, sdist: Path, tmp_path: Path) -> None:
        sdist.unlink()
        with pytest.raises(InstallError, match=r"(?s)could not download pb1-detectron2==0\.6.*No matching"):
            install_detectron2.download_sdist(tmp_path / "fetched")


def test_stand_in_for_compiled_operators(tmp_path: Path) -> None:
    """In a process of its own: a registered operator library cannot be taken back."""
    script = tmp_path / "probe.py"
    script.write_text("""
import _C, torch

def rotated(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return torch.ops.detectron2.nms_rotated(boxes, scores, 0.5)

assert not hasattr(_C, "COCOevalEvaluateImages") and not _C.has_cuda()
torch.jit.script(rotated)
for call in (lambda: _C.box_iou_rotated, lambda: rotated(torch.zeros(1, 5), torch.zeros(1))):
    try:
        call()
    except (AttributeError, NotImplementedError) as error:
        print(error)
""")
    added = Path(substitutions.__file__).with_name("added")
    environment = {**os.environ, "PYTHONPATH": str(added), "PYTHONWARNINGS": "ignore"}
    result = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 2 and all("built from source" in line for line in lines)
    assert "box_iou_rotated" in lines[0] and "nms_rotated" in lines[1]


def test_the_shim_of_a_checkout_needs_no_other_package(tmp_path: Path) -> None:
    """In an interpreter without torch, timm or Detectron2, as before ``make env`` has installed anything."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    script = Path(__file__).resolve().parents[2] / "tools" / "install_detectron2.py"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True}
    asked = subprocess.run([str(python), str(script), "--help"], **run)  # type: ignore[call-overload]
    assert asked.returncode == 0 and "--wheel-dir" in asked.stdout, asked.stderr
    tried = subprocess.run([str(python), str(script)], **run)  # type: ignore[call-overload]
    assert tried.returncode == 2 and "torch, torchvision missing" in tried.stderr, tried.stderr
    assert "Traceback" not in tried.stderr
