"""The real registry with tokens: what it refuses means, and what the doctor leaves in it."""

from __future__ import annotations

from typing import Any

import pytest
from realparts.parts import PASSWORD
from realparts.token_server import READER
from ringbinder.errors import ConfigError

from .conftest import Make, plan

pytestmark = pytest.mark.real("docker-registry")


async def test_missing_repository_behind_a_401_is_none(token_registry: Any, make: Make) -> None:
    running = token_registry("hub").registry
    image = plan(f"{running.host}/somebody/x:1")
    assert await make(url=running.url, username="builder", password=PASSWORD).check(image, fresh=True) is None
    with pytest.raises(ConfigError, match="does not accept the password of builder"):
        await make(url=running.url, username="builder", password="other").check(image, fresh=True)
    with pytest.raises(ConfigError, match=r"set DockerRegistry\.username and password"):
        await make(url=running.url).check(image, fresh=True)


@pytest.mark.parametrize("behaviour", ["hub", "strict"])
async def test_doctor_with_a_read_only_password_is_reported(token_registry: Any, make: Make, behaviour: Any) -> None:
    running = token_registry(behaviour).registry
    registry = make(url=running.url, username=READER, password=PASSWORD, image_prefix=f"{running.host}/{READER}/x-")
    *_, finding = await registry.doctor()
    assert (finding.level, finding.fix) == ("error", ""), "the login is right"
    assert f"does not let us push to {READER}/x-ringbinder-doctor; the password is right" in finding.message


async def test_doctor_leaves_nothing_in_the_registry(
    open_registry: Any, password_registry: Any, token_registry: Any, make: Make
) -> None:
    for running in (open_registry, password_registry, token_registry("strict").registry):
        prefix = f"{running.host}/builder/doctored-"
        registry = make(url=running.url, username="builder", password=PASSWORD, image_prefix=prefix)
        *_, finding = await registry.doctor()
        assert "lets us push to builder/doctored-ringbinder-doctor" in finding.message
        left = {path.name for path in running.data.rglob("*doctor*/**/*")}
        # The registry's own residue of a cancelled upload, which it purges.
        assert not left & {"startedat", "data", "link"}, left
