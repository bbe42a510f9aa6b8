"""Memory-augmented networks against NumPy and by hand: the late labels, what a state holds."""

import numpy as np
import pytest
import torch
from torch import nn

from fewshot_kit import algorithms, engines, models
from fewshot_kit.algorithms.mann.algorithm import accuracy_by_presentation, shuffled
from fewshot_kit.episodes import Episode, presentations
from fewshot_kit.errors import InputError

D, WAYS = 5, 3


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(lively=True, **options):
    """A small network on the examples as they are; a lively one has weights with nothing in them that is 0."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(0).get_state())
        sizes = {"rows": 24, "width": 4, "reads": 2, "hidden": 6, "ways": WAYS, "embedding": D}
        mann = algorithms.create("mann", model=nn.Identity(), **{**sizes, **options}).double()
    if lively:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in mann.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    return mann


# The whole network, in NumPy


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_the_paper(mann, x, y, decay):
    """Scores of a sequence, one row and one head at a time."""
    p = {name: value.detach().numpy() for name, value in mann.controller.named_parameters()}

    def linear(name, *parts):
        return p[f"{name}.weight"] @ np.concatenate(parts) + p[f"{name}.bias"]

    n, width, rows = mann.controller.reads, mann.controller.width, mann.rows
    memory, usage, weights = np.full((rows, width), 0.01), np.zeros(rows), np.zeros((n, rows))
    hidden = cell = np.zeros(p["keys.weight"].shape[1])
    label, read, found = np.zeros(WAYS), np.zeros(n * width), []
    for example, target in zip(x.numpy(), y.numpy(), strict=True):
        take, keep, new, show = np.split(linear("lstm", example, label, read, hidden), 4)
        cell = sigmoid(keep) * cell + sigmoid(take) * np.tanh(new)
        hidden = sigmoid(show) * np.tanh(cell)
        keys, content = linear("keys", hidden).reshape(n, width), linear("content", hidden, label).reshape(n, width)
        gates = sigmoid(linear("alpha", hidden))
        marked = sorted(range(rows), key=lambda row: (usage[row], row))[:n]
        memory = memory.copy()
        memory[marked] = 0
        written = np.zeros((n, rows))
        for head in range(n):
            written[head] = gates[head] * weights[head]
            written[head, marked[head]] += 1 - gates[head]
            for row in range(rows):
                memory[row] += written[head, row] * content[head]
        for head in range(n):
            cosines = [k @ keys[head] / np.linalg.norm(k) / np.linalg.norm(keys[head]) for k in memory]
            powers = np.exp(np.exp(p["log_strengths"][head]) * np.array(cosines))
            weights[head] = powers / powers.sum()
        read = (weights @ memory).flatten()
        usage = decay * usage + weights.sum(0) + written.sum(0)
        found.append(linear("output", hidden, read))
        label = np.eye(WAYS)[target]
    return np.array(found)


@pytest.mark.parametrize("rows, reads, decay", [(24, 2, 0.95), (5, 2, 0.5), (3, 3, 1.0)])
def test_a_sequence_by_the_equations(rows, reads, decay):
    """With more rows than are written to, and with so few that they are used again."""
    mann, x, y = make(rows=rows, reads=reads, decay=decay), vectors(8, D), torch.tensor([2, 0, 1, 1, 0, 2, 2, 0])
    np.testing.assert_allclose(mann.sequence(x, y).detach(), by_the_paper(mann, x, y, decay), rtol=1e-9)


# The protocols


def test_labels_come_one_step_late():
    mann, x, y = make(), vectors(6, D), torch.tensor([0, 1, 2, 0, 1, 2])
    scores = mann.sequence(x, y)
    other = y.clone()
    other[2] = 1
    changed = (mann.sequence(x, other) - scores).abs().sum(1)
    assert changed[:3].eq(0).all() and changed[3:].gt(1e-6).all()
    later = torch.cat([x[:4], vectors(2, D, seed=1)])
    changed = (mann.sequence(later, y) - scores).abs().sum(1)
    assert changed[:4].eq(0).all() and changed[4:].gt(1e-6).all()


def test_a_query_continues_the_support_sequence_and_sees_no_other_query():
    mann, x, y, query = make(), vectors(6, D), torch.tensor([0, 0, 1, 1, 2, 2]), vectors(4, D, seed=1)
    state = mann.adapt(x, y)
    scores, order = mann.predict(state, query), shuffled(x)
    for one, expected in zip(query, scores, strict=True):
        torch.testing.assert_close(mann.predict(state, one[None])[0], expected)
        alone = mann.sequence(torch.cat([x[order], one[None]]), torch.cat([y[order], torch.tensor([0])]))[-1]
        torch.testing.assert_close(alone, expected)


def test_the_last_support_label_counts():
    mann, x, query = make(), vectors(3, D), vectors(2, D, seed=1)
    y, last = torch.tensor([0, 1, 2]), int(shuffled(x)[-1])
    other = y.clone()
    other[last] = (y[last] + 1) % 3
    found = [mann.predict(mann.adapt(x, one), query)[:, :2] for one in (y, other)]
    assert (found[0] - found[1]).abs().min() > 1e-6


def test_the_order_of_the_support_set_is_its_own():
    mann, x, y, query = make(), vectors(6, D), torch.tensor([0, 0, 1, 1, 2, 2]), vectors(4, D, seed=1)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    one, other = (mann.predict(mann.adapt(a, b), query) for a, b in ((x, y), (x[order], y[order])))
    torch.testing.assert_close(one, other)


def test_the_order_says_nothing_of_the_classes():
    """Of classes that differ in brightness, every one is as often first, and after every other."""
    brightness = torch.linspace(0.1, 0.9, 5)[:, None, None, None]
    noise = torch.rand(400, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    orders = torch.stack([shuffled(x) for x in (brightness + 0.1 * noise).clamp(0, 1)])
    first = torch.bincount(orders[:, 0], minlength=5)
    assert first.min() > 50 and first.max() < 110  # 80 expected, with a deviation of 8
    after = torch.bincount(5 * orders[:, :-1].flatten() + orders[:, 1:].flatten(), minlength=25).view(5, 5)
    apart = after[~torch.eye(5, dtype=torch.bool)]
    assert apart.min() > 45 and apart.max() < 120
    assert shuffled(noise[0]).equal(shuffled(noise[0].double()))
    assert sorted(shuffled(torch.arange(6.0)).tolist()) == list(range(6))


def test_the_sequence_protocol_is_the_mean_loss_over_all_presentations():
    mann = make(protocol="sequence")
    x, y = vectors(9, D), torch.tensor([0, 1, 2, 0, 0, 1, 1, 2, 2])
    episode, order = Episode(x[:3], y[:3], x[3:], y[3:]), shuffled(x)
    loss, scores = mann.loss(episode)
    expected = mann.sequence(x[order], y[order])
    torch.testing.assert_close(loss, nn.functional.cross_entropy(expected, y[order]))
    for place, index in enumerate(order.tolist()):
        if index >= 3:
            torch.testing.assert_close(scores[index - 3], expected[place])


@pytest.mark.parametrize("protocol", ["episode", "sequence"])
def test_both_protocols_train_every_tensor_and_vectorise(protocol):
    model = models.create("conv4", ways=3, hidden=4, image_size=14, seed=0)
    mann = algorithms.create("mann", model=model, protocol=protocol, width=8, hidden=10).double()
    generator = torch.Generator().manual_seed(0)
    x = [torch.rand(3, n, 1, 14, 14, generator=generator, dtype=torch.float64) for n in (6, 9)]
    y = [torch.arange(3).repeat_interleave(n).repeat(3, 1) for n in (2, 3)]
    found = []
    for engine in ("loop", "vmap"):
        mann.zero_grad()
        losses, scores = engines.meta_backward(mann, Episode(x[0], y[0], x[1], y[1]), engine)
        found.append([losses, scores, *(p.grad.clone() for p in mann.parameters())])
    names = [name for name, _ in mann.named_parameters()]
    without = [name for name, slope in zip(names, found[0][2:], strict=True) if not slope.any()]
    assert all(name.endswith("0.bias") for name in without)  # before batch norm its slope is 0
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_slopes_by_finite_differences():
    mann, x, y = make(rows=4), vectors(5, D), torch.tensor([0, 1, 2, 0, 1])
    names = [name for name, _ in mann.named_parameters()]

    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.mann = mann

        def forward(self, x):
            return self.mann.sequence(x, y)

    def loss(x, *values):
        given = {f"mann.{name}": value for name, value in zip(names, values, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(Sequence(), given, (x,)), y)

    inputs = [p.detach().clone().requires_grad_() for p in mann.parameters()]
    assert torch.autograd.gradcheck(loss, [x.requires_grad_(), *inputs], fast_mode=True)


def test_it_matches_from_the_start():
    """By its initial weights alone: noisy copies of random vectors go to the class that they are copies of."""
    mann, right = make(lively=False, rows=128, width=40, reads=4, hidden=200, ways=5, embedding=32), []
    for seed in range(20):
        x = vectors(5, 32, seed=seed)
        state = mann.adapt(x, torch.arange(5))
        query = x.repeat(4, 1) + 0.3 * vectors(20, 32, seed=100 + seed)
        right.append((mann.predict(state, query).argmax(1) == torch.arange(5).repeat(4)).double().mean())
    assert torch.stack(right).mean() > 0.9  # chance is 0.2


def test_a_key_finds_what_is_written_one_step_later():
    """By the initial weights, the key of an example points where the next content does, the label's share aside."""
    mann, x = make(lively=False, rows=128, width=40, reads=4, hidden=200, ways=5, embedding=32), vectors(6, 32)
    network, keys, contents, none = mann.controller.begin(128), [], [], torch.zeros(1, 5, dtype=torch.float64)
    for one in x.split(1):
        network, _ = mann.controller(network, one, none, 0.95)
        hidden = network["hidden"]
        keys.append(mann.controller.keys(hidden).unflatten(1, (4, 40)))
        contents.append(mann.controller.content(torch.cat([hidden, none], 1)).unflatten(1, (4, 40)))
    found = torch.cosine_similarity(torch.cat(keys[:-1]), torch.cat(contents[1:]), dim=-1)
    assert found.min() > 0.9


def test_presentations_by_hand():
    y = torch.tensor([[0, 1, 0, 0, 1, 2], [2, 2, 2, 0, 1, 1]])
    times = [[1, 1, 2, 3, 2, 1], [1, 2, 3, 1, 1, 2]]
    assert presentations(y).tolist() == times
    guesses = torch.tensor([[0, 0, 0, 1, 1, 1], [2, 0, 2, 1, 1, 0]])
    # First: right for 0, -, -, 2, -, 1 of six; second: 0, 1, -, -; third: -, 2.
    found = accuracy_by_presentation(torch.eye(3)[guesses], y)
    assert found.tolist() == [3 / 6, 2 / 4, 1 / 2]


# Sizes and bad input


def test_a_task_with_fewer_classes_uses_the_first_scores():
    mann, x, query = make(), vectors(4, D), vectors(3, D, seed=1)
    y = torch.tensor([0, 1, 0, 1])
    assert mann.predict(mann.adapt(x, y), query).shape == (3, 2)
    assert mann.sequence(x, y).shape == (4, 2)


def test_sizes_follow_the_head_unless_they_are_given():
    model = models.create("conv4", ways=7, hidden=6, image_size=14, seed=0)
    assert algorithms.create("mann", model=model).max_ways == 7
    mann = algorithms.create("mann", model=model, ways=3)
    assert mann.max_ways == 3 and mann.controller.inputs == 6


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rows": 0}, "rows is 0; it must be a whole number of at least 1."),
        ({"width": 0}, "width is 0; it must be a whole number of at least 1."),
        ({"reads": 1.5}, "reads is 1.5; it must be a whole number of at least 1."),
        ({"hidden": 1}, "hidden is 1; the controller has two halves, so it must be at least 2."),
        ({"ways": 0}, "ways is 0; it must be a whole number of at least 1."),
        (
            {"rows": 3, "reads": 4},
            "MANN's memory has 3 rows, and 4 reads write to as many at every step; take rows=4 or more.",
        ),
        ({"decay": 1.1}, "MANN's decay is 1.1; it must lie between 0 and 1."),
        ({"decay": float("nan")}, "MANN's decay is nan; it must lie between 0 and 1."),
        ({"protocol": "stream"}, "MANN has no protocol 'stream'; it is one of episode, sequence."),
        (
            {"embedding": None},
            "Identity has no linear head; say how many classes there are and how wide its embedding is, as ways=5, "
            "embedding=64.",
        ),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError) as found:
        make(**options)
    assert str(found.value) == message


def test_a_memory_smaller_than_an_episode():
    mann, x, y = make(rows=11), vectors(6, D), torch.tensor([0, 1, 2, 0, 1, 2])
    with pytest.raises(InputError) as found:
        mann.adapt(x, y)
    assert str(found.value) == (
        "MANN's memory has 11 rows, and 6 support examples with 2 reads write to 12; take rows=12 or more."
    )
    mann.rows = 12
    mann.adapt(x, y)


def test_tasks_that_do_not_fit():
    with pytest.raises(InputError) as found:
        make().adapt(vectors(4, D), torch.arange(4))
    assert str(found.value) == (
        "The task has 4 classes, and MANN has 3 scores; make it with ways=4 or more, or give at most 3 classes."
    )
    with pytest.raises(InputError) as found:
        make().adapt(vectors(3, 7), torch.arange(3))
    assert str(found.value) == "The embedding has 7 values, and MANN was made for 5; make it with embedding=7."
