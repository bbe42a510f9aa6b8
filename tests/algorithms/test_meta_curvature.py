"""Meta-Curvature against MAML, against plain statements of the paper's transform, and against learn2learn's."""

import pytest
import torch
from engine_world import assert_same, batch_for, build, gradients, meta_batch
from test_gradients import LR, NAMES, batch, finite_differences, forward, network
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, compat
from fewshot_kit.algorithms.meta_curvature import LEARN2LEARN, identities, transformed
from fewshot_kit.episodes import unstack
from fewshot_kit.errors import InputError

SHAPES = pytest.mark.parametrize("shape", [(4,), (3, 5), (3, 2, 4), (3, 2, 3, 2), (2, 3, 2, 1, 2)])


def randomised(algorithm):
    """With matrices as learned ones are: full, without symmetry."""
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for matrix in algorithm.matrices.parameters():
            matrix.add_(0.2 * torch.randn(matrix.shape, generator=generator, dtype=matrix.dtype))
    return algorithm


def drawn(shape):
    """A gradient of this shape, and matrices for it."""
    generator = torch.Generator().manual_seed(9)
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
    return gradient, [torch.randn(m.shape, generator=generator, dtype=m.dtype) for m in identities(gradient)]


def whole_matrix(matrices):
    """The one matrix on a flattened gradient: the Kronecker product in the order of the gradient's dimensions."""
    whole, *others = (matrix if matrix.dim() == 2 else matrix.diag() for matrix in matrices)
    for matrix in others:
        whole = torch.kron(whole, matrix)
    return whole


@SHAPES
def test_the_transform_is_the_kronecker_product(shape):
    gradient, matrices = drawn(shape)
    found = transformed(gradient, matrices)
    assert found.shape == shape
    torch.testing.assert_close(found.flatten(), whole_matrix(matrices) @ gradient.flatten(), rtol=1e-12, atol=1e-12)


def test_the_transform_is_a_mode_product_along_each_dimension():
    """One after another, in the paper's order, row by row: (G x_n M) along dimension n is M times G along it."""
    gradient, (outputs, inputs, positions) = drawn((3, 2, 3, 2))
    g = gradient.reshape(3, 2, 6)
    g = torch.stack([torch.stack([positions @ g[o, i] for i in range(2)]) for o in range(3)])
    g = torch.stack([torch.stack([inputs @ g[o, :, f] for f in range(6)], 1) for o in range(3)])
    g = torch.stack([torch.stack([outputs @ g[:, i, f] for f in range(6)], 1) for i in range(2)], 1)
    found = transformed(gradient, [outputs, inputs, positions])
    torch.testing.assert_close(found, g.reshape(3, 2, 3, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (3, 2, 3, 2)])
def test_the_transform_is_learn2learns(shape):
    """Theirs multiplies by the second matrix from the right: it is the transpose of M_i. Their names follow
    TensorFlow's layout, in which inputs come before outputs: `mc_in` is M_o on PyTorch's weights, `mc_out` is M_i.
    """
    gradient, matrices = drawn(shape)
    theirs = compat.learn2learn().optim.transforms.MetaCurvatureTransform(gradient).double()
    with torch.no_grad():
        for name, matrix in zip(LEARN2LEARN[len(shape)], matrices, strict=True):
            getattr(theirs, name).copy_(matrix.T if name == "mc_out" else matrix)
    torch.testing.assert_close(transformed(gradient, matrices), theirs(gradient), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_with_identities_it_is_maml(engine, first_order):
    found = []
    for name in ("meta_curvature", "maml"):
        algorithm = algorithms.create(name, model=network(), lr=LR, steps=2, first_order=first_order)
        losses, scores, *_ = gradients(algorithm, batch(), engine)
        found.append([losses, scores, *(p.grad for p in algorithm.model.parameters())])
    assert all(map(torch.equal, *found))


def plain_loss(p, matrices, tasks, steps):
    """The mean query loss after steps along the explicit matrix times the flattened gradient."""
    total = 0
    for task in tasks:
        q = p
        for _ in range(steps):
            loss = F.cross_entropy(forward(q, task.support_x), task.support_y)
            slopes = dict(zip(NAMES, torch.autograd.grad(loss, [q[n] for n in NAMES]), strict=True))
            q = {n: q[n] - LR * (whole_matrix(matrices[n]) @ slopes[n].flatten()).view_as(q[n]) for n in NAMES}
        total = total + F.cross_entropy(forward(q, task.query_x), task.query_y)
    return total.detach() / len(tasks)


def test_the_meta_gradient_equals_finite_differences():
    """That of the parameters and of every matrix, of a statement that shares no code with the algorithm."""
    algorithm = randomised(algorithms.create("meta_curvature", model=network(), lr=LR, steps=2))
    losses, *_ = gradients(algorithm, batch(), "loop")
    tasks, names = unstack(batch()), dict(algorithm.named_parameters())
    values = {n: v.detach().clone() for n, v in names.items()}

    def function(at):
        p = {n: at[f"model.{n}"].detach().requires_grad_() for n in NAMES}
        own = {n: [v for k, v in at.items() if k.startswith(f"matrices.{i}.")] for i, n in enumerate(NAMES)}
        return plain_loss(p, own, tasks, 2)

    torch.testing.assert_close(function(values), losses.mean(), rtol=1e-10, atol=0)
    for name, expected in finite_differences(function, values).items():
        torch.testing.assert_close(names[name].grad, expected, rtol=1e-6, atol=1e-9)
    assert sum(name.startswith("matrices.") for name in names) == 2 + 1 + 1 + 1 + 2 + 1


@pytest.mark.parametrize("network_name", ["conv4", "mlp", "attention"])
@pytest.mark.parametrize("first_order", [False, True])
def test_engines_agree_with_learn2learns_learner(threads, first_order, network_name):
    threads(2)
    model, episodes = build(network_name, torch.float64), batch_for(network_name, torch.float64)
    algorithm = randomised(
        algorithms.create("meta_curvature", model=model, lr=0.1, steps=2, first_order=first_order).train()
    )
    reference = gradients(algorithm, episodes, "reference")
    assert len(reference) == 2 + len(list(algorithm.parameters()))
    assert_same(gradients(algorithm, episodes, "loop"), reference)
    for chunk in (None, 3):
        assert_same(gradients(algorithm, episodes, "vmap", chunk=chunk), reference)


def test_other_dimensions_have_no_reference():
    """A one-dimensional convolution: learn2learn's transform does not take its weight."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 3, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(192, 3)).double()
    algorithm = randomised(algorithms.create("meta_curvature", model=model, lr=0.1, steps=2))
    assert [m.shape for m in algorithm.matrices[0]] == [(3, 3), (1, 1), (5, 5)]
    assert_same(gradients(algorithm, meta_batch(), "vmap"), gradients(algorithm, meta_batch(), "loop"))
    with pytest.raises(InputError, match=r"of 1, 2 or 4 dimensions, and one of this model has 3.*\[3, 1, 5\].*'loop'"):
        algorithm.clone()


def test_matrices_of_a_frozen_parameter_are_frozen():
    model = network()
    model[0].weight.requires_grad_(False)
    algorithm = randomised(algorithms.create("meta_curvature", model=model, lr=LR))
    assert [[m.requires_grad for m in its] for its in algorithm.matrices][:2] == [[False, False], [True]]
    assert_same(gradients(algorithm, batch(), "loop"), gradients(algorithm, batch(), "reference"))
    assert [p.grad is not None for p in algorithm.parameters()] == [p.requires_grad for p in algorithm.parameters()]
    (task,) = unstack(batch(1))
    assert list(algorithm.adapt(task.support_x, task.support_y)["parameters"]) == NAMES[1:]


def test_the_figure_is_the_distance_from_the_identity():
    algorithm = algorithms.create("meta_curvature", model=nn.Linear(4, 9), lr=LR)
    assert algorithm.figures() == {"curvature_distance": 0}
    with torch.no_grad():
        algorithm.matrices[0][0].mul_(3)  # twice the identity away from it; the two others are not
        algorithm.matrices[1][0][:4].neg_()  # 4 of 9 elements by 2 each
    assert algorithm.figures() == {"curvature_distance": pytest.approx((2 + 0 + 4 / 3) / 3)}
