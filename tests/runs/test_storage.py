from __future__ import annotations

import json
import os
import resource

import pytest
import safetensors.torch
import torch

from fewshot_kit.errors import InputError
from fewshot_kit.runs import storage
from fewshot_kit.runs.storage import flatten, read, unflatten, write


def test_round_trip_of_every_kind_of_tensor(tmp_path):
    shared = torch.randn(4, 3, dtype=torch.float64)
    tensors = {
        "double": shared,
        "tied": shared,
        "transposed": shared.T,
        "part": shared[1:, 0],
        "half": torch.randn(2).bfloat16(),
        "number": torch.tensor(3),
        "empty": torch.empty(0, 2),
        "flags": torch.tensor([True, False]),
        "trained": torch.randn(2, requires_grad=True),
    }
    meta = {"text": "é", "number": 0.1, "list": [1, None]}
    write(tmp_path / "new" / "x.safetensors", tensors, meta)
    back, back_meta = read(tmp_path / "new" / "x.safetensors")
    assert back_meta == meta and back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor)


def test_flatten_and_back():
    state = {"a": [torch.ones(1), (torch.zeros(2), 3)], 7: {"b": None, "c": "x"}, "a/0": torch.ones(3), "none": []}
    tensors, structure = flatten(state)
    assert len(tensors) == 3
    back = unflatten(tensors, json.loads(json.dumps(structure)))
    assert str(back) == str(state) and isinstance(back["a"][1], tuple)
    assert torch.equal(unflatten(*flatten(torch.ones(2))), torch.ones(2))


@pytest.mark.parametrize(
    ("state", "said"), [({"a": [{1, 2}]}, "A set at 'a/0' cannot be saved"), ({(1, 2): 3}, r"The key \(1, 2\)")]
)
def test_flatten_refuses_what_it_cannot_save(state, said):
    with pytest.raises(InputError, match=said):
        flatten(state)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, {"w": torch.arange(1000.0)}, {"iteration": 1})
    return path


def test_missing(tmp_path):
    with pytest.raises(InputError, match=r"There is no file .*gone.safetensors"):
        read(tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("length", [0, 5, 100, 1000, -1])
def test_truncated(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(InputError, match=r"x.safetensors is truncated or damaged"):
        read(saved)


def test_every_altered_byte_is_noticed(saved):
    whole = saved.read_bytes()
    for position in [*range(0, 400, 7), len(whole) // 2, len(whole) - 1]:
        saved.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(InputError, match=r"x.safetensors"):
            read(saved)


def test_a_checksum_that_differs_is_named(saved):
    whole = saved.read_bytes()
    saved.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="its checksum does not match"):
        read(saved)


def test_a_newer_version(saved, monkeypatch):
    monkeypatch.setattr(storage, "FORMAT_VERSION", 2)
    write(saved, {}, {})
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"format version 2 and this fewshot-kit reads up to 1; upgrade"):
        read(saved)


def test_somebody_elses_file(tmp_path):
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="was not written by fewshot-kit"):
        read(tmp_path / "x.safetensors")


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_write_that_breaks_off_leaves_the_old_file(saved, monkeypatch, broken):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(InputError, match=r"x.safetensors could not be written: No space left .* is kept"):
        write(saved, {"w": torch.zeros(1)}, {})
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_full_disk_leaves_the_old_file(saved):
    before = saved.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(InputError, match=r"could not be written: File too large; free some space"):
            write(saved, {"w": torch.zeros(1 << 20)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_folder_that_is_a_file(saved):
    with pytest.raises(InputError, match="could not be written"):
        write(saved / "y.safetensors", {}, {})
