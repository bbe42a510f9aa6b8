"""2D navigation: the environment by hand, returns, baseline and advantages against NumPy."""

import math

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env


@pytest.mark.parametrize("goal", [None, np.array([0.3, -0.2])])
def test_the_environment_is_one(navigation, goal):
    check_env(navigation.Navigation(goal), skip_render_check=True)


def test_rewards_and_termination_by_hand(navigation):
    env = navigation.Navigation(np.array([0.3, -0.4]))
    position, _ = env.reset(seed=0)
    assert position.tolist() == [0, 0]
    position, reward, arrived, late, _ = env.step(np.array([0.0, 0.0]))
    assert reward == pytest.approx(-0.5) and not arrived and not late
    position, reward, arrived, _, _ = env.step(np.array([5.0, -1.0]))  # clipped to one stride
    assert position == pytest.approx([0.1, -0.1]) and reward == pytest.approx(-math.hypot(0.2, 0.3)) and not arrived
    for _ in range(2):
        position, _, arrived, _, _ = env.step(np.array([1.0, -1.0]))
    assert not arrived
    # Within 0.01 along each axis: (0.309, -0.391) is, though it is 0.0127 away.
    position, reward, arrived, _, _ = env.step(np.array([0.09, -0.91]))
    assert arrived and reward == pytest.approx(-math.hypot(0.009, 0.009), rel=1e-3)
    env.reset()
    for action in ([1.0, -1.0], [1.0, -1.0], [1.0, -1.0], [0.11, -1.0]):
        _, _, arrived, _, _ = env.step(np.array(action))
    assert not arrived  # 0.011 away along one axis


def test_an_episode_is_a_hundred_steps(navigation):
    env = navigation.Navigation(np.array([0.5, 0.5]))
    for _ in range(2):
        env.reset()
        ends = [env.step(np.array([-1.0, -1.0]))[2:4] for _ in range(100)]
        assert ends == [(False, False)] * 99 + [(False, True)]
    assert env.position in env.observation_space


def test_goals_are_drawn_anew_within_the_square_and_by_the_seed(navigation):
    env = navigation.Navigation()
    goals = [env.reset(seed=3)[1]["goal"]] + [env.reset()[1]["goal"] for _ in range(200)]
    assert 0.45 < np.abs(goals).max() <= 0.5 and len({tuple(goal) for goal in goals}) == 201
    assert env.reset(seed=3)[1]["goal"].tolist() == goals[0].tolist()


def test_many_at_once_are_as_one_by_one(navigation):
    goals = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 2))
    actions = np.random.default_rng(1).normal(size=(100, 6, 2)).astype(np.float32)
    goals[0] = 0.1 * actions[:4, 0].clip(-1, 1).sum(0)  # where the fourth step leads
    envs, singles = navigation.Navigations(goals), [navigation.Navigation(goal) for goal in goals]
    positions, _ = envs.reset(seed=0)
    assert positions in envs.observation_space
    for single in singles:
        single.reset()
    arrivals = 0
    for row in actions:
        positions, rewards, arrived, late, _ = envs.step(row)
        for index, single in enumerate(singles):
            position, *rest, _ = single.step(row[index])
            assert position.tolist() == positions[index].tolist()
            assert rest == [rewards[index], arrived[index], late[index]]
        arrivals += arrived.sum()
    assert arrivals and late.all()


def test_discounted_returns_by_hand(navigation):
    returns = navigation.discounted(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, -1.0]], dtype=torch.float64))
    expected = [[1 + 0.99 * 2 + 0.99**2 * 3, 2 + 0.99 * 3, 3], [-(0.99**2), -0.99, -1]]
    np.testing.assert_allclose(returns, expected)


def made_up(tasks=2, count=5, steps=9):
    """Positions, rewards and which steps were taken; one walk of each task ends early."""
    rng = np.random.default_rng(0)
    positions, rewards = rng.normal(size=(tasks, count, steps, 2)), rng.normal(size=(tasks, count, steps))
    taken = np.ones((tasks, count, steps))
    taken[0, 1, 4:] = taken[1, 0, 2:] = 0
    return (torch.tensor(array) for array in (positions, rewards * taken, taken))


def least_squares(positions, returns, taken):
    """The baseline of one task, by NumPy: ridge as further rows of ordinary least squares."""
    count, steps = taken.shape
    rows, targets = [], []
    for walk in range(count):
        for time in range(steps):
            x, y = positions[walk, time]
            t = time / 100
            rows.append([x, y, x * x, y * y, t, t * t, t**3, 1.0])
            targets.append(returns[walk, time])
    rows, targets, kept = np.array(rows), np.array(targets), taken.reshape(-1).astype(bool)
    more = np.vstack([rows[kept], np.sqrt(1e-5) * np.eye(8)])
    weights = np.linalg.lstsq(more, np.concatenate([targets[kept], np.zeros(8)]), rcond=None)[0]
    return (rows @ weights).reshape(count, steps)


def test_the_baseline_is_least_squares(navigation):
    positions, rewards, taken = made_up()
    returns = navigation.discounted(rewards)
    found = navigation.baseline(positions, returns, taken)
    for task in range(2):
        expected = least_squares(positions[task].numpy(), returns[task].numpy(), taken[task].numpy())
        np.testing.assert_allclose(found[task], expected, rtol=1e-6)


def test_advantages_are_what_the_baseline_leaves_standardised(navigation):
    positions, rewards, taken = made_up()
    returns = navigation.discounted(rewards)
    found = navigation.advantages(positions, rewards, taken)
    for task in range(2):
        arrays = positions[task].numpy(), returns[task].numpy(), taken[task].numpy()
        left, kept = arrays[1] - least_squares(*arrays), arrays[2].astype(bool)
        expected = np.where(kept, (left - left[kept].mean()) / left[kept].std(), 0)
        np.testing.assert_allclose(found[task], expected, rtol=1e-5, atol=1e-7)
