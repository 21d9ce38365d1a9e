"""Wheels in layers: the files that uv installs, whatever else a wheel holds is refused, and memory has a bound."""

from __future__ import annotations

import csv
import os
import stat
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
import uv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringbinder_layers.model import MADE_AT
from ringbinder_layers.venv import write_venv
from ringbinder_layers.wheel import write_wheel

from .layerfiles import entries, files, unpack, writer
from .wheels import (
    MINOR,
    comparable,
    dist_info,
    environment_in_layer,
    environment_of_uv,
    make_wheel,
    package_of,
    place,
    record,
    record_row,
    write,
    write_zip,
)

ROOT = Path(__file__).parents[2]
SITE = f"/srv/env/lib/python{MINOR}/site-packages"

_EVERYTHING = {
    "foo/__init__.py": b"x = 1\n",
    "foo/tool.so": b"\x7fELF",
    "foo-1.0.data/scripts/placeholder": b"#!python -u\nprint()\n",
    "foo-1.0.data/scripts/windowed": b"#!pythonw\r\nprint()\n",
    "foo-1.0.data/scripts/cut": b"#!python",
    "foo-1.0.data/scripts/shell": b"#!/bin/sh\n",
    "foo-1.0.data/scripts/other": b"#!/usr/bin/env python\n",
    "foo-1.0.data/scripts/empty": b"",
    "foo-1.0.data/scripts/entry": b"gives way to the entry point\n",
    "foo-1.0.data/headers/foo.h": b"#define FOO\n",
    "foo-1.0.data/data/share/foo/data.txt": b"data\n",
    "foo-1.0.data/data/lib64/elsewhere": b"64\n",
    "foo-1.0.data/purelib/foo/pure.py": b"",
    "foo-1.0.data/platlib/foo/plat.py": b"",
    "foo-1.0.data/platlib/foo/__init__.py": b"of the data\n",
    "other-1.0.data/data/inert": b"",
}
_MODES = {"foo/tool.so": stat.S_IFREG | 0o700, "foo-1.0.data/data/share/foo/data.txt": stat.S_IFREG | 0o600}
_ENTRY_POINTS = (
    "[console_scripts]\nentry = foo:main\npip3 = foo.cli:Pip.main [extra]\n[gui_scripts]\ngui = foo:gui\n[x]\ny = z\n"
)


@pytest.mark.real("uv")
def test_wheel_with_everything_is_as_uv_installs_it(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "foo", _EVERYTHING, modes=_MODES, entry_points=_ENTRY_POINTS)
    expected = environment_of_uv(tmp_path / "env", [wheel], tmp_path / "cache")
    installed = environment_in_layer(tmp_path / "env", [wheel], tmp_path / "layer")
    assert comparable(installed) == comparable(expected)


def test_files_have_the_modes_and_owners_of_an_image(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "foo", _EVERYTHING, modes=_MODES, entry_points=_ENTRY_POINTS)
    layer, remarks = write(wheel, tmp_path / "layer")
    assert remarks == ()
    found = {f"/{entry.name}": entry for entry in entries(tmp_path / "layer", layer)}
    assert {(entry.uid, entry.gid) for path, entry in found.items() if path.startswith("/srv/env")} == {(1000, 1000)}
    assert (found["/srv"].uid, found["/srv"].gid) == (0, 0)
    assert {entry.mode for entry in found.values() if entry.isdir()} == {0o755}
    executable = {path for path, entry in found.items() if entry.isfile() and entry.mode == 0o755}
    scripts = ["placeholder", "windowed", "cut", "shell", "other", "empty", "entry", "pip3", f"pip{MINOR}", "gui"]
    assert executable == {f"{SITE}/foo/tool.so", *(f"/srv/env/bin/{name}" for name in scripts)}
    assert {entry.mode for path, entry in found.items() if entry.isfile() and path not in executable} == {0o644}
    assert {entry.mtime for entry in found.values()} == {MADE_AT}


def test_wheel_in_a_conda_environment_has_its_headers(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "foo", {"foo-1.0.data/headers/foo.h": b"", "foo-1.0.data/data/lib64/x": b""})
    where = place()
    conda = type(where)(where.prefix, where.python, "/srv/env/bin/python", where.compression)
    layer, _ = write(wheel, tmp_path / "layer", conda)
    found = files(tmp_path / "layer", layer)
    assert {f"/srv/env/include/python{MINOR}/foo/foo.h", "/srv/env/lib64/x"} <= set(found)


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_wheel_gives_the_same_layer_everywhere(tmp_path: Path, compression: str) -> None:
    first = make_wheel(tmp_path, "foo", _EVERYTHING, modes=_MODES, entry_points=_ENTRY_POINTS)
    where = place(compression="gzip" if compression == "gzip" else "zstd")
    one, _ = write(first, tmp_path / "layer", where)
    (tmp_path / "away").mkdir()
    second = first.rename(tmp_path / "away" / first.name)
    os.utime(second, (0, 0))
    script = (
        "import os, sys; from pathlib import Path; from tests.layers.wheels import *; os.umask(0o077);"
        "print(write(Path(sys.argv[1]), Path(sys.argv[2]), place(compression=sys.argv[3]))[0].blob.digest)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "HOME": str(tmp_path), "LC_ALL": "C"}
    command = [sys.executable, "-c", script, str(second), str(tmp_path / "away/layer"), compression]
    other = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == one.blob.digest
    assert (tmp_path / "away/layer").read_bytes() == (tmp_path / "layer").read_bytes()


def test_wheel_layer_changes_only_with_the_format(tmp_path: Path) -> None:
    """Raise `model.FORMAT` where this digest has to be changed: layers of old and new must not share a key."""
    wheel = make_wheel(tmp_path, "foo", _EVERYTHING, modes=_MODES, entry_points=_ENTRY_POINTS)
    where = place()
    layer, _ = write(wheel, tmp_path / "layer", type(where)("/srv/env", "3.12", "/usr/bin/python3.12", "zstd"))
    assert layer.diff_id == "sha256:e0808438bd15ae12d0eed2215ef0470c4eee5b45fcb625e1816ad19e21cbfb6d"


def test_bytecode_and_installer_of_the_wheel_are_left_out(tmp_path: Path) -> None:
    content = {"foo.py": b"", "__pycache__/foo.cpython-311.pyc": b"evil", "foo-1.0.dist-info/INSTALLER": b"evil"}
    layer, remarks = write(make_wheel(tmp_path, "foo", content), tmp_path / "layer")
    found = files(tmp_path / "layer", layer)
    assert remarks == ()
    assert b"evil" not in found.values()
    assert "__pycache__" not in found[f"{SITE}/foo-1.0.dist-info/RECORD"].decode()
    assert found[f"{SITE}/foo-1.0.dist-info/INSTALLER"] == b"ringbinder\n"


def test_later_of_two_packages_with_one_file_wins(tmp_path: Path) -> None:
    first = make_wheel(tmp_path, "first", {"shared.py": b"first"}, entry_points="[console_scripts]\nrun = a:b\n")
    second = make_wheel(tmp_path, "second", {"shared.py": b"second"}, entry_points="[console_scripts]\nrun = c:d\n")
    installed = environment_in_layer(tmp_path / "env", [first, second], tmp_path / "layer")
    assert installed[f"lib/python{MINOR}/site-packages/shared.py"].content == b"second"
    assert b"from c import d" in installed["bin/run"].content


@pytest.mark.parametrize(
    ("rows", "count", "example"),
    [
        ({"foo.py": b"another"}, 1, "foo.py"),
        ({}, 1, "foo.py"),
        ({"foo.py": b"content", "gone.py": b""}, 0, ""),
        ({"/foo.py": b"content"}, 0, ""),
    ],
)
def test_wrong_record_is_remarked_and_written_right(
    tmp_path: Path, rows: Mapping[str, bytes], count: int, example: str
) -> None:
    wheel = write_zip(
        tmp_path / "foo-1.0-py3-none-any.whl",
        [("foo.py", b"content"), *dist_info("foo").items(), *record("foo", {**rows, **dist_info("foo")}).items()],
    )
    layer, remarks = write(wheel, tmp_path / "layer")
    assert len(remarks) == (count > 0)
    assert all("foo 1.0" in remark and example in remark and f" {count} of" in remark for remark in remarks)
    found = files(tmp_path / "layer", layer)
    assert found[f"{SITE}/foo.py"] == b"content"
    written = found[f"{SITE}/foo-1.0.dist-info/RECORD"].decode()
    assert ",".join(record_row("foo.py", b"content")) in written.splitlines()
    assert "gone.py" not in written


def test_record_has_the_files_as_they_are_installed(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "foo", _EVERYTHING, entry_points=_ENTRY_POINTS)
    layer, _ = write(wheel, tmp_path / "layer")
    found = files(tmp_path / "layer", layer)
    rows = list(csv.reader(found[f"{SITE}/foo-1.0.dist-info/RECORD"].decode().splitlines()))
    installed = {os.path.normpath(f"{SITE}/{row[0]}").replace("/lib64/", "/lib/"): row for row in rows}
    assert set(installed) == set(found)
    assert len(rows) == len(found)
    own = installed.pop(f"{SITE}/foo-1.0.dist-info/RECORD")
    assert own[1:] == ["", ""]
    assert all(tuple(row) == record_row(row[0], found[path]) for path, row in installed.items())


_PATHS = (
    "ns/__init__.py", "ns/a.py", "ns/b.py", "{}/__init__.py", "{}-1.0.data/data/share/common.txt",
    "{}-1.0.data/data/lib64/common.so", "{}-1.0.data/scripts/run", "{}-1.0.data/scripts/{}", "{}-1.0.data/headers/a.h",
    "{}-1.0.data/purelib/ns/c.py", "{}-1.0.data/platlib/ns/a.py",
)  # fmt: skip
_CONTENT = st.sampled_from(
    [b"", b"1\n", b"#!python\n2\n", b"#!python3 -u\r\n3\n", b"#!pythonw", b"#! python\n", b"#!/bin/sh\n", bytes(5000)]
)


_Wheel = tuple[str, dict[str, bytes], dict[str, int], str]


@st.composite
def _packages(draw: st.DrawFn) -> list[_Wheel]:
    """What `make_wheel` takes, for several packages, some of which bring the same files."""
    packages = []
    for name in draw(st.permutations(["alpha", "Beta.x", "gamma_y"]))[: draw(st.integers(1, 3))]:
        paths = [path.replace("{}", name) for path in _PATHS]
        content = draw(st.dictionaries(st.sampled_from(paths), _CONTENT))
        modes = {path: draw(st.sampled_from([0o100644, 0o100755, 0o600, 0])) for path in content}
        scripts = draw(st.dictionaries(st.sampled_from(["run", "other", name]), st.sampled_from(["a:b", "c.d:e.f"])))
        lines = [f"{script} = {target}\n" for script, target in scripts.items()]
        packages.append((name, content, modes, "".join(["[console_scripts]\n", *lines])))
    return packages


@pytest.mark.real("uv")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(packages=_packages())
def test_any_packages_are_as_uv_installs_them(tmp_path: Path, packages: list[_Wheel]) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        folder = Path(name)
        wheels = [
            make_wheel(folder, name, content, modes=modes, entry_points=entry_points)
            for name, content, modes, entry_points in packages
        ]
        expected = environment_of_uv(folder / "env", wheels, folder / "cache")
        installed = environment_in_layer(folder / "env", wheels, folder / "layer")
    assert comparable(installed) == comparable(expected)


@pytest.fixture(scope="module")
def real_wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Wheels from the index: with headers, data, scripts of both kinds, compiled parts, and what older tools made."""
    names = ["cowsay", "docutils<0.21", "greenlet", "ipykernel", "nbgitpuller", "pip", "pyzmq", "six"]
    folder = tmp_path_factory.mktemp("wheels")
    command = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-deps", "--no-build", "--format", "pylock.toml"]
    command += ["--python", sys.executable, "-"]
    lock = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=True).stdout
    for package in tomllib.loads(lock)["packages"]:
        url = package["wheels"][0]["url"]
        with urllib.request.urlopen(url, timeout=60) as response:
            (folder / url.rpartition("/")[2]).write_bytes(response.read())
    wheels = sorted(folder.iterdir())
    assert len(wheels) == len(names)
    return wheels


@pytest.mark.real("uv", "index")
@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=4)
@given(data=st.data(), packages=_packages())
def test_real_packages_are_as_uv_installs_them(
    tmp_path: Path, real_wheels: list[Path], data: st.DataObject, packages: list[_Wheel]
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(real_wheels), min_size=2, unique=True))
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        folder = Path(name)
        made = [
            make_wheel(folder, name, content, modes=modes, entry_points=scripts)
            for name, content, modes, scripts in packages
        ]
        wheels = data.draw(st.permutations([*chosen, *made]))
        expected = environment_of_uv(folder / "env", wheels, tmp_path / "cache")
        installed = environment_in_layer(folder / "env", wheels, folder / "layer")
    assert comparable(installed) == comparable(expected)


@pytest.mark.real("uv", "index")
@pytest.mark.slow
def test_pip_lists_and_removes_what_is_in_the_layer(tmp_path: Path, real_wheels: list[Path]) -> None:
    where = place(str(tmp_path / "env"))
    with writer(tmp_path / "layer", top=where.prefix) as layer:
        for wheel in real_wheels:
            write_wheel(wheel, package_of(wheel), where, layer)
        write_venv(where, layer)
        made = layer.finish()
    unpack(tmp_path / "layer", made)

    def pip(*arguments: str) -> str:
        command = [f"{where.prefix}/bin/pip", "--no-input", "--disable-pip-version-check", *arguments]
        return subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout

    listed = {line.partition("==")[0].lower().replace("_", "-") for line in pip("list", "--format=freeze").splitlines()}
    assert listed == {package_of(wheel).name for wheel in real_wheels}
    gone = [tmp_path / "env/bin/cowsay", tmp_path / f"env/lib/python{MINOR}/site-packages/six.py"]
    assert all(path.exists() for path in gone)
    pip("uninstall", "--yes", "cowsay", "six")
    assert not any(path.exists() for path in gone)
