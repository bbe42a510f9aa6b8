"""The disk cache: used, keyed by settings, rebuilt when damaged, never written where it must not be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from fewshot_kit.datasets.roots import find_cache, find_root
from fewshot_kit.datasets.store import Decoded, cached, fingerprint


class Decoder:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Decoded:
        self.calls += 1
        return torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2), ["zero", "one", "zwölf"]


def same(first: Decoded, second: Decoded) -> bool:
    return torch.equal(first[0], second[0]) and first[1] == second[1]


@pytest.fixture
def no_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Caches beside the data; the user's own cache folder is a temporary one, which is returned."""
    monkeypatch.delenv("FEWSHOT_KIT_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "user"))
    return tmp_path / "user"


def test_decoded_once(tmp_path: Path, no_variable: Path) -> None:
    decode = Decoder()
    first, again = (cached(tmp_path, "digits", {"size": 2}, decode) for _ in range(2))
    assert decode.calls == 1 and same(first, again)
    cached(tmp_path, "digits", {"size": 3}, decode)
    assert decode.calls == 2
    files = sorted((tmp_path / ".fewshot-kit").iterdir())
    assert len(files) == 2 and all(file.name.startswith("digits-") and file.suffix == ".safetensors" for file in files)


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "renamed", "garbage"])
def test_a_damaged_cache_is_built_anew(tmp_path: Path, no_variable: Path, damage: str) -> None:
    decode = Decoder()
    cached(tmp_path, "digits", {}, decode)
    (file,) = (tmp_path / ".fewshot-kit").iterdir()
    whole = file.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    damaged = {
        "truncated": whole[:-5], "empty": b"", "flipped": flipped, "renamed": whole.replace(b"zero", b"hero"),
        "garbage": b"x" * 99,
    }  # fmt: skip
    assert damaged[damage] != whole
    file.write_bytes(damaged[damage])
    with pytest.warns(UserWarning, match=r"is damaged .*; it is built anew"):
        again = cached(tmp_path, "digits", {}, decode)
    assert decode.calls == 2 and same(again, decode())
    assert same(cached(tmp_path, "digits", {}, decode), again) and decode.calls == 3


def test_a_cache_of_other_settings_is_not_taken(tmp_path: Path, no_variable: Path) -> None:
    decode = Decoder()
    cached(tmp_path, "digits", {"a": 1}, decode)
    (first,) = (tmp_path / ".fewshot-kit").iterdir()
    cached(tmp_path, "digits", {"a": 2}, decode)
    (second,) = set((tmp_path / ".fewshot-kit").iterdir()) - {first}
    first.replace(second)
    with pytest.warns(UserWarning, match=r"belongs to other settings"):
        cached(tmp_path, "digits", {"a": 2}, decode)


def test_a_read_only_folder_stays_untouched(tmp_path: Path, no_variable: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o555)
    decode = Decoder()
    cached(data, "digits", {}, decode)
    cached(data, "digits", {}, decode)
    assert decode.calls == 1 and not list(data.iterdir()) and len(list(no_variable.iterdir())) == 1


def test_no_place_for_a_cache_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FEWSHOT_KIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match=r"cannot be kept in"):
        assert same(cached(tmp_path, "digits", {}, Decoder()), Decoder()())


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, no_variable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match=r"No space left"):
        cached(tmp_path, "digits", {}, Decoder())
    assert not list((tmp_path / ".fewshot-kit").iterdir())


def test_fingerprint_sees_a_replaced_file(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"1")
    before = fingerprint([file], tmp_path)
    assert fingerprint([file], tmp_path) == before
    file.write_bytes(b"12")
    assert fingerprint([file], tmp_path) != before
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy2(file, moved)
    assert fingerprint([moved / "a.png"], moved) == fingerprint([str(file)], tmp_path)  # by name within the folder


def test_where_data_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(tmp_path / "user"))
    monkeypatch.setenv("FEWSHOT_KIT_DATA", str(tmp_path / "variable"))
    assert find_root(tmp_path / "given") == tmp_path / "given"
    assert find_root() == tmp_path / "variable"
    monkeypatch.delenv("FEWSHOT_KIT_DATA")
    assert find_root() == tmp_path / "user"
    monkeypatch.setenv("FEWSHOT_KIT_CACHE", str(tmp_path / "cache"))
    assert find_cache(tmp_path) == tmp_path / "cache"
