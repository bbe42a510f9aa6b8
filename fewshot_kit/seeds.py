"""Random streams by name and index: what iteration 731 draws does not depend on what was drawn before it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def stream(seed: int, name: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one use of randomness.

    Its seed is the first 63 bits (big-endian) of SHA-256 of the text `"<seed>/<name>/<index>"`, so that streams
    of neighbouring seeds and indices have nothing in common.
    """
    digest = hashlib.sha256(f"{seed}/{name}/{index}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def kept_random(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """The default generators, the CPU's and a GPU's own, are afterwards as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextlib.contextmanager
def default_draws(seed: int, name: str, index: int = 0, device: torch.device | str = "cpu") -> Iterator[None]:
    """Dropout and its like take no generator: inside, the default ones draw from `stream`; outside, they are as before.

    Args:
        device: where the draws happen; a GPU has a default generator of its own.
    """
    device = torch.device(device)
    with kept_random(device):
        torch.set_rng_state(stream(seed, name, index).get_state())
        if device.type == "cuda":
            torch.cuda.set_rng_state(stream(seed, name, index, device).get_state(), device)
        yield
