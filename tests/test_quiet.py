"""What a newcomer sees: importing Detectron2 behind this package says nothing that he can't change."""

import subprocess
import sys

IMPORTS = "import itpn_d2, fvcore.nn, detectron2.modeling.box_regression"
SCRIPTS = "import torch; torch.jit.script(torch.nn.ReLU())"  # as Detectron2 does when it is imported


def said(*options, program=IMPORTS):
    command = [sys.executable, *options, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stderr


def test_imports_are_quiet_unless_warnings_are_asked_for():
    assert "Warning" not in said()
    asked, words = ("-W", "default::FutureWarning"), "`torch.jit.script` is deprecated"
    # torch 2.10 does not say it
    assert (words in said(*asked)) == (words in said(*asked, program=SCRIPTS))
