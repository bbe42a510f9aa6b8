"""The speed tables on a tiny job: who takes part and who is refused, what is written, and that the page is the JSON's.

Nothing here holds a time against anything.
"""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def speed(monkeypatch):
    """`benchmarks/speed.py` with two tiny jobs beside its own."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("speed")
    jobs, gradients = (importlib.import_module(f"speed_jobs.{name}") for name in ("jobs", "gradients"))
    tiny = jobs.Job("tiny", tiny_contest, goals=(jobs.Goal("kit, auto", 0.0), jobs.Goal("nobody", 2, 3)))
    monkeypatch.setitem(script.JOBS, "tiny", tiny)
    monkeypatch.setattr(script.machine, "matmul_rate", lambda _: 1e9)  # takes seconds, and is no part of this
    takes_part = gradients.LEARN2LEARN | gradients.AUTO

    def axis(_):
        return ((tasks, contest(takes_part, tasks)) for tasks in (1, 2))

    monkeypatch.setitem(script.JOBS, "growing", jobs.Job("growing", axes={"tasks": axis}))
    return script


def contest(takes_part, tasks=2):
    from speed_jobs.contest import gradient_contest
    from speed_jobs.work import Work, sinusoids

    from fewshot_kit import models

    work = Work(models.create("mlp", hidden=(4,), seed=0), sinusoids(tasks), lr=0.01, steps=2)
    return gradient_contest(work, takes_part, "A tiny regression.")


def tiny_contest(_):
    from speed_jobs import gradients, peers
    from speed_jobs.contest import Maker

    def one_step(work):  # another algorithm than the rest
        return peers.learn2learn(dataclasses.replace(work, steps=1))

    others = {"wrong": Maker(one_step), "missing": Maker(peers.torchopt, "no_such_library")}
    return contest(gradients.LEARN2LEARN | gradients.HIGHER | gradients.AUTO | gradients.REFERENCE | others)


def run(speed, out, *arguments):
    return speed.main([*arguments, "--rounds", "2", "--out", str(out)])


def test_jobs_are_checked_timed_and_written_one_by_one(speed, tmp_path, monkeypatch, capsys):
    assert run(speed, tmp_path, "tiny") == 0
    section = json.loads((tmp_path / "results.json").read_text())["tiny"]
    page = (tmp_path / "README.md").read_text()
    assert page in capsys.readouterr().out
    check_tiny(section, page)
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")

    assert run(speed, tmp_path, "growing") == 0
    results, page = json.loads((tmp_path / "results.json").read_text()), (tmp_path / "README.md").read_text()
    assert results["tiny"] == section and [point["value"] for point in results["growing"]["axes"]["tasks"]] == [1, 2]
    assert "![growing](growing.png)" in page and (tmp_path / "growing.png").exists()

    (tmp_path / "README.md").unlink()
    monkeypatch.setattr(speed, "run", lambda *_: pytest.fail("a job was run"))
    assert run(speed, tmp_path, "--page") == 0  # from the JSON alone
    assert (tmp_path / "README.md").read_text() == page


def check_tiny(section, page):
    found = section["contestants"]
    for name in ("learn2learn", "higher", "kit, auto", "kit, reference"):
        assert len(found[name]["seconds"]) == 2 and found[name]["deviation"] < 1e-10
        assert f"| {name}" in page
    assert "seconds" not in found["wrong"] and "away from learn2learn's" in found["wrong"]["refused"]
    assert re.search(r"Left out: wrong \(.*\); missing \(No module named 'no_such_library'\)\.", page)
    assert section["flop"] > 0 and section["limit"] == pytest.approx(section["flop"] / section["matmul"], rel=1e-4)
    assert torch.__version__.startswith(section["machine"]["versions"]["torch"]) and section["rounds"] == 2
    assert "Only 2 rounds" in page and "| tiny | nobody | learn2learn |  |  | not measured |" in page


@pytest.mark.parametrize("name", ["speed", "speed-cuda"])
def test_the_committed_page_is_that_of_the_committed_json(speed, name):
    folder = BENCHMARKS / "results" / name
    if not (folder / "results.json").exists():
        pytest.skip(f"no results of {name} are committed")
    results = speed.read(folder)
    pictures = speed.charts.names(results, speed.JOBS)
    assert (folder / "README.md").read_text() == speed.page(results, speed.JOBS, pictures)
    assert all((folder / picture).exists() for picture in pictures)


def test_features_are_told_right_by_everybody_who_is_there(speed, tmp_path, monkeypatch):
    features = importlib.import_module("speed_jobs.features")
    for name, value in {"EACH": 30, "SIZE": 24, "EPISODES": 3}.items():
        monkeypatch.setattr(features, name, value)
    assert run(speed, tmp_path, "features") == 0
    section = json.loads((tmp_path / "results.json").read_text())["features"]
    found = section["contestants"]
    assert [who for who in found if who.startswith("kit")] == ["kit, protonet", "kit, simple_shot"]
    for who, one in found.items():
        assert one.get("deviation") == 0 or (not who.startswith("kit") and "No module" in one["absent"])
    goals = [(goal.at_least, goal.aim, goal.against) for goal in speed.JOBS["features"].goals]
    assert goals == [(1.5, 4, "easyfsl, PrototypicalNetworks"), (1.5, 4, "easyfsl, SimpleShot")]
    assert {against for *_, against in goals} <= found.keys()


def test_features_told_wrong_are_refused(speed, monkeypatch):
    features, contests = (importlib.import_module(f"speed_jobs.{name}") for name in ("features", "contest"))
    for name, value in {"EACH": 30, "SIZE": 24, "EPISODES": 3}.items():
        monkeypatch.setattr(features, name, value)
    monkeypatch.setattr(features, "_by_hand", lambda task, ready: 0.2)
    settings = features.Settings(torch.device("cpu"), None, 1)
    found = contests.run(features.features(settings), 1, settings.device)["kit, protonet"]
    assert "seconds" not in found and "away from easyfsl, PrototypicalNetworks's" in found["refused"]


def test_peak_memory_is_measured_in_a_process_of_its_own(speed):
    from speed_jobs import memory
    from speed_jobs.settings import Settings

    found = memory.of("sinusoid_1", "kit, loop", Settings(torch.device("cpu")))
    assert found["peak"] > found["baseline"] > 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["nonsense"], "unknown job nonsense; the jobs are sinusoid_1,"), (["tiny", "--rounds", "0"], "--rounds is 0")],
)
def test_what_cannot_be_run_is_named(speed, tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        speed.main([*arguments, "--out", str(tmp_path)])
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_data_or_results_that_are_not_there_are_one_sentence(speed, tmp_path, capsys):
    assert run(speed, tmp_path, "--page") == 2
    assert "There is no results.json" in capsys.readouterr().err
    assert run(speed, tmp_path, "data", "--root", str(tmp_path)) == 2
    assert "download is off" in capsys.readouterr().err
