"""Repositories of one git host: looked up over its web API, and with git where that does not help."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from attrs import frozen
from ringbinder import Context, Duration, Finding, PluginError, Provider, Secret, TransientError, UserError, option
from ringbinder.git import ResolvedRef
from ringbinder.specs import RepoOptions, shown

from ._api import Api, TokenRefused
from ._pages import Opened


@frozen
class HostOptions(RepoOptions):
    """What the providers of one git host have beside section `RepoProvider`."""

    api_timeout: Duration = option(
        default=10.0, help="How long the host's API may take for one look-up; then git is asked."
    )
    remember_missing: Duration = option(
        default=60.0, help="How long it is believed that something is missing, without asking the API again."
    )


C = TypeVar("C", bound=HostOptions)


def host_of(url: str) -> str:
    """The host name of an address, in lower case, without port."""
    return (urlsplit(url).hostname or "").lower()


def addressed(template: str, hostname: str) -> str:
    """An address of a configuration, with the host in it and no slash at its end."""
    return template.replace("{hostname}", hostname).rstrip("/")


def longer_name(ref: str, opened: Opened, found: ResolvedRef) -> tuple[str, ...]:
    """A notice, where the beginning of the path to open belongs to the name of the branch."""
    if not found.words:
        return ()
    name = "/".join((ref, *opened.path[: found.words]))
    return (f'There is no "{shown(ref)}": "{shown(name)}" is meant, and what stands behind that is opened.',)


class Hosted(Provider[C]):
    """A provider of one git host."""

    access_options: ClassVar[str]
    """Where its access token is set."""
    what: ClassVar[str] = "repository"
    """What it has, in words."""

    def __init__(self, config: C, context: Context) -> None:
        super().__init__(config, context)
        self.credentials = config.git_credentials or self.token_credentials()
        context.git.add_host(self.source("x"), self.credentials)

    @abstractmethod
    def token_credentials(self) -> Secret | None:
        """What git shows instead of a password, made from the configured token."""

    @abstractmethod
    def source(self, name: str) -> str:
        """Where git reads the repository `name`."""

    def api(self, title: str, base: str, headers: dict[str, str]) -> Api:
        """The host's API at `base`."""
        return Api(
            title,
            base,
            self.context,
            self.context.git.retry,
            self.config.api_timeout,
            headers,
            self.config.remember_missing,
        )

    def handed_on(self, found: ResolvedRef) -> Secret | None:
        """The credentials that a builder of the repository needs."""
        return self.credentials if found.private else None

    async def found(
        self, source: str, ref: str, ask: Callable[[], Awaitable[ResolvedRef | None]], words: Sequence[str] = ()
    ) -> ResolvedRef:
        """What `ask` finds over the API; what git finds if that gives None or raises TransientError.

        `words` are as in `Git.resolve`, which says what is raised; if no one answers, it is what is wrong
        with the API.
        """
        try:
            if found := await ask():
                return found
        except TransientError as trouble:
            self.context.log.warning("the API is of no use; git is asked", reason=str(trouble))
            try:
                return await self.context.git.resolve(source, ref, words=words)
            except (TransientError, PluginError):
                raise trouble from None
        return await self.context.git.resolve(source, ref, words=words)

    def missing(self, name: str, title: str) -> UserError:
        """The error for a repository that the API does not know."""
        return UserError(
            "repo-not-found",
            f"The {self.what} {shown(name)} was not found on {title} or is private: "
            "check the address and that it is public.",
        )

    def no_commit(self, name: str, title: str, sha: str) -> UserError:
        """The error for a full commit id that the API does not know."""
        return UserError("ref-not-found", f"There is no commit {sha} in {shown(name)} on {title}.")

    def finding(self, title: str, trouble: TransientError) -> Finding:
        """Doctor's line where the API does not answer, or not us."""
        level: Literal["warning", "error"] = "error"
        fix = f"Check that this machine may reach {title}"
        if isinstance(trouble, TokenRefused):
            fix = f"Make a new token there, and set {self.access_options}"
        elif trouble.retry_after is not None:
            # It passes by itself.
            level, fix = "warning", f"Wait {math.ceil(trouble.retry_after / 60)} min"
            if self.credentials is None:
                fix += f", or set {self.access_options}, which gives a larger quota"
        return Finding(level, str(trouble), f"{fix}. Until then git is asked, which is slower.")
