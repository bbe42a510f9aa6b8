"""SimpleShot's CL2N and nearest mean, by hand and against NumPy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fewshot_kit import adapt, algorithms, compat
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError
from fewshot_kit.seeds import default_draws

X = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]], dtype=torch.float64)
Y = torch.tensor([0, 0, 1, 1])


def test_by_hand():
    centroid = algorithms.create("nearest_centroid", model=nn.Identity(), scale=3.0)
    state = centroid.adapt(X, Y)
    root = math.sqrt(5)  # the centred support examples are (+-1, +-2)
    assert state["mean"].tolist() == [1.0, 2.0]
    torch.testing.assert_close(state["centroids"], torch.tensor([[0.0, -2 / root], [0.0, 2 / root]]).double())
    query = torch.tensor([[1.0, 0.0], [4.0, 6.0]], dtype=torch.float64)  # centred (0, -2) and (3, 4)
    expected = [
        [-3 * (1 - 2 / root) ** 2, -3 * (1 + 2 / root) ** 2],
        [-3 * (0.36 + (0.8 + 2 / root) ** 2), -3 * (0.36 + (0.8 - 2 / root) ** 2)],
    ]
    torch.testing.assert_close(centroid.predict(state, query), torch.tensor(expected).double())


def nearest(features, y, query):
    """Which class mean of centred, normalised features is nearest."""
    mean = features.mean(0)
    unit = [(rows - mean) / np.linalg.norm(rows - mean, axis=1, keepdims=True) for rows in (features, query)]
    means = np.array([unit[0][y == label].mean(0) for label in range(y.max() + 1)])
    return np.linalg.norm(unit[1][:, None] - means[None], axis=2).argmin(1).tolist()


def test_a_model_from_elsewhere_is_taken_as_it_is():
    with default_draws(0, "test network"):
        model = compat.torchvision().models.resnet18(weights=None)
    generator = torch.Generator().manual_seed(0)
    x, query = (torch.rand(n, 3, 32, 32, generator=generator) for n in (6, 20))
    y = torch.tensor([0, 1, 2] * 2)
    learner = adapt(model, (x, y), algorithm="nearest_centroid", batch_norm="running")
    model.eval()
    model.fc = nn.Identity()
    with torch.no_grad():
        features = [model(images).double().numpy() for images in (x, query)]
    assert learner.predict(query) == nearest(features[0], y.numpy(), features[1])
    assert len(set(learner.predict(query))) > 1


def test_nothing_to_tell_apart_gives_numbers():
    """One example is its own mean: centred, it is 0."""
    model = nn.Linear(2, 2)
    centroid = algorithms.create("nearest_centroid", model=nn.Sequential(model, nn.ReLU(), nn.Linear(2, 2)))
    one = torch.tensor([[1.0, 2.0]])
    for query in (one, one + 1):
        scores = centroid.predict(centroid.adapt(one, torch.tensor([0])), query)
        scores.sum().backward()
        assert scores.isfinite().all() and scores.shape == (1, 1)
        assert all(p.grad.isfinite().all() for p in model.parameters())


def test_meta_training_moves_the_features():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4, dtype=torch.float64), nn.Flatten())
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(4, 6, generator=generator))
    centroid = algorithms.create("nearest_centroid", model=nn.Sequential(model, nn.Linear(4, 2)))
    x, query = (torch.randn(6, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    y = torch.tensor([0, 1, 2] * 2)
    optimizer = torch.optim.Adam(centroid.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss, _ = centroid.loss(Episode(x, y, query, y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_none(scale):
    with pytest.raises(InputError) as raised:
        algorithms.create("nearest_centroid", model=nn.Identity(), scale=scale)
    assert str(raised.value) == f"scale is {scale}; it must be a positive number."
