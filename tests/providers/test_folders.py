"""Folders of this machine, from the command line: what is launched, under which name, and what is copied."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringbinder.errors import UserError
from ringbinder.model import FolderSource, GitSource, Repo
from ringbinder.testing.gitserver import Repository
from ringbinder_providers import _folder
from ringbinder_providers.git import GitOptions

if TYPE_CHECKING:
    from tests.providers.conftest import Asker

pytestmark = pytest.mark.real("git")


async def here(ask: Asker, folder: Path, ref: str = "HEAD") -> Repo:
    return await ask.resolve(folder.as_uri(), ref, local=True)


async def digest(ask: Asker, folder: Path) -> str:
    repo = await here(ask, folder)
    assert isinstance(repo.source, FolderSource)
    assert repo.ref == repo.source.digest
    assert len(repo.ref) == 40
    return repo.ref


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "plain folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep/b.sh").write_text("#!/bin/sh\n")
    (folder / "link").symlink_to("a.txt")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository.make(tmp_path / "work tree")
    made.commit({"a.txt": "a", "sub/b.txt": "b", ".gitignore": "*.log\n/ignored\n"})
    return made


async def test_a_clean_work_tree_is_its_commit(ask: Asker, repository: Repository, tmp_path: Path) -> None:
    (repository.folder / "x.log").write_text("ignored")
    (repository.folder / "ignored").mkdir()
    sha = repository.git("rev-parse", "HEAD")
    repo = await here(ask, repository.folder)
    assert repo.source == GitSource(repository.folder.as_uri(), sha)
    assert repo.ref == sha
    into = await ask.fetch(repo, tmp_path / "into")
    assert names(into) - {n for n in names(into) if n.startswith(".git/")} == {
        "a.txt",
        "sub/b.txt",
        ".gitignore",
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "a.txt").write_text("changed"),
        lambda f: (f / "new.txt").write_text("new"),
        lambda f: (f / "a.txt").unlink(),
        lambda f: (f / "a.txt").chmod(0o755),
    ],
)
async def test_a_changed_work_tree_is_a_folder(
    ask: Asker, repository: Repository, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    change(repository.folder)
    (repository.folder / "x.log").write_text("ignored")
    repo = await here(ask, repository.folder)
    assert isinstance(repo.source, FolderSource)
    into = await ask.fetch(repo, tmp_path / "into")
    expected = {n for n in names(repository.folder) if not n.startswith(".git/")} - {"x.log"}
    assert names(into) == expected
    for name in expected:
        assert (into / name).read_bytes() == (repository.folder / name).read_bytes()


async def test_what_is_not_in_the_commit_is_launched_as_a_folder(ask: Asker, repository: Repository) -> None:
    """Submodules and files that a filter (Git LFS) keeps elsewhere are here, but a clone lacks them."""
    repository.commit({".gitattributes": "*.bin filter=lfs\n", "x.bin": "version https://git-lfs\n"})
    assert isinstance((await here(ask, repository.folder)).source, FolderSource)


async def test_a_submodule_comes_along(ask: Asker, repository: Repository, tmp_path: Path) -> None:
    inner = Repository.make(tmp_path / "inner")
    inner.commit({"i": "inner"})
    allow = ("-c", "protocol.file.allow=always")
    repository.git(*allow, "submodule", "--quiet", "add", str(inner.folder), "mod")
    repository.commit()
    into = await ask.fetch(await here(ask, repository.folder), tmp_path / "into")
    assert {"mod/i", "a.txt", ".gitmodules"} <= names(into)
    assert "mod/.git" not in names(into)


async def test_part_of_a_work_tree_is_that_part_alone(ask: Asker, repository: Repository, tmp_path: Path) -> None:
    repo = await here(ask, repository.folder / "sub")
    assert isinstance(repo.source, FolderSource)
    assert names(await ask.fetch(repo, tmp_path / "into")) == {"b.txt"}
    ignored = repository.folder / "ignored"
    ignored.mkdir()
    (ignored / "c").write_text("c")
    assert names(await ask.fetch(await here(ask, ignored), tmp_path / "into2")) == {"c"}


async def test_a_local_branch_or_commit(ask: Asker, repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.branch("other")
    second = repository.commit({"a.txt": "2"})
    (repository.folder / "a.txt").write_text("3")
    for ref, sha in (("main", first), ("other", second), (first, first)):
        assert (await here(ask, repository.folder, ref)).source == GitSource(repository.folder.as_uri(), sha)
    with pytest.raises(UserError) as caught:
        await here(ask, repository.folder, "none")
    assert caught.value.code == "ref-not-found"


async def test_a_bare_repository(ask: Asker, repository: Repository, tmp_path: Path) -> None:
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    repo = await here(ask, tmp_path / "bare.git")
    assert repo.ref == repository.git("rev-parse", "HEAD")
    assert "a.txt" in names(await ask.fetch(repo, tmp_path / "into"))


async def test_the_persons_own_ignore_file_counts(
    ask: Asker, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".config/git").mkdir(parents=True)
    (tmp_path / ".config/git/ignore").write_text("*.swp\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (repository.folder / "a.swp").write_text("x")
    assert isinstance((await here(ask, repository.folder)).source, GitSource)


async def test_the_digest_covers_what_matters(ask: Asker, plain: Path) -> None:
    seen = [await digest(ask, plain)]
    changes: list[Callable[[], object]] = [
        lambda: (plain / "a.txt").write_text("b"),
        lambda: (plain / "a.txt").rename(plain / "c.txt"),
        lambda: (plain / "deep/b.sh").chmod(0o755),
        lambda: (plain / "link").rename(plain / "link2"),
        lambda: (plain / "link").symlink_to("a.txt"),
        lambda: (plain / "empty").mkdir(),
        lambda: (plain / "zero").touch(),
        lambda: (plain / os.fsdecode(b"odd\xff\n")).touch(),
    ]
    for change in changes:
        change()
        new = await digest(ask, plain)
        assert new not in seen
        seen.append(new)
    os.utime(plain / "c.txt", (1, 1))
    (plain / "c.txt").chmod(0o600)
    (plain / "__pycache__").mkdir()
    (plain / "deep/node_modules").mkdir()
    assert await digest(ask, plain) == seen[-1]


async def test_a_copy_is_exact_and_follows_no_link(ask: Asker, plain: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (plain / "way-out").symlink_to(outside)
    (plain / "broken").symlink_to("nowhere")
    (plain / "deep/b.sh").chmod(0o755)
    (plain / os.fsdecode(b"odd\xff\n")).write_bytes(b"\0")
    (plain / "empty").mkdir()
    (plain / ".venv").mkdir()
    (plain / ".venv/python").touch()
    os.mkfifo(plain / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(plain / "socket"))
        into = await ask.fetch(await here(ask, plain), tmp_path / "into")
    odd = os.fsdecode(b"odd\xff\n")
    assert names(into) == {"a.txt", "deep/b.sh", "link", "way-out", "broken", odd}
    assert (into / "way-out").readlink() == outside
    assert (into / "link").readlink() == Path("a.txt")
    assert os.access(into / "deep/b.sh", os.X_OK)
    assert not os.access(into / "a.txt", os.X_OK)
    assert (into / "empty").is_dir()
    (into / "a.txt").write_text("of the copy")
    assert (plain / "a.txt").read_text() == "a"


async def test_odd_names_in_a_work_tree(ask: Asker, repository: Repository, tmp_path: Path) -> None:
    for name in (b"\xff", b'quo"te', b"back\\slash", b"new\nline", b"tab\t", "ü".encode(), b" space "):
        (repository.folder / os.fsdecode(name)).write_bytes(name)
    into = await ask.fetch(await here(ask, repository.folder), tmp_path / "into")
    assert {os.fsencode(n) for n in names(into)} == {
        os.fsencode(n) for n in names(repository.folder) if not n.startswith(".git/")
    }


async def test_the_digest_is_a_ref(ask: Asker, plain: Path) -> None:
    repo = await here(ask, plain)
    again = await here(ask, plain, repo.ref)
    assert again == repo
    (plain / "a.txt").write_text("changed")
    with pytest.raises(UserError, match="no longer as it was") as caught:
        await here(ask, plain, repo.ref)
    assert caught.value.code == "ref-not-found"


async def test_a_folder_that_changes_while_it_is_copied(ask: Asker, plain: Path, tmp_path: Path) -> None:
    repo = await here(ask, plain)
    (plain / "a.txt").write_text("changed")
    with pytest.raises(UserError, match="Launch it again") as caught:
        await ask.fetch(repo, tmp_path / "into")
    assert caught.value.code == "folder-changed"


async def test_what_is_no_folder(ask: Asker, plain: Path) -> None:
    for path, word in ((plain / "a.txt", "is a file"), (plain / "none", "does not exist")):
        with pytest.raises(UserError, match=word) as caught:
            await here(ask, path)
        assert caught.value.code == "repo-not-found"


async def test_a_folder_that_is_too_large(ask: Asker, plain: Path) -> None:
    (plain / "large").write_bytes(bytes(2000))
    with pytest.raises(UserError, match=r"GitRepoProvider\.folder_limit") as caught:
        await here(ask.configured(GitOptions(folder_limit=1000)), plain)
    assert caught.value.code == "folder-too-large"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
async def test_a_file_that_cannot_be_read(ask: Asker, plain: Path) -> None:
    (plain / "closed").touch(mode=0)
    with pytest.raises(UserError, match="closed") as caught:
        await here(ask, plain)
    assert caught.value.code == "folder-unreadable"


async def test_a_file_that_vanishes(plain: Path) -> None:
    tree = _folder.WorkTree(paths=["a.txt", "gone"])
    assert await _folder.digest(plain, tree, 1000) == await _folder.digest(
        plain, _folder.WorkTree(paths=["a.txt"]), 1000
    )


async def test_cancelled_it_stops_before_it_returns(plain: Path, tmp_path: Path) -> None:
    for n in range(3000):
        (plain / f"{n}").touch()
    into = tmp_path / "into"
    into.mkdir()
    source = FolderSource(plain, await _folder.digest(plain, _folder.WorkTree(), 10**6))
    task = asyncio.create_task(_folder.copy(source, _folder.WorkTree(), into, 10**6))
    while not any(into.iterdir()):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = len(list(into.iterdir()))
    assert count < 3000
    await asyncio.get_running_loop().shutdown_default_executor()  # what its threads still do
    assert len(list(into.iterdir())) == count


NAMES = st.text(alphabet="ab.ü", min_size=1, max_size=3).filter(lambda n: n not in {".", ".."})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(NAMES, st.binary(max_size=3), max_size=4),
    st.dictionaries(NAMES, st.binary(max_size=3), max_size=4),
)
def test_equal_digests_mean_equal_folders(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    async def digest_of(files: dict[str, bytes]) -> str:
        folder = tmp_path_factory.mktemp("made")
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return await _folder.digest(folder, _folder.WorkTree(), 1000)

    async def compare() -> tuple[str, str]:
        return await digest_of(first), await digest_of(second)

    one, two = asyncio.run(compare())
    assert (one == two) == (first == second)


async def test_folder_without_its_whole_history_gives_the_commit(
    ask: Asker, repository: Repository, tmp_path: Path
) -> None:
    """As a clone that leaves out what it can fetch later, when it is asked for it."""
    repository.commit({"a.txt": "later"})
    blob = repository.git("rev-parse", "HEAD~1:a.txt")
    (repository.folder / ".git/objects" / blob[:2] / blob[2:]).unlink()
    repo = await here(ask, repository.folder)
    into = Repository(await ask.fetch(repo, tmp_path / "into"))
    assert (into.folder / "a.txt").read_text() == "later"
    assert into.git("rev-list", "--count", "HEAD") == "1"
    assert into.git("remote", "get-url", "origin") == repository.folder.as_uri()


async def test_shallow_folder_gives_what_it_has(ask: Asker, repository: Repository, tmp_path: Path) -> None:
    repository.commit({"a.txt": "2"})
    repository.commit({"a.txt": "3"})
    shallow = tmp_path / "shallow"
    clone = ["git", "clone", "-q", "--depth=2", repository.folder.as_uri(), str(shallow)]
    await asyncio.to_thread(subprocess.run, clone, check=True)
    into = Repository(await ask.fetch(await here(ask, shallow), tmp_path / "into"))
    assert (into.folder / "a.txt").read_text() == "3"
    assert into.git("rev-list", "--count", "HEAD") == "2"
