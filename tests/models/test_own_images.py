"""The images that a network with weights was trained on, in Python and at the command line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from command_line import BUDGET, write_images
from mobilenet import IMAGENET, NAME, OPTIONS, SMALL
from small_runs import forget_digests
from torch import nn

import fewshot_kit
from fewshot_kit import compat, datasets, models
from fewshot_kit.experiments.settings import from_run
from fewshot_kit.runs.checkpoints import read_config
from fewshot_kit.runs.config import first_difference
from fewshot_kit.training.recorder import _comparable


class TestOwnImages:
    def test_of_torchvision(self, trained: nn.Module, tmp_path: Path) -> None:
        torch.save(trained.state_dict(), tmp_path / "w.pth")
        net = models.create(NAME, weights=tmp_path / "w.pth", **SMALL)
        expected = datasets.Transform(224, 3, False, "bilinear", 224 / 232, *IMAGENET)
        assert models.images_of(net) == models.images_of(copy.deepcopy(net)) == expected
        assert models.image_options(net) == {
            "image_size": 224, "channels": 3, "resample": "bilinear", "crop": 224 / 232,
            "mean": IMAGENET[0], "deviation": IMAGENET[1],
        }  # fmt: skip
        grey = models.images_of(models.create(NAME, weights=tmp_path / "w.pth", channels=1, image_size=32, **SMALL))
        assert grey is not None and grey.shape == (1, 32, 32)
        assert grey.mean == pytest.approx([0.449]) and grey.deviation == pytest.approx([0.226])
        assert models.images_of(models.create(NAME, weights=tmp_path / "w.pth", channels=2, **SMALL)) is None

    def test_of_an_entry_of_torchvision(self) -> None:
        with torch.device("meta"), models.filled_later():
            net = models.create("torchvision/vit_b_16", pretrained="IMAGENET1K_SWAG_E2E_V1", image_size=384)
        assert models.images_of(net) == datasets.Transform(384, 3, False, "bicubic", 1.0, *IMAGENET)

    def test_of_timm(self) -> None:
        compat.torchvision()
        timm = pytest.importorskip("timm")
        theirs = timm.create_model("resnet18.a1_in1k", num_classes=3)  # made without the kit
        assert models.images_of(theirs) == datasets.Transform(224, 3, False, "bicubic", 0.95, *IMAGENET)
        grey = models.images_of(timm.create_model("resnet18.a1_in1k", in_chans=1))
        assert grey is not None and grey.shape == (1, 224, 224) and grey.mean == pytest.approx([0.449])
        small = models.images_of(timm.create_model("vit_tiny_patch16_224", img_size=64, depth=1, embed_dim=12))
        assert small is not None and small.image_size == 64 and small.crop == 0.9

    def test_of_a_timm_network_from_a_file(self, tmp_path: Path) -> None:
        compat.torchvision()
        timm = pytest.importorskip("timm")
        options: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [4, 4, 8, 8], "drop_path_rate": 0.0}
        theirs = timm.create_model("convnext_atto", num_classes=7, **options)
        safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
        ours = models.create("timm/convnext_atto", ways=3, weights=tmp_path / "w.safetensors", **options)
        assert torch.equal(ours.stem[0].weight, theirs.stem[0].weight) and ours.head.fc.out_features == 3
        images = models.images_of(ours)
        assert images is not None and (images.image_size, images.crop, images.mean) == (224, 0.875, IMAGENET[0])

    def test_none(self) -> None:
        compat.torchvision()
        untrained = [models.create(NAME, **SMALL), models.create("conv4"), nn.Linear(2, 2)]
        untrained += [compat.torchvision().models.mobilenet_v2(**SMALL)]
        assert [models.images_of(net) for net in untrained] == [None] * 4
        assert models.image_options(untrained[0]) == {}
        pytest.importorskip("timm")
        assert models.images_of(models.create("timm/convnext_atto", depths=[1, 1, 1, 1], dims=[4, 4, 8, 8])) is None


def by_hand(images: datasets.Transform | None) -> list[float]:
    """The probabilities of class0's images, adapted to all of them, as the run `run` sees them."""
    assert images is not None
    x, y, _ = datasets.load_image_folder("photos", images)
    learner = fewshot_kit.adapt(fewshot_kit.load("run"), (images.scaled(x), y))
    return learner.predict_proba(images.scaled(x[:6])).max(1).values.tolist()


class TestCommandLine:
    @pytest.fixture
    def photos(self, trained: nn.Module, tmp_path: Path) -> str:
        """`--dataset ...` and `--model ...` of drawn images in class folders, and a network with weights."""
        write_images(tmp_path / "photos", {f"class{number}": 6 for number in range(9)}, size=(80, 64))
        torch.save(trained.state_dict(), tmp_path / "w.pth")
        return (
            "--dataset folder --dataset-options root=photos 'fractions=[0.34,0.33,0.33]' --ways 3 --model mobilenet_v2 "
            f"--model-options weights=w.pth image_size=32 {OPTIONS} --algorithm simple_shot"
        )

    def test_the_data_set_is_made_to_fit(self, cli: Any, photos: str, tmp_path: Path) -> None:
        cli.good(f"train {photos} {BUDGET} --run run")
        config = read_config("run")
        assert config["model"]["name"] == NAME and config["model"]["options"]["weights"] == "w.pth"
        network = models.images_of(fewshot_kit.load("run").model)
        assert network == datasets.Transform(**config["data"]["transform"])
        assert network == datasets.Transform(32, 3, False, "bilinear", 224 / 232, *IMAGENET)
        assert "mean" not in from_run("run")["dataset_options"]  # another network is to have its own

        tested = cli.good("evaluate run --episodes 4")
        (tmp_path / "w.pth").unlink()  # from here on
        assert cli.good("evaluate run --episodes 4") == tested
        again = "--dataset folder --dataset-options root=photos 'fractions=[0.34,0.33,0.33]'"
        assert cli.good(f"evaluate run --episodes 4 {again}") == tested
        said = json.loads(cli.good("adapt run photos photos/class0 --json"))["predictions"]
        assert [one["probability"] for one in said] == pytest.approx(by_hand(network), abs=1e-4)
        assert "w.pth cannot be read" in cli.refused(f"train {photos} {BUDGET} --run another")
        assert "3-way" in cli.good(f"train {photos} {BUDGET} --run run --resume")
        assert "3-way" in cli.good("train --run run --resume")

    def test_unless_it_is_told_otherwise(self, cli: Any, photos: str) -> None:
        told = photos.replace("image_size=32", "").replace("root=photos", "root=photos image_size=24 channels=1")
        cli.good(f"train {told} {BUDGET} --run run")
        found = datasets.Transform(**read_config("run")["data"]["transform"])
        assert found.shape == (1, 24, 24) and found.resample == "bilinear" and found.mean == pytest.approx([0.449])
        assert from_run("run")["dataset_options"]["image_size"] == 24

    def test_not_for_an_untrained_network(self, cli: Any, photos: str) -> None:
        told = photos.replace("weights=w.pth", "").replace("root=photos", "root=photos image_size=16")
        cli.good(f"train {told} {BUDGET} --run run")
        assert datasets.Transform(**read_config("run")["data"]["transform"]) == datasets.Transform(16, 3)

    def test_an_older_run_goes_on(self, cli: Any, photos: str) -> None:
        told = photos.replace("weights=w.pth", "").replace("root=photos", "root=photos image_size=16")
        cli.good(f"train {told} {BUDGET} --run run")
        config = read_config("run")
        older = copy.deepcopy(config)
        for name in ("crop", "mean", "deviation"):
            del older["data"]["transform"][name]
        assert first_difference(_comparable(older, False), _comparable(config, False)) is None
        Path("run/config.yaml").write_text(yaml.safe_dump(older))
        forget_digests("run")
        assert "3-way" in cli.good(f"train {told} {BUDGET} --run run --resume")
        assert "3-way" in cli.good("evaluate run --episodes 2") and "class0" in cli.good("adapt run photos photos")


def test_mean_and_deviation_leave_the_decoded_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "photos", {f"class{number}": 3 for number in range(5)})
    options: dict[str, Any] = {"root": str(tmp_path / "photos"), "image_size": 8}
    bare = datasets.create("folder", **options)
    monkeypatch.setattr("fewshot_kit.datasets.folder.load_images", None)  # they come from the cache
    fitted = datasets.create("folder", **options, mean=[0.5] * 3, deviation=[0.25] * 3)
    torch.testing.assert_close(fitted.train[0][0], (bare.train[0][0] - 0.5) / 0.25)
    assert fitted.recipe is not None and fitted.recipe["options"]["deviation"] == [0.25] * 3
