"""MAML on 2D navigation: both gradient steps against plain ones, and the script."""

import json
import math
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parents[2] / "examples"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def small(navigation):
    """A policy in float64 and walks of it to three goals."""
    policy = navigation.Policy(seed=0)
    goals = np.array([[0.3, 0.1], [-0.4, 0.2], [0.02, -0.03]])
    walks = navigation.walk(policy, policy.copies(3), goals, 4, generator())
    return policy.double(), navigation.Walks(*(tensor.double() for tensor in walks)), goals


def mean_of(parameters, positions):
    """The policy's mean action, written out."""
    hidden = positions
    for layer in ("hidden.0", "hidden.2"):
        hidden = hidden @ parameters[f"mean.{layer}.weight"].T + parameters[f"mean.{layer}.bias"]
        hidden = hidden * (hidden > 0)  # at the origin it is 0, where the slope of clamp would be 1
    return hidden @ parameters["mean.head.weight"].T + parameters["mean.head.bias"]


def chances(parameters, positions, actions):
    """The log-density of actions under the policy."""
    log_std = parameters["log_std"]
    away = (actions - mean_of(parameters, positions)) / log_std.exp()
    return (-0.5 * away**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def kl_of(means, deviations):
    """KL divergences, first from second, of Gaussians with independent parts, for every step."""
    (a, b), (s, t) = means, deviations
    return ((t / s).log() + (s**2 + (a - b) ** 2) / (2 * t**2) - 0.5).sum(-1)


def steps_of(walks, task):
    """Positions, actions and advantages of the steps that were taken in one task, one after another."""
    kept = walks.taken[task].bool()
    return walks.positions[task][kept], walks.actions[task][kept], walks.advantages[task][kept]


def plain_step(parameters, walks, task, lr):
    """The policy gradient, by hand: the mean of log-density times advantage, uphill."""
    positions, actions, advantages = steps_of(walks, task)
    gain = (chances(parameters, positions, actions) * advantages).mean()
    slopes = torch.autograd.grad(gain, list(parameters.values()), create_graph=True)
    return {name: p + lr * slope for (name, p), slope in zip(parameters.items(), slopes, strict=True)}


@pytest.mark.parametrize("order", [0, 2])
def test_the_inner_step_is_a_policy_gradient_step(navigation, small, order):
    policy, walks, _ = small
    adapted = navigation.adapt(policy, policy.copies(3), walks, 0.5, order)
    for task in range(3):
        expected = plain_step(dict(policy.named_parameters()), walks, task, 0.5)
        for name, p in expected.items():
            torch.testing.assert_close(adapted[name][task], p, msg=lambda said, name=name: f"{name}: {said}")


def test_walks_are_those_of_the_policy_and_end_at_the_goal(navigation, small):
    policy, walks, goals = small
    assert walks.positions.shape == walks.actions.shape == (3, 4, 100, 2)
    assert not walks.positions[:, :, 0].any()
    moved = walks.positions[:, :, :-1] + 0.1 * walks.actions[:, :, :-1].clamp(-1, 1)
    torch.testing.assert_close(walks.positions[:, :, 1:], moved, atol=1e-5, rtol=0)
    away = (walks.positions[:, :, 1:] - torch.tensor(goals)[:, None, None]).norm(dim=-1)
    torch.testing.assert_close(walks.rewards[:, :, :-1], -away * walks.taken[:, :, :-1], atol=1e-5, rtol=0)
    lengths = walks.taken.sum(-1)
    assert walks.taken.sort(-1, descending=True)[0].equal(walks.taken) and lengths.max() == 100
    for task, number in (lengths < 100).nonzero().tolist():
        end = int(lengths[task, number])
        assert (walks.positions[task, number, end] - torch.tensor(goals[task])).abs().max() < 0.01
    mean = torch.stack([walks.rewards[task].sum() / 4 for task in range(3)])
    torch.testing.assert_close(walks.returns(), mean)
    # Actions have the policy's mean and deviation: 1, at the start.
    with torch.no_grad():
        means, deviations = policy(walks.positions)
    noise = (walks.actions - means) / deviations
    assert deviations.eq(1).all() and abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1


def test_a_walk_that_arrives_ends(navigation):
    """A policy without noise that walks along the x axis: to a goal on it, and past one beside it."""
    policy = navigation.Policy(seed=0)
    with torch.no_grad():
        for p in policy.parameters():
            p.zero_()
        policy.mean.head.bias.copy_(torch.tensor([0.5, 0.0]))
        policy.log_std.fill_(-20.0)
    walks = navigation.walk(policy, policy.copies(2), np.array([[0.2, 0.0], [0.2, 0.1]]), 1, generator())
    assert walks.taken[:, 0].sum(-1).tolist() == [4, 100]
    np.testing.assert_allclose(walks.rewards[0, 0, :5], [-0.15, -0.1, -0.05, 0, 0], atol=1e-6)
    assert walks.returns()[0].item() == pytest.approx(-0.3, abs=1e-5)


def test_later_steps_learn_from_new_walks(navigation):
    policy, goals = navigation.Policy(seed=0), np.array([[0.3, 0.1], [-0.4, 0.2]])
    found = navigation.learning(policy, goals, [0.5, 0.25], 3, generator())
    draws = generator()
    parameters = policy.copies(2)
    for walks, lr in zip(found, [0.5, 0.25, None], strict=True):
        expected = navigation.walk(policy, parameters, goals, 3, draws)
        assert all(torch.equal(one, other) for one, other in zip(walks, expected, strict=True))
        parameters = lr and navigation.adapt(policy, parameters, walks, lr, order=2)


def outcome(old, new, before, after, lr):
    """Of the policies that the inner step makes of two: the mean KL divergence and the surrogate's gain."""
    divergences, gains = [], []
    for task in range(len(after.taken)):
        pair = [plain_step(parameters, before, task, lr) for parameters in (old, new)]
        positions, actions, advantages = steps_of(after, task)
        divergences.append(kl_of([mean_of(p, positions) for p in pair], [p["log_std"].exp() for p in pair]))
        was, now = (chances(parameters, positions, actions) for parameters in pair)
        gains.append((((now - was).exp() - 1) * advantages).mean())
    return torch.cat(divergences).mean(), torch.stack(gains).mean()


@pytest.mark.parametrize("bound", [0.01, 0.0003])
def test_the_meta_step_improves_within_its_bound(navigation, small, bound):
    policy, before, goals = small
    adapted = {name: p.float() for name, p in navigation.adapt(policy, policy.copies(3), before, 0.5, 0).items()}
    after = navigation.walk(policy, adapted, goals, 4, generator(1))
    after = navigation.Walks(*(tensor.double() for tensor in after))
    old = {name: p.detach().clone().requires_grad_() for name, p in policy.named_parameters()}
    kl = navigation.meta_step(policy, before, after, 0.5, bound)
    measured, gain = outcome(old, dict(policy.named_parameters()), before, after, 0.5)
    assert measured.item() == pytest.approx(kl, rel=1e-6) and 0.2 * bound < kl <= bound
    assert gain > 0


class Few(nn.Module):
    """A policy of six parameters: conjugate gradient is exact."""

    def __init__(self):
        super().__init__()
        self.six = nn.Parameter(torch.tensor([0.3, -0.2, 0.1, 0.4, -0.3, 0.2]))

    def forward(self, x):
        return self.six[:2] * x + self.six[2:4], self.six[4:].exp().expand_as(x)


def test_the_meta_step_goes_along_the_natural_gradient(navigation, small):
    """Through the inner step: its slope over all tasks and the KL's curvature over a tenth, by dense linear algebra."""
    _, walks, _ = small
    policy = Few().double()
    start = policy.six.detach().clone().requires_grad_()
    navigation.meta_step(policy, walks, walks, 0.5, bound=1e-6)

    def gaussian(six, positions):
        return six[:2] * positions + six[2:4], six[4:].exp().expand_as(positions)

    def few_chances(six, positions, actions):
        means, deviations = gaussian(six, positions)
        return (-0.5 * ((actions - means) / deviations) ** 2 - deviations.log()).sum(-1)

    divergences, gains = [], []
    for task in range(3):
        positions, actions, advantages = steps_of(walks, task)
        gain = (few_chances(start, positions, actions) * advantages).mean()
        new = start + 0.5 * torch.autograd.grad(gain, start, create_graph=True)[0]
        old = new.detach()
        divergences.append(kl_of(*zip(gaussian(old, positions), gaussian(new, positions), strict=True)))
        ratios = (few_chances(new, positions, actions) - few_chances(old, positions, actions)).exp()
        gains.append((ratios * advantages).mean())
    [slope] = torch.autograd.grad(torch.stack(gains).mean(), start, retain_graph=True)
    [kl_slope] = torch.autograd.grad(divergences[0].mean(), start, create_graph=True)  # of three
    curvature = torch.stack([torch.autograd.grad(part, start, retain_graph=True)[0] for part in kl_slope])
    natural = torch.linalg.solve(curvature + 1e-5 * torch.eye(6), slope)
    moved = policy.six.detach() - start.detach()
    length = (moved @ curvature @ moved).sqrt() / 2e-6**0.5
    assert nn.functional.cosine_similarity(moved, natural, dim=0) > 1 - 1e-6
    assert any(abs(length - 0.8**shrinks) < 0.01 for shrinks in range(3))


def test_a_step_that_does_not_help_is_not_taken(navigation, small):
    policy, walks, _ = small
    before = {name: p.clone() for name, p in policy.state_dict().items()}
    nothing = walks._replace(advantages=torch.zeros_like(walks.advantages))
    assert navigation.meta_step(policy, walks, nothing, 0.5) == 0
    assert all(torch.equal(p, before[name]) for name, p in policy.state_dict().items())


def test_conjugate_gradient_solves(navigation):
    root = torch.randn(6, 6, generator=generator(), dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(6), torch.randn(6, generator=generator(1), dtype=torch.float64)
    found = navigation.conjugate_gradient(lambda direction: matrix @ direction, target)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, target))


@pytest.fixture
def run(navigation, monkeypatch, capsys, tmp_path):
    """Run the script, and give what it prints and its record."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rl_navigation.py", *map(str, arguments), "--out", str(tmp_path)])
        runpy.run_path(str(FOLDER / "rl_navigation.py"), run_name="__main__")
        return capsys.readouterr().out, json.loads((tmp_path / "returns.json").read_text())

    return run


def test_the_script_prints_its_returns_beside_the_published_ones(run, tmp_path):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    tiny = ("--iterations", 2, "--tasks", 3, "--trajectories", 3)
    printed, record = run(*tiny)
    lines = re.findall(r"^  (\d) steps: (-[\d.]+) \+- [\d.]+ \(published: (-[\d.]+)\)$", printed, re.M)
    assert [line[2] for line in lines] == ["-40.41", "-11.68", "-3.33", "-3.23"]
    assert [float(line[1]) for line in lines] == pytest.approx(record["returns"], abs=0.006)
    assert "2 iterations took" in printed and record["tasks"] == 3
    assert (tmp_path / "walks.png").read_bytes().startswith(b"\x89PNG")
    # No global RNG: none was moved, and what is drawn is the seed's.
    assert torch.equal(torch.get_rng_state(), states[0]) and (np.random.get_state()[1] == states[1]).all()
    assert run(*tiny)[1]["returns"] == record["returns"]
    assert run(*tiny, "--seed", 1)[1]["returns"] != record["returns"]


@pytest.mark.long
def test_a_short_training_finds_goals(run):
    _, record = run("--iterations", 20, "--tasks", 20)
    before, *after = record["returns"]
    assert after[0] > before + 5
