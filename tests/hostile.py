"""Files that somebody made carelessly or in malice, written on demand. Nothing of them is committed.

Every function takes a folder, writes one file into it and returns its path. `EVERY` names all of them by kind: whatever
reads a file of that kind either works or raises `InputError` with one sentence, in bounded memory and time.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, features
from safetensors import safe_open
from safetensors.torch import save_file

Maker = Callable[[Path], Path]
HUGE = 5 << 30  # bytes, of which a disk keeps none: the files are sparse
TAR_TYPES = {"name": tarfile.GNUTYPE_LONGNAME, "attributes": tarfile.XHDTYPE, "file": tarfile.REGTYPE}


def put(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def sparse(folder: Path, name: str, start: bytes, size: int = HUGE, end: bytes = b"") -> Path:
    """A file of `size` bytes between a start and an end."""
    path = put(folder, name, start)
    with path.open("r+b") as file:
        file.seek(size)
        file.write(end or b"\0")
    return path


# Images


def png(width: int, height: int, rows: int | None = None) -> bytes:
    """A grey PNG of zeros; with fewer rows than it says it is cut off."""
    packed = zlib.compress(bytes(width + 1) * (height if rows is None else rows), 1)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def picture(kind: str, side: int = 64) -> bytes:
    """A sound image of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, kind)
    return content.getvalue()


def damaged(kind: str) -> bytes:
    """An image with three wrong bytes. Formats that lose information may still be decoded."""
    content, rng = bytearray(picture(kind)), np.random.default_rng(1)
    for place in rng.integers(100, len(content), 3):
        content[place] ^= 255
    return bytes(content)


def odd_avif() -> bytes:
    """An AVIF with a byte at which Pillow raises `RuntimeError`, as no other format does."""
    whole = picture("avif", 24)
    for place in range(150, len(whole)):
        content = whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.load()
        except RuntimeError:
            return content
        except Exception:
            continue
    raise AssertionError("this Pillow raises no RuntimeError")


IMAGES: dict[str, Maker] = {
    "long": lambda folder: put(folder, "long.png", png(1, 100_000_000, 1000)),
    "narrow": lambda folder: put(folder, "narrow.png", png(1, 80_000_000, 1000)),
    "wide": lambda folder: put(folder, "wide.png", png(2**31 - 1, 1, 0)),
    "square": lambda folder: put(folder, "square.png", png(12_000, 12_000, 10)),
    "no pixels": lambda folder: put(folder, "none.png", png(0, 0)),
    "huge": lambda folder: sparse(folder, "huge.png", png(8, 8)),
    "page": lambda folder: put(folder, "page.jpg", b"<html>not found</html>"),
    "empty": lambda folder: put(folder, "empty.jpg", b""),
    **{
        f"damaged {kind}": lambda folder, kind=kind: put(folder, f"damaged.{kind}", damaged(kind))
        for kind in ("png", "jpeg", "webp", "tiff", "gif", "bmp")
    },
}
if features.check("avif"):
    IMAGES["avif"] = lambda folder: put(folder, "odd.jpg", odd_avif())


# Lists of images, in a folder that has `a/1.png`

LISTS: dict[str, Maker] = {
    "latin-1": lambda folder: put(folder, "list.csv", "path,label\na/1.png,caf\xe9\n".encode("latin-1")),
    "bare utf-16": lambda folder: put(folder, "list.csv", "a/1.png,cat\n".encode("utf-16-le")),
    "torn utf-16": lambda folder: put(folder, "list.csv", "\ufeffa/1.png,cat\n".encode("utf-16-le")[:-1]),
    "zero": lambda folder: put(folder, "list.csv", b"a/1.png,c\0at\n"),
    "open quote": lambda folder: put(folder, "list.csv", b'path,label\n"a/1.png,cat\na/1.png,dog\n'),
    "long field": lambda folder: put(folder, "list.csv", b"a/1.png,cat," + b"x" * 140_000 + b"\n"),
    "long path": lambda folder: put(folder, "list.csv", b"a/1.png,cat\n" + b"x" * 100_000 + b",cat\n"),
    "one column": lambda folder: put(folder, "list.csv", b"a/1.png\n"),
    "steering": lambda folder: put(folder, "list.csv", b"a/1.png,cat\n\x1b[2Jb.png,cat\n"),
    "huge": lambda folder: sparse(folder, "list.csv", b"a/1.png,cat\n"),
}


# Archives


def member(name: str, size: int, kind: str = "file") -> bytes:
    """A tar header with any size, also one that `tarfile` would not write."""
    info = tarfile.TarInfo(name)
    info.type = TAR_TYPES[kind]
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"%011o\0" % size if 0 <= size < 8**11 else b"\xff" + size.to_bytes(11, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def whole_member(name: str, content: bytes) -> bytes:
    return member(name, len(content)) + padded(content)


FIRST = whole_member("a/1.png", png(4, 4))
ATTRIBUTES = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.name=a/2.png\n"
END = bytes(1024)
SPARSE = member("pax", len(ATTRIBUTES), "attributes") + padded(ATTRIBUTES)

TARS: dict[str, Maker] = {
    "negative": lambda folder: put(folder, "x.tar", FIRST + member("a/2.png", -1024) + bytes(2048)),
    "negative name": lambda folder: put(folder, "x.tar", FIRST + member("././@LongLink", -512, "name") + bytes(2048)),
    "past the end": lambda folder: put(folder, "x.tar", FIRST + member("a/2.png", 1 << 70) + bytes(2048)),
    "5 GB member": lambda folder: sparse(folder, "x.tar", FIRST + member("a/2.png", HUGE), HUGE + 2048),
    "5 GB name": lambda folder: sparse(folder, "x.tar", FIRST + member("././@LongLink", HUGE, "name"), HUGE + 2048),
    "5 GB attributes": lambda folder: sparse(folder, "x.tar", FIRST + member("pax", HUGE, "attributes"), HUGE + 2048),
    "many names": lambda folder: put(
        folder, "x.tar", (member("././@LongLink", 1, "name") + b"x" + bytes(511)) * 5000 + bytes(1024)
    ),
    "torn map": lambda folder: put(folder, "x.tar", SPARSE + member("a", 512) + b"5\n" + b"1" * 510),
    "sparse": lambda folder: put(folder, "x.tar", SPARSE + whole_member("a", padded(b"1\n0\n4\n") + b"data") + END),
    "gzip": lambda folder: put(folder, "x.tar", b"\x1f\x8b" + bytes(2000)),
    "empty": lambda folder: put(folder, "x.tar", b""),
    "not an image": lambda folder: put(folder, "x.tar", whole_member("a/1.png", b"text") + bytes(1024)),
}


def zipped(folder: Path, name: str = "A/character01/1.png", unfolds: int = 0, **changes: int) -> Path:
    """A zip of one stored PNG, or of MiB of zeros, whose headers are changed: `flags`, `method` or `size`."""
    content, method = io.BytesIO(), zipfile.ZIP_DEFLATED if unfolds else zipfile.ZIP_STORED
    with zipfile.ZipFile(content, "w", method) as archive, archive.open(name, "w") as file:
        for part in [bytes(1 << 20)] * unfolds or [png(4, 4)]:
            file.write(part)
    data = bytearray(content.getvalue())
    for start, shift in ((data.index(b"PK\3\4"), 0), (data.index(b"PK\1\2"), 2)):
        for name, value in changes.items():
            place, form = {"flags": (6, "<H"), "method": (8, "<H"), "size": (22, "<I")}[name]
            struct.pack_into(form, data, start + shift + place, value)
    return put(folder, "x.zip", bytes(data))


ZIPS: dict[str, Maker] = {
    "encrypted": lambda folder: zipped(folder, flags=1),
    "unknown method": lambda folder: zipped(folder, method=9),
    "damaged deflate": lambda folder: zipped(folder, method=8),
    "damaged lzma": lambda folder: zipped(folder, method=14),
    "unfolds": lambda folder: zipped(folder, unfolds=600, size=100),
    "far number": lambda folder: zipped(folder, "A/character999999999999/1.png"),
    "long number": lambda folder: zipped(folder, f"A/character{'9' * 5000}/1.png"),
    "steering": lambda folder: zipped(folder, "A/character01/\x1b[2J\n.png", flags=1),
    "4 GB member": lambda folder: zipped(folder, size=2**32 - 2),
    "huge": lambda folder: sparse(folder, "x.zip", b"PK"),
    "empty": lambda folder: put(folder, "x.zip", b""),
    "torn": lambda folder: put(folder, "x.zip", zipped(folder).read_bytes()[:-30]),
}


# Text of settings and of runs

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {k: 1, l: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)
YAML: dict[str, str] = {
    "date": "ways: 2001-99-99\n",
    "sixtieths": "ways: 1:99:99:99999999999999999999999\n",
    "digits": f"ways: {'9' * 5000}\n",
    "hexadecimal": f"ways: 0x{'f' * 5000}\n",
    "binary": "ways: !!binary x\n",
    "brackets": "ways: " + "[" * 20_000 + "\n",
    "blocks": "- " * 20_000 + "\n",
    "laughs": LAUGHS + "ways: *a11\n",
    "merges": MERGES + "ways: *a11\n",
    "itself": "ways: &a [*a]\n",
    "merged itself": "&a {<<: *a, ways: 5}\n",
    "odd key": "? [1, 2]\n: 3\n",
    "python": "ways: !!python/object/apply:os.system ['true']\n",
    "no text": "ways: \ud800\n",
}

# Checkpoints with a valid checksum: the JSON beside the tensor `w`

NESTED: object = {"value": 1}
for _ in range(300):
    NESTED = {"list": [NESTED]}
META: dict[str, object] = {
    "null": None,
    "number": 5,
    "list": ["structure", "kept"],
    "no structure": {"structure": None, "kept": None},
    "empty structure": {"structure": {}, "kept": None},
    "two kinds": {"structure": {"value": 1, "list": []}, "kept": None},
    "unknown kind": {"structure": {"set": [1]}, "kept": None},
    "missing tensor": {"structure": {"tensor": "v"}, "kept": None},
    "odd pairs": {"structure": {"dict": [["a"]]}, "kept": None},
    "odd key": {"structure": {"dict": [[[1], {"value": 1}]]}, "kept": None},
    "odd list": {"structure": {"list": 5}, "kept": None},
    "nested": {"structure": NESTED, "kept": None},
    "no algorithm": {"structure": {"dict": [["extra", {"value": 1}]]}, "kept": None},
    "odd algorithm": {
        "structure": {"dict": [["algorithm", {"list": []}], ["extra", {"value": None}]]},
        "kept": {"recipes": {}},
    },
}


def safetensors_file(folder: Path, name: str, metadata: object) -> Path:
    """A sound safetensors file of the tensor `w` with any metadata."""
    entry = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    header = json.dumps(entry if metadata is None else {"__metadata__": metadata, **entry}).encode()
    return put(folder, name, struct.pack("<Q", len(header)) + header + torch.ones(2).numpy().tobytes())


HEADERS: dict[str, Maker] = {
    "no metadata": lambda folder: safetensors_file(folder, "x.safetensors", None),
    "list": lambda folder: safetensors_file(folder, "x.safetensors", {"fewshot_kit": "[]"}),
    "number": lambda folder: safetensors_file(folder, "x.safetensors", {"fewshot_kit": "5"}),
    "nested": lambda folder: safetensors_file(folder, "x.safetensors", {"fewshot_kit": "[" * 100_000}),
    "digits": lambda folder: safetensors_file(folder, "x.safetensors", {"fewshot_kit": "9" * 5000}),
    "version": lambda folder: safetensors_file(folder, "x.safetensors", {"fewshot_kit": '{"version": "1"}'}),
    "no meta": lambda folder: safetensors_file(folder, "x.safetensors", {"fewshot_kit": '{"version": 1}'}),
    "long header": lambda folder: sparse(folder, "x.safetensors", struct.pack("<Q", HUGE)),
    "empty": lambda folder: put(folder, "x.safetensors", b""),
}

# Caches with the right key and checksum


def recast(file: Path, x: torch.Tensor | None = None, names: str | None = None) -> None:
    """Puts another tensor, or other names, into a file of the cache."""
    with safe_open(file, framework="pt") as whole:
        said, before = whole.metadata(), whole.get_tensor("x")
    x, names = before if x is None else x, said["names"] if names is None else names
    crc = zlib.crc32(x.reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(names.encode()))
    save_file({"x": x}, file, {**said, "names": names, "crc32": f"{crc:08x}"})


# Modules of plug-ins

PLUGINS: dict[str, str] = {
    "exits": "import sys\nsys.exit(3)\n",
    "interrupts": "raise KeyboardInterrupt\n",
    "closes": "raise GeneratorExit\n",
    "fails": "1 / 0\n",
    "torn": "def broken(:\n",
    "prints": "import os, sys\nprint('one')\nprint('two', file=sys.__stdout__)\n"
    "os.system('echo three')\nThing = dict\n",
    "makes nothing": "Thing = 5\n",
    "lacks it": "Other = dict\n",
}

EVERY: dict[str, dict[str, Maker]] = {
    "image": IMAGES,
    "list": LISTS,
    "tar": TARS,
    "zip": ZIPS,
    "yaml": {
        name: lambda folder, text=text: put(folder, "x.yaml", text.encode("utf-8", "surrogatepass"))
        for name, text in YAML.items()
    },
    "safetensors": HEADERS,
    "plug-in": {name: lambda folder, code=code: put(folder, "x.py", code.encode()) for name, code in PLUGINS.items()},
}
