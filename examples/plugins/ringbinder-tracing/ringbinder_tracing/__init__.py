"""The plugin `tracing`: a span of OpenTelemetry around every stage."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from ringbinder import Context, Image, LaunchRequest, NoOptions, Plan, Plugin, Stage

T = TypeVar("T")


class Tracing(Plugin[NoOptions]):
    """A wrapper of all stages: what its `yield` gives is the stage's awaited result."""

    plugin_api = 1

    def __init__(self, config: NoOptions, context: Context) -> None:
        from opentelemetry import trace

        super().__init__(config, context)
        self._tracer = trace.get_tracer("ringbinder")

    def around_stage(
        self, stage: Stage, request: LaunchRequest | None, plan: Plan | None, image: Image | None
    ) -> Generator[None, T, T]:
        attributes: dict[str, str] = {}
        if request is not None:
            attributes |= {"provider": request.provider, "spec": request.spec}
        if plan is not None:
            attributes |= {"repo": plan.repo.url, "ref": plan.repo.ref, "image": plan.image}
        if image is not None:
            attributes["image"] = image.name
        named = {f"ringbinder.{name}": value for name, value in attributes.items()}
        with self._tracer.start_as_current_span(f"ringbinder {stage}", attributes=named):
            return (yield)
