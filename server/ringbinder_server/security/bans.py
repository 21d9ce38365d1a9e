"""Who gets nothing, and who starts nothing."""

from __future__ import annotations

from attrs import frozen
from ringbinder.config.settings import BinderHubSettings
from ringbinder.runtime.patterns import Pattern

from .proxies import Network, networks, within


@frozen
class Bans:
    """`ban_networks` and `block_build_user_agents` of the configuration."""

    by_network: tuple[tuple[Network, str], ...]
    crawlers: tuple[Pattern, ...]

    @classmethod
    def of(cls, settings: BinderHubSettings) -> Bans:
        labels = settings.ban_networks
        return cls(
            tuple(zip(networks(labels), labels.values(), strict=True)),
            tuple(pattern.ignoring_case for pattern in settings.block_build_user_agents),
        )

    def of_address(self, ip: str) -> str:
        """Why this address gets nothing; empty if it may ask."""
        for network, label in self.by_network:
            if within(ip, (network,)):
                return f"Requests from {label} are not allowed"
        return ""

    def of_builder(self, user_agent: str) -> str:
        """Why this client starts nothing; empty if it may."""
        if any(pattern.search(user_agent) for pattern in self.crawlers):
            return (
                "Crawlers start nothing here. If this client is none, the operator of this server can change the "
                "option BinderHub.block_build_user_agents."
            )
        return ""
