"""Images changed while training: by their own generator, on any device, and never in validation or test."""

import dataclasses
import math

import pytest
import torch
from small_runs import centroids, train
from torch.nn import functional as F

from fewshot_kit import algorithms, datasets, meta_train, models
from fewshot_kit.datasets import Data, Split
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError
from fewshot_kit.training.augmentation import _warped, augmented, photos, strokes
from fewshot_kit.training.hooks import Hooks
from fewshot_kit.training.meta_update import draw_meta_batch
from fewshot_kit.training.settings import TrainingSettings


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def matrices(*rows):
    return torch.tensor([rows], dtype=torch.float32)


def drawings(data_root):
    return datasets.create("futurama", root=data_root)


def test_the_identity_and_a_mirror_are_exact():
    x = torch.rand(1, 3, 7, 7, generator=generator())
    assert torch.allclose(_warped(x, matrices([1, 0, 0], [0, 1, 0]), "zeros"), x, atol=1e-6)
    assert torch.allclose(_warped(x, matrices([-1, 0, 0], [0, 1, 0]), "border"), x.flip(-1), atol=1e-6)


def test_a_turn_is_a_turn():
    """By a quarter, against rot90; and the matrix of `strokes` is a rotation where nothing but the angle is drawn."""
    x = torch.rand(1, 1, 8, 8, generator=generator())
    cos, sin = math.cos(math.pi / 2), math.sin(math.pi / 2)
    assert torch.allclose(_warped(x, matrices([cos, -sin, 0], [sin, cos, 0]), "zeros"), x.rot90(1, (-2, -1)), atol=1e-5)


@pytest.mark.parametrize("change", [strokes, photos])
def test_a_generator_decides_and_the_global_one_is_left_alone(change):
    x, before = torch.rand(6, 1, 28, 28, generator=generator()), torch.get_rng_state()
    first, again, other = change(x, generator(1)), change(x, generator(1)), change(x, generator(2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == x.shape and first.isfinite().all()
    assert not torch.allclose(change(x[:1].expand(2, -1, -1, -1), generator(1))[0], first[1])


def test_a_character_is_still_nearer_to_itself(data_root):
    """Of real drawings: more alike, once blurred, to the one they come from than to other characters."""
    x = drawings(data_root).train.x[::20].float() / 255
    seen = torch.stack([strokes(x, generator(seed)) for seed in range(20)])

    def blurred(images):
        return F.normalize(F.avg_pool2d(images, 7, 3).flatten(1), dim=1)

    found = torch.stack([blurred(each) @ blurred(x).T for each in seen])
    right = (found.argmax(-1) == torch.arange(len(x))).double().mean()
    assert right > 0.6  # of 16 characters, by blurs alone
    ink = seen.mean((0, 2, 3, 4)) / x.mean((1, 2, 3))
    assert ((ink > 0.6) & (ink < 1.6)).all()


def test_photos_keep_to_the_picture():
    """Nothing from outside comes in: what is bright everywhere stays as bright."""
    x = torch.full((50, 3, 16, 16), 0.7)
    assert torch.allclose(photos(x, generator()), x, atol=1e-5)


def test_support_and_queries_are_changed_each_for_itself():
    x = torch.rand(2, 3, 1, 28, 28, generator=generator())
    y = torch.arange(3).expand(2, 3)
    seen = augmented(Episode(x, y, x, y), "strokes", generator())
    assert not torch.allclose(seen.support_x, seen.query_x) and torch.equal(seen.query_y, y)
    assert augmented(Episode(x, y, x, y), "none", generator()).query_x is x


def test_training_alone_is_augmented(data_root):
    """The trainer's meta-batch is the plain one, augmented; the validation sees what it always saw."""
    data = datasets.create("futurama", root=data_root, validation=4)
    settings = TrainingSettings(ways=3, shots=1, queries=2, meta_batch=2)
    strokes_too = dataclasses.replace(settings, augmentation="strokes")
    protonet = algorithms.create("protonet", model=models.create("conv4", hidden=4, seed=0))
    plain = draw_meta_batch(protonet, data.train, settings, 3, slice(0, settings.meta_batch))
    changed = draw_meta_batch(protonet, data.train, strokes_too, 3, slice(0, settings.meta_batch))
    again = draw_meta_batch(protonet, data.train, strokes_too, 3, slice(0, settings.meta_batch))
    assert torch.equal(changed.query_x, again.query_x) and not torch.allclose(changed.query_x, plain.query_x)

    seen = []

    class Watch(Hooks):
        def on_validation(self, training, evaluation):
            seen.append(evaluation.accuracy)

    common = {"ways": 3, "queries": 2, "iterations": 1, "meta_batch": 1, "validate_every": 1, "progress": False}
    for augmentation in ("none", "strokes"):
        algorithm = algorithms.create("protonet", model=models.create("conv4", hidden=4, seed=0))
        meta_train(algorithm, data, **common, meta_lr=1e-12, augmentation=augmentation, hooks=[Watch()])
    assert seen[0] == seen[1]


def test_what_cannot_be_augmented_is_said():
    with pytest.raises(InputError, match="Unknown augmentation 'stroke'; it is one of none, strokes, photos"):
        train(centroids(), augmentation="stroke", iterations=1)
    with pytest.raises(InputError, match=r"Only images can be augmented, and these examples have shape \[6\]"):
        train(centroids(), augmentation="strokes", iterations=1)


def test_images_of_several_channels_and_any_shape():
    x = (255 * torch.rand(8, 3, 12, 16, generator=generator())).to(torch.uint8)
    split = Split(x, torch.arange(2).repeat_interleave(4), ["a", "b"])
    algorithm = algorithms.create("protonet", model=models.create("conv4", channels=3, hidden=4, seed=0))
    settings = {"ways": 2, "shots": 1, "queries": 2, "iterations": 1, "meta_batch": 1, "progress": False}
    for augmentation in ("strokes", "photos"):
        meta_train(algorithm, Data("d", split, None, split, {}), **settings, augmentation=augmentation)


@pytest.mark.parametrize("kind", ["strokes", "photos"])
def test_a_part_of_a_meta_batch_is_changed_as_in_the_whole(kind):
    """So that a process that has some of the episodes sees the images that one process alone would see."""
    support, query = torch.rand(5, 3, 1, 14, 14), torch.rand(5, 4, 1, 14, 14)
    y = torch.zeros(5, 3)
    whole = augmented(Episode(support, y, query, y), kind, generator())
    for part in (slice(0, 2), slice(2, 5), slice(4, 4)):
        some = augmented(Episode(*(each[part] for each in (support, y, query, y))), kind, generator(), part, 5)
        assert torch.equal(some.support_x, whole.support_x[part])
        assert torch.equal(some.query_x, whole.query_x[part])
