"""The section ``train``, of trainings and of pre-trainings; its defaults stand here alone."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .values import Count, Decay, Device, Number, Pixels, Positive, Section, Seed, Text, metric


class Amp(Section):
    """``train.amp``: the floating-point type of matrix products."""

    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    enabled: bool | None = Field(
        default=None, description="Detectron2's name: false is fp32, true and null leave it to dtype"
    )


class Ema(Section):
    """``train.ema``: the moving average of the weights."""

    enabled: bool = False
    decay: Decay = 0.9998


class Ddp(Section):
    """``train.ddp``: arguments of torch's ``DistributedDataParallel``."""

    find_unused_parameters: bool = Field(
        default=False, description="True: where a step does not use all parameters"
    )
    gradient_as_bucket_view: bool = Field(
        default=True, description="gradients lie in the buckets that are exchanged, which saves their memory"
    )
    static_graph: bool = Field(default=False, description="every step uses the same parameters")
    bucket_cap_mb: Positive | None = Field(default=None, description="null: 25")
    compress: Literal["none", "bf16"] = Field(
        default="none", description="bf16: gradients are exchanged in half precision"
    )


class Fsdp(Section):
    """Shards of a model."""

    shards: Count | None = Field(
        default=None, description="hsdp: processes that share one copy; null: those of a machine"
    )


class Profile(Section):
    """``train.profile``: iterations that torch's profiler records."""

    steps: Number = Field(default=0, description="iterations that are recorded, 0: none")
    start: Number = Field(default=10, description="the first of them, counted from the start of the process")
    memory: bool = False


class Checkpoints(Section):
    """``train.checkpointer`` of a training."""

    period: Count = Field(default=5000, description="iterations")
    max_to_keep: Count | None = Field(default=3, description="null: all")
    sharded: bool = Field(
        default=False,
        description="with parallel=fsdp or hsdp: each process writes its shards, while the training goes on",
    )


class Pictures(Section):
    """``train.visualize`` of a training: pictures of predictions."""

    period: Number = Field(default=0, description="iterations, 0: never")
    images: Number = 8


class _Run(Section):
    """What trainings and pre-trainings share."""

    output_dir: Text = "./output"
    overwrite: bool = Field(
        default=False, description="start anew in a folder with checkpoints, which are moved to earlier_<n>"
    )
    init_checkpoint: str | None = Field(
        default="", description="a file or address of any kind; auto: the pre-training in the package"
    )
    device: Device = Field(default="auto", description="auto: cuda where there is one; cpu, cuda, cuda:N")
    amp: Amp = Amp()
    tf32: Literal["none", "convolutions", "all"] = Field(
        default="convolutions",
        description="float32 products on a GPU that are rounded to TF32; all: of matrices too",
    )
    cudnn_benchmark: bool = Field(
        default=False, description="cuDNN tries its algorithms out for every new size of images"
    )
    accumulate: Count = Field(
        default=1,
        description="micro-batches per step; the total batch stays dataloader.train.total_batch_size",
    )
    clip_grad_norm: Positive | None = Field(default=None, description="null: gradients are not clipped")
    nan: Literal["stop", "skip"] = Field(
        default="stop",
        description="a loss that is not finite ends the run; or leaves its step out, 9 in a row",
    )
    ema: Ema = Ema()
    parallel: Literal["ddp", "fsdp", "hsdp"] = Field(
        default="ddp",
        description="ddp: each process has the whole model; fsdp: a shard; hsdp: a shard of a copy",
    )
    ddp: Ddp = Ddp()
    fsdp: Fsdp = Fsdp()
    timeout_s: Positive = Field(
        default=300.0, description="seconds a process waits for another in a step; 1800 in the first"
    )
    log_period: Count = Field(default=20, description="iterations")
    show_groups: bool = False
    compile: Literal["none", "blocks"] = Field(
        default="none", description="blocks: each block of a trunk, pyramid or decoder is compiled"
    )
    profile: Profile = Profile()
    count_flops: bool = Field(
        default=False, description="count operations in the first step: tflops and mfu in the metrics"
    )
    keep_freed_memory: bool = Field(default=True, description="on a CPU, see itpn_d2/engine/allocator.py")
    seed: Seed = 42


class Training(_Run):
    """``train`` of train_net.py."""

    max_iter: Count = Field(default=90000, description="iterations")
    checkpointer: Checkpoints = Checkpoints()
    eval_period: Number = Field(default=5000, description="iterations, 0: never")
    validation_loss: bool = False
    best_metric: Annotated[str, AfterValidator(metric)] = Field(
        default="", description="whose best value keeps model_best.pth"
    )
    visualize: Pictures = Pictures()
    report: bool = Field(default=False, description="a page about each evaluation: report.html")


class EpochCheckpoints(Section):
    """``train.checkpointer`` of a pre-training, which counts epochs."""

    epochs: Annotated[float, Field(ge=0)] = Field(default=20, description="0: at the end only")
    max_to_keep: Count | None = Field(default=3, description="null: all")
    sharded: bool = Field(
        default=False,
        description="with parallel=fsdp or hsdp: each process writes its shards, while the training goes on",
    )


class EpochPictures(Section):
    """``train.visualize`` of a pre-training: pictures of reconstructions."""

    epochs: Annotated[float, Field(ge=0)] = Field(default=20, description="0: never")
    images: Number = 8


class Neighbours(Section):
    """k-NN on labelled images while pre-training."""

    epochs: Annotated[float, Field(ge=0)] = Field(default=0, description="0: never")
    train: str | None = None
    test: str | None = None
    image_size: Pixels | None = None
    neighbours: Count = 20


class Stage(Section):
    """One element of ``train.progressive``: image size in pixels and batch from an epoch on."""

    epoch: Number
    size: Pixels
    batch: Count | None = None
    lr: Positive | None = None


class Pretraining(_Run):
    """``train`` of pretrain."""

    output_dir: Text = "./output/pretrain"
    epochs: Count = 1600
    max_iter: Count | None = Field(default=None, description="follows from the epochs")
    base_lr: Positive | None = Field(default=1.5e-4, description="per 256 images; null: optimizer.lr")
    progressive: list[Stage] | None = Field(
        default=None, description="[{epoch: 0, size: 128, batch: 4096}, {epoch: 300, size: 192}, ...]"
    )
    size_divisor: Count = 16
    checkpointer: EpochCheckpoints = EpochCheckpoints()
    visualize: EpochPictures = EpochPictures()
    knn: Neighbours = Neighbours()
