"""Folders that strangers have written: resolving, launching and copying one runs nothing that its git says."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from attrs import frozen
from realparts.providers import made
from ringbinder.errors import RingbinderError
from ringbinder.model import FolderSource, GitSource, LaunchRequest, Repo
from ringbinder.runtime.threads import Stop
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder.testing import RecordingLog, make_context
from ringbinder.testing.gitserver import GitServer, Repository
from ringbinder_providers import _folder
from ringbinder_providers.git import GitOptions, GitProvider

pytestmark = pytest.mark.real("git")

FAR = "ssh://git@192.0.2.1/r"


@frozen
class Trap:
    """A repository in the folder that a stranger hands over, and the program that must not run."""

    repository: Repository
    program: Path
    canary: Path

    @property
    def folder(self) -> Path:
        return self.repository.folder

    def config(self, *pairs: str, inside: str = ".") -> None:
        """Sets ``key=value``; ``PROGRAM`` stands for the program."""
        for pair in pairs:
            key, _, value = pair.partition("=")
            self.repository.git("-C", inside, "config", key, value.replace("PROGRAM", str(self.program)))

    def nested(self) -> None:
        """A repository inside the repository, which the outer index knows as a submodule."""
        inner = Repository.make(self.folder / "inner")
        inner.commit({"x.txt": "x"})
        self.repository.git("add", "inner")
        self.repository.commit()
        (self.folder / "inner/x.txt").write_text("y")
        (self.folder / "inner/.gitattributes").write_text("* filter=x\n")

    def lose_tree(self, inside: str = ".") -> None:
        """Removes an object that is needed at once, as a partial clone may lack it."""
        name = self.repository.git("-C", inside, "rev-parse", "HEAD^{tree}")
        (self.folder / inside / ".git/objects" / name[:2] / name[2:]).unlink()


def filters(trap: Trap) -> None:
    trap.repository.commit({".gitattributes": "*.txt filter=x\n"})
    trap.config("filter.x.clean=PROGRAM", "filter.x.smudge=PROGRAM", "filter.x.required=true")
    (trap.folder / "a.txt").write_text("b")


def filter_process(trap: Trap) -> None:
    (trap.folder / ".git/info/attributes").write_text("* filter=x\n")
    trap.config("filter.x.process=PROGRAM")
    (trap.folder / "a.txt").write_text("b")


def promisor(trap: Trap, inside: str = ".") -> None:
    trap.config(
        "core.repositoryFormatVersion=1", "extensions.partialClone=origin", "remote.origin.promisor=true",
        f"remote.origin.url={FAR}", "core.sshCommand=PROGRAM", inside=inside,
    )  # fmt: skip


def partial_clone(trap: Trap) -> None:
    promisor(trap)
    trap.lose_tree()


def hooks(trap: Trap) -> None:
    for name in ("post-index-change", "post-checkout", "reference-transaction", "pre-auto-gc"):
        (trap.folder / ".git/hooks" / name).symlink_to(trap.program)
    os.utime(trap.folder / "a.txt", (1, 1))


def hooks_path(trap: Trap) -> None:
    folder = trap.folder / "hooks"
    folder.mkdir()
    (folder / "post-index-change").symlink_to(trap.program)
    trap.config(f"core.hooksPath={folder}")
    os.utime(trap.folder / "a.txt", (1, 1))


def included(trap: Trap) -> None:
    (trap.folder / "more").write_text(f"[core]\n\tfsmonitor = {trap.program}\n")
    trap.config("include.path=../more")


def conditionally_included(trap: Trap) -> None:
    (trap.folder / "more").write_text(f"[core]\n\tfsmonitor = {trap.program}\n")
    trap.config("includeIf.gitdir:**.path=../more")


def worktree_config(trap: Trap) -> None:
    trap.config("extensions.worktreeConfig=true")
    (trap.folder / ".git/config.worktree").write_text(f"[core]\n\tfsmonitor = {trap.program}\n")


def external_diff(trap: Trap) -> None:
    trap.config("diff.external=PROGRAM", "core.pager=PROGRAM", "interactive.diffFilter=PROGRAM")
    (trap.folder / "a.txt").write_text("b")


def text_conversion(trap: Trap) -> None:
    (trap.folder / ".gitattributes").write_text("* diff=x\n")
    trap.config("diff.x.textconv=PROGRAM", "core.pager=PROGRAM")
    (trap.folder / "a.txt").write_text("b")


def remote_helper(trap: Trap) -> None:
    trap.config("protocol.allow=always", "protocol.ext.allow=always", "remote.origin.url=ext::PROGRAM")


def upload_pack(trap: Trap) -> None:
    trap.config("remote.origin.url=.", "remote.origin.uploadpack=PROGRAM", "uploadpack.packObjectsHook=PROGRAM")


def alternate_refs(trap: Trap) -> None:
    Repository.make(trap.folder / "other")
    (trap.folder / ".git/objects/info/alternates").write_text(f"{trap.folder}/other/.git/objects\n")
    trap.config("core.alternateRefsCommand=PROGRAM", "remote.origin.url=.")


def credential_helper(trap: Trap) -> None:
    trap.config("credential.helper=!PROGRAM", "core.askPass=PROGRAM", "remote.origin.url=http://127.0.0.1:9/r")


def nested_filter(trap: Trap) -> None:
    trap.nested()
    trap.config("filter.x.clean=PROGRAM", inside="inner")


def nested_partial_clone(trap: Trap) -> None:
    trap.nested()
    promisor(trap, "inner")
    trap.lose_tree("inner")


def nested_monitor(trap: Trap) -> None:
    trap.nested()
    trap.config("core.fsmonitor=PROGRAM", inside="inner")


TRAPS: dict[str, tuple[Callable[[Trap], Any], str]] = {
    "core.fsmonitor": (lambda trap: trap.config("core.fsmonitor=PROGRAM"), "status"),
    "core.sshCommand": (lambda trap: trap.config("core.sshCommand=PROGRAM", f"remote.origin.url={FAR}"), "fetch"),
    "filter.clean": (filters, "status"),
    "filter.smudge": (filters, "checkout --force HEAD -- a.txt"),
    "filter.process": (filter_process, "status"),
    "partial clone": (partial_clone, "status"),
    "hooks": (hooks, "status"),
    "core.hooksPath": (hooks_path, "status"),
    "include.path": (included, "status"),
    "includeIf": (conditionally_included, "status"),
    "config.worktree": (worktree_config, "status"),
    "diff.external": (external_diff, "diff"),
    "diff.textconv": (text_conversion, "diff"),
    "remote helper": (remote_helper, "fetch"),
    "remote.uploadpack": (upload_pack, "fetch"),
    "core.alternateRefsCommand": (alternate_refs, "fetch"),
    "credential.helper": (credential_helper, "credential fill"),
    "nested filter": (nested_filter, "status"),
    "nested partial clone": (nested_partial_clone, "-C inner status"),
    "nested core.fsmonitor": (nested_monitor, "status"),
}  # fmt: skip


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    repository = Repository.make(tmp_path / "folder")
    repository.commit({"a.txt": "a", "sub/b.txt": "b"})
    repository.branch("other")
    canary, program = tmp_path / "canary", tmp_path / "program"
    program.write_text(f"#!/bin/sh\n: >'{canary}'\nexit 1\n")
    program.chmod(0o755)
    return Trap(repository, program, canary)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[GitProvider]:
    context = make_context(tmp_path / "own", "git")
    yield made(GitProvider, GitOptions(retries=0), context)
    await context.services.close()


async def resolved(provider: GitProvider, folder: Path, ref: str = "HEAD") -> Repo:
    return await provider.resolve(LaunchRequest("git", f"{folder.as_uri().replace('/', '%2F')}/{ref}", local=True))


async def launched(provider: GitProvider, folder: Path, into: Path, ref: str = "HEAD") -> Path:
    """What a launch of the folder brings."""
    repo = await resolved(provider, folder, ref)
    into.mkdir()
    assert await provider.fetch(repo, into, RecordingLog())
    return into


@pytest.mark.parametrize("launch", ["of files", pytest.param("of commits", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("prepare", "command"), TRAPS.values(), ids=TRAPS)
async def test_folder_with_hostile_git_config_runs_nothing(
    trap: Trap, provider: GitProvider, tmp_path: Path, prepare: Callable[[Trap], Any], command: str, launch: str
) -> None:
    prepare(trap)
    sha = trap.repository.git("rev-parse", "other")

    whole, part, git = trap.folder, trap.folder / "sub", trap.folder / ".git"
    launches = {
        "of files": [(whole, "HEAD"), (part, "HEAD")],
        "of commits": [(whole, "main"), (whole, sha), (git, "main")],
    }
    for number, (folder, ref) in enumerate(launches[launch]):
        with contextlib.suppress(RingbinderError):
            await launched(provider, folder, tmp_path / f"into{number}", ref)
        assert not trap.canary.exists(), ref

    env = {"PATH": os.environ["PATH"], "HOME": os.devnull}
    subprocess.run(["git", *command.split()], cwd=trap.folder, env=env, input=b"url=http://h/\n", check=False)
    assert trap.canary.exists(), "the trap itself does not work"


async def test_repository_around_ringbinder_runs_nothing(
    trap: Trap, provider: GitProvider, git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever works in such a folder and launches another link."""
    sha = git_server.repository("r").commit({"x": "1"})
    git_server.user, git_server.password = "u", "word-of-the-tests"
    trap.config("credential.helper=!PROGRAM", "core.askPass=PROGRAM", "core.gitProxy=PROGRAM")
    trap.config(f"url.{trap.folder}.insteadOf={git_server.address}")
    monkeypatch.chdir(trap.folder)
    links = [git_server.url("r"), "git://127.0.0.1:1/r"]

    for link in links:
        with pytest.raises(RingbinderError):
            await provider.resolve(LaunchRequest("git", f"{quote(link, safe='')}/main", local=True))
    git_server.user = git_server.password = ""
    repo = await provider.resolve(LaunchRequest("git", f"{quote(links[0], safe='')}/main", local=True))

    assert repo.ref == sha
    assert not trap.canary.exists()


async def test_folder_whose_git_is_the_canary_is_read_nowhere(
    trap: Trap, provider: GitProvider, tmp_path: Path
) -> None:
    """`core.worktree`, a ``.git`` file, links and alternates cannot make another repository part of the folder."""
    secret = Repository.make(tmp_path / "secret")
    sha = secret.commit({"key": "canary"})
    git = trap.folder / ".git"

    def elsewhere() -> None:
        trap.config(f"core.worktree={secret.folder}")

    def alternates() -> None:
        (git / "objects/info/alternates").write_text(f"{secret.folder}/.git/objects\n")

    def objects() -> None:
        (git / "objects").rename(git / "old")
        (git / "objects").symlink_to(secret.folder / ".git/objects")

    def head() -> None:
        (git / "HEAD").unlink()
        (git / "HEAD").symlink_to(secret.folder / ".git/HEAD")

    def whole() -> None:
        git.rename(trap.folder / "old")
        git.symlink_to(secret.folder / ".git")

    def pointer() -> None:
        git.unlink()
        git.write_text(f"gitdir: {secret.folder}/.git\n")

    for number, step in enumerate((elsewhere, alternates, objects, head, whole, pointer)):
        step()
        for ref in ("HEAD", "main", sha):
            try:
                into = await launched(provider, trap.folder, tmp_path / f"{number}{ref}", ref)
            except RingbinderError:
                continue
            assert not (into / "key").exists(), (step.__name__, ref)


async def test_index_with_paths_that_lead_out_copies_nothing(trap: Trap, provider: GitProvider, tmp_path: Path) -> None:
    index = trap.folder / ".git/index"
    forged = index.read_bytes()[:-20].replace(b"sub/b.txt", b"../ou.txt")
    index.write_bytes(forged + hashlib.sha1(forged).digest())
    (tmp_path / "ou.txt").write_text("canary")
    assert "../ou.txt" in trap.repository.git("ls-files")

    into = await launched(provider, trap.folder, tmp_path / "into")

    assert "canary" not in [path.read_text() for path in into.rglob("*") if path.is_file()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "into", "ou.txt", "own", "program"]


async def test_listed_file_behind_a_link_is_left_out(trap: Trap, provider: GitProvider, tmp_path: Path) -> None:
    """The index still has the files of a folder that has become a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.txt").write_text("canary")
    (trap.folder / "sub/b.txt").unlink()
    (trap.folder / "sub").rmdir()
    (trap.folder / "sub").symlink_to(outside)

    into = await launched(provider, trap.folder, tmp_path / "into")

    assert {path.name for path in into.iterdir()} == {"a.txt", "sub"}
    assert (into / "sub").is_symlink()


async def test_listed_path_that_leads_out_is_left_out(trap: Trap, tmp_path: Path) -> None:
    (tmp_path / "canary.txt").write_text("canary")

    for path in ("../canary.txt", str(tmp_path / "canary.txt"), "sub/../../canary.txt", ".git/config"):
        with_it = await _folder.digest(trap.folder, _folder.WorkTree(paths=[path, "a.txt"]), 10**6)
        without = await _folder.digest(trap.folder, _folder.WorkTree(paths=["a.txt"]), 10**6)
        assert with_it == without, path


async def test_link_that_becomes_a_folder_is_not_written_through(trap: Trap, tmp_path: Path) -> None:
    outside, into, link = tmp_path / "outside", tmp_path / "into", trap.folder / "z"
    outside.mkdir()
    into.mkdir()
    link.symlink_to(outside)

    class Exchanged(UntrustedTree):
        def link(self, path: str) -> str:
            target = super().link(path)
            link.unlink()
            link.mkdir()
            (link / "b.txt").write_text("b")
            return target

    entries = [_folder._Entry("z", "l"), _folder._Entry("z/b.txt", "f")]
    with pytest.raises((RingbinderError, OSError)):
        _folder._copy(Exchanged(trap.folder), entries, into, 10**6, Stop())

    assert not list(outside.iterdir())


async def test_work_tree_of_another_repository_is_still_known(
    trap: Trap, provider: GitProvider, tmp_path: Path
) -> None:
    """`git worktree add` makes a ``.git`` file; the repository that it names, names the work tree back."""
    trap.repository.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "main")
    sha = trap.repository.git("rev-parse", "main")

    linked = await resolved(provider, tmp_path / "linked")

    assert linked.source == GitSource((tmp_path / "linked").as_uri(), sha)
    assert (await launched(provider, tmp_path / "linked", tmp_path / "into") / "a.txt").read_text() == "a"
    (tmp_path / "forged").mkdir()
    (tmp_path / "forged/.git").write_bytes((tmp_path / "linked/.git").read_bytes())
    assert isinstance((await resolved(provider, tmp_path / "forged")).source, FolderSource)
