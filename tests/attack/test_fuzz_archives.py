"""Zip files of strangers: whatever is in them, nothing leads out of the folder, and no bound is exceeded."""

from __future__ import annotations

import asyncio
import contextlib
import io
import stat
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringbinder.errors import UserError
from ringbinder_providers import _archive

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")
LIMIT = 100_000
FILE, LINK, FOLDER, PIPE, DEVICE = stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR
FolderImage = tuple[str, int, bytes]


def zipped(entries: Sequence[FolderImage], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, mode, content in entries:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            entry.external_attr = (mode << 16) & 0xFFFFFFFF
            archive.writestr(entry, content, compress_type=method)
    return made.getvalue()


def unpacked(content: bytes, base: Path, limit: int = LIMIT) -> Path:
    """Unpacks it into a folder in `base`, which holds a canary beside that."""
    into = base / "into"
    into.mkdir()
    (base / "canary").write_bytes(b"canary")
    (into / "r.zip").write_bytes(content)
    asyncio.run(_archive.unpack(into / "r.zip", into, limit))
    return into


def require_harmless(base: Path) -> None:
    """Nothing outside was touched, no link leads there, and there are only files, folders and links."""
    into = base / "into"
    assert sorted(path.name for path in base.iterdir()) == ["canary", "into"]
    assert (base / "canary").read_bytes() == b"canary"
    for path in into.rglob("*"):
        mode = path.lstat().st_mode
        assert stat.S_IFMT(mode) in (FILE, LINK, FOLDER)
        if path.is_symlink():
            assert path.resolve().is_relative_to(into.resolve())
        else:
            assert not mode & 0o7022
    assert not list(into.glob(".unpacked-*"))


@pytest.mark.parametrize(
    "entries",
    [
        [("top/a", FILE, b""), ("top/out", LINK, b"../canary")],
        [("top/a", FILE, b""), ("top/d/out", LINK, b"../../canary")],
        [("top/a", FILE, b""), ("top/to-top", LINK, b"..")],
        [("top/a/b/c/up", LINK, b"../../.."), ("top/x", FILE, b""), ("top/out", LINK, b"a/b/c/up/../canary")],
        [("a", LINK, b"b/c"), ("b", LINK, b"..")],
        [("a", LINK, b"/"), ("a/canary", FILE, b"written through")],
        [("a", LINK, b".."), ("a/canary", FILE, b"written through")],
        [("a/canary", FILE, b"x"), ("a", LINK, b"..")],
        [("d/x", FILE, b""), ("a", LINK, b"d"), ("a/l", LINK, b"..")],
        [("a", LINK, b"a")],
        [("a", LINK, b"")],
        [("a", LINK, b"x\0y")],
        [("a", LINK, b"x" * 5000)],
        [("../canary", FILE, b"x")],
        [("a/../../canary", FILE, b"x")],
        [("/canary", FILE, b"x")],
        [("..", FOLDER, b"")],
        [("../", FOLDER, b"")],
        [("a", FILE, b"1"), ("a", FILE, b"2")],
        [("a", FILE, b"1"), ("a/b", FILE, b"2")],
        [("a", FILE, b"1"), ("a", LINK, b"b"), ("b", FILE, b"")],
        [("x" * 300, FILE, b"")],
        [("/".join("d" * 500), FILE, b"")],
    ],
)
def test_archive_that_leads_out_is_refused(tmp_path: Path, entries: list[FolderImage]) -> None:
    with pytest.raises(UserError) as caught:
        unpacked(zipped(entries), tmp_path)

    assert caught.value.code == "record-unusable"
    require_harmless(tmp_path)


def test_archive_of_odd_but_harmless_entries_is_unpacked(tmp_path: Path) -> None:
    entries = [
        ("r/setuid", FILE | 0o6777, b"#!"), ("r/pipe", PIPE | 0o644, b"text"), ("r/device", DEVICE | 0o644, b""),
        ("r/new\nline", FILE, b""), ("r/\x1b[31m", FILE, b""), ("r/Case", FILE, b"1"), ("r/case", FILE, b"2"),
        ("r/ü\udcff".encode("utf-8", "surrogateescape").decode("cp437"), FILE, b""), ("r/a\\b", FILE, b""),
        ("r/link", LINK | 0o777, b"deep/file"), ("r/deep/file", FILE, b""), ("r/deep/up", LINK | 0o777, b"../Case"),
    ]  # fmt: skip

    into = unpacked(zipped(entries), tmp_path)

    require_harmless(tmp_path)
    assert (into / "setuid").stat().st_mode & 0o7777 == 0o755
    assert (into / "pipe").read_bytes() == b"text"
    assert (into / "link").resolve() == (into / "deep/file").resolve()
    assert (into / "deep/up").read_bytes() == b"1"


@pytest.mark.parametrize(
    "entries",
    [
        [("bomb", FILE, bytes(LIMIT + 1))],
        [(str(number), FILE, bytes(LIMIT // 10)) for number in range(11)],
        [(f"{number}/" + "d/" * 190, FOLDER, b"") for number in range(600)],
    ],
    ids=["one file", "many files", "many folders"],
)
def test_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, entries: list[FolderImage]) -> None:
    with pytest.raises(UserError) as caught:
        unpacked(zipped(entries), tmp_path)

    assert caught.value.code == "record-too-large"
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["r.zip"]


def test_archive_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped([("bomb", FILE, bytes(LIMIT * 10))]))
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<L", content, content.index(signature) + offset, 10)

    with pytest.raises(UserError):
        unpacked(bytes(content), tmp_path)

    assert sum(path.lstat().st_size for path in tmp_path.rglob("*")) < LIMIT


def test_archive_with_an_endless_list_of_files_takes_no_memory(tmp_path: Path) -> None:
    """The list is read at once and before it can be counted: 300 MB of it, most of them holes on the disk."""
    (tmp_path / "into").mkdir()
    size = 300_000_000
    with (tmp_path / "into/r.zip").open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, size, 0, 0))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="list of files is too long"):
            asyncio.run(_archive.unpack(tmp_path / "into/r.zip", tmp_path / "into", LIMIT))
        assert tracemalloc.get_traced_memory()[1] < 3 * _archive._LIST_SIZE
    finally:
        tracemalloc.stop()


def test_archive_in_a_greedy_compression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compressed in an unusual way"):
        unpacked(zipped([("a", FILE, b"a")], zipfile.ZIP_LZMA), tmp_path)


PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "canary", "into", "\0", "\n", "é"])
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
MODES = st.sampled_from([FILE, FILE | 0o6777, LINK, FOLDER, PIPE])
CONTENTS = st.one_of(PATHS.map(str.encode), st.binary(max_size=5))
ENTRIES = st.lists(st.tuples(PATHS, MODES, CONTENTS), max_size=8)


@settings(max_examples=150)
@given(ENTRIES, st.data())
def test_archive_of_any_entries_is_harmless(entries: list[FolderImage], data: st.DataObject) -> None:
    content = bytearray(zipped(entries))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        with contextlib.suppress(UserError):
            unpacked(bytes(content), base)
        require_harmless(base)
