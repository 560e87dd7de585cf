"""``train.profile``: what some iterations spend their time on, as torch's profiler sees it."""

import logging
from pathlib import Path

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch.profiler import ProfilerActivity, profile

from ..files import make_folder, write_text, written_whole

logger = logging.getLogger(__name__)
_ROWS = 40  # of the table


class Profile(HookBase):
    """Records ``steps`` iterations, from the ``start``-th that this process runs on (from 0), in the main
    process; ``profile/trace.json`` for Perfetto or chrome://tracing, and ``profile/table.txt``.

    The first of all hooks, so that the others are seen, too.

    Args:
        memory: note what is allocated as well, and sort the table by it.
    """

    def __init__(self, output_dir: Path, start: int, steps: int, memory: bool = False):
        self.folder, self.start, self.steps, self.memory = output_dir / "profile", start, steps, memory
        self._profile: profile | None = None

    def before_step(self) -> None:
        """Start the record before its first iteration, and write it before the one after its last."""
        done = self.trainer.iter - self.trainer.start_iter
        if self._profile is not None and done >= self.start + self.steps:
            self._finish()
        if done == self.start and self.steps and comm.is_main_process():
            on_gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profile = profile(
                activities=[ProfilerActivity.CPU, *on_gpu],
                record_shapes=self.memory,
                profile_memory=self.memory,
            )
            self._profile.start()

    def after_train(self) -> None:
        """Write the record of a training that ended within it."""
        self._finish()

    def _finish(self) -> None:
        if self._profile is None:
            return
        found, self._profile = self._profile, None
        found.stop()
        make_folder(self.folder)
        with written_whole(self.folder / "trace.json") as partial:
            found.export_chrome_trace(str(partial))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        order = f"self_{device}_memory_usage" if self.memory else f"self_{device}_time_total"
        write_text(self.folder / "table.txt", found.key_averages().table(sort_by=order, row_limit=_ROWS))
        logger.info("Profile of %d iterations: %s", self.steps, self.folder)
