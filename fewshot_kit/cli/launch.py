"""The command line in several processes: those that torchrun started, or those of `--processes N`."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ..engines import Processes
from ..engines.processes import LostError
from ..errors import InputError, KitError

TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells its processes of the group
PATIENCE = datetime.timedelta(seconds=5)  # how long a process waits for another one to say what is wrong


def launched() -> bool:
    """Returns whether this process is one of a group."""
    return all(name in os.environ for name in TOLD) and os.environ["WORLD_SIZE"] != "1"


def restarts() -> int:
    """Returns how often torchrun has started its processes anew, after one of them ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


@contextlib.contextmanager
def process_group() -> Iterator[Processes]:
    """Joins the process group, if this process is one of several, and leaves it at the end.

    Of an error that several processes meet, one alone prints the sentence; the others exit without a word.
    """
    if not launched():
        yield Processes()
        return
    import torch

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


def start(processes: int, argv: Sequence[str]) -> int:
    """Runs this command line in several processes on this machine, by PyTorch's launcher.

    Returns:
        The exit status.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes say what is wrong
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "fewshot_kit", *argv)
    except ChildFailedError as error:
        failures = list(error.failures.values())
        status = next((failure.exitcode for failure in failures if failure.exitcode > 0), None)
        if status is not None:
            return int(status)
        raise KitError(
            f"One of the {processes} processes was ended by signal {-failures[0].exitcode}; go on with --resume."
        ) from None
    except SignalException as stopped:
        raise KeyboardInterrupt(f"Stopped by {stopped.sigval.name}; go on with --resume.") from None
    return 0
