"""What a newcomer sees: importing Detectron2 behind this package says nothing that he can't change."""

import subprocess
import sys


def said(*options):
    program = "import itpn_d2, fvcore.nn, detectron2.modeling.box_regression"
    command = [sys.executable, *options, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stderr


def test_imports_are_quiet_unless_warnings_are_asked_for():
    assert "Warning" not in said()
    assert "`torch.jit.script` is deprecated" in said("-W", "default::FutureWarning")
