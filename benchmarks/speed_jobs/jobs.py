"""The jobs by name, and what the kit is to reach in each, as a ratio to a peer in the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from . import features, gradients, growth, whole
from .contest import Contest
from .settings import Settings

__all__ = ["JOBS", "Goal", "Job", "Settings"]


@dataclass(frozen=True)
class Goal:
    """What a contestant is to reach: `against`'s figure over its own, or its share of the machine's limit."""

    contestant: str
    at_least: float | None = None
    aim: float | None = None
    against: str = "learn2learn"
    measure: Literal["time", "memory", "limit"] = "time"


@dataclass(frozen=True)
class Job:
    """A contest, or the same contest at the values along some axes.

    Args:
        title: what the page calls it.
        contest: builds it.
        axes: of a growth: what grows, and the contest at each of its values.
        goals, gpu_goals: what is to be reached on a CPU and on a GPU; without the latter, the same rows and no goal.
        memory: whether everybody's peak memory is measured too.
    """

    title: str
    contest: Callable[[Settings], Contest] | None = None
    axes: dict[str, Callable[[Settings], Iterable[tuple[int, Contest]]]] | None = None
    goals: tuple[Goal, ...] = ()
    gpu_goals: tuple[Goal, ...] = ()
    memory: bool = False


AUTO, COMPILED = "kit, auto", "kit, compiled"
JAX_PEER = "JAX, jit(vmap(grad))"
GPU = (
    Goal(AUTO, 20, 50),
    Goal(COMPILED, 20, 50),
    Goal(AUTO, 1, None, JAX_PEER),
    Goal(AUTO, None, 0.3, measure="limit"),
)
SINUSOID_1 = (Goal(AUTO, 18, 40), Goal(COMPILED, 75, 110), Goal(COMPILED, 1, None, JAX_PEER))
SINUSOID_5 = (Goal(AUTO, 15, 40), Goal(COMPILED, 65, 110), Goal(COMPILED, 1, None, JAX_PEER))
CONV4 = (Goal(AUTO, 1.8, 2.5),)
LESS_MEMORY = Goal(AUTO, 1, 2, measure="memory")

JOBS = {
    "sinusoid_1": Job("sinusoid MLP, 1 step", gradients.sinusoid(steps=1), goals=SINUSOID_1, gpu_goals=GPU),
    "sinusoid_5": Job("sinusoid MLP, 5 steps", gradients.sinusoid(steps=5), goals=SINUSOID_5, gpu_goals=GPU),
    "omniglot_fc": Job(
        "omniglot_fc, 5w1s, 32 tasks",
        gradients.omniglot_fc,
        goals=(Goal(AUTO, 10, 13), Goal(COMPILED, 20, 30)),
        gpu_goals=GPU,
    ),
    "conv4_1": Job(
        "conv4, 5w1s, 1 step, 32 tasks",
        gradients.conv4(steps=1),
        goals=(*CONV4, LESS_MEMORY),
        gpu_goals=(*GPU, LESS_MEMORY),
        memory=True,
    ),
    "conv4_1_first": Job(
        "conv4, 5w1s, 1 step, 32 tasks, first order", gradients.conv4(steps=1, first_order=True), goals=CONV4
    ),
    "conv4_stride": Job("conv4 with strides, 5w1s, 1 step, 32 tasks", gradients.conv4_stride, goals=CONV4),
    "conv4_5": Job("conv4, 5w5s, 5 steps, 8 tasks", gradients.conv4(steps=5), goals=CONV4, gpu_goals=GPU),
    "conv4_5_first": Job(
        "conv4, 5w5s, 5 steps, 8 tasks, first order", gradients.conv4(steps=5, first_order=True), goals=CONV4
    ),
    "resnet": Job("the project's resnet, 5w1s, 1 step", gradients.resnet, goals=(Goal(AUTO, 1.3, 1.8),)),
    "boil": Job("BOIL on conv4, 5w1s, 1 step", gradients.boil, goals=(Goal(AUTO),)),
    "anil": Job(
        "ANIL on conv4, 5w5s, 5 steps",
        gradients.anil,
        goals=(
            Goal(AUTO, 2.5, 4, "learn2learn, features once"),
            Goal(AUTO, 2.5, 4, "learn2learn, whole model each step"),
        ),
    ),
    "protonet": Job("ProtoNet on conv4, 5w1s", gradients.protonet, goals=(Goal(AUTO),)),
    "evaluation": Job("evaluation of 1,000 tasks, conv4", whole.evaluation, goals=(Goal("kit, evaluate", 2, 4),)),
    "features": Job(
        "evaluation of 1,000 tasks, features",
        features.features,
        goals=(
            Goal("kit, protonet", 1.5, 4, "easyfsl, PrototypicalNetworks"),
            Goal("kit, simple_shot", 1.5, 4, "easyfsl, SimpleShot"),
        ),
    ),
    "end_to_end": Job(
        "end to end: learn2learn's Omniglot example", whole.end_to_end, goals=(Goal("kit, meta_train", 4, 8),)
    ),
    "data": Job(
        "data path, 5w1s",
        whole.data_path,
        goals=(
            Goal("kit, episodes", 200, 500, "learn2learn, PNG files"),
            Goal("kit, episodes", 5, 10, "learn2learn, images in memory"),
        ),
    ),
    "few": Job("one, two and four tasks", axes=growth.FEW),
    "growth_sinusoid": Job("growth, sinusoid MLP", axes=growth.SINUSOID),
    "growth_conv4": Job("growth, conv4", axes=growth.CONV4),
}
