"""What the processes of test_launch.py run; a module of its own, because spawned processes import it."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm

from itpn_d2 import create_model
from itpn_d2.data import register_scenes
from itpn_d2.engine.launch import launch
from itpn_d2.errors import ConfigError
from itpn_d2.evaluation import build_evaluator


def oracle(record):
    """Ground truth with noise seeded by the image: the same whichever process asks."""
    rng = np.random.default_rng(record["image_id"])
    annotations = record["annotations"]
    boxes = np.array([BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations])
    boxes = torch.tensor(boxes + rng.normal(0, 1.5, boxes.shape), dtype=torch.float32)
    found = Instances((record["height"], record["width"]), pred_boxes=Boxes(boxes))
    found.scores = torch.tensor(rng.random(len(boxes)), dtype=torch.float32)
    found.pred_classes = torch.tensor([a["category_id"] for a in annotations])
    height, width = found.image_size
    y, x = torch.arange(height)[:, None], torch.arange(width)
    left, top, right, bottom = (edge[:, None, None] for edge in boxes.unbind(1))
    found.pred_masks = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return {"instances": found}


def report(root, out):
    """Everything that depends on the processes, as json in ``out``."""
    rank, size = comm.get_rank(), comm.get_world_size()
    name = register_scenes("launch_val", "val", 9, 64, 3, root=root)
    evaluator = build_evaluator(name)
    evaluator.reset()
    for record in DatasetCatalog.get(name)[rank::size]:
        evaluator.process([record], [oracle(record)])
    results = evaluator.evaluate()
    mean = comm.reduce_dict({"a": torch.tensor(1.0 + rank), "b": torch.tensor(10.0 * rank)})
    total = torch.tensor([float(rank + 1)])
    if size > 1:
        torch.distributed.all_reduce(total)
    gathered = comm.gather({"rank": rank, "text": "x" * (rank + 1)})
    everywhere = comm.all_gather((rank, comm.get_local_rank(), comm.get_local_size(), bool(results)))
    if comm.is_main_process():
        content = {
            "results": results,
            "gathered": gathered,
            "ranks": everywhere,
            "mean": {k: v.item() for k, v in mean.items()},
            "total": total.item(),
            "threads": torch.get_num_threads(),
            "cuda": torch.cuda.is_available(),
        }
        Path(out).write_text(json.dumps(content))


MIGRATION = {"keep": 0.6, "affine": True}
GATHERING = {"window": 2, "tokens": 2, "global_blocks": (1,)}
ACCELERATED = {
    "migration": {"migration": MIGRATION},
    "gathering": {"gathering": GATHERING},
    "both": {"migration": MIGRATION, "gathering": GATHERING},
    # nothing leaves: what leaving tokens learn takes no part
    "unused": {"migration": {**MIGRATION, "keep": 1.0}},
}


def train_accelerated(out):
    """Three steps of a small backbone in each way, every process on images of its own: what became of the
    parameters that acceleration adds, as json in ``out``."""
    found = {}
    for way, options in ACCELERATED.items():
        torch.manual_seed(0)
        sizes = dict(channels=(8, 16, 32), depths=(1, 1, 4), num_heads=2, fpn_dim=16)
        model = create_model("fast_itpn_nano", pyramid=True, drop_path=0.2, **sizes, **options).train()
        wrapped = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        added = {n: p for n, p in model.named_parameters() if ".migration." in n or ".gathering." in n}
        start = {n: p.detach().clone() for n, p in added.items()}
        try:
            for step in range(3):
                torch.manual_seed(10 * step + comm.get_rank())
                optimizer.zero_grad()
                sum(x.square().mean() for x in wrapped(torch.randn(1, 3, 96, 96)).values()).backward()
                optimizer.step()
        except RuntimeError as error:
            found[way] = str(error)
            continue
        totals = comm.all_gather([float(p.detach().double().sum()) for p in model.parameters()])
        moved = {n: not torch.equal(p, start[n]) for n, p in added.items()}
        found[way] = {"equal": all(t == totals[0] for t in totals), "moved": moved}
    if comm.is_main_process():
        Path(out).write_text(json.dumps(found))


def break_in_one(rank):
    """One process fails while the other waits for it."""
    if comm.get_rank() == rank:
        raise ConfigError(f"rank {rank} breaks")
    comm.synchronize()


if __name__ == "__main__":
    launch(report, args=tuple(sys.argv[1:]), device="cpu")
