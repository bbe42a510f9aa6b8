from __future__ import annotations

import json

import pytest
import torch
import yaml
from torch import nn
from toy import Centroids, noisy_net, world

from fewshot_kit import algorithms, models
from fewshot_kit.datasets import Data, Split, Transform
from fewshot_kit.errors import InputError
from fewshot_kit.runs.checkpoints import (
    describe,
    load,
    read_config,
    rebuild,
    record_results,
    save,
    save_state,
    state_path,
)
from fewshot_kit.training.outer_loop import meta_train


def made(**options):
    model = models.create("conv4", ways=3, hidden=8, image_size=16, seed=1)
    return algorithms.create("maml", model=model, lr=0.25, steps=2, **options)


def equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_made_again_from_its_recipes_alone(tmp_path):
    algorithm = made(batch_norm="support")
    algorithm.model.head.weight.data.add_(1)
    save(algorithm, tmp_path, ways=3, shots=1)
    torch.rand(1)
    before = torch.get_rng_state()
    back = load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(back) is type(algorithm) and equal(back, algorithm)
    assert (back.lr, back.steps, back.batch_norm) == (0.25, 2, "support")
    assert back.recipe == algorithm.recipe and back.model.recipe == algorithm.model.recipe
    assert read_config(tmp_path)["training"] == {"ways": 3, "shots": 1}


def test_dtypes_frozen_parameters_and_a_changed_policy_come_back(tmp_path):
    algorithm = made().double()
    algorithm.model.blocks.requires_grad_(False)
    algorithm.batch_norm = "running"
    save(algorithm, tmp_path)
    back = load(tmp_path)
    assert equal(back, algorithm) and back.batch_norm == "running"
    assert all(p.dtype == torch.float64 for p in back.parameters())
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in algorithm.parameters()]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tied_weights_stay_tied(tmp_path, dtype):
    algorithm = algorithms.create("maml", model=Tied().to(dtype))
    save(algorithm, tmp_path)
    back = load(tmp_path, model=Tied())
    assert equal(back, algorithm)
    assert back.model.first.weight is back.model.second.weight
    assert back.model.first.weight.dtype == dtype


def test_what_no_registry_made_has_to_be_passed(tmp_path):
    save(algorithms.create("maml", model=Tied()), tmp_path / "model")
    with pytest.raises(InputError, match=r"made with the model test_checkpoints.Tied.*pass it.*model=Tied\(\.\.\.\)"):
        load(tmp_path / "model")
    save(Centroids(noisy_net()), tmp_path / "both")
    with pytest.raises(InputError, match=r"made with the algorithm toy.Centroids"):
        load(tmp_path / "both", model=noisy_net())
    mine = Centroids(noisy_net())
    assert load(tmp_path / "both", algorithm=mine) is mine
    algorithm = algorithms.create("maml", model=noisy_net(), criterion=nn.functional.cross_entropy)
    save(algorithm, tmp_path / "criterion")
    with pytest.raises(InputError, match="pass it"):
        load(tmp_path / "criterion", model=noisy_net())


def test_a_model_that_does_not_fit(tmp_path):
    save(Centroids(noisy_net(ways=3)), tmp_path)
    with pytest.raises(
        InputError, match=r"'model.4.weight' has shape \[3, 16\] in the file and shape \[5, 16\] in the"
    ):
        load(tmp_path, algorithm=Centroids(noisy_net(ways=5)))
    with pytest.raises(InputError, match=r"no such tensor in the model"):
        load(tmp_path, algorithm=Centroids(noisy_net()[:3]))


def test_best_and_last(tmp_path):
    algorithm = Centroids(noisy_net())
    settings = {"ways": 3, "shots": 2, "queries": 4, "meta_batch": 2, "validation_queries": 4, "progress": False}
    meta_train(algorithm, world(False), **settings, iterations=2, run=tmp_path / "a")
    assert equal(load(tmp_path / "a", algorithm=Centroids(noisy_net())), algorithm)  # no best: the last
    meta_train(algorithm, world(), **settings, iterations=2, run=tmp_path / "b")
    state_path(tmp_path / "b", "best").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"best.safetensors is truncated"):
        load(tmp_path / "b", algorithm=Centroids(noisy_net()))
    load(tmp_path / "b", algorithm=Centroids(noisy_net()), which="last")


def test_saving_again_replaces_but_never_a_training_run(tmp_path):
    save(made(), tmp_path / "mine")
    other = made()
    other.model.head.weight.data.zero_()
    save(other, tmp_path / "mine")
    assert equal(load(tmp_path / "mine"), other)
    (tmp_path / "mine" / "metrics.jsonl").touch()
    with pytest.raises(InputError, match="holds a training run; save to another folder"):
        save(made(), tmp_path / "mine")


def test_missing_and_half_written_folders(tmp_path):
    with pytest.raises(InputError, match="There is no run folder"):
        load(tmp_path / "gone")
    with pytest.raises(InputError, match=r"has no config.yaml: it is no run folder, or never reached its first"):
        load(tmp_path)
    save(made(), tmp_path)
    state_path(tmp_path).unlink()
    with pytest.raises(InputError, match="never reached its first checkpoint"):
        load(tmp_path)


def test_damaged_and_newer_configs(tmp_path):
    save(made(), tmp_path)
    config = tmp_path / "config.yaml"
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**content, "version": 2}))
    with pytest.raises(InputError, match=r"has version 2 and this fewshot-kit reads up to 1; upgrade"):
        load(tmp_path)
    for text in ("a: [", "just words", "version: new"):
        config.write_text(text)
        with pytest.raises(InputError, match=r"config.yaml"):
            load(tmp_path)


def test_the_data_set_is_recorded(tmp_path):
    transform = Transform(image_size=16, invert=True)
    split = Split(torch.zeros(4, 1, 16, 16), torch.tensor([0, 0, 1, 1]), ["æ", "b"], transform=transform)
    save(made(), tmp_path, data=Data("own", split, None, split, {}))
    recorded = read_config(tmp_path)["data"]
    assert Transform(**recorded["transform"]) == transform
    assert recorded["example_shape"] == [1, 16, 16]
    assert recorded["classes"] == {"train": ["æ", "b"], "test": ["æ", "b"]}


def test_one_file_with_its_recipes(tmp_path):
    algorithm = made()
    save_state(tmp_path / "x", algorithm, [torch.ones(2)], {"recipes": describe(algorithm), "classes": [1]})
    back, extra, meta = rebuild(tmp_path / "x")
    assert equal(back, algorithm) and torch.equal(extra[0], torch.ones(2)) and meta["classes"] == [1]
    save_state(tmp_path / "x", algorithm)
    with pytest.raises(InputError, match="does not say how its algorithm is made"):
        rebuild(tmp_path / "x")


def test_results_are_added_to(tmp_path):
    record_results(tmp_path, {"training": {"iterations": 5}, "test": 1})
    record_results(tmp_path, {"test": {"accuracy": 0.5, "path": tmp_path}})
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "training": {"iterations": 5},
        "test": {"accuracy": 0.5, "path": str(tmp_path)},
    }
