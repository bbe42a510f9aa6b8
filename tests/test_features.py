"""Embeddings of a data set or of files, computed once and kept; and evaluation that embeds each image once."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import write_images
from torch import nn

from fewshot_kit import adapt, algorithms, datasets, evaluate, features, meta_train, models
from fewshot_kit.datasets import Data, Split
from fewshot_kit.errors import InputError


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FEWSHOT_KIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def network():
    net = models.create("conv4", hidden=6, image_size=14, seed=0)
    for number, layer in enumerate(net.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(0.05 + number / 100)  # as if it had been trained
    return net.train()


@pytest.fixture(scope="module")
def glyphs() -> Data:
    return datasets.create("glyphs", classes=40, image_size=14)


def counted(net):
    """How many images go through the network."""
    seen: list[int] = []
    net.blocks.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    return seen


def by_hand(net, x):
    net = net.eval()
    with torch.no_grad():
        return net.blocks(x).mean((2, 3))


def test_a_split_of_embeddings(cache, network, glyphs):
    seen = counted(network)
    found = features.embed_split(network, glyphs.test)
    assert (found.classes, found.name, len(found)) == (glyphs.test.classes, glyphs.test.name, len(glyphs.test))
    assert sum(seen) == len(glyphs.test) and network.training
    again = features.embed_split(network, glyphs.test)
    assert torch.equal(again.x, found.x) and sum(seen) == len(glyphs.test)  # read, not computed
    assert torch.equal(again.y, glyphs.test.y) and len(list(cache.glob("features-*.safetensors"))) == 1
    whole = torch.stack([glyphs.test[index][0] for index in range(len(glyphs.test))])
    torch.testing.assert_close(found.x, by_hand(network, whole))


def test_other_weights_views_or_images_are_other_features(cache, network, glyphs):
    first = features.embed_split(network, glyphs.test)
    mirrored = features.embed_split(network, glyphs.test, views=2)
    whole = torch.stack([glyphs.test[index][0] for index in range(len(glyphs.test))])
    expected = (by_hand(network, whole) + by_hand(network, whole.flip(-1))) / 2
    torch.testing.assert_close(mirrored.x, expected)
    assert features.embed_split(network, glyphs.test, views=10).x.shape == first.x.shape
    with torch.no_grad():
        network.blocks[0][0].weight[0] += 1
    assert not torch.equal(features.embed_split(network, glyphs.test).x, first.x)
    fewer = Split(glyphs.test.x[:40], glyphs.test.y[:40], glyphs.test.classes)
    assert len(features.embed_split(network, fewer)) == 40
    assert len(list(cache.glob("features-*.safetensors"))) == 5
    features.embed_split(network, fewer, views=2, keep=False)
    assert len(list(cache.glob("features-*.safetensors"))) == 5


def test_a_damaged_cache_is_computed_anew(cache, network, glyphs):
    first = features.embed_split(network, glyphs.test)
    [file] = cache.glob("features-*.safetensors")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="is damaged .*; it is built anew"):
        assert torch.equal(features.embed_split(network, glyphs.test).x, first.x)


def test_turned_classes_are_embedded_each(cache, network, glyphs):
    turned = Split(glyphs.test.x, glyphs.test.y, glyphs.test.classes, rotations="classes")
    found = features.embed_split(network, turned)
    assert found.classes == turned.classes and len(found) == 4 * len(turned)
    row = 3 * len(turned) + 7
    image = (turned.x[7:8].float() / 255).rot90(3, (-2, -1))
    torch.testing.assert_close(found.x[row : row + 1], by_hand(network, image))
    assert found.classes[found.y[row]] == f"{glyphs.test.classes[glyphs.test.y[7]]}/rot270"
    with pytest.raises(InputError, match="draws its rotations anew for every episode"):
        features.embed_split(network, Split(turned.x, turned.y, glyphs.test.classes, rotations="per_class"))


def test_trainer_evaluation_and_adapt_take_them(cache, network, glyphs):
    data = features.embed_data(network, glyphs)
    assert (data.train.example_shape, data.name) == (torch.Size([6]), "glyphs")
    anil = algorithms.create("anil", model=models.create("mlp", inputs=6, ways=5, seed=0))
    meta_train(
        anil, data, queries=5, iterations=2, meta_batch=2, progress=False, validate_every=2, validation_episodes=2
    )
    assert evaluate(anil, data.test, episodes=5).split == glyphs.test.name
    for name in algorithms.names():
        if issubclass(algorithms.get(name), algorithms.FeatureHead):
            assert (
                0.2 < evaluate(algorithms.create(name, model=nn.Identity()), data.test, shots=5, episodes=5).mean <= 1
            )
    rows = torch.cat([(data.test.y == label).nonzero()[:5, 0] for label in range(3)])
    assert adapt(nn.Identity(), (data.test.x[rows], data.test.y[rows])).expected.held_out == 15


@pytest.mark.parametrize("options", [{}, {"views": 2}])
def test_evaluate_embeds_each_image_once(network, glyphs, options):
    seen = counted(network)
    head = algorithms.create("ridge", model=network, **options)
    assert head.batch_norm == "running"
    found = evaluate(head, glyphs.test, episodes=30)
    tried = 2  # whether the network takes such images at all
    assert sum(seen) == tried + len(glyphs.test) * options.get("views", 1) and network.training
    data = Data("d", *[features.embed_split(network, glyphs.test, keep=False, **options)] * 3, {})
    plain = evaluate(algorithms.create("ridge", model=nn.Identity()), data.test, episodes=30)
    assert found.per_episode == plain.per_episode
    few = evaluate(head, glyphs.test, ways=2, queries=2, episodes=2)  # fewer images than the split has
    assert len(few.per_episode) == 2
    with pytest.raises(InputError, match="takes images of 3 channels"):
        evaluate(algorithms.create("ridge", model=models.create("conv4", channels=3)), glyphs.test, episodes=30)


def test_files(cache, tmp_path, network):
    write_images(tmp_path / "mine", {"cat": 3, "dog": 4})
    how = datasets.Transform(14, 1, mean=(0.5,), deviation=(0.2,))
    seen = counted(network)
    found = features.embed_files(network, tmp_path / "mine", transform=how)
    assert found.classes == ["cat", "dog"] and found.y.tolist() == [0] * 3 + [1] * 4 and sum(seen) == 7
    _, paths = datasets.find_images(tmp_path / "mine")
    torch.testing.assert_close(found.x, by_hand(network, how.scaled(datasets.load_images(paths, how))))
    before = len(seen)
    assert (
        torch.equal(features.embed_files(network, tmp_path / "mine", transform=how).x, found.x) and len(seen) == before
    )
    (tmp_path / "mine" / "cat" / "0.png").write_bytes(paths[-1].read_bytes())
    assert not torch.equal(features.embed_files(network, tmp_path / "mine", transform=how).x, found.x)
    with pytest.raises(InputError, match="Conv4 does not say how it takes images"):
        features.embed_files(network, tmp_path / "mine")
    (tmp_path / "mine" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="0.png cannot be read"):
        features.embed_files(network, tmp_path / "mine", transform=how)


def test_statistics_that_nobody_stored(network, glyphs):
    bare = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten())
    with pytest.raises(InputError, match="The batch norm '1' of Sequential keeps no running statistics"):
        features.embed_split(bare, glyphs.test)


def test_by_name_from_the_command_line(cli):
    data = "--dataset features --dataset-options dataset=glyphs model=conv4"
    inner = '"dataset_options={classes: 40, image_size: 14}" "model_options={hidden: 6, seed: 0}"'
    task = "--model mlp --algorithm ridge --iterations 0 --test-episodes 4 --test-queries 2 --run run"
    cli.good(f"train {data} {inner} {task}")
    tested = json.loads(cli.good("evaluate run --episodes 4 --json"))
    assert tested["accuracy"] == json.loads(Path("run/results.json").read_text())["test"][0]["accuracy"]
    assert np.isfinite(tested["accuracy"])
