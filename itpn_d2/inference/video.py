"""Videos as frames, and back, by OpenCV."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ..files import commit, partial_name

_FPS = 25.0  # where a file does not tell


@contextmanager
def in_utf8(path: Path) -> Iterator[str]:
    """A name of a file or folder that a library in C++ takes, to open it by: its own, or where that is not
    UTF-8, a link's."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = os.path.join(folder, f"link{path.suffix if path.suffix.isascii() else ''}")
            os.symlink(path.absolute(), link)
            yield link
    else:
        yield str(path)


class VideoError(Exception):
    """A video can't be read or written; the message names the file and the reason."""


class VideoReader:
    """The frames of a video, upright.

    Attributes:
        fps: frames a second.
        expected: frames, as the file says; None where it does not.
        count: frames that were read so far.

    Raises:
        VideoError: it can't be opened, or has no frame.
    """

    def __init__(self, path: Path):
        self.path, self.count = path, 0
        if not path.is_file() or not path.stat().st_size:
            raise VideoError(f"{path}: {'the file is empty' if path.is_file() else 'no such file'}")
        with in_utf8(path) as name:
            self._capture = cv2.VideoCapture(name)
        self._first: np.ndarray | None
        good, self._first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not good:
            self._capture.release()
            raise VideoError(
                f"{path}: not a video that OpenCV can read (damaged, truncated, or of an unknown format)"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 0 < fps <= 1000 else _FPS
        expected = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.expected = int(expected) if np.isfinite(expected) and expected > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """RGB uint8 ``(H, W, 3)``; once."""
        frame = self._first
        try:
            while frame is not None:
                self.count += 1
                yield np.ascontiguousarray(frame[..., ::-1])
                good, frame = self._capture.read()
                frame = frame if good else None
        finally:
            self._capture.release()

    def cut_short(self) -> str | None:
        """After the last frame: what to say where the file promised more of them."""
        if self.expected is None or self.count >= self.expected:
            return None
        return f"the video ends early: {self.count} of {self.expected} frames could be read"


class VideoWriter:
    """An MPEG-4 video of the frames it is given; it is there after :meth:`close`, whole.

    Frames are padded by a black row or column to even sizes, which the format asks for. Sound is not kept.
    """

    def __init__(self, path: Path, fps: float):
        self.path, self.fps = path, fps
        self._partial = partial_name(path)
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Add an RGB uint8 frame ``(H, W, 3)``, all of one size.

        Raises:
            VideoError: OpenCV can't write such a video here.
        """
        height, width = frame.shape[:2]
        even = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT)
        if self._writer is None:
            size = (even.shape[1], even.shape[0])
            with in_utf8(self._partial.parent) as folder:
                name = os.path.join(folder, self._partial.name)
                self._writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), self.fps, size)
            if not self._writer.isOpened():
                raise VideoError(f"{self.path}: OpenCV can't write MPEG-4 of {size[0]}x{size[1]} pixels here")
        self._writer.write(np.ascontiguousarray(even[..., ::-1]))

    def close(self) -> None:
        """Finish the file and give it its name; nothing without a frame."""
        if self._writer is not None:
            self._writer.release()
            commit(self._partial, self.path)
            self._writer = None
