"""The memory of a memory-augmented network, by hand: least used, write, read, usage."""

import numpy as np
import torch

from fewshot_kit.algorithms.mann.memory import access, blank, least_used, read_weights, write


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_least_used_rows_one_after_another():
    found = least_used(tensor([[0.3, 0.1, 0.2, 0.1], [0.0, 0.0, 0.0, 0.0]]), 3)
    assert found.argmax(-1).tolist() == [[1, 3, 2], [0, 1, 2]]
    assert found.sum(-1).eq(1).all()


def test_writing_zeroes_the_least_used_and_goes_on_where_was_read():
    memory = {
        "rows": tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]),
        "usage": tensor([[0.9, 0.2, 0.5]]),
        "weights": tensor([[[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]]),
    }
    rows, weights = write(memory, tensor([[[1.0, -1.0], [2.0, 0.0]]]), tensor([[0.2, 0.75]]))
    # Head 0: 0.2 * (0.5, 0, 0.5) + 0.8 * row 1; head 1: 0.75 * (0, 0, 1) + 0.25 * row 2.
    np.testing.assert_allclose(weights[0], [[0.1, 0.8, 0.1], [0.0, 0.0, 1.0]], rtol=1e-12)
    # Rows 1 and 2 were set to 0; then 0.1 (1, -1) on row 0, 0.8 (1, -1) on row 1, 0.1 (1, -1) + (2, 0) on row 2.
    np.testing.assert_allclose(rows[0], [[1.1, 1.9], [0.8, -0.8], [2.1, -0.1]], rtol=1e-12)


def test_reading_by_cosine():
    rows, keys = tensor([[[2.0, 0.0], [0.0, 0.5], [3.0, 4.0]]]), tensor([[[1.0, 0.0], [0.0, -7.0]]])
    cosines = np.array([[1.0, 0.0, 0.6], [0.0, -1.0, -0.8]])
    powers = np.exp(np.array([[1.0], [3.0]]) * cosines)
    expected = powers / powers.sum(1, keepdims=True)
    np.testing.assert_allclose(read_weights(rows, keys, tensor([1.0, 3.0]))[0], expected, rtol=1e-12)


def test_usage_decays_and_grows_by_reads_and_writes():
    memory = blank(3, 2, 1, torch.zeros((), dtype=torch.float64))
    assert memory["usage"].tolist() == [[0, 0, 0]] and memory["rows"].unique().tolist() == [0.01]
    flat = tensor([0.0])  # a strength of 0 reads all rows alike
    key = tensor([[[1.0, 0.0]]])
    usage, chosen = np.zeros(3), []
    for _ in range(4):
        chosen.append(int(np.argmin(usage)))
        memory, read = access(memory, key, flat, key, tensor([[0.0]]), 0.5)
        usage = 0.5 * usage + np.eye(3)[chosen[-1]] + 1 / 3
        np.testing.assert_allclose(memory["usage"][0], usage, rtol=1e-12)
        np.testing.assert_allclose(read[0, 0], memory["rows"][0].mean(0), rtol=1e-12)
    assert chosen == [0, 1, 2, 0]
