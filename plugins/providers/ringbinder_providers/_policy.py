"""The options that our providers share, and the base of all of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from attrs import frozen, validators
from ringbinder import Context, Duration, LaunchRequest, Provider, Repo, Secret, option
from ringbinder.concurrency import Retry
from ringbinder.specs import SpecOptions

from ._credentials import normalized
from ._guard import Guard


@frozen
class RepoOptions(SpecOptions):
    """Section `RepoProvider`: every provider's."""

    git_credentials: Secret = option(
        factory=lambda: Secret(""),
        converter=normalized,
        inherited=False,
        help="Credentials for git, in the form `username=...\\npassword=...`.",
    )
    refuse_private_addresses: bool | None = option(
        default=None,
        help="Refuse repositories and submodules at loopback, link-local and private addresses; default: where "
        "others than the people of this machine can reach the server.",
    )
    trusted_hosts: frozenset[str] = option(
        default=frozenset(),
        converter=lambda hosts: frozenset(host.lower() for host in hosts),
        help="Host names, without port, that may be at private addresses nevertheless.",
    )
    retries: int = option(
        default=2,
        validator=validators.ge(0),
        help="How often a look-up is repeated that the other side did not answer.",
    )
    retry_delay: Duration = option(default=0.5, help="Wait before the first repetition; doubled with each.")
    resolve_timeout: Duration = option(
        default=40.0, help="How long a git server may take to say what a branch or tag means."
    )
    fetch_timeout: Duration = option(default=540.0, help="How long bringing a repository with its submodules may take.")


C = TypeVar("C", bound=RepoOptions)


class SpecProvider(Provider[C]):
    """A provider with the options of section `RepoProvider`. A subclass says what a spec means in `find`."""

    def __init__(self, config: C, context: Context) -> None:
        super().__init__(config, context)
        refuse = config.refuse_private_addresses
        self.guard = Guard(
            on=context.public if refuse is None else refuse, trusted=config.trusted_hosts | self.own_hosts()
        )
        self.retry = Retry(config.retry_delay, tries=config.retries + 1, clock=context.clock)

    def own_hosts(self) -> frozenset[str]:
        """The hosts that the operator has configured, in lower case: they may be anywhere."""
        return frozenset()

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        return await self.find(request)

    @abstractmethod
    async def find(self, request: LaunchRequest) -> Repo:
        """What a spec means. Raises as `resolve`."""
