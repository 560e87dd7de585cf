"""Predictions for many files: pictures, videos and COCO results; files that fail do not stop the job."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import OutputError
from ..evaluation import draw_prediction
from ..evaluation.files import save_png
from ..files import make_folder, write_json
from .coco import ResultFiles
from .inputs import Inputs, check_not_overwritten, picture_path, printable, video_path
from .predictor import Prediction, Predictor
from .video import VideoError, VideoReader, VideoWriter

logger = logging.getLogger(__name__)


@dataclass
class Summary:
    """The outcome of a job.

    Attributes:
        images, frames: how many were predicted.
        failed: (file, reason) of those that were not.
        notes: (file, remark) of those that were predicted, but not quite as requested.
        written: result files.
        interrupted: it was stopped before its end.
    """

    images: int = 0
    frames: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    interrupted: bool = False

    def __str__(self) -> str:
        frames = f" and {self.frames} frames" if self.frames else ""
        lines = [f"{self.images} images{frames} done, {len(self.failed)} files failed"]
        lines += [f"  failed: {file}: {reason}" for file, reason in self.failed]
        lines += [f"  note:   {file}: {text}" for file, text in self.notes]
        lines += [f"  wrote:  {path}" for path in self.written]
        return "\n".join(lines + ["  stopped before the end"] * self.interrupted)


@dataclass
class Job:
    """One predictor over many files.

    Args:
        predictor: what predicts.
        output: the folder for everything: ``pictures/``, ``videos/``, the JSON files of :class:`.ResultFiles`
            (of a video beside it, in a folder of its name), ``summary.json``.
        score_threshold: of what is drawn; the JSON has all that the model gives.
        batch_size: images or frames at once.
        min_side: see :func:`.draw_prediction`; for videos frames keep their size.
        draw: whether to draw at all.
        known: see :class:`.ResultFiles`.
    """

    predictor: Predictor
    output: Path
    score_threshold: float = 0.5
    batch_size: int = 1
    min_side: int = 480
    draw: bool = True
    known: Path | None = None

    def run(self, inputs: Inputs) -> Summary:
        """Run the job. Failures are listed in the summary; results are kept, also after Ctrl-C: every image
        has its line in ``results.jsonl`` as soon as it is done, until the files of all of them are written.

        Raises:
            ConfigError: ``known`` can't be used, or results would overwrite what is read. OutputError: they
                can't be written, as on a full disk.
        """
        check_not_overwritten(inputs, [self.known] if self.known is not None else [], self.output)
        make_folder(self.output)
        summary = Summary(failed=list(inputs.problems))
        results = ResultFiles(self.output, self.predictor.metadata, self.known)
        try:
            if inputs.images:
                self._images(inputs, results, summary)
            for path, name in inputs.videos:
                try:
                    self._video(path, name, summary)
                except (VideoError, OSError) as error:
                    summary.failed.append((name, str(error)))
        except KeyboardInterrupt:
            summary.interrupted = True
        finally:
            summary.written += map(str, results.save())
            summary.notes += [(str(self.known), text) for text in results.unmatched()]
            write_json(self.output / "summary.json", asdict(summary))
        return summary

    def _images(self, inputs: Inputs, results: ResultFiles, summary: Summary) -> None:
        stream = self.predictor.stream((path for path, _ in inputs.images), self.batch_size)
        bar = tqdm(inputs.images, desc="images", unit="image", dynamic_ncols=True)
        for (_, name), prediction in zip(bar, stream, strict=True):
            if self._take(name, prediction, results, summary):
                summary.images += 1

    def _take(self, name: str, prediction: Prediction, results: ResultFiles, summary: Summary) -> bool:
        """Add one image to the results and draw it; returns whether there was a prediction."""
        if prediction.output is None or prediction.image is None:
            summary.failed.append((name, prediction.error or "no output"))
            return False
        results.add(name, prediction.image.shape[:2], prediction.output)
        if self.draw:
            try:
                save_png(picture_path(self.output, name), self._drawn(prediction, self.min_side))
            except OutputError:
                raise  # of the disk, which will not take the next one either
            except Exception as error:  # the results are worth more than their picture
                logger.warning("%s could not be drawn", name, exc_info=True)
                summary.notes.append((name, f"not drawn: {error}"))
        return True

    def _drawn(self, prediction: Prediction, min_side: int = 0) -> np.ndarray:
        assert prediction.image is not None and prediction.output is not None
        return draw_prediction(
            prediction.image, prediction.output, self.predictor.metadata, self.score_threshold, min_side
        )

    def _video(self, path: Path, name: str, summary: Summary) -> None:
        reader = VideoReader(path)
        results = ResultFiles(self.output / "videos" / name, self.predictor.metadata)
        writer = VideoWriter(video_path(self.output, name), reader.fps)
        bar = tqdm(desc=printable(name), total=reader.expected, unit="frame", dynamic_ncols=True)
        lost = 0
        try:
            # as pictures, since the order of an array's channels is the predictor's choice
            frames: Iterator[Image.Image] = (Image.fromarray(frame) for frame in reader)
            for number, prediction in enumerate(self.predictor.stream(frames, self.batch_size, readers=1)):
                if prediction.output is None or prediction.image is None:
                    lost += 1
                    drawn = np.asarray(prediction.source)  # the video keeps its length
                else:
                    results.add(f"{name}#{number:06d}", prediction.image.shape[:2], prediction.output)
                    drawn = self._drawn(prediction) if self.draw else prediction.image
                    summary.frames += 1
                if self.draw:
                    writer.write(drawn)
                bar.update()
        finally:
            bar.close()
            writer.close()
            summary.written += map(str, results.save())
        if self.draw:
            summary.written.append(str(writer.path))
        if lost:
            summary.notes.append(
                (name, f"the model failed on {lost} frames, which are written without predictions")
            )
        if (short := reader.cut_short()) is not None:
            summary.notes.append((name, short))
