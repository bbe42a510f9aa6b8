"""Decoding on several workers, processes and threads: order, failures, and how it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_kit.datasets import Transform, load_images
from fewshot_kit.datasets.files.decoding import decode_all
from fewshot_kit.datasets.files.images import decode
from fewshot_kit.errors import InputError


@pytest.fixture(params=["processes", "threads"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("fewshot_kit.datasets.files.decoding.cores", lambda: 3)
    monkeypatch.setattr("fewshot_kit.datasets.files.decoding.CHUNK", 16)
    if request.param == "threads":
        monkeypatch.setattr("fewshot_kit.datasets.files.decoding.forking", lambda: False)
    return request.param


def workers_left() -> list[str]:
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("decoding")]
    return threads + [str(child.pid) for child in multiprocessing.active_children()]


def pixel(index: int) -> np.ndarray:
    return np.full((1, 2, 2), index % 256, np.uint8)


def counted(file: Path, then: Callable[[int], object]) -> Callable[[int], np.ndarray]:
    """What leaves a byte in the file for each call, in whatever process, before it goes on."""

    def one(index: int) -> np.ndarray:
        with file.open("ab") as asked:
            asked.write(b".")
        time.sleep(0.0005)
        then(index)
        return pixel(index)

    return one


def test_many_workers_give_what_one_gives_in_order(tmp_path: Path) -> None:
    suffixes = ["png", "jpg", "webp", "tif", "bmp", "gif"]
    noise = np.random.default_rng(0).integers(0, 256, (150, 9, 7, 3), dtype=np.uint8)
    paths = [tmp_path / f"{i}.{suffixes[i % 6]}" for i in range(150)]
    for path, pixels in zip(paths, noise, strict=True):
        Image.fromarray(pixels).save(path)
    transform = Transform(5, 3, invert=True)
    one_by_one = np.stack([decode(path, transform, str(path)) for path in paths])
    assert np.array_equal(load_images(paths, transform).numpy(), one_by_one)
    assert not workers_left()


def test_the_work_is_where_it_is_said_to_be(kind: str) -> None:
    here = os.getpid()
    found = decode_all(range(100), lambda index: np.full((1, 1, 1), os.getpid() == here, np.uint8), (1, 1, 1), "trying")
    assert found.bool().all() == (kind == "threads") and found.bool().any() == (kind == "threads")


def test_the_first_of_several_corrupt_images_is_named_and_work_stops(tmp_path: Path) -> None:
    def fails(index: int) -> None:
        if index in (37, 300):
            raise InputError(f"The image {index} cannot be read.")

    with pytest.raises(InputError, match=r"^The image 37 cannot be read\.$"):
        decode_all(range(2000), counted(tmp_path / "asked", fails), (1, 2, 2), "decoding")
    assert (tmp_path / "asked").stat().st_size < 500 and not workers_left()


def test_ctrl_c_ends_the_workers(tmp_path: Path) -> None:
    here = os.getpid()

    def stops(index: int) -> None:
        if index == 40:
            os.kill(os.getpid(), signal.SIGINT)  # a terminal's goes to all of the group
            os.kill(here, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        decode_all(range(2000), counted(tmp_path / "asked", stops), (1, 2, 2), "decoding")
    assert (tmp_path / "asked").stat().st_size < 500 and not workers_left()


@pytest.mark.parametrize("kind", ["processes"], indirect=True)  # a thread cannot be killed by itself
def test_a_worker_that_is_killed(kind: str) -> None:
    def killed(index: int) -> np.ndarray:
        if index == 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return pixel(index)

    with pytest.raises(InputError) as caught:
        decode_all(range(200), killed, (1, 2, 2), "decoding Omniglot")
    said = "Decoding Omniglot was cut short: a worker was ended from outside, perhaps for want of memory."
    assert str(caught.value) == said and not workers_left()


@pytest.mark.parametrize("kind", ["processes"], indirect=True)
def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path, kind: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"""
import os, time
from pathlib import Path
import numpy as np
from fewshot_kit.datasets.files import decoding

def one(index):
    Path({str(tmp_path)!r}, f"{{os.getpid()}}.worker").touch()
    time.sleep(0.01)
    return np.zeros((1, 1, 1), np.uint8)

decoding.cores = lambda: 2
decoding.decode_all(range(100_000), one, (1, 1, 1), "decoding")
""")
    parent = subprocess.Popen([sys.executable, script])
    waited = time.monotonic() + 60
    while len(workers := [int(file.stem) for file in tmp_path.glob("*.worker")]) < 2:
        assert time.monotonic() < waited and parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    while any(running(worker) for worker in workers):
        assert time.monotonic() < waited
        time.sleep(0.05)


def running(process: int) -> bool:
    """Whether it is there, and not only waiting for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kind", ["processes"], indirect=True)
def test_a_script_needs_no_guard_and_sees_no_warning(tmp_path: Path, kind: str) -> None:
    paths = [str(tmp_path / f"{index}.png") for index in range(200)]
    for path in paths:
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    script = tmp_path / "script.py"
    script.write_text(
        "from fewshot_kit.datasets import Transform, load_images\nfrom fewshot_kit.datasets.files import decoding\n"
        f"decoding.cores = lambda: 3\nprint(load_images({paths!r}, Transform(4)).shape)\n"
    )
    seen = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=True)
    assert seen.stdout == "torch.Size([200, 1, 4, 4])\n" and not seen.stderr
