"""Many image files at once, on all cores."""

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

CHUNK = 64  # images that a worker decodes between two reports
WORKERS = 16

Source = TypeVar("Source")
Chunk = Callable[[range], np.ndarray]  # numbers of sources -> uint8 [n, C, H, W]


def decode_all(
    sources: Sequence[Source], one: Callable[[Source], np.ndarray], shape: Sequence[int], what: str
) -> Tensor:
    """Every source decoded by `one`, on up to `WORKERS` cores, with a progress bar where it takes long.

    On Linux by forked processes, which need neither a `__main__` guard in the user's script nor a second import of
    torch; elsewhere by threads, which small images win nothing from, since they wait for the interpreter's lock. The
    first failure, in the order of the sources, is raised; nothing goes on in the background after that or after Ctrl-C.

    Args:
        one: gives uint8 `[C, H, W]`; called at several places at once, so that it may share no open file.
        shape: `(C, H, W)`.
        what: the progress bar's title.

    Returns:
        uint8 `[N, C, H, W]`, in the order of the sources.

    Raises:
        InputError: what `one` raises; a worker was ended from outside.
    """
    from tqdm import tqdm

    def decode_chunk(chunk: range) -> np.ndarray:
        return np.stack([one(sources[index]) for index in chunk])

    store = torch.empty(len(sources), *shape, dtype=torch.uint8)
    rows = store.numpy()
    chunks = [range(start, min(start + CHUNK, len(sources))) for start in range(0, len(sources), CHUNK)]
    pool, work = _pool(min(len(chunks), cores(), WORKERS), decode_chunk)
    # disable=None: no bar where stderr is no terminal.
    bar = tqdm(desc=what, total=len(sources), leave=False, delay=1, disable=None, unit=" images")
    try:
        with warnings.catch_warnings():
            # Of forking beside torch's threads: the workers call nothing of torch.
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
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def forking() -> bool:
    """Whether workers are forked: elsewhere than on Linux it is not safe, and a daemon may have no children."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def _pool(workers: int, decode_chunk: Chunk) -> tuple[Executor, Chunk]:
    """Workers, and what to hand them: a process gets its function as it is forked, since no closure can be sent."""
    if workers < 2 or not forking():
        from PIL import Image

        Image.init()  # a thread that meets a new format while another one is loading the plugins would not find it
        return ThreadPoolExecutor(workers, "decoding"), decode_chunk
    fork = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, fork, initializer=_begin, initargs=(decode_chunk,)), _decode_chunk


_own: list[Chunk] = []  # in a forked worker: its function


def _begin(decode_chunk: Chunk) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _own.append(decode_chunk)


def _decode_chunk(chunk: range) -> np.ndarray:
    return _own[0](chunk)


def _end_with_parent() -> None:
    """A parent that is killed tells its workers nothing: they would wait for it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
