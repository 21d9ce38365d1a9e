"""The builders that are asked for a repository, in which order, and where builds wait for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Self

from attrs import Factory, define, field

from ..config.settings import RingbinderSettings, in_order
from ..errors import UserError
from ..model import Declined, Image, Plan, Repo
from ..plugins.manager import Plugins
from ..runtime.waiting_line import WaitingLine
from . import image_names as naming


@define
class Builders:
    """The builders of the configuration, in the order in which they are asked.

    A place in the line of all builds is taken last: a build that waits for its builder keeps no other from building.
    """

    names: tuple[str, ...]
    line: WaitingLine
    """Where all builds wait that are too many at a time."""
    limits: Mapping[str, int] = field(factory=dict)
    """How many builds a builder takes at a time, where that is less than all."""
    image_prefix: str = ""
    apart: bool = False
    """Each builder's images have names of their own."""
    _lines: Mapping[str, WaitingLine] = field(
        init=False, default=Factory(lambda self: {b: WaitingLine(n) for b, n in self.limits.items()}, takes_self=True)
    )

    @classmethod
    def of(cls, plugins: Plugins, settings: RingbinderSettings, most: int, image_prefix: str) -> Self:
        """Those of the configuration, which together build `most` images at a time."""
        limits = {name: own for name in settings.builders if (own := plugins.builds_at_once(name)) and own < most}
        # A registry has one image of a name, whatever made it, as BinderHub's do; a folder is its builder's.
        return cls(settings.builders, WaitingLine(most), limits, image_prefix, plugins.image_kind == "folder")

    def plans(self, repo: Repo) -> dict[str, Plan]:
        """What each builder that is asked for `repo` would make, in the order in which they are asked."""
        names = in_order(repo.settings.get("builder", self.names))
        image = naming.image_name(self.image_prefix, repo.slug, repo.ref)
        build = naming.build_name(repo.slug, repo.ref)
        return {name: Plan(repo, f"{image}+{name}" if self.apart else image, build) for name in names}

    def plan_of(self, image: Image, plan: Plan) -> Plan:
        """What `image` was made for, `plan` being that of the builder that was asked first."""
        return next((other for other in self.plans(plan.repo).values() if other.image == image.name), plan)

    @asynccontextmanager
    async def place(self, builder: str, tell: Callable[[int], None]) -> AsyncIterator[None]:
        """Holds a place for a build; `tell` is called with the number of builds before it, when that changes."""
        own = self._lines.get(builder)
        async with own.place(tell) if own else nullcontext(), self.line.place(tell):
            yield

    def full(self, repo: Repo) -> bool:
        """Whether a build of `repo` that comes now must wait for the builder that is asked first."""
        own = self._lines.get(next(iter(self.plans(repo))))
        return self.line.full or bool(own and own.full)


def no_builder(declined: Mapping[str, Declined]) -> UserError:
    """The error of a repository that every builder has declined."""
    answers = "; ".join(f"{answer.reason} ({builder})" for builder, answer in declined.items())
    advice = dict.fromkeys(answer.advice for answer in declined.values() if answer.advice)
    message = " ".join([f"No builder here takes this repository: {answers}.", *advice])
    return UserError("unsupported-file", message)
