"""`metrics.jsonl` while a run lasts: what another program does to it is said at once, and nothing is lost."""

from __future__ import annotations

import shutil
import signal

import pytest
from small_runs import KillAt, centroids, lines, same, train

from fewshot_kit.errors import InputError
from fewshot_kit.training import meta_update
from fewshot_kit.training.hooks import Hooks


class At(Hooks):
    """Does something to the run folder after one iteration."""

    def __init__(self, iteration, what):
        self.iteration, self.what = iteration, what

    def on_iteration(self, training):
        if training.iteration == self.iteration:
            self.what()


@pytest.mark.parametrize("iteration", [2, 4, 5])
@pytest.mark.parametrize("what", ["removed", "replaced", "cut", "grown"])
def test_a_file_that_is_removed_or_changed_is_said_and_written_again(tmp_path, iteration, what):
    whole, algorithm = centroids(), centroids()
    train(whole, run=tmp_path / "whole", iterations=6)
    path = tmp_path / "run" / "metrics.jsonl"

    def act():
        content = path.read_bytes()
        if what == "grown":
            path.write_bytes(content + b"{}\n")
        elif what == "cut":
            with open(path, "r+b") as file:
                file.truncate(5)
        else:
            path.unlink()
            if what == "replaced":
                path.write_bytes(content)

    with pytest.warns(
        UserWarning, match=r"metrics.jsonl was removed or changed by another program; it is written"
    ) as said:
        train(algorithm, run=path.parent, iterations=6, hooks=[At(iteration, act)])
    assert len(said) == 1
    assert same(algorithm, whole) and lines(path.parent) == lines(tmp_path / "whole")
    train(centroids(), run=path.parent, iterations=6, resume=True)


def test_a_removed_run_folder_stops_the_run(tmp_path):
    reached = []

    class Count(Hooks):
        def on_iteration(self, training):
            reached.append(training.iteration)

    with pytest.raises(InputError, match="The run folder .*run was removed while it was trained; train it anew."):
        train(
            centroids(),
            run=tmp_path / "run",
            iterations=6,
            hooks=[At(2, lambda: shutil.rmtree(tmp_path / "run")), Count()],
        )
    assert reached == [1, 2] and not (tmp_path / "run").exists()


def test_figures_that_are_read_late_are_written_before_a_checkpoint(tmp_path, monkeypatch):
    """On a GPU the figures of ten iterations are read at once, unless a signal asks for a stop before."""
    train(centroids(), run=tmp_path / "whole", iterations=8)
    usual = meta_update.read_figures
    with monkeypatch.context() as patch:
        patch.setattr(meta_update, "read_figures", lambda training: usual(training) if training.due else None)
        with pytest.raises(KeyboardInterrupt, match="after iteration 3 of 8"):
            train(centroids(), run=tmp_path / "run", iterations=8, hooks=[KillAt(3, signal.SIGTERM)])
    assert len(lines(tmp_path / "run").splitlines()) == 3
    train(centroids(), run=tmp_path / "run", iterations=8, resume=True)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
