"""What `doctor` finds, and what it says of it."""

from __future__ import annotations

import warnings
from importlib import metadata
from pathlib import Path

import pytest
import torch

from fewshot_kit import compat, datasets, models
from fewshot_kit.cli import doctor
from fewshot_kit.cli.doctor import Check, diagnose, render
from fewshot_kit.datasets.files import cache as store


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture
def no_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "learn2learn", "higher"):
        library = lambda: warnings  # noqa: E731
        library.__name__ = name
        monkeypatch.setattr(compat, name, library)


def test_a_machine_that_passes_the_tests_has_no_fault() -> None:
    checks = diagnose()
    assert [check for check in checks if not check.ok] == []
    found = by_name(checks)
    assert found["torch"].said == metadata.version("torch")
    assert found["import learn2learn"].said == "works"
    assert "conv4" in found["models"].said and "maml" in found["algorithms"].said


@pytest.mark.usefixtures("no_imports")
def test_operators_that_do_not_load_are_a_note_with_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "load_torchvision_operators", lambda: "libcudart.so is missing")
    monkeypatch.setattr(metadata, "requires", lambda name: ["numpy", "torch==9.8.7"])
    found = by_name(diagnose())["torchvision's compiled operators"]
    assert found.ok and found.said == "do not load (libcudart.so is missing); the kit works without them"
    assert f"torchvision=={metadata.version('torchvision')} and torch==9.8.7 from one source" in found.mend
    monkeypatch.setattr(compat, "load_torchvision_operators", lambda: None)
    assert by_name(diagnose())["torchvision's compiled operators"].mend == ""


@pytest.mark.usefixtures("no_imports")
def test_what_is_broken_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def higher() -> None:
        raise RuntimeError("no such operator\nmore lines")

    def names() -> list[str]:
        warnings.warn("The plug-in 'x' failed.", stacklevel=2)
        return ["mlp"]

    monkeypatch.setattr(compat, "higher", higher)
    monkeypatch.setattr(models, "names", names)
    monkeypatch.setattr(doctor, "VERSIONS", ("a-package-that-is-not-there",))
    faults = [check for check in diagnose() if not check.ok]
    assert [(fault.name, fault.said) for fault in faults] == [
        ("a-package-that-is-not-there", "not installed"),
        ("import higher", "RuntimeError: no such operator"),
        ("plug-in", "The plug-in 'x' failed."),
    ]
    assert all(fault.mend for fault in faults)


@pytest.mark.usefixtures("no_imports")
def test_where_the_data_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEWSHOT_KIT_DATA", str(tmp_path / "data"))
    assert datasets.find_root() == tmp_path / "data"
    missing = by_name(diagnose())["data"]
    assert missing.ok and missing.said == f"{tmp_path / 'data'} ($FEWSHOT_KIT_DATA) does not exist"
    assert "--dataset glyphs" in missing.mend
    (tmp_path / "data" / "omniglot-py").mkdir(parents=True)
    assert by_name(diagnose())["data"] == Check(
        "data", True, f"{tmp_path / 'data'} ($FEWSHOT_KIT_DATA) holds omniglot-py"
    )


@pytest.mark.usefixtures("no_imports")
def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEWSHOT_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEWSHOT_KIT_DATA", str(tmp_path / "data"))
    found = by_name(diagnose())
    said = f"{tmp_path / 'cache'} ($FEWSHOT_KIT_CACHE) holds 0 files, 0.0 MB"
    assert found["cache"] == Check("cache", True, said) and "old cache" not in found
    store.cached("ones", {}, lambda: (torch.ones(2_000_000, dtype=torch.uint8), []), lambda x, names: True)
    old = tmp_path / "data" / "my photos" / ".fewshot-kit"
    old.mkdir(parents=True)
    (old / "decoded").write_bytes(bytes(500_000))
    found = by_name(diagnose())
    assert found["cache"].said.endswith(" holds 1 file, 2.0 MB")
    said = f"{old} holds 1 file, 0.5 MB that are not used any more"
    assert found["old cache"] == Check("old cache", True, said, f"Remove it: rm -r '{old}'")

    def unreadable() -> None:
        raise PermissionError(13, "Permission denied", "cache")

    monkeypatch.setattr(datasets, "cached_files", unreadable)
    denied = by_name(diagnose())["cache"]
    assert denied.ok and denied.said.endswith("cannot be read: Permission denied") and denied.mend


@pytest.mark.usefixtures("no_imports")
def test_folders_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variable in (("data", "FEWSHOT_KIT_DATA"), ("cache", "FEWSHOT_KIT_CACHE")):
        monkeypatch.setenv(variable, "~nobody-at-all")
        found = by_name(diagnose())[name]
        assert not found.ok and found.said.startswith(f"${variable}: There is no user for the path ~nobody-at-all")
        assert found.mend.startswith(f"Set {variable} to")


def test_render_aligns_and_marks() -> None:
    checks = [Check("a", True, "fine"), Check("long", True, "so so", "do this"), Check("b", False, "bad", "do that")]
    assert render(checks).splitlines() == [
        "ok     a     fine",
        "note   long  so so",
        "             -> do this",
        "FAULT  b     bad",
        "             -> do that",
    ]
    assert render([]) == ""
