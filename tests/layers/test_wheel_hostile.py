"""Wheels that no tool makes: each is refused with a message that names its package, and no layer is left behind."""

from __future__ import annotations

import stat
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringbinder import BuildError
from ringbinder_layers import tar as tar_module
from ringbinder_layers import wheel as wheel_module
from ringbinder_layers.wheel import write_wheel

from .layerfiles import files, writer
from .wheels import MINOR, dist_info, make_wheel, package_of, place, record, write, write_zip

ROOT = Path(__file__).parents[2]
NAME = "foo-1.0-py3-none-any.whl"
LINK = stat.S_IFLNK | 0o777
_CENTRAL = b"PK\x01\x02"
_END = b"PK\x05\x06"


def refused(wheel: Path) -> str:
    """Return why the wheel is not installed."""
    layer = wheel.with_name("layer")
    with pytest.raises(BuildError) as raised:
        write(wheel, layer)
    assert not layer.exists()
    message = raised.value.message
    assert message.startswith("foo 1.0: its wheel cannot be installed: ")
    assert message.isprintable()
    assert len(message) < 500
    return message


def with_files(folder: Path, files: Iterable[tuple[str, bytes]], **modes: int) -> Path:
    """Make a wheel with these files, of which one name may be there several times, besides its metadata."""
    content = [*files, *dist_info("foo").items()]
    return write_zip(folder / NAME, [*content, *record("foo", dict(content)).items()], modes)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.py",
        "foo/../../../../../etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "foo//bar.py",
        "foo/./bar.py",
        ".",
        "..",
        "",
        "foo/../",
        "/",
        "foo-1.0.data/data/../../../etc/passwd",
        "foo-1.0.data/scripts/../../x",
        "foo-1.0.data/../x",
        "foo-1.0.data/scripts",
        "foo-1.0.data/scripts//x",
        "foo-1.0.data",
        "foo-1.0.data/evil/x",
        "foo-1.0.data/data/bin/python",
        "foo-1.0.data/data/bin/python3.11",
        "foo-1.0.data/data/pyvenv.cfg",
        "foo-1.0.data/scripts/python3",
        "foo-1.0.data/scripts/pythonw",
        "a" * 256,
        "d/" * 201 + "x",
        "d" * 100 + ("/" + "d" * 100) * 50,
        ".wh.numpy",
        "foo/.wh..wh..opq",
        "foo-1.0.data/data/lib/.wh.python3.11",
        "two-1.0.dist-info/METADATA",
    ],
)
def test_wheel_with_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    refused(with_files(tmp_path, [(name, b"")]))


@pytest.mark.parametrize("mode", [LINK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_link_or_device_in_a_wheel_is_refused(tmp_path: Path, mode: int) -> None:
    assert "'evil' is neither file nor folder" in refused(with_files(tmp_path, [("evil", b"/etc")], evil=mode | 0o777))


def test_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    refused(write_zip(tmp_path / NAME, [("foo/", b"/etc"), *dist_info("foo").items()], {"foo/": LINK}))


@pytest.mark.parametrize(
    "pair",
    [
        [("foo.py", b"one"), ("foo.py", b"two")],
        [("foo", b""), ("foo/bar.py", b"")],
        [("foo/bar.py", b""), ("foo", b"")],
        [("foo-1.0.data/data/lib", b""), ("foo.py", b"")],
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_in_one_place_are_refused(tmp_path: Path, pair: list[tuple[str, bytes]]) -> None:
    refused(with_files(tmp_path, pair))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_file_that_is_there_twice_is_installed_once(tmp_path: Path) -> None:
    layer, _ = write(with_files(tmp_path, [("foo.py", b"same"), ("foo.py", b"same")]), tmp_path / "layer")
    assert files(tmp_path / "layer", layer)[f"/srv/env/lib/python{MINOR}/site-packages/foo.py"] == b"same"


@pytest.mark.parametrize(
    "text",
    [
        "[console_scripts]\n../../evil = foo:main\n",
        "[console_scripts]\n/etc/evil = foo:main\n",
        "[console_scripts]\n.. = foo:main\n",
        "[console_scripts]\n.wh.jupyter = foo:main\n",
        "[console_scripts]\npython = foo:main\n",
        "[gui_scripts]\npython3.11 = foo:main\n",
        "[console_scripts]\nevil = foo\n",
        "[console_scripts]\nevil = os; import evil:main\n",
        "[console_scripts]\nevil = foo:main(); evil\n",
        "[console_scripts]\nevil = foo:main\\\n  x\n",
        "[console_scripts]\nevil\n",
        "[console_scripts]\nevil = %(x)s\n",
        "[console_scripts]\n = foo:main\n",
        "[console_scripts\n",
        "evil = foo:main\n",
        "[console_scripts]\n" + "a" * 256 + " = foo:main\n",
    ],
)
def test_hostile_entry_point_is_refused(tmp_path: Path, text: str) -> None:
    refused(make_wheel(tmp_path, "foo", {}, entry_points=text))


@pytest.mark.parametrize(
    ("part", "content", "reason"),
    [
        ("METADATA", None, "no METADATA"),
        ("METADATA", b"Name: bar\nVersion: 1.0\n", "'bar'"),
        ("METADATA", b"Name: foo\nVersion: 2.0\n", "'2.0'"),
        ("METADATA", b"\xff\xfe", "METADATA"),
        ("WHEEL", None, "no WHEEL"),
        ("WHEEL", b"Wheel-Version: 2.0\n", "'2.0'"),
        ("WHEEL", b"", "version"),
        ("WHEEL", b"\xff", "UTF-8"),
        ("RECORD", None, "no RECORD"),
        ("RECORD", b"\xff", "RECORD"),
        ("RECORD", b"only-a-name\n", "RECORD"),
        ("RECORD", b'"' + b"a" * 200_000, "RECORD"),
        ("entry_points.txt", b"\xff", "UTF-8"),
    ],
)
def test_wheel_with_bad_metadata_is_refused(tmp_path: Path, part: str, content: bytes | None, reason: str) -> None:
    parts = dist_info("foo") | record("foo", dist_info("foo"))
    parts.pop(f"foo-1.0.dist-info/{part}", None)
    if content is not None:
        parts[f"foo-1.0.dist-info/{part}"] = content
    assert reason in refused(write_zip(tmp_path / NAME, parts.items()))


def test_wheel_without_metadata_is_refused(tmp_path: Path) -> None:
    assert "0 folders" in refused(write_zip(tmp_path / NAME, [("foo.py", b"")]))


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + bytes(100)])
def test_file_that_is_no_wheel_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    refused(tmp_path / NAME)


def patched(wheel: Path, name: str, offset: int, value: bytes, local: int | None = None) -> Path:
    """Change what the zip file's directory has of the file `name`, and the header before its content."""
    content = bytearray(wheel.read_bytes())
    with zipfile.ZipFile(wheel) as archive:
        start = archive.getinfo(name).header_offset
    entry = content.index(_CENTRAL)
    while content[entry + 46 : entry + 46 + len(name)] != name.encode():
        entry = content.index(_CENTRAL, entry + 4)
    content[entry + offset : entry + offset + len(value)] = value
    if local is not None:
        content[start + local : start + local + len(value)] = value
    wheel.write_bytes(content)
    return wheel


# Where a zip file's directory has what: section 4.3.12 of its specification; and the header of the file, 4.3.7.
_FLAGS, _METHOD, _CRC, _PACKED, _SIZE, _START = 8, 10, 16, 20, 24, 42
_LOCAL_SIZE = 22


@pytest.mark.parametrize("size", [0, 1, 999, 1001, 100_000_000])
def test_file_of_another_size_than_declared_is_refused(tmp_path: Path, size: int) -> None:
    wheel = make_wheel(tmp_path, "foo", {"foo.py": bytes(range(250)) * 4})
    reason = refused(patched(wheel, "foo.py", _SIZE, struct.pack("<L", size), _LOCAL_SIZE))
    assert "foo.py" in reason


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (_CRC, b"\0\0\0\0"),
        (_PACKED, b"\1\0\0\0"),
        (_START, b"\xff\xff\xff\x7f"),
        (_START, b"\1\0\0\0"),
        (_METHOD, b"\x0c\0"),
        (_METHOD, b"\x0e\0"),
        (_METHOD, b"\xff\0"),
        (_FLAGS, b"\1\0"),
        (_FLAGS, b"\x41\0"),
        (_FLAGS, b"\x20\0"),
    ],
)
def test_damaged_zip_file_is_refused(tmp_path: Path, offset: int, value: bytes) -> None:
    wheel = make_wheel(tmp_path, "foo", {"foo.py": bytes(range(250)) * 4})
    assert "foo.py" in refused(patched(wheel, "foo.py", offset, value))


def test_bomb_by_its_declared_size_is_refused_at_once(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "foo", {"foo.py": b"x"})
    assert "when unpacked" in refused(patched(wheel, "foo.py", _SIZE, b"\xff\xff\xff\x7f"))


def test_bomb_of_one_content_under_many_names_is_refused(tmp_path: Path) -> None:
    """Names of the directory that all lead to one content, as in the bombs of David Fifield."""
    names = [f"f{number:03}" for number in range(400)]
    wheel = make_wheel(tmp_path, "foo", {name: b"" if number else bytes(1 << 20) for number, name in enumerate(names)})
    content = bytearray(wheel.read_bytes())
    first = content.index(_CENTRAL)
    facts = content[first + _CRC : first + _SIZE + 4]
    for entry in range(first, len(content) - 46):
        if (
            content[entry : entry + 4] == _CENTRAL
            and content[entry + 46 : entry + 47] == b"f"
            and content[entry + 28] == 4
        ):
            content[entry + _CRC : entry + _SIZE + 4] = facts
    wheel.write_bytes(content)
    assert "when unpacked" in refused(wheel)


def test_bomb_of_names_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_module, "_MAX_ENTRIES", 10)
    assert "more than 10 files" in refused(make_wheel(tmp_path, "foo", {f"f{number}": b"" for number in range(8)}))


def test_bomb_of_a_directory_is_not_read(tmp_path: Path) -> None:
    """The directory of a zip file is read as a whole: 4 GiB of it would be in memory."""
    wheel = make_wheel(tmp_path, "foo", {})
    content = wheel.read_bytes()
    start = content.index(_END)
    end = bytearray(content[start:])
    end[12:20] = struct.pack("<LL", 64 << 20, 0)  # its size and where it begins
    with wheel.open("wb") as file:
        file.seek(64 << 20)
        file.write(end)
    tracemalloc.start()
    try:
        assert "directory has more than" in refused(wheel)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("part", "limit"),
    [("METADATA", 10 << 20), ("RECORD", 10 << 20), ("WHEEL", 256 << 10), ("entry_points.txt", 256 << 10)],
)
def test_bomb_in_the_metadata_is_not_read(tmp_path: Path, part: str, limit: int) -> None:
    parts = {**dist_info("foo"), **record("foo", {})}
    name = f"foo-1.0.dist-info/{part}"
    parts[name] = parts.get(name, b"") + b"a:\n" * (limit // 3 + 1)
    assert f"its {part} has more than {limit} bytes" in refused(write_zip(tmp_path / NAME, parts.items()))


@pytest.mark.parametrize("part", ["METADATA", "RECORD"])
def test_metadata_of_many_lines_takes_little_memory(tmp_path: Path, part: str) -> None:
    parts = {**dist_info("foo"), **record("foo", {})}
    lines = b"".join(b"%x:,\n" % number if part == "METADATA" else b"%x,,\n" % number for number in range(200_000))
    parts[f"foo-1.0.dist-info/{part}"] += lines
    wheel = write_zip(tmp_path / NAME, parts.items())
    tracemalloc.start()
    try:
        write(wheel, tmp_path / "layer")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_bomb_of_folders_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of 200 folders takes 400 bytes of the zip file, and 200 entries of the layer."""
    monkeypatch.setattr(tar_module, "_MAX_NAMES_BYTES", 1 << 20)
    files = {f"{number}/{'d/' * 180}f": b"" for number in range(20)}
    assert "no more names" in refused(make_wheel(tmp_path, "foo", files))


def test_endless_first_line_of_a_script_is_refused(tmp_path: Path) -> None:
    assert "first line" in refused(make_wheel(tmp_path, "foo", {"foo-1.0.data/scripts/x": b"#!python" + b" " * 5000}))


def test_message_has_no_control_characters(tmp_path: Path) -> None:
    refused(with_files(tmp_path, [("../\x1b[2J\n" + "x" * 10_000, b"")]))


def test_full_disk_is_not_the_fault_of_the_wheel(tmp_path: Path) -> None:
    def check() -> None:
        raise OSError(28, "No space left on device")

    wheel = make_wheel(tmp_path, "foo", {"foo.py": b""})
    with writer(tmp_path / "layer", check=check) as layer, pytest.raises(OSError, match="No space left"):
        write_wheel(wheel, package_of(wheel), place(), layer)


_SAMPLE = {"foo/a.py": b"x" * 300, "foo-1.0.data/scripts/run": b"#!python\n1\n", "foo-1.0.data/data/d": b"\0" * 50}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_damage_anywhere_is_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    wheel = make_wheel(tmp_path, "foo", _SAMPLE, entry_points="[console_scripts]\nfoo = foo:main\n")
    content = bytearray(wheel.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + 1] = data.draw(st.binary(max_size=3))
    wheel.write_bytes(content)
    layer = tmp_path / "layer"
    try:
        made, _ = write(wheel, layer)
    except BuildError:
        assert not layer.exists()
    else:
        assert all(path.startswith("/srv/env/") for path in files(layer, made))
        layer.unlink()


_MEASURE = """
import re, sys
from pathlib import Path
from tests.layers.wheels import write

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

before = peak()
write(Path(sys.argv[1]), Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_memory_does_not_grow_with_the_wheel(tmp_path: Path, method: int) -> None:
    """Of 128 MB unpacked."""
    content = [("big.so", bytes(96 << 20)), ("foo-1.0.data/scripts/big", b"#!python\n" + bytes(32 << 20))]
    wheel = write_zip(tmp_path / NAME, [*content, *dist_info("foo").items(), *record("foo", {}).items()], method=method)
    command = [sys.executable, "-c", _MEASURE, str(wheel), str(tmp_path / "layer")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24_000
