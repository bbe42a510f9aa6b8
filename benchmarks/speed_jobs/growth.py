"""How the time of one meta-gradient grows with the tasks, the steps and the width of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .contest import Contest, gradient_contest
from .gradients import AUTO, LEARN2LEARN, conv4_work, omniglot_fc_work, sinusoid_work
from .settings import Settings
from .work import Work

TASKS, STEPS, FEW_TASKS = (1, 4, 16, 64, 256), (1, 2, 5, 10, 20), (1, 2, 4)
Axis = Callable[[Settings], Iterable[tuple[int, Contest]]]


def _axis(values: tuple[int, ...], work: Callable[[Settings, int], Work]) -> Axis:
    def contests(settings: Settings) -> Iterator[tuple[int, Contest]]:
        for value in values:
            yield value, gradient_contest(work(settings, value), LEARN2LEARN | AUTO, "")

    return contests


def _conv4(settings: Settings, tasks: int = 8, **options: Any) -> Work:
    return conv4_work(settings, 1, 1, tasks, **{"lr": 0.05, **options})


SINUSOID = {
    "tasks": _axis(TASKS, lambda settings, tasks: sinusoid_work(settings, tasks=tasks)),
    "steps": _axis(STEPS, lambda settings, steps: sinusoid_work(settings, steps=steps)),
    "width": _axis((10, 40, 160, 640), lambda settings, width: sinusoid_work(settings, width=width)),
}
CONV4 = {
    "tasks": _axis(TASKS, lambda settings, tasks: _conv4(settings, tasks)),
    "steps": _axis(STEPS, lambda settings, steps: _conv4(settings, 4, steps=steps)),
    "width": _axis((8, 32, 128), lambda settings, width: _conv4(settings, width=width)),
}
FEW = {
    "tasks of the sinusoid": _axis(FEW_TASKS, lambda settings, tasks: sinusoid_work(settings, tasks=tasks)),
    "tasks of omniglot_fc": _axis(FEW_TASKS, omniglot_fc_work),
    "tasks of conv4": _axis(FEW_TASKS, _conv4),
    "tasks of conv4 with strides": _axis(
        FEW_TASKS, lambda settings, tasks: _conv4(settings, tasks, downsample="stride")
    ),
}
