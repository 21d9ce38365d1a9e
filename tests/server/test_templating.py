"""What an operator changes of the pages: templates, HTML, scripts, files; and what the pages may then do."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from playwright.async_api import Browser, ConsoleMessage, expect
from realparts.browsing import LINK, web
from ringbinder.errors import ConfigError

if TYPE_CHECKING:
    from tests.server.conftest import Serve


async def test_templates_of_an_operator(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '{% extends "templates/page.html" %}{% block logo %}<b>{{ site_name }}</b>{% endblock %}'
    )
    (tmp_path / "about.html").write_text('{% extends "page.html" %}{% block main %}All about us{% endblock %}')
    sets = {
        "BinderHub.template_path": str(tmp_path),
        "BinderHub.template_variables": '{site_name: "Our <Binder>"}',
    }
    async with serve(sets) as live:
        for path in ("", "about", LINK, "nope"):
            page = (await live.client.get(live.address + path, headers={"Accept": "text/html"})).text
            assert "<b>Our &lt;Binder&gt;</b>" in page
            assert "window.pageConfig = {" in page
        assert "All about us" in (await live.client.get(live.address + "about")).text


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("page.html", b"<p>\n{% block main %}", "page.html, line 2: "),
        ("about.html", b"\xff\xfe", "about.html is not UTF-8 text"),
        (None, b"", "there is no folder"),
    ],
)
async def test_a_broken_template_stops_the_start(
    serve: Serve, tmp_path: Path, file: str | None, content: bytes, told: str
) -> None:
    folder = tmp_path / "templates"
    if file:
        folder.mkdir()
        (folder / file).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        async with serve({"BinderHub.template_path": str(folder)}):
            pass
    [problem] = caught.value.problems
    assert problem.startswith("BinderHub.template_path: ")
    assert told in problem


async def test_files_of_an_operator(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "files" / "sub").mkdir(parents=True)
    (tmp_path / "files" / "sub" / "a b.css").write_text("p { color: red }")
    (tmp_path / "secret").write_text("no")
    sets = {"BinderHub.extra_static_path": str(tmp_path / "files"), "BinderHub.base_url": "binder"}
    for prefix in ("extra_static", "our/files"):
        async with serve({**sets, "BinderHub.extra_static_url_prefix": prefix}) as live:
            got = await live.client.get(f"{live.address}{prefix}/sub/a%20b.css")
            assert (got.status_code, got.text) == (200, "p { color: red }")
            assert got.headers["content-type"].startswith("text/css")
            for name in ("../secret", "..%2fsecret", "%2e%2e/secret", "sub", "nope"):
                assert (await live.client.get(f"{live.address}{prefix}/{name}")).status_code == 404, name
    with pytest.raises(ConfigError, match=r"BinderHub\.extra_static_path: there is no folder"):
        async with serve({"BinderHub.extra_static_path": str(tmp_path / "nope")}):
            pass


async def test_page_config_is_the_first_script(serve: Serve) -> None:
    sets = {
        "BinderHub.banner_message": "<b>Hello</b> </script>",
        "BinderHub.badge_base_url": "https://binder.example",
        "BinderHub.build_token_secret": "ab" * 32,
    }
    async with serve(sets) as live:
        for path in ("", "about", LINK):
            page = (await live.client.get(live.address + path)).text
            head = page.partition("</head>")[0]
            first = re.search(r"<script[^>]*>(.*?)</script>", head, re.DOTALL)
            assert first is not None
            config = json.loads(first[1].strip().removeprefix("window.pageConfig = ").removesuffix(";"))
            assert config["baseUrl"] == "/"
            assert config["badgeBaseUrl"] == "https://binder.example/"
            assert config["bannerHtml"] == "<b>Hello</b> </script>"
            assert "fake" in [provider["id"] for provider in config["repoProviders"]]
            assert ("buildToken" in config) == (path == LINK)
        token = jwt.decode(
            config["buildToken"] if path == LINK else "",
            bytes.fromhex("ab" * 32),
            ["HS256"],
            audience=LINK[3:],
        )
        assert token["origin"] == live.address.split("/")[2]


async def test_previews_have_a_title(serve: Serve) -> None:
    async with serve({"BinderHub.default_opengraph_title": 'Our "Binder"'}) as live:
        assert '<meta property="og:title" content="Our &#34;Binder&#34;">' in (await live.client.get(live.address)).text
        page = (await live.client.get(live.address + LINK)).text
        assert '<meta property="og:title" content="Fake: owner/name/main">' in page


@pytest.mark.real("chromium")
async def test_scripts_of_an_operator_run_and_no_others(serve: Serve, browser: Browser) -> None:
    async with web(lambda path: "document.body.dataset.theirs = 1") as (theirs, asked):
        sets = {
            "BinderHub.extra_header_html": json.dumps(
                {
                    "2": "<script>window.order = (window.order ?? '') + 'b'</script>",
                    "1": "<style>.lead { color: rgb(1, 2, 3) }</style><script>window.order = 'a'</script>",
                }
            ),
            "BinderHub.extra_footer_scripts": json.dumps({"count": f"fetch('{theirs}count')"}),
            "BinderHub.banner_message": "<img src=x onerror=\"document.title = 'owned'\">"
            "<script>document.title = 'owned'</script>",
        }
        reason: list[ConsoleMessage] = []
        for allowed in (False, True):
            given = {**sets, "Ringbinder.page_sources": json.dumps([theirs.rstrip("/")] if allowed else [])}
            async with serve(given) as live:
                context = await browser.new_context()
                page = await context.new_page()
                reason.clear()
                page.on("console", lambda message: reason.append(message))
                await page.goto(live.address, wait_until="networkidle")
                assert await page.evaluate("window.order") == "ab"
                await expect(page.locator(".lead")).to_have_css("color", "rgb(1, 2, 3)")
                await expect(page).to_have_title("Ringbinder: a link opens a notebook")
                refused = [message.text for message in reason if "Policy" in message.text]
                assert any("fetch API" in text or "connect" in text for text in refused) != allowed
                await context.close()
        assert asked == ["/count"]


async def test_a_source_cannot_break_the_policy(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="page_sources"):
        async with serve({"Ringbinder.page_sources": '["https://x; script-src *"]'}):
            pass


async def test_without_pages_an_error_is_json(serve: Serve) -> None:
    async with serve({"BinderHub.enable_api_only_mode": "true"}) as live:
        for path in ("", "about", LINK, "static/x/page.css"):
            answer = await live.client.get(live.address + path, headers={"Accept": "text/html"})
            assert answer.status_code == 404
            assert answer.json()["code"] == "not-found"


async def test_a_function_gives_the_address_of_the_badge(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("operators_badges")

    def address(handler: Any) -> str:
        if "X-Fail" in handler.request.headers:
            raise ValueError("no such member")
        return f"https://{handler.request.host}.example/{handler.request.protocol}"

    module.address = address  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "operators_badges", module)
    async with serve({"BinderHub.badge_base_url": "operators_badges:address"}) as live:
        host = live.address.split("/")[2]
        page = (await live.client.get(live.address)).text
        assert f'"badgeBaseUrl": "https://{host}.example/http/"' in page
        found = await live.client.get(f"{live.address}api/v1/link", params={"text": "fake/a/b"})
        assert found.json()["badge"] == f"https://{host}.example/http/badge_logo.svg"
        failing = await live.client.get(live.address, headers={"X-Fail": "1"})
        assert '"badgeBaseUrl": ""' in failing.text
    with pytest.raises(ConfigError, match=r"BinderHub\.badge_base_url: 'operators_badges:no' cannot be loaded"):
        async with serve({"BinderHub.badge_base_url": "operators_badges:no"}):
            pass


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"index.html": '{% extends "templates/index.html" %}\n{% block header %}old{% endblock %}'},
            r"index\.html, line 2: none of .*\(templates/index\.html, page\.html\) has the block header; they have",
        ),
        (
            {"page.html": "<title>{% block title %}{% endblock %}</title>"},
            r"index\.html, line \d+: .* the block main;",
        ),
        (
            {
                "page.html": '{% extends "templates/page.html" %}{% block body %}{{ super() }}'
                "{% block inner %}{% endblock %}{% endblock %}",
                "about.html": '{% extends "page.html" %}{% block inner %}x{% endblock %}',
            },
            None,
        ),
    ],
)
async def test_block_that_no_page_shows_is_in_the_log(
    serve: Serve, tmp_path: Path, files: dict[str, str], told: str | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    async with serve({"BinderHub.template_path": str(tmp_path)}) as live:
        logged = [entry["reason"] for entry in live.logged if "template" in entry["event"]]
    found = "\n".join(logged)
    assert re.search(told, found) if told else not found, found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{% extends "templates/login.html" %}', "which is not there; known: templates/about.html"),
        ('{% extends "about.html" %}', "which is itself; its packaged one is templates/about.html"),
    ],
)
async def test_template_that_extends_nothing_stops_the_start(
    serve: Serve, tmp_path: Path, content: str, told: str
) -> None:
    (tmp_path / "about.html").write_text(content)
    with pytest.raises(ConfigError, match=told):
        async with serve({"BinderHub.template_path": str(tmp_path)}):
            pass
