"""Who gets nothing, and who starts nothing."""

from __future__ import annotations

import re

from attrs import frozen
from ringbinder.settings import BinderHubSettings

from .proxies import Network, networks, within


@frozen
class Bans:
    """`ban_networks` and `block_build_user_agents` of the configuration."""

    by_network: tuple[tuple[Network, str], ...]
    crawlers: re.Pattern[str] | None

    @classmethod
    def of(cls, settings: BinderHubSettings) -> Bans:
        labels = settings.ban_networks
        patterns = settings.block_build_user_agents
        crawlers = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
        return cls(tuple(zip(networks(labels), labels.values(), strict=True)), crawlers if patterns else None)

    def of_address(self, ip: str) -> str:
        """Why this address gets nothing; empty if it may ask."""
        for network, label in self.by_network:
            if within(ip, (network,)):
                return f"Requests from {label} are not allowed"
        return ""

    def of_builder(self, user_agent: str) -> str:
        """Why this client starts nothing; empty if it may."""
        if self.crawlers is not None and self.crawlers.search(user_agent):
            return (
                "Crawlers start nothing here. If this client is none, whoever runs this server can change the "
                "option BinderHub.block_build_user_agents."
            )
        return ""
