"""`ringbinder init`: its files are right, commented and private; questions where there is a terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ringbinder.config.loading import load

HEX = re.compile(r"[0-9a-f]{64}")


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


@pytest.mark.slow
def test_embedded(ringbinder: Any, tmp_path: Path) -> None:
    done = ringbinder("init", "embedded", "--folder", tmp_path / "made")
    assert done.returncode == 0, done.stderr
    assert "The doctor looks at it:" in done.stdout
    config = load([tmp_path / "made" / "config.yaml"], environ={})
    assert (config.choice.builder, config.choice.launcher) == ("local", "local")
    assert ringbinder("config", "check", tmp_path / "made" / "config.yaml").returncode == 0
    # What is commented out is right, too.
    text = (tmp_path / "made" / "config.yaml").read_text()
    options = re.sub(r"^(\s*)# (?=\s*\w+:)", r"\1", text, flags=re.MULTILINE)
    (tmp_path / "all.yaml").write_text(options)
    assert "LocalLauncher" in yaml.safe_load(options)
    checked = ringbinder("config", "check", tmp_path / "all.yaml")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_one_host(ringbinder: Any, tmp_path: Path) -> None:
    done = ringbinder("init", "one-host", "--folder", tmp_path / "made", "--hub-url", "http://127.0.0.1:9/")
    assert done.returncode == 0, done.stderr
    assert "ERROR" in done.stdout, "the doctor sees that nothing of it runs"
    secret = tmp_path / "made" / "secret.env"
    assert mode(secret) == "0o600"
    tokens = HEX.findall(secret.read_text())
    assert len(set(tokens)) == 2
    assert not any(token in done.stdout + done.stderr for token in tokens)
    config = load([tmp_path / "made" / "config.yaml"], environ={})
    assert (config.choice.builder, config.choice.registry, config.choice.launcher) == (
        "docker", "oci", "jupyterhub",
    )  # fmt: skip
    assert config.binderhub.hub_url == "http://127.0.0.1:9/"
    assert config.binderhub.image_prefix == "127.0.0.1:5000/binder-"


def test_a_cluster(ringbinder: Any, tmp_path: Path) -> None:
    (tmp_path / "password").write_text('a "word": #1\n')
    done = ringbinder(
        "init", "cluster", "--folder", tmp_path / "made", "--no-doctor", "--image-prefix", "quay.io/me/binder-",
        "--registry-username", "me", "--registry-password-file", tmp_path / "password",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert mode(tmp_path / "made" / "secret.yaml") == "0o600"
    secret = yaml.safe_load((tmp_path / "made" / "secret.yaml").read_text())
    assert secret["registry"] == {"url": "https://quay.io", "username": "me", "password": 'a "word": #1'}
    hub, proxy = secret["jupyterhub"]["hub"]["services"]["binder"], secret["jupyterhub"]["proxy"]
    assert HEX.fullmatch(hub["apiToken"])
    assert HEX.fullmatch(proxy["secretToken"])
    assert hub["apiToken"] != proxy["secretToken"]
    config = load([tmp_path / "made" / name for name in ("config.yaml", "secret.yaml")], environ={})
    assert (config.choice.builder, config.choice.registry) == ("kubernetes", "oci")


def test_what_is_there_stays_unless_forced(ringbinder: Any, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("# mine\n")
    done = ringbinder("init", "embedded", "--no-doctor")
    assert done.returncode == 2
    assert "config.yaml" in done.stderr
    assert (tmp_path / "config.yaml").read_text() == "# mine\n"
    assert ringbinder("init", "embedded", "--no-doctor", "--force").returncode == 0
    assert "# mine" not in (tmp_path / "config.yaml").read_text()


def test_without_a_terminal_and_a_word_it_asks_for_nothing(ringbinder: Any) -> None:
    done = ringbinder("init")
    assert done.returncode == 2
    assert "embedded, one-host, cluster" in done.stderr


def test_at_a_terminal_it_asks(ringbinder: Any, tmp_path: Path) -> None:
    terminal = ringbinder.terminal("init", "--no-doctor", "--folder", "made")
    terminal.expect("For what")
    terminal.child.sendline("cluster")
    terminal.expect("Where do browsers find JupyterHub")
    terminal.child.sendline("http://hub.example.org")
    terminal.expect("names of images begin with")
    terminal.child.sendline("")
    terminal.expect("Who pushes images")
    terminal.child.sendline("me")
    terminal.expect("Password")
    terminal.child.sendline("pass-word-8161")
    assert terminal.end() == 0
    assert "pass-word-8161" not in terminal.seen
    secret = yaml.safe_load((tmp_path / "made" / "secret.yaml").read_text())
    assert secret["registry"]["password"] == "pass-word-8161"
    config = yaml.safe_load((tmp_path / "made" / "config.yaml").read_text())["config"]
    assert config["BinderHub"]["hub_url"] == "http://hub.example.org"


@pytest.mark.parametrize("kind", ["one-host", "cluster"])
def test_two_calls_make_different_tokens(ringbinder: Any, tmp_path: Path, kind: str) -> None:
    name = "secret.env" if kind == "one-host" else "secret.yaml"
    made = []
    for folder in ("a", "b"):
        assert ringbinder("init", kind, "--no-doctor", "--folder", folder).returncode == 0
        made += HEX.findall((tmp_path / folder / name).read_text())
    assert len(set(made)) == 4
