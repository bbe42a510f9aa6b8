"""Any unmodified `nn.Module`: each kind that other libraries stumble over, adapted and meta-differentiated."""

import copy

import pytest
import torch
from torch import nn

from fewshot_kit import algorithms, compat, engines
from fewshot_kit.episodes import Episode, unstack
from fewshot_kit.modules.modes import kept_modes

WAYS = 3


class Tied(nn.Module):
    """One weight used in two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, WAYS)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, WAYS)

    def forward(self, x):
        return self.head(self.lstm(x.flatten(1).view(len(x), 2, 4))[0][:, -1])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, WAYS)

    def forward(self, x):
        return self.head(self.block(x.flatten(1).view(len(x), 2, 4)).mean(1))


class FusedAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inputs, self.head = nn.Linear(4, 12), nn.Linear(4, WAYS)

    def forward(self, x):
        q, k, v = self.inputs(x.flatten(1).view(len(x), 1, 2, 4)).chunk(3, -1)
        return self.head(nn.functional.scaled_dot_product_attention(q, k, v).mean((1, 2)))


def frozen():
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, WAYS))
    model[1].requires_grad_(False)
    return model


def unused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, WAYS))
    model.register_parameter("never_used", nn.Parameter(torch.ones(2)))
    return model


KINDS = {
    "running batch norm": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Linear(4, WAYS)
    ),
    "no running statistics": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(8, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Tanh(), nn.Linear(8, WAYS)
    ),
    "tied weights": Tied,
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 32), nn.Dropout(0.5), nn.Linear(32, WAYS)),
    "in-place ReLU": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.ReLU(inplace=True), nn.Linear(16, WAYS)),
    "frozen parameters": frozen,
    "unused parameters": unused,
    "LSTM": Recurrent,
    "transformer block": Attending,
    "fused attention": FusedAttention,
}
EVERY = pytest.mark.parametrize("kind", KINDS)


def build(kind):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return KINDS[kind]().double()


def meta_batch(tasks=2, shots=2, queries=3):
    generator = torch.Generator().manual_seed(11)
    y = [torch.arange(WAYS).repeat_interleave(n).repeat(tasks, 1) for n in (shots, queries)]
    x = [torch.randn(tasks, WAYS * n, 2, 2, 2, generator=generator, dtype=torch.float64) for n in (shots, queries)]
    return Episode(x[0], y[0], x[1], y[1])


def gradients(kind, engine, **options):
    algorithm = algorithms.create("maml", model=build(kind), lr=0.2, steps=2, **options).eval()
    losses, _ = engines.meta_backward(algorithm, meta_batch(), engine)
    return losses, {n: p.grad for n, p in algorithm.named_parameters() if p.requires_grad}


@EVERY
def test_adapts_and_leaves_the_model_alone(kind):
    model = build(kind)
    task = unstack(meta_batch(1))[0]
    before, trainable = copy.deepcopy(model.state_dict()), [p.requires_grad for p in model.parameters()]
    algorithm = algorithms.create("maml", model=model, lr=0.2, steps=3)
    loss, scores = algorithm.loss(task)
    loss.backward()
    assert scores.shape == (9, WAYS) and loss.isfinite()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == trainable
    for name, parameter in model.named_parameters():
        reached = parameter.requires_grad and name != "never_used"
        assert (parameter.grad is not None and parameter.grad.isfinite().all()) if reached else parameter.grad is None


@EVERY
@pytest.mark.parametrize("first_order", [False, True])
def test_loop_equals_learn2learn(kind, first_order):
    losses, ours = gradients(kind, "loop", first_order=first_order)
    reference_losses, theirs = gradients(kind, "reference", first_order=first_order)
    torch.testing.assert_close(losses, reference_losses, rtol=1e-10, atol=0)
    for name, gradient in ours.items():
        if name == "model.never_used":
            assert gradient is None and theirs[name] is None
        else:
            torch.testing.assert_close(gradient, theirs[name], rtol=1e-8, atol=1e-12)


@EVERY
def test_second_order_equals_a_finite_difference(kind):
    """Along one random direction: the slope of the meta-loss, from losses alone."""
    slope, expected = slopes(algorithms.create("maml", model=build(kind), lr=0.2, steps=2))
    # Smooth everywhere but for ReLU, whose kink the two points hardly ever straddle.
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-8)


def slopes(algorithm):
    """The meta-loss's slope along one random direction, by its gradient and by a central difference."""
    generator = torch.Generator().manual_seed(13)
    algorithm.eval()
    direction = {
        n: torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for n, p in algorithm.named_parameters()
        if p.requires_grad and n != "model.never_used"
    }
    engines.meta_backward(algorithm, meta_batch(), "loop")
    slope = sum((p.grad * direction[n]).sum() for n, p in algorithm.named_parameters() if n in direction)

    def at(distance):
        moved = copy.deepcopy(algorithm)
        with torch.no_grad():
            for n, p in moved.named_parameters():
                if n in direction:
                    p.add_(distance * direction[n])
            return torch.stack([moved.loss(task)[0] for task in unstack(meta_batch())]).mean()

    eps = 1e-5
    return slope.detach(), (at(eps) - at(-eps)) / (2 * eps)


def test_dropout_draws_in_training_and_rests_in_evaluation():
    task = unstack(meta_batch(1))[0]
    algorithm = algorithms.create("maml", model=build("dropout"), lr=0.2)
    state = algorithm.eval().adapt(task.support_x, task.support_y)
    assert torch.equal(algorithm.predict(state, task.query_x), algorithm.predict(state, task.query_x))
    algorithm.train()
    assert not torch.equal(algorithm.predict(state, task.query_x), algorithm.predict(state, task.query_x))


def test_torchvision_resnet18():
    resnet18 = compat.torchvision().models.resnet18(num_classes=WAYS)
    generator = torch.Generator().manual_seed(17)
    x, y = torch.rand(WAYS, 3, 32, 32, generator=generator), torch.arange(WAYS)
    before = copy.deepcopy(resnet18.state_dict())
    for name in ("maml", "anil", "boil"):
        algorithm = algorithms.create(name, model=resnet18, lr=0.01)
        loss, scores = algorithm.loss(Episode(x, y, x.flip(-1), y))
        loss.backward()
        assert scores.shape == (WAYS, WAYS)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in resnet18.parameters())
    assert all(torch.equal(before[k], v) for k, v in resnet18.state_dict().items())


class TestBatchNormPolicies:
    """What a query's scores may depend on."""

    def scores(self, policy, rows):
        algorithm = algorithms.create("maml", model=build("running batch norm"), lr=0.2, batch_norm=policy).eval()
        task = unstack(meta_batch(1))[0]
        return algorithm.predict(algorithm.adapt(task.support_x, task.support_y), task.query_x[rows])

    def test_transductive_queries_see_each_other(self):
        assert not torch.allclose(self.scores("transductive", [0, 1, 2])[0], self.scores("transductive", [0, 5, 6])[0])

    @pytest.mark.parametrize("policy", ["support", "running"])
    def test_inductive_queries_do_not(self, policy):
        torch.testing.assert_close(self.scores(policy, [0, 1, 2])[:1], self.scores(policy, [0]))

    def test_support_statistics_are_the_support_sets(self):
        """By hand: the convolution's output on the support set, its mean and its biased variance."""
        model = build("running batch norm")
        algorithm = algorithms.create("maml", model=model, lr=0.2, steps=0, batch_norm="support")
        task = unstack(meta_batch(1))[0]
        state = algorithm.adapt(task.support_x, task.support_y)
        features = model[0](task.support_x)
        mean, variance = features.mean((0, 2, 3)), features.var((0, 2, 3), unbiased=False)
        torch.testing.assert_close(state["statistics"]["1"], [(mean, variance)])
        scores = algorithm.predict(state, task.query_x)
        normed = (model[0](task.query_x) - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]
        torch.testing.assert_close(scores, model[4](nn.functional.silu(normed).flatten(1)))

    @pytest.mark.parametrize("kind", ["running batch norm", "no running statistics"])
    @pytest.mark.parametrize("policy", ["transductive", "support"])
    def test_the_meta_gradient_sees_the_statistics(self, kind, policy):
        """A finite difference: statistics taken for constants would give another slope."""
        algorithm = algorithms.create("maml", model=build(kind), lr=0.2, steps=2, batch_norm=policy)
        slope, expected = slopes(algorithm)
        torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-8)

    def test_running_statistics_stay(self):
        model = build("running batch norm")
        model[1].running_mean.fill_(0.5)
        algorithm = algorithms.create("maml", model=model, lr=0.2, batch_norm="running")
        task = unstack(meta_batch(1))[0]
        state = algorithm.adapt(task.support_x, task.support_y)
        assert torch.equal(state["buffers"]["1.running_mean"], model[1].running_mean)


@pytest.mark.filterwarnings("ignore:.*jit.script.* is deprecated")  # it is, and there are such networks still
def test_a_scripted_network_keeps_its_mode():
    """A scripted module has no attribute of Python for it."""
    model = torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    with kept_modes(model):
        model.eval()
    assert all(module.training for module in model.modules())
