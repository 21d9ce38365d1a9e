"""What the providers `gh` and `gist` have in common: the host, its API and the token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from attrs import frozen
from ringbinder import Context, Finding, Secret, TransientError, option
from ringbinder.git import credentials

from ._github_api import GitHubApi, authorization
from ._hosted import Hosted, HostOptions, addressed


@frozen
class GitHubHostOptions(HostOptions):
    """Section `GitHubRepoProvider`, as far as it is about the host."""

    hostname: str = option(default="github.com", help="Host of GitHub, or of a GitHub Enterprise server.")
    api_base_path: str = option(
        default="https://api.{hostname}",
        help="Address of the API; {hostname} stands for the host. Enterprise: https://{hostname}/api/v3.",
    )
    access_token: Secret = option(
        factory=lambda: Secret(""),
        env="GITHUB_ACCESS_TOKEN",
        inherited=False,
        help="Access token for the API and for private repositories.",
    )
    client_id: str = option(default="", env="GITHUB_CLIENT_ID", inherited=False, help="Client id of an OAuth app.")
    client_secret: Secret = option(
        factory=lambda: Secret(""),
        env="GITHUB_CLIENT_SECRET",
        inherited=False,
        help="Client secret of that OAuth app: a larger API quota, no private repositories.",
    )


C = TypeVar("C", bound=GitHubHostOptions)


class GitHubHosted(Hosted[C]):
    """A provider of what is on one GitHub."""

    access_options = "GitHubRepoProvider.access_token or GITHUB_ACCESS_TOKEN"

    def __init__(self, config: C, context: Context) -> None:
        super().__init__(config, context)
        self.title = "GitHub" if config.hostname == "github.com" else f"GitHub at {config.hostname}"
        headers = {"Accept": "application/vnd.github+json"}
        headers |= authorization(config.access_token, config.client_id, config.client_secret)
        base = addressed(config.api_base_path, config.hostname)
        self.github = GitHubApi(self.api(self.title, base, headers), context)

    def token_credentials(self) -> Secret | None:
        """Source: BinderHub's `git_credentials` of this provider (protocol reference, section 3.1)."""
        if not (token := self.config.access_token.reveal()):
            return None
        client = self.config.client_id
        return credentials(client, token) if client else credentials(token, "x-oauth-basic")

    async def doctor(self) -> Sequence[Finding]:
        try:
            answer = await self.github.get("/rate_limit")
        except TransientError as trouble:
            return [self.finding(self.title, trouble)]
        left, limit = (answer.headers.get(f"x-ratelimit-{what}") for what in ("remaining", "limit"))
        quota = f"{left} of {limit} API requests an hour are left"
        if left is None:  # an Enterprise server without rate limits, which answers 404
            quota = "it sets no quota"
        if self.config.access_token:
            return [Finding("ok", f"{self.title} is reachable and accepts the access token; {quota}")]
        return [
            Finding(
                "warning",
                f"{self.title} is reachable, but there is no access token; {quota}",
                f"Set {self.access_options}.",
            )
        ]
