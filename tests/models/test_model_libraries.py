"""Models of torchvision and timm by name. Nothing here uses the network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from command_line import BUDGET, GLYPHS
from torch import nn

import fewshot_kit
from fewshot_kit import algorithms, compat, engines, models
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError, UnknownName
from fewshot_kit.modules.heads import find_head
from fewshot_kit.registry import Registry
from fewshot_kit.runs.checkpoints import read_config

SMALL: dict[str, Any] = {"width_mult": 0.2, "inverted_residual_setting": [[1, 8, 1, 1]], "dropout": 0.0}
CONVNEXT: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [4, 4, 8, 8], "drop_path_rate": 0.0}
SHUFFLENET = "torchvision/shufflenet_v2_x0_5"  # the lightest that has pretrained weights


class TestPrefix:
    """Names with a prefix, in a registry of their own."""

    @pytest.fixture
    def fruits(self) -> Registry:
        made = Registry("fruit")
        made.register("pear")(lambda: nn.Identity())
        made.add_library("shop", lambda: ["plum", "apple"], lambda name, /, size=1: nn.Linear(size, len(name)))
        return made

    def test_makes_and_remembers(self, fruits: Registry) -> None:
        made = fruits.create("shop/plum", size=3)
        assert (made.in_features, made.out_features) == (3, 4)
        assert made.recipe == {"name": "shop/plum", "options": {"size": 3}, "complete": True}
        assert fruits.create("shop/plum.ripe").out_features == 9  # what follows the dot is the library's business

    def test_is_listed_only_when_asked_for(self, fruits: Registry) -> None:
        assert fruits.names() == ["pear"]
        assert fruits.names("shop/*") == ["shop/apple", "shop/plum"] and fruits.names("shop/p*") == ["shop/plum"]

    def test_says_what_is_wrong(self, fruits: Registry) -> None:
        with pytest.raises(UnknownName) as raised:
            fruits.get("shop/plumb")
        assert str(raised.value) == (
            "Unknown fruit 'shop/plumb'. Did you mean 'shop/plum'? List them with: fewshot-kit list fruits 'shop/*'."
        )
        with pytest.raises(UnknownName, match=r"Unknown fruit 'shops/plum'\.\nAvailable: pear, shop/NAME\.  Add one"):
            fruits.get("shops/plum")
        with pytest.raises(InputError, match=r"'shop/plum' has no option 'sizes'\. Did you mean 'size'\? .*\(size=1\)"):
            fruits.create("shop/plum", sizes=3)


class TestTorchvision:
    def test_is_the_librarys_own(self) -> None:
        torch.manual_seed(0)
        ours = models.create("torchvision/mobilenet_v2", ways=7, **SMALL)
        torch.manual_seed(0)
        theirs = compat.torchvision().models.mobilenet_v2(num_classes=7, **SMALL)
        assert type(ours) is type(theirs) and ours.training
        assert all(torch.equal(ours.state_dict()[name], value) for name, value in theirs.state_dict().items())

    def test_resnet18_of_one_channel(self) -> None:
        net = models.create("torchvision/resnet18", ways=5, channels=1)
        assert net(torch.rand(2, 1, 32, 32)).shape == (2, 5)
        assert find_head(net) == "fc" and net.fc.out_features == 5
        stem = compat.torchvision().models.resnet18().conv1
        for setting in ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"):
            assert getattr(net.conv1, setting) == getattr(stem, setting)
        assert net.conv1.bias is None and stem.bias is None

    def test_a_seed_decides_the_weights_and_nothing_else(self) -> None:
        before = torch.get_rng_state()
        first, again, other = (
            models.create("torchvision/mobilenet_v2", channels=1, seed=seed, **SMALL).state_dict() for seed in (3, 3, 4)
        )
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["features.0.0.weight"], other["features.0.0.weight"])

    def test_networks_of_one_image_size_are_made_for_it(self) -> None:
        with torch.device("meta"):  # 86 million parameters that are never drawn
            assert models.create("torchvision/vit_b_16", image_size=64).image_size == 64
            assert models.create("torchvision/vit_b_16").image_size == 224
        with pytest.raises(InputError) as raised:
            models.create("torchvision/vit_b_16", image_size=28)
        assert str(raised.value) == (
            "The model 'torchvision/vit_b_16' cannot be made (AssertionError: Input shape indivisible by patch size!)."
        )

    @pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
    def test_auxiliary_heads_are_left_out(self, name: str) -> None:
        with torch.device("meta"):
            net = models.create(f"torchvision/{name}", channels=1)
            assert net.training and net(torch.empty(2, 1, 75, 75)).shape == (2, 5)
        assert find_head(net) == "fc"

    def test_a_run_folder_makes_it_again(self, tmp_path: Path) -> None:
        net = models.create("torchvision/mobilenet_v2", ways=3, channels=1, seed=0, **SMALL)
        algorithm = algorithms.create("protonet", model=net, batch_norm="running")
        fewshot_kit.save(algorithm, tmp_path / "run")
        again = fewshot_kit.load(tmp_path / "run")
        x = torch.rand(4, 1, 16, 16)
        assert torch.equal(again.eval()(x), algorithm.eval()(x))
        recipe = read_config(tmp_path / "run")["model"]
        assert recipe["name"] == "torchvision/mobilenet_v2"
        assert recipe["options"] == {"ways": 3, "channels": 1, "seed": 0, **SMALL}

    def test_from_the_command_line(self, cli: Any) -> None:
        options = (
            '--model torchvision/mobilenet_v2 --model-options width_mult=0.2 "inverted_residual_setting=[[1,8,1,1]]"'
        )
        cli.good(f"train {GLYPHS} {BUDGET} --algorithm protonet {options} --run run")
        net = fewshot_kit.load("run").model
        assert net.features[0][0].in_channels == 1 and type(net).__name__ == "MobileNetV2"
        assert "5-way 1-shot" in cli.good("evaluate run --episodes 2")
        assert cli.refused(f"train {GLYPHS} {BUDGET} --model torchvision/resnet81").startswith(
            "Unknown model 'torchvision/resnet81'. Did you mean 'torchvision/resnet18'?"
        )
        assert "torchvision/resnet18   resnet18 of torchvision." in cli.good("list models 'torchvision/resnet*'")

    def test_names_are_those_of_classification(self) -> None:
        names = models.names("torchvision/*")
        assert "torchvision/resnet18" in names and names == sorted(names)
        assert not any("fcn" in name or "rcnn" in name or "quantized" in name for name in names)
        assert not any("/" in name for name in models.names())

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (
                {"ways": 0},
                "The model 'torchvision/resnet18' cannot have ways=0; it must be a whole number of",
            ),
            (
                {"image_size": 0},
                "The model 'torchvision/resnet18' cannot have image_size=0; it must be a whole number of",
            ),
            (
                {"extra": 3},
                "The model 'torchvision/resnet18' has no option 'extra'. It is made as torchvision/resnet18",
            ),
            ({"num_classes": 3}, "The model 'torchvision/resnet18' has no option 'num_classes'. It is made as"),
            (
                {"pretrained": "IMAGENET22K"},
                "torchvision has no weights 'IMAGENET22K' of 'resnet18'; it has IMAGENET1K_V1, DEFAULT.",
            ),
        ],
    )
    def test_wrong_options(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError) as raised:
            models.create("torchvision/resnet18", **options)
        assert str(raised.value).startswith(said)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for ask in (lambda: models.create("timm/convnext_atto"), lambda: models.names("timm/*")):
        with pytest.raises(InputError) as raised:
            ask()
        assert str(raised.value) == "timm, whose models 'timm/NAME' are, is not installed; pip install timm."


class TestTimm:
    @pytest.fixture
    def timm(self) -> ModuleType:
        compat.torchvision()  # timm imports it
        return pytest.importorskip("timm", reason="timm, an extra, is not installed")

    def test_scores_and_channels(self, timm: ModuleType) -> None:
        net = models.create("timm/convnext_atto", ways=4, channels=1, seed=0, **CONVNEXT)
        assert net(torch.rand(2, 1, 32, 32)).shape == (2, 4) and net.training
        assert find_head(net) == "head.fc"
        again = models.create("timm/convnext_atto", ways=4, channels=1, seed=0, **CONVNEXT)
        assert all(torch.equal(again.state_dict()[name], value) for name, value in net.state_dict().items())
        assert models.create("timm/convnext_atto", **CONVNEXT)(torch.rand(2, 3, 32, 32)).shape == (2, 5)

    def test_networks_of_one_image_size_are_made_for_it(self, timm: ModuleType) -> None:
        options: dict[str, Any] = {"embed_dim": 12, "depth": 1, "num_heads": 2}
        net = models.create("timm/vit_tiny_patch16_224", image_size=32, channels=1, **options)
        assert net(torch.rand(2, 1, 32, 32)).shape == (2, 5)

    @pytest.mark.parametrize("algorithm", ["maml", "anil", "protonet"])
    def test_loop_and_vmap_give_the_same(self, timm: ModuleType, algorithm: str) -> None:
        net = models.create("timm/convnext_atto", ways=2, channels=1, seed=0, **CONVNEXT).double()
        made = algorithms.create(algorithm, model=net).train()
        x = torch.rand(2, 4, 1, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        y = torch.tensor([[0, 0, 1, 1]] * 2)
        found = []
        for engine in ("loop", "vmap"):
            made.zero_grad()
            losses, _ = engines.meta_backward(made, Episode(x, y, x.flip(-1), y), engine)
            found.append([losses, *(p.grad.clone() for p in made.parameters())])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)

    def test_a_run_folder_makes_it_again(self, timm: ModuleType, tmp_path: Path) -> None:
        net = models.create("timm/convnext_atto", ways=3, channels=1, **CONVNEXT)
        fewshot_kit.save(algorithms.create("anil", model=net), tmp_path / "run")
        again = fewshot_kit.load(tmp_path / "run").model
        x = torch.rand(2, 1, 32, 32)
        assert torch.equal(again.eval()(x), net.eval()(x))

    def test_pretrained_weights_that_are_not_there(self, timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError) as raised:
            models.create("timm/resnet18.a1_in2k", pretrained=True)
        assert str(raised.value) == (
            "timm has no pretrained weights of 'resnet18.a1_in2k'. Did you mean 'resnet18.a1_in1k'?"
        )
        with pytest.raises(InputError, match="pretrained='a1_in1k' is neither True nor False; the weights of 'timm/re"):
            models.create("timm/resnet18", pretrained="a1_in1k")

        def unreachable(*args: Any, **kwargs: Any) -> None:
            raise ConnectionError("no route to host")

        monkeypatch.setattr("fewshot_kit.models.downloads.check_reachable", unreachable)
        with pytest.raises(InputError) as raised:
            models.create("timm/resnet18", pretrained=True)
        assert str(raised.value) == (
            "The model 'timm/resnet18' cannot be made with pretrained=True (ConnectionError: no route to host); "
            "get online once, or give a file of weights instead, as weights=FILE."
        )

    def test_wrong_names_and_options(self, timm: ModuleType) -> None:
        with pytest.raises(UnknownName, match="Unknown model 'timm/convnext_ato'. Did you mean 'timm/convnext_atto'?"):
            models.create("timm/convnext_ato")
        with pytest.raises(InputError, match="The model 'timm/convnext_atto' has no option 'widht'"):
            models.create("timm/convnext_atto", widht=3)
        assert "timm/convnext_atto" in models.names("timm/convnext*")
