"""The plugin `tracing`: a span of OpenTelemetry around every stage."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ringbinder import Context, Image, LaunchRequest, NoOptions, Plan, Plugin, hookimpl

Stage = Generator[None, Any, Any]


class Tracing(Plugin[NoOptions]):
    """Wrappers: what their `yield` gives is the stage's awaited result."""

    plugin_api = 1

    def __init__(self, config: NoOptions, context: Context) -> None:
        from opentelemetry import trace

        super().__init__(config, context)
        self._tracer = trace.get_tracer("ringbinder")

    @hookimpl(wrapper=True)
    def resolve(self, request: LaunchRequest) -> Stage:
        return (yield from self._span("resolve", provider=request.provider, spec=request.spec))

    @hookimpl(wrapper=True)
    def check(self, plan: Plan) -> Stage:
        return (yield from self._span("check", image=plan.image, repo=plan.repo.url))

    @hookimpl(wrapper=True)
    def build(self, plan: Plan) -> Stage:
        return (yield from self._span("build", image=plan.image, repo=plan.repo.url, ref=plan.repo.ref))

    @hookimpl(wrapper=True)
    def push(self, image: Image) -> Stage:
        return (yield from self._span("push", image=image.name))

    @hookimpl(wrapper=True)
    def launch(self, image: Image, request: LaunchRequest) -> Stage:
        return (yield from self._span("launch", image=image.name, provider=request.provider))

    def _span(self, stage: str, **attributes: str) -> Stage:
        named = {f"ringbinder.{name}": value for name, value in attributes.items()}
        with self._tracer.start_as_current_span(f"ringbinder {stage}", attributes=named):
            return (yield)
