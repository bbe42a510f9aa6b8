"""A run folder of somebody else's runs no code: no file or address that its options name is ever opened."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_line import BUDGET, GLYPHS
from mobilenet import NAME, OPTIONS
from small_runs import forget_digests

from fewshot_kit import compat, load, models
from fewshot_kit.errors import InputError, KitError

RUN = f"train {GLYPHS} {BUDGET} --iterations 1 --algorithm protonet --run run --model {NAME} --model-options {OPTIONS}"
TIMM = RUN.partition(" --model ")[0] + " --model timm/test_vit --dataset-options image_size=32"


class Trap:
    """Leaves a file named `sprung` where it is unpickled."""

    def __reduce__(self) -> Any:
        return open, ("sprung", "w")


def edited(change: dict[str, Any], keep: bool = True) -> None:
    """The folder `crafted`: the run with other model options, with its checkpoints or without."""
    shutil.rmtree("crafted", ignore_errors=True)
    shutil.copytree("run", "crafted")
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    config["model"]["options"] |= change.pop("options", {})
    config["model"] |= change.pop("model", {})
    config["training"] |= change
    Path("crafted/config.yaml").write_text(yaml.safe_dump(config))
    forget_digests("crafted")  # who crafts a folder can write any
    if not keep:
        shutil.rmtree("crafted/checkpoints")


def tried(cli: Any) -> list[str]:
    """What every reader of a run folder says, once nothing has been unpickled or fetched."""
    lines = ["evaluate {} --episodes 1", "adapt {} none none", "train --resume --run {}"]
    said = [cli(line.format("crafted")).err for line in lines]
    try:
        load("crafted")
    except KitError as error:
        said.append(str(error))
    assert not Path("sprung").exists()
    return said


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses and files that torch and the kit were asked for."""
    asked: list[str] = []

    def note(place: Any, *args: Any, **kwargs: Any) -> None:
        asked.append(str(place))
        raise OSError("not here")

    monkeypatch.setattr("fewshot_kit.models.downloads.check_reachable", note)
    monkeypatch.setattr("torch.load", note)
    return asked


def test_the_trap_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Trap())).close()
    assert Path("sprung").exists()


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_recorded_options_never_reach_a_loader(cli: Any, fetched: list[str], library: str) -> None:
    if library == "timm":
        compat.torchvision()  # timm imports it
        pytest.importorskip("timm", reason="timm, an extra, is not installed")
    cli.good(TIMM if library == "timm" else RUN)
    torch.save({"state_dict": Trap()}, "trap.pth")
    trap = str(Path("trap.pth").resolve())
    refused: list[dict[str, Any]] = [
        {"checkpoint_path": trap},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": trap}},
        {"pretrained": True, "pretrained_cfg": {"file": trap, "url": "https://example.org/trap.pth"}},
        {"pretrained_cfg": "a1_in1k", "cache_dir": trap},
        {"weights_backbone": trap},
        {"pretrained_model_args": {"checkpoint_path": trap}},
    ]
    for options in refused:
        edited({"options": dict(options)})
        for said in tried(cli):
            assert " is not for use here; weights from a file are given as weights=FILE." in said
    for source in ({"weights": trap}, {"pretrained": True}):  # the checkpoint fills the network
        edited({"options": dict(source)})
        tried(cli)
    for name in ("local-dir:/tmp", "hf-hub:timm/resnet18.a1_in1k", "test_vit.local-dir:/tmp", "test_vit./../evil"):
        edited({"model": {"name": f"{library}/{name}"}})
        for said in tried(cli):
            assert f"{library}/{name}" in said and ("Unknown model" in said or "cannot be made" in said)
    assert fetched == []


@pytest.mark.parametrize(
    ("change", "named", "flag"),
    [
        ({"options": {"weights": "trap.pth"}}, "weights=trap.pth", "--model-options weights=trap.pth"),
        ({"options": {"pretrained": True}}, "pretrained=True", "--model-options pretrained=True"),
        ({"init": "trap.pth"}, "init=trap.pth", "--init trap.pth"),
    ],
)
def test_without_a_checkpoint_a_person_names_what_is_opened(
    cli: Any, fetched: list[str], change: dict[str, Any], named: str, flag: str
) -> None:
    cli.good(RUN)
    torch.save({"state_dict": Trap()}, "trap.pth")
    edited(change, keep=False)
    assert cli.refused("train --resume --run crafted") == (
        f"crafted has no checkpoint, and its config.yaml asks to start from {named}; what it names is not opened: "
        f"give it yourself by {flag}, or train anew."
    )
    assert fetched == [] and not Path("sprung").exists()
    cli.refused(f"train --resume --run crafted {flag}")  # asked for, it is opened as tensors alone
    assert fetched != [] and not Path("sprung").exists()


def test_a_file_of_ones_own_runs_no_code_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Trap()}, "trap.pth")
    with pytest.raises(InputError, match="hold a pickle of .*open, and opening one can run any code, so it was not"):
        models.create(NAME, weights="trap.pth")
    assert not Path("sprung").exists()
