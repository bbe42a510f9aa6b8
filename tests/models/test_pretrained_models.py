"""Pretrained weights of torchvision's models. Nothing here uses the network."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fewshot_kit
from fewshot_kit import algorithms, compat, models
from fewshot_kit.errors import InputError

SMALL: dict[str, Any] = {"width_mult": 0.2, "inverted_residual_setting": [[1, 8, 1, 1]], "dropout": 0.0}
CONVNEXT: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [4, 4, 8, 8], "drop_path_rate": 0.0}
SHUFFLENET = "torchvision/shufflenet_v2_x0_5"  # the lightest that has pretrained weights


class TestPretrained:
    """Weights in the cache of torch.hub, which no download put there."""

    @pytest.fixture
    def theirs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
        """torchvision's model with the "pretrained" weights."""
        known = compat.torchvision().models
        model = known.get_model(SHUFFLENET.rpartition("/")[2])
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        self.offline(monkeypatch)
        file = tmp_path / "hub" / "checkpoints" / Path(known.ShuffleNet_V2_X0_5_Weights.DEFAULT.url).name
        file.parent.mkdir(parents=True)
        torch.save(model.state_dict(), file)
        return model.eval()

    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(*args: Any, **kwargs: Any) -> None:
            raise urllib.error.URLError("no route to host")

        monkeypatch.setattr("urllib.request.urlopen", unreachable)
        monkeypatch.setattr("torch.hub.urlopen", unreachable)

    @pytest.mark.parametrize("pretrained", [True, "IMAGENET1K_V1"])
    def test_body_of_the_library_and_a_new_head(self, theirs: nn.Module, pretrained: bool | str) -> None:
        ours = models.create(SHUFFLENET, ways=5, pretrained=pretrained, seed=0)
        for name, value in theirs.state_dict().items():
            if not name.startswith("fc."):
                assert torch.equal(ours.state_dict()[name], value)
        assert ours.fc.weight.shape == (5, 1024) and ours.training
        again = models.create(SHUFFLENET, ways=5, pretrained=pretrained, seed=0)
        assert torch.equal(ours.fc.weight, again.fc.weight)

    def test_the_head_stays_where_the_classes_are_as_many(self, theirs: nn.Module) -> None:
        ours = models.create(SHUFFLENET, ways=1000, pretrained=True).eval()
        x = torch.rand(2, 3, 64, 64)
        assert torch.equal(ours(x), theirs(x))

    def test_a_grey_image_gives_what_it_gives_in_colour(self, theirs: nn.Module) -> None:
        x = torch.rand(2, 1, 64, 64)
        for channels in (1, 2):
            ours = models.create(SHUFFLENET, channels=channels, pretrained=True).conv1[0]
            torch.testing.assert_close(ours(x.expand(-1, channels, -1, -1)), theirs.conv1[0](x.expand(-1, 3, -1, -1)))

    def test_a_run_folder_has_them_already(
        self, theirs: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        net = models.create(SHUFFLENET, ways=3, channels=1, pretrained=True, seed=0)
        fewshot_kit.save(algorithms.create("maml", model=net), tmp_path / "run")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "another-machine"))
        again = fewshot_kit.load(tmp_path / "run").model
        assert all(torch.equal(again.state_dict()[name], value) for name, value in net.state_dict().items())
        assert again.recipe == net.recipe  # which says that it started from pretrained weights
        with pytest.raises(InputError):
            models.create(SHUFFLENET, pretrained=True)  # fetched anew, outside

    def test_no_connection(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        self.offline(monkeypatch)
        with pytest.raises(InputError) as raised:
            models.create("torchvision/shufflenet_v2_x0_5", pretrained=True)
        assert str(raised.value) == (
            "The model 'torchvision/shufflenet_v2_x0_5' cannot be made with pretrained=True (URLError: <urlopen error "
            "no route to host>); get online once, or give a file of weights instead, as weights=FILE."
        )
        assert capsys.readouterr().out == ""  # torch.hub announces a download there, where --json has its object

    @pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
    def test_auxiliary_heads_are_left_out(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        known = compat.torchvision().models
        weights = known.get_model_weights(name).DEFAULT
        theirs = known.get_model(name, init_weights=False).state_dict()
        monkeypatch.setattr("fewshot_kit.models.downloads.check_reachable", lambda url: None)
        monkeypatch.setattr(type(weights), "get_state_dict", lambda *args, **kwargs: theirs)
        ours = models.create(f"torchvision/{name}", pretrained=True)
        assert not any("aux" in key.lower() for key in ours.state_dict())
        assert all(torch.equal(value, theirs[key]) for key, value in ours.state_dict().items() if key[:3] != "fc.")
        with models.filled_later(), torch.device("meta"):
            again = models.create(f"torchvision/{name}", pretrained=True)
        assert again.transform_input is ours.transform_input is True
        shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (ours, again)]
        assert shapes[0] == shapes[1]

    def test_a_convolution_as_head(self, monkeypatch: pytest.MonkeyPatch) -> None:
        known = compat.torchvision().models
        theirs = known.squeezenet1_1()
        monkeypatch.setattr("fewshot_kit.models.downloads.check_reachable", lambda url: None)
        monkeypatch.setattr(known.SqueezeNet1_1_Weights, "get_state_dict", lambda *args, **kwargs: theirs.state_dict())
        ours = models.create("torchvision/squeezenet1_1", ways=5, pretrained=True)
        assert ours(torch.rand(2, 3, 32, 32)).shape == (2, 5)
        assert torch.equal(ours.features[0].weight, theirs.features[0].weight)
