"""A run's `config.yaml`: changed text, and odd values in it, for whatever reads a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import JSON, YAML, changed, odd, outcome
from hypothesis import given
from hypothesis import strategies as st
from small_runs import SMALL

from fewshot_kit import algorithms, datasets, models
from fewshot_kit.errors import InputError
from fewshot_kit.experiments.running import finished
from fewshot_kit.experiments.settings import TrainConfig, from_run
from fewshot_kit.runs.checkpoints import load, read_results, record_results
from fewshot_kit.runs.config import read_config
from fewshot_kit.runs.recorded import from_recorded
from fewshot_kit.runs.storage import read, write
from fewshot_kit.training.outer_loop import meta_train
from fewshot_kit.training.preparation import prepare
from fewshot_kit.training.settings import TrainingSettings


class Run:
    """A small run that was trained, and what goes on with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "config.yaml"
        self.data = datasets.create("glyphs", classes=20, drawings=6, image_size=8)
        algorithm = self.made()
        meta_train(algorithm, self.data, **SMALL, iterations=4, run=folder)
        self.text, self.metrics = self.config.read_bytes(), (folder / "metrics.jsonl").read_bytes()
        self.tensors, self.meta = read(folder / "checkpoints" / "last.safetensors")
        self.settings = TrainingSettings.from_config(read_config(folder))

    def made(self) -> algorithms.Algorithm:
        return algorithms.create("maml", model=models.create("conv4", ways=3, hidden=2, image_size=8), lr=0.1)

    def use(self) -> None:
        config = outcome(lambda: read_config(self.folder)) or {}
        transform = config.get("data", {}).get("transform")
        if transform is not None:
            outcome(lambda: from_recorded(datasets.Transform, transform, self.folder))
        outcome(lambda: TrainConfig(**from_run(self.folder, accept_edited=True)))
        outcome(lambda: load(self.folder, accept_edited=True))
        outcome(self.resume)

    def resume(self) -> int:
        """Returns the iteration from which the run goes on."""
        training, recorder = prepare(self.made(), self.data, self.settings, self.folder, True, None, True)
        assert recorder is not None
        recorder.on_exit(training)
        return training.iteration


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("runs") / "run")


def test_the_run_itself_is_used(run: Run) -> None:
    assert load(run.folder) is not None and TrainConfig(**from_run(run.folder)).ways == 3
    assert run.resume() == 4


@given(st.data())
def test_changed_text(run: Run, data: st.DataObject) -> None:
    run.config.write_bytes(data.draw(changed(run.text)))
    run.use()


@given(st.data())
def test_odd_values(run: Run, data: st.DataObject) -> None:
    run.config.write_text(yaml.safe_dump(data.draw(odd(yaml.safe_load(run.text), YAML))))
    run.use()


@given(st.data())
def test_odd_checkpoints(run: Run, data: st.DataObject) -> None:
    """With the `config.yaml` that belongs to them."""
    run.config.write_bytes(run.text)
    write(run.folder / "checkpoints" / "last.safetensors", run.tensors, data.draw(odd(run.meta, JSON)))
    outcome(run.resume)
    outcome(lambda: load(run.folder, which="last"))


@given(st.data())
def test_changed_metrics(run: Run, data: st.DataObject) -> None:
    run.config.write_bytes(run.text)
    write(run.folder / "checkpoints" / "last.safetensors", run.tensors, run.meta)
    content = data.draw(changed(run.metrics))
    (run.folder / "metrics.jsonl").write_bytes(content)
    outcome(run.resume)
    (run.folder / "results.json").write_bytes(content)
    outcome(lambda: finished(run.folder))
    outcome(lambda: record_results(run.folder, {"test": []}))


@pytest.mark.parametrize(
    "kept", [None, [], {}, {"iteration": 2**40}, {"iteration": None}, {"iteration": "4"}, {"best": 5}]
)
def test_found_checkpoints(run: Run, kept: Any) -> None:
    """What is kept beside the tensors, or parts of it in place of what the run kept."""
    run.config.write_bytes(run.text)
    whole = run.meta["kept"] | kept if kept else kept
    write(run.folder / "checkpoints" / "last.safetensors", run.tensors, run.meta | {"kept": whole})
    with pytest.raises(InputError, match=r"last.safetensors is damaged: it is no checkpoint of this run; restore it"):
        run.resume()
    outcome(lambda: finished(run.folder))


@pytest.mark.parametrize("line", [b"{}", b"5", b"null", b"[1]", b"[" * 100_000, b"\xff"])
def test_found_metrics_and_results(run: Run, line: bytes) -> None:
    run.config.write_bytes(run.text)
    write(run.folder / "checkpoints" / "last.safetensors", run.tensors, run.meta)
    (run.folder / "metrics.jsonl").write_bytes(line + b"\n" + run.metrics)
    with pytest.raises(InputError, match=r"metrics.jsonl does not hold iterations 1 to 4"):
        run.resume()
    (run.folder / "metrics.jsonl").write_bytes(run.metrics)
    (run.folder / "results.json").write_bytes(line)
    record_results(run.folder, {"training": 1})
    assert read_results(run.folder) == {"training": 1}


def test_found_settings(run: Run) -> None:
    config = yaml.safe_load(run.text)
    config["training"]["schedule"] = ["cosine"]
    run.config.write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=r"config.yaml has schedule: \['cosine'\]; it must be text."):
        run.resume()
