"""2D navigation for MAML, which rl_navigation.py runs: the environment, the policy, and a step of either loop.

C. Finn, P. Abbeel, S. Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
algorithm 3 and section 5.3, https://arxiv.org/abs/1703.03400. Where the paper's text and its code part (the reward, the
box around the goal, the rates), this is as the code, which the published returns come from. The baseline is fitted to
the walks that it serves, as the text has it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from fewshot_kit import models
from fewshot_kit.algorithms.bases.inner_loop import Tensors, inner_loop, sgd

HORIZON, DISCOUNT = 100, 0.99
STRIDE, NEAR = 0.1, 0.01  # along each axis


def move(position: np.ndarray, action: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of any number of points `[..., 2]`: positions, rewards `[...]`, and which have arrived."""
    position = (position + STRIDE * np.clip(action, -1, 1)).astype(np.float32)
    away = position - goal
    return position, -np.linalg.norm(away, axis=-1), (abs(away) < NEAR).all(-1)


class Navigation(gymnasium.Env):
    """A point that is to reach a goal it is not shown; the reward is minus its distance to the goal.

    It sees its position and starts at the origin. An action within +-1 moves it by up to 0.1 along each axis. An
    episode ends where both coordinates are within 0.01 of the goal's, or after 100 steps.

    Args:
        goal: `[2]`; None draws one within +-0.5 at each reset.
    """

    observation_space = Box(-11, 11, (2,), np.float32)  # 100 steps lead to 10
    action_space = Box(-1, 1, (2,), np.float32)

    def __init__(self, goal: np.ndarray | None = None) -> None:
        self.fixed = goal

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed, options=options)
        goal = self.np_random.uniform(-0.5, 0.5, 2) if self.fixed is None else self.fixed
        self.goal, self.position, self.time = np.asarray(goal, np.float32), np.zeros(2, np.float32), 0
        return self.position, {"goal": self.goal}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.position, reward, arrived = move(self.position, action, self.goal)
        self.time += 1
        return self.position, float(reward), bool(arrived), self.time >= HORIZON, {}


class Navigations(VectorEnv):
    """`Navigation` for all goals `[N, 2]` at once; what goes on after an episode's end is for the caller to ignore."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.DISABLED}
    single_observation_space, single_action_space = Navigation.observation_space, Navigation.action_space

    def __init__(self, goals: np.ndarray) -> None:
        self.goals, self.num_envs = goals.astype(np.float32), len(goals)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed, options=options)
        self.positions, self.time = np.zeros((self.num_envs, 2), np.float32), 0
        return self.positions, {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        self.positions, rewards, arrived = move(self.positions, actions, self.goals)
        self.time += 1
        return self.positions, rewards, arrived, np.full(self.num_envs, self.time >= HORIZON), {}


class Policy(nn.Module):
    """Gaussian actions: positions `[..., 2]` -> means and standard deviations, `[..., 2]` each."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.mean = models.create("mlp", inputs=2, ways=2, hidden=(100, 100), seed=seed)
        self.log_std = nn.Parameter(torch.zeros(2))
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.mean.named_parameters():  # without biases, what it does at the origin is noise alone
            nn.init.zeros_(p) if name.endswith("bias") else nn.init.xavier_uniform_(p, generator=generator)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x.reshape(-1, 2)).view_as(x), self.log_std.exp().expand_as(x)

    def copies(self, tasks: int) -> Tensors:
        """Its parameters as each of the tasks starts from them, `[T, ...]`."""
        return {name: p.expand(tasks, *p.shape) for name, p in self.named_parameters()}


def gaussians(policy: Policy, parameters: Tensors, x: Tensor) -> Normal:
    """The actions of a policy for each task: parameters `[T, ...]`, positions `[T, ..., 2]`."""
    return Normal(*vmap(partial(functional_call, policy))(parameters, x), validate_args=False)


class Walks(NamedTuple):
    """N trajectories of each of T tasks, padded to H steps."""

    positions: Tensor  # [T, N, H, 2]
    actions: Tensor  # [T, N, H, 2]
    rewards: Tensor  # [T, N, H]; 0 after the end
    taken: Tensor  # [T, N, H]; 1 for a step that was taken, 0 after the end
    advantages: Tensor  # [T, N, H]; 0 after the end

    def returns(self) -> Tensor:
        """The mean undiscounted return of each task, `[T]`."""
        return self.rewards.sum(-1).mean(-1)


@torch.no_grad()
def walk(policy: Policy, parameters: Tensors, goals: np.ndarray, count: int, generator: torch.Generator) -> Walks:
    """`count` trajectories to each of the goals `[T, 2]`, with parameters `[T, ...]`."""
    envs = Navigations(goals.repeat(count, axis=0))
    shape = (len(goals), count)
    positions, taken = torch.from_numpy(envs.reset()[0]).view(*shape, 2), torch.ones(shape)
    steps = []
    while taken.any():
        choice = gaussians(policy, parameters, positions)
        actions = choice.mean + choice.stddev * torch.randn(positions.shape, generator=generator)
        reached, rewards, arrived, late, _ = envs.step(actions.view(-1, 2).numpy())
        steps.append((positions, actions, torch.from_numpy(rewards).view(shape) * taken, taken))
        positions = torch.from_numpy(reached).view(*shape, 2)
        taken = taken * torch.from_numpy(~(arrived | late)).view(shape)
    positions, actions, rewards, taken = (torch.stack(parts, 2) for parts in zip(*steps, strict=True))
    return Walks(positions, actions, rewards, taken, advantages(positions, rewards, taken))


def advantages(positions: Tensor, rewards: Tensor, taken: Tensor) -> Tensor:
    """Discounted returns less the baseline's, with mean 0 and deviation 1 over the steps of each task, `[T, N, H]`."""
    returns = discounted(rewards)
    found = returns - baseline(positions, returns, taken)
    count = taken.sum((1, 2), keepdim=True)
    found = found - (found * taken).sum((1, 2), keepdim=True) / count
    deviation = ((found.square() * taken).sum((1, 2), keepdim=True) / count).sqrt()
    return found / (deviation + 1e-8) * taken


def discounted(rewards: Tensor) -> Tensor:
    """The discounted sum of the rewards from each step on, `[..., H]`."""
    sums = [torch.zeros_like(rewards[..., 0])]
    for reward in reversed(rewards.unbind(-1)):
        sums.append(reward + DISCOUNT * sums[-1])
    return torch.stack(sums[:0:-1], -1)


def baseline(positions: Tensor, returns: Tensor, taken: Tensor) -> Tensor:
    """Returns as predicted by least squares from position and time, a fit per task (Duan et al. 2016), `[T, N, H]`."""
    x = positions.double()  # the normal equations square the condition number
    time = (torch.arange(x.shape[2], dtype=x.dtype) / 100).expand(x.shape[:3])
    features = torch.cat([x, x**2, torch.stack([time**power for power in range(4)], -1)], -1).flatten(1, 2)
    fitted, targets = features * taken.flatten(1)[..., None], (returns * taken).flatten(1)[..., None].double()
    squares = fitted.mT @ fitted + 1e-5 * torch.eye(features.shape[-1], dtype=x.dtype)
    return (features @ torch.linalg.solve(squares, fitted.mT @ targets)).view_as(returns).to(returns.dtype)


def adapt(policy: Policy, parameters: Tensors, walks: Walks, lr: float, order: int) -> Tensors:
    """One step of policy gradient (REINFORCE) for each task, on its own walks: parameters `[T, ...]` -> `[T, ...]`.

    Args:
        order: as in `inner_loop`: 2 to differentiate through the step, 0 to go on from it.
    """

    def one(parameters: Tensors, walks: Walks) -> Tensors:
        def loss(parameters: Tensors, buffers: Tensors) -> tuple[Tensor, Tensors]:
            choice = Normal(*functional_call(policy, parameters, walks.positions), validate_args=False)
            chances = choice.log_prob(walks.actions).sum(-1)
            return -(chances * walks.advantages).sum() / walks.taken.sum(), buffers

        return inner_loop(loss, parameters, {}, sgd(lr), steps=1, order=order)[0]

    return vmap(one)(parameters, walks)


def learning(
    policy: Policy, goals: np.ndarray, rates: list[float], count: int, generator: torch.Generator
) -> list[Walks]:
    """`count` walks to each goal with the policy as it is and after steps at each of the rates in turn.

    Every step learns from the walks before it.
    """
    parameters = policy.copies(len(goals))
    found = [walk(policy, parameters, goals, count, generator)]
    for lr in rates:
        parameters = adapt(policy, parameters, found[-1], lr, order=0)
        found.append(walk(policy, parameters, goals, count, generator))
    return found


def meta_step(policy: Policy, before: Walks, after: Walks, lr: float, bound: float = 0.01) -> float:
    """TRPO's step (Schulman et al. 2015) on the returns of the adapted policies, through their inner step.

    Of the candidates along the natural gradient, the policy takes the first that improves the surrogate and keeps the
    mean KL divergence of the adapted policies, old from new, within the bound; where there is none, it stays.

    Args:
        before: walks of the policy as it is, which the inner step learns from.
        after: walks of the adapted policies.
        lr: rate of the inner step.

    Returns:
        The mean KL divergence.
    """
    start = parameters_to_vector(policy.parameters()).detach()
    shapes = {name: p.shape for name, p in policy.named_parameters()}

    def adapted(vector: Tensor, before: Walks, after: Walks) -> Normal:
        tasks, parts = len(after.taken), vector.split([shape.numel() for shape in shapes.values()])
        copies = {n: part.view(shapes[n]).expand(tasks, *shapes[n]) for n, part in zip(shapes, parts, strict=True)}
        return gaussians(policy, adapt(policy, copies, before, lr, order=2), after.positions)

    def surrogate(new: Normal) -> Tensor:
        ratios = (new.log_prob(after.actions) - old.log_prob(after.actions)).sum(-1).exp()
        return ((ratios * after.advantages).sum((1, 2)) / after.taken.sum((1, 2))).mean()

    def divergence(old: Normal, new: Normal, after: Walks) -> Tensor:
        return (kl_divergence(old, new).sum(-1) * after.taken).sum() / after.taken.sum()

    vector = start.clone().requires_grad_()
    new = adapted(vector, before, after)
    old = Normal(new.mean.detach(), new.stddev.detach(), validate_args=False)
    gain = surrogate(new)
    [slope] = torch.autograd.grad(gain, vector)

    # A tenth of the tasks is enough for the curvature, as in Schulman et al., appendix C.
    few = [Walks(*(part[::10] for part in walks)) for walks in (before, after)]
    new = adapted(vector, *few)
    kl = divergence(Normal(new.mean.detach(), new.stddev.detach(), validate_args=False), new, few[1])
    [kl_slope] = torch.autograd.grad(kl, vector, create_graph=True)

    def curvature(direction: Tensor) -> Tensor:
        return torch.autograd.grad(kl_slope @ direction, vector, retain_graph=True)[0] + 1e-5 * direction

    direction = conjugate_gradient(curvature, slope)
    longest = (2 * bound / (direction @ curvature(direction))).sqrt() * direction
    for shrinks in range(15):
        candidate = start + 0.8**shrinks * longest
        with torch.no_grad():
            new = adapted(candidate, before, after)
            kl = divergence(old, new, after)
            better = surrogate(new) > gain
        if better and kl <= bound:
            vector_to_parameters(candidate, policy.parameters())
            return kl.item()
    return 0.0


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, steps: int = 10) -> Tensor:
    """An approximate x with product(x) = target, where the product is symmetric and positive."""
    solution, residual, direction = torch.zeros_like(target), target, target
    for _ in range(steps):
        size = residual @ residual
        if size <= 1e-10 * (target @ target):
            break
        turned = product(direction)
        rate = size / (direction @ turned)
        solution, residual = solution + rate * direction, residual - rate * turned
        direction = residual + residual @ residual / size * direction
    return solution
