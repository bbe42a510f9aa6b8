"""What runs on a GPU never waits for it within an iteration. The device `meta` has no values: to read one is an error,
and so is to mix its tensors with those of a CPU."""

import dataclasses

import pytest
import torch

from fewshot_kit import algorithms, datasets, models
from fewshot_kit.algorithms.bases.task_classes import class_count, of_ways
from fewshot_kit.engines import Choice
from fewshot_kit.training.meta_update import READ_EVERY, meta_update
from fewshot_kit.training.settings import TrainingSettings
from fewshot_kit.training.state import Training

CASES = [(name, Choice("vmap")) for name in algorithms.names()] + [
    ("maml", Choice("vmap", unfold=True)),
    ("maml", Choice("loop", workers=1)),
]
ANY_DEVICE = TrainingSettings(ways=3, meta_lr=1e-3, schedule="cosine", iterations=100, validate_every=100)


def training(name, choice, settings=ANY_DEVICE):
    model = models.create("conv4", ways=3, hidden=6, image_size=14, seed=1)
    algorithm = algorithms.create(name, model=model).to("meta")
    optimizer = torch.optim.Adam([p for p in algorithm.parameters() if p.requires_grad])
    return Training(algorithm, None, optimizer, settings, choice)


@pytest.fixture(scope="module")
def episodes():
    images = torch.zeros(12, 1, 14, 14, dtype=torch.uint8)
    split = datasets.Split.from_arrays(images, [n // 4 for n in range(12)], rotations="classes")
    return split.episodes(3, 1, 2, 2, torch.Generator().manual_seed(0), device="meta")


@pytest.mark.parametrize("name, choice", CASES, ids=str)
def test_an_iteration_reads_nothing(name, choice, episodes):
    run = training(name, choice)
    meta_update(run, episodes)
    assert (run.iteration, len(run.unread), run.history) == (1, 1, [])


@pytest.mark.parametrize("name", ["maml", "relation_net"])
def test_nor_does_one_whose_update_may_be_left_out(name, episodes, monkeypatch):
    """The device decides. Only a fused Adam looks at `found_inf`, which no CPU without values has."""
    run = training(name, Choice("vmap"), dataclasses.replace(ANY_DEVICE, on_nan="skip"))
    steps = []
    monkeypatch.setattr(run.optimizer, "step", lambda: steps.append(run.optimizer.found_inf))
    meta_update(run, episodes)
    assert [step.device.type for step in steps] == ["meta"] and len(run.unread) == 1


def test_every_tenth_iteration_reads_them_all(episodes):
    run = training("protonet", Choice("vmap"))
    for _ in range(READ_EVERY - 1):
        meta_update(run, episodes)
    with pytest.raises(RuntimeError, match="meta"):  # what has no values cannot be read
        meta_update(run, episodes)


def test_the_number_of_classes_is_looked_for_only_where_nobody_knows_it():
    y = torch.tensor([0, 2, 1])
    assert class_count(y) == 3
    with of_ways(5):
        assert class_count(y) == class_count(y.to("meta")) == 5
        with of_ways(4):
            assert class_count(y) == 4
        assert class_count(y) == 5
    assert class_count(y) == 3
