"""`import fewshot_kit` is quiet and light, and the repairs in `compat` work. Each check has a Python of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

HEAVY = ("learn2learn", "higher", "torchvision", "matplotlib", "gym")


def run(code: str, *flags: str) -> str:
    """Standard output of the code; fails the test on anything on standard error."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_importing_is_quiet_and_light() -> None:
    assert run("import fewshot_kit", "-W", "error") == ""
    code = f"""
        import sys
        from fewshot_kit import algorithms, datasets, engines, models
        print([name for name in {HEAVY} if name in sys.modules])
    """
    assert run(code, "-W", "error").strip() == "[]"


def test_using_learn2learn_and_higher_is_quiet() -> None:
    code = """
        import sys
        from torch import nn
        from fewshot_kit import compat
        learner = compat.learn2learn().algorithms.MAML(nn.Linear(2, 2), lr=0.1).clone()
        assert compat.higher().innerloop_ctx and "gym" in sys.modules
        from torchvision import datasets, models, transforms
    """
    assert run(code, "-W", "error") == ""


def test_operators_that_load_are_used() -> None:
    code = """
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
    assert run(code).strip() == "1.0"


def test_operators_that_do_not_load_are_declared() -> None:
    code = """
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
    assert run(code) == "libcudart.so: cannot open shared object file\n(1, 4, 4)\n"
