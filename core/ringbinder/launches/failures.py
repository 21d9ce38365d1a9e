"""How an error becomes the `failed` event that a client reads."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define

from ..causes import log_excerpt
from ..errors import ConfigError, CredentialsError, PluginError, Refused, TransientError, UserError
from ..model import Failure, Plan, Stage
from ..plugins.caller import HookCaller
from ..protocol import Event, failed
from ..runtime.log import Logger
from ..runtime.metrics import Metrics
from ..secret import redact

_MINUTES_FROM: Final = 120.0
_ADVICE: Final[Mapping[str, str]] = {
    "build-limit": "Ask for less in the files of the repository, or ask the operator for a higher limit.",
    "build-timeout": "Ask for less in the files of the repository, or ask the operator for more time.",
    "out-of-memory": "Do less at a time in the build, or ask the operator for more memory.",
    "ref-not-found": "Check the branch, tag or commit in the link: it may have been renamed or removed.",
}
"""What to try after a well-known error of which no plugin says more, by its code."""


_CREDENTIALS: Final = (
    "A service that this launch needs refuses the credentials of this site: this is not your fault. "
    "The log tells the operator which."
)


@define
class Explainer:
    """Asks the plugins why something failed (`diagnose`); hides what is no reader's business behind an id."""

    hooks: HookCaller
    log: Logger
    metrics: Metrics

    async def event(
        self,
        stage: Stage,
        error: Exception,
        plan: Plan | None = None,
        tail: Sequence[str] = (),
        *,
        local: bool = False,
        **data: Any,
    ) -> Event:
        """The terminal event for `error`. Never raises. `local`: who reads it has written the configuration.

        Keys beside `message`: `code`, and where they are known `status_code`, `retry_after` (seconds),
        `cause`, `line`, `advice`, `error_id`. `data` holds further ones.
        """
        data = {**data, **await self._diagnosis(Failure(stage, error, log_excerpt(tail), plan))}
        match error:
            case UserError():
                data = {"code": error.code, **data}
                if advice := _ADVICE.get(data["code"]):
                    data.setdefault("advice", advice)
                return failed(data.get("cause", error.message), **data)
            case Refused():
                if error.retry_after is not None:
                    data["retry_after"] = error.retry_after
                return failed(error.reason, **{"code": "refused", "status_code": error.status, **data})
            case TransientError():
                if error.retry_after is not None:
                    data["retry_after"] = error.retry_after
                again = f"in {_words(error.retry_after)}" if error.retry_after else "in a moment"
                self.log.warning("something outside failed", stage=stage, error=redact(str(error)))
                message = f"{str(error).rstrip('.')}. Please try again {again}."
                return failed(message, **{"code": "try-again", "status_code": 503, **data})
            case ConfigError() if local:
                code = "operator-credentials" if isinstance(error, CredentialsError) else "configuration-wrong"
                return failed(redact("\n".join(error.problems)), **{"code": code, **data})
            case CredentialsError():
                self.log.error("the operator's credentials are refused", stage=stage, error=redact(str(error)))
                return failed(_CREDENTIALS, **{"code": "operator-credentials", "status_code": 500, **data})
        error_id = secrets.token_hex(4)
        self.log.error("internal error", error_id=error_id, stage=stage, exc_info=error)
        if isinstance(error, PluginError):
            self.metrics.plugin_errors.labels(error.plugin, error.hook or "").inc()
        message = f"Internal error, id {error_id}: this is not your fault. The log tells the operator why."
        return failed(message, **{"code": "internal-error", "status_code": 500, **data, "error_id": error_id})

    async def _diagnosis(self, failure: Failure) -> dict[str, Any]:
        """What the plugins say, as keys of the event."""
        try:
            answer = await self.hooks.diagnose(failure=failure)
            if answer is None:
                return {}
            reason = {key: getattr(answer, key) for key in ("cause", "line", "advice", "code")}
            return {key: redact(value) for key, value in reason.items() if value}
        except Exception:
            self.log.exception("diagnose failed")
            return {}


def _words(seconds: float) -> str:
    """A wait for people: of minutes, whole ones and none too few."""
    return f"{seconds:.0f} seconds" if seconds < _MINUTES_FROM else f"{math.ceil(seconds / 60)} minutes"
