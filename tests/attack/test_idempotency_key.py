"""An Idempotency-Key of clients that share an address cannot be guessed: it gives the notebook's token."""

from __future__ import annotations

import pytest
from realparts.serving import Serve

WISH = {"provider": "fake", "spec": "a/b/main"}


@pytest.mark.parametrize("key", ["1", "launch", "x" * 19])
async def test_key_that_can_be_guessed_is_refused(serve: Serve, key: str) -> None:
    async with serve() as live:
        headers = {"Idempotency-Key": key}
        answer = await live.client.post(f"{live.address}api/v1/launches", json=WISH, headers=headers)
        assert answer.status_code == 400
        assert "must be random, such as a UUID" in answer.json()["message"]
        assert not live.binder.sessions.known
