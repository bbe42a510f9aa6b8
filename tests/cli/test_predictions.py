"""What is shown of predictions: tables, JSON, CSV and contact sheets, whatever the labels and names are made of."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_kit.cli.predictions import Prediction, collect, shortened, table, to_json, write_csv
from fewshot_kit.cli.sheet import SURE, TALLEST, contact_sheet
from fewshot_kit.errors import InputError

ROWS = torch.tensor([[0.7, 0.1, 0.2], [0.25, 0.35, 0.4], [0.5, 0.5, 0.0]])
ODD = ["чашка", "猫", "line\nbreak\x1b[31m", "\ud800lone", 'a,"b"', 7]


def some() -> list[Prediction]:
    return collect(["a.png", Path("new/b.png"), "c.png"], ["cat", "dog", 3], ROWS)


def test_the_most_probable_class_and_the_next() -> None:
    found = some()
    assert [one.label for one in found] == ["cat", 3, "cat"]  # of equals the first, as argmax has it
    assert [one.runner_up for one in found] == [3, "dog", "dog"]
    assert [round(one.probability, 4) for one in found] == [0.7, 0.4, 0.5]


def test_the_table_is_aligned() -> None:
    assert table(some()).splitlines() == [
        "image      label  probability  then",
        "a.png      cat         70.0 %  3 20.0 %",
        "new/b.png  3           40.0 %  dog 35.0 %",
        "c.png      cat         50.0 %  dog 50.0 %",
    ]
    wide = table(collect(["a", "b"], ["猫猫", "dog"], torch.eye(2))).splitlines()
    assert wide[1].index("100.0") == wide[2].index("100.0") - 2  # two characters of two columns each
    assert max(map(len, table(collect(["x" * 500], ["y" * 500, "z" * 500], torch.eye(2)[:1])).splitlines())) < 160


def test_json_keeps_its_keys() -> None:
    found = json.loads(json.dumps(to_json(some())))
    assert found["classes"] == ["cat", "dog", 3]
    first = {"image": "a.png", "label": "cat", "probability": 0.7, "probabilities": [0.7, 0.1, 0.2]}
    assert found["predictions"][0] == first and found["predictions"][1]["image"] == str(Path("new/b.png"))


def test_csv_has_a_column_for_each_class(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "out.csv"
    write_csv(place, some())
    with place.open(newline="") as file:
        found = list(csv.reader(file))
    assert found[0] == ["image", "label", "probability", "cat", "dog", "3"]
    assert found[1][:3] == ["a.png", "cat", "0.700000"] and [float(v) for v in found[2][3:]] == [0.25, 0.35, 0.4]


def test_odd_labels_and_names_end_in_no_traceback(tmp_path: Path) -> None:
    found = collect(["a\udcff.png"] * 6, ODD, torch.eye(6))
    shown = table(found)
    assert len(shown.splitlines()) == 7 and "\x1b" not in shown
    json.dumps(to_json(found)).encode("ascii")
    write_csv(tmp_path / "out.csv", found)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert [row[1] for row in csv.reader(file)][1:] == [*ODD[:3], "\\ud800lone", *map(str, ODD[4:])]


def test_what_is_too_long_loses_its_start_or_its_end() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcdefg..."
    assert shortened("abcdefghijk", 10, keep_end=True) == "...efghijk"
    assert shortened("猫" * 6, 10) == "猫猫猫..."


def plain(folder: Path, colour: str, number: int, size: tuple[int, int] = (20, 20)) -> list[Path]:
    """Files of one colour."""
    paths = [folder / f"{colour}-{index}.png" for index in range(number)]
    for path in paths:
        Image.new("RGB", size, colour).save(path)
    return paths


def read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def rows_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Whether each row of pixels holds the colour."""
    return (picture == np.array(colour, np.uint8)).all(-1).any(1)


def test_a_sheet_shows_queries_below_the_support_of_their_class(tmp_path: Path) -> None:
    support = ["cat", "cat", "dog"], [*plain(tmp_path, "blue", 2), *plain(tmp_path, "cyan", 1)]
    queries = [*plain(tmp_path, "red", 2), *plain(tmp_path, "lime", 1)]
    found = collect(queries, ["cat", "dog", "eel"], torch.tensor([[0.7, 0.2, 0.1], [0.95, 0.05, 0.0], [0.3, 0.4, 0.3]]))
    assert contact_sheet(tmp_path / "sheet.png", found, support) == [tmp_path / "sheet.png"]
    picture = np.asarray(read(tmp_path / "sheet.png"))
    order = []  # where each colour begins: the support of cats, cats, the support of dogs, dogs
    for colour in ((0, 0, 255), (255, 0, 0), (0, 255, 255), (0, 255, 0)):
        rows = np.flatnonzero(rows_of(picture, colour))
        order += [rows[0], rows[-1]]
    assert order == sorted(order)
    for _, colour, _ in SURE:  # one bar of each, of which the surest stands on the left, beside the legend's square
        sought = tuple(bytes.fromhex(colour[1:]))
        assert rows_of(picture[64:], sought).sum() == 6
    bars = [np.flatnonzero((picture[64:] == list(bytes.fromhex(c[1:]))).all(-1).any(0)) for _, c, _ in SURE]
    assert [len(bar) for bar in bars] == [round(0.95 * 132), round(0.7 * 132), round(0.4 * 132)]
    assert bars[0][0] < bars[1][0]


def test_many_queries_take_several_pages(tmp_path: Path) -> None:
    paths = plain(tmp_path, "red", 1, (4000, 8)) * 230
    found = collect(paths, ["cat", "dog"], torch.tensor([[0.9, 0.1]]).expand(230, 2))
    pages = contact_sheet(tmp_path / "sheet.png", found)
    assert pages == [tmp_path / "sheet.png", tmp_path / "sheet-2.png"]
    sizes = [read(page).size for page in pages]
    assert sizes[0][0] == sizes[1][0] <= 1600 and sizes[1][1] < sizes[0][1] <= TALLEST
    assert not list(tmp_path.glob(".*"))


def test_a_sheet_of_odd_images_and_labels(tmp_path: Path) -> None:
    generator, paths = np.random.default_rng(0), []
    for number, shape in enumerate([(5, 300), (300, 9, 3), (7, 7, 4), (1, 1), (90, 90, 3), (40, 40)]):
        paths.append(tmp_path / f"фото {number} {'x' * 80}.png")
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(paths[-1])
    contact_sheet(tmp_path / "sheet.png", collect(paths, ODD, torch.eye(6)), (ODD[:2] * 30, paths[:2] * 30))
    assert read(tmp_path / "sheet.png").width < 1000


def test_what_no_sheet_can_be_made_of(tmp_path: Path) -> None:
    good = collect(plain(tmp_path, "red", 1), ["cat", "dog"], torch.eye(2)[:1])
    with pytest.raises(InputError, match="A contact sheet is a PNG; give sheet.png in place of sheet.jpg."):
        contact_sheet("sheet.jpg", good)
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="bad.png cannot be read"):
        contact_sheet(tmp_path / "sheet.png", good, (["cat"], [tmp_path / "bad.png"]))
    assert not (tmp_path / "sheet.png").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        contact_sheet(tmp_path / "file" / "sheet.png", good)
