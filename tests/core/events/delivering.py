"""A delivery to sinks of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringbinder.config.event_settings import DeliverySettings
from ringbinder.events.delivery import Delivery
from ringbinder.events.emit_rates import EmitRates
from ringbinder.events.queues import Send
from ringbinder.runtime.services import Services


def delivering(sinks: Mapping[str, DeliverySettings], send: Send, services: Services, **more: Any) -> Delivery:
    delivery = Delivery(send, services, EmitRates(services.log, services.metrics, 50.0), **more)
    for name, settings in sinks.items():
        delivery.add(name, settings)
    return delivery
