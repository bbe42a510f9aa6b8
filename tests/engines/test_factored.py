"""`engine="factored"`: an independent statement of its algebra, the other engines' gradients, and what it refuses."""

import pytest
import torch
from engine_world import Branching, Recurrent, assert_same, gradients, meta_batch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, datasets, engines, meta_train, models
from fewshot_kit.engines import factored, loop
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError


def layered(norm, wide=9):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(196, 40), norm, nn.ReLU(inplace=True), nn.Linear(40, wide), nn.Tanh(),
            nn.Linear(wide, 3),
        ).double()  # fmt: skip
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    return model


NORMS = {"none": nn.Identity, "batch": lambda: nn.BatchNorm1d(40), "layer": lambda: nn.LayerNorm(40)}


def sines(tasks=3):
    generator = torch.Generator().manual_seed(4)
    return Episode(*(torch.randn(tasks, 10, 1, generator=generator, dtype=torch.float64) for _ in range(4)))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_output_of_an_adapted_layer_is_that_of_its_adapted_weight(steps):
    """One linear layer, by hand: its weight after the steps, and the meta-gradient through all of them."""
    layer, batch, lr = nn.Linear(6, 4).double(), 3, 0.3
    generator = torch.Generator().manual_seed(1)
    x, queries = (torch.randn(batch, 3, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    y, answers = (torch.randn(batch, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    found = factored.run(algorithms.create("maml", model=layer, lr=lr, steps=steps), Episode(x, y, queries, answers))
    losses = []
    for task in range(batch):
        weight, bias = layer.weight, layer.bias
        for _ in range(steps):
            slope = 2 * (x[task] @ weight.T + bias - y[task]) / y[task].numel()
            weight, bias = weight - lr * slope.T @ x[task], bias - lr * slope.sum(0)
        losses.append(((queries[task] @ weight.T + bias - answers[task]) ** 2).mean())
    expected = torch.autograd.grad(sum(losses), [layer.weight, layer.bias])
    assert_same([found.losses, *found.gradients], [torch.stack(losses).detach(), *expected])


@pytest.mark.parametrize("policy", ["transductive", "support", "running"])
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["maml", "fomaml", "anil", "boil"])
def test_it_gives_what_the_loop_gives(name, norm, steps, policy):
    """Three steps on six images pass the width of the last layers, and not of the first."""
    algorithm = algorithms.create(name, model=layered(NORMS[norm]()), lr=0.2, steps=steps, batch_norm=policy)
    batch = meta_batch(4)
    expected = gradients(algorithm.train(), batch, "loop")
    choice = engines.choose(algorithm, batch, "factored")
    assert_same(gradients(algorithm, batch, choice), expected)
    assert_same(gradients(algorithm, batch, "factored", chunk=3), expected)
    assert_same(choice.predict(algorithm, batch), loop.predict(algorithm, batch))


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("options", [{"head_lr": 0.7}, {"criterion": lambda s, y: F.cross_entropy(s, y).square()}])
def test_rates_and_criteria(options, first_order):
    algorithm = algorithms.create(
        "maml", model=layered(nn.Identity()), lr=0.1, steps=2, first_order=first_order, **options
    )
    assert_same(gradients(algorithm, meta_batch(), "factored"), gradients(algorithm, meta_batch(), "loop"))


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 5])
def test_a_regression(steps, first_order):
    algorithm = algorithms.create(
        "maml", model=models.create("mlp", seed=0).double(), lr=0.05, steps=steps, first_order=first_order
    )
    assert_same(gradients(algorithm, sines(), "factored"), gradients(algorithm, sines(), "loop"))


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_a_frozen_part_of_a_layer_stays(frozen):
    model = layered(nn.LayerNorm(40))
    for name in (f"1.{frozen}", f"2.{frozen}"):
        model.get_parameter(name).requires_grad_(False)
    algorithm = algorithms.create("maml", model=model, lr=0.3, steps=2)
    assert_same(gradients(algorithm, meta_batch(), "factored"), gradients(algorithm, meta_batch(), "loop"))


@pytest.mark.parametrize("policy", ["transductive", "support", "running"])
@pytest.mark.parametrize("first_order", [False, True])
def test_a_head_behind_convolutions_or_a_recurrent_layer(first_order, policy):
    conv4 = models.create("conv4", ways=3, hidden=4, image_size=14, seed=0).double()
    for model in (conv4, Recurrent().double()):
        algorithm = algorithms.create(
            "anil", model=model, lr=0.5, steps=3, first_order=first_order, batch_norm=policy
        ).train()
        assert_same(gradients(algorithm, meta_batch(), "factored"), gradients(algorithm, meta_batch(), "loop"))


def test_layers_that_see_several_rows_of_an_example():
    """Tokens: a layer's rows are then more than the examples."""
    block = nn.TransformerEncoderLayer(28, 2, 8, dropout=0.0, batch_first=True)
    block.self_attn.requires_grad_(False)

    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = block, nn.Linear(28, 3)

        def forward(self, x):
            return self.head(self.block(x.reshape(len(x), 7, 28)).mean(1))

    algorithm = algorithms.create("maml", model=Reading().double(), lr=0.3, steps=2)
    assert_same(gradients(algorithm, meta_batch(), "factored"), gradients(algorithm, meta_batch(), "loop"))


def test_auto_takes_it_where_it_is_the_fastest(monkeypatch, threads):
    threads(1)
    seconds = {"loop": 3.0, "factored": 1.0, "vmap": 2.0}
    monkeypatch.setattr("fewshot_kit.engines.timing.seconds_of", lambda choice, *_: seconds[choice.engine])
    algorithm = algorithms.create("maml", model=layered(nn.Identity()))
    choice = engines.choose(algorithm, meta_batch())
    assert str(choice) == (
        "factored (measured on 5 episodes: loop on 1 worker 3000.0 ms, factored 1000.0 ms, vmap 2000.0 ms)"
    )
    anil = algorithms.create("anil", model=Recurrent().double())
    why = engines.choose(anil, meta_batch()).why
    assert why.endswith("ms; vmap cannot run it: aten::lstm in the LSTM 'lstm' does not vectorise")


def test_on_one_thread_where_that_is_faster(monkeypatch, threads):
    threads(2)
    monkeypatch.setattr("fewshot_kit.engines.timing.seconds_of", lambda choice, *_: float(choice.workers != 1))
    monkeypatch.setattr("fewshot_kit.engines.loop.usual_workers", lambda _: 2)
    algorithm, seen = algorithms.create("maml", model=layered(nn.Identity())), []
    choice = engines.choose(algorithm, meta_batch())
    assert (choice.name, choice.settings()["workers"]) == ("factored on 1 worker", 1)
    expected = gradients(algorithm, meta_batch(), "factored", workers=1)
    algorithm.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    assert_same(gradients(algorithm, meta_batch(), choice), expected)
    assert set(seen) == {1} and torch.get_num_threads() == 2


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Counted(nn.Module):
    def forward(self, x):
        return x.view(6, -1)  # the support set's images, and the queries


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += len(x)
        return x


def tied():
    model = nn.Sequential(nn.Flatten(), nn.Linear(196, 196), nn.Linear(196, 196), nn.Linear(196, 3))
    model[2].weight = model[1].weight
    return model


def refused(name="maml", model=None, **options):
    return lambda: algorithms.create(name, model=(model or (lambda: layered(nn.Identity())))().double(), **options)


@pytest.mark.parametrize(
    "make, why",
    [
        (refused("protonet"), "ProtoNet takes no plain gradient steps"),
        (refused("meta_sgd"), "MetaSGD learns its rates, one for each element"),
        (refused("meta_curvature"), "The update rule of MetaCurvature is not plain gradient descent"),
        (refused("reptile"), r"Reptile takes no plain steps: it has its own \w+\(\)"),
        (refused("imaml"), r"IMAML takes no plain steps: it has its own \w+\(\)"),
        (refused("boil", all_shifts=True), "With all_shifts=True, BOIL adapts several times"),
        (refused("anil", closed_form=True), "A head in closed form takes no gradient steps"),
        (refused(optimizer="adam", first_order=True), "The update rule of MAML is not plain gradient descent"),
        (refused(clip=1.0), "With clip=1.0, MAML takes no plain steps"),
        (refused(truncate=1, steps=2), "With truncate=1, MAML takes no plain steps"),
        (refused(class_means=True), "With class_means=True, MAML takes no plain steps"),
        (refused(model=tied), "parameters or buffers of the model are tied"),
        (refused(model=Branching), "the model or its criterion looks at values, which would be those of all tasks"),
        (refused(model=Recurrent), "'lstm.weight_ih_l0' of LSTM adapts, and only linear layers, batch norms and layer"),
        (refused(model=lambda: layered(Counted())), r"the model does not run on .* several tasks together \("),
        (refused(model=lambda: layered(Counting())), "the model moves the buffer '2.seen' itself"),
        (refused(model=lambda: layered(Centred())), r"the model does not treat every example by itself \(its gradient"),
    ],
)
def test_what_it_cannot_run_is_named(make, why):
    with pytest.raises(InputError, match=f"^The engine 'factored' cannot run this: {why}.*; take engine='auto'.$"):
        engines.choose(make(), meta_batch(), "factored")


def test_a_method_of_ones_own_is_not_passed_over():
    class Louder(algorithms.MAML):
        def support_loss(self, x, y, order):
            return super().support_loss(2 * x, y, order)

    with pytest.raises(InputError, match=r"Louder takes no plain steps: it has its own support_loss\(\)"):
        engines.choose(Louder(layered(nn.Identity())), meta_batch(), "factored")


def test_one_example_has_no_batch_statistics():
    batch = meta_batch(2, ways=1, shots=1)
    algorithm = algorithms.create("maml", model=layered(nn.BatchNorm1d(40)))
    with pytest.raises(InputError, match="Batch norm cannot take its statistics from 1 example"):
        engines.meta_backward(algorithm, batch, engines.Choice("factored"))


def test_a_run_is_trained_validated_and_resumed_by_it(tmp_path):
    """Validation has an option that the engine does not know. A resumed run goes on by the same engine, bit for bit."""

    def train(run, iterations, **options):
        algorithm = algorithms.create("maml", model=models.create("mlp", inputs=784, ways=3, seed=0), lr=0.1)
        data = datasets.create("glyphs", classes=40, drawings=6, seed=0)
        task = {"ways": 3, "shots": 1, "queries": 2, "meta_batch": 4, "validation_queries": 2}
        return meta_train(
            algorithm, data, iterations=iterations, validate_every=2, validation_episodes=4, engine="factored",
            schedule="constant",
            test_options={"class_means": True}, progress=False, run=run, **task, **options,
        )  # fmt: skip

    whole = train(tmp_path / "whole", 4)
    assert whole.engine == "factored"
    train(tmp_path / "parts", 2)
    assert train(tmp_path / "parts", 4, resume=True).history == whole.history


def test_tasks_do_not_see_each_other():
    algorithm = algorithms.create("maml", model=layered(nn.BatchNorm1d(40)), lr=0.4, steps=2)
    batch = meta_batch(4)
    scores = factored.run(algorithm, batch).scores
    other = batch._replace(support_x=batch.support_x.clone(), query_x=batch.query_x.clone())
    other.support_x[1:], other.query_x[1:] = 5 - other.support_x[1:], 3 * other.query_x[1:]
    torch.testing.assert_close(factored.run(algorithm, other).scores[0], scores[0], rtol=0, atol=1e-14)
    assert not torch.allclose(factored.run(algorithm, other).scores[1], scores[1])
