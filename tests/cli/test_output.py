"""Streams that are closed, full or cannot show a character, and what is printed of names that steer a terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import BUDGET, write_images

from fewshot_kit.cli.output import usable_streams, visible, without_traceback
from fewshot_kit.errors import InputError


@pytest.mark.parametrize(
    ("encoding", "seen"), [("ascii", "na?ve ? ?"), ("latin-1", "naïve ? ?"), ("utf-8", "naïve 猫 ?")]
)
def test_a_character_that_stdout_lacks(monkeypatch: pytest.MonkeyPatch, encoding: str, seen: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    monkeypatch.setattr(sys, "stdout", stream)
    assert without_traceback(lambda: print("naïve 猫 \udce9")) == 0
    assert stream.buffer.getvalue().decode(encoding) == f"{seen}\n"
    assert stream.errors == "strict"


def test_what_steers_a_terminal_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert visible("a\x1b[2J\r\udce9é\nb") == "a\\x1b[2J\\r\\udce9é\nb"

    def refused() -> None:
        raise InputError("There is no \x1b[1mfolder.")

    assert without_traceback(refused, as_json=True) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": "There is no \x1b[1mfolder."}
    assert err == "fewshot-kit: There is no \\x1b[1mfolder.\n"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = line.replace("KIT", f"{sys.executable} -m fewshot_kit")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        check=False,
    )


def test_streams_that_are_closed() -> None:
    assert shell("KIT list algorithms >&-").returncode == 0
    done = shell("KIT list algorithms --json 2>&- <&-")
    assert done.returncode == 0 and "maml" in json.loads(done.stdout)["algorithms"]
    done = shell("KIT evaluate gone --json >&-")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("fewshot-kit: There is no run folder")


def test_closed_streams_are_no_place_for_files(tmp_path: Path) -> None:
    """The next file that is opened must not get their number, and what libraries write there."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom fewshot_kit.cli.output import usable_streams\n"
        f"with usable_streams(), open({str(tmp_path / 'x')!r}, 'wb') as file:\n"
        "    os.write(1, b'a library speaks')\n    os.write(2, b'and complains')\n    file.write(b'mine')\n"
    )
    assert shell(f"{sys.executable} {script} <&- >&- 2>&-").returncode == 0
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_stdout_that_is_full_or_hung_up() -> None:
    done = shell("KIT list algorithms > /dev/full")
    assert done.returncode == 2 and done.stderr == "fewshot-kit: A file cannot be used: No space left on device.\n"
    done = shell("KIT evaluate gone --json > /dev/full")
    assert done.returncode == 2 and done.stderr.startswith("fewshot-kit: There is no run folder gone")
    done = shell("KIT list models 'torchvision/*' | head -1")
    assert done.returncode == 0 and done.stderr == ""


def test_a_run_on_classes_that_a_terminal_cannot_print(cli, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 in a class and in the run's folder, in a terminal of ASCII: nothing fails at the end."""
    write_images(tmp_path / "猫", {f"class{index}": 4 for index in range(9)})
    os.rename(tmp_path / "猫" / "class8", os.path.join(os.fsencode(tmp_path / "猫"), b"caf\xe9"))
    options = "--dataset folder --dataset-options root=猫 image_size=14 fractions=[0.4,0.2,0.4]"
    line = f"KIT train {options} --model-options hidden=4 {BUDGET} --ways 2 --shots 1 --run $'run\\xe9'"
    done = shell(f"cd {tmp_path} && {line}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "Unseen classes of folder ?:" in done.stdout
    assert "caf\\xe9" in next(tmp_path.glob("run*/config.yaml")).read_text()
    done = shell(f"cd {tmp_path} && KIT evaluate $'run\\xe9' --episodes 2", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    (tmp_path / "猫").rename(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xe9")))
    done = shell(f"cd {tmp_path} && {line}2".replace("root=猫", "root=$'\\xe9'"))
    assert done.returncode == 2
    assert "the value of 'root=\\udce9' cannot be read" in done.stderr


def test_nothing_is_left_changed() -> None:
    before = sys.stdout, sys.stderr, sys.stdout.errors
    with usable_streams():
        pass
    assert before == (sys.stdout, sys.stderr, sys.stdout.errors)
