"""Fixtures that several rooms share."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from command_line import CommandLine
from small_runs import centroids, maml, train

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache of decoded images for the whole run, so that real data are decoded at most once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_KIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data: `$FEWSHOT_KIT_DATA`, else `shared/data` beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FEWSHOT_KIT_DATA") or beside)
    if not (folder / "omniglot-py").is_dir():
        pytest.skip(f"no real data in {folder}: set FEWSHOT_KIT_DATA to a folder that holds omniglot-py")
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """The command line, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_KIT_CACHE", str(tmp_path / "cache"))
    return CommandLine(capsys)


@pytest.fixture(scope="session", params=[centroids, maml])
def uninterrupted(request, tmp_path_factory):
    """A run of ten iterations on the small world: how it is made, the algorithm, the result, the folder."""
    run = tmp_path_factory.mktemp("whole")
    algorithm = request.param()
    result = train(algorithm, run=run, iterations=10)
    return request.param, algorithm, result, run


@pytest.fixture(scope="module")
def navigation() -> Iterator[ModuleType]:
    """The example's part of environment, policy and walks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import navigation

        yield navigation
        sys.modules.pop("navigation")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a script of benchmarks/, or a module of one of its folders, by name."""
    monkeypatch.syspath_prepend(str(EXAMPLES.parent / "benchmarks"))
    return importlib.import_module


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    """Another number of threads, which a benchmark's `main` may leave behind, gives other last bits in later tests."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set the number of intra-op threads, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
