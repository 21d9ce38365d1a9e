"""The writer of layers: same content, same bytes; owners of folders; names that no layer may have."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringbinder_layers.model import MADE_AT, Compression, Layer
from ringbinder_layers.tar import EntryError

from .layerfiles import entries, files, tar_of, writer

COMPRESSIONS = get_args(Compression)


def sample(target: Path, compression: Compression, *, read_bytes: int = -1) -> Layer:
    """Write a layer with some of everything; `read_bytes` is how much its stream gives at a time."""
    content = b"".join(hashlib.sha256(number.to_bytes(4)).digest() for number in range(100_000))
    with writer(target, compression) as layer:
        layer.folder("/srv/env/empty", 0o700)
        layer.file("/srv/env/lib/a.py", b"print()\n")
        layer.file("/srv/env/bin/tool", b"#!/bin/sh\n", mode=0o755)
        layer.link("/srv/env/lib64", "lib")
        layer.file("/srv/env/lib/ünï/" + "long/" * 30 + "x", Dripping(content, read_bytes), len(content))
        return layer.finish()


class Dripping(io.BytesIO):
    """A stream that gives a few bytes at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if self._size < 0 or size is None else min(size, self._size))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_layer_is_the_same_at_any_time_and_place(tmp_path: Path, compression: Compression) -> None:
    first = sample(tmp_path / "first", compression)
    mask = os.umask(0o077)
    try:
        (tmp_path / "other folder").mkdir()
        second = sample(tmp_path / "other folder/second", compression, read_bytes=4099)
    finally:
        os.umask(mask)
    assert first == second
    assert (tmp_path / "first").read_bytes() == (tmp_path / "other folder/second").read_bytes()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_layers_that_threads_write_at_once_are_the_same(tmp_path: Path, compression: Compression) -> None:
    with ThreadPoolExecutor(4) as threads:
        layers = list(threads.map(lambda name: sample(tmp_path / name, compression), "abcd"))
    assert len(set(layers)) == 1
    assert layers[0] == sample(tmp_path / "e", compression)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_digests_are_those_of_the_file(tmp_path: Path, compression: Compression) -> None:
    layer = sample(tmp_path / "layer", compression)
    blob = (tmp_path / "layer").read_bytes()
    assert layer.blob.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert layer.blob.size == len(blob)
    assert layer.diff_id == f"sha256:{hashlib.sha256(tar_of(tmp_path / 'layer', layer)).hexdigest()}"
    assert layer.blob.media_type.endswith(compression)


def test_tar_format_changes_only_with_its_version(tmp_path: Path) -> None:
    """Raise `model.FORMAT` where this digest has to be changed: layers of old and new must not share a key."""
    layer = sample(tmp_path / "layer", "zstd")
    assert layer.diff_id == "sha256:cb323731c0cc7e1499c057467ea7e8fd183dc18c90907cff3d1004fb4f356911"


def test_both_compressions_have_one_tar_file(tmp_path: Path) -> None:
    assert sample(tmp_path / "a", "zstd").diff_id == sample(tmp_path / "b", "gzip").diff_id


def test_parents_are_there_once_with_their_owners(tmp_path: Path) -> None:
    with writer(tmp_path / "layer", top="/home/jovyan") as layer:
        layer.file("/home/jovyan/work/a", b"")
        layer.file("/home/jovyan/work/b", b"")
        layer.file("/home/jovyan2/c", b"")
        made = layer.finish()
    found = entries(tmp_path / "layer", made)
    assert [(entry.name, entry.uid, entry.gid, entry.mode) for entry in found] == [
        ("home", 0, 0, 0o755),
        ("home/jovyan", 1000, 1000, 0o755),
        ("home/jovyan/work", 1000, 1000, 0o755),
        ("home/jovyan/work/a", 1000, 1000, 0o644),
        ("home/jovyan/work/b", 1000, 1000, 0o644),
        ("home/jovyan2", 0, 0, 0o755),
        ("home/jovyan2/c", 1000, 1000, 0o644),
    ]
    assert {(entry.mtime, entry.uname, entry.gname) for entry in found} == {(MADE_AT, "", "")}


def test_special_bits_of_modes_are_left_out(tmp_path: Path) -> None:
    with writer(tmp_path / "layer") as layer:
        layer.file("/srv/env/a", b"", mode=stat.S_IFREG | 0o6755)
        made = layer.finish()
    assert entries(tmp_path / "layer", made)[-1].mode == 0o755


def test_first_of_two_files_with_one_path_stays(tmp_path: Path) -> None:
    with writer(tmp_path / "layer") as layer:
        assert layer.file("/srv/env/a", b"first") == hashlib.sha256(b"first").digest()
        assert layer.file("/srv/env/a", b"second") == hashlib.sha256(b"second").digest()
        layer.link("/srv/env/a", "b")
        layer.folder("/srv/env")
        made = layer.finish()
    assert [entry.name for entry in entries(tmp_path / "layer", made)] == ["srv", "srv/env", "srv/env/a"]
    assert files(tmp_path / "layer", made) == {"/srv/env/a": b"first"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("srv/env/a", "plain"),
        ("/srv/env/../a", "plain"),
        ("/srv/./a", "plain"),
        ("/srv//a", "plain"),
        ("/srv/a/", "plain"),
        ("/", "plain"),
        ("", "plain"),
        ("/srv/a\0b", "NUL"),
        ("/srv/\udcff", "UTF-8"),
        ("/srv/" + "ü" * 128, "longer"),
        ("/srv" + "/0123456789" * 400, "deep"),
        ("/srv" + f"/{'a' * 255}" * 17, "longer"),
        ("/srv/.wh.env", "removes"),
        ("/srv/.wh..wh..opq/a", "removes"),
        ("/srv/a/b", "folder and a file"),
        ("/srv/link/b", "folder and a file"),
        ("/srv/folder", "folder and a file"),
    ],
)
def test_path_that_engines_take_otherwise_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    def write() -> None:
        with writer(tmp_path / "layer") as layer:
            layer.file("/srv/a", b"")
            layer.link("/srv/link", "/etc")
            layer.folder("/srv/folder")
            layer.file(path, b"")

    with pytest.raises(EntryError, match=reason):
        write()
    assert not (tmp_path / "layer").exists()


@pytest.mark.parametrize("target", ["", "a\0b", "a" * 5000, "\udcff"])
def test_link_to_what_is_no_path_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(EntryError), writer(tmp_path / "layer") as layer:
        layer.link("/srv/link", target)


@pytest.mark.parametrize(("size", "reason"), [(2, "more than"), (4, "1 bytes less")])
def test_file_of_another_size_is_refused(tmp_path: Path, size: int, reason: str) -> None:
    with pytest.raises(EntryError, match=reason), writer(tmp_path / "layer") as layer:
        layer.file("/srv/a", io.BytesIO(b"abc"), size)
    assert not (tmp_path / "layer").exists()


def test_check_ends_the_writing(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        if stopped:
            raise Stop

    stopped = False
    with writer(tmp_path / "layer", check=check) as layer:
        layer.file("/srv/a", b"")
        stopped = True
        with pytest.raises(Stop):
            layer.file("/srv/b", b"")
    assert not (tmp_path / "layer").exists()


def test_existing_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(b"another's")
    with pytest.raises(FileExistsError), writer(tmp_path / "layer"):
        pass
    assert (tmp_path / "layer").read_bytes() == b"another's"


_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda name: name not in {".", ".."} and not name.startswith(".wh.") and len(name.encode()) <= 255
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    content=st.dictionaries(st.lists(_NAMES, min_size=1, max_size=5).map("/".join), st.binary(max_size=3000)),
    compression=st.sampled_from(COMPRESSIONS),
)
def test_any_files_come_back(tmp_path: Path, content: dict[str, bytes], compression: Compression) -> None:
    target = tmp_path / "layer"
    expected = {f"/srv/env/{path}": data for path, data in content.items()}
    inside = any(other.startswith(f"{path}/") for path in content for other in content)
    with pytest.raises(EntryError, match="folder and a file") if inside else nullcontext():
        with writer(target, compression) as layer:
            for path, data in expected.items():
                layer.file(path, data)
            made = layer.finish()
        assert files(target, made) == expected
    target.unlink(missing_ok=True)
