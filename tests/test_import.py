"""`import fewshot_kit` is quiet and light, and the repairs in `compat` work. Each check has a Python of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

HEAVY = ("learn2learn", "higher", "torchvision", "matplotlib", "gym")

LIGHT = f"""
    import sys
    import fewshot_kit
    from fewshot_kit import algorithms, datasets, engines, models
    print([name for name in {HEAVY} if name in sys.modules])
"""
QUIET = """
    import sys
    from torch import nn
    from fewshot_kit import compat
    learner = compat.learn2learn().algorithms.MAML(nn.Linear(2, 2), lr=0.1).clone()
    assert compat.higher().innerloop_ctx and "gym" in sys.modules
    from torchvision import datasets, models, transforms
"""
LOADED = """
    import torch
    from fewshot_kit import compat

    def load_library(path):  # what loading the real ones does
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", schema)
            torch.library.impl(f"torchvision::{name}", "cpu", lambda dets, scores, iou: dets + 1)

    torch.ops.load_library = load_library
    compat._declare_torchvision_operators()
    print(torch.ops.torchvision.nms(torch.zeros(1), torch.zeros(1), 0.5).item())
"""
DECLARED = """
    import torch
    from fewshot_kit import compat

    def load_library(path):
        raise OSError("libcudart.so: cannot open shared object file")

    torch.ops.load_library = load_library
    compat.torchvision()
    import torchvision
    assert torch.ops.torchvision.nms and torch.ops.torchvision.qnms
    print(compat.load_torchvision_operators())
    print(tuple(torchvision.transforms.Resize(4)(torch.zeros(1, 8, 8)).shape))
"""
FLAGS = {LIGHT: ("-W", "error"), QUIET: ("-W", "error"), LOADED: (), DECLARED: ()}


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All of them at once: most of their time is spent on importing PyTorch."""
    pipe = subprocess.PIPE
    running = {
        code: subprocess.Popen(
            [sys.executable, *flags, "-c", textwrap.dedent(code)], stdout=pipe, stderr=pipe, text=True
        )
        for code, flags in FLAGS.items()
    }
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "code, printed",
    [
        pytest.param(LIGHT, "[]\n", id="importing is quiet and light"),
        pytest.param(QUIET, "", id="using learn2learn and higher is quiet"),
        pytest.param(LOADED, "1.0\n", id="operators that load are used"),
        pytest.param(
            DECLARED,
            "libcudart.so: cannot open shared object file\n(1, 4, 4)\n",
            id="operators that do not load are declared",
        ),
    ],
)
def test_in_a_python_of_its_own(started: dict[str, subprocess.Popen[str]], code: str, printed: str) -> None:
    output, errors = started[code].communicate()
    assert (started[code].returncode, errors) == (0, ""), errors
    assert output == printed
