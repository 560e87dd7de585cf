"""Learning-rate multipliers."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    PolynomialDecayParamScheduler,
)


def steps(max_iter, milestones, warmup_iter, warmup_factor=0.001):
    """Tenfold drops at ``milestones`` after a linear warm-up, in iterations."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[0.1**k for k in range(len(milestones) + 1)], milestones=milestones, num_updates=max_iter
        ),
        warmup_length=warmup_iter / max_iter,
        warmup_factor=warmup_factor,
    )


def cosine(warmup_fraction=0.05, end=0.01):
    """Cosine to ``end`` times the rate, after a linear warm-up over a fraction of whatever train.max_iter
    is."""
    return L(WarmupParamScheduler)(
        scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=end),
        warmup_length=warmup_fraction,
        warmup_factor=0.001,
    )


def warm_cosine(epochs, warmup_epochs, end=0.0):
    """Over the epochs of the run: linear from 0, then cosine to ``end`` times the rate."""
    return L(WarmupParamScheduler)(
        scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=end),
        warmup_length=warmup_epochs / epochs,
        warmup_factor=0.0,
    )


def poly(max_iter, warmup_iter, power=1.0, warmup_factor=1e-6):
    """(1 - done) ** power, after a linear warm-up in iterations."""
    return L(WarmupParamScheduler)(
        scheduler=L(PolynomialDecayParamScheduler)(base_value=1.0, power=power),
        warmup_length=warmup_iter / max_iter,
        warmup_factor=warmup_factor,
    )
