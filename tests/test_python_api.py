"""Models, queries and meta-batches that people hand to the Python functions by mistake: a sentence each."""

from __future__ import annotations

import pytest
import torch
from small_runs import train
from torch import nn
from toy import Centroids, noisy_net, points, world

from fewshot_kit import adapt, algorithms, engines, evaluate, meta_train
from fewshot_kit.algorithms import MAML, ProtoNet
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError

X, Y = points().x[:36:2], points().y[:36:2]
TASK = {"ways": 3, "shots": 2, "queries": 4}


class Gives(nn.Module):
    """A network whose forward gives what `how` makes of its scores."""

    def __init__(self, how):
        super().__init__()
        self.net, self.how = nn.Linear(6, 3), how

    def forward(self, x):
        return self.how(self.net(x))


def batch(tasks=2):
    return points().episodes(3, 2, 4, tasks, torch.Generator().manual_seed(0))


def adapted(model):
    return adapt(model, (X, Y), algorithm="maml")


def adapted_by_auto(model):
    return adapt(model, (X, Y))


def evaluated(model):
    return evaluate(MAML(model), points(), **TASK, episodes=2)


def trained(model):
    return train(MAML(model), iterations=1)


def backward(engine):
    return lambda model: engines.meta_backward(MAML(model), batch(), engine)


WAYS = {
    "adapt": adapted,
    "adapt by auto": adapted_by_auto,
    "evaluate": evaluated,
    "meta_train": trained,
    "vmap": backward("vmap"),
    "loop": backward("loop"),
    "auto": backward("auto"),
}
ALL = pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)


@ALL
@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda scores: (scores, None), "Gives returns a tuple of 2, and has to return one tensor"),
        (lambda scores: {"logits": scores}, "Gives returns a dict, and has to return one tensor"),
        (lambda scores: None, "Gives returns None, and has to return one tensor"),
        (lambda scores: scores.mean(), r"Gives returns shape \[\] for 2 examples; the first dimension must be"),
    ],
)
def test_a_model_that_returns_no_scores(run, how, said):
    with pytest.raises(InputError, match=said):
        run(Gives(how))


@ALL
def test_a_layer_that_gives_a_tuple_to_the_next(run):
    said = r"Sequential cannot be run on examples of shape \[6\] \(linear\(\)|Sequential returns a tuple of 2"
    with pytest.raises(InputError, match=said):  # heads on features leave the last layer out
        run(nn.Sequential(nn.GRU(6, 4), nn.Linear(4, 3)))


@ALL
def test_a_model_without_values(run):
    with pytest.raises(InputError, match="'.*weight' of .* is on the device 'meta', which holds no values"):
        run(nn.Linear(6, 3, device="meta"))


@ALL
@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, "The model is None; give an nn.Module"),
        (len, "The model is the function len; put it into the forward of an nn.Module"),
        (nn.Linear, r"The model is the class Linear; give an object of it, Linear\(...\)"),
        (7, "The model is of type int; give an nn.Module"),
    ],
)
def test_what_is_no_model(run, model, said):
    with pytest.raises(InputError, match=said):
        run(model)


@pytest.mark.parametrize("name", algorithms.names())
def test_no_algorithm_is_made_of_what_is_no_model(name):
    for model, said in ((None, "The model is None"), (lambda x: x, "the function <lambda>"), ("conv4", "text 'conv4'")):
        with pytest.raises(InputError, match=said):
            algorithms.create(name, model=model)


def test_what_is_no_split_or_data_set():
    with pytest.raises(InputError, match="evaluate takes a split, and Data is a data set; give .* such as data.test"):
        evaluate(Centroids(noisy_net()), world())
    with pytest.raises(InputError, match="evaluate takes a split, not NoneType"):
        evaluate(Centroids(noisy_net()), None)
    for wrong, kind in ((points(), "Split"), (None, "NoneType")):
        with pytest.raises(InputError, match=f"meta_train takes a data set .*, and {kind} has no train"):
            meta_train(Centroids(noisy_net()), wrong)


def test_what_is_no_algorithm():
    for wrong, said in (
        (nn.Linear(6, 3), "takes an algorithm, and Linear is a plain module"),
        ("maml", "takes an algorithm, not 'maml'"),
        (None, "takes an algorithm, not a NoneType"),
    ):
        with pytest.raises(InputError, match=f"evaluate {said}"):
            evaluate(wrong, points())
        with pytest.raises(InputError, match=f"meta_train {said}"):
            meta_train(wrong, world())
        with pytest.raises(InputError, match=f"meta_backward {said}"):
            engines.meta_backward(wrong, batch())


class TestQueries:
    @pytest.fixture(params=["maml", "protonet", "auto", "ridge"])
    def learner(self, request):
        return adapt(noisy_net(), (X, Y), algorithm=request.param)

    def test_of_another_size(self, learner):
        with pytest.raises(
            InputError,
            match=r"Sequential does not take examples of shape \[7\] \(torch.float32\), .*; give a batch \[N, ...\] of "
            r"examples like those of the support set, which had shape \[6\] \(torch.float32\)\.",
        ):
            learner(torch.ones(4, 7))

    def test_of_another_dtype(self, learner):
        whole = X.round()
        expected = learner(whole)
        for dtype in (torch.float64, torch.float16, torch.int64, torch.int32):
            assert torch.equal(learner(whole.to(dtype)), expected)
        assert torch.equal(learner(whole.long().tolist()), expected)

    def test_of_a_learner_from_a_file(self, learner, tmp_path):
        algorithm = learner.algorithm
        again = type(learner)(algorithm, learner.state, learner.classes)
        with pytest.raises(InputError, match=r"does not take examples of shape \[7\].*like those of the support set\."):
            again(torch.ones(4, 7))

    def test_an_error_of_the_models_own_is_left_alone(self):
        net = Gives(lambda scores: scores)
        learner = adapted(net)
        learner.algorithm.model.how = lambda scores: scores[99]
        with pytest.raises(IndexError):
            learner(X)


BAD = {
    "size": (
        lambda e: e._replace(query_x=e.query_x[..., :5]),
        r"queries have shape \[5\] and the support examples \[6\]",
    ),
    "dtype": (lambda e: e._replace(query_x=e.query_x.double()), "queries have dtype torch.float64 and the support exa"),
    "columns": (
        lambda e: e._replace(support_y=e.support_y[..., None]),
        r"support_y has shape \[2, 6, 1\]; give one",
    ),
    "few": (
        lambda e: e._replace(query_y=e.query_y[:, 1:]),
        r"query_x of shape \[2, 12, 6\] and query_y of .* \[2, 11\]",
    ),
    "classes": (lambda e: e._replace(query_y=e.query_y + 3), "6 ways were asked for, and Sequential has 3 outputs"),
    "below": (lambda e: e._replace(query_y=e.query_y - 1), "query_y holds the class index -1; they count from 0"),
    "wide": (lambda e: Episode(e[0][..., :5], e[1], e[2][..., :5], e[3]), r"does not take examples of shape \[5\]"),
    "none": (lambda e: e._replace(support_y=None), "support_y is None; give a tensor"),
    "int": (lambda e: e._replace(support_y=3), "support_y is of type int; give a tensor"),
    "list": (lambda e: e._replace(query_y=e.query_y.tolist()), "query_y is of type list; give a tensor"),
    "tasks": (lambda e: e._replace(query_y=e.query_y[:1]), "these numbers of tasks: support_x 2, .* query_y 1"),
    "tuple": (tuple, "The meta-batch is a tuple; give Episode"),
    "kinds": (
        lambda e: e._replace(support_y=e.support_y.float()),
        "support_y is torch.float32 and query_y torch.int64",
    ),
    "double": (
        lambda e: e._replace(support_x=e.support_x.double(), query_x=e.query_x.double()),
        r"Sequential does not take examples of torch.float64 .*; give x.to\(torch.float32\)",
    ),
    "whole": (
        lambda e: e._replace(support_x=e.support_x.long(), query_x=e.query_x.long()),
        r"Sequential does not take examples of torch.int64 .*; give x.to\(torch.float32\)",
    ),
    "no queries": (
        lambda e: e._replace(query_x=e.query_x[:, :0], query_y=e.query_y[:, :0]),
        "The tasks have no queries",
    ),
    "no tasks": (lambda e: Episode(*(part[:0] for part in e)), "numbers of tasks: support_x 0"),
    "elsewhere": (lambda e: Episode(*(part.to("meta") for part in e)), "The meta-batch is on 'meta' and MAML on 'cpu'"),
}


@pytest.mark.parametrize(("spoil", "said"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("engine", ["vmap", "loop", "reference", "auto"])
def test_a_meta_batch_that_does_not_fit(spoil, said, engine):
    with pytest.raises(InputError, match=said):
        engines.meta_backward(MAML(noisy_net()), spoil(batch()), engine)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda e: e._replace(query_y=e.query_y + 1), "query_y holds the class index 3, and support_y none above 2"),
        (lambda e: e._replace(support_x=e.support_x[:, :0], support_y=e.support_y[:, :0]), "have no support examples"),
    ],
)
@pytest.mark.parametrize("engine", ["vmap", "loop", "auto"])
def test_a_meta_batch_that_does_not_fit_a_metric_algorithm(spoil, said, engine):
    with pytest.raises(InputError, match=said):
        engines.meta_backward(ProtoNet(noisy_net()), spoil(batch()), engine)


@pytest.mark.parametrize("engine", ["loop", "reference"])
def test_class_indices_of_another_dtype(engine):
    """`vmap` takes them."""
    given = batch()._replace(query_y=batch().query_y.int())
    with pytest.raises(InputError, match="query_y is torch.int32; class indices are int64, as query_y.long"):
        engines.meta_backward(MAML(noisy_net()), given, engine)


def test_what_only_an_engine_cannot_run_is_still_its_own():
    """No blame for the meta-batch, where the loop runs it."""

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(x * 2 if x.sum() > 0 else x)

    with pytest.raises(InputError, match="The engine 'vmap' cannot run this"):
        engines.meta_backward(MAML(Branching()), batch(), "vmap")
    engines.meta_backward(MAML(Branching()), batch(), "auto")


def test_protonet_of_a_model_that_returns_a_tuple():
    """An algorithm that leaves the head out."""
    with pytest.raises(InputError, match="returns a tuple of 2"):
        evaluate(ProtoNet(Gives(lambda scores: (scores, scores))), points(), **TASK, episodes=1)
