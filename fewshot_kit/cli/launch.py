"""The command line in several processes: those that torchrun started, or those of `--processes N`."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Sequence

from ..errors import KitError

TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells its processes of the group


def launched() -> bool:
    """Returns whether this process is one of a group."""
    return all(name in os.environ for name in TOLD) and os.environ["WORLD_SIZE"] != "1"


def restarts() -> int:
    """Returns how often torchrun has started its processes anew, after one of them ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def start(processes: int, argv: Sequence[str]) -> int:
    """Runs this command line in several processes on this machine, by PyTorch's launcher.

    Returns:
        The exit status.
    """
    import logging

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
