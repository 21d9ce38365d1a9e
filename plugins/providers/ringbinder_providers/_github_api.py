"""GitHub's REST API, with an eye on its quota.

Source: GitHub's documentation of rate limits (headers ``x-ratelimit-*``, 403 and 429, ``retry-after``).
"""

from __future__ import annotations

import base64
from typing import Final

from attrs import define, field
from prometheus_client import Gauge
from ringbinder import Context, Secret, TransientError, UserError
from ringbinder.specs import shown

from ._api import Answer, Api, TokenRefused, number

_SCARCE: Final = (0.2, 0.5)
_REFUSALS: Final = frozenset({403, 429})
_LONGEST_WAIT: Final = 86_400.0


def authorization(token: Secret, client_id: str, client_secret: Secret) -> dict[str, str]:
    """The header for a token, else for an OAuth app; none for neither."""
    if token:
        return {"Authorization": f"token {token.reveal()}"}
    if client_id and client_secret:
        pair = f"{client_id}:{client_secret.reveal()}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


@define(eq=False)
class GitHubApi:
    """`api`, not asked while its quota is spent."""

    api: Api
    context: Context
    _spent_until: float = field(init=False, default=0.0)
    """Unix seconds."""
    _scarce: float = field(init=False, default=1.0)
    _remaining: Gauge = field(init=False)

    def __attrs_post_init__(self) -> None:
        # `gh` and `gist` spend the same quota.
        self._remaining = self.context.metrics.gauge(
            "binderhub_github_rate_limit_remaining", "GitHub rate limit remaining", shared=True
        )

    async def get(self, path: str) -> Answer:
        """As `Api.get`. Raises TransientError also where the API has had enough of us, UserError for what it blocks."""
        now = self.context.clock.time()
        if now < self._spent_until:
            raise _spent(self._spent_until - now)
        answer = await self.api.get(path)
        self._note_quota(answer)
        if answer.status == 401:
            raise TokenRefused(self.api.title)
        block = answer.content.get("block") if isinstance(answer.content, dict) else None
        if isinstance(block, dict):
            why = shown(f"{block.get('reason')}, {block.get('html_url')}")
            raise UserError("repo-not-found", f"{self.api.title} has blocked access to this repository ({why}).")
        if answer.status in _REFUSALS:
            raise self._refusal(answer)
        return answer

    def _note_quota(self, answer: Answer) -> None:
        remaining = number(answer.headers.get("x-ratelimit-remaining"))
        limit = number(answer.headers.get("x-ratelimit-limit"))
        if remaining is None:
            return
        self._remaining.set(remaining)
        if limit:
            share = next((share for share in _SCARCE if remaining < share * limit), 1.0)
            if share < self._scarce:
                tell = self.context.log.warning if share == min(_SCARCE) else self.context.log.info
                tell("GitHub quota runs low", remaining=int(remaining), limit=int(limit))
            self._scarce = share

    def _refusal(self, answer: Answer) -> TransientError:
        now = self.context.clock.time()
        wait = answer.retry_after
        if number(answer.headers.get("x-ratelimit-remaining")) == 0:
            reset = number(answer.headers.get("x-ratelimit-reset"))
            wait = max(wait or 0.0, min((reset or now) - now, _LONGEST_WAIT))
        if wait is None:
            return TransientError(f"{self.api.title} refuses: {answer.text('message')[:200] or answer.status}")
        self._spent_until = now + wait
        return _spent(wait)


def _spent(wait: float) -> TransientError:
    return TransientError("GitHub rate limit exceeded", retry_after=max(wait, 1.0))
