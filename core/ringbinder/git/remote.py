"""Asking and copying a git repository, wherever it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import define, field, frozen

from ..config.specs import shown
from ..errors import TransientError, UserError
from ..model import GitSource
from ..protocol import Log
from ..runtime.caching import SingleFlight
from ..runtime.untrusted import UntrustedTree
from .addresses import FULL_SHA, longer_names, parse_address
from .command import Access, GitCommand, Home
from .errors import no_such_ref

_MAX_SUBMODULES = 1000
_MAX_DEPTH = 10  # of submodules in submodules
_GUARDED_PROTOCOLS = frozenset({"http", "https"})
_KEPT_CODES = frozenset({"address-not-allowed", "disk-full", "repo-too-large"})
"""Of a submodule: what is wrong is not its address."""


@frozen
class ResolvedRef:
    """What a ref means now. `private`: it cannot be read without credentials."""

    commit: str
    """Its full id, in lower case."""
    private: bool = False
    """It cannot be read without credentials."""
    words: int = 0
    """How many words that were given beside the ref belong to its name."""


@frozen
class Remote:
    """Reads git repositories. Time limits are in seconds."""

    git: GitCommand
    resolve_timeout: float
    fetch_timeout: float
    _flights: SingleFlight[tuple[str, Sequence[str], Access], ResolvedRef] = field(
        factory=SingleFlight, init=False, repr=False, eq=False
    )

    async def resolve(self, url: str, ref: str, access: Access, words: Sequence[str] = ()) -> ResolvedRef:
        """See `Git.resolve`."""
        if FULL_SHA.fullmatch(ref):
            # A builder may fetch it by other means, which judge nothing.
            await self.git.guard.git_config(url)
            # No one is asked, so whether it takes the credentials is not known.
            return ResolvedRef(ref.lower(), private=bool(access.credentials))
        refs = (ref,) if ref == "HEAD" else tuple(longer_names(ref, words))
        return await self._flights((url, refs, access), lambda: self._resolve(url, refs, access))

    async def _resolve(self, url: str, refs: Sequence[str], access: Access) -> ResolvedRef:
        names = [(words, name) for words, ref in enumerate(refs) for name in _full_names(ref)]
        async with self.git.home(url, access) as home:
            patterns = [pattern for _, name in names for pattern in (name, f"{name}^{{}}")]
            found = await self._ls_remote(url, home, patterns=patterns)
            for words, name in names:
                if sha := found.get(f"{name}^{{}}") or found.get(name):
                    return ResolvedRef(sha, home.credentials_used, words)
            raise no_such_ref(url, refs[0], await self._ls_remote(url, home, "--heads", "--tags"))

    async def _ls_remote(self, url: str, home: Home, *options: str, patterns: Sequence[str] = ()) -> dict[str, str]:
        deadline = time.monotonic() + self.resolve_timeout
        arguments = ("ls-remote", *options, "--", url, *patterns)
        return await asyncio.to_thread(_refs, await self.git.must(home, None, deadline, url, *arguments))

    async def fetch(self, source: GitSource, into: Path, log: Log, access: Access) -> None:
        """See `Git.fetch`."""
        deadline = time.monotonic() + self.fetch_timeout
        url, ref = source.url, source.ref
        async with self.git.home(url, access) as home:

            async def must(*arguments: str) -> str:
                return await self.git.must(home, into, deadline, url, *arguments)

            async def succeeds(*arguments: str) -> bool:
                return not (await self.git.run(home, into, deadline, url, *arguments)).returncode

            clone = ("clone", "-q", "--no-checkout", "--", url, ".")
            if not url.startswith("file:"):
                await must(*clone)
            elif not await succeeds(*clone):
                # A folder may hold all of this commit, but not of those before it.
                for step in (("init", "-q", "."), ("remote", "add", "origin", url)):
                    await must(*step)
                await must("fetch", "-q", "--depth", "1", "origin", ref)
            if not await succeeds("cat-file", "-e", f"{ref}^{{commit}}"):
                # On no branch and no tag, such as a pull request's: many servers give it for its id.
                await must("fetch", "-q", "origin", ref)
            on_branch = await must("for-each-ref", f"--points-at={ref}", "refs/heads/")
            await must("checkout", "-q", *(() if on_branch else ("--detach", ref, "--")))
            home.env["GIT_ALLOW_PROTOCOL"] = ":".join(sorted(access.protocols))
            home.env["GIT_LITERAL_PATHSPECS"] = "1"
            await _Submodules(self.git, home, into, deadline, url, log).update(into)


@define
class _Submodules:
    """Brings the submodules of the work tree `top`, one by one, so that each address is judged first."""

    git: GitCommand
    home: Home
    top: Path
    deadline: float
    url: str
    log: Log
    count: int = 0

    async def update(self, folder: Path, depth: int = 1) -> None:
        """Brings what `folder` names, and what that names in turn.

        Raises UserError ``repo-too-large`` for more submodules, or a deeper nesting, than a repository may have.
        """
        if not UntrustedTree(self.top).is_file((folder / ".gitmodules").relative_to(self.top).as_posix()):
            return
        self.log.line("Fetching submodules\n", "fetching")
        listed = await self._config(folder, "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
        files = await self._must(folder, "ls-files", "--stage", "-z")
        named, paths = await asyncio.to_thread(lambda: ({*_entries(listed).values()}, _gitlinks(files)))
        self.count += len(paths)
        if self.count > _MAX_SUBMODULES or (paths and depth > _MAX_DEPTH):
            raise UserError(
                "repo-too-large",
                f"{shown(self.url)} has more submodules than are fetched: at most {_MAX_SUBMODULES} in all, and "
                f"{_MAX_DEPTH} within each other.",
            )
        for path in paths:
            inner = folder / path
            shown_path = shown(inner.relative_to(self.top).as_posix())
            if path not in named:
                self.log.line(f"The submodule {shown_path} is not in .gitmodules: it stays empty\n", "fetching")
                continue
            try:
                await self._bring(folder, path)
            except UserError as error:
                message = f"The submodule {shown_path} of {shown(self.url)} cannot be fetched. {error.message}"
                if error.code in _KEPT_CODES:
                    raise UserError(error.code, message) from None
                raise UserError("submodule-not-found", message) from None
            except TransientError as error:
                message = f"The submodule {shown_path} of {shown(self.url)} cannot be fetched now. {error}"
                raise type(error)(message) from None
            await self.update(inner, depth + 1)

    async def _bring(self, folder: Path, path: str) -> None:
        """Raises UserError also if git would ask a host that it must not ask."""
        # Which of several entries of a path counts is git's choice: what it has set is judged.
        before = await self._urls(folder)
        await self._must(folder, "submodule", "--quiet", "init", "--", path)
        urls = [url for key, url in (await self._urls(folder)).items() if key not in before]
        if len(urls) != 1:
            raise UserError("submodule-not-found", "In .gitmodules it has no address, or several.")
        url = urls[0]
        if self.git.guard.on:
            address = parse_address(url, _GUARDED_PROTOCOLS)
            self.home.configure(await self.git.guard.git_config(address.url))
        await self.git.must(self.home, folder, self.deadline, url, "submodule", "--quiet", "update", "--", path)

    async def _urls(self, folder: Path) -> dict[str, str]:
        """Addresses of submodules that git has taken from .gitmodules, by their keys."""
        return _entries(await self._config(folder, "--local", "--get-regexp", r"^submodule\..*\.url$"))

    async def _config(self, folder: Path, *arguments: str) -> str:
        """What is set; nothing if nothing is."""
        done = await self.git.run(self.home, folder, self.deadline, self.url, "config", "--null", *arguments)
        return done.output

    async def _must(self, folder: Path, *arguments: str) -> str:
        return await self.git.must(self.home, folder, self.deadline, self.url, *arguments)


def _refs(output: str) -> dict[str, str]:
    """Names of refs and their commits, of what `git ls-remote` prints."""
    lines = (line.split("\t", 1) for line in output.splitlines())
    return {line[1]: line[0] for line in lines if len(line) == 2 and FULL_SHA.fullmatch(line[0])}


def _entries(listed: str) -> dict[str, str]:
    """Keys and values, of what `git config --null --get-regexp` prints."""
    entries = (entry.partition("\n") for entry in listed.split("\0") if entry)
    return {key: value for key, _, value in entries}


def _gitlinks(files: str) -> list[str]:
    """Paths at which the index has commits of submodules, of what `git ls-files --stage -z` prints."""
    return [entry.partition("\t")[2] for entry in files.split("\0") if entry.startswith("160000 ")]


def _full_names(ref: str) -> Sequence[str]:
    if ref == "HEAD" or ref.startswith("refs/"):
        return (ref,)
    return f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"
