"""Checkpoints and learners: changed bytes, odd JSON under a checksum that is right, and odd headers of safetensors."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import hostile
import pytest
import torch
from fuzzing import JSON, TEXT, changed, known, odd, outcome
from hypothesis import example, given
from hypothesis import strategies as st

from fewshot_kit import adapt, disk, models
from fewshot_kit.adaptation.learner import Learner
from fewshot_kit.errors import InputError
from fewshot_kit.models.weights import read_weights
from fewshot_kit.runs.checkpoints import load_state, read_state, rebuild
from fewshot_kit.runs.storage import packed, read, unpacked, write

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b/c": torch.tensor([True, False]),
    "d": torch.tensor(3, dtype=torch.int64),
    "e": torch.zeros(0, 2, dtype=torch.float64),
}
META = {
    "structure": {"dict": [["algorithm", {"dict": [["a", {"tensor": "a"}]]}]]},
    "kept": {"best": 0.5, "n": [1, None]},
}
WHOLE = packed(TENSORS, META)
DTYPES = ["F32", "F64", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL", "C64", "F8_E4M3",
          "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "x"]  # fmt: skip


def same(tensors: dict[str, torch.Tensor], meta: Any) -> bool:
    alike = json.dumps(meta) == json.dumps(META) and tensors.keys() == TENSORS.keys()
    return alike and all(
        tensor.dtype == TENSORS[name].dtype and torch.equal(tensor, TENSORS[name]) for name, tensor in tensors.items()
    )


def test_the_whole_file_is_read() -> None:
    assert same(*unpacked(WHOLE, "x"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints") / "x.safetensors"


@given(content=changed(WHOLE))
def test_changed_bytes_are_never_read_as_something_else(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    found = outcome(lambda: read(file))
    assert found is None or same(*found)
    disk.metadata(file)
    outcome(lambda: read_weights(file))


@known(meta for name, meta in hostile.META.items() if name != "nested")  # hypothesis itself cannot print that
@given(meta=st.one_of(JSON, odd(META, JSON)))
def test_odd_structure(file: Path, meta: Any) -> None:
    write(file, TENSORS, meta)
    outcome(lambda: read_state(file))


ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(DTYPES),
        "shape": st.lists(st.one_of(st.integers(0, 4), st.sampled_from([2**31, 2**62, 2**63, -1])), max_size=4),
        "data_offsets": st.tuples(st.integers(0, 16), st.integers(0, 40)),
    }
)


@example(entries={"x" * 5000: {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, metadata=None, size=4)
@given(
    entries=st.dictionaries(TEXT, st.one_of(ENTRIES, JSON), max_size=3),
    metadata=st.one_of(st.none(), JSON, st.fixed_dictionaries({"fewshot_kit": st.one_of(TEXT, JSON.map(json.dumps))})),
    size=st.integers(0, 40),
)
def test_odd_headers(file: Path, entries: Any, metadata: Any, size: int) -> None:
    header = json.dumps(entries if metadata is None else {**entries, "__metadata__": metadata}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    outcome(lambda: read(file))
    outcome(lambda: read_weights(file))
    disk.metadata(file)


@st.composite
def entry(draw: st.DrawFn) -> dict[str, Any]:
    """A tensor of any type whose size fits, so that safetensors takes it."""
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**61]), max_size=4))
    return {"dtype": draw(st.sampled_from(DTYPES)), "shape": shape, "values": math.prod(shape)}


BITS = {"BOOL": 8, "C64": 64, "x": 8, "BF16": 16, "F4": 4, "F6_E2M3": 6}


@example(entries=[{"dtype": "F32", "shape": [0, 2, 2, 2**61], "values": 0}])
@given(entries=st.lists(entry(), max_size=3))
def test_tensors_of_any_type_and_size(file: Path, entries: list[dict[str, Any]]) -> None:
    header, end = {}, 0
    for number, each in enumerate(entries):
        name = each["dtype"]
        bits = BITS.get(name) or int(name[1:].split("_")[0])
        size = each["values"] * bits // 8
        size = size if size < 1000 else 0
        header[str(number)] = {"dtype": name, "shape": each["shape"], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({**header, "__metadata__": {"fewshot_kit": '{"version": 1, "meta": null}'}}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    assert outcome(lambda: read(file)) is None
    outcome(lambda: read_weights(file))


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved learner, with a transform and what to expect of it."""
    model = models.create("conv4", ways=3, hidden=2, image_size=8, seed=0)
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    made = adapt(model, (x, ["a", "b", "c"] * 2), algorithm="maml", steps=1)
    assert made.expected is not None
    return made.save(tmp_path_factory.mktemp("learner") / "whole.safetensors")


@given(data=st.data())
def test_odd_learners(learner: Path, data: st.DataObject) -> None:
    tensors, meta = read(learner)
    path = learner.with_name("odd.safetensors")
    write(path, tensors, data.draw(odd(meta, JSON)))
    outcome(lambda: Learner.load(path))
    whole, _, _ = rebuild(learner)
    outcome(lambda: load_state(path, whole))


def test_the_learner_itself_is_loaded(learner: Path) -> None:
    assert Learner.load(learner).classes == ["a", "b", "c"]
    with pytest.raises(InputError):
        Learner.load(learner.with_name("none"))
