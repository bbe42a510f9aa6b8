"""What is remembered of a model's modules, and for how long."""

import copy

import pytest
import torch
from torch import nn

from fewshot_kit import algorithms, engines
from fewshot_kit.episodes import Episode
from fewshot_kit.modules.layers import batch_norms, layers, looked_for_once, standing_in, tensors_of


class Tied(nn.Module):
    """One linear layer under two names, or one weight in two layers."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        if what == "module":
            self.other = self.one
        if what == "weight":
            self.other.weight = self.one.weight
        if what == "buffer":
            self.one.register_buffer("mask", torch.ones(3))
            self.other.register_buffer("mask", self.one.mask)


@pytest.mark.parametrize(("what", "tied"), [("nothing", False), ("module", True), ("weight", True), ("buffer", True)])
def test_what_is_tied(what: str, tied: bool) -> None:
    assert layers(Tied(what)).tied is tied


def test_recurrent_and_batch_norm_layers_are_found_by_name() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4)), nn.GRU(4, 2))
    assert batch_norms(model) == {"1.0": model[1][0]}
    assert layers(model).recurrent == [model[2]]


def test_a_model_is_looked_through_once_inside_and_anew_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    model, walks, walk = nn.Sequential(nn.Linear(3, 4)), [], nn.Module.named_modules
    monkeypatch.setattr(nn.Module, "named_modules", lambda self, *a, **k: walks.append(self) or walk(self, *a, **k))
    with looked_for_once():
        first = layers(model)
        walked = len(walks)
        assert layers(model) is first and len(walks) == walked
    assert not batch_norms(model)
    model.append(nn.BatchNorm1d(4))
    assert list(batch_norms(model)) == ["1"]


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_a_layer_put_in_between_two_meta_batches_is_seen(engine: str) -> None:
    """A batch norm that nobody saw would move its running statistics in every task."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 2)).double()
    algorithm = algorithms.MAML(model, lr=0.1)
    x, y = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    episodes = Episode(x, y.repeat(2, 2), x + 1, y.repeat(2, 2))
    engines.meta_backward(algorithm, episodes, engine)
    model[1] = nn.BatchNorm1d(4).double()
    engines.meta_backward(algorithm, episodes, engine)
    assert torch.equal(model[1].running_mean, torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("what", ["nothing", "module", "weight", "buffer"])
def test_tensors_stand_in_under_every_name(what: str) -> None:
    """As `functional_call` has it, and only inside, an error or not."""

    class Both(Tied):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.other(self.one(x)) * getattr(self.one, "mask", 1) * getattr(self.other, "mask", 1)

    model, x = Both(what), torch.randn(2, 3)
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    given = {name: torch.randn_like(tensor) for name, tensor in own.items()}
    plain = model(x)
    # A copy, because `functional_call` leaves its tensors in a module that has two names.
    expected = torch.func.functional_call(copy.deepcopy(model), given, (x,), tie_weights=True)
    with pytest.raises(KeyError), standing_in(model, given):
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
        assert tensors_of(model, given) == given
        raise KeyError
    assert torch.equal(model(x), plain)
    assert all(tensor is own[name] for name, tensor in model.state_dict(keep_vars=True).items() if name in own)
    with pytest.raises(KeyError, match="nowhere"), standing_in(model, {"nowhere": x}):
        pass
