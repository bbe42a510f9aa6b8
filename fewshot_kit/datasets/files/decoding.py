"""Decodes many image files on all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError

CHUNK = 64  # images that a worker decodes per report of progress
WORKERS = 16

Source = TypeVar("Source")
Chunk = Callable[[range], np.ndarray]  # takes indices of sources, returns uint8 [n, C, H, W]


def decode_all(
    sources: Sequence[Source], one: Callable[[Source], np.ndarray], shape: Sequence[int], what: str
) -> Tensor:
    """Decodes every source with `one`, on up to `WORKERS` cores, with a progress bar if it takes long.

    On Linux it forks processes, which need no `__main__` guard in the user's script and no second import of torch.
    Elsewhere it uses threads. They do not help with small images, which wait for the interpreter's lock. It raises the
    first failure in the order of the sources. Nothing continues in the background after a failure or Ctrl-C.

    Args:
        one: returns uint8 `[C, H, W]`. It runs in several workers at once, so they must not share an open file.
        shape: `(C, H, W)`.
        what: the progress bar's title.

    Returns:
        uint8 `[N, C, H, W]`, in the order of the sources.

    Raises:
        InputError: as `one` does; a worker was killed.
    """
    from tqdm import tqdm

    def decode_chunk(chunk: range) -> np.ndarray:
        return np.stack([one(sources[index]) for index in chunk])

    store = torch.empty(len(sources), *shape, dtype=torch.uint8)
    rows = store.numpy()
    chunks = [range(start, min(start + CHUNK, len(sources))) for start in range(0, len(sources), CHUNK)]
    pool, work = _pool(min(len(chunks), cores(), WORKERS), decode_chunk)
    # disable=None hides the bar if stderr is no terminal.
    bar = tqdm(desc=what, total=len(sources), leave=False, delay=1, disable=None, unit=" images")
    try:
        with warnings.catch_warnings():
            # Python warns of forking a process with threads such as torch's, but the workers never call torch.
            warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
            found = pool.map(work, chunks)
        for chunk, pixels in zip(chunks, found, strict=True):
            rows[chunk.start : chunk.stop] = pixels
            bar.update(len(chunk))
    except BrokenExecutor:
        raise InputError(
            f"{what[0].upper()}{what[1:]} was cut short: a worker was ended from outside, perhaps for want of memory."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    return store


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def forking() -> bool:
    """Returns whether workers are forked. Forking is safe on Linux only, and a daemon may have no children."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def _pool(workers: int, decode_chunk: Chunk) -> tuple[Executor, Chunk]:
    """Returns the pool of workers and its function. A closure cannot be sent, so processes get it when they fork."""
    if workers < 2 or not forking():
        from PIL import Image

        Image.init()  # else a thread may miss a format while another one is loading Pillow's plugins
        return ThreadPoolExecutor(workers, "decoding"), decode_chunk
    fork = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, fork, initializer=_begin, initargs=(decode_chunk,)), _decode_chunk


_own: list[Chunk] = []  # the function of a forked worker


def _begin(decode_chunk: Chunk) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _own.append(decode_chunk)


def _decode_chunk(chunk: range) -> np.ndarray:
    return _own[0](chunk)


def _end_with_parent() -> None:
    """Ends the worker when its parent ends. The workers of a killed parent would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
