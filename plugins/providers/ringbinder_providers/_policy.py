"""What the operator says about specs, and the base of all providers that heed it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from attrs import evolve, field, frozen, validators
from ringbinder.bases import Context, Provider
from ringbinder.errors import Refused
from ringbinder.model import LaunchRequest, Repo
from ringbinder.options import Duration, option
from ringbinder.patterns import Pattern
from ringbinder.secret import Secret

from ._address import shown
from ._credentials import normalized
from ._guard import Guard
from ._patience import Patience


@frozen
class SpecConfig:
    """One entry of `spec_config`: what holds for the specs that begin with a match of `pattern`."""

    pattern: Pattern
    config: Mapping[str, Any] = field(factory=dict)


@frozen
class RepoOptions:
    """Section `RepoProvider`: every provider's."""

    allowed_specs: tuple[Pattern, ...] = option(
        default=(),
        help="Regular expressions, case ignored: only specs that begin so may be launched. Empty: all.",
    )
    banned_specs: tuple[Pattern, ...] = option(
        default=(),
        help="Regular expressions, case ignored: specs that begin so may not be launched, even if allowed.",
    )
    high_quota_specs: tuple[Pattern, ...] = option(
        default=(),
        help="Regular expressions, case ignored: specs that begin so have `BinderHub.per_repo_quota_higher`.",
    )
    spec_config: tuple[SpecConfig, ...] = option(
        default=(),
        help="List of `{pattern: ..., config: {quota: ...}}`; of several that match, later ones win.",
    )
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
    fetch_timeout: Duration = option(
        default=540.0, help="How long bringing a repository with its submodules may take."
    )


C = TypeVar("C", bound=RepoOptions)


class SpecProvider(Provider[C]):
    """A provider that heeds section `RepoProvider`. A subclass says what a spec means in `find`."""

    def __init__(self, config: C, context: Context) -> None:
        super().__init__(config, context)
        refuse = config.refuse_private_addresses
        self.guard = Guard(
            on=context.services.public if refuse is None else refuse,
            trusted=config.trusted_hosts | self.own_hosts(),
        )
        self.patience = Patience(context.clock, config.retries, config.retry_delay)

    def own_hosts(self) -> frozenset[str]:
        """The hosts that the operator has configured, in lower case: they may be anywhere."""
        return frozenset()

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        self.permit(request.spec)
        repo = await self.find(request)
        settings: dict[str, Any] = {}
        for entry in self.config.spec_config:
            if _matches((entry.pattern,), request.spec):
                settings |= entry.config
        return evolve(
            repo, high_quota=_matches(self.config.high_quota_specs, request.spec), settings=settings
        )

    @abstractmethod
    async def find(self, request: LaunchRequest) -> Repo:
        """What a spec that the operator permits means. Raises as `resolve`."""

    def permit(self, spec: str) -> None:
        """Raises `Refused` if the operator does not let `spec` (as in the link) be launched."""
        banned, allowed = self.config.banned_specs, self.config.allowed_specs
        if _matches(banned, spec) or (allowed and not _matches(allowed, spec)):
            raise Refused(
                f"Sorry, {shown(spec)} is not allowed to launch. Please contact admins for more info!"
            )


def _matches(patterns: Sequence[Pattern], spec: str) -> bool:
    """By BinderHub's rule: at the beginning of the spec as it stands in the link, case ignored."""
    return any(pattern.ignoring_case.match(spec) for pattern in patterns)
