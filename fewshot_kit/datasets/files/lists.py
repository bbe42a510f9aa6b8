"""Reads lists of images and classes that people made: text files and CSV files."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError, brief

LARGEST = 1 << 30  # bytes; ten million lines of path and label have less
MARKS = {  # what a file begins with, to tell its encoding; those of UTF-32 begin like those of UTF-16
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def read_text(file: Path) -> str:
    """Returns the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, as spreadsheets write them.

    Other encodings cannot be told apart, and a wrong guess would give wrong class names.

    Raises:
        InputError: no such file; another encoding (with the line); a file too large for a list.
    """
    if not file.is_file():
        raise InputError(f"There is no file {file}.")
    size = os.path.getsize(file)
    if size > LARGEST:
        raise InputError(f"{file} has {size:,} bytes, and a list of images at most {LARGEST:,}; give the list itself.")
    data = file.read_bytes()
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    encoding = MARKS.get(mark, "utf-8")
    data = data[len(mark) :]
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding).count("\n") + 1
        raise InputError(
            f"Line {line} of {file} is not {encoding.upper()} (byte 0x{data[error.start]:02x}); save the file as UTF-8."
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"Line {line} of {file} holds a zero byte, which no text does; save the file as UTF-8.")
    return text


def read_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the fields of every line of a CSV file that is not blank.

    Raises:
        InputError: as `read_text`; a quote that is not closed, or a field of more than 131,072 characters.
    """
    lines = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
    while True:
        number = lines.line_num + 1  # where the line begins; quoted fields may go over several
        try:
            fields = next(lines, None)
        except csv.Error as error:
            raise InputError(
                f"Line {number} of {file} is no line of a CSV file ({error}); close its quotes, or write it anew."
            ) from None
        if fields is None:
            return
        if fields:
            yield number, fields


def read_csv(file: Path, base: Path) -> tuple[list[str], list[Path]]:
    """Reads labels and paths from lines of `path,label`. A first line that names no file is the header.

    Raises:
        InputError: as `read_rows`; a line without two columns; a path that does not exist.
    """
    labels, paths = [], []
    for number, fields in read_rows(file):
        if len(fields) < 2:
            raise InputError(f"Line {number} of {file} is '{brief(fields[0])}'; it must be path,label.")
        path = os.path.join(base, fields[0].strip())
        if os.path.isfile(path):  # False also for what is too long for a path
            labels.append(fields[1].strip())
            paths.append(Path(path))
        elif number > 1:
            raise InputError(f"Line {number} of {file} names {brief(path)}, which is not there.")
    if not paths:
        raise InputError(f"{file} names no images; its lines must be path,label, with paths relative to {base}.")
    return labels, paths
