"""Workers of a loader start and work, whatever the process has done before."""

import multiprocessing
import sys

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from itpn_d2.data.workers import prepare_for_workers, start_worker, worker_options


class Blurred:
    """Pictures that OpenCV works on with all threads that it has."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return cv2.GaussianBlur(np.full((600, 600, 3), index, np.uint8), (31, 31), 5)[0, 0, 0]


def test_threads_of_opencv_are_not_waited_for():
    prepare_for_workers.cache_clear()
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        assert Blurred()[3] == 3  # the pool has its threads now
        prepare_for_workers()
        assert cv2.getNumThreads() == 1
        loader = DataLoader(Blurred(), num_workers=2, worker_init_fn=start_worker, timeout=60)
        assert [int(value) for value in loader] == [0, 1, 2, 3, 4, 5]
    finally:
        cv2.setNumThreads(before)


RUNTIME = []  # what only a fork of this process knows


class Known:
    """Whether the process that loads a sample is a fork."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return len(RUNTIME)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")
def test_workers_are_forked_in_a_process_that_was_spawned():
    """Where torch starts the processes of a run, the default is spawn: workers would import everything."""
    before = multiprocessing.get_start_method()
    RUNTIME.append(1)
    try:
        multiprocessing.set_start_method("spawn", force=True)
        assert [int(known) for known in DataLoader(Known(), **worker_options(1))] == [1, 1]
        assert worker_options(0) == {"num_workers": 0}
    finally:
        multiprocessing.set_start_method(before, force=True)
        RUNTIME.clear()
