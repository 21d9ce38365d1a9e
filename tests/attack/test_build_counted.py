"""A build whose files cannot be counted, or that takes away its own folders, makes no image."""

from __future__ import annotations

import pytest
from realparts.embedded import Embedded
from ringbinder.errors import BuildError

pytestmark = pytest.mark.real("uv")

DEEP = "#!/usr/bin/env python\nimport os\nfor _ in range(250):\n    os.mkdir('d'); os.chdir('d')\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        (DEEP, "build-limit", "cannot be measured"),
        ('#!/bin/sh\ncd .. && mv repo gone && ln -s /etc repo\n', "bad-image", "its folder repo"),
        ('#!/bin/sh\ncd .. && rm -r home && mkfifo home\n', "bad-image", "its folder home"),
        ('#!/bin/sh\nmv "$VIRTUAL_ENV" ../gone && ln -s gone "$VIRTUAL_ENV"\n', "bad-image", "its folder env"),
    ],
)  # fmt: skip
async def test_build_that_spoils_its_folders_fails(embedded: Embedded, script: str, code: str, message: str) -> None:
    plan = embedded.plan({"postBuild": script})

    with pytest.raises(BuildError, match=message) as caught:
        await embedded.build(plan)

    assert caught.value.code == code
    assert await embedded.registry.check(plan, fresh=True) is None
