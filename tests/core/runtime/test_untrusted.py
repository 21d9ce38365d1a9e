"""`UntrustedTree`: no link in a folder that strangers can write leads out of it, and no read is without a bound."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.runtime import untrusted
from ringbinder.runtime.untrusted import MAX_DEPTH, UntrustedError, UntrustedTree

CANARY = b"canary"
READS: dict[str, Callable[[UntrustedTree, str, Path], Any]] = {
    "open": lambda tree, path, _: tree.open(path),
    "read": lambda tree, path, _: tree.read(path, 100),
    "read_text": lambda tree, path, _: tree.read_text(path, 100),
    "names": lambda tree, path, _: tree.names(path),
    "walk": lambda tree, path, _: list(tree.walk(path)),
    "copy_file": lambda tree, path, into: tree.copy_file(path, into, 100),
    "copy_tree": lambda tree, path, into: tree.copy_tree(path, into, 100),
    "make_folder": lambda tree, path, _: tree.make_folder(path),
    "subtree": lambda tree, path, _: tree.subtree(path).names(),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "inner").mkdir(parents=True)
    (folder / "canary").write_bytes(CANARY)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> UntrustedTree:
    (tmp_path / "tree" / "folder").mkdir(parents=True)
    (tmp_path / "tree" / "folder" / "file").write_bytes(b"content")
    return UntrustedTree(tmp_path / "tree")


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("target", ["canary", "inner", ""])
def test_link_as_last_component_is_refused(
    tree: UntrustedTree, outside: Path, tmp_path: Path, target: str, read: Callable[..., Any]
) -> None:
    (tree.place / "link").symlink_to(outside / target)

    with pytest.raises(UntrustedError):
        read(tree, "link", tmp_path / "into")


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_link_as_a_folder_on_the_way_is_refused(
    tree: UntrustedTree, outside: Path, tmp_path: Path, read: Callable[..., Any]
) -> None:
    (tree.place / "link").symlink_to(outside)

    for path in ("link/canary", "link/inner", "link/new"):
        with pytest.raises(UntrustedError):
            read(tree, path, tmp_path / "into")
    assert sorted(path.name for path in outside.iterdir()) == ["canary", "inner"]


def test_link_in_the_place_of_a_subtree_is_refused(tree: UntrustedTree, outside: Path) -> None:
    inner = tree.subtree("folder")
    assert inner.read("file", 100) == b"content"

    shutil.rmtree(tree.place / "folder")
    (tree.place / "folder").symlink_to(outside)

    with pytest.raises(UntrustedError):
        inner.read("canary", 100)


def test_link_in_the_place_of_the_root_is_refused(tree: UntrustedTree, outside: Path) -> None:
    shutil.rmtree(tree.root)
    tree.root.symlink_to(outside)

    with pytest.raises(UntrustedError):
        tree.names()


@pytest.mark.parametrize("path", ["..", "../outside/canary", "/etc/passwd", "folder/../../x", "a//b", "\0"])
def test_path_that_leads_out_is_refused(tree: UntrustedTree, path: str) -> None:
    for read in (tree.stat, tree.open, tree.names):
        with pytest.raises(UntrustedError):
            read(path)


def test_pipe_socket_and_folder_are_no_files(tree: UntrustedTree) -> None:
    os.mkfifo(tree.place / "pipe")
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/s")
        os.link(f"{short}/s", tree.place / "socket")

        for path in ("pipe", "socket", "folder"):
            with pytest.raises(UntrustedError):
                tree.read(path, 100)
            assert not tree.is_file(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_device_is_no_file(tree: UntrustedTree) -> None:
    os.mknod(tree.place / "zero", 0o20666, os.makedev(1, 5))

    with pytest.raises(UntrustedError):
        tree.read("zero", 100)


def test_write_replaces_a_link_and_not_its_target(tree: UntrustedTree, outside: Path) -> None:
    (tree.place / "link").symlink_to(outside / "canary")
    (tree.place / "folder-link").symlink_to(outside)

    tree.write("link", b"new")

    assert tree.read("link", 100) == b"new"
    assert (outside / "canary").read_bytes() == CANARY
    with pytest.raises(UntrustedError):
        tree.write("folder-link/canary", b"new")
    with pytest.raises(UntrustedError):
        tree.write("folder", b"new")
    assert tree.names() == ["folder", "folder-link", "link"]


def test_remove_takes_away_a_link_and_not_its_target(tree: UntrustedTree, outside: Path) -> None:
    (tree.place / "link").symlink_to(outside / "canary")

    tree.remove("link")
    tree.remove("link")

    assert tree.kind("link") is None
    assert (outside / "canary").exists()


def test_copied_tree_has_no_links_pipes_or_setuid(tree: UntrustedTree, outside: Path, tmp_path: Path) -> None:
    (tree.place / "folder" / "link").symlink_to(outside / "canary")
    (tree.place / "all").symlink_to(outside)
    os.mkfifo(tree.place / "pipe")
    (tree.place / "folder" / "file").chmod(0o4755)

    assert tree.copy_tree(".", tmp_path / "copy", 100) == len(b"content")

    copied = {path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*")}
    assert copied == {"folder", "folder/file"}
    assert (tmp_path / "copy/folder/file").stat().st_mode & 0o7777 == 0o755


def test_content_beyond_the_limit_is_refused(tree: UntrustedTree, tmp_path: Path) -> None:
    (tree.place / "large").write_bytes(bytes(101))

    assert tree.read("folder/file", 7) == b"content"
    for call in (
        lambda: tree.read("large", 100),
        lambda: tree.copy_file("large", tmp_path / "into", 100),
        lambda: tree.copy_tree(".", tmp_path / "all", 100),
        lambda: tree.names(".", 1),
        lambda: list(tree.walk(".", 2)),
    ):
        with pytest.raises(UntrustedError):
            call()


def test_tree_deeper_than_the_limit_is_refused(tree: UntrustedTree) -> None:
    (tree.place / "/".join(["d"] * MAX_DEPTH)).mkdir(parents=True)
    list(tree.walk())

    (tree.place / "/".join(["d"] * (MAX_DEPTH + 2))).mkdir(parents=True)
    with pytest.raises(UntrustedError):
        list(tree.walk())


@given(st.lists(st.sampled_from(["file", "folder", "to-folder", "to-outside"]), min_size=1, max_size=4))
def test_no_path_of_any_shape_reaches_the_canary(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        outside, root = Path(scratch, "outside"), Path(scratch, "root")
        for folder in (outside, root / "folder" / "folder"):
            folder.mkdir(parents=True)
            for place in (folder, folder.parent):
                if place != Path(scratch):
                    (place / "file").write_bytes(CANARY if place == outside else b"own")
                    (place / "to-folder").symlink_to(root / "folder")
                    (place / "to-outside").symlink_to(outside)
        tree = UntrustedTree(root)

        try:
            content = tree.read("/".join(parts), 100)
        except (UntrustedError, OSError):
            content = b"own"

        assert content == b"own"
        assert all(not name.startswith("to-") for name in parts) or not tree.is_file("/".join(parts))


@pytest.mark.parametrize(
    ("links", "path", "target"),
    [
        ({}, "folder/file", "folder/file"),
        ({"link": "folder/file"}, "link", "folder/file"),
        ({"folder/link": "../folder/./file"}, "folder/link", "folder/file"),
        ({"one": "two", "two": "folder"}, "one/file", "folder/file"),
        ({"one": "folder/"}, "one/../folder/file", "folder/file"),
        ({"link": "absent/x"}, "link", "absent/x"),
        ({"link": "."}, "link/link/link", "."),
    ],
)
def test_links_that_stay_in_the_tree_are_resolved(
    tree: UntrustedTree, links: dict[str, str], path: str, target: str
) -> None:
    for name, to in links.items():
        (tree.place / name).symlink_to(to)
    assert tree.resolve(path) == target


@pytest.mark.parametrize(
    ("links", "path"),
    [
        ({"link": "../outside/canary"}, "link"),
        ({"link": "{tree}/folder/file"}, "link"),
        ({"link": "/proc/self/environ"}, "link"),
        ({"folder/link": "../../outside"}, "folder/link/canary"),
        ({"one": "two", "two": "../outside"}, "one/canary"),
        ({"one": "one"}, "one"),
        ({"one": "two", "two": "one"}, "one/file"),
        ({}, "../outside/canary"),
        ({}, "folder/../../outside/canary"),
        ({}, "/etc/passwd"),
        ({"link": "folder/file"}, "link/below"),
        ({}, "a/" * (MAX_DEPTH + 2)),
    ],
)
def test_path_that_leads_out_of_the_tree_is_refused(
    tree: UntrustedTree, outside: Path, links: dict[str, str], path: str
) -> None:
    for name, to in links.items():
        (tree.place / name).symlink_to(to.replace("{tree}", str(tree.place)))
    with pytest.raises(UntrustedError):
        tree.resolve(path)


def test_link_that_takes_the_place_of_a_resolved_path_is_refused(tree: UntrustedTree, outside: Path) -> None:
    (tree.place / "link").symlink_to("folder")
    resolved = tree.resolve("link/file")
    (tree.place / "folder" / "file").unlink()
    (tree.place / "folder" / "file").symlink_to(outside / "canary")
    with pytest.raises(UntrustedError):
        tree.read(resolved, 100)


def test_removing_a_tree_leaves_what_links_lead_to(tree: UntrustedTree, outside: Path) -> None:
    (tree.place / "folder" / "link").symlink_to(outside)
    (tree.place / "folder" / "file link").symlink_to(outside / "canary")
    os.mkfifo(tree.place / "folder" / "pipe")

    tree.remove_tree("folder")
    tree.remove_tree("absent/too")

    assert tree.names() == []
    assert (outside / "canary").read_bytes() == CANARY


def test_removing_a_link_to_a_tree_leaves_the_tree(tree: UntrustedTree, outside: Path) -> None:
    (tree.place / "link").symlink_to(outside)

    tree.subtree("link").remove_tree()

    assert tree.names() == ["folder"]
    assert (outside / "canary").read_bytes() == CANARY
    with pytest.raises(UntrustedError):
        tree.subtree("folder/file").remove_tree("below")


def test_tree_of_any_depth_is_removed(tree: UntrustedTree) -> None:
    with tree.handle("folder") as folder:
        descriptors = [os.dup(folder)]
    for _ in range(3000):
        os.mkdir("deep", dir_fd=descriptors[-1])
        inner = os.open("deep", os.O_RDONLY, dir_fd=descriptors[-1])
        os.close(descriptors.pop())
        descriptors.append(inner)
    os.close(descriptors[0])

    tree.remove_tree()

    assert not tree.place.exists()


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300])
def test_closed_folders_are_counted_and_removed(mode: int) -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    if (child := os.fork()) == 0:
        # No folder is closed to root, so that another user does it.
        os._exit(0 if _counts_and_removes(place, mode) else 1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not (place / "tree").exists()
    finally:
        shutil.rmtree(place)


def _counts_and_removes(place: Path, mode: int) -> bool:
    try:
        if os.geteuid() == 0:
            os.chown(place, 65534, 65534)
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        tree, inner = UntrustedTree(place / "tree"), place / "tree" / "folder" / "inner"
        inner.mkdir(parents=True)
        with (inner / "big").open("wb") as file:
            file.write(os.urandom(300_000))
            os.fsync(file.fileno())
        for folder in (inner, inner.parent, tree.place):
            folder.chmod(mode)
        size = tree.size()
        for folder in (inner, inner.parent, tree.place):
            folder.chmod(mode)
        tree.remove_tree()
    except BaseException:
        traceback.print_exc()
        return False
    return size >= 300_000


def test_unlocking_does_not_follow_links(tree: UntrustedTree, outside: Path) -> None:
    outside.chmod(0o500)
    (tree.place / "link").symlink_to(outside)

    with pytest.raises(NotADirectoryError):
        tree.unlock("link")

    assert outside.stat().st_mode & 0o777 == 0o500


def test_size_counts_no_link_and_each_file_once(tree: UntrustedTree, outside: Path) -> None:
    (outside / "big").write_bytes(os.urandom(1_000_000))
    (tree.place / "big").write_bytes(os.urandom(500_000))
    os.sync()
    before = tree.size()
    (tree.place / "again").hardlink_to(tree.place / "big")
    (tree.place / "link").symlink_to(outside)

    assert 500_000 <= before <= tree.size() < 700_000
    with pytest.raises(UntrustedError, match="more than 3"):
        tree.size(limit=3)


def test_made_link_is_not_looked_at(tree: UntrustedTree, outside: Path) -> None:
    tree.make_link("folder/link", str(outside / "canary"))

    assert tree.link("folder/link") == str(outside / "canary")
    with pytest.raises(FileExistsError):
        tree.make_link("folder/link", "elsewhere")


def test_walk_leaves_out_what_is_skipped(tree: UntrustedTree) -> None:
    (tree.place / "skipped" / "below").mkdir(parents=True)

    paths = [path for path, _ in tree.walk(skip=lambda path: path == "skipped")]

    assert paths == ["folder", "folder/file"]


def test_what_is_empty_in_a_file_takes_no_room_in_its_copy(tree: UntrustedTree, tmp_path: Path) -> None:
    size = 64 * 1024**2
    with (tree.place / "sparse").open("wb") as file:
        file.seek(size // 2)
        file.write(b"middle")
        file.truncate(size)
    copy = tmp_path / "copy"
    assert tree.copy_file("sparse", copy, size) == size
    assert copy.read_bytes() == (tree.place / "sparse").read_bytes()
    assert copy.stat().st_blocks * 512 < size // 4


def test_folder_is_not_listed_beyond_the_limit(tree: UntrustedTree, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (tree.place / "folder" / str(number)).touch()
    listed: list[str] = []
    scandir = os.scandir

    class Counted:
        def __init__(self, folder: int) -> None:
            self._entries = scandir(folder)

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            self._entries.close()

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            for entry in self._entries:
                listed.append(entry.name)
                yield entry

    monkeypatch.setattr(os, "scandir", Counted)
    with pytest.raises(UntrustedError, match="more than 10 entries"):
        list(tree.walk(limit=10))
    assert len(listed) <= 12


def test_what_is_of_another_kind_is_reported(tree: UntrustedTree, outside: Path) -> None:
    (tree.place / "picture").write_bytes(b"\xff\xd8")
    (tree.place / "link").symlink_to(outside)

    with pytest.raises(UntrustedError, match="no text in UTF-8"):
        tree.read_text("picture", 100)
    with pytest.raises(UntrustedError, match="is no link"):
        tree.link("picture")
    with pytest.raises(FileNotFoundError):
        tree.link("absent")
    assert (tree.is_folder("folder"), tree.is_folder("picture"), tree.is_folder("link/inner")) == (True, False, False)


def _bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("replace", "reason"),
    [
        (os.mkfifo, "is a pipe, socket or device"),
        (os.mkdir, "is a folder"),
        (_bind_socket, "is no regular file"),
        (lambda path: path.symlink_to("/etc/passwd"), "links are not followed"),
    ],
    ids=["pipe", "folder", "socket", "link"],
)
def test_what_replaces_a_file_as_it_is_opened_is_refused(
    tree: UntrustedTree, replace: Callable[[Path], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tree.place / "folder" / "file"
    monkeypatch.chdir(file.parent)  # the address of a socket is short
    opened = untrusted._opened

    def opened_after(path: str, name: str | Path, flags: int, folder: int | None = None) -> int:
        if name == "file":
            file.unlink()
            replace(Path("file"))
        return opened(path, name, flags, folder)

    monkeypatch.setattr(untrusted, "_opened", opened_after)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(UntrustedError, match=reason):
        tree.open("folder/file")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_file_that_vanishes_while_a_tree_is_copied_is_left_out(
    tree: UntrustedTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree.place / "folder" / "later").write_text("gone by then")
    copy_file = UntrustedTree.copy_file

    def copied(self: UntrustedTree, path: str, into: Path, limit: int) -> int:
        (tree.place / "folder" / "later").unlink(missing_ok=True)
        return copy_file(self, path, into, limit)

    monkeypatch.setattr(UntrustedTree, "copy_file", copied)
    assert tree.copy_tree("folder", tmp_path / "copy", 100) == len(b"content")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["file"]


def test_write_that_fails_leaves_the_file_and_no_draft(tree: UntrustedTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(OSError, match="No space left"):
            tree.write("folder/file", b"new")
    assert (tree.names("folder"), tree.read("folder/file", 100)) == (["file"], b"content")


@pytest.mark.parametrize("times", [1, 1_000_000])
def test_folder_that_is_written_to_while_it_is_removed_ends(
    tree: UntrustedTree, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmdir, left = os.rmdir, times

    def rmdir_after(path: Any, *, dir_fd: int | None = None) -> None:
        nonlocal left
        if path == "folder" and left:
            left -= 1
            (tree.place / "folder" / f"new {left}").touch()
        rmdir(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", rmdir_after)
    if times == 1:
        tree.remove_tree("folder")
        assert tree.names() == []
    else:
        with pytest.raises(OSError, match="not empty"):
            tree.remove_tree("folder")


def test_read_only_tree_leaves_files_of_several_names(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    for name in ("folder/own", "shared"):
        (root / name).touch(0o644)
    outside = tmp_path / "outside"
    outside.touch(0o644)
    (root / "link").symlink_to(outside)
    (tmp_path / "other name").hardlink_to(root / "shared")
    UntrustedTree(root).make_read_only()
    modes = {path: stat.S_IMODE(path.stat().st_mode) & 0o222 for path in (root, root / "folder", root / "folder/own")}
    assert set(modes.values()) == {0}
    assert stat.S_IMODE((root / "shared").stat().st_mode) & 0o200
    assert stat.S_IMODE(outside.stat().st_mode) & 0o200
    UntrustedTree(tmp_path).subtree("tree").remove_tree()
    assert not root.exists()
