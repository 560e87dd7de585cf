"""docs/tutorial.md does what it says: its blocks run one after the other, as they stand but for how much
they do."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
LESS = {
    '("train", 200), ("val", 40)': '("train", 32), ("val", 3)',
    "train.max_iter=300 train.eval_period=300": "train.max_iter=60 train.eval_period=60",
}
SERVER = "demo/app.py"


def blocks():
    """(language, text) of every block of code, in order."""
    return re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_has_what_is_made_smaller():
    assert all(PAGE.count(text) == 1 for text in LESS)
    assert [language for language, _ in blocks()] == [
        "python",
        "bash",
        "bash",
        "bash",
        *["python"] * 2,
        "bash",
        "bash",
        "python",
    ]


def serve(command, environment):
    """Start the web page, wait until it answers, and stop it."""
    process = subprocess.Popen(["bash", "-c", f"exec {command}"], env=environment)
    try:
        for _ in range(120):
            assert process.poll() is None, "the server ended"
            try:
                with urllib.request.urlopen("http://127.0.0.1:7860", timeout=5) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                time.sleep(1)
        pytest.fail("no answer from the web page")
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_every_command(tmp_path, monkeypatch):
    for name in ("train_net.py", "configs", "demo", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for language, text in blocks():
        for more, less in LESS.items():
            text = text.replace(more, less)
        if SERVER in text:
            if find_spec("gradio") is not None:
                serve(text.strip(), environment)
            continue
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-e", "-c", text]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    written = tmp_path / "output" / "tutorial"
    for name in ("run/report.html", "run/config.yaml", "demo/instances.json", "export/model_detector.ts"):
        assert (written / name).stat().st_size, name
