"""Replaces options of an existing algorithm."""

from __future__ import annotations

from typing import Any

from ...errors import InputError, closest
from ...options import options_of
from .. import Algorithm


def with_options(algorithm: Algorithm, **options: Any) -> Algorithm:
    """Replaces options of an algorithm in place: `with_options(maml, steps=10)`.

    Raises:
        InputError: the algorithm does not have the option; the message names the nearest one.
    """
    known = [name for name in options_of(type(algorithm)).parameters if name != "model"]
    for name, value in options.items():
        if name not in known:
            raise InputError(
                f"{type(algorithm).__name__} has no option '{name}'.{closest(name, known)} It has {', '.join(known)}."
            )
        if name in algorithm.fixed or not hasattr(algorithm, name):
            raise InputError(
                f"{type(algorithm).__name__} is made with its {name}, which cannot be replaced later; make another "
                f"with {name}={value!r}."
            )
        setattr(algorithm, name, value)
    algorithm.check()
    said = {name: value for name, value in options.items() if name not in algorithm.shaped_by}
    if algorithm.recipe is not None and said:
        algorithm.recipe = algorithm.recipe | {"options": algorithm.recipe["options"] | said}
    return algorithm
