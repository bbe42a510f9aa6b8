"""What the fuzz tests share: changed bytes, odd values, and what a reader may do with them."""

from __future__ import annotations

import contextlib
import copy
import resource
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import example
from hypothesis import strategies as st

from fewshot_kit.errors import InputError, UnknownName

Read = TypeVar("Read")
STATUS = Path("/proc/self/status")
SECONDS = 60  # for one file; a reader takes milliseconds
MEMORY = 400_000  # kB; an image of the largest size takes most of it
LONGEST = 5000  # characters of a message


class Stuck(BaseException):
    """A reader hangs. It is no `Exception`, since readers catch whatever libraries raise."""


def outcome(read: Callable[[], Read]) -> Read | None:
    """Returns what a reader read, or None if it refused its file in one line. It may do nothing else."""
    with _in_time(), _in_memory():
        try:
            return read()
        except UnknownName as error:  # which lists the known names in a second line
            lines = str(error).splitlines()
            assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("Available: ")), lines
        except InputError as error:
            said = str(error)
            assert len(said.splitlines()) == 1 and len(said) < LONGEST, said[:LONGEST]
    return None


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise Stuck(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _in_memory() -> Iterator[None]:
    """Compares the peak with what there was before, on Linux: no other system can forget an older peak."""
    if not STATUS.exists():
        yield
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before, limits = _memory("VmHWM"), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1024 * (_memory("VmSize") + 10 * MEMORY), limits[1]))  # to fail in time
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert _memory("VmHWM") < before + MEMORY


def _memory(name: str) -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))


def known(cases: Iterable[Any]) -> Callable[[Any], Any]:
    """Decorates a test with explicit examples."""

    def decorate(test: Any) -> Any:
        for case in cases:
            test = example(case)(test)
        return test

    return decorate


@st.composite
def changed(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with one to four changes: some flipped, cut, put in or repeated, or the end cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.one_of(st.integers(1, 8), st.integers(1, 1024)))
        kind = draw(st.sampled_from(["flip", "flip", "cut", "put", "repeat", "end"]))
        if kind == "flip":
            flips = draw(st.binary(min_size=1, max_size=8))
            for place, bits in enumerate(flips, start):
                if place < len(data):
                    data[place] ^= bits
        elif kind == "cut":
            del data[start : start + length]
        elif kind == "put":
            data[start:start] = draw(st.binary(min_size=1, max_size=64))
        elif kind == "repeat":
            data[start:start] = data[start : start + length]
        else:
            del data[start:]
    return bytes(data)


TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "\0", "\n", "..", "/", "~", "~nobody-at-all", "1e400", "x" * 5000, "a\nb", "\x1b[2J", "null"]),
)
NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**31 - 1, 2**31, 2**63, 10**300, -(10**300)]),
    st.floats(),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)


def nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=8,
    )


JSON = nested(LEAVES, TEXT)
YAML = nested(st.one_of(LEAVES, st.dates(), st.datetimes(), st.binary(max_size=8)), st.one_of(TEXT, NUMBERS, st.none()))


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields where the values in nested dicts and lists are."""
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*at, key))


@st.composite
def odd(draw: st.DrawFn, whole: Any, values: st.SearchStrategy[Any]) -> Any:
    """Nested dicts and lists with one to three changes: values replaced or removed, keys renamed or added."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(list(places(value)))) or (None,)
        if last is None:
            value = draw(values) if draw(st.integers(0, 9)) == 0 else value
            continue
        inner = value
        for key in path:
            inner = inner[key]
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "add"]))
        if kind == "replace" or not isinstance(inner, dict):
            inner[last] = draw(values)
        elif kind == "remove":
            del inner[last]
        else:
            inner[draw(TEXT)] = inner.pop(last) if kind == "rename" else draw(values)
    return value
