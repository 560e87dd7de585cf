"""Epochs, image sizes and batches as functions of the iteration."""

from dataclasses import dataclass

from fvcore.common.param_scheduler import ParamScheduler

from .schedule import ProgressiveSchedule


@dataclass(frozen=True)
class Segment:
    """Iterations ``start`` to ``stop`` - 1, which share an image size and a batch.

    ``lr_scale`` is the learning rate's factor beside that of the run.
    """

    start: int
    stop: int
    epoch: int
    steps_per_epoch: int
    size: int
    batch: int
    lr_scale: float


class Clock:
    """The run's segments: one, or one per stage of a progressive schedule.

    An epoch has as many steps as whole batches fit into the data. Where a stage has another batch and no
    learning rate of its own, the rate goes with the batch.

    Args:
        num_images: of the data.
        epochs: length of the run.
        size, batch: pixels and images per step over all processes, where no stage says otherwise.
        lr: the run's learning rate, to which a stage's is compared.

    Raises:
        ValueError: ``epochs`` or ``batch`` is below 1, or a stage of ``schedule`` starts after the last
            epoch.
    """

    def __init__(
        self,
        num_images: int,
        epochs: int,
        size: int,
        batch: int,
        lr: float,
        schedule: ProgressiveSchedule | None = None,
    ):
        if epochs < 1 or batch < 1:
            raise ValueError(f"train.epochs={epochs}, total_batch_size={batch}: both must be at least 1")
        self.epochs = epochs
        if schedule is None:
            schedule = ProgressiveSchedule([{"epoch": 0, "size": size}], divisor=1)
        stages = schedule.stages
        self.segments: list[Segment] = []
        start = 0
        for number, stage in enumerate(stages):
            end = stages[number + 1].epoch if number + 1 < len(stages) else epochs
            if stage.epoch >= epochs:
                raise ValueError(f"a stage starts at epoch {stage.epoch}, but train.epochs is {epochs}")
            images = batch if stage.batch is None else stage.batch
            steps = max(1, num_images // images)
            scale = images / batch if stage.lr is None else stage.lr / lr
            stop = start + steps * (end - stage.epoch)
            self.segments.append(Segment(start, stop, stage.epoch, steps, stage.size, images, scale))
            start = stop
        self.max_iter = start

    def segment(self, iteration: int) -> Segment:
        """The segment of an iteration, the last one for those beyond the end."""
        return next((s for s in self.segments if iteration < s.stop), self.segments[-1])

    def epoch(self, iterations: int) -> float:
        """Epochs done after so many iterations."""
        s = self.segment(iterations)
        return s.epoch + (iterations - s.start) / s.steps_per_epoch

    def due(self, iteration: int, period: float) -> bool:
        """Whether something with a period in epochs (0: never) happens after this iteration; always after the
        last."""
        if period <= 0:
            return False
        if iteration + 1 >= self.max_iter:
            return True
        # a hair, so that an epoch's end is not lost to rounding
        done, before = (int(self.epoch(i) / period + 1e-9) for i in (iteration + 1, iteration))
        return done > before


class ClockedScheduler(ParamScheduler):
    """A schedule over epochs, times the segment's factor, for a loop that counts iterations."""

    def __init__(self, over_epochs: ParamScheduler, clock: Clock):
        self.over_epochs, self.clock = over_epochs, clock

    def __call__(self, where: float) -> float:
        """The value at ``where``, the share of the run's iterations that are done."""
        iteration = round(where * self.clock.max_iter)
        share = min(self.clock.epoch(iteration) / self.clock.epochs, 1.0)
        return self.over_epochs(share) * self.clock.segment(iteration).lr_scale
