"""The kernels compiled for GPUs that are not here: their registers hold what they need."""

import inspect
import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")
kernels = pytest.importorskip("itpn_d2.layers.deformable_triton")

TARGETS = (75, 80, 90, 100)
DTYPES = ("fp32", "fp16", "bf16")
DIMS = (3, 24, 32, 48, 64, 96, 128, 256)
FEW = 16  # bytes of stack that a compiler may take: an address or two
# of a kernel's arguments the pointers that do not point to the type of the values
OTHERS = {"levels": "i32", "locations": "fp32"} | {
    f"grad_{name}": "fp32" for name in ("value", "locations", "weights")
}
NUMBERS = {"_forward": "_FORWARD_NUMBERS", "_backward": "_BACKWARD_NUMBERS"}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def cuobjdump() -> Path:
    """Triton's own, which says what a kernel uses; skips where this Triton can't compile for another GPU."""
    compiler = pytest.importorskip("triton.compiler")
    if "constexprs" not in inspect.signature(compiler.ASTSource).parameters:
        pytest.skip(f"ASTSource of Triton {triton.__version__} takes other arguments")
    if not isinstance(kernels._forward, triton.runtime.JITFunction):
        pytest.skip("TRITON_INTERPRET is set: kernels are interpreted")
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    for name in ("ptxas", "cuobjdump"):
        if not (tools / name).is_file():
            pytest.skip(f"this Triton has no {name}")
    return tools / "cuobjdump"


def stack(name: str, dtype: str, dim: int, target: int, folder: Path, block: int | None = None) -> int:
    """Bytes of local memory of each thread, where ptxas puts what it spills."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tool, kernel = cuobjdump(), getattr(kernels, name)
    constants = kernels._constants(dim, 4, 4, getattr(kernels, NUMBERS[name]))
    if block is not None:
        constants["BLOCK"] = block
    counts = ("cells", "queries", "heads")
    signature, attributes = {}, {}
    for number, argument in enumerate(kernel.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in counts:
            signature[argument] = "i32"
        else:
            signature[argument] = f"*{OTHERS.get(argument, dtype)}"
            attributes[(number,)] = [["tt.divisibility", 16]]  # as the pointers of tensors are
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32))
    binary = folder / f"{name}.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    said = subprocess.run([tool, "--dump-resource-usage", binary], capture_output=True, text=True, check=True)
    found = re.search(r"STACK:(\d+).*LOCAL:(\d+)", said.stdout)
    assert found, said.stdout
    return int(found[1]) + int(found[2])


def spilling(cases, folder) -> dict:
    found = {case: stack(*case, folder) for case in cases}
    return {case: size for case, size in found.items() if size > FEW}


def test_no_register_spills(tmp_path):
    """DINO's heads on each GPU, and the widest on the two whose registers are the fewest for this."""
    cases = [(name, "bf16", 32, target) for name in NUMBERS for target in TARGETS]
    cases += [("_backward", "bf16", 128, 75), ("_backward", "fp32", 128, 80)]
    assert spilling(cases, tmp_path) == {}


def test_spills_are_seen(tmp_path):
    assert stack("_backward", "bf16", 128, 75, tmp_path, block=64) > FEW


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", DIMS)
def test_no_register_spills_whatever_the_head(dim, dtype, tmp_path):
    cases = [(name, dtype, dim, target) for name in NUMBERS for target in TARGETS]
    assert spilling(cases, tmp_path) == {}


@pytest.mark.parametrize("dim, forward, backward", [(3, 64, 64), (32, 64, 32), (48, 32, 16), (2048, 1, 1)])
def test_blocks(dim, forward, backward):
    blocks = [kernels._constants(dim, 1, 1, getattr(kernels, NUMBERS[name]))["BLOCK"] for name in NUMBERS]
    assert blocks == [forward, backward]
