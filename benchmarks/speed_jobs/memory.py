"""Peak memory of one contestant, in a process of its own: `python -m speed_jobs.memory JOB CONTESTANT`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import torch

from . import machine
from .jobs import JOBS, Settings

TIMEOUT = 600.0


def of(job: str, contestant: str, settings: Settings) -> dict[str, float]:
    """MB at the peak, and with everything loaded before the first call; empty where the process came to nothing."""
    command = [sys.executable, "-m", f"{__package__}.memory", job, contestant, "--device", str(settings.device)]
    command += ["--root", str(settings.root)] if settings.root else []
    here = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return {}
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def main(argv: list[str] | None = None) -> int:
    """Do the job once and print what it took."""
    parser = argparse.ArgumentParser(description="Measures one contestant's peak memory.")
    parser.add_argument("job", choices=list(JOBS))
    parser.add_argument("contestant")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--root")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    settings = Settings(torch.device(arguments.device), arguments.root)
    build = JOBS[arguments.job].contest
    assert build is not None, f"{arguments.job} grows, and has no memory of its own"
    contest = build(settings)
    (contestant,) = [one for one in contest.contestants if one.name == arguments.contestant]
    contestant.load()  # the baseline is after the imports and the data
    memory = machine.Memory(settings.device)
    prepared = contestant.prepare()
    prepared.call()
    print(json.dumps({"peak": memory.peak(), "baseline": memory.baseline}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
