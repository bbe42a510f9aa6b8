"""BOIL under every cyclic shift of the class numbers: by hand, and alike for however classes are numbered."""

import pytest
import torch
from engine_world import assert_same, batch_for, build, gradients
from toy import noisy_net, points

from fewshot_kit import Learner, adapt, algorithms
from fewshot_kit.errors import InputError

WAYS = 3


def task():
    x = torch.randn(18, *points().x.shape[1:], generator=torch.Generator().manual_seed(1))
    return x[:12], torch.arange(WAYS).repeat(4), x[12:]


def boil(**options):
    return algorithms.create("boil", model=noisy_net(ways=5).eval(), lr=0.1, steps=2, batch_norm="running", **options)


def test_the_mean_probability_of_every_shift_by_hand():
    x, y, queries = task()
    plain, shifted = boil().eval(), boil(all_shifts=True).eval()
    shifted.load_state_dict(plain.state_dict())
    expected = torch.zeros(6, 5)
    for shift in range(WAYS):
        probabilities = plain.predict(plain.adapt(x, (y + shift) % WAYS), queries).softmax(1)
        for number in range(WAYS):
            expected[:, number] += probabilities[:, (number + shift) % WAYS] / WAYS
        expected[:, WAYS:] += probabilities[:, WAYS:] / WAYS
    found = shifted.predict(shifted.adapt(x, y), queries)
    assert torch.allclose(found.exp(), expected, atol=1e-5)


def test_a_shift_of_the_labels_shifts_the_scores_and_nothing_else():
    x, y, queries = task()
    algorithm = boil(all_shifts=True).eval()
    with torch.inference_mode():
        first = algorithm.predict(algorithm.adapt(x, y), queries)[:, :WAYS]
        second = algorithm.predict(algorithm.adapt(x, (y + 1) % WAYS), queries)[:, :WAYS]
    assert torch.allclose(first, second.roll(-1, 1), atol=1e-5)


def test_engines_agree_on_its_gradient():
    model, batch = build("conv4", torch.float64), batch_for("conv4", torch.float64)
    algorithm = algorithms.create("boil", model=model, lr=0.2, steps=2, all_shifts=True).train()
    assert_same(gradients(algorithm, batch, "loop"), gradients(algorithm, batch, "vmap"))


def test_a_learner_of_it_is_saved_and_loaded(tmp_path):
    x, y, queries = task()
    learner = adapt(boil(all_shifts=True), (x, y))
    learner.save(tmp_path / "learner.safetensors")
    loaded = Learner.load(tmp_path / "learner.safetensors", model=noisy_net(ways=5))
    assert torch.equal(loaded.predict_proba(queries), learner.predict_proba(queries))


def test_what_it_cannot_do():
    x, y, _ = task()
    with pytest.raises(InputError, match="renumbers classes, and these targets are floats"):
        boil(all_shifts=True).adapt(x, y.float())
    with pytest.raises(InputError, match="A clone is one learner"):
        boil(all_shifts=True).clone()
