"""Workers' copies: kept while nothing but tensors changes, made anew otherwise, and never behind."""

import pytest
import torch
from engine_world import gradients, maml, meta_batch
from torch import nn

from fewshot_kit import engines
from fewshot_kit.engines.replicas import Copies


def kept(algorithm, change):
    """Whether the copies are the same modules after a change; and they have today's tensors in any case."""
    copies = Copies()
    before = list(copies.of(algorithm, 2))
    change(algorithm)
    after = copies.of(algorithm, 2)
    for one in after:
        for name, tensor in algorithm.state_dict().items():
            assert torch.equal(one.state_dict()[name], tensor) and one.state_dict()[name].dtype == tensor.dtype
        assert [m.training for m in one.modules()] == [m.training for m in algorithm.modules()]
        assert [p.requires_grad for p in one.parameters()] == [p.requires_grad for p in algorithm.parameters()]
        assert (one.lr, one.steps, one.criterion) == (algorithm.lr, algorithm.steps, algorithm.criterion)
    return all(one is other for one, other in zip(before, after, strict=True))


def step(algorithm):
    with torch.no_grad():
        for tensor in [*algorithm.parameters(), *algorithm.buffers()]:
            tensor.add_(1)


def test_they_are_kept_from_one_update_to_the_next():
    assert kept(maml(), step)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: setattr(a, "lr", 0.7),
        lambda a: setattr(a, "steps", 3),
        lambda a: setattr(a, "criterion", nn.functional.mse_loss),
        lambda a: a.eval(),
        lambda a: a.float(),
        lambda a: next(a.parameters()).requires_grad_(False),
        lambda a: setattr(a.model, "0", nn.Linear(2, 2)),
        lambda a: a.model.register_forward_hook(lambda *_: None),
        lambda a: setattr(a.model[0].blocks[0][1], "eps", 0.1),
    ],
)
def test_they_are_made_anew_where_anything_else_changed(change):
    assert not kept(maml().train(), change)


def test_a_choice_gives_todays_gradients(threads):
    threads(2)
    algorithm, batch = maml(), meta_batch()
    choice = engines.choose(algorithm, batch, "loop")
    for change in (step, lambda a: setattr(a, "lr", 0.01), lambda a: a.eval()):
        gradients(algorithm, batch, choice)
        change(algorithm)
        for one, other in zip(gradients(algorithm, batch, choice), gradients(algorithm, batch, "loop"), strict=True):
            assert torch.equal(one, other)


def test_after_an_error_nothing_of_it_is_left(threads):
    def fails(scores, targets):
        if len(scores) == 9:
            raise ArithmeticError("the query set")
        return nn.functional.cross_entropy(scores, targets)

    threads(2)
    algorithm, batch = maml(criterion=fails), meta_batch()
    choice = engines.choose(algorithm, batch, "loop")
    expected = gradients(algorithm, batch, choice)
    with pytest.raises(ArithmeticError):
        engines.meta_backward(algorithm, meta_batch(queries=3), choice)
    assert choice.copies.made == []
    for one, other in zip(gradients(algorithm, batch, choice), expected, strict=True):
        assert torch.equal(one, other)
