"""Workers of a loader start and work, whatever the process has done before."""

import cv2
import numpy as np
from torch.utils.data import DataLoader

from itpn_d2.data.loader import prepare_for_workers, start_worker


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
