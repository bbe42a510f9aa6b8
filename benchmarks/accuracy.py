"""Regenerates the accuracy tables: `python benchmarks/accuracy.py --table futurama` (or `make bench`).

A cell is a recipe that the package ships, trained once for every seed. Its run is kept under a hash of all that decides
its figures: a cell that was stopped goes on where it was, and one whose JSON has that hash is not run again. Cells run
on one thread each, so that their figures are the same to the last bit on one kind of machine; several machines, or
several processes of one, share a table by `--shard 1/4`. The page and the picture are made of the JSON files alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import torch
from accuracy_jobs.cell import run
from accuracy_jobs.page import Done, page
from accuracy_jobs.picture import draw
from accuracy_jobs.tables import TABLES, Table

from fewshot_kit.errors import KitError
from fewshot_kit.runs.storage import write_bytes

HERE = Path(__file__).parent


def path_of(results: Path, cell: str, seed: int) -> Path:
    """Where a cell's JSON of one seed lies."""
    return results / f"{cell}.{seed}.json"


def read(table: Table, results: Path) -> Done:
    """All that is there of a table, in its order."""
    found: Done = {}
    for cell in table.cells:
        paths = sorted(results.glob(f"{cell}.*.json"), key=lambda path: int(path.suffixes[0][1:]))
        if paths:
            found[cell] = [json.loads(path.read_text()) for path in paths]
    return found


def write(name: str, table: Table, results: Path) -> str:
    """The page and the picture of what is there."""
    done = read(table, results)
    text = page(name, table, done)
    write_bytes(results / "README.md", text.encode())
    draw(table, done, results / "figures.png")
    return text


def share(text: str) -> tuple[int, int]:
    """`"1/4"` -> (0, 4)."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"'{text}' is no share; write 1/4 for the first of four")
    return int(found[1]) - 1, int(found[2])


def main(argv: list[str] | None = None) -> int:
    """Regenerate a table, or some of its cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=TABLES, default="futurama", help="(default: %(default)s)")
    parser.add_argument("cells", nargs="*", metavar="CELL", help="some of the table's cells (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="after the cells (default: 0)")
    parser.add_argument("--shard", type=share, default=(0, 1), metavar="I/N", help="every Nth of what there is to run")
    parser.add_argument("--page", action="store_true", help="run nothing: write page and picture of what is there")
    parser.add_argument("--root", help="folder of the data sets (default: as everywhere in the kit)")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="where runs go (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "accuracy", help="where results go")
    arguments = parser.parse_args(argv)
    table, results = TABLES[arguments.table], arguments.results / arguments.table
    unknown = [cell for cell in arguments.cells if cell not in table.cells]
    if unknown:
        parser.error(f"unknown cell {unknown[0]}; the cells of {arguments.table} are {', '.join(table.cells)}")
    torch.set_num_threads(1)
    units = [
        (seed, cell) for seed in arguments.seeds for cell in table.cells if cell in (arguments.cells or table.cells)
    ]
    first, every = arguments.shard
    try:
        for seed, name in units[first::every] if not arguments.page else []:
            cell, path = table.cells[name], path_of(results, name, seed)
            if path.exists() and json.loads(path.read_text())["key"] == cell.key(seed):
                continue
            print(f"{name}, seed {seed}: {cell.config(seed)}", file=sys.stderr)
            found = run(cell, name, seed, arguments.runs / arguments.table, arguments.root)
            write_bytes(path, json.dumps(found, indent=1).encode())
            write(arguments.table, table, results)
    except KitError as error:
        print(f"accuracy.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"accuracy.py: {stopped or 'interrupted'} The same command goes on.", file=sys.stderr)
        return 130
    print(write(arguments.table, table, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
