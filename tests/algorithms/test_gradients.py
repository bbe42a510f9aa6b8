"""Meta-gradients in float64 against an independent plain-autograd statement and against finite differences."""

import pytest
import torch
from torch.nn import functional as F

from fewshot_kit import algorithms, engines
from fewshot_kit.episodes import Episode, unstack

INPUTS, HIDDEN, WAYS, LR, STEPS = 6, 7, 3, 0.3, 3
NAMES = ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]  # linear, batch norm, SiLU, head


def network():
    model = torch.nn.Sequential(
        torch.nn.Linear(INPUTS, HIDDEN), torch.nn.BatchNorm1d(HIDDEN), torch.nn.SiLU(), torch.nn.Linear(HIDDEN, WAYS)
    ).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def batch(tasks=2, shots=2, queries=3):
    generator = torch.Generator().manual_seed(5)
    y = [torch.arange(WAYS).repeat_interleave(n).repeat(tasks, 1) for n in (shots, queries)]
    x = [torch.randn(tasks, WAYS * n, INPUTS, generator=generator, dtype=torch.float64) for n in (shots, queries)]
    return Episode(x[0], y[0], x[1], y[1])


def body(p, x):
    """The same network up to its head, written out: batch norm by the batch's mean and biased variance."""
    h = x @ p["0.weight"].T + p["0.bias"]
    h = (h - h.mean(0)) / (((h - h.mean(0)) ** 2).mean(0) + 1e-5).sqrt() * p["1.weight"] + p["1.bias"]
    return h * torch.sigmoid(h)


def forward(p, x):
    return body(p, x) @ p["3.weight"].T + p["3.bias"]


def adapted(p, task, moving, first_order):
    for _ in range(STEPS):
        loss = F.cross_entropy(forward(p, task.support_x), task.support_y)
        grads = torch.autograd.grad(loss, [p[n] for n in moving], create_graph=not first_order, retain_graph=True)
        p = {**p, **{n: p[n] - LR * g for n, g in zip(moving, grads, strict=True)}}
    return p


def meta_loss(p, tasks, moving, first_order=False):
    losses = [F.cross_entropy(forward(adapted(p, t, moving, first_order), t.query_x), t.query_y) for t in tasks]
    return sum(losses) / len(losses)


MOVING = {"maml": NAMES, "anil": ["3.weight", "3.bias"], "boil": NAMES[:4]}
CASES = pytest.mark.parametrize(
    "name, first_order",
    [("maml", False), ("maml", True), ("anil", False), ("anil", True), ("boil", False), ("boil", True)],
)
ENGINES = pytest.mark.parametrize("engine", ["loop", "reference"])


def kit_gradient(name, first_order, engine):
    algorithm = algorithms.create(name, model=network(), lr=LR, steps=STEPS, first_order=first_order)
    losses, scores = engines.meta_backward(algorithm, batch(), engine)
    return losses, scores, {n: p.grad for n, p in algorithm.model.named_parameters()}


def relative_error(ours, theirs):
    ours, theirs = (torch.cat([tensors[n].flatten() for n in NAMES]) for tensors in (ours, theirs))
    return ((ours - theirs).norm() / theirs.norm()).item()


@CASES
@ENGINES
def test_equals_plain_autograd(name, first_order, engine):
    losses, scores, gradient = kit_gradient(name, first_order, engine)
    p = {n: v.detach().clone().requires_grad_() for n, v in network().named_parameters()}
    tasks = unstack(batch())
    loss = meta_loss(p, tasks, MOVING[name], first_order)
    expected = dict(zip(NAMES, torch.autograd.grad(loss, [p[n] for n in NAMES]), strict=True))
    assert relative_error({"x": losses.mean()} | gradient, expected) < 1e-8
    torch.testing.assert_close(losses.mean(), loss.detach(), rtol=1e-10, atol=0)
    first = forward(adapted(p, tasks[0], MOVING[name], first_order), tasks[0].query_x)
    torch.testing.assert_close(scores[0], first.detach(), rtol=1e-9, atol=1e-10)


def finite_differences(function, p, step=1e-5):
    """Central differences of fourth order, coordinate by coordinate."""
    gradient = {}
    for name, value in p.items():
        flat = torch.zeros(value.numel(), dtype=value.dtype)
        for i in range(value.numel()):
            nudge = torch.zeros_like(flat)
            nudge[i] = step
            nudge = nudge.view_as(value)
            at = [function({**p, name: value + k * nudge}).item() for k in (2, 1, -1, -2)]
            flat[i] = (-at[0] + 8 * at[1] - 8 * at[2] + at[3]) / (12 * step)
        gradient[name] = flat.view_as(value)
    return gradient


@CASES
def test_equals_finite_differences(name, first_order):
    _, _, gradient = kit_gradient(name, first_order, "loop")
    p = {n: v.detach().clone() for n, v in network().named_parameters()}
    tasks = unstack(batch())
    if first_order:  # by definition: the slope of the query loss at the adapted parameters
        expected = {n: torch.zeros_like(v) for n, v in p.items()}
        for task in tasks:
            leaves = {n: v.clone().requires_grad_() for n, v in p.items()}
            there = {n: v.detach() for n, v in adapted(leaves, task, MOVING[name], True).items()}
            slope = finite_differences(lambda q, t=task: F.cross_entropy(forward(q, t.query_x), t.query_y), there)
            expected = {n: expected[n] + slope[n] / len(tasks) for n in expected}
    else:

        def whole(q):
            return meta_loss({n: v.requires_grad_() for n, v in q.items()}, tasks, MOVING[name]).detach()

        expected = finite_differences(whole, p)
    assert relative_error(gradient, expected) < 1e-5


def test_first_and_second_order_differ():
    """A guard on the tests above: a meta-gradient cut silently would make both orders agree."""
    _, _, second = kit_gradient("maml", False, "loop")
    _, _, first = kit_gradient("maml", True, "loop")
    assert relative_error(first, second) > 1e-2


def test_the_head_stays_and_the_body_stays():
    task = unstack(batch())[0]
    for name, moving in MOVING.items():
        algorithm = algorithms.create(name, model=network(), lr=LR, steps=STEPS)
        state = algorithm.adapt(task.support_x, task.support_y)
        assert sorted(state["parameters"]) == sorted(moving)
        before = dict(algorithm.model.named_parameters())
        assert all(not torch.equal(v, before[n]) for n, v in state["parameters"].items())


def test_fine_tuning_is_adam_on_a_copy():
    """Against torch's own Adam, step by step."""
    task = unstack(batch())[0]
    algorithm = algorithms.create("finetune", model=network(), lr=0.05, steps=7)
    ours = algorithm.adapt(task.support_x, task.support_y)["parameters"]
    copy = network().train()
    optimizer = torch.optim.Adam(copy.parameters(), lr=0.05)
    for _ in range(7):
        optimizer.zero_grad()
        F.cross_entropy(copy(task.support_x), task.support_y).backward()
        optimizer.step()
    for name, parameter in copy.named_parameters():
        torch.testing.assert_close(ours[name], parameter, rtol=1e-7, atol=1e-9)


def test_more_steps_bring_the_support_loss_down():
    task = unstack(batch())[0]
    losses = []
    for steps in (0, 1, 5, 20):
        algorithm = algorithms.create("maml", model=network(), lr=0.1, steps=steps)
        state = algorithm.adapt(task.support_x, task.support_y)
        losses.append(F.cross_entropy(algorithm.predict(state, task.support_x), task.support_y).item())
    assert losses == sorted(losses, reverse=True)


def test_anil_computes_the_features_once():
    task = unstack(batch())[0]
    model, calls = network(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    algorithms.create("anil", model=model, lr=LR, steps=5).adapt(task.support_x, task.support_y)
    assert len(calls) == 1


def test_anil_runs_the_whole_model_where_it_does_not_end_with_its_head():
    """Something after the head, or a weight that the body uses too."""

    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = torch.nn.Linear(INPUTS, INPUTS), torch.nn.Linear(INPUTS, INPUTS)
            self.head.weight = self.first.weight

        def forward(self, x):
            return self.head(torch.tanh(self.first(x)))

    after = torch.nn.Sequential(network(), torch.nn.LogSoftmax(-1))
    for model in (after, Tied().double()):
        algorithm = algorithms.create("anil", model=model, lr=LR, steps=2)
        ours, reference = [], []
        for engine, gradient in (("loop", ours), ("reference", reference)):
            algorithm.zero_grad()
            engines.meta_backward(algorithm, batch(), engine)
            gradient += [p.grad for p in algorithm.parameters()]
        for one, other in zip(ours, reference, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
