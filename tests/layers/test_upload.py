"""Images put together from layers that are known, at the real registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from attrs import evolve
from realparts.parts import PASSWORD, RealRegistry
from ringbinder import BuildError, DigestMismatch, TransientError, digest_of
from ringbinder.testing.ociregistry import OciServer
from ringbinder_layers.grouping import Group, group
from ringbinder_layers.index import PARALLEL_REQUESTS
from ringbinder_layers.model import Base
from ringbinder_layers.upload import UploadSummary

from .conftest import Start
from .gate import Gate
from .places import PLACE, Process, alone, content_of, layer_of, package

pytestmark = pytest.mark.real("docker-registry")

SIZE = 50_000
NAMES = ["numpy", "pandas", "six"]
GROUPS = alone(package(name, SIZE) for name in NAMES)


def blob_digest(group: Group) -> str:
    return layer_of(content_of(group)).blob.digest


async def assert_whole(process: Process, name: str, groups: Any = GROUPS, text: str = "text") -> None:
    """The image's own repository has all of its layers, each of which is what its digest says."""
    assert await process.read(name) == [*map(content_of, groups), text.encode()]


async def test_known_layers_are_neither_made_nor_sent(start: Start, gate: Gate) -> None:
    first = start()
    summary = (await first.build("first", GROUPS)).summary
    assert (summary.groups, summary.known, summary.making, summary.made) == (3, 0, 0, 3)
    assert sorted(first.made) == NAMES
    assert 3 * SIZE < summary.pushed < 3 * SIZE + 1000
    sent = gate.sent
    second = start()
    summary = (await second.build("second", GROUPS, "another text")).summary
    assert second.made == []
    assert (summary.groups, summary.known, summary.made) == (3, 3, 0)
    assert summary.mounted == 3 * SIZE
    assert summary.pushed < 1000
    assert gate.sent - sent < 3000
    await assert_whole(second, "second", text="another text")


async def test_text_commit_asks_for_no_layer_again(start: Start, gate: Gate) -> None:
    process = start()
    await process.build("image", GROUPS)
    gate.passed.clear()
    summary = (await process.build("image", GROUPS, "another text")).summary
    assert gate.count("PUT", "/manifests/") == 1
    assert len(gate.passed) < 10
    assert (summary.known, summary.reused) == (3, 3 * SIZE)
    await assert_whole(process, "image", text="another text")


async def test_image_with_another_package_makes_its_layer_alone(start: Start) -> None:
    await start().build("first", GROUPS)
    process = start()
    more = alone(package(name, SIZE) for name in [*NAMES, "zarr"])
    summary = (await process.build("second", more)).summary
    assert process.made == ["zarr"]
    assert (summary.known, summary.made) == (3, 1)
    await assert_whole(process, "second", more)


async def test_registry_that_does_not_mount_is_sent_layers(start: Start, gate: Gate) -> None:
    gate.mounts = False
    await start().build("first", GROUPS)
    process = start()
    summary = (await process.build("second", GROUPS)).summary
    assert process.made == []
    assert summary.mounted == 0
    assert 3 * SIZE < summary.pushed < 3 * SIZE + 1000
    await assert_whole(process, "second")


async def test_127_packages_are_60_layers(start: Start, gate: Gate) -> None:
    open_requests, most = 0, 0

    async def count(request: web.Request) -> None:
        nonlocal open_requests, most
        open_requests += 1
        most = max(most, open_requests)

    def uncount(request: web.Request) -> None:
        nonlocal open_requests
        open_requests -= 1

    gate.before, gate.after = count, uncount
    groups = group([package(f"package-{number:03}", 500 if number % 3 else 2**19) for number in range(127)])
    process = start()
    summary = (await process.build("image", groups)).summary
    assert summary.groups == summary.made == 60
    assert len(process.made) == 127
    assert 1 < most <= PARALLEL_REQUESTS
    await assert_whole(process, "image", groups)


async def test_metric_counts_bytes_of_each_build(start: Start) -> None:
    await start().build("first", GROUPS)
    process = start()
    await process.build("second", GROUPS)
    value = process.context.metrics.registry.get_sample_value
    assert value("layers_build_bytes_sum", {"how": "mounted"}) == 3 * SIZE
    assert value("layers_build_bytes_count", {"how": "pushed"}) == 1
    assert 0 < (value("layers_build_bytes_sum", {"how": "pushed"}) or 0) < 1000


async def test_summary_is_reported_while_layers_are_made(start: Start) -> None:
    seen: list[UploadSummary] = []
    process = start()
    await process.build("image", GROUPS, upload=process.upload("image", changed=seen.append))
    assert [summary.groups for summary in seen] == [3] * len(seen)
    assert max(summary.making for summary in seen) >= 1
    assert [summary.pushed for summary in seen] == sorted(summary.pushed for summary in seen)
    assert seen[-1].made == 3
    assert str(seen[-1]) == "151 kB pushed, 0 kB mounted, 0 kB there already"


class TestMakers:
    """Several who want the same layer at the same time."""

    async def test_one_of_a_process_makes_and_others_wait(self, start: Start) -> None:
        process = start()
        uploads = await asyncio.gather(*(process.build(f"image-{number}", GROUPS) for number in range(4)))
        assert sorted(process.made) == NAMES
        assert sum(upload.summary.made for upload in uploads) == 3
        for number in range(4):
            await assert_whole(process, f"image-{number}")

    async def test_other_waits_on_where_the_maker_is_cancelled(self, start: Start) -> None:
        process = start()
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def wait(group: Group) -> None:
            begun.set()
            await go_on.wait()

        process.before_make = wait
        first = asyncio.create_task(process.build("first", GROUPS))
        await begun.wait()
        second = asyncio.create_task(process.build("second", GROUPS))
        while any(flight.waiting < 2 for flight in process.index._flights._flights.values()):
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        await second
        assert sorted(process.made) == NAMES
        await assert_whole(process, "second")

    async def test_failure_at_another_address_is_not_shared(self, start: Start) -> None:
        """A lock file of a repository may name a hash that others want, and an address where nothing is."""
        process = start()
        honest = package("numpy")
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def fail_elsewhere(group: Group) -> None:
            if group[0].url != honest.url:
                begun.set()
                await go_on.wait()
                raise BuildError("nothing is there")

        process.before_make = fail_elsewhere
        forged = evolve(honest, url="https://index.example/nothing")
        first = asyncio.create_task(process.build("first", alone([forged])))
        await begun.wait()
        await process.build("second", alone([honest]))
        go_on.set()
        with pytest.raises(BuildError):
            await first
        assert process.made == ["numpy"]

    async def test_two_processes_at_once_do_no_harm(self, start: Start) -> None:
        processes = [start(), start()]
        both_make = asyncio.Barrier(2)
        waited: set[tuple[int, str]] = set()

        def meet(number: int) -> Callable[[Group], Any]:
            async def meet(group: Group) -> None:
                if (number, group[0].name) not in waited:
                    waited.add((number, group[0].name))
                    await both_make.wait()

            return meet

        for number, process in enumerate(processes):
            process.before_make = meet(number)
        # Not the same bytes: another version of a compressor has others.
        processes[1].contents = lambda group: content_of(group) + b" by another"
        await asyncio.gather(*(process.build(f"image-{number}", GROUPS) for number, process in enumerate(processes)))
        assert [sorted(process.made) for process in processes] == [NAMES, NAMES]
        await assert_whole(processes[0], "image-0")
        assert await processes[1].read("image-1") == [*map(processes[1].contents, GROUPS), b"text"]
        third = start()
        assert (await third.build("image-2", GROUPS)).summary.known == 3
        by_either = [{content_of(each), processes[1].contents(each)} for each in GROUPS]
        assert all(layer in known for layer, known in zip(await third.read("image-2"), by_either, strict=False))


class TestVanishedBlob:
    async def test_of_the_shared_repository_is_made_again_once(self, start: Start) -> None:
        first = start()
        await first.build("first", GROUPS)
        assert await first.registry.delete_blob(first.layers, blob_digest(GROUPS[1]))
        second = start()
        summary = (await second.build("second", GROUPS)).summary
        assert second.made == ["pandas"]
        assert (summary.known, summary.made) == (2, 1)
        await assert_whole(second, "second")
        third = start()
        await third.build("third", GROUPS)
        assert third.made == []

    async def test_which_a_process_knew_is_made_again_once(self, start: Start) -> None:
        process = start()
        await process.build("first", GROUPS)
        process.made.clear()
        assert await process.registry.delete_blob(process.layers, blob_digest(GROUPS[1]))
        await process.build("second", GROUPS)
        assert process.made == ["pandas"]
        await assert_whole(process, "second")

    async def test_of_an_image_is_mounted_again(self, start: Start) -> None:
        process = start()
        await process.build("image", GROUPS)
        process.made.clear()
        assert await process.registry.delete_blob(process.image("image"), blob_digest(GROUPS[0]))
        upload = await process.build("image", GROUPS, "another text")
        assert process.made == []
        assert upload.summary.mounted == SIZE
        await assert_whole(process, "image", text="another text")

    async def test_of_both_repositories_is_made_again_once(self, start: Start) -> None:
        process = start()
        await process.build("image", GROUPS)
        process.made.clear()
        for repository in (process.image("image"), process.layers):
            assert await process.registry.delete_blob(repository, blob_digest(GROUPS[2]))
        await process.build("image", GROUPS, "another text")
        assert process.made == ["six"]
        await assert_whole(process, "image", text="another text")

    async def test_that_vanishes_each_time_is_an_outage(self, start: Start, gate: Gate) -> None:
        process = start()

        async def lose(request: web.Request) -> None:
            if request.method == "PUT" and request.path.endswith("/manifests/main"):
                gate.before = lambda request: None
                await process.registry.delete_blob(process.image("image"), blob_digest(GROUPS[2]))
                gate.before = lose

        gate.before = lose
        with pytest.raises(TransientError, match="does not keep what it is sent"):
            await process.build("image", GROUPS)
        assert await process.registry.read_manifest(process.image("image"), "main") is None
        gate.before = lambda request: None
        await process.build("image", GROUPS)
        await assert_whole(process, "image")

    async def test_before_its_record_is_sent_again(self, start: Start, gate: Gate) -> None:
        """The registry's clean-up takes a blob that no record names yet."""
        process = start()

        async def lose(request: web.Request) -> None:
            if request.method == "PUT" and "/manifests/" in request.path:
                gate.before = lambda request: None
                await process.registry.delete_blob(process.layers, blob_digest(GROUPS[0]))

        gate.before = lose
        await process.build("image", GROUPS[:1])
        assert process.made == ["numpy"]
        await assert_whole(process, "image", GROUPS[:1])


class TestOutage:
    async def test_next_try_makes_only_what_is_not_known(self, start: Start, gate: Gate) -> None:
        process = start()
        records = f"{process.path(process.layers)}/manifests/"
        begun, done, two_are_done = 0, 0, asyncio.Event()

        async def close(request: web.Request) -> None:
            nonlocal begun
            begun += request.method == "PUT" and records in request.path
            if begun == 3:
                await two_are_done.wait()
                gate.closed = True

        def count(request: web.Request) -> None:
            nonlocal done
            done += request.method == "PUT" and records in request.path
            if done == 2:
                two_are_done.set()

        gate.before, gate.after = close, count
        with pytest.raises(TransientError):
            await process.build("image", GROUPS)
        gate.before, gate.closed = (lambda request: None), False
        known = [PLACE.key(each) for each in GROUPS]
        recorded = set(await process.registry.list_tags(process.layers))
        assert len(recorded) == 2
        missing = [each[0].name for each, key in zip(GROUPS, known, strict=True) if key not in recorded]
        after = start()
        await after.build("image", GROUPS)
        assert after.made == missing
        await assert_whole(after, "image")

    async def test_registry_that_stalls_ends_the_build(self, start: Start, gate: Gate) -> None:
        process = start(request_timeout=0.5, retries=0)
        go_on = asyncio.Event()

        async def stall(request: web.Request) -> None:
            if process.path(process.image("image")) in request.path:
                await go_on.wait()

        gate.before = stall
        with pytest.raises(TransientError, match="needs more than"):
            await process.build("image", GROUPS)
        go_on.set()
        gate.before = lambda request: None
        await start().build("image", GROUPS)
        assert len(await process.registry.list_tags(process.layers)) == 3

    async def test_token_that_expires_during_a_push_is_renewed(self, start: Start, token_registry: Any) -> None:
        guarded = token_registry("strict")
        async with Gate.open(guarded.registry.url) as way:
            process = start(password=PASSWORD, way=way)

            def expire(request: web.Request) -> None:
                if way.count("PUT", "/manifests/") == 1:
                    guarded.tokens.expired = 1
                    way.before = lambda request: None

            way.before = expire
            await process.build("image", GROUPS)
            assert guarded.tokens.expired == 0
            await assert_whole(process, "image")
            after = start(password=PASSWORD, way=way)
            assert (await after.build("other", GROUPS)).summary.mounted == 3 * SIZE


async def change_record(process: Process, key: str, **changes: Any) -> None:
    manifest = await process.registry.read_manifest(process.layers, key)
    assert manifest is not None
    about = json.loads(manifest.content)
    about["annotations"] |= changes.pop("annotations", {})
    about["layers"][0] |= changes
    await process.registry.put_manifest(
        process.layers, key, type(manifest)(manifest.media_type, json.dumps(about).encode())
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"size": SIZE - 1},
        {"annotations": {"org.ringbinder.tag": "another"}},
        {"annotations": {"org.ringbinder.used": "yesterday"}},
        {"annotations": {"org.ringbinder.used": None}},
    ],
    ids=["size", "key", "day", "no day"],
)
async def test_wrong_record_is_refused_and_made_again(start: Start, changes: dict[str, Any]) -> None:
    await start().build("first", GROUPS)
    process = start()
    await change_record(process, PLACE.key(GROUPS[0]), **changes)
    await process.build("second", GROUPS)
    assert process.made == ["numpy"]
    await assert_whole(process, "second")
    after = start()
    await after.build("third", GROUPS)
    assert after.made == []


class TestDamage:
    """Blobs of the shared repository that are not what their digests say."""

    @pytest.mark.parametrize("damaged", [b"cut", content_of(GROUPS[0]).swapcase()], ids=["shorter", "other"])
    async def test_damaged_blob_is_made_again(self, server: OciServer, start: Start, damaged: bytes) -> None:
        async with Gate.open(server.url) as way:
            way.mounts = False  # one that mounts looks at no content
            first = start(way=way)
            await first.build("first", GROUPS)
            server._blobs[first.path(first.layers), blob_digest(GROUPS[0])] = damaged
            second = start(way=way)
            await second.build("second", GROUPS)
            assert second.made == ["numpy"]
            await assert_whole(second, "second")

    async def test_damage_that_stays_is_refused(self, start: Start, gate: Gate, open_registry: RealRegistry) -> None:
        """The real registry keeps a file of the digest that it has."""
        await start().build("first", GROUPS)
        digest = blob_digest(GROUPS[0]).removeprefix("sha256:")
        [file] = open_registry.data.rglob(f"blobs/sha256/{digest[:2]}/{digest}/data")
        whole = file.read_bytes()
        file.write_bytes(whole[:100])
        process = start()
        try:
            with pytest.raises(DigestMismatch, match="remove it from the registry's storage"):
                await process.build("second", GROUPS)
        finally:
            file.write_bytes(whole)
        assert await process.registry.read_manifest(process.image("second"), "main") is None
        await process.build("second", GROUPS)
        await assert_whole(process, "second")


class TestBase:
    """The layers of a base image, which may be of another registry."""

    LAYERS = tuple(layer_of(content) for content in (b"d" * 2 * SIZE, b"j" * SIZE))

    @staticmethod
    async def base(process: Process, repository: str) -> Base:
        for letter, layer in zip((b"d", b"j"), TestBase.LAYERS, strict=True):
            await process.registry.put_blob(repository, layer.blob, letter * layer.blob.size)
        return Base(
            repository, digest_of(repository.encode()), TestBase.LAYERS, {}, "linux/amd64", {}, {}, (2, 36),
            "/srv/env", "/home/jovyan", "/home/jovyan",
        )  # fmt: skip

    async def test_of_the_same_registry_is_mounted(self, start: Start, gate: Gate) -> None:
        process = start()
        base = await self.base(process, process.image("base"))
        upload = process.upload("image")
        gate.passed.clear()
        assert await upload.base(base) == self.LAYERS
        assert (upload.summary.pushed, upload.summary.mounted) == (0, 3 * SIZE)
        assert gate.sent < 3000
        for layer in self.LAYERS:
            assert await process.registry.find_blob(process.image("image"), layer.blob.digest)

    async def test_of_another_registry_is_sent_once(self, start: Start, gate: Gate, server: OciServer) -> None:
        process = start()
        base = await self.base(process, f"{server.host}/debian")
        uploads = [process.upload(name) for name in ("first", "second")]
        await asyncio.gather(*(upload.base(base) for upload in uploads))
        assert sorted(upload.summary.pushed for upload in uploads) == [0, 3 * SIZE]
        other = start().upload("third")
        await other.base(base)
        assert (other.summary.pushed, other.summary.mounted) == (0, 3 * SIZE)

    async def test_vanished_layer_is_brought_again(self, start: Start, server: OciServer) -> None:
        process = start()
        base = await self.base(process, f"{server.host}/debian")
        await process.upload("first").base(base)
        assert await process.registry.delete_blob(process.layers, self.LAYERS[0].blob.digest)
        upload = process.upload("second")
        await upload.base(base)
        assert (upload.summary.pushed, upload.summary.mounted) == (2 * SIZE, SIZE)
