"""Build tokens: what a launch page gives its visitor, so that the rate limit does not count that launch.

Source of the claims: BinderHub's build token (protocol reference, section 1.3).
"""

from __future__ import annotations

import secrets
import time

import jwt
from attrs import field, frozen
from ringbinder.config.settings import BinderHubSettings

_ALGORITHM = "HS256"


@frozen
class BuildTokens:
    """Makes and checks them. Replicas that share `key` know each other's."""

    key: bytes = field(repr=False)
    good_for: float = 300.0
    """Seconds."""
    check_origin: bool = True

    @classmethod
    def of(cls, settings: BinderHubSettings) -> BuildTokens:
        secret = settings.build_token_secret
        key = bytes.fromhex(secret.reveal()) if secret else secrets.token_bytes(32)
        return cls(key, settings.build_token_expires_seconds, settings.build_token_check_origin)

    def make(self, provider: str, spec: str, origin: str) -> str:
        """A token for one link (`spec` as it stands there) and the host that the page is read from."""
        claims = {"exp": int(time.time() + self.good_for), "aud": f"{provider}/{spec}", "origin": origin}
        return jwt.encode(claims, self.key, algorithm=_ALGORITHM)

    def is_good(self, token: str, provider: str, spec: str, origin: str) -> bool:
        """Whether `token` was made for this link, is not too old, and is used from the host it was made for."""
        try:
            claims = jwt.decode(
                token,
                self.key,
                algorithms=[_ALGORITHM],
                audience=f"{provider}/{spec}",
                options={"require": ["exp", "aud", "origin"]},
            )
        except jwt.InvalidTokenError:
            return False
        return not self.check_origin or claims["origin"] == origin
