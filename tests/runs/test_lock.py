"""One process at a time trains in a run folder."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import torch
from small_runs import KillAt, Killed, centroids, lines, same, train

from fewshot_kit.errors import InputError
from fewshot_kit.runs.checkpoints import load
from fewshot_kit.runs.lock import training_lock
from fewshot_kit.training.hooks import Hooks

TESTS = Path(__file__).resolve().parents[1]
TRAIN = """
import sys, time
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads({threads})  # another number would give other last bits
from small_runs import centroids, train
from fewshot_kit.training.hooks import Hooks

class Slow(Hooks):
    def on_iteration(self, training):
        print(training.iteration, flush=True)
        time.sleep(0 if training.iteration < 5 else 60)

train(centroids(), run={run!r}, iterations=10, hooks=[Slow()])
"""


@pytest.fixture
def elsewhere(tmp_path):
    """A run that another process trains; it has written four iterations or more."""
    text = TRAIN.format(tests=str(TESTS), run=str(tmp_path / "run"), threads=torch.get_num_threads())
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", text], **piped) as process:
        for expected in range(1, 6):
            assert process.stdout.readline() == b"%d\n" % expected
        yield process
        process.kill()


def leftovers(run):
    return sorted(path.name for path in run.rglob(".*"))


def test_a_second_process_is_refused_by_name_and_harms_nothing(elsewhere, tmp_path):
    run = tmp_path / "run"
    before = lines(run)
    said = f"run is being trained by process {elsewhere.pid} on {socket.gethostname()}; wait until that ends, or stop"
    for resume in (True, False):
        with pytest.raises(InputError, match=said):
            train(centroids(), run=run, iterations=10, resume=resume)
    assert lines(run) == before and elsewhere.poll() is None
    load(run, algorithm=centroids())  # who reads needs no lock


def test_what_a_dead_process_held_is_taken_over(elsewhere, tmp_path):
    whole, run = centroids(), tmp_path / "run"
    train(whole, run=tmp_path / "whole", iterations=10)
    elsewhere.kill()
    elsewhere.wait()
    assert leftovers(run) == [".lock", ".owner"]
    (run / "checkpoints" / ".last.safetensors.123.tmp").write_bytes(b"half")
    algorithm = centroids()
    train(algorithm, run=run, iterations=10, resume=True)
    assert same(algorithm, whole) and lines(run) == lines(tmp_path / "whole") and leftovers(run) == []


def test_a_stopped_process_lets_go(elsewhere, tmp_path):
    elsewhere.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    elsewhere.send_signal(signal.SIGINT)  # it sleeps for a minute: the second signal stops it at once
    elsewhere.wait(20)
    assert leftovers(tmp_path / "run") == []
    train(centroids(), run=tmp_path / "run", iterations=10, resume=True)


def test_an_error_lets_go_and_the_end_too(tmp_path):
    run = tmp_path / "run"

    class Held(Hooks):
        def on_start(self, training):
            owner = json.loads((run / ".owner").read_text())
            assert owner == {"process": os.getpid(), "host": socket.gethostname()}

        def on_iteration(self, training):
            with pytest.raises(InputError, match=f"is being trained by process {os.getpid()} on"):
                train(centroids(), run=run, iterations=4, resume=True)

    class Broken(Hooks):
        def on_start(self, training):
            raise Killed

    with pytest.raises(Killed):
        train(centroids(), run=run, iterations=2, hooks=[Broken()])
    train(centroids(), run=run, iterations=2, resume=True, hooks=[Held()])
    with pytest.raises(Killed):
        train(centroids(), run=run, iterations=4, resume=True, hooks=[KillAt(3)])
    with pytest.raises(InputError, match="training.seed was 0 and is now 1"):
        train(centroids(), run=run, iterations=4, resume=True, seed=1)
    train(centroids(), run=run, iterations=4, resume=True)
    assert leftovers(run) == []


@pytest.mark.parametrize("failure", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, failure):
    def refuse(*args, **kwargs):
        raise failure

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.warns(UserWarning, match="run is on a file system without locks, so nothing keeps a second process"):
        result = train(centroids(), run=tmp_path / "run", iterations=1)
    assert result.iterations == 1 and leftovers(tmp_path / "run") == []


def test_a_lock_of_which_nobody_knows_the_owner(tmp_path):
    for content in (None, "", "[]", '{"process": "x"}'):
        with training_lock(tmp_path) as held:
            assert held
            (tmp_path / ".owner").unlink()
            if content is not None:
                (tmp_path / ".owner").write_text(content)
            with pytest.raises(InputError, match="is being trained by another process;"), training_lock(tmp_path):
                pass
    assert leftovers(tmp_path) == []
