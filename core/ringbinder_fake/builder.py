"""Builds that only talk."""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import frozen
from ringbinder import Builder, ByteSize, Context, Duration, Image, ImageKind, Log, Plan, Target, option

from .faults import FakeOptions, Faults

_LINES_IN_A_ROW: Final = 2


@frozen
class FakeBuilderOptions(FakeOptions):
    build_seconds: Duration = option(0.0, help="How long the build is silent before its first line.")
    lines: int = option(20, help="Number of lines in the log.")
    line_bytes: ByteSize = option(80, help="Size of each line, with its line end.")
    lines_per_second: float = option(0.0, help="Speed of the log; 0: as fast as it can.")


class FakeBuilder(Builder[FakeBuilderOptions]):
    """Writes lines and gives back the name of an image; one that is to fail does so after its lines."""

    Config = FakeBuilderOptions
    sections = ("Fake", "FakeBuilder")
    makes: ClassVar[ImageKind] = "oci"

    def __init__(self, config: FakeBuilderOptions, context: Context) -> None:
        super().__init__(config, context)
        self._faults = Faults(config)

    async def build(self, plan: Plan, target: Target, log: Log) -> Image:
        log.line(f"Fake build of {plan.image}: nothing is built\n")
        await self.context.clock.sleep(self.config.build_seconds)
        await self._talk(log)
        await self._faults.at("build")
        return Image(target.reference, self.makes)

    async def _talk(self, log: Log) -> None:
        clock, rate, count = self.context.clock, self.config.lines_per_second, self.config.lines
        start = clock.monotonic()
        for number in range(count):
            # By a timetable: a late line does not delay the ones after it.
            early = start + number / rate - clock.monotonic() if rate > 0 else 0.0
            if early > 0 or number % _LINES_IN_A_ROW == 0:
                await clock.sleep(max(early, 0.0))
            text = f"Fake build: line {number + 1} of {count} ".ljust(self.config.line_bytes - 1, ".")
            log.line(text[: max(self.config.line_bytes - 1, 0)] + "\n")
