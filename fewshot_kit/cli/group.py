"""The process group of a command that several processes run, and which of them says what is wrong."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ..engines import Processes
from ..engines.processes import LostError
from ..errors import InputError, KitError
from .launch import launched, restarts

PATIENCE = datetime.timedelta(seconds=5)  # how long a process waits for another one to say what is wrong


@contextlib.contextmanager
def process_group() -> Iterator[Processes]:
    """Joins the process group, if this process is one of several, and leaves it at the end.

    Of an error that several processes meet, one alone prints the sentence; the others exit without a word.
    """
    if not launched():
        yield Processes()
        return
    if torch.cuda.is_available():  # "cuda" is then this process's own GPU
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    found, rank, size = next(iter(rendezvous("env://")))
    store = PrefixStore(f"start {restarts()}", found)  # torchrun may keep the store, with addresses of ended processes
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=size)
    try:
        yield Processes.current()
    except (KitError, KeyboardInterrupt) as error:
        if not _first_to_say(store, error, rank):
            raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from None
        if rank and isinstance(error, InputError):
            raise InputError(f"Process {rank} of {size}: {error}") from error
        raise
    finally:
        dist.destroy_process_group()


def _first_to_say(store: Any, error: BaseException, rank: int) -> bool:
    """Returns whether this process prints the error.

    It leaves that to the first process, if that meets the same one. A lost process is told of only if it said nothing.
    """
    key = f"said {error}"
    try:
        if rank or isinstance(error, LostError):
            with contextlib.suppress(dist.DistStoreError):
                store.wait(["said"] if isinstance(error, LostError) else [key], PATIENCE)
                return False
        store.set("said", "")
        return bool(store.compare_set(key, "", str(rank)) == str(rank).encode())
    except RuntimeError:  # the store ended with its process
        return True
