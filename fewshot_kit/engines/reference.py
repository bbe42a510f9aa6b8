"""`engine="reference"`: learn2learn or higher clones and adapts. Tests compare the other engines with it."""

from __future__ import annotations

import warnings

from ..algorithms import Algorithm
from ..episodes import Episode, unstack
from ..errors import InputError
from ..modules.batch_norm import Policy, find_policy
from ..modules.modes import twice_differentiable
from .results import Result, combined, differentiated, trainable


def run(algorithm: Algorithm, episodes: Episode) -> Result:
    """Runs a meta-batch through `algorithm.clone()`, one episode after another.

    Raises:
        InputError: the algorithm has no `clone()`, or has a batch-norm policy that the libraries do not know.
    """
    name = type(algorithm).__name__
    if type(algorithm).clone is Algorithm.clone or algorithm.steps is None:
        raise InputError(f"{name} has no reference implementation in learn2learn or higher; use engine='loop'.")
    policy = find_policy(algorithm.batch_norm or "transductive")
    if policy.queries == "support":
        raise InputError("learn2learn and higher know no batch_norm='support'; use engine='loop'.")
    return combined([_one(algorithm, policy, algorithm.steps, episode) for episode in unstack(episodes)])


def _one(algorithm: Algorithm, policy: Policy, steps: int, episode: Episode) -> Result:
    model = algorithm.model
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with (
        policy.on_support(model),
        twice_differentiable(model),
        warnings.catch_warnings(),
    ):
        # learn2learn reads the .grad of a recurrent layer's cloned parameters, which are no leaves.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
        learner = algorithm.clone()
        for _ in range(steps):
            learner.adapt(algorithm.criterion(learner(episode.support_x), episode.support_y))
        scores = learner(episode.query_x)
    for buffer, before in buffers:  # learn2learn's clone shares the model's buffers and writes to them
        buffer.data.copy_(before)
    loss = algorithm.criterion(scores, episode.query_y)
    return differentiated(loss[None], scores[None], trainable(algorithm))
