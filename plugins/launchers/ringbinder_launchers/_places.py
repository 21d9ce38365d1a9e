"""Where a launch runs at the hub: as whom, and under which name of a server."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from attrs import frozen

from ._api import user_path


@frozen
class Place:
    """A server of a user. A `temporary` user was made for it, and goes with it."""

    user: str
    server: str = ""
    temporary: bool = True

    @property
    def id(self) -> str:
        """`Server.id`: from it, every replica finds the place again."""
        return f"{self.user}/{self.server}"

    @property
    def user_path(self) -> str:
        return f"users/{user_path(self.user)}"

    @property
    def server_path(self) -> str:
        """To start it, and to end it."""
        return f"{self.user_path}/servers/{quote(self.server, safe='')}"

    @property
    def progress_path(self) -> str:
        name = f"servers/{quote(self.server, safe='')}" if self.server else "server"
        return f"{self.user_path}/{name}/progress"

    @property
    def path(self) -> str:
        """Below the hub's address, with a slash at its end."""
        server = f"{quote(self.server, safe='')}/" if self.server else ""
        return f"user/{user_path(self.user)}/{server}"

    def model(self, user: Any) -> dict[str, Any]:
        """Its server in the model of its user; empty if there is none."""
        servers = user.get("servers") if isinstance(user, dict) else None
        found = servers.get(self.server) if isinstance(servers, dict) else None
        return found if isinstance(found, dict) else {}
