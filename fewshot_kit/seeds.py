"""Random streams by name and index. What iteration 731 draws does not depend on earlier draws."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from numbers import Integral
from typing import Any

import torch

from .errors import InputError, in_digits

# Whether several threads draw from the default generators at the same time. None of them may then set their states.
shared: ContextVar[bool] = ContextVar("shared", default=False)
SEEDS = range(-(2**63), 2**64)  # what torch's generators take


def check_seed(seed: Any) -> None:
    """Raises `InputError` for a seed that is no whole number of 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise InputError(f"seed is {seed!r}; it must be a whole number.")
    if int(seed) not in SEEDS:
        raise InputError(f"seed is {in_digits(int(seed))}; it must fit into 64 bits, from -2**63 to 2**64 - 1.")


def stream(seed: int, name: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns the generator for one use of randomness.

    Its seed is the first 63 bits (big-endian) of the SHA-256 of `"<seed>/<name>/<index>"`, so that streams of
    neighbouring seeds and indices have nothing in common.

    Raises:
        InputError: a seed that is no whole number of 64 bits.
    """
    check_seed(seed)
    digest = hashlib.sha256(f"{seed}/{name}/{index}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def kept_random(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Returns a context that restores the default generators of the CPU and of a GPU at its end."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextlib.contextmanager
def default_draws(seed: int, name: str, index: int = 0, device: torch.device | str = "cpu") -> Iterator[None]:
    """Makes the default generators draw from `stream` inside, and restores them at the end.

    Layers such as dropout take no generator, so their draws need this.

    Args:
        device: the device of the draws; a GPU has its own default generator.
    """
    device = torch.device(device)
    with kept_random(device):
        places: list[str | torch.device] = ["cpu", device] if device.type == "cuda" else ["cpu"]
        set_states(device, [stream(seed, name, index, place).get_state() for place in places])
        yield


def states(device: torch.device) -> list[torch.Tensor]:
    """Returns the states of the default generators of the CPU and, if it is the device, of a GPU."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_states(device: torch.device, given: list[torch.Tensor]) -> None:
    """Sets the default generators to what `states` returned."""
    torch.set_rng_state(given[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(given[1], device)


def repeatable(device: torch.device) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Returns a function that makes contexts, in which the default generators draw what they draw from now on.

    A context restores the generators at its end. It does nothing where threads share the generators (`shared`).
    """
    if shared.get():
        return contextlib.nullcontext
    now = states(device)

    @contextlib.contextmanager
    def again() -> Iterator[None]:
        with kept_random(device):
            set_states(device, now)
            yield

    return again
