from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from fewshot_kit.runs.plots import curve, running_mean


def metrics(iterations):
    lines = [
        {"iteration": i, "loss": 1.6 * math.exp(-i / 300) + 0.1, "accuracy": 0.9 - 0.7 * 0.99**i}
        for i in range(1, iterations + 1)
    ]
    for line in lines[49::50]:
        line |= {
            "validation_loss": line["loss"] + 0.1,
            "validation_accuracy": line["accuracy"] - 0.05,
            "validation_interval": 0.02,
        }
    return lines


def test_running_mean_by_hand():
    assert running_mean(np.array([1.0, 3.0, 5.0, 9.0]), 2).tolist() == [1, 2, 4, 7]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        metrics(1),
        metrics(400),
        [{"iteration": 1, "loss": 1.0, "validation_mse": 2.0, "validation_loss": 2.0, "validation_interval": 0.1}],
    ],
)
def test_a_picture_of_any_run(tmp_path, lines):
    curve(lines, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_pyplot_and_its_global_state_stay_out(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    curve([], tmp_path / "curve.png")
    assert ("matplotlib.pyplot" in sys.modules) == before
