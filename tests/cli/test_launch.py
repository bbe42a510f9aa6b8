"""The command line in several processes: torchrun, `--processes N`, kills, restarts, two hosts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import TINY

# Ends process 1 in its fourth iteration, unless it was started anew; waits in the fifth, where it is told to.
FRAGILE = """
import os, signal, time
from fewshot_kit import algorithms
from fewshot_kit.algorithms import MAML

@algorithms.register("fragile")
class Fragile(MAML):
    def anneal(self, progress):
        if progress == 0.5 and os.environ.get("RANK") == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
            if os.environ.get("FRAGILE") == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ.get("FRAGILE") == "wait":
                open("waiting", "w").close()
                time.sleep(1)
"""
LINE = f"train {TINY} --iterations 6 --validate-every 2 --meta-batch 3 --exact --algorithm fragile --plugin plugin.py"
KIT = [sys.executable, "-m", "fewshot_kit"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the plug-in, and the run `whole` of one process that nothing stopped."""
    folder = tmp_path_factory.mktemp("launch")
    (folder / "plugin.py").write_text(FRAGILE)
    done = run([*KIT, *LINE.split(), "--run", "whole"], folder)
    assert done.returncode == 0, done.stderr
    return folder


def begun(command: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    said = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(command, cwd=folder, env=said, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    process = begun(command, folder, **environment)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def same_run(folder: Path, name: str) -> bool:
    """Whether a run has the bits of `whole`: metrics, weights, and the test's figures."""
    one, other = folder / "whole", folder / name
    tests = [json.loads((each / "results.json").read_text())["test"] for each in (one, other)]
    files = ["metrics.jsonl", "checkpoints/last.safetensors", "checkpoints/best.safetensors"]
    return tests[0] == tests[1] and all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def test_torchrun_starts_a_killed_process_anew_and_nothing_is_lost(folder):
    group = [*TORCHRUN, "--nproc-per-node=2", "--max-restarts=2", "-m", "fewshot_kit", "--"]
    done = run([*group, *LINE.split(), "--run", "restarted"], folder, FRAGILE="die")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Unseen classes of glyphs") == 1
    assert json.loads((folder / "restarted" / "results.json").read_text())["resumed"]
    assert same_run(folder, "restarted")


def test_a_group_that_lost_a_process_says_so_and_goes_on_with_one_process(folder):
    """The number of processes may be another one on resuming."""
    done = run([*KIT, *LINE.split(), "--run", "lost", "--processes", "2"], folder, FRAGILE="die")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "--resume" in done.stderr
    assert run([*KIT, *LINE.split(), "--run", "lost", "--resume"], folder).returncode == 0
    assert same_run(folder, "lost")


@pytest.mark.long
def test_sigterm_stops_all_processes_after_the_same_iteration(folder):
    process = begun([*KIT, *LINE.split(), "--run", "stopped", "--processes", "2"], folder, FRAGILE="wait")
    until = time.monotonic() + 120
    while not (folder / "waiting").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert len((folder / "stopped" / "metrics.jsonl").read_text().splitlines()) < 6
    assert run([*KIT, *LINE.split(), "--run", "stopped", "--resume", "--processes", "2"], folder).returncode == 0
    assert same_run(folder, "stopped")


def test_a_mistake_is_said_once(folder):
    done = run([*KIT, *LINE.split(), "--run", "whole", "--processes", "2"], folder)
    assert done.returncode == 2
    assert done.stderr.count("The run folder whole exists") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_two_hosts_find_each_other(folder):
    """Two agents of torchrun on this machine, with a process each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}"]
    command = [*TORCHRUN, *meeting, "-m", "fewshot_kit", "--", *LINE.split(), "--run", "hosts"]
    hosts = [begun(command, folder) for _ in range(2)]
    said = [host.communicate(timeout=300) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], said
    assert sum(out.count("Unseen classes of glyphs") for out, _ in said) == 1
    assert same_run(folder, "hosts")


def test_evaluation_is_shared(folder):
    alone = run([*KIT, "evaluate", "whole", "--plugin", "plugin.py", "--episodes", "40", "--json"], folder)
    shared = ["evaluate", "whole", "--plugin", "plugin.py", "--episodes", "40", "--json"]
    group = run([*TORCHRUN, "--nproc-per-node=2", "-m", "fewshot_kit", "--", *shared], folder)
    assert json.loads(group.stdout) == json.loads(alone.stdout)


@pytest.mark.parametrize("count", ["0", "-1"])
def test_fewer_than_one_process_are_refused(cli, count):
    said = cli(f"train {TINY} --processes {count}")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "processes" in said.err
