"""repo2docker's command line, and what is made of its log: real logs of two versions, and any text at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import UserError
from ringbinder.model import ArchiveSource, DoiSource, FolderSource, GitSource, Plan, Repo, Source
from ringbinder.testing import RecordingLog
from ringbinder_builders.push_text import PushText
from ringbinder_builders.repo2docker import BuildExecutorOptions, LogReader, command

SAMPLES: Final = Path(__file__).parent / "samples"
LAYER: Final = "5f70bf18a086"
DIGEST: Final = "sha256:" + "ab" * 32


def plan(source: Source, ref: str = "1a2b3c") -> Plan:
    repo = Repo("https://git.example/a/b", source, ref, f"a%2Fb/{ref}", "https://git.example/a/b", "a-b")
    return Plan(repo, "registry.example/binder-a-b:1a2b3c", "build-a-b-1a2")


def read(name: str) -> tuple[RecordingLog, LogReader]:
    log = RecordingLog()
    reader = LogReader(log)
    for line in (SAMPLES / name).read_text().splitlines(keepends=True):
        reader.receive(line)
    return log, reader


def phases(log: RecordingLog) -> list[Any]:
    """The phases in the order in which they come, each once for a stretch."""
    found: list[Any] = []
    for phase, _ in log.lines:
        if found[-1:] != [phase]:
            found.append(phase)
    return found


def test_the_command_line_is_the_documented_one() -> None:
    options = BuildExecutorOptions(appendix="RUN true", repo2docker_extra_args=("--debug",))
    labels = {"org.ringbinder.builder": "docker", "org.ringbinder.builder.version": "1.0"}
    words = command(plan(GitSource("https://git.example/a/b", "1a2b3c")), options, push=True, labels=labels)
    assert words == [
        "jupyter-repo2docker", "--ref=1a2b3c", "--image=registry.example/binder-a-b:1a2b3c", "--no-clean",
        "--no-run", "--json-logs", "--user-name=jovyan", "--user-id=1000",
        "--label=org.ringbinder.builder=docker", "--label=org.ringbinder.builder.version=1.0",
        "--appendix", "RUN true", "--push",
        "--debug", "https://git.example/a/b",
    ]  # fmt: skip


def test_a_record_is_asked_for_by_its_doi() -> None:
    words = command(plan(DoiSource("10.5281/zenodo.1", "1"), "1"), BuildExecutorOptions(), push=False)
    assert words[-1] == "10.5281/zenodo.1"
    assert "--push" not in words


@pytest.mark.parametrize(
    "source",
    [
        ArchiveSource("https://files.example/a.zip"),
        FolderSource(Path("/a"), "0" * 40),
        GitSource("--config=x", "1"),
    ],
)
def test_what_it_cannot_get_is_reported(source: Source) -> None:
    with pytest.raises(UserError):
        command(plan(source), BuildExecutorOptions(), push=False)


@pytest.mark.parametrize("name", ["2026-dockerfile.jsonl", "2024-dockerfile.jsonl"])
def test_a_build_has_its_phases_in_order(name: str) -> None:
    log, reader = read(name)
    assert phases(log) == ["fetching", "building", "pushing"]
    assert reader.reason == ""
    assert "Picked Git content provider" in log.lines[0][1]


def test_the_text_of_a_push_becomes_the_state_of_its_layers() -> None:
    log, _ = read("2026-dockerfile.jsonl")
    assert "The push refers to repository [127.0.0.1:5000/r2d-dockerfile]\n" in [text for _, text in log.lines]
    assert list(log.layers[0].values()) == ["Preparing"]
    assert log.layers[-1]["5902f5d3af89"] == "Pushed"
    assert log.layers[-1]["50641a0d21bc"] == "Mounted from base"
    assert not any("Preparing" in text for phase, text in log.lines if phase == "building")


def test_of_a_large_image_every_layer_ends_well() -> None:
    log = RecordingLog()
    reader = LogReader(log)
    reader.receive('{"message": "#26 DONE 3.6s\\n", "phase": "building"}')
    for line in (SAMPLES / "2026-push.jsonl").read_text().splitlines():
        reader.receive(line)
    assert len(log.layers[-1]) > 20
    assert {state.partition(" ")[0] for state in log.layers[-1].values()} == {"Pushed", "Mounted"}


def test_the_older_versions_own_events_pass() -> None:
    log, _ = read("2024-push.jsonl")
    assert {"current": 340967936, "total": 342199912} in log.layers[-1].values()


def test_reason_of_a_failure_is_kept_without_its_traceback() -> None:
    log, reader = read("2026-failed.jsonl")
    assert reader.reason == "a command ended with exit code 1"
    assert "Traceback" not in log.text
    assert "executor failed running" in log.text


@pytest.mark.parametrize("record", [{"message": "Error during build: no space left\n", "phase": "failed"},
                                    {"message": "no space left", "phase": "failure"}])  # fmt: skip
def test_a_failure_record_is_a_line_and_the_reason(record: dict[str, str]) -> None:
    log = RecordingLog()
    reader = LogReader(log)
    reader.receive(json.dumps(record))
    assert reader.reason == "no space left"
    assert log.text == record["message"].strip()


def test_lines_of_any_form_belong_to_the_phase_before_them() -> None:
    log = RecordingLog()
    reader = LogReader(log)
    for line in [
        "a warning\n",
        '{"message": "12%\\r", "phase": "building"}',
        "{broken",
        '{"a": 1}',
        "[1]",
        "",
    ]:
        reader.receive(line)
    assert [phase for phase, _ in log.lines] == ["fetching"] + ["building"] * 5
    assert log.lines[1][1] == "12%\r"


@given(st.lists(st.text() | st.dictionaries(st.sampled_from(["message", "phase", "progress", "exc_info"]),
                                            st.none() | st.text() | st.integers() | st.dictionaries(
                                                st.text(), st.integers()))))  # fmt: skip
def test_it_takes_any_line_and_loses_none(lines: list[str | dict[str, Any]]) -> None:
    log = RecordingLog()
    reader = LogReader(log)
    for line in lines:
        reader.receive(line if isinstance(line, str) else json.dumps(line))
    assert len(log.lines) + len(log.layers) == len(lines)
    assert isinstance(reader.reason, str)


def test_buildx_with_dockers_own_driver() -> None:
    push = PushText()
    assert push.receive(f"#9 pushing layer {LAYER} 1.05MB / 10.5MB 0.2s\n") == {
        LAYER: {"current": 1_050_000, "total": 10_500_000}
    }
    assert push.receive(f"#9 pushing layer {LAYER} 10.5MB / 10.5MB 1.2s done\n") == {LAYER: "Pushed"}
    assert push.receive("#9 DONE 1.3s\n") == {LAYER: "Pushed"}
    assert push.receive("#10 DONE 1.3s\n") is None


def test_buildkit_reports_no_layers() -> None:
    push = PushText()
    assert push.receive("#12 pushing layers 3.1s done\n") == {}
    assert push.receive(f"#12 pushing manifest for registry.example/a:1@{DIGEST} 0.1s done\n") == {}


@pytest.mark.parametrize(
    "text",
    [
        f"{LAYER}: Pushed\n",
        f"#5 0.1 {LAYER}: Pushed\n",
        "#5 0.124 pushing layers\n",
        f"x: digest: {DIGEST} size: 1\n",
    ],
)
def test_what_a_repository_prints_is_no_push(text: str) -> None:
    assert PushText().receive(text) is None


states = st.sampled_from(["Preparing", "Waiting", "Pushed", "Layer already exists", "Mounted from a/b"])
amounts = st.integers(0, 10**12).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(st.lists(st.tuples(st.from_regex(r"[0-9a-f]{12}", fullmatch=True), states | amounts), min_size=1))
def test_every_layer_has_its_last_state(said: list[tuple[str, Any]]) -> None:
    push = PushText()
    assert push.receive("The push refers to repository [registry.example/a]\n") == {}
    expected: dict[str, Any] = {}
    received: Any = None
    for layer, state in said:
        if isinstance(state, tuple):
            expected[layer] = {"current": state[0], "total": state[1]}
            received = push.receive(f"{layer}: Pushing [==>   ]  {state[0]}B/{state[1]}B\r")
        else:
            expected[layer] = state
            received = push.receive(f"{layer}: {state}\n")
    assert received == expected
    push.receive(f"1a2b3c: digest: {DIGEST} size: 2201\n")
    assert push.digest == DIGEST


@given(st.lists(st.text()))
def test_any_text_is_received(lines: list[str]) -> None:
    push = PushText()
    push.receive("The push refers to repository [registry.example/a]\n")
    for line in lines:
        assert push.receive(line) is None or isinstance(push.receive(line), dict)
