"""Layers that no image has used for long, at the real registry."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from realparts.parts import RealRegistry, registry
from ringbinder import Manifest
from ringbinder.testing import FakeClock
from ringbinder_layers.grouping import Group, group
from ringbinder_layers.index import LayerIndex
from ringbinder_layers.records import Record
from ringbinder_layers.retention import Retention
from ringbinder_registries.layout import OciLayoutRegistry

from .conftest import Start
from .gate import Gate
from .places import KEEP_SECONDS, PLACE, Process, alone, content_of, package, process_of

pytestmark = pytest.mark.real("docker-registry")

DAY_SECONDS = 86_400.0
KEEP_DAYS = KEEP_SECONDS / DAY_SECONDS
OLD, USED = (group([package(name, 5000)]) for name in ("old", "used"))


def key(groups: tuple[Group, ...]) -> str:
    return PLACE.key(groups[0])


async def tags(process: Process) -> set[str]:
    return set(await process.registry.list_tags(process.layers))


async def test_layers_that_no_image_uses_are_removed(start: Start, clock: FakeClock) -> None:
    process = start(clock)
    await process.build("old", OLD)
    await process.build("used", USED)
    clock.now += KEEP_SECONDS / 2
    await process.build("other", USED)
    clock.now += KEEP_SECONDS / 2 + 2 * DAY_SECONDS
    assert await Retention(process.index).prune() == 1
    assert await tags(process) == {key(USED)}
    assert await process.read("old") == [content_of(OLD[0]), b"text"], "the image has it all the same"


async def test_removed_layer_is_made_again(start: Start, clock: FakeClock) -> None:
    process = start(clock)
    await process.build("image", OLD)
    clock.now += KEEP_SECONDS + 2 * DAY_SECONDS
    assert await Retention(process.index).prune() == 1
    process.made.clear()
    await start(clock).build("other", OLD)
    await process.build("image", OLD)
    assert process.made == []
    assert await tags(process) == {key(OLD)}


@pytest.mark.parametrize(("days", "writes"), [(0.05, 0), (0.09, 0), (0.12, 1)])
async def test_use_is_written_down_now_and_then(
    start: Start, clock: FakeClock, gate: Gate, days: float, writes: int
) -> None:
    await start(clock).build("image", USED)
    process = start(clock)
    clock.now += days * KEEP_SECONDS
    before = gate.count("PUT", f"{process.path(process.layers)}/manifests/")
    for name in ("second", "third", "fourth"):
        await process.build(name, USED)
    assert gate.count("PUT", f"{process.path(process.layers)}/manifests/") - before == writes


async def test_tags_that_cannot_be_written_again_fail_no_build(start: Start, clock: FakeClock, gate: Gate) -> None:
    await start(clock).build("image", USED)
    clock.now += KEEP_SECONDS / 2
    process = start(clock)
    gate.refuses = lambda request: request.method == "PUT" and key(USED) in request.path
    await process.build("second", USED)
    assert process.made == []


async def test_record_renewed_by_another_process_stays(start: Start, clock: FakeClock) -> None:
    process, other = start(clock), start(clock)
    await process.build("image", USED)
    retention = Retention(process.index)
    await retention.prune()
    clock.now += KEEP_SECONDS / 2
    await other.build("other", USED)
    clock.now += KEEP_SECONDS / 2 + 2 * DAY_SECONDS
    assert await retention.prune() == 0
    assert await tags(process) == {key(USED)}


async def test_record_renewed_while_it_is_removed_stays(start: Start, clock: FakeClock, gate: Gate) -> None:
    process, other = start(clock), start(clock)
    await process.build("image", USED)
    clock.now += KEEP_SECONDS + 2 * DAY_SECONDS

    async def renew(request: object) -> None:
        if getattr(request, "method", "") == "DELETE":
            gate.before = lambda request: None
            await other.build("other", USED)

    gate.before = renew
    await Retention(process.index).prune()
    assert await tags(process) == {key(USED)}


async def test_records_are_read_once(start: Start, clock: FakeClock, gate: Gate) -> None:
    process = start(clock)
    await process.build("image", USED)
    retention = Retention(process.index)
    await retention.prune()
    reads = gate.count("GET", "/manifests/")
    for _ in range(3):
        clock.now += DAY_SECONDS
        await retention.prune()
    assert gate.count("GET", "/manifests/") == reads


async def test_records_are_read_in_several_runs(
    start: Start, clock: FakeClock, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringbinder_layers.retention._MOST_READS", 2)
    process = start(clock)
    await process.build("image", alone(package(name) for name in ("a", "b", "c")))
    retention = Retention(process.index)
    reads = gate.count("GET", "/manifests/")
    for expected in (2, 3, 3):
        await retention.prune()
        assert gate.count("GET", "/manifests/") - reads == expected


@pytest.mark.parametrize(
    ("name", "reads"), [("account/binder-layers", 50), ("docker.io/a/layers", 50), ("ghcr.io/a/layers", 20_000)]
)
async def test_few_records_of_docker_hub_are_read(start: Start, name: str, reads: int) -> None:
    index = LayerIndex(start().context, name, KEEP_SECONDS)
    assert Retention(index)._most_reads == reads


async def test_locks_are_removed_and_other_tags_stay(start: Start, clock: FakeClock) -> None:
    process = start(clock)
    record = await process.index.records.write(Record("lock-abc", annotations={"of": "a lock"}), b"a lock")
    assert await process.index.records.read("lock-abc") == record
    assert await process.index.records.read_content(record) == b"a lock"
    manifest = await process.registry.read_manifest(process.layers, "lock-abc")
    assert manifest is not None
    other = Manifest(manifest.media_type, manifest.content.replace(b"org.ringbinder.", b"org.example."))
    await process.registry.put_manifest(process.layers, "latest", other)
    retention = Retention(process.index)
    assert await retention.prune() == 0
    clock.now += KEEP_SECONDS + 2 * DAY_SECONDS
    assert await retention.prune() == 1
    assert await tags(process) == {"latest"}


async def test_private_layers_are_forgotten(start: Start, clock: FakeClock) -> None:
    process = start(clock)
    await process.build("image", group([package("ours", shared=False)]))
    retention = Retention(process.index)
    await retention.prune()
    assert len(await process.context.store.items()) == 1
    clock.now += KEEP_SECONDS + 2 * DAY_SECONDS
    await retention.prune()
    assert await process.context.store.items() == {}


async def test_registry_without_a_right_to_delete_ends_no_job(start: Start, clock: FakeClock, gate: Gate) -> None:
    process = start(clock)
    await process.build("image", USED)
    clock.now += KEEP_SECONDS + 2 * DAY_SECONDS
    gate.refuses = lambda request: request.method == "DELETE"
    with structlog.testing.capture_logs() as logs:
        await Retention(process.index)._run()
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["layers that no image uses are kept"]
    assert await tags(process) == {key(USED)}


async def test_job_runs_daily_and_not_at_once(start: Start, clock: FakeClock, gate: Gate) -> None:
    await start(clock).build("image", OLD)
    other = start()
    turned = FakeClock(now=clock.now + KEEP_SECONDS + 2 * DAY_SECONDS)
    process = start(turned)
    Retention(process.index).start()
    gate.passed.clear()
    await turned.advance(60)
    assert gate.passed == []
    await turned.advance(DAY_SECONDS / 2)
    while await tags(other) or turned.sleepers == 0:
        await turned.advance(1)
    assert turned.sleeps[-1] == DAY_SECONDS
    await process.context.tasks.close()


async def test_layers_kept_for_ever_are_not_looked_at(start: Start) -> None:
    clock = FakeClock()
    process = start(clock)
    index = LayerIndex(process.context, process.layers, 0.0)
    Retention(index).start()
    await clock.advance(0)
    assert clock.sleepers == 0
    assert not index.context.tasks._running


async def test_repository_without_records_is_removed(tmp_path: Path, clock: FakeClock) -> None:
    """At a registry that can: the CNCF registry cannot."""
    folder = tmp_path / "layouts"
    process = process_of(tmp_path / "process", "", clock, OciLayoutRegistry, folder=folder)
    await process.build("image", OLD)
    assert await process.read("image") == [content_of(OLD[0]), b"text"]
    assert {path.name for path in folder.iterdir()} == {"image", "layers"}
    clock.now += KEEP_SECONDS + 2 * DAY_SECONDS
    assert await Retention(process.index).prune() == 1
    assert {path.name for path in folder.iterdir()} == {"image"}
    assert await process.read("image") == [content_of(OLD[0]), b"text"]
    await process.close()


@pytest.fixture
async def own_gate(tmp_path: Path, open_registry: RealRegistry) -> AsyncIterator[tuple[Gate, RealRegistry]]:
    """A registry of this test alone, whose clean-up may take what no tag has."""
    with registry(tmp_path / "registry") as running:
        async with Gate.open(running.url) as gate:
            yield gate, running


async def test_images_survive_the_registrys_clean_up(
    start: Start, clock: FakeClock, own_gate: tuple[Gate, RealRegistry], tmp_path: Path
) -> None:
    way, running = own_gate
    process = start(clock, way=way)
    await process.build("image", [*OLD, *USED])
    blobs = len(list(running.data.rglob("blobs/**/data")))
    clock.now += KEEP_SECONDS + 2 * DAY_SECONDS
    assert await Retention(process.index).prune() == 2
    config = tmp_path / "registry" / "config.yml"
    subprocess.run(
        ["docker-registry", "garbage-collect", "--delete-untagged", str(config)], check=True, capture_output=True
    )
    assert len(list(running.data.rglob("blobs/**/data"))) < blobs
    assert await process.read("image") == [content_of(OLD[0]), content_of(USED[0]), b"text"]
    # A process that has known them all notices what is gone, and mounts or makes it again.
    await process.build("second", [*OLD, *USED])
    assert await process.read("second") == [content_of(OLD[0]), content_of(USED[0]), b"text"]
