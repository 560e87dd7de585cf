"""Run settings that every config starts from."""

train = dict(
    output_dir="./output",
    init_checkpoint="",  # any checkpoint: ours, a pre-training file, an official one
    max_iter=90000,
    device="auto",  # cuda if there is one, else cpu
    amp=dict(dtype="auto"),  # auto, bf16, fp16, fp32
    accumulate=1,  # micro-batches per step; the total batch stays dataloader.train.total_batch_size
    clip_grad_norm=None,
    ema=dict(enabled=False, decay=0.9998),
    ddp=dict(find_unused_parameters=False),
    checkpointer=dict(period=5000, max_to_keep=3),
    eval_period=5000,  # 0: never
    validation_loss=False,
    best_metric="",  # e.g. segm/AP, or ema/segm/AP: keeps model_best.pth
    visualize=dict(period=0, images=8),
    report=False,  # a page about each evaluation: report.html
    log_period=20,
    show_groups=False,
    keep_freed_memory=True,  # on a CPU, see itpn_d2/engine/allocator.py
    seed=42,
)
