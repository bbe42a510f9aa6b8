"""The disk cache: used, keyed by settings, rebuilt when damaged, and nowhere but in the user's cache folder."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fewshot_kit.datasets.files import cache
from fewshot_kit.datasets.files.cache import Named, cached_files, fingerprint
from fewshot_kit.datasets.files.roots import find_cache, find_root

cached = functools.partial(cache.cached, fits=lambda x, names: True)


class Decoder:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Named:
        self.calls += 1
        return torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2), ["zero", "one", "zwölf"]


def same(first: Named, second: Named) -> bool:
    return torch.equal(first[0], second[0]) and first[1] == second[1]


@pytest.fixture
def user_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's own cache folder, which is a temporary one here."""
    monkeypatch.delenv("FEWSHOT_KIT_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "user"))
    return tmp_path / "user"


def test_decoded_once(user_cache: Path) -> None:
    decode = Decoder()
    first, again = (cached("digits", {"size": 2}, decode) for _ in range(2))
    assert decode.calls == 1 and same(first, again)
    cached("digits", {"size": 3}, decode)
    assert decode.calls == 2
    files = sorted(user_cache.iterdir())
    assert len(files) == 2 and all(file.name.startswith("digits-") and file.suffix == ".safetensors" for file in files)


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "renamed", "garbage"])
def test_a_damaged_cache_is_built_anew(user_cache: Path, damage: str) -> None:
    decode = Decoder()
    cached("digits", {}, decode)
    (file,) = user_cache.iterdir()
    whole = file.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    damaged = {
        "truncated": whole[:-5], "empty": b"", "flipped": flipped, "renamed": whole.replace(b"zero", b"hero"),
        "garbage": b"x" * 99,
    }  # fmt: skip
    assert damaged[damage] != whole
    file.write_bytes(damaged[damage])
    with pytest.warns(UserWarning, match=r"is damaged .*; it is built anew"):
        again = cached("digits", {}, decode)
    assert decode.calls == 2 and same(again, decode())
    assert same(cached("digits", {}, decode), again) and decode.calls == 3


def test_a_cache_of_other_settings_is_not_taken(user_cache: Path) -> None:
    decode = Decoder()
    cached("digits", {"a": 1}, decode)
    (first,) = user_cache.iterdir()
    cached("digits", {"a": 2}, decode)
    (second,) = set(user_cache.iterdir()) - {first}
    first.replace(second)
    with pytest.warns(UserWarning, match=r"belongs to other settings"):
        cached("digits", {"a": 2}, decode)


def test_no_place_for_a_cache_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FEWSHOT_KIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match=r"cannot be kept in"):
        assert same(cached("digits", {}, Decoder()), Decoder()())


def test_a_failed_write_leaves_nothing_behind(user_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match=r"No space left"):
        cached("digits", {}, Decoder())
    assert not list(user_cache.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_other_tensors_than_images_are_kept_too(user_cache: Path, dtype: torch.dtype) -> None:
    made = torch.arange(6).view(2, 3).to(dtype).T  # not contiguous
    for make in (lambda: (made, ["a", "b"]), None):
        kept, names = cached("embeddings", {"weights": "0a"}, make)  # type: ignore[arg-type]
        assert kept.dtype == dtype and torch.equal(kept, made) and names == ["a", "b"]


def test_the_kit_knows_its_own_files(user_cache: Path) -> None:
    assert cached_files() == {}
    cached("digits", {"a": 1}, Decoder())
    cached("digits", {"a": 2}, Decoder())
    whole, cut = sorted(user_cache.iterdir())
    cut.write_bytes(cut.read_bytes()[:-5])
    unfinished = user_cache / f"{whole.stem}k1_2z9qx.tmp"
    unfinished.write_bytes(b"")
    other = user_cache / "net-0123456789abcdef.safetensors"
    save_file({"x": torch.zeros(2)}, other, {"key": "of another program"})
    empty = other.with_name("net-0123456789abcdee.safetensors")
    empty.touch()
    for name in ("weights.safetensors", "notes.tmp", whole.name.removesuffix("safetensors") + "pt"):
        (user_cache / name).write_bytes(whole.read_bytes())
    (user_cache / f"{whole.stem}abcdefgh.tmp").mkdir()
    assert cached_files() == {path: path.stat().st_size for path in sorted((whole, cut, unfinished))}


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
    assert find_cache() == tmp_path / "cache"
