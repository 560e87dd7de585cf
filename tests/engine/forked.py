"""Processes that gloo joins, for functions of a test.

They are forked from a server that has imported everything and has a single thread. A spawned one would import
for seconds; one forked from the tests' own inherits whatever lock another thread of it holds at that moment.
"""

import datetime
import multiprocessing
import os
import pickle
import time
import traceback

import cloudpickle
import torch.distributed as dist
from detectron2.utils import comm

PATIENCE = datetime.timedelta(minutes=2)
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__, "itpn_d2.engine", "itpn_d2.model_zoo", "pretrain.methods"])


def forked(world, main, folder):
    """``main()`` in ``world`` processes; what each returns, by rank.

    The first exception ends all and is raised here, as a RuntimeError with its traceback.
    """
    store = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    program = cloudpickle.dumps(main)
    processes = []
    for rank in range(world):
        process = SERVER.Process(target=_one, args=(rank, world, program, store.port, folder))
        process.start()
        processes.append(process)
    deadline = time.monotonic() + 300
    try:
        while any(process.is_alive() for process in processes):
            if any(process.exitcode for process in processes) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
    finally:
        for process in processes:
            if process.exitcode != 0:
                process.join(1.0)
                process.kill()
            process.join()
    found = [
        pickle.loads((folder / f"rank{rank}").read_bytes()) for rank in range(world) if _left(folder, rank)
    ]
    failed = [text for kind, text in found if kind == "failed"]
    if failed or len(found) < world:
        raise RuntimeError("\n".join(failed) or "a process ended without a word")
    return [value for _, value in found]


def _left(folder, rank):
    return (folder / f"rank{rank}").is_file()


def _one(rank, world, program, port, folder):
    (folder / f"rank{rank}").unlink(missing_ok=True)
    status = 1
    try:
        store = dist.TCPStore("127.0.0.1", port, None, False, PATIENCE)
        dist.init_process_group("gloo", store=store, world_size=world, rank=rank, timeout=PATIENCE)
        comm._get_global_gloo_group.cache_clear()
        found = "done", cloudpickle.loads(program)()
        dist.barrier()
        status = 0
    except BaseException:
        found = "failed", traceback.format_exc()
    partial = folder / f".rank{rank}"
    partial.write_bytes(pickle.dumps(found))
    partial.replace(folder / f"rank{rank}")
    os._exit(status)  # no thread that a failed step left behind may keep it
