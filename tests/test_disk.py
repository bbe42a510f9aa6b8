"""Files are whole, and a safetensors file tells what is beside its tensors."""

import os
import struct

import pytest
import torch
from safetensors.torch import save

from fewshot_kit.disk import metadata, replace


def test_a_file_is_replaced_in_a_folder_that_is_made(tmp_path):
    path = tmp_path / "new" / "folder" / "x"
    for data in (b"one", b"two"):
        replace(path, data, path.with_name("x.tmp"))
        assert path.read_bytes() == data and os.listdir(path.parent) == ["x"]


def test_what_breaks_off_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(path, b"new", tmp_path / "x.tmp")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


def header(text):
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "data, found",
    [
        (save({"x": torch.ones(2)}, {"key": "value"}), {"key": "value"}),
        (save({"x": torch.ones(2)}, {"key": "value"})[:-3], {"key": "value"}),  # truncated behind its header
        (save({"x": torch.ones(2)}), {}),
        (header(b'{"__metadata__": [1]}'), {}),
        (header(b'{"__metadata__": {"key": 1, "name": "x"}}'), {"name": "x"}),
        (header(b"[1]"), {}),
        (header(b"\xff"), {}),
        (struct.pack("<Q", 2**63) + b"{}", {}),
        (b"", {}),
    ],
)
def test_metadata_by_the_header_alone(tmp_path, data, found):
    (tmp_path / "x").write_bytes(data)
    assert metadata(tmp_path / "x") == found


def test_metadata_of_no_file(tmp_path):
    with pytest.raises(OSError):
        metadata(tmp_path / "x")
