"""What programs and browsers get from all other routes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from ringbinder.errors import TransientError
from ringbinder.model import Health, Server
from ringbinder.runtime.store import KeptLog
from ringbinder.secret import Secret
from ringbinder_server.serve import loggable

if TYPE_CHECKING:
    from tests.server.conftest import Serve

SECRET = Secret("swordfish-token")


class Healthy:
    async def health(self) -> Health:
        return Health("Docker registry", ok=True)


class Pods:
    async def health(self) -> Health:
        return Health("Pod quota", ok=False, detail={"quota": 250, "total_pods": 300}, ignore_failure=True)


class Sick:
    async def health(self) -> Health:
        raise TransientError(f"no answer with {SECRET.reveal()}")


async def test_health(serve: Serve) -> None:
    async with serve() as live:
        hooks = live.binder.plugins.hooks
        hooks.register(Healthy(), "healthy", general=True)
        hooks.register(Pods(), "pods", general=True)
        response = await live.client.get(live.address + "health")
        assert response.status_code == 200
        answer = response.json()
        assert answer["ok"] is True
        assert {"service": "Docker registry", "ok": True} in answer["checks"]
        pods = {"service": "Pod quota", "ok": False, "quota": 250, "total_pods": 300, "_ignore_failure": True}
        assert pods in answer["checks"]
        hooks.register(Sick(), "sick", general=True)
        assert (await live.client.get(live.address + "health")).json() == answer, "it is good for 15 seconds"
    async with serve() as live:
        live.binder.plugins.hooks.register(Sick(), "sick", general=True)
        response = await live.client.get(live.address + "health")
        assert response.status_code == 503
        assert response.json()["ok"] is False
        sick = [check for check in response.json()["checks"] if check["service"] == "sick"]
        assert sick == [{"service": "sick", "ok": False, "message": "no answer with [secret]"}]
        head = await live.client.head(live.address + "health")
        assert (head.status_code, head.content) == (503, b"")


class Unlisted:
    """A launcher's answer that does not come."""

    async def servers(self) -> Sequence[Server]:
        raise TransientError("the launcher does not answer")


async def test_health_has_binderhubs_lines_in_every_mode(serve: Serve) -> None:
    async with serve() as live:
        assert (await live.events("build/fake/a/b/c"))[-1]["phase"] == "ready"
        checks = (await live.client.get(live.address + "health")).json()["checks"]
    assert {"service": "JupyterHub API", "ok": True} in checks
    pods = {"total_pods": 1, "build_pods": 0, "user_pods": 1, "quota": None}
    assert {"service": "Pod quota", "ok": True, "_ignore_failure": True, **pods} in checks


async def test_health_reports_that_no_servers_are_listed(serve: Serve) -> None:
    async with serve() as live:
        live.binder.plugins.hooks.register(Unlisted(), "unlisted", general=True)
        response = await live.client.get(live.address + "health")
        assert response.status_code == 503
        why = "the launcher does not answer"
        assert response.json()["checks"] == [
            {"service": "Pod quota", "ok": False, "message": why, "_ignore_failure": True},
            {"service": "JupyterHub API", "ok": False, "message": why},
        ]


@pytest.mark.parametrize("path", ["", "v2/fake/owner/name/main", "about"])
async def test_pages_have_the_element_of_binderhubs(serve: Serve, path: str) -> None:
    async with serve() as live:
        text = (await live.client.get(live.address + path)).text
    assert '<div id="root"></div>' in text


async def test_versions_are_stable(serve: Serve) -> None:
    async with serve({"FakeRegistry.cached": "true"}) as live:
        before = await live.client.get(live.address + "versions")
        await live.events("build/fake/a/b/c")
        after = await live.client.get(live.address + "versions")
        assert before.headers["content-type"] == "application/json"
        assert before.content == after.content
        assert set(before.json()) == {"builder_info", "binderhub", "ringbinder", "ringbinder_builder"}
        # The keys of BinderHub's, and no others: its tests compare the whole.
        assert before.json()["builder_info"] == {}
        assert before.json()["ringbinder_builder"] == "fake"


async def test_versions_of_several_builders_name_all(serve: Serve) -> None:
    instances = json.dumps({"second": {"plugin": "fake", "kind": "builder"}})
    async with serve({"Ringbinder.builder": '["second", "fake"]', "Ringbinder.instances": instances}) as live:
        versions = (await live.client.get(live.address + "versions")).json()
        assert (versions["ringbinder_builder"], versions["builder_info"]) == ("second, fake", {})
        assert (await live.events("build/fake/a/b/c"))[-1]["phase"] == "ready"


async def test_metrics(serve: Serve) -> None:
    async with serve() as live:
        await live.events("build/fake/a/b/c")
        response = await live.client.get(live.address + "metrics")
        assert response.headers["content-type"].startswith("text/plain; version=")
        for line in (
            'binderhub_build_time_seconds_bucket{le="60.0",status="success"} 1.0',
            'binderhub_launch_time_seconds_count{retries="0",status="success"} 1.0',
            'binderhub_build_count_total{provider="fake",repo="https://fake.invalid/a/b",status="success"} 1.0',
            "binderhub_inprogress_builds 0.0",
        ):
            assert line in response.text.splitlines()
        assert "process_resident_memory_bytes" in response.text


async def test_what_a_link_means(serve: Serve) -> None:
    async with serve({"BinderHub.base_url": "binder"}) as live:
        text = "https://mybinder.org/v2/fake/a/b%2Fc/feature/x?labpath=n b.ipynb"
        response = await live.client.get(live.address + "api/v1/link", params={"text": text})
        assert response.status_code == 200
        assert response.json() == {
            "provider": "fake",
            "provider_name": "Fake",
            "spec": "a/b%2Fc/feature/x",
            "repository": "a/b/c",
            "ref": "feature/x",
            "urlpath": "doc/tree/n%20b.ipynb",
            "path": "v2/fake/a/b%2Fc/feature/x?urlpath=doc/tree/n%2520b.ipynb",
            "address": live.address + "v2/fake/a/b%2Fc/feature/x?urlpath=doc/tree/n%2520b.ipynb",
            "badge": live.address + "badge_logo.svg",
        }
        response = await live.client.get(live.address + "api/v1/link", params={"text": "what?"})
        assert response.status_code == 400
        assert response.json()["code"] == "link-not-understood"
        assert "what?" in response.json()["message"]


async def test_a_kept_log_is_text(serve: Serve) -> None:
    lines = (
        b'{"phase": "building", "message": "one\\n"}'
        b'\n{"phase": "building", "message": "\\u00e4 50%\\r"}'
        b'\n{"phase": "failed", "message": "no end"}'
    )
    async with serve() as live:
        kept = KeptLog("0123456789abcdef" * 2, "image:tag", "failure", 1.0, 2.0, lines)
        live.binder.services.store.keep_log(kept)
        response = await live.client.get(f"{live.address}api/v1/builds/{kept.id}/log")
        assert response.content.decode() == "one\nä 50%\rno end\n"
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert (await live.client.get(f"{live.address}api/v1/builds/{'0' * 32}/log")).status_code == 404
        assert kept.id not in str(live.logged)


@pytest.mark.parametrize("base", ["/", "/binder/", "/a/b/"])
async def test_everything_is_under_the_base_url(serve: Serve, base: str) -> None:
    async with serve({"BinderHub.base_url": base, "FakeRegistry.cached": "true"}) as live:
        assert live.address.endswith(base)
        for path in (
            "",
            "v2/fake/a/b/c",
            "badge.svg",
            "badge_logo.svg",
            "favicon.ico",
            "health",
            "versions",
            "metrics",
        ):
            assert (await live.client.get(live.address + path)).status_code == 200, path
        assert (await live.events("build/fake/a/b/c"))[-1]["binder_launch_host"] == live.address
        home = (await live.client.get(live.address)).text
        for link in re.findall(r'(?:src|href)="([^#][^"]*)"', home):
            assert link.startswith(base)
            assert (await live.client.get(f"http://{live.address.split('/')[2]}{link}")).status_code == 200
        if base != "/":
            response = await live.client.get(live.address.rstrip("/"))
            assert (response.status_code, response.headers["location"]) == (308, base)
            root = live.address.removesuffix(base)
            for path in ("/versions", "/build/fake/a/b/c", "/"):
                assert (await live.client.get(root + path)).status_code == 404


async def test_unknown_paths(serve: Serve) -> None:
    async with serve() as live:
        for path in (
            "nope",
            "build",
            "build/fake",
            "build/fake/",
            "build//fake/a/b/c",
            "v2/fake",
            "static/x/page.css",
            "api/v1/nope",
        ):
            page = await live.client.get(live.address + path, headers={"Accept": "text/html,*/*;q=0.8"})
            assert page.status_code == 404, path
            assert page.headers["content-type"].startswith("text/html")
            assert "There is no such page here." in page.text
            answer = await live.client.get(live.address + path, headers={"Accept": "application/json"})
            assert answer.json() == {"code": "not-found", "message": "There is no such page here."}
        refused = await live.client.post(live.address + "versions")
        assert refused.status_code == 405
        assert "GET" in refused.headers["allow"]


async def test_static_files_never_leave_their_folder(serve: Serve) -> None:
    async with serve() as live:
        home = (await live.client.get(live.address)).text
        static = re.search(r'href="/(static/[0-9a-f]+/)page.css"', home)
        assert static is not None
        style = await live.client.get(live.address + static[1] + "page.css")
        assert "immutable" in style.headers["cache-control"]
        for name in ("..%2fapp.py", "%2e%2e/app.py", "..\\app.py", "/etc/passwd", "nope.js", "."):
            assert (await live.client.get(live.address + static[1] + name)).status_code == 404, name


async def test_badges_are_pictures_that_can_be_cached(serve: Serve) -> None:
    async with serve() as live:
        for name in ("badge.svg", "badge_logo.svg", "favicon.ico"):
            response = await live.client.get(live.address + name)
            assert response.headers["content-type"].startswith("image/svg+xml")
            assert "max-age=86400" in response.headers["cache-control"]
            text = "".join(ElementTree.fromstring(response.text).itertext())
            assert name == "favicon.ico" or ("launch" in text and "binder" in text)


async def test_pages_allow_nothing_foreign(serve: Serve) -> None:
    nonces = set()
    async with serve({"BinderHub.banner_message": "<b>Closed</b> on Friday"}) as live:
        for path in ("", "v2/fake/a/b/c", "nope"):
            page = await live.client.get(live.address + path, headers={"Accept": "text/html"})
            assert page.headers["x-frame-options"] == "DENY"
            assert page.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'self'" in page.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
            assert "<b>Closed</b> on Friday" in page.text
            [nonce] = re.findall(r"script-src 'self' 'nonce-([\w-]{22})';", page.headers["content-security-policy"])
            for inline in re.findall(r"<script(?![^>]*(?: src=| type=\"application/json\"))[^>]*>", page.text):
                assert inline == f'<script nonce="{nonce}">'
            nonces.add(nonce)
            assert " style=" not in page.text
            assert " on" + "click" not in page.text
        assert len(nonces) == 3


async def test_without_javascript_the_pages_show_what_to_do(serve: Serve) -> None:
    async with serve() as live:
        for path, words in (
            ("", "ringbinder launch LINK"),
            ("v2/fake/a/b/c", f"curl -N {live.address}build/fake/a/b/c"),
        ):
            page = (await live.client.get(live.address + path)).text
            reported = re.search(r"<noscript>(.*)</noscript>", page, re.DOTALL)
            assert reported is not None
            assert words in reported[1]


async def test_a_link_is_text_in_the_page(serve: Serve) -> None:
    async with serve() as live:
        spec = "</script><script>alert(1)</script>/'\"><img>/x"
        page = (await live.client.get(live.address + "v2/fake/" + spec)).text
        assert "alert(1)</script>" not in page
        assert "<img>" not in page


@pytest.mark.parametrize(
    ("site", "by_itself"),
    [("none", True), ("same-origin", True), ("cross-site", False), ("same-site", False), ("", False)],
)
async def test_on_ones_own_machine_a_foreign_link_is_asked_about(
    serve: Serve, site: str, by_itself: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ringbinder_fake import FakeBuilder, FakeLauncher, FakeRegistry

    headers = {"Sec-Fetch-Site": site} if site else {}
    async with serve() as live:
        page = await live.client.get(live.address + "v2/fake/a/b/c", headers=headers)
        assert '"by_itself": true' in page.text
    for plugin, attribute in ((FakeBuilder, "makes"), (FakeRegistry, "holds"), (FakeLauncher, "runs")):
        monkeypatch.setattr(plugin, attribute, "folder")
    async with serve() as live:
        page = await live.client.get(live.address + "v2/fake/a/b/c", headers=headers)
        assert '"by_itself": false' in page.text, "nobody has allowed this repository yet"
        await live.events("build/fake/a/b/c")
        page = await live.client.get(live.address + "v2/fake/a/b/c", headers=headers)
        assert '"by_itself": false' in page.text, "a program's request is nobody's consent"
        await live.events("build/fake/a/b/c", headers={"Sec-Fetch-Site": "same-origin"})
        page = await live.client.get(live.address + "v2/fake/a/b/other-ref", headers=headers)
        assert f'"by_itself": {str(by_itself).lower()}' in page.text
        for path in ("git-pull%3Frepo%3Dhttps://x.example/r", "x/../git%252Dpull"):
            address = f"{live.address}v2/fake/a/b/c?urlpath={path}"
            page = await live.client.get(address, headers=headers)
            assert '"by_itself": false' in page.text, "another repository comes along"
        hostile = quote(quote("https://user:planted@x.example/<b>\N{RIGHT-TO-LEFT OVERRIDE}", safe=""), safe="")
        address = f"{live.address}v2/fake/a/b/c?urlpath=git-pull%3Frepo%3D{hostile}"
        page = await live.client.get(address, headers=headers)
        assert "the files of <bdi>https://x.example/&lt;b&gt;\N{REPLACEMENT CHARACTER}</bdi>" in page.text
        page = await live.client.get(live.address + "v2/fake/a/other/c", headers=headers)
        assert '"by_itself": false' in page.text, "another repository"


_LOCAL = {f"Ringbinder.{kind}": "local" for kind in ("registry", "builder", "launcher")}


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        ({}, "with the rights of the account that started Ringbinder."),
        ({"LocalLauncher.sandbox": "required"}, "with the rights of the account that started Ringbinder."),
        (
            {"LocalLauncher.sandbox": "required", "LocalBuilder.sandbox": "auto"},
            "with the rights of the account that started Ringbinder.",
        ),
        (
            {"LocalLauncher.sandbox": "required", "LocalBuilder.sandbox": "required"},
            "in a sandbox: it sees no home",
        ),
    ],
)
async def test_the_question_is_true_of_the_sandbox(serve: Serve, sets: dict[str, str], text: str) -> None:
    async with serve(_LOCAL | sets) as live:
        page = await live.client.get(live.address + "v2/fake/a/b/c")
        assert f"It runs where Ringbinder runs, {text}" in page.text


async def test_a_bug_in_a_page_is_an_id_and_a_traceback_in_the_log(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as live:
        monkeypatch.setattr(type(live.binder), "providers", lambda self: 1 / 0)
        monkeypatch.setattr(type(live.binder), "launch", lambda self, request: 1 / 0)
        page = await live.client.get(live.address + "v2/fake/a/b/c", headers={"Accept": "text/html"})
        assert page.status_code == 500
        [event] = await live.events("build/fake/a/b/c")
        assert (event["phase"], event["status_code"]) == ("failed", 500)
        for text in (page.text, event["message"]):
            found = re.search(r"Internal error, id ([0-9a-f]{8})", text)
            assert found is not None
            [entry] = [entry for entry in live.logged if entry.get("error_id") == found[1]]
            assert isinstance(entry["exc_info"], ZeroDivisionError)


async def test_one_line_a_request(serve: Serve) -> None:
    async with serve({"FakeRegistry.cached": "true"}) as live:
        await live.events("build/fake/a/b/c?build_token=abcdefghijk")
        await live.client.get(live.address + "health")
        lines = [entry for entry in live.logged if entry["event"] == "request"]
        assert [(line["log_level"], line["method"], line["path"], line["status"]) for line in lines] == [
            ("info", "GET", "/build/fake/a/b/c?build_token=[secret]", 200),
            ("debug", "GET", "/health", 200),
        ]
        assert all(line["seconds"] >= 0 for line in lines)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/build/gh/a/b%2Fc/main", "/build/gh/a/b%2Fc/main"),
        ("/build/git/https%3A%2F%2Fuser%3Asw0rd%40host%2Fr/main", "/build/git/https://host/r/main"),
        (
            "/build/git/https%253A%252F%252Fuser%253Asw0rd%2540host%252Fr/main",
            "/build/git/https://host/r/main",
        ),
        ("/v2/gh/a/b/c?urlpath=lab%3Ftoken%3Dabc123", "/v2/gh/a/b/c?urlpath=lab?token=[secret]"),
        ("/b/api/v1/builds/0123/log", "/b/api/v1/builds/[secret]/log"),
        (f"/v2/gh/{SECRET.reveal()}", "/v2/gh/[secret]"),
        ("/a%0Ab?token=abcdefg", "/a%0Ab?token=[secret]"),
    ],
)
def test_what_the_log_shows_of_a_request(target: str, shown: str) -> None:
    assert loggable(target) == shown
