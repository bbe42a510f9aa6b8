"""Reads images in place from tar and zip archives, with a look at sizes before anything is read."""

from __future__ import annotations

import io
import mmap
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ...errors import InputError, brief, first_line
from .images import SUFFIXES, check_size, class_name

LONGEST_HEADER = 1 << 20  # bytes of a member's long name or attributes; tarfile would believe any size
LARGEST_ZIP = 1 << 30  # bytes; a zip archive is read into memory


class Listed(NamedTuple):
    """The labels and names of a split's images, in order, and a function that reads an image by index."""

    labels: list[str]
    names: list[str]
    read: Callable[[int], Path | str | bytes]


class _Headers:
    """A tar archive's file for `tarfile`, which reads no more than headers and goes forward only.

    A crafted archive has members of negative size, at which `tarfile` would go round in circles, and headers of any
    size, which it would read into memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.furthest = 0

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, place: int) -> int:
        if not self.furthest <= place <= self.size:
            raise tarfile.ReadError(f"a member ends at byte {place:,} of {self.size:,}")
        self.furthest = place
        return self.file.seek(place)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)


def in_tar(archive: Path) -> Listed:
    """Lists the images of a tar archive. Their classes are their folders.

    Raises:
        InputError: no tar archive; a compressed, damaged or truncated one; no images in it.
    """
    with archive.open("rb") as file:
        try:
            with tarfile.open(fileobj=_Headers(file), mode="r:") as opened:  # type: ignore[call-overload]
                members = [_checked(member) for member in opened if member.isreg() and _is_image(member.name)]
                end = opened.offset
        except Exception as error:  # tarfile fails in many ways on a damaged archive
            raise InputError(
                f"{archive} is no whole, uncompressed tar archive ({first_line(error)}); fetch or make it again."
            ) from None
        if not members:
            raise InputError(f"{archive} has no images in class folders; its members must be CLASS/IMAGE.jpg.")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # tarfile takes an unreadable or missing header for the archive's end. The real end is a block of zeros.
    if content[end : end + tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
        raise InputError(f"{archive} is damaged or cut off at byte {end}; fetch or make it again.")
    members.sort(key=lambda member: member.name.split("/")[-2:])

    def read(index: int) -> bytes:
        member = members[index]
        return content[member.offset_data : member.offset_data + member.size]

    names = [f"{member.name} in {archive}" for member in members]
    return Listed([class_name(member.name.split("/")[-2]) for member in members], names, read)


def _checked(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Returns the member, or raises an error if its bytes do not lie in the archive as they are."""
    try:
        check_size(member.size)
        if member.issparse():
            raise ValueError("it is stored with its zeros left out, as tar --sparse does")
    except ValueError as error:
        raise tarfile.ReadError(f"{brief(member.name)}: {error}") from None
    return member


def _is_image(member: str) -> bool:
    folder, _, name = member.rpartition("/")
    return bool(folder) and not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def opened_zip(archive: Path) -> zipfile.ZipFile:
    """Opens a zip archive in memory, because forked processes would share an open file's position.

    Raises:
        InputError: no zip archive, or a damaged or very large one.
    """
    size = os.path.getsize(archive)
    if size > LARGEST_ZIP:
        raise InputError(f"{archive} has {size:,} bytes, more than the {LARGEST_ZIP:,} that are read; unpack it.")
    try:
        return zipfile.ZipFile(io.BytesIO(archive.read_bytes()))
    except Exception as error:  # zipfile fails in many ways on a damaged archive
        raise InputError(f"{archive} is no zip archive ({first_line(error)}); remove it and fetch it again.") from None


def read_member(archive: zipfile.ZipFile, member: str, source: Path) -> bytes:
    """Reads an image from an opened zip archive.

    Raises:
        InputError: a member that is damaged, encrypted, or compressed otherwise than by `deflate`.
    """
    try:
        found = archive.getinfo(member)
        check_size(found.file_size)
        if found.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # Python unfolds others whole
            raise ValueError(f"its compression, method {found.compress_type}, is not deflate")
        with archive.open(found) as file:
            return file.read(found.file_size)  # and no more, where a crafted member unfolds to gigabytes
    except Exception as error:  # zlib's and lzma's errors, RuntimeError for passwords, NotImplementedError
        if "password" in str(error):
            raise InputError(f"{member} in {source} is encrypted; unpack it with its password.") from None
        raise InputError(
            f"{brief(member)} in {source} cannot be read ({first_line(error)}); fetch the archive again."
        ) from None
