"""Starting from weights that are there, and Meta-Baseline, which is made for it."""

import pytest
import torch
from small_runs import maml, same, train
from torch import nn
from torch.nn import functional as F
from toy import noisy_net, points

from fewshot_kit import adapt, algorithms
from fewshot_kit.algorithms import MAML
from fewshot_kit.errors import InputError
from fewshot_kit.training.initial import start_from


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """A pre-trained network, and the folder of its run."""
    run = tmp_path_factory.mktemp("runs") / "baseline"
    algorithm = algorithms.create("baseline", model=noisy_net(), classes=8, batch=16)
    train(algorithm, iterations=8, run=run)
    return algorithm, run


def test_from_a_run_of_another_algorithm(baseline):
    trained, run = baseline
    algorithm = MAML(noisy_net(ways=5))
    assert start_from(algorithm, run) == ["model.4.weight", "model.4.bias"]
    assert torch.equal(algorithm.model[0].weight, trained.model[0].weight)
    assert torch.equal(algorithm.model[1].running_mean, trained.model[1].running_mean)


@pytest.mark.parametrize("name, zero", [("maml", True), ("anil", True), ("meta_sgd", True), ("boil", False)])
def test_a_head_that_adapts_starts_from_zero(baseline, name, zero):
    algorithm = algorithms.create(name, model=noisy_net(ways=5))
    drawn = algorithm.model[4].weight.detach().clone()
    start_from(algorithm, baseline[1])
    assert torch.equal(algorithm.model[4].weight, torch.zeros_like(drawn) if zero else drawn)


def test_every_step_of_maml_plus_plus_starts_as_the_network(baseline):
    trained, run = baseline
    algorithm = algorithms.create("maml_plus_plus", model=noisy_net(ways=5), steps=3)
    start_from(algorithm, run)
    norm = trained.model[1]
    assert algorithm.norms == ["1.weight", "1.bias"]
    for rows, own in zip(algorithm.rows, (norm.weight, norm.bias), strict=True):
        assert torch.equal(rows, own.expand(2, -1))
    for name, table in algorithm.stored.items():
        assert torch.equal(algorithm.get_buffer(table), trained.model.get_buffer(name).expand(2, -1))


def test_from_a_checkpoint_a_learner_and_a_file_of_weights(baseline, tmp_path):
    trained, run = baseline
    learner = adapt(trained, (points().x[:24], points().y[:24]))
    learner.save(tmp_path / "learner.safetensors")
    torch.save(trained.model.state_dict(), tmp_path / "net.pt")
    for source in (run / "checkpoints" / "best.safetensors", tmp_path / "learner.safetensors", tmp_path / "net.pt"):
        algorithm = MAML(noisy_net())
        start_from(algorithm, source)
        assert torch.equal(algorithm.model[0].weight, trained.model[0].weight), source


def test_what_the_algorithm_learned_itself_comes_along(tmp_path):
    first = algorithms.create("meta_sgd", model=noisy_net(), lr=0.1)
    train(first, iterations=2, run=tmp_path / "first")
    second = algorithms.create("meta_sgd", model=noisy_net(), lr=0.1)
    assert start_from(second, tmp_path / "first") == [] and same(first, second)


def test_the_trainer_starts_there_and_resumes_without_it(baseline, tmp_path):
    _, run = baseline
    whole, stopped = maml(), maml()
    train(whole, iterations=4, validate_every=2, init=run, run=tmp_path / "whole")
    train(stopped, iterations=2, validate_every=2, init=run, run=tmp_path / "stopped")
    moved = tmp_path / "gone"
    run.rename(moved)
    try:
        again = maml()
        train(again, iterations=4, validate_every=2, init=run, run=tmp_path / "stopped", resume=True)
    finally:
        moved.rename(run)
    assert same(whole, again)
    plain = maml()
    train(plain, iterations=4)
    assert not same(whole, plain)


def test_what_does_not_fit_is_named(baseline, tmp_path):
    _, run = baseline
    wide = MAML(nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)))
    with pytest.raises(InputError, match=r"does not fit Sequential: '0.weight' has shape \[16, 6\] there and shape"):
        start_from(wide, run)
    with pytest.raises(InputError, match="There is no|cannot be read"):
        start_from(maml(), tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="never reached its first checkpoint"):
        start_from(maml(), tmp_path / "empty")


def test_meta_baseline_by_hand():
    """Scores are the factor times the cosine with the mean of each class's embeddings (equation 2)."""
    algorithm = algorithms.create("meta_baseline", model=nn.Flatten(), scale=7.0)
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    scores = algorithm.predict(algorithm.adapt(x, torch.tensor([0, 0, 1])), torch.tensor([[3.0, 4.0]]))
    assert torch.allclose(scores, torch.tensor([[7 * 0.6, 7 * 0.8]]))
    # The mean is of the embeddings as they are: the longer of two weighs more.
    means = algorithm.adapt(torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1]))["means"]
    assert torch.allclose(means[0], F.normalize(torch.tensor([3.0, 1.0]), dim=0))


def test_meta_baseline_goes_on_from_a_baseline(baseline):
    _, run = baseline
    algorithm = algorithms.create("meta_baseline", model=noisy_net(), batch_norm="running")
    train(algorithm, iterations=3, init=run)
    assert float(algorithm.figures()["factor"]) != 10.0
    with pytest.raises(InputError, match="scale is 0"):
        algorithms.create("meta_baseline", model=noisy_net(), scale=0)
