"""Several processes on the CPU: by spawn and by torchrun."""

import json
import subprocess
import sys

import pytest

SCRIPT = '''
import copy, json, sys
import numpy as np, torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from itpn_d2.data import TestMapper, build_test_loader, register_scenes, test_augmentations
from itpn_d2.engine.launch import launch
from itpn_d2.evaluation import build_evaluator


class Oracle(torch.nn.Module):
    """Ground truth with seeded noise, the same for an image whichever process asks."""

    def __init__(self, name):
        super().__init__()
        self.truth = {r["image_id"]: r for r in DatasetCatalog.get(name)}

    def forward(self, batch):
        out = []
        for item in batch:
            rng = np.random.default_rng(item["image_id"])
            boxes = np.array([a["bbox"] for a in self.truth[item["image_id"]]["annotations"]], float)
            boxes[:, 2:] += boxes[:, :2]
            found = Instances((item["height"], item["width"]))
            noisy = boxes + rng.normal(0, 1.5, boxes.shape)
            found.pred_boxes = Boxes(torch.tensor(noisy, dtype=torch.float32))
            found.scores = torch.tensor(rng.random(len(boxes)), dtype=torch.float32)
            classes = [a["category_id"] for a in self.truth[item["image_id"]]["annotations"]]
            found.pred_classes = torch.tensor(classes)
            out.append({"instances": found})
        return out


def main(root, out, fail):
    if fail and comm.get_rank() == 1:
        raise ValueError("rank 1 breaks")
    name = register_scenes("launch_val", "val", 9, 64, 3, root=root)
    evaluator = build_evaluator(name)
    evaluator._tasks = ("bbox",)
    loader = build_test_loader(name, TestMapper(test_augmentations(64, 64)))
    results = inference_on_dataset(Oracle(name), loader, evaluator)
    ranks = comm.all_gather((comm.get_rank(), comm.get_local_rank(), comm.get_local_size()))
    if comm.is_main_process():
        json.dump({"AP": results["bbox"]["AP"], "ranks": ranks}, open(out, "w"))


if __name__ == "__main__":
    processes, root, out, fail = int(sys.argv[1]), sys.argv[2], sys.argv[3], len(sys.argv) > 4
    launch(main, num_processes=processes, args=(root, out, fail))
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("launch") / "script.py"
    path.write_text(SCRIPT)
    return path


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **options)


@pytest.fixture(scope="module")
def alone(script):
    out = script.with_name("alone.json")
    done = run([sys.executable, str(script), "1", str(script.parent), str(out)])
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize("how", ["spawn", "torchrun"])
def test_two_processes_evaluate_as_one(script, alone, how, tmp_path):
    out = tmp_path / "two.json"
    start = [sys.executable, str(script)]
    if how == "torchrun":
        start = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            str(script),
        ]
    done = run([*start, "2", str(script.parent), str(out)])
    assert done.returncode == 0, done.stderr
    two = json.loads(out.read_text())
    assert alone["ranks"] == [[0, 0, 1]]
    assert two["ranks"] == [[0, 0, 2], [1, 1, 2]]
    assert 5 < alone["AP"] < 99 and two["AP"] == alone["AP"]


def test_an_error_of_one_process_reaches_the_parent(script, tmp_path):
    done = run([sys.executable, str(script), "2", str(script.parent), str(tmp_path / "x.json"), "fail"])
    assert done.returncode != 0 and "rank 1 breaks" in done.stderr


def test_several_machines_need_an_address():
    from itpn_d2.engine.launch import launch

    with pytest.raises(ValueError, match="dist-url"):
        launch(print, num_machines=2)
