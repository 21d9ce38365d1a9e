"""The builders that are asked for a repository, in which order, and where builds wait for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from attrs import define, field

from ..config.settings import RingbinderSettings, in_order
from ..errors import UserError
from ..model import Declined, Image, Plan, Repo
from ..plugins.hookspecs import Ticket
from ..plugins.manager import PlaceOfBuild, Plugins
from ..runtime.waiting_line import WaitingLine, queue_notice
from . import image_names as naming


@define
class Builders:
    """The builders of the configuration, in the order in which they are asked."""

    names: tuple[str, ...]
    line: WaitingLine
    """Where builds wait that are too many at a time, of all builders or of one."""
    image_prefix: str = ""
    apart: bool = False
    """Each builder's images have names of their own."""
    places: Mapping[str, PlaceOfBuild] = field(factory=dict)
    """Of the builders that count their builds themselves: those do not wait in `line`."""
    image: str = ""
    """The full name of what is built, in place of one made of prefix and repository; built also if it is there."""
    _waiting: Counter[str] = field(factory=Counter, init=False)

    @classmethod
    def of(cls, plugins: Plugins, settings: RingbinderSettings, most: int, image_prefix: str, image: str) -> Self:
        """Those of the configuration, which together build `most` images at a time."""
        limits = {name: own for name in settings.builders if (own := plugins.builds_at_once(name))}
        places = {name: place for name in settings.builders if (place := plugins.place_of_builds(name))}
        # A registry has one image of a name, whatever made it, as BinderHub's do; a folder is its builder's.
        apart = plugins.image_kind == "folder"
        return cls(settings.builders, WaitingLine(most, limits), image_prefix, apart, places, image)

    def plans(self, repo: Repo) -> dict[str, Plan]:
        """What each builder that is asked for `repo` would make, in the order in which they are asked."""
        names = self.names if self.image else in_order(repo.settings.get("builder", self.names))
        image = self.image or naming.image_name(self.image_prefix, repo.slug, repo.ref)
        build = naming.build_name(repo.slug, repo.ref)
        return {name: Plan(repo, f"{image}+{name}" if self.apart else image, build) for name in names}

    def plan_of(self, image: Image, plan: Plan) -> Plan:
        """What `image` was made for, `plan` being that of the builder that was asked first."""
        return next((other for other in self.plans(plan.repo).values() if other.image == image.name), plan)

    @asynccontextmanager
    async def place(self, builder: str, plan: Plan, ticket: Ticket) -> AsyncIterator[None]:
        """Holds a place for a build; who waits is shown how many are before it, when that changes."""

        def tell(before: int) -> None:
            text, queue = queue_notice(before)
            ticket.notify(text, queue=queue)

        own = self.places.get(builder)
        async with AsyncExitStack() as held:
            self._waiting[builder] += 1
            try:
                await held.enter_async_context(own(plan, ticket) if own else self.line.place(tell, builder))
            finally:
                self._waiting[builder] -= 1
            yield

    def full(self, repo: Repo) -> bool:
        """Whether a build of `repo` that comes now must wait for the builder that is asked first.

        Of one that counts its builds itself it is known only while another build waits.
        """
        builder = next(iter(self.plans(repo)))
        return self._waiting[builder] > 0 or (builder not in self.places and self.line.full_for(builder))


def no_builder(declined: Mapping[str, Declined]) -> UserError:
    """The error of a repository that every builder has declined."""
    answers = "; ".join(f"{answer.reason} ({builder})" for builder, answer in declined.items())
    advice = dict.fromkeys(answer.advice for answer in declined.values() if answer.advice)
    message = " ".join([f"No builder here takes this repository: {answers}.", *advice])
    return UserError("unsupported-file", message)
