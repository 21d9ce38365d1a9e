"""Running the `git` command: no prompts, no options from links, nothing of the account's configuration."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from attrs import define, evolve, frozen

from .. import process
from ..config.specs import shown
from ..errors import PluginError, UserError
from ..runtime.retry import Retry, TooLate
from ..runtime.tempfolder import temporary_folder
from ..runtime.threads import Stop, in_thread
from ..secret import Secret
from . import mirror
from .addresses import PROTOCOLS
from .errors import explained
from .guard import Guard

_CREDENTIAL: Final = "RINGBINDER_GIT_CREDENTIAL"
_USED: Final = "credentials-used"
_HELPER: Final = f'!f() {{ test "$1" = get && : >"$HOME/{_USED}" && printf "%s\\\\n" "${_CREDENTIAL}"; }}; f'
_SSH: Final = "ssh -o BatchMode=yes -o ConnectTimeout=15"
# A stranger's link must not borrow the keys of the account that Ringbinder runs under.
_SSH_WITHOUT_KEYS: Final = f"{_SSH} -F none -o IdentityAgent=none -o IdentitiesOnly=yes -o IdentityFile=/dev/null"

_OUTPUT: Final = 100_000_000
_ERRORS: Final = 65_536
_MEMORY_KIB: Final = str(4 * 2**20)
# What git keeps in memory of an answer has no limit of its own.
_LIMITED: Final = 'ulimit -d "$0" 2>/dev/null; exec git "$@"'

# A transfer slower than 1000 bytes a second for 2 minutes is taken for dead: so long a server may pack a history.
_CONFIG: Final = """\
[core]
\thooksPath = /dev/null
[advice]
\tdetachedHead = false
[init]
\tdefaultBranch = main
\ttemplateDir =
[gc]
\tauto = 0
[maintenance]
\tauto = false
[http]
\tlowSpeedLimit = 1000
\tlowSpeedTime = 120
"""


@frozen
class Access:
    """With what right a repository is read."""

    credentials: Secret | None = None
    """Lines of git's credential format; None: none are sent."""
    protocols: frozenset[str] = PROTOCOLS
    """Those that git may use, by its names: ``https``, ``ssh``, ..."""
    own_keys: bool = False
    """The person at this machine asks: their ssh agent and keys may be used."""
    local: bool = False
    """The repository may be one of this machine (``file:``); its submodules may not, unless `protocols` has it."""


@define
class Home:
    """A home folder for git, and the variables that make git use that and nothing else."""

    folder: Path
    env: dict[str, str]

    def configure(self, text: str) -> None:
        """Adds `text` to git's configuration. Unlike ``-c`` it holds for the clones of submodules too."""
        with (self.folder / ".gitconfig").open("a") as file:
            file.write(text)

    @property
    def mirror(self) -> Path:
        """Where a repository of this machine is mirrored."""
        return self.folder / "mirror.git"

    @property
    def credentials_used(self) -> bool:
        """Whether a server has asked for the credentials."""
        return (self.folder / _USED).exists()


@frozen
class GitCommand:
    """Runs git for the plugin named `plugin`, with temporary folders in `scratch`."""

    plugin: str
    retry: Retry
    guard: Guard
    scratch: Path

    @asynccontextmanager
    async def home(self, url: str, access: Access) -> AsyncIterator[Home]:
        """For asking `url`. Raises what the guard raises."""
        guarded = await self.guard.git_config(url)
        protocols = {*access.protocols, *({"file"} if url.startswith("file:") else ())}
        async with temporary_folder(self.scratch) as folder:
            env = process.minimal_env() | {
                "HOME": str(folder),
                "LC_ALL": "C",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CEILING_DIRECTORIES": str(folder.parent.resolve()),
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_ASKPASS": "",
                "SSH_ASKPASS": "",
                "GIT_ALLOW_PROTOCOL": ":".join(sorted(protocols)),
                "GIT_SSH_COMMAND": _SSH if access.own_keys else _SSH_WITHOUT_KEYS,
            }
            if access.own_keys and (agent := os.environ.get("SSH_AUTH_SOCK")):
                env["SSH_AUTH_SOCK"] = agent
            home = Home(folder, env)
            home.configure(_CONFIG + guarded)
            parts = urlsplit(url)
            if parts.scheme == "file":
                mirrored = await in_thread(lambda stop: _mirrored(url, home, stop))
                home.configure(f'[url "{mirrored.as_uri()}"]\n\tinsteadOf = "{quoted(url)}"\n')
            if access.credentials:
                # Only for the host that they are for: a submodule elsewhere or a redirect gets none.
                env[_CREDENTIAL] = access.credentials.reveal()
                host = f"{parts.scheme}://{parts.netloc}"
                home.configure(f'[credential "{host}"]\n\thelper = "{quoted(_HELPER)}"\n')
            yield home

    async def must(self, home: Home, cwd: Path | None, deadline: float, url: str, *arguments: str) -> str:
        """What git prints. Tried again while the server does not answer; raises what its failure means."""

        async def once() -> str:
            done = await self.run(home, cwd, deadline, url, *arguments)
            if done.returncode:
                raise explained(url, done.errors)
            if done.truncated:
                raise UserError("repo-too-large", f"{shown(url)} has more refs or files than can be listed.")
            return done.output

        return await self.retry(once)

    async def run(self, home: Home, cwd: Path | None, deadline: float, url: str, *arguments: str) -> process.Completed:
        """Runs git once. Raises TooLate at the `deadline` (of `time.monotonic`).

        Without `cwd` in a folder of our own: git would use the configuration of a repository around it.
        """
        if not self.is_installed():
            raise PluginError(self.plugin, "the command git was not found: install git")
        left = max(deadline - time.monotonic(), 0.0)
        argv = ["sh", "-c", _LIMITED, _MEMORY_KIB, *arguments]
        try:
            done = await process.run(argv, cwd=cwd or home.folder, env=home.env, timeout=left, output_limit=_OUTPUT)
        except TimeoutError:
            limit = "resolve_timeout" if arguments[0] == "ls-remote" else "fetch_timeout"
            raise TooLate(f"{shown(url)} did not answer in time (RepoProvider.{limit}).") from None
        return evolve(done, errors=done.errors[-_ERRORS:])

    def is_installed(self) -> bool:
        return shutil.which("git") is not None


def _mirrored(url: str, home: Home, stop: Stop) -> Path:
    """A repository of our own with what the one at a ``file:`` address holds; where git looks for that, we do."""
    folder = Path(unquote(urlsplit(url).path))
    for place in (folder, folder.with_name(f"{folder.name}.git")):
        if found := mirror.at(place.resolve()):
            mirror.make(found, home.mirror, stop)
            return home.mirror
    raise explained(url, "fatal: this does not appear to be a git repository")


def quoted(value: str) -> str:
    """`value` as it stands between quotes in git's configuration."""
    return value.replace("\\", "\\\\").replace('"', '\\"')
