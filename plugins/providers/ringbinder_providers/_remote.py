"""Asking and copying a git repository, wherever it is."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen
from ringbinder import process
from ringbinder.caching import SingleFlight
from ringbinder.errors import UserError
from ringbinder.events import Log
from ringbinder.model import GitSource
from ringbinder.untrusted import UntrustedTree

from ._address import FULL_SHA, longer_names, parse, shown
from ._git import Access, Git, Home
from ._git_errors import down, explained, last_line, no_such_ref, not_alone

_MANY = 1_000_000
_GUARDED_PROTOCOLS = frozenset({"http", "https"})


@frozen
class Found:
    """What a ref means now. `private`: it cannot be read without credentials."""

    commit: str
    private: bool = False
    words: int = 0
    """How many words that were given beside the ref belong to its name."""


@frozen
class Remote:
    """Reads git repositories. Time limits are in seconds."""

    git: Git
    resolve_timeout: float
    fetch_timeout: float
    _flights: SingleFlight[tuple[str, Sequence[str], Access], Found] = field(
        factory=SingleFlight, init=False, repr=False, eq=False
    )

    async def resolve(self, url: str, ref: str, access: Access, words: Sequence[str] = ()) -> Found:
        """The commit that `ref` means now: a full commit id as it is, else a branch, else a tag (peeled).

        A branch wins over a tag of the same name, as in `git checkout`, `git clone --branch` and BinderHub;
        ``heads/x``, ``tags/x`` and any ``refs/...`` are exact. `words` may follow in the name, with slashes: what
        exists with the fewest of them is meant. Raises `UserError` (``ref-not-found``,
        ``repo-not-found``, ``address-not-allowed``) or `TransientError`.
        """
        if FULL_SHA.fullmatch(ref):
            # A builder may fetch it by other means, which judge nothing.
            await self.git.guard.git_config(url)
            # Nobody is asked, so whether it takes the credentials is not known.
            return Found(ref.lower(), private=bool(access.credentials))
        refs = (ref,) if ref == "HEAD" else tuple(longer_names(ref, words))
        return await self._flights((url, refs, access), lambda: self._resolve(url, refs, access))

    async def _resolve(self, url: str, refs: Sequence[str], access: Access) -> Found:
        names = [(words, name) for words, ref in enumerate(refs) for name in _full_names(ref)]
        async with self.git.home(url, access) as home:
            patterns = [pattern for _, name in names for pattern in (name, f"{name}^{{}}")]
            found = await self._ls_remote(url, home, patterns=patterns)
            for words, name in names:
                if sha := found.get(f"{name}^{{}}") or found.get(name):
                    return Found(sha, home.credentials_used, words)
            raise no_such_ref(url, refs[0], await self._ls_remote(url, home, "--heads", "--tags"))

    async def _ls_remote(
        self, url: str, home: Home, *options: str, patterns: Sequence[str] = ()
    ) -> dict[str, str]:
        deadline = time.monotonic() + self.resolve_timeout
        arguments = ("ls-remote", *options, "--", url, *patterns)
        output = await self.git.must(home, None, deadline, url, *arguments)
        if len(output) < _MANY:
            return _refs(output)
        return await asyncio.to_thread(_refs, output)

    async def fetch(self, source: GitSource, into: Path, log: Log, access: Access) -> None:
        """Puts exactly that commit, with its submodules, into the empty folder `into`, a git work tree then.

        Only the one commit is transferred where the server allows that. Raises as `resolve`.
        """
        deadline = time.monotonic() + self.fetch_timeout
        url, must = source.url, self.git.must
        log.line(f"Fetching {url} at {source.ref}\n", "fetching")
        async with self.git.home(url, access) as home:
            for step in (("init", "-q", "."), ("config", "remote.origin.url", url)):
                await must(home, into, deadline, url, *step)
            one = ("fetch", "-q", "--depth", "1", "--no-tags", "origin", source.ref)
            try:
                await must(home, into, deadline, url, *one)
            except UserError:
                log.line(
                    "The server does not give out single commits: fetching the whole history\n", "fetching"
                )
                everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
                await must(home, into, deadline, url, "fetch", "-q", "origin", *everything)
            checkout = ("checkout", "-q", "--detach", source.ref, "--")
            if (await self.git.run(home, into, deadline, url, *checkout)).returncode:
                raise UserError(
                    "ref-not-found", f"Commit {source.ref} is not in {shown(url)}, or cannot be checked out."
                )
            home.env["GIT_ALLOW_PROTOCOL"] = ":".join(sorted(access.protocols))
            await _Submodules(self.git, home, into, deadline, url, log).update(into)


@frozen
class _Submodules:
    """Brings the submodules of the work tree `top`, level by level, so that each address is judged first."""

    git: Git
    home: Home
    top: Path
    deadline: float
    url: str
    log: Log

    async def update(self, folder: Path) -> None:
        if not _has_submodules(folder, self.top):
            return
        self.log.line("Fetching submodules\n", "fetching")
        await self._must(folder, "submodule", "--quiet", "init")
        if self.git.guard.on:
            await self._judge(folder)
        done = await self.git.patience(lambda: self._update(folder, "--depth", "1"))
        if done.returncode and not_alone(done.errors):
            # A clone of one commit does not become a whole one by itself.
            clones = (await self._must(folder, "rev-parse", "--absolute-git-dir")).strip()
            await self._must(folder, "submodule", "--quiet", "deinit", "--force", "--all")
            await self._must(folder, "submodule", "--quiet", "init")
            await asyncio.to_thread(shutil.rmtree, Path(clones) / "modules")
            done = await self.git.patience(lambda: self._update(folder))
        if done.returncode:
            raise UserError(
                "submodule-not-found",
                f"A submodule of {shown(self.url)} could not be fetched: {last_line(done.errors)}. "
                "Its address in .gitmodules must be public, and not a path on a machine.",
            )
        entries = (await self._must(folder, "ls-files", "--stage", "-z")).split("\0")
        for entry in entries:
            if entry.startswith("160000 "):
                await self.update(folder / entry.partition("\t")[2])

    async def _judge(self, folder: Path) -> None:
        """Raises UserError if git would ask a host that it must not ask."""
        listed = await self.git.run(
            self.home, folder, self.deadline, self.url,
            "config", "--local", "--null", "--get-regexp", r"^submodule\..*\.url$",
        )  # fmt: skip
        for entry in filter(None, listed.output.split("\0")):
            try:
                address = parse(entry.partition("\n")[2], _GUARDED_PROTOCOLS)
                self.home.configure(await self.git.guard.git_config(address.url))
            except UserError as error:
                told = f"A submodule of {shown(self.url)} cannot be fetched. {error.message}"
                raise UserError(error.code, told) from None

    async def _update(self, folder: Path, *options: str) -> process.Completed:
        command = ("submodule", "--quiet", "update", *options)
        done = await self.git.run(self.home, folder, self.deadline, self.url, *command)
        if done.returncode and down(done.errors):
            raise explained(self.url, done.errors)
        return done

    async def _must(self, folder: Path, *arguments: str) -> str:
        return await self.git.must(self.home, folder, self.deadline, self.url, *arguments)


def _refs(output: str) -> dict[str, str]:
    """Names of refs and their commits, of what `git ls-remote` prints."""
    lines = (line.split("\t", 1) for line in output.splitlines())
    return {line[1]: line[0] for line in lines if len(line) == 2 and FULL_SHA.fullmatch(line[0])}


def _full_names(ref: str) -> Sequence[str]:
    if ref == "HEAD" or ref.startswith("refs/"):
        return (ref,)
    return f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"


def _has_submodules(folder: Path, top: Path) -> bool:
    return UntrustedTree(top).is_file((folder / ".gitmodules").relative_to(top).as_posix())
