"""Whose code may run on a person's own machine: asked once per repository, and remembered."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, unquote_plus

from attrs import frozen

from ..model import Link, ProviderInfo
from ..runtime.store import Store
from ..secret import redact
from .links import split_spec

_GIT_PULL: Final = "git-pull"  # nbgitpuller's
_REPO_ARGUMENT: Final = re.compile(r"[?&]repo=([^&#]*)")
_DECODINGS: Final = 3
_MAX_NAMED: Final = 3
_MAX_NAME: Final = 200


@frozen
class Consents:
    """`asks`: code of repositories runs on this machine, so that its person is asked first.

    `sandboxed`: in a sandbox only.
    """

    asks: bool
    store: Store
    providers: Mapping[str, ProviderInfo]
    sandboxed: bool = False

    @property
    def rights(self) -> str:
        """How that code runs, in words that end a sentence."""
        if self.sandboxed:
            return "in a sandbox: it sees no home folder and changes no file but its own, but it has the network"
        return "with the rights of the account that started Ringbinder"

    def repository(self, link: Link) -> str:
        """What consent is given to: the provider's name and the repository, regardless of the ref: ``gh/user/repo``."""
        info = self.providers.get(link.provider)
        name = split_spec(info, link.spec)[0] if info else unquote(link.spec)
        return f"{link.provider}/{redact(name)}"

    async def given(self, link: Link) -> bool:
        """No one has to be asked, or somebody was and said yes."""
        return not self.asks or await asyncio.to_thread(self.store.has_consent, self.repository(link))

    async def give(self, link: Link) -> None:
        """Remembers the yes."""
        if self.asks:
            await asyncio.to_thread(self.store.give_consent, self.repository(link), time.time())


def other_repositories(urlpath: str) -> str:
    """Names the repositories that a path to open clones beside the link's own, as `git-pull?repo=...` does.

    Text of a stranger, without credentials and shortened; empty if the path clones nothing. All are named that any
    reading of the path finds, since a redirect within the server may decode it once more.
    """
    names: dict[str, None] = {}
    clones = False
    for _ in range(_DECODINGS):
        clones = clones or _GIT_PULL in urlpath
        for value in _REPO_ARGUMENT.findall(urlpath):
            for _ in range(_DECODINGS):
                value = unquote_plus(value)
            name = redact(value)
            names[name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}..."] = None
        urlpath = unquote(urlpath)
    if not clones:
        return ""
    more = ["others"] if len(names) > _MAX_NAMED else []
    return ", ".join([*list(names)[:_MAX_NAMED], *more]) or "a repository that the link does not name"


def forget(store: Store, text: str) -> list[str]:
    """Forgets the consent to `text`, a repository as it was remembered or a link to it; returns what it was."""
    known = store.consents()
    plain = redact(unquote(text)).rstrip("/")
    meant = [name for name in known if plain == name or plain.startswith(f"{name}/")]
    return [name for name in meant if store.forget_consent(name)]
