"""A repository's content as layers: the same bytes for every user, at any place and time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from ringbinder.testing import RecordingLog
from ringbinder.untrusted import UntrustedError, UntrustedTree
from ringbinder_layers.content import top, write_content, write_history
from ringbinder_layers.model import MADE_AT, Base, Layer
from ringbinder_layers.tar import EntryError, LayerWriter

from .layerfiles import entries, files

BASE = Base(
    repository="host.example/base", digest=f"sha256:{'1' * 64}", layers=(), config={"config": {}},
    platform="linux/amd64", pythons={"3.12": "/usr/bin/python3.12"},
    versions={"3.12": "3.12.11"}, libc=(2, 36), prefix="/srv/conda/envs/notebook",
    home="/home/jovyan", repo_dir="/home/jovyan",
)  # fmt: skip

Write = Callable[..., None]


def made(folder: Path, target: Path, write: Write = write_content, base: Base = BASE, **more: str) -> Layer:
    with LayerWriter(target, "gzip", top=top(base), uid=base.uid, gid=base.gid) as writer:
        write(UntrustedTree(folder), base, writer, RecordingLog(), **more)
        return writer.finish()


def repository(folder: Path, umask: int = 0o022) -> Path:
    """Makes a repository, as a user with that umask would."""
    before = os.umask(umask)
    try:
        for name, content in {"a.txt": "a", "start": "#!/bin/sh\n", "sub/deep/b.txt": "b", ".git/HEAD": "ref"}.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        (folder / "run.sh").write_text("#!/bin/sh\n")
        (folder / "run.sh").chmod(0o777 & ~umask)
        (folder / "a.txt").chmod(0o6644 & ~umask)
        (folder / "empty").mkdir()
        (folder / "out").symlink_to("/etc/passwd")
        (folder / "sub" / "up").symlink_to("../../..")
    finally:
        os.umask(before)
    return folder


def test_content_by_anyone_anywhere_is_one_layer(tmp_path: Path) -> None:
    first = repository(tmp_path / "first")
    second = repository(tmp_path / "another" / "folder", umask=0o077)
    for file in second.rglob("*"):
        os.utime(file, (1, 1), follow_symlinks=False)
    assert made(first, tmp_path / "1") == made(second, tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_content_has_modes_of_git_and_its_user(tmp_path: Path) -> None:
    layer = made(repository(tmp_path / "r", umask=0o077), tmp_path / "layer")
    found = {entry.name: entry for entry in entries(tmp_path / "layer", layer)}
    modes = {name.removeprefix("home/jovyan/"): entry.mode for name, entry in found.items()}
    assert modes == {
        "home": 0o755, "home/jovyan": 0o755, "a.txt": 0o644, "start": 0o644, "run.sh": 0o755, "empty": 0o755,
        "out": 0o777, "sub": 0o755, "sub/up": 0o777, "sub/deep": 0o755, "sub/deep/b.txt": 0o644,
    }  # fmt: skip
    assert {entry.uid for name, entry in found.items() if name != "home"} == {1000}
    assert found["home"].uid == 0
    assert {entry.mtime for entry in found.values()} == {MADE_AT}


def test_links_stay_links_wherever_they_lead(tmp_path: Path) -> None:
    layer = made(repository(tmp_path / "r"), tmp_path / "layer")
    links = {entry.name: entry.linkname for entry in entries(tmp_path / "layer", layer) if entry.issym()}
    assert links == {"home/jovyan/out": "/etc/passwd", "home/jovyan/sub/up": "../../.."}


def test_start_script_is_made_executable(tmp_path: Path) -> None:
    layer = made(repository(tmp_path / "r"), tmp_path / "layer", start="start")
    [start] = [entry for entry in entries(tmp_path / "layer", layer) if entry.name == "home/jovyan/start"]
    assert start.mode == 0o755


def test_history_is_a_layer_of_its_own(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r")
    (folder / "sub" / ".git").write_text("gitdir: ../.git/modules/sub\n")
    content = made(folder, tmp_path / "content")
    history = made(folder, tmp_path / "history", write_history)
    assert "/home/jovyan/.git/HEAD" not in files(tmp_path / "content", content)
    assert "/home/jovyan/sub/.git" in files(tmp_path / "content", content)
    assert files(tmp_path / "history", history) == {"/home/jovyan/.git/HEAD": b"ref"}


def test_repo_dir_below_home_has_homes_owner(tmp_path: Path) -> None:
    base = evolve(BASE, repo_dir="/home/jovyan/work")
    layer = made(repository(tmp_path / "r"), tmp_path / "layer", base=base)
    owners = {entry.name: entry.uid for entry in entries(tmp_path / "layer", layer) if entry.isdir()}
    assert (owners["home"], owners["home/jovyan"], owners["home/jovyan/work"]) == (0, 1000, 1000)


def test_repo_dir_elsewhere_has_the_users_folder(tmp_path: Path) -> None:
    base = evolve(BASE, repo_dir="/srv/repo")
    layer = made(repository(tmp_path / "r"), tmp_path / "layer", base=base)
    owners = {entry.name: entry.uid for entry in entries(tmp_path / "layer", layer) if entry.isdir()}
    assert (owners["srv"], owners["srv/repo"]) == (0, 1000)


def test_pipe_is_left_out_with_a_line(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r")
    os.mkfifo(folder / "pipe")
    log = RecordingLog()
    with LayerWriter(tmp_path / "layer", "gzip", top=top(BASE), uid=1000, gid=1000) as writer:
        write_content(UntrustedTree(folder), BASE, writer, log)
        layer = writer.finish()
    assert "pipe is a pipe, a socket or a device, and is left out" in log.text
    assert "home/jovyan/pipe" not in {entry.name for entry in entries(tmp_path / "layer", layer)}


@pytest.mark.parametrize("name", [b"\xff", b".wh.a.txt"])
def test_name_that_engines_misread_is_refused(tmp_path: Path, name: bytes) -> None:
    folder = repository(tmp_path / "r")
    (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_text("")
    with pytest.raises(EntryError):
        made(folder, tmp_path / "layer")
    assert not (tmp_path / "layer").exists()


def test_folder_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r")
    inner = folder
    for _ in range(205):
        inner = inner / "d"
        inner.mkdir()
    with pytest.raises((UntrustedError, EntryError)):
        made(folder, tmp_path / "layer")
