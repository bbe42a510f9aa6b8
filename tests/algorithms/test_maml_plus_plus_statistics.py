"""MAML++'s running statistics of batch norm, one for each step: collected in training, and read by `running`."""

import pytest
import torch
from test_maml_plus_plus import STEPS, batch, forward, make, tensors
from torch.nn import functional as F

from fewshot_kit import engines
from fewshot_kit.episodes import unstack


def tables(algorithm):
    """Running means and variances of every step `[steps, 4]`, set to something that no batch gives."""
    algorithm.model[1].running_mean.copy_(torch.tensor([0.5, -0.5, 0.1, 0.0]))
    algorithm.model[1].running_var.copy_(torch.tensor([0.5, 2.0, 1.0, 3.0]))
    for table in algorithm.stored.values():
        algorithm.get_buffer(table).add_(torch.arange(1.0, len(algorithm.rates))[:, None] / 10)
    own = [algorithm.model[1].running_mean, algorithm.model[1].running_var]
    later = [algorithm.get_buffer(table) for table in algorithm.stored.values()]
    return [torch.cat([first[None], rows]) for first, rows in zip(own, later, strict=True)]


def moved_by(task, algorithm, counting):
    """The tables after a task: each step's support set, then, of the `counting` last ones, its queries."""
    means, variances = (table.clone() for table in tables(algorithm))
    start, rates, norms = tensors(algorithm)
    p = start
    for step in range(STEPS):
        norm = [table[step] for table in norms]
        loss = F.cross_entropy(forward(p, task.support_x, *norm), task.support_y)
        passes = [F.conv2d(task.support_x, p["0.weight"], p["0.bias"])]
        slopes = torch.autograd.grad(loss, list(p.values()), create_graph=True)
        p = {n: v - rates[step, i] * g for i, ((n, v), g) in enumerate(zip(p.items(), slopes, strict=True))}
        if step >= STEPS - counting:
            passes.append(F.conv2d(task.query_x, p["0.weight"], p["0.bias"]))
        for h in passes:
            means[step] = 0.9 * means[step] + 0.1 * h.detach().mean((0, 2, 3))
            variances[step] = 0.9 * variances[step] + 0.1 * h.detach().var((0, 2, 3))
    return means, variances


@pytest.mark.parametrize("progress, counting", [(0.0, 3), (0.1, 1)])
@pytest.mark.parametrize("batch_norm", ["running", "transductive"])
@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_every_step_has_running_statistics_of_its_own(engine, batch_norm, progress, counting):
    expected = [moved_by(task, make(), counting) for task in unstack(batch())]
    algorithm = make(batch_norm=batch_norm).train()
    tables(algorithm)
    algorithm.anneal(progress)
    losses, _ = engines.meta_backward(algorithm, batch(), engine)
    for i, own in enumerate((algorithm.model[1].running_mean, algorithm.model[1].running_var)):
        found = torch.cat([own[None], algorithm.get_buffer(f"stored_{i}")])
        torch.testing.assert_close(found, torch.stack([each[i] for each in expected]).mean(0), rtol=1e-10, atol=1e-12)
    other = make(batch_norm="transductive").eval()
    other.anneal(progress)
    torch.testing.assert_close(losses, engines.meta_backward(other, batch(), engine)[0], rtol=1e-12, atol=0)
    assert torch.equal(other.model[1].running_mean, torch.zeros(4).double())  # in eval mode nothing moves


@pytest.mark.parametrize("steps", [1, 2, STEPS, STEPS + 2])
def test_running_reads_the_last_steps_statistics_for_queries(steps):
    algorithm, [task] = make(batch_norm="running").eval(), unstack(batch(1))
    means, variances = tables(algorithm)
    p, rates, norms = tensors(algorithm)

    for row in [0, 1, 2, 2, 2][:steps]:
        loss = F.cross_entropy(forward(p, task.support_x, *(table[row] for table in norms)), task.support_y)
        slopes = torch.autograd.grad(loss, list(p.values()))
        p = {n: v - rates[row, i] * g for i, ((n, v), g) in enumerate(zip(p.items(), slopes, strict=True))}
    last = min(steps, STEPS) - 1
    mean, variance, weight, bias = (table[last].view(1, -1, 1, 1) for table in (means, variances, *norms))
    h = (F.conv2d(task.query_x, p["0.weight"], p["0.bias"]) - mean) / (variance + 1e-5).sqrt() * weight + bias
    expected = ((h * torch.sigmoid(h)).flatten(1) @ p["4.weight"].T + p["4.bias"]).detach()
    algorithm.steps = steps
    with torch.no_grad():
        state = algorithm.adapt(task.support_x, task.support_y)
        scores = algorithm.predict(state, task.query_x)
        alone = torch.cat([algorithm.predict(state, image[None]) for image in task.query_x])
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(alone, scores)
