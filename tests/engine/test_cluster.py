"""What torchrun and Slurm say about processes, and runs that lose one."""

import datetime
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from itpn_d2.checkpoint import load_state_file
from itpn_d2.engine import Run
from itpn_d2.engine.cluster import Place, agree, first_host, note_begun, place, restarted
from tests.engine.test_nothing_is_lost import CONFIG, ROOT, SMALL, small

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "a",
    "MASTER_PORT": "7",
    "TORCHELASTIC_RUN_ID": "job",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
    "SLURM_STEP_NODELIST": "gpu[07-09,12]",
    "SLURM_JOB_ID": "31234",
    "SLURM_STEP_ID": "0",
    "SLURM_RESTART_COUNT": "1",
}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITPN_D2_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_torchrun():
    assert place(TORCHRUN) == Place(3, 4, 1, 2, "a", 7, hosted=True)
    assert place({**TORCHRUN, **SRUN}).world == 4  # torchrun within srun


def test_srun():
    found = place(SRUN)
    assert found == Place(5, 7, 1, 2, "gpu07", 16234)
    assert place({**SRUN, "SLURM_NODEID": "3"}).local_world == 1
    assert place({**SRUN, "MASTER_ADDR": "head", "MASTER_PORT": "9"}).host == "head"
    assert restarted(Path("nowhere"), SRUN) and not restarted(Path("nowhere"), {})


@pytest.mark.parametrize("missing", ["SLURM_STEP_NUM_TASKS", "SLURM_PROCID"])
def test_a_batch_script_is_one_process(missing):
    assert place({k: v for k, v in {**SRUN, "SLURM_NTASKS": "7"}.items() if k != missing}) is None
    assert place({**SRUN, "SLURM_STEP_NUM_TASKS": "1"}) is None and place({}) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("node[07-09,12],gpu1", "node07"),
        ("rack2-[1,3]", "rack2-1"),
        ("c[01-02]-ib", "c01-ib"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_the_first_host(nodes, first):
    assert first_host(nodes) == first


def test_every_start_agrees_on_a_word_of_its_own():
    """torchrun's agent keeps its store over restarts, with what the dead have left in it."""
    server = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    minute = datetime.timedelta(minutes=1)

    def word(rank):
        store = dist.TCPStore("127.0.0.1", server.port, 3, False, minute, False)
        time.sleep(0.05 * (rank + 1) % 0.15)  # the last first
        return agree(store, Place(rank, 3, rank, 3, "127.0.0.1", server.port, hosted=True), minute)

    found = []
    for _ in range(3):
        with ThreadPoolExecutor(3) as processes:
            words = list(processes.map(word, range(3)))
        assert len(set(words)) == 1
        found.append(words[0])
        server.set("itpn_d2/ask/2", "a word of a process that is dead")
    assert len(set(found)) == 3
    with pytest.raises(TimeoutError, match=r"processes \[1, 2\] of 3"):
        agree(server, Place(0, 3, 0, 3, "127.0.0.1", 1, hosted=True), datetime.timedelta(0))


@pytest.mark.parametrize("run", ["job", "none"])
def test_a_folder_knows_the_job_that_trains_there(tmp_path, run):
    """A start that was refused is no earlier start, whatever an agent counts; nor is that of another job."""
    env = {**TORCHRUN, "TORCHELASTIC_RUN_ID": run}
    assert not restarted(tmp_path, env)
    note_begun(tmp_path, env)
    assert restarted(tmp_path, {**env, "TORCHELASTIC_RESTART_COUNT": "0"})
    assert not restarted(tmp_path / "another", env)
    assert not restarted(tmp_path, {**env, "TORCHELASTIC_RUN_ID": "another"})
    note_begun(tmp_path, {})  # without torchrun nothing starts again
    assert not restarted(tmp_path, {})


def test_tasks_of_srun_are_one_run(tmp_path):
    """Two processes with nothing but what srun sets train together."""
    options = [*SMALL, f"train.output_dir={tmp_path}", "train.max_iter=2"]
    command = [sys.executable, str(ROOT / "train_net.py"), "--config-file", CONFIG, *options]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "MASTER"))}
    common = {**SRUN, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}
    common |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_RESTART_COUNT": "0", "CUDA_VISIBLE_DEVICES": ""}
    common["SLURM_JOB_ID"] = str(os.getpid())  # a port of its own
    tasks = [
        subprocess.Popen(
            command,
            env={**env, **common, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [task.communicate(timeout=600)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert "2 process(es)" in (tmp_path / "log.txt").read_text()


def test_sigusr1_saves_and_asks_for_another_start(tmp_path):
    options = [*SMALL, f"train.output_dir={tmp_path}", "train.max_iter=100000", "train.log_period=1"]
    command = [sys.executable, str(ROOT / "train_net.py"), "--config-file", CONFIG, *options]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        metrics = tmp_path / "metrics.json"
        wait_for(lambda: metrics.is_file() and metrics.stat().st_size > 0, process)
        process.send_signal(signal.SIGUSR1)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 75, errors
    assert (tmp_path / "last_checkpoint").is_file()


def wait_for(condition, process, seconds=600):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_rank_costs_the_iterations_since_the_last_checkpoint(tmp_path):
    """torchrun starts all again, they resume by themselves, and the weights are those of a run that nobody
    disturbed."""
    every = ["train.max_iter=12", "train.checkpointer.period=1", "train.log_period=1"]

    def torchrun(folder):
        options = [*SMALL, f"train.output_dir={folder}", *every]
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command = [*start, "--max-restarts=1", "train_net.py", "--config-file", CONFIG, *options]
        log = (tmp_path / f"{folder.name}.log").open("w")
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    whole = torchrun(tmp_path / "whole")
    assert whole.wait(600) == 0
    killed = torchrun(tmp_path / "killed")
    metrics = tmp_path / "killed" / "metrics.json"
    wait_for(lambda: metrics.is_file() and metrics.read_text().count("\n") >= 3, killed)
    ranks = subprocess.run(
        ["pgrep", "-f", f"output_dir={tmp_path / 'killed'}"], capture_output=True, text=True
    )
    workers = [int(pid) for pid in ranks.stdout.split() if int(pid) != killed.pid]
    os.kill(max(workers), signal.SIGKILL)
    assert killed.wait(600) == 0, (tmp_path / "killed.log").read_text()[-3000:]
    assert re.search(r"Starting training from iteration [1-9]", (tmp_path / "killed" / "log.txt").read_text())
    one, other = (load_state_file(tmp_path / n / "model_final.pth")["model"] for n in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_machines_that_come_and_go(tmp_path):
    """One agent begins alone; a second one joins, and is killed with its process; the first one goes on."""
    out = tmp_path / "out"
    options = [*SMALL, f"train.output_dir={out}", "train.max_iter=100000", "train.log_period=1"]
    options += ["train.checkpointer.period=2", "train.checkpointer.max_to_keep=2"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc_per_node=1"]
    start += ["--max-restarts=3", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=job"]
    # with the store that agents share, torch's own joining machine waits for the first address in vain
    env = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    start += ["--rdzv-conf=last_call_timeout=1,join_timeout=300", "--local-addr=127.0.0.1"]

    def agent(name, *more):
        command = [*start, *more, "train_net.py", "--config-file", CONFIG, *options]
        log = (tmp_path / f"{name}.log").open("w")
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=env
        )

    def starts():
        """Number of processes and first iteration of every start that has come to train."""
        said = (out / "log.txt").read_text() if (out / "log.txt").is_file() else ""
        found = re.findall(r"(\d) process\(es\)|Starting training from iteration (\d+)", said)
        pairs = itertools.pairwise(found)
        return [(int(world), int(first)) for (world, _), (_, first) in pairs if world and first]

    def goes_on():
        reached = (out / "last_checkpoint").read_text()
        wait_for(lambda: (out / "last_checkpoint").read_text() != reached, agents[0])

    agents = [agent("first")]
    try:
        wait_for(lambda: (out / "last_checkpoint").is_file(), agents[0])
        agents.append(agent("second"))
        wait_for(lambda: [world for world, _ in starts()][-1] == 2, agents[0])
        goes_on()
        lost = children_of(agents[1].pid)
        for pid in (agents[1].pid, *lost):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: [world for world, _ in starts()][-1] == 1, agents[0])
        goes_on()
        assert [world for world, _ in starts()] == [1, 2, 1]
        iterations = [first for _, first in starts()]
        assert iterations[0] == 0 < iterations[1] < iterations[2]
    finally:
        for process in agents:
            for worker in children_of(process.pid):
                os.kill(worker, signal.SIGKILL)
            process.kill()
            process.wait()


def children_of(pid):
    """torchrun's processes are in groups of their own."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(number) for number in found]


def test_a_job_that_is_started_again_resumes(tmp_path, monkeypatch):
    Run(small(tmp_path, "train.max_iter=1")).train()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run = Run(small(tmp_path, "train.max_iter=2"))
    run.train()
    assert "Starting training from iteration 1" in Path(tmp_path / "log.txt").read_text()
