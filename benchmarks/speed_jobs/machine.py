"""What the figures were measured on: the machine's description, its arithmetic, its memory, and the stopwatch."""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torch", "learn2learn", "higher", "torchopt", "jax", "easyfsl", "scikit-learn", "numpy")
MEGABYTE = 2**20


def describe(device: torch.device) -> dict[str, Any]:
    """The device, the processor, threads, versions, the load when the measuring began, and the date."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: version for name in LIBRARIES if (version := _version(name))},
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def synchronise(device: torch.device) -> None:
    """Wait for the GPU; a CPU has nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stopwatch(call: Callable[[], Any], device: torch.device, times: int = 1) -> float:
    """Seconds that one call takes, of `times` in a row. Garbage of others is collected before."""
    gc.collect()
    synchronise(device)
    started = time.perf_counter()
    for _ in range(times):
        call()
    synchronise(device)
    return (time.perf_counter() - started) / times


def matmul_rate(device: torch.device, tries: int = 5) -> float:
    """FLOP per second of the best of some large float32 matrix products."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = torch.rand(2, size, size, device=device)
    torch.mm(left, right)
    return float(2 * size**3 / min(stopwatch(lambda: torch.mm(left, right), device) for _ in range(tries)))


def flop(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call, forwards and backwards."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


class Memory:
    """MB that this process takes from here on: on the GPU, where the device is one."""

    def __init__(self, device: torch.device) -> None:
        gc.collect()
        self.on_gpu = device.type == "cuda"
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with contextlib.suppress(OSError):  # Linux alone: begin a new maximum
                Path("/proc/self/clear_refs").write_text("5")
        self.baseline = torch.cuda.memory_allocated() / MEGABYTE if self.on_gpu else _status("VmRSS")

    def peak(self) -> float:
        """The most since the start."""
        return torch.cuda.max_memory_allocated() / MEGABYTE if self.on_gpu else _status("VmHWM")


def _status(field: str) -> float:
    # Not getrusage where it can be helped: its maximum is handed down by the process that started this one.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        unit = 1 if platform.system() == "Darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE)
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
