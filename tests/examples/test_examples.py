"""Every script of examples/, at a budget that is just enough to see that its outcome means something."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fewshot_kit import algorithms, compat, datasets, engines, models
from fewshot_kit.algorithms import _registry

FOLDER = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "__main__" in path.read_text())  # the others are parts


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script as `python examples/<script> <arguments>` does, and give what it prints."""
    registered = dict(_registry.registry._factories)
    monkeypatch.setattr(_registry.registry, "_factories", registered)  # what a script registers goes with it

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(0)  # for modules of the script's own
            try:
                runpy.run_path(str(FOLDER / script), run_name="__main__")
            except SystemExit as stopped:
                if stopped.code:
                    raise
        return capsys.readouterr().out

    return run


def accuracies(printed, label):
    """The percentages that follow a label, as in `after:  71.40 +- 0.90 % (...)`."""
    return [float(value) for value in re.findall(rf"^{label}:\s+([\d.]+) \+- [\d.]+ %", printed, re.M)]


def test_omniglot_maml(run):
    printed = run("omniglot_maml.py", "--dataset", "glyphs", "--iterations", 10, "--episodes", 30)
    [before], [after] = accuracies(printed, "before"), accuracies(printed, "after")
    assert after > before + 3 and after > 40  # chance is 20
    assert "5-way 1-shot" in printed and "10 iterations took" in printed


def test_omniglot_maml_on_real_drawings_with_another_algorithm(run, data_root):
    arguments = ["--root", data_root, "--algorithm", "boil", "--ways", 3, "--shots", 2]
    printed = run("omniglot_maml.py", *arguments, "--iterations", 3, "--episodes", 15)
    [after] = accuracies(printed, "after")
    assert after > 55  # chance is 33
    assert "boil on omniglot" in printed and "3-way 2-shot" in printed and "test split of omniglot" in printed


def test_your_own_model(run):
    printed = run("your_own_model.py", "--iterations", 12, "--episodes", 20)
    [before], [after] = accuracies(printed, "before"), accuracies(printed, "after")
    assert after > before + 3 and after > 40  # chance is 20
    right = [int(count) for count in re.findall(r"(\d+) of 30 right", printed)]
    assert len(right) == 2 and min(right) > 15  # chance is 10
    assert "the model is unchanged: True" in printed and "frozen part is unchanged: True" in printed
    assert "the classes are ['apple', 'book', 'cat']" in printed


def test_your_own_algorithm():
    """As a program of its own, with warnings as errors: nothing but its results and the bar is printed."""
    command = [sys.executable, "-W", "error", "examples/your_own_algorithm.py"]
    budget = ["--iterations", "15", "--episodes", "30"]
    done = subprocess.run([*command, *budget], cwd=FOLDER.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [before], [after, among_twenty] = accuracies(done.stdout, "before"), accuracies(done.stdout, "after")
    assert after > before + 15 and among_twenty > 25  # chance is 20, and 5
    assert "['one', 'two', 'three'] for one, two, three" in done.stdout
    lines = [line.strip() for line in re.split(r"[\r\n]+", done.stderr)]
    assert all(line.startswith(("meta-train", "engine: ")) for line in lines if line)


def test_the_own_algorithm_by_hand(monkeypatch):
    monkeypatch.setattr(_registry.registry, "_factories", dict(_registry.registry._factories))
    runpy.run_path(str(FOLDER / "your_own_algorithm.py"))
    nearest = algorithms.create("nearest-mean", model=nn.Identity())
    state = nearest.adapt(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]]), torch.tensor([0, 0, 1]))
    assert state.tolist() == [[1, 0], [0, 4]]
    assert nearest.predict(state, torch.tensor([[1.0, 1.0]])).tolist() == [[-1, -10]]

    nearest = algorithms.create("nearest-mean", model=models.create("mlp", inputs=784, ways=8, seed=0))
    attributes = set(vars(nearest))
    episodes = datasets.create("glyphs", classes=20).train.episodes(4, 2, 3, meta_batch=2)
    losses, scores = engines.meta_backward(nearest, episodes, engine="vmap")
    assert losses.shape == (2,) and losses.isfinite().all() and scores.shape == (2, 12, 4)
    # Scores are unmoved by the last bias: it shifts means and queries alike.
    assert all(p.grad.any() for name, p in nearest.named_parameters() if name != "model.head.bias")
    assert set(vars(nearest)) == attributes  # no state of a task stays


def test_the_entry_point_lines_name_the_algorithms_group():
    assert f'[project.entry-points."{_registry.registry.group}"]' in (FOLDER / "your_own_algorithm.py").read_text()


def test_ported_from_learn2learn(run, monkeypatch, capsys):
    """With the import that it had before, the script prints the same."""
    ours = run("ported_from_learn2learn.py", "--iterations", 6, "--episodes", 10)
    file = FOLDER / "ported_from_learn2learn.py"
    [line] = [line for line in file.read_text().splitlines() if "# was: " in line]
    compat.learn2learn()  # quietly; the script's own import then finds it loaded
    script = file.read_text().replace(line, line.split("# was: ")[1])
    names = {"__name__": "__main__"}
    exec(compile(script, "before_the_port.py", "exec"), names)
    assert names["MAML"].__module__.startswith("learn2learn.")
    assert capsys.readouterr().out == ours
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", ours)]
    assert len(losses) == 2 and losses[-1] < losses[0]
    assert float(ours.split()[-1]) > 0.4  # chance is 0.2


def test_sinusoid(run, tmp_path):
    printed = run("sinusoid.py", "--eager", "--iterations", 400, "--episodes", 50, "--picture", tmp_path / "sines.png")
    found = {steps: float(value) for steps, value in re.findall(r"^  10 points, (\d+) steps: ([\d.]+) ", printed, re.M)}
    assert found["10"] < found["5"] < found["1"] < 4.5  # the variance of the waves is 4.2
    assert "published: 0.67" in printed
    assert (tmp_path / "sines.png").read_bytes().startswith(b"\x89PNG")


def test_mann_presentations(run):
    printed = run("mann_presentations.py", "--iterations", 7, "--sequences", 10)
    found = {}
    for when, said in re.findall(r"^(before|after): (.*)$", printed, re.M):
        found[when] = {time: float(value) for value, time in re.findall(r"([\d.]+) % at presentation (\d+)", said)}
    assert list(found["before"]) == list(found["after"]) == ["1", "2", "5", "10"]
    assert found["after"]["1"] < 50  # no label of the class has come yet
    assert found["after"]["10"] > found["before"]["10"] + 3 and found["after"]["10"] > 40  # chance is 20


def test_own_images(run):
    printed = run("own_images.py", "--iterations", 15, "--episodes", 30)
    [held_back] = accuracies(printed, "held-back classes")
    assert held_back > 40  # chance is 20
    found = re.findall(r"^(\w+)/\d+\.png is (\w+) \((.*)\)$", printed, re.M)
    assert len(found) == 6 and len({truth for truth, _, _ in found}) == 3
    assert sum(truth == guess for truth, guess, _ in found) >= 4  # chance is 2
    for _, guess, chances in found:
        shown = {name: float(value) for name, value in (pair.split() for pair in chances.split(", "))}
        assert sum(shown.values()) == pytest.approx(1, abs=0.02) and max(shown, key=shown.get) == guess


def test_own_images_of_a_folder_that_is_given(run, tmp_path, capsys):
    draw = runpy.run_path(str(FOLDER / "own_images.py"))["draw_images"]
    draw(tmp_path)
    queries = sorted((tmp_path / "queries").rglob("*.png"))[:2]
    printed = run(
        "own_images.py",
        "--root",
        tmp_path / "many",
        "--support",
        tmp_path / "new",
        *queries,
        "--iterations",
        1,
        "--episodes",
        5,
    )
    assert len(re.findall(r"\.png is glyph", printed)) == 2
    with pytest.raises(SystemExit, match="2"):
        run("own_images.py", "--root", tmp_path / "many")
    assert "together" in capsys.readouterr().err


def test_own_images_that_are_too_few_are_said_in_one_sentence(run, tmp_path, capsys):
    draw = runpy.run_path(str(FOLDER / "own_images.py"))["draw_images"]
    draw(tmp_path)
    query = next((tmp_path / "queries").rglob("*.png"))
    with pytest.raises(SystemExit, match="2"):
        run("own_images.py", "--root", tmp_path / "new", "--support", tmp_path / "new", query)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"own_images.py: The folder {tmp_path / 'new'} has 3 classes: too few to split")
    assert err.endswith("needs no meta-training: give them to fewshot-kit adapt.\n") and err.count("\n") == 1


def test_mini_imagenet_meta_lstm(run, data_root):
    if not (data_root / "mini-imagenet").is_dir():
        pytest.skip(f"no mini-ImageNet in {data_root}: set FEWSHOT_KIT_DATA to a folder that holds mini-imagenet")
    budget = ["--iterations", 2, "--validate-every", 2, "--queries", 1, "--steps", 2, "--episodes", 4]
    printed = run("mini_imagenet_meta_lstm.py", "--root", data_root, "--ways", 3, "--shots", 2, *budget)
    [before], [after] = accuracies(printed, "before"), accuracies(printed, "after")
    assert min(before, after) > 15  # chance is 33
    assert "3-way 2-shot on mini" in printed and "support batch norm" in printed and "2 iterations took" in printed


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_run_explained_and_at_most_a_page(script):
    text = script.read_text()
    own = Path(__file__).with_name(f"test_{script.stem}.py").exists()
    assert own or f"test_{script.stem}" in globals(), f"{script.name} has no test that runs it"
    assert len(text.splitlines()) <= 70
    command = f"python examples/{script.name}"
    assert text.startswith('"""') and command in text.split('"""')[1]
    assert f"`{command}" in (FOLDER / "README.md").read_text()
    assert "manual_seed" not in text.replace("torch.Generator().manual_seed", "")


def test_there_are_examples():
    assert len(SCRIPTS) >= 5
