"""Scripts written for learn2learn run with the kit's classes in place of learn2learn's."""

import copy
import importlib
import inspect
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, compat
from fewshot_kit.algorithms import ANIL, BOIL, FOMAML, MAML, MetaSGD
from fewshot_kit.algorithms.bases.frozen_learner import FrozenLearner
from fewshot_kit.algorithms.bases.replacing import with_options
from fewshot_kit.errors import InputError
from fewshot_kit.options import options_of


def network():
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def tasks(count, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.randn(12, 4, generator=generator, dtype=torch.float64), torch.arange(3).repeat(4)


def training_script(maml, iterations=3, meta_batch=2, adaptation_steps=2):
    """The shape of learn2learn's own examples: clone, adapt, evaluate, backward, average by hand, step."""
    optimizer = torch.optim.Adam(maml.parameters(), 1e-2)
    loss = nn.CrossEntropyLoss(reduction="mean")
    for iteration in range(iterations):
        optimizer.zero_grad()
        for data, labels in tasks(meta_batch, iteration):
            learner = maml.clone()
            for _ in range(adaptation_steps):
                learner.adapt(loss(learner(data[:6]), labels[:6]))
            loss(learner(data[6:]), labels[6:]).backward()
        for p in maml.parameters():
            p.grad.data.mul_(1.0 / meta_batch)
        optimizer.step()
    return [p.detach() for p in maml.parameters()]


def theirs(ours):
    """learn2learn's class of the same name."""
    return getattr(compat.learn2learn().algorithms, ours.__name__)


def gradients(learner, loss_of, model, steps=2, **options):
    """Of the loss after `steps` of `adapt`, for each parameter of the model; None where it has none."""
    for _ in range(steps):
        learner.adapt(loss_of(learner), **options)
    model.zero_grad()
    loss_of(learner).backward()
    return [p.grad for p in model.parameters()]


def same(some, others):
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("kind", [MAML, MetaSGD])
@pytest.mark.parametrize("first_order", [False, True])
def test_a_training_script_gives_the_same_weights(kind, first_order):
    """And the same rates, in the same order."""
    ours = training_script(kind(network(), lr=0.1, first_order=first_order))
    assert same(ours, training_script(theirs(kind)(network(), lr=0.1, first_order=first_order)))
    assert not torch.equal(ours[0], next(network().parameters()))
    assert len(ours) == (8 if kind is MetaSGD else 4)


@pytest.mark.parametrize("name", ["__init__", "clone"])
@pytest.mark.parametrize("kind", [MAML, MetaSGD])
def test_arguments_have_learn2learns_names_in_learn2learns_order(kind, name):
    wanted = list(inspect.signature(getattr(theirs(kind), name)).parameters)
    assert list(inspect.signature(getattr(kind, name)).parameters)[: len(wanted)] == wanted


def test_flags_reach_the_learner():
    model = network()
    made = MAML(model, 0.1, True, False, False).clone()
    assert (made.lr, made.first_order, made.allow_unused, made.allow_nograd) == (0.1, True, False, False)
    made = MAML(model, 0.1).clone(False, False, False)
    assert (made.first_order, made.allow_unused, made.allow_nograd) == (False, False, False)
    made = FOMAML(model, 0.1, allow_nograd=False).clone()
    assert (made.first_order, made.allow_unused, made.allow_nograd) == (True, True, False)
    made = MAML(model, 0.1, allow_unused=None, allow_nograd=False).clone()
    assert not made.allow_unused  # in learn2learn, None is what allow_nograd is


@pytest.mark.parametrize("kind, name", [(MAML, "allow_unused"), (FOMAML, "allow_nograd"), (MetaSGD, "lrs")])
def test_learn2learns_arguments_are_no_options_of_a_run(kind, name):
    registered = {MAML: "maml", FOMAML: "fomaml", MetaSGD: "meta_sgd"}[kind]
    assert name not in options_of(kind).parameters and "head_lr" in options_of(kind).parameters
    with pytest.raises(InputError, match=f"'{registered}' has no option '{name}'"):
        algorithms.create(registered, model=network(), **{name: None})
    with pytest.raises(InputError, match=f"{kind.__name__} has no option '{name}'"):
        with_options(kind(network()), **{name: None})


@pytest.mark.parametrize("first_order", [False, True])
def test_an_unused_parameter_stays_unless_that_is_forbidden(first_order):
    """Of a loss that looks at the first layer only."""
    model = network()
    x = next(tasks(1, 0))[0]

    def loss(learner):
        return learner.module[0](x).square().mean()

    learner = MAML(model, 0.1, first_order).clone()
    found = gradients(learner, loss, model)
    assert found[0].any() and found[1].any() and found[2] is None and found[3] is None
    assert torch.equal(learner.module[2].weight, model[2].weight)
    assert same(found, gradients(theirs(MAML)(model, 0.1, first_order, allow_unused=True).clone(), loss, model))
    for maml, arguments in ((MAML(model, 0.1), {"allow_unused": False}), (MAML(model, 0.1, allow_unused=False), {})):
        learner = maml.clone()
        with pytest.raises(RuntimeError, match="not have been used"):
            learner.adapt(loss(learner), **arguments)
        learner.adapt(loss(learner), allow_unused=True)


@pytest.mark.parametrize("first_order", [False, True])
def test_a_frozen_parameter_stays_unless_that_is_forbidden(first_order, capfd):
    model = network()
    model[0].weight.requires_grad_(False)
    x, y = next(tasks(1, 0))

    def loss(learner):
        return F.cross_entropy(learner(x), y)

    learner = MAML(model, 0.1, first_order).clone()
    found = gradients(learner, loss, model)
    assert found[0] is None and all(gradient.any() for gradient in found[1:])
    assert torch.equal(learner.module[0].weight, model[0].weight)
    assert same(found, gradients(theirs(MAML)(model, 0.1, first_order, allow_nograd=True).clone(), loss, model))
    for maml, arguments in ((MAML(model, 0.1), {"allow_nograd": False}), (MAML(model, 0.1, allow_nograd=False), {})):
        learner = maml.clone()
        with pytest.raises(UnboundLocalError):  # how learn2learn refuses, after it has printed why
            learner.adapt(loss(learner), **arguments)
        assert "does not require grad" in capfd.readouterr().err
        learner.adapt(loss(learner), allow_nograd=True)


def test_the_flags_mean_nothing_to_the_kits_own_inner_loop():
    model = network()
    model[0].weight.requires_grad_(False)
    x, y = next(tasks(1, 0))
    strict, plain = (MAML(model, 0.1, **flags) for flags in ({"allow_unused": False, "allow_nograd": False}, {}))
    assert torch.equal(*(maml.predict(maml.adapt(x, y), x) for maml in (strict, plain)))


def test_rates_have_learn2learns_name():
    meta = MetaSGD(network(), 0.3)
    assert list(meta.lrs) == list(meta.parameters())[4:]
    for rate, parameter in zip(meta.lrs, meta.model.parameters(), strict=True):
        assert torch.equal(rate, torch.full_like(parameter, 0.3))
    assert [name for name in meta.state_dict() if "lrs" in name] == []  # a run's weights have the names they had


def test_rates_that_are_given_are_shared():
    model = network()
    x, y = next(tasks(1, 0))
    rates = [nn.Parameter(0.1 + 0.05 * torch.rand_like(p)) for p in model.parameters()]
    meta = MetaSGD(model, lrs=rates)
    assert all(ours is given for ours, given in zip(meta.lrs, rates, strict=True))
    slopes = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    wanted = [p - rate * slope for p, rate, slope in zip(model.parameters(), rates, slopes, strict=True)]
    for parameter, there in zip(meta.adapt(x, y)["parameters"].values(), wanted, strict=True):
        torch.testing.assert_close(parameter, there, rtol=1e-12, atol=0)

    def loss(learner):
        return F.cross_entropy(learner(x), y)

    found = []
    for wrapper in (meta, theirs(MetaSGD)(model, lrs=rates)):
        for rate in rates:
            rate.grad = None
        found.append(gradients(wrapper.clone(), loss, model) + [rate.grad for rate in rates])
    assert same(*found) and all(gradient.any() for gradient in found[0])


def test_rates_of_other_shapes_are_refused():
    rates = [nn.Parameter(torch.ones_like(p)) for p in network().parameters()]
    with pytest.raises(InputError, match=r"lrs have the shapes \[\[8, 4\]\]; .*: \[\[8, 4\], \[8\], \[3, 8\], \[3\]\]"):
        MetaSGD(network(), lrs=rates[:1])
    with pytest.raises(InputError, match="lrs have the shapes"):
        MetaSGD(network(), lrs=rates[::-1])


def test_a_learner_of_meta_sgd_has_the_heads_rate_and_no_class_means():
    rates = MetaSGD(network(), 0.1, head_lr=0.4).clone().lrs
    assert [float(rate.flatten()[0].detach()) for rate in rates] == [0.1, 0.1, 0.4, 0.4]
    with pytest.raises(InputError, match="start from the model's own head"):
        MetaSGD(network(), 0.1, class_means=True).clone()


def test_a_script_runs_with_the_import_that_the_readme_gives():
    compat.learn2learn()  # quietly; the first line finds it loaded
    readme, found = (Path(__file__).parents[2] / "README.md").read_text(), []
    for line in ("import learn2learn as l2l", "from fewshot_kit import learn2learn as l2l"):
        assert f"`{line}`" in readme
        names = {}
        exec(line, names)
        found.append(training_script(names["l2l"].algorithms.MAML(network(), lr=0.1)))
    assert same(*found)


def test_one_import_makes_learn2learn_the_kits():
    from fewshot_kit import learn2learn as l2l

    library = compat.learn2learn()
    assert l2l.algorithms.MAML is MAML and l2l.algorithms.MetaSGD is MetaSGD
    assert library.algorithms.MAML is not MAML  # learn2learn itself is as it was
    for name in ("data", "vision", "nn", "optim", "clone_module", "__version__"):
        assert getattr(l2l, name) is getattr(library, name)
    assert l2l.algorithms.GBML is library.algorithms.GBML
    with pytest.raises(AttributeError, match="learn2learn.*nothing"):
        l2l.nothing  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match="is not a package"):
        importlib.import_module("fewshot_kit.learn2learn.data")


def test_the_clone_is_learn2learns_own():
    assert isinstance(MAML(network(), 0.1).clone(), compat.learn2learn().algorithms.MAML)
    assert MAML(network(), 0.1).clone(first_order=True).first_order


def test_an_anil_script_wraps_the_head_only():
    """learn2learn's ANIL examples wrap the head in MAML and compute the features outside."""
    features, head = nn.Linear(4, 8).double(), nn.Linear(8, 3).double()

    def script(maml_class):
        learner = maml_class(copy.deepcopy(head), lr=0.1).clone()
        data, labels = next(tasks(1, 0))
        learner.adapt(F.cross_entropy(learner(features(data[:6])), labels[:6]))
        return F.cross_entropy(learner(features(data[6:])), labels[6:])

    assert torch.equal(script(MAML), script(compat.learn2learn().algorithms.MAML))


def test_calling_an_algorithm_runs_the_model():
    model, x = network(), torch.randn(2, 4, dtype=torch.float64)
    assert torch.equal(MAML(model, 0.1)(x), model(x))


@pytest.mark.parametrize("algorithm, moves", [(BOIL, ["0.weight", "0.bias"]), (ANIL, ["2.weight", "2.bias"])])
@pytest.mark.parametrize("first_order", [False, True])
def test_the_frozen_learner_steps_by_hand(algorithm, moves, first_order):
    model = network()
    data, labels = next(tasks(1, 0))
    learner = algorithm(model, lr=0.1, first_order=first_order).clone()
    assert isinstance(learner, FrozenLearner)
    names = [n for n, _ in model.named_parameters()]
    grads = torch.autograd.grad(F.cross_entropy(model(data), labels), list(model.parameters()))
    learner.adapt(F.cross_entropy(learner(data), labels))
    for name, p, g, after in zip(names, model.parameters(), grads, learner.learner.fast_params, strict=True):
        torch.testing.assert_close(after, p - 0.1 * g if name in moves else p, rtol=1e-12, atol=0)
    F.cross_entropy(learner(data), labels).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())  # frozen inside, trained outside


def test_a_frozen_parameter_needs_no_flag():
    model = network()
    model[0].requires_grad_(False)
    data, labels = next(tasks(1, 0))
    for algorithm in (MAML, BOIL, ANIL):
        learner = algorithm(model, lr=0.1).clone()
        model.zero_grad()
        learner.adapt(F.cross_entropy(learner(data), labels))
        F.cross_entropy(learner(data), labels).backward()
        assert model[0].weight.grad is None and model[2].weight.grad is not None
