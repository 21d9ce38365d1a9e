"""Conda packages that mean harm are refused by name, before they have cost anything."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from ringbinder import BuildError
from ringbinder_layers.conda import write_conda
from ringbinder_layers.model import Package, Place

from .condaenv import Entry, read_layer
from .condafiles import Made, file, index, link, named, package, paths
from .layerfiles import writer

PLACE = Place("/srv/env", "3.11", "/srv/env/bin/python", "zstd")
ENDINGS = ("conda", "tar.bz2")


@pytest.fixture(params=ENDINGS)
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A package's file, in both formats."""
    return tmp_path / f"evil-1.0-0.{request.param}"


def written(given: Package, target: Path) -> dict[str, Entry]:
    layer = target.with_name("layer")
    with writer(layer) as made:
        write_conda(target, given, PLACE, made)
        return read_layer(layer, made.finish())


def refusal(given: Package, target: Path) -> str:
    """Return why the package is refused; its layer is removed."""
    with pytest.raises(BuildError) as caught:
        written(given, target)
    assert not target.with_name("layer").exists()
    message = caught.value.message
    assert message.startswith("evil 1.0: its conda package cannot be installed: it ")
    assert len(message) < 500
    return message


def refused(target: Path, members: Sequence[Made], listed: dict[str, Any], *infos: Made) -> str:
    return refusal(package(target, [index("evil"), paths(listed), *infos], members), target)


@pytest.mark.parametrize("path", ["../evil", "bin/../../evil", "/etc/evil", "..", "a/./b", "a//b", ""])
def test_path_that_leaves_the_prefix_is_refused(target: Path, path: str) -> None:
    refused(target, [file(path)], {path: b""})


@pytest.mark.parametrize("path", ["../evil", "/etc/evil"])
def test_unlisted_path_that_leaves_the_prefix_is_refused(target: Path, path: str) -> None:
    assert "leaves the prefix" in refused(target, [file(path)], {})


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.GNUTYPE_SPARSE, b"Z"])
def test_device_is_refused(target: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("dev")
    member.type = kind
    assert "'dev'" in refused(target, [(member, b"")], {"dev": b""})


@pytest.mark.parametrize("to", ["../../etc/passwd", "/etc/passwd"])
def test_hard_link_out_of_the_package_is_refused(target: Path, to: str) -> None:
    assert "leaves the prefix" in refused(target, [link("a", to, tarfile.LNKTYPE)], {"a": b""})


def test_hard_link_to_nothing_is_refused(target: Path) -> None:
    members = [link("a", "b", tarfile.LNKTYPE), link("b", "a", tarfile.LNKTYPE), link("c", "d", tarfile.LNKTYPE)]
    assert "does not have a" in refused(target, members, {"a": b"", "b": b"", "c": b""})


def test_file_below_a_link_is_refused(target: Path) -> None:
    members = [link("lib", "/etc"), file("lib/passwd")]
    listed = {"lib": {"path_type": "softlink"}, "lib/passwd": b""}
    assert "a folder and a file at once" in refused(target, members, listed)


def test_name_that_removes_a_file_below_is_refused(target: Path) -> None:
    assert ".wh." in refused(target, [file("lib/.wh.os.py")], {"lib/.wh.os.py": b""})


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ({"a": {"sha256": "0" * 64, "size_in_bytes": 3}}, "whose hash is not"),
        ({"a": {"sha256": None, "size_in_bytes": 4}}, "whose size is not"),
        ({"a": {"sha256": None, "size_in_bytes": 3, "path_type": "softlink"}}, "lists as another kind"),
        ({"a": {"sha256": None, "size_in_bytes": 3, "path_type": "directory"}}, "lists as another kind"),
        ({"a": {"path_type": "device"}}, "wrong entry"),
        ({"a": {"file_mode": "other", "prefix_placeholder": "/opt"}}, "wrong entry"),
        ({"a": b"abc", "b": b""}, "does not have b"),
        ({"a": {"size_in_bytes": "3"}}, "wrong info/paths.json"),
        ({"a": {"prefix_placeholder": "/o\0t", "file_mode": "binary"}}, "no path"),
        ({"a": {"prefix_placeholder": "/o\ud800", "file_mode": "text"}}, "no path"),
        ({"a\ud800": b"abc"}, "does not have"),
        ({"a": {"prefix_placeholder": "/o", "file_mode": "binary", "sha256": None, "size_in_bytes": 3}}, "room"),
    ],
)
def test_list_that_lies_is_refused(target: Path, listed: dict[str, Any], reason: str) -> None:
    assert reason in refused(target, [file("a", b"abc")], listed)


@pytest.mark.parametrize("mode", ["text", "binary"])
def test_hash_of_a_file_with_a_prefix_is_verified(target: Path, mode: str) -> None:
    listed = {
        "a": {"prefix_placeholder": "/opt/long/enough", "file_mode": mode, "sha256": "0" * 64, "size_in_bytes": 3}
    }
    assert "whose hash is not" in refused(target, [file("a", b"abc")], listed)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"paths": {}}', b'{"paths": [1]}', b"[" * 5000, b'{"paths": [{"_path": 1}]}']
)
def test_malformed_list_is_refused(target: Path, content: bytes) -> None:
    given = package(target, [index("evil"), file("info/paths.json", content)], [])
    assert "wrong info/paths.json" in refusal(given, target)


def test_list_with_a_path_twice_is_refused(target: Path) -> None:
    entry = {"_path": "a", "path_type": "hardlink"}
    content = json.dumps({"paths": [entry, entry], "paths_version": 1}).encode()
    given = package(target, [index("evil"), file("info/paths.json", content)], [file("a")])
    assert "lists a twice" in refusal(given, target)


def test_file_that_is_there_twice_is_refused(target: Path) -> None:
    assert "has a twice" in refused(target, [file("a"), file("a")], {"a": b""})


def test_second_description_is_refused(target: Path) -> None:
    assert "info/link.json" in refused(target, [file("a"), file("info/link.json", b"{}")], {"a": b""})


def test_another_package_is_refused(target: Path) -> None:
    given = package(target, [index("other"), paths({})], [])
    assert "its name is other" in refusal(given, target)


def test_file_in_the_place_of_the_record_is_refused(target: Path) -> None:
    path = "conda-meta/evil-1.0-0.json"
    assert "in the place of its record" in refused(target, [file(path)], {path: b""})


@pytest.mark.parametrize(
    "line",
    ["../x = a:b", "x/y = a:b", "x = a", "x = a;import os:b", "x = a:b()", "= a:b", "x\ny = a:b", ".x = a:b", "x = :b"],
)
def test_entry_point_that_is_none_is_refused(target: Path, line: str) -> None:
    noarch = {"noarch": {"type": "python", "entry_points": [line]}, "package_metadata_version": 1}
    infos = [index("evil", noarch="python"), paths({}), file("info/link.json", json.dumps(noarch).encode())]
    assert "wrong entry point" in refusal(package(target, infos, []), target)


def test_bomb_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "evil-1.0-0.conda"
    given = package(target, [index("evil"), paths({})], [file("zeros", bytes(300 * 1024**2))])
    assert target.stat().st_size < 100_000
    assert "unpacks to more than" in refusal(given, target)


def test_bomb_of_hard_links_is_refused(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringbinder_layers.conda_archive._SPARED_BYTES", 2**20)
    content = bytes(2**17)
    links = [f"l{number}" for number in range(200)]
    members = [file("a", content), *(link(path, "a", tarfile.LNKTYPE) for path in links)]
    assert "unpacks to more than" in refused(target, members, dict.fromkeys(["a", *links], content))


def test_description_without_end_is_refused(target: Path) -> None:
    given = package(target, [index("evil"), file("info/paths.json", b" " * (25 * 1024**2))], [])
    assert "info/paths.json of more than" in refusal(given, target)


def test_text_that_grows_without_end_is_refused(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringbinder_layers.conda._TEXT_BYTES", 2 * 1024**2)
    listed = {"a": {"prefix_placeholder": "/", "file_mode": "text", "sha256": None, "size_in_bytes": 2**20}}
    assert "larger than" in refused(target, [file("a", b"/" * 2**20)], listed)


def raw(folder: Path, files: bytes) -> Path:
    """Return a package whose files are in a tar file that may be wrong."""
    target = folder / "evil-1.0-0.conda"
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("info-evil-1.0-0.tar.zst", zstandard.compress(tar(index("evil"), paths({"a": b""}))))
        archive.writestr("pkg-evil-1.0-0.tar.zst", zstandard.compress(files))
    return target


def tar(*members: Made) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def header(name: str, kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("size", [2**33, -512], ids=["huge", "negative"])
def test_header_of_a_wrong_size_is_refused(tmp_path: Path, kind: bytes, size: int) -> None:
    target = raw(tmp_path, header("a", kind, size) + bytes(10240))
    assert "header" in refusal(named(target), target)


def test_headers_within_headers_are_refused(tmp_path: Path) -> None:
    target = raw(tmp_path, header("a", tarfile.GNUTYPE_LONGNAME, 0) * 5000 + bytes(1024))
    assert "is damaged" in refusal(named(target), target)


def test_window_without_bounds_is_refused(tmp_path: Path) -> None:
    target = package_of_zips(tmp_path, lambda data: zstd_frame(data, 1 << 31))
    assert "is damaged" in refusal(named(target), target)


def zstd_frame(data: bytes, window: int) -> bytes:
    """Return a frame of one raw block that asks for a window of `window` bytes."""
    exponent = window.bit_length() - 1 - 10
    block = (len(data) << 3) | 1
    return b"\x28\xb5\x2f\xfd\x00" + bytes([exponent << 3]) + struct.pack("<I", block)[:3] + data


def package_of_zips(folder: Path, compress: Callable[[bytes], bytes], **options: Any) -> Path:
    target = folder / "evil-1.0-0.conda"
    with zipfile.ZipFile(target, "w", **options) as archive:
        archive.writestr("info-evil-1.0-0.tar.zst", compress(tar(index("evil"))))
        archive.writestr("pkg-evil-1.0-0.tar.zst", compress(tar(file("a"))))
    return target


def test_package_that_is_compressed_twice_is_refused(tmp_path: Path) -> None:
    target = package_of_zips(tmp_path, zstandard.compress, compression=zipfile.ZIP_DEFLATED)
    assert "compressed twice" in refusal(named(target), target)


def test_package_with_two_parts_of_a_kind_is_refused(tmp_path: Path) -> None:
    target = package_of_zips(tmp_path, zstandard.compress)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("info-other.tar.zst", zstandard.compress(tar(index("evil"))))
    assert "has not one info-" in refusal(named(target), target)


def test_list_of_a_zip_file_without_end_is_refused(tmp_path: Path) -> None:
    target = package_of_zips(tmp_path, zstandard.compress)
    with zipfile.ZipFile(target, "a") as archive:
        for number in range(40):
            archive.comment = b""
            info = zipfile.ZipInfo(f"{number}")
            info.extra = struct.pack("<HH", 0x7777, 60_000) + bytes(60_000)
            archive.writestr(info, b"")
    assert "too long" in refusal(named(target), target)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"PK\3\4" + bytes(100), b"BZh9", b"BZh9" + bytes(100), b"\x7fELF"])
def test_file_that_is_no_package_is_refused(target: Path, content: bytes) -> None:
    target.write_bytes(content)
    refusal(named(target), target)


def test_truncated_package_is_refused(target: Path) -> None:
    content = os.urandom(100_000)
    given = package(target, [index("evil"), paths({"a": content})], [file("a", content)])
    whole = target.read_bytes()
    for size in (len(whole) // 2, len(whole) - 100, 200):
        target.write_bytes(whole[:size])
        refusal(given, target)


def test_links_of_a_package_stay_as_they_are(target: Path) -> None:
    members = [link("lib/a", "b"), link("lib/out", "../../../etc/passwd")]
    given = package(
        target,
        [index("evil"), paths({path: {"path_type": "softlink"} for path in ("lib/a", "lib/out", "none")})],
        members,
    )
    found = written(given, target)
    assert found["lib/a"].content == b"b"
    assert found["lib/out"].content == b"../../../etc/passwd"
    assert "none" not in found


def test_full_disk_is_not_the_packages_fault(target: Path) -> None:
    given = package(target, [index("evil"), paths({"a": b"1"})], [file("a", b"1")])

    def check() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), writer(target.with_name("layer"), check=check) as made:
        write_conda(target, given, PLACE, made)


def test_message_has_no_control_characters(target: Path) -> None:
    path = "../\x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}\n"
    assert refused(target, [file(path)], {path: b""}).isprintable()


@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=8),
    part=st.sampled_from(["info", "pkg", "file"]),
)
def test_damage_anywhere_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], part: str
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    target = folder / "evil-1.0-0.conda"
    links: dict[str, Any] = {"lib/l": {"path_type": "softlink"}, "lib/h": b"abc"}
    members = [file("lib/a", b"abc"), link("lib/l", "a"), link("lib/h", "lib/a", tarfile.LNKTYPE)]
    parts = {"info": tar(index("evil"), paths({"lib/a": b"abc"} | links)), "pkg": tar(*members)}
    if part in parts:
        parts[part] = damaged(parts[part], changes)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}-evil-1.0-0.tar.zst", zstandard.compress(content))
    if part == "file":
        target.write_bytes(damaged(target.read_bytes(), changes))
    with contextlib.suppress(BuildError):
        assert not [path for path in written(named(target), target) if path.startswith("/")]


_MEASURE = """
import sys
from pathlib import Path
from tests.layers.layerfiles import writer
from ringbinder_layers.conda import write_conda
from ringbinder_layers.model import Package, Place
target = Path(sys.argv[1])
package = Package("conda", "evil", "1.0", "", "", facts={"name": "evil", "version": "1.0", "build": "0"})
with writer(target.with_name("layer")) as made:
    write_conda(target, package, Place("/srv/env", "3.11", "/srv/env/bin/python", "zstd"), made)
    made.finish()
print(Path("/proc/self/status").read_text())
"""


def test_memory_does_not_grow_with_the_package(target: Path) -> None:
    """Of 128 MB unpacked, with prefixes in text and binary files."""
    contents = {"big.so": b"/opt/placeholder\0" + bytes(96 << 20), "big.txt": b"/opt/placeholder" + b"\n" * (32 << 20)}
    listed: dict[str, Any] = {
        path: {
            "prefix_placeholder": "/opt/placeholder", "file_mode": "text" if path.endswith("txt") else "binary",
            "sha256": hashlib.sha256(content).hexdigest(), "size_in_bytes": len(content),
        }
        for path, content in contents.items()
    }  # fmt: skip
    package(target, [index("evil"), paths(listed)], [file(path, content) for path, content in contents.items()])
    command = [sys.executable, "-c", _MEASURE, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = re.search(r"^VmHWM:\s+(\d+) kB", done.stdout, re.MULTILINE)
    assert peak
    assert int(peak[1]) < 110_000


def damaged(content: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, value in changes:
        changed[place % min(len(changed), 4096)] = value
    return bytes(changed)
