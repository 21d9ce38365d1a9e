"""Each kind of error becomes the right `failed` event; what is no reader's business stays in the log."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from ringbinder import (
    BuildError,
    ConfigError,
    CredentialsError,
    Diagnosis,
    Failure,
    PluginError,
    Refused,
    Secret,
    TransientError,
    UserError,
)
from ringbinder.launches.failures import Explainer
from ringbinder.plugins.caller import HookCaller
from ringbinder.runtime.metrics import Metrics
from structlog.testing import capture_logs


class Doctor:
    """Answers as it was made to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Failure] = []

    async def diagnose(self, failure: Failure) -> Diagnosis | None:
        self.asked.append(failure)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


def explainer(answer: Any = None) -> Explainer:
    log = structlog.get_logger()
    hooks = HookCaller(log)
    hooks.register(Doctor(answer), "plugin:doctor", general=True)
    return Explainer(hooks, log, Metrics())


async def explained(error: Exception, answer: Any = None, **data: Any) -> tuple[str, dict[str, Any]]:
    event = await explainer(answer).event("build", error, **data)
    assert event.phase == "failed"
    assert event.json
    return event.message, dict(event.data)


@pytest.mark.parametrize(
    ("error", "message", "data"),
    [
        (UserError("spec-invalid", "No such link."), "No such link.\n", {"code": "spec-invalid"}),
        (BuildError("A pin is broken."), "A pin is broken.\n", {"code": "build-failed"}),
        (Refused("Banned."), "Banned.\n", {"code": "refused", "status_code": 403}),
        (
            Refused("Too many.", retry_after=30.5, status=429),
            "Too many.\n",
            {"code": "refused", "status_code": 429, "retry_after": 30.5},
        ),
        (
            TransientError("The host is down."),
            "The host is down. Please try again in a moment.\n",
            {"code": "try-again", "status_code": 503},
        ),
        (
            TransientError("Busy", 9.6),
            "Busy. Please try again in 10 seconds.\n",
            {"code": "try-again", "status_code": 503, "retry_after": 9.6},
        ),
        (
            TransientError("The quota is spent", 2401.0),
            "The quota is spent. Please try again in 41 minutes.\n",
            {"code": "try-again", "status_code": 503, "retry_after": 2401.0},
        ),
    ],
)
async def test_errors_with_a_message_for_the_reader(error: Exception, message: str, data: dict[str, Any]) -> None:
    assert await explained(error) == (message, data)
    assert await explained(error, log="api/x") == (message, {**data, "log": "api/x"})


async def test_known_error_has_advice_unless_a_plugin_gives_more() -> None:
    error = BuildError("It took longer than an hour.", "build-timeout")
    _, data = await explained(error)
    assert "ask the operator" in data["advice"]
    _, data = await explained(error, Diagnosis("It waits for input.", advice="Take out the question."))
    assert data["advice"] == "Take out the question."
    _, data = await explained(BuildError("It ended."), Diagnosis("Memory ran out.", code="out-of-memory"))
    assert "memory" in data["advice"]


@pytest.mark.parametrize("error", [KeyError("inner workings"), PluginError("x", "inner workings", "build")])
async def test_a_bug_is_an_id_that_the_log_explains(error: Exception) -> None:
    with capture_logs() as logs:
        message, data = await explained(error)
    assert "inner workings" not in message
    assert data == {"code": "internal-error", "status_code": 500, "error_id": data["error_id"]}
    assert data["error_id"] in message
    (entry,) = logs
    assert (entry["error_id"], entry["exc_info"], entry["log_level"]) == (data["error_id"], error, "error")


async def test_a_breach_of_contract_is_counted_for_its_plugin() -> None:
    teller = explainer()
    await teller.event("build", PluginError("builder:x", "no image", "build"))
    labels = {"plugin": "builder:x", "hook": "build"}
    assert teller.metrics.registry.get_sample_value("ringbinder_plugin_errors_total", labels) == 1


ALL_KINDS = [
    UserError("spec-invalid", "m"),
    Refused("m"),
    TransientError("m"),
    RuntimeError("m"),
    PluginError("p", "m"),
]


@pytest.mark.parametrize("error", ALL_KINDS, ids=lambda error: type(error).__name__)
async def test_diagnosis_is_shown_for_any_error(error: Exception) -> None:
    answer = Diagnosis("numpy 9 does not exist.", "numpy==9", "Use an older one.", "no-version")
    message, data = await explained(error, answer)
    assert (data["line"], data["advice"], data["code"]) == ("numpy==9", "Use an older one.", "no-version")
    assert data["cause"] == "numpy 9 does not exist."
    assert (message == "numpy 9 does not exist.\n") == isinstance(error, UserError)


@pytest.mark.parametrize("error", ALL_KINDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "broken",
    [RuntimeError("broken"), "no diagnosis", Diagnosis(5, object())],  # type: ignore[arg-type]
    ids=["raises", "type", "fields"],
)
async def test_a_broken_diagnosis_is_harmless(error: Exception, broken: Any) -> None:
    with capture_logs() as logs:
        message, data = await explained(error, broken)
    assert data.keys() <= {"code", "status_code", "error_id"}
    assert message.startswith("Internal error" if "error_id" in data else "m")
    assert [entry for entry in logs if entry["event"] == "a plugin failed, and was passed over"]


async def test_refused_credentials_are_not_the_persons_fault() -> None:
    with capture_logs() as logs:
        message, data = await explained(
            CredentialsError("DockerRegistry.password", "the registry r.example refuses us")
        )
    assert "not your fault" in message
    assert "r.example" not in message
    assert (data["code"], data["status_code"]) == ("operator-credentials", 500)
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["error"] == "DockerRegistry.password: the registry r.example refuses us"


async def test_wrong_configuration_is_shown_to_its_author() -> None:
    error = ConfigError(["A.b: wrong", "C.d: wrong, too"])
    with capture_logs() as logs:
        event = await explainer().event("build", error, local=True)
    assert event.message == "A.b: wrong\nC.d: wrong, too\n"
    assert event.data["code"] == "configuration-wrong"
    assert not logs
    refused = await explainer().event("push", CredentialsError("A.b", "it refuses us"), local=True)
    assert (refused.message, refused.data["code"]) == ("A.b: it refuses us\n", "operator-credentials")


async def test_diagnose_is_given_the_tail_and_shows_no_secret() -> None:
    secret = Secret("correct horse")
    teller = explainer(Diagnosis("It said correct horse.", "correct horse", "correct horse"))
    event = await teller.event("push", BuildError("correct horse"), tail=["a", "b"])
    assert b"correct horse" not in event.json
    (doctor,) = [p for p in teller.hooks._manager.get_plugins() if isinstance(p, Doctor)]
    assert (doctor.asked[0].stage, doctor.asked[0].tail) == ("push", ("a", "b"))
    assert secret
