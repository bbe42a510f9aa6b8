"""`--plugin FILE.py`: runs a local script, so that one command knows the names that it registers."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..foreign import Failed, contained


def add_plugin_flag(parser: argparse.ArgumentParser) -> None:
    """Adds the flag `--plugin FILE.py`, which may be given several times."""
    parser.add_argument(
        "--plugin",
        metavar="FILE.py",
        action="append",
        default=[],
        help="run this Python file first, for the models, algorithms and data sets that it registers",
    )


def load_plugins(files: Sequence[str]) -> None:
    """Runs each file once, as its own module.

    Raises:
        InputError: a file that does not exist, or that fails (with the line).
    """
    for file in files:
        path = Path(file).resolve()
        name = f"fewshot_kit_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            continue
        found = importlib.util.spec_from_file_location(name, path) if path.suffix == ".py" and path.is_file() else None
        if found is None or found.loader is None:
            raise InputError(f"--plugin {file} is no Python file; give the path of one, such as mine.py.")
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module  # first, as in any import: its classes look up their own module
        try:
            with contained():
                found.loader.exec_module(module)
        except Failed as error:
            del sys.modules[name]
            where = _where(error.__cause__, path)
            raise InputError(f"--plugin {file} fails{where} ({error}); mend it first.") from error.__cause__


def _where(error: BaseException | None, path: Path) -> str:
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    lines = lines or ([error.lineno] if isinstance(error, SyntaxError) else [])
    return f" in line {lines[-1]}" if lines else ""
