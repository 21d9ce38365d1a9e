"""What git, ssh and the hosts write, each with the cause that it must be given.

The texts are those of git 2.39 to 2.51 with curl and OpenSSH, and of GitHub, GitLab and others, as they were seen or
stand in their sources and in public bug reports.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web
from ringbinder.errors import RingbinderError, TransientError, UserError
from ringbinder.git.errors import explained
from ringbinder.specs import shown
from ringbinder_providers.git import GitOptions

if TYPE_CHECKING:
    from ringbinder.testing.gitserver import GitServer

    from tests.providers.conftest import Asker

HTTPS: Final = "https://git.example.org/u/r"
SSH: Final = "ssh://git@git.example.org/u/r.git"
OVER_SSH: Final = (
    "fatal: Could not read from remote repository.\n\n"
    "Please make sure you have the correct access rights\nand the repository exists.\n"
)
COMMAND: Final = "ssh -o BatchMode=yes -o ConnectTimeout=15 -F none -o IdentityFile=/dev/null"
INTO: Final = "fatal: clone of 'https://git.example.org/u/r' into submodule path '/x/into/lib' failed\n"
BROKEN: Final = "fatal: early EOF\nfatal: fetch-pack: invalid index-pack output\n"
AGAIN: Final = "try-again"


def access(reason: str, url: str = HTTPS) -> str:
    return f"fatal: unable to access '{url}/': {reason}\n"


TEXTS: Final = {
    # The machine
    "no ssh, dash": (SSH, f"{COMMAND}: 1: ssh: not found\n{OVER_SSH}", "spec-invalid", "no ssh program"),
    "no ssh, bash": (SSH, f"bash: line 1: ssh: command not found\n{OVER_SSH}", "spec-invalid", "no ssh program"),
    "no ssh, git alone": (
        SSH,
        f"error: cannot run ssh: No such file or directory\nfatal: unable to fork\n{OVER_SSH}",
        "spec-invalid",
        "no ssh program on this machine. Give its https address: https://git.example.org/u/r.git.",
    ),
    "no user": (SSH, f"No user exists for uid 4711\r\n{OVER_SSH}", "spec-invalid", "for a user without a name"),
    "no https in git": (
        HTTPS,
        "git: 'remote-https' is not a git command. See 'git --help'.\n",
        "spec-invalid",
        "does not know the protocol https",
    ),
    "unknown protocol": (
        "foo://h/r", "fatal: Unable to find remote helper for 'foo'\n", "spec-invalid", "the protocol foo",
    ),
    "protocol not allowed": (HTTPS, "fatal: transport 'file' not allowed\n", "spec-invalid", "file is not allowed"),
    "disk full": (
        HTTPS,
        "fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output\n",
        "disk-full",
        "no space left on device",
    ),
    "disk full at checkout": (
        HTTPS,
        "error: unable to write file data.bin\n"
        "fatal: cannot create directory at 'a': No space left on device\nfatal: unable to checkout working tree\n",
        "disk-full",
        "no space left",
    ),
    "quota": (HTTPS, "error: file write error: Disk quota exceeded\n", "disk-full", ""),
    "memory": (
        HTTPS,
        f"fatal: Out of memory, malloc failed (tried to allocate 524288000 bytes)\n{BROKEN}",
        "repo-too-large",
        "more memory",
    ),
    "killed": (HTTPS, f"error: index-pack died of signal 9\n{BROKEN}", "repo-too-large", "more memory"),
    "no certificates here": (
        HTTPS,
        access("error setting certificate file: /etc/ssl/certs/ca-certificates.crt"),
        AGAIN,
        "this machine has no list of trusted certificates",
    ),
    "folder that git cannot write": (
        HTTPS, "fatal: could not create work tree dir 'x': Permission denied\n", AGAIN, "could not create work tree",
    ),
    "proxy unknown": (HTTPS, access("Could not resolve proxy: proxy.example.org"), AGAIN, "the configured proxy"),
    "proxy refuses": (HTTPS, access("CONNECT tunnel failed, response 403"), AGAIN, "the configured proxy"),
    "proxy refuses, older curl": (
        HTTPS, access("Received HTTP code 407 from proxy after CONNECT"), AGAIN, "the configured proxy",
    ),
    # The network
    "unknown host": (HTTPS, access("Could not resolve host: git.example.org"), AGAIN, "host is not known here"),
    "unknown host, ssh": (
        SSH,
        f"ssh: Could not resolve hostname git.example.org: Name or service not known\n{OVER_SSH}",
        AGAIN,
        "host is not known here",
    ),
    "unknown host, git": (
        "git://git.example.org/r",
        "fatal: unable to look up git.example.org (port 9418) (Name or service not known)\n",
        AGAIN,
        "host is not known here",
    ),
    "refused": (
        HTTPS,
        access("Failed to connect to git.example.org port 443 after 0 ms: Couldn't connect to server"),
        AGAIN,
        "no connection",
    ),
    "refused, newer curl": (
        HTTPS,
        access("Failed to connect to git.example.org port 443 after 1 ms: Could not connect to server"),
        AGAIN,
        "no connection",
    ),
    "refused, ssh": (
        SSH, f"ssh: connect to host git.example.org port 22: Connection refused\n{OVER_SSH}", AGAIN, "no connection",
    ),
    "refused, git": (
        "git://git.example.org/r",
        "fatal: unable to connect to git.example.org:\ngit.example.org[0: 192.0.2.1]: errno=Connection refused\n\n",
        AGAIN,
        "no connection",
    ),
    "no route": (
        SSH, f"ssh: connect to host git.example.org port 22: No route to host\n{OVER_SSH}", AGAIN, "no connection",
    ),
    "timed out": (
        HTTPS,
        access("Failed to connect to git.example.org port 443 after 129332 ms: Connection timed out"),
        AGAIN,
        "too long",
    ),
    "timed out, ssh": (
        SSH, f"ssh: connect to host git.example.org port 22: Connection timed out\n{OVER_SSH}", AGAIN, "too long",
    ),
    "too slow": (
        HTTPS,
        "error: RPC failed; curl 28 Operation too slow. Less than 1000 bytes/sec transferred the last 120 seconds\n"
        f"{BROKEN}",
        AGAIN,
        "too long",
    ),
    "broken off": (
        HTTPS,
        "error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)\n"
        "error: 2345 bytes of body are still expected\n"
        f"fetch-pack: unexpected disconnect while reading sideband packet\n{BROKEN}",
        AGAIN,
        "broke off",
    ),
    "broken off, GnuTLS": (
        HTTPS,
        access("GnuTLS recv error (-110): The TLS connection was non-properly terminated."),
        AGAIN,
        "broke off",
    ),
    "broken off, handshake": (
        HTTPS,
        access("gnutls_handshake() failed: The TLS connection was non-properly terminated."),
        AGAIN,
        "broke off",
    ),
    "broken off, OpenSSL": (
        HTTPS,
        access("OpenSSL SSL_read: error:0A000126:SSL routines::unexpected eof while reading, errno 0"),
        AGAIN,
        "broke off",
    ),
    "broken off, ssh": (
        SSH,
        "kex_exchange_identification: Connection closed by remote host\n"
        f"Connection closed by 192.0.2.1 port 22\n{OVER_SSH}",
        AGAIN,
        "broke off",
    ),
    "empty reply": (HTTPS, access("Empty reply from server"), AGAIN, "broke off"),
    "502 while sending": (
        HTTPS,
        "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502\n"
        "fatal: the remote end hung up unexpectedly\n",
        AGAIN,
        "HTTP status 502",
    ),
    "503": (HTTPS, access("The requested URL returned error: 503"), AGAIN, "HTTP status 503"),
    "429": (HTTPS, access("The requested URL returned error: 429"), AGAIN, "asked too often"),
    # Trust
    "self-signed": (
        HTTPS,
        access("SSL certificate problem: self-signed certificate"),
        "repo-not-found",
        "could not be trusted: SSL certificate problem: self-signed certificate",
    ),
    "unknown issuer": (
        HTTPS,
        access("server certificate verification failed. CAfile: none CRLfile: none"),
        "repo-not-found",
        "could not be trusted",
    ),
    "another name": (
        HTTPS,
        access("SSL: no alternative certificate subject name matches target host name 'git.example.org'"),
        "repo-not-found",
        "could not be trusted",
    ),
    "plain HTTP": (
        HTTPS,
        access("gnutls_handshake() failed: An unexpected TLS packet was received."),
        "repo-not-found",
        "does not speak https",
    ),
    "plain HTTP, OpenSSL": (
        HTTPS, access("error:0A00010B:SSL routines::wrong version number"), "repo-not-found", "does not speak https",
    ),
    # ssh
    "no key": (
        SSH,
        f"git@git.example.org: Permission denied (publickey).\n{OVER_SSH}",
        "repo-not-found",
        "Permission denied (publickey). Over ssh even a public repository takes a key that its host knows. "
        "Give its https address: https://git.example.org/u/r.git.",
    ),
    "no key or password": (
        "git@git.example.org:u/r.git",
        f"u@git.example.org: Permission denied (publickey,password,keyboard-interactive).\r\n{OVER_SSH}",
        "repo-not-found",
        "Give its https address: https://git.example.org/u/r.git.",
    ),
    "no host key": (
        SSH,
        "No ED25519 host key is known for git.example.org and you have requested strict checking.\r\n"
        f"Host key verification failed.\r\n{OVER_SSH}",
        "repo-not-found",
        "does not trust over ssh",
    ),
    "another host key": (
        SSH,
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nHost key verification failed.\r\n" + OVER_SSH,
        "repo-not-found",
        "does not trust over ssh",
    ),
    "old algorithms": (
        SSH,
        "Unable to negotiate with 192.0.2.1 port 22: no matching host key type found. Their offer: ssh-rsa\r\n"
        + OVER_SSH,
        "repo-not-found",
        "does not trust over ssh",
    ),
    "absent on GitHub, ssh": (SSH, f"ERROR: Repository not found.\n{OVER_SSH}", "repo-not-found", "not found or is"),
    "absent on GitLab, ssh": (
        SSH,
        "remote: \nremote: ========\n"
        "remote: ERROR: The project you were looking for could not be found or you don't have "
        f"permission to view it.\nremote: ========\n{OVER_SSH}",
        "repo-not-found",
        "not found or is private",
    ),
    # The host's reasons
    "single sign-on": (
        HTTPS,
        "remote: The 'big-lab' organization has enabled or enforced SAML SSO. To access\n"
        "remote: this repository, visit https://github.com/orgs/big-lab/sso and try your request again.\n"
        + access("The requested URL returned error: 403"),
        "repo-not-found",
        "is of the organization big-lab, which demands its single sign-on (SAML SSO). The owner of the access token",
    ),
    "single sign-on, ssh": (
        SSH,
        "ERROR: The 'big-lab' organization has enabled or enforced SAML SSO.\nTo access this repository, visit x\n"
        + OVER_SSH,
        "repo-not-found",
        "organization big-lab",
    ),
    "addresses allowed": (
        HTTPS,
        "remote: The repository owner has an IP allow list enabled, and 192.0.2.1 is not permitted to access it.\n"
        + access("The requested URL returned error: 403"),
        "repo-not-found",
        "IP allow list enabled",
    ),
    "kind of token": (
        HTTPS,
        "remote: `big-lab` forbids access via a personal access token (classic).\n"
        + access("The requested URL returned error: 403"),
        "repo-not-found",
        "forbids access via a personal access token (classic)",
    ),
    "taken down": (
        HTTPS,
        "remote: Repository unavailable due to DMCA takedown.\nremote: See the takedown notice for more details:\n"
        "remote:   https://github.com/github/dmca/blob/master/2022/04/2022-04-28-x.md.\n"
        + access("The requested URL returned error: 403"),
        "repo-not-found",
        "taken down by its host for legal reasons",
    ),
    "451": (HTTPS, access("The requested URL returned error: 451"), "repo-not-found", "for legal reasons"),
    "disabled": (
        HTTPS,
        "remote: Access to this repository has been disabled by GitHub staff due to\n"
        "remote: excessive use of resources, in violation of our Terms of Service.\n"
        + access("The requested URL returned error: 403"),
        "repo-not-found",
        "was disabled by its host",
    ),
    "damaged": (
        HTTPS,
        f"remote: fatal: unable to read {'1' * 40}        \n"
        "remote: aborting due to possible repository corruption on the remote side.\n" + BROKEN,
        "repo-not-found",
        "is damaged at its host",
    ),
    "git protocol given up": (
        "git://git.example.org/u/r",
        "fatal: remote error: \n  The unauthenticated git protocol on port 9418 is no longer supported.\n"
        "Please see https://github.blog/2021-09-01-improving-git-protocol-security-github/ for more information.\n",
        "repo-not-found",
        "Give its https address: https://git.example.org/u/r.",
    ),
    # Not there
    "absent": (HTTPS, f"fatal: repository '{HTTPS}/' not found\n", "repo-not-found", "was not found or is private"),
    "absent on GitHub": (
        HTTPS,
        "remote: Repository not found.\nfatal: repository 'https://github.com/u/r/' not found\n",
        "repo-not-found",
        "was not found or is private",
    ),
    "asks for a login": (
        HTTPS,
        "fatal: could not read Username for 'https://git.example.org': terminal prompts disabled\n",
        "repo-not-found",
        "was not found or is private",
    ),
    "wrong token": (
        HTTPS,
        "remote: Invalid username or token. Password authentication is not supported for Git operations.\n"
        f"fatal: Authentication failed for '{HTTPS}/'\n",
        "repo-not-found",
        "was not found or is private",
    ),
    "403": (HTTPS, access("The requested URL returned error: 403"), "repo-not-found", "was not found or is private"),
    "a page": (
        HTTPS,
        f"fatal: {HTTPS}/info/refs not valid: is this a git repository?\n",
        "repo-not-found",
        "was not found or is private",
    ),
    "a login page": (
        HTTPS,
        "fatal: unable to update url base from redirection:\n  asked for: https://git.example.org/u/r/info/refs\n"
        "   redirect: https://git.example.org/users/sign_in\n",
        "repo-not-found",
        "leads to another page, such as one to log in",
    ),
    "redirect": (HTTPS, access("The requested URL returned error: 301"), "repo-not-found", "leads to another address"),
    "Azure": (
        HTTPS,
        "remote: TF401019: The Git repository with name or identifier r does not exist or you do not have permissions\n"
        f"fatal: repository '{HTTPS}/' not found\n",
        "repo-not-found",
        "was not found or is private",
    ),
    "git daemon": (
        "git://git.example.org/r",
        "fatal: remote error: access denied or repository not exported: /r\n",
        "repo-not-found",
        "was not found or is private",
    ),
    "not exported": (
        "file:///r", f"fatal: '/r' does not appear to be a git repository\n{OVER_SSH}", "repo-not-found", "not found",
    ),
    # Commits
    "not our ref": (
        HTTPS, f"fatal: remote error: upload-pack: not our ref {'1' * 40}\n", "ref-not-found", "give out that commit",
    ),
    "not advertised": (
        HTTPS,
        f"error: Server does not allow request for unadvertised object {'1' * 40}\n",
        "ref-not-found",
        "give out that commit",
    ),
    "JGit": (HTTPS, f"fatal: remote error: want {'1' * 40} not valid\n", "ref-not-found", "give out that commit"),
    "path that git refuses": (
        HTTPS, "error: invalid path '.GIT/config'\n", "ref-not-found", "that commit: invalid path '.GIT/config'.",
    ),
    "long name": (
        HTTPS,
        "error: unable to create file aaa: File name too long\nfatal: unable to checkout working tree\n",
        "ref-not-found",
        "unable to create file aaa: File name too long",
    ),
    "path over .git": (
        HTTPS,
        "error: The following untracked working tree files would be overwritten by checkout:\n\t.git/config\n"
        "Please move or remove them before you switch branches.\nAborting\n",
        "ref-not-found",
        "cannot be checked out at that commit",
    ),
    "submodule not checked out": (
        HTTPS,
        f"fatal: bad\nfatal: Unable to checkout '{'1' * 40}' in submodule path 'lib'\n",
        "ref-not-found",
        "cannot be checked out at that commit",
    ),
    "submodule with a command": (
        HTTPS,
        "fatal: invalid value for 'submodule.lib.update'\n",
        "submodule-not-found",
        "has a .gitmodules that git refuses: invalid value for 'submodule.lib.update'",
    ),
    "submodule without an address": (
        HTTPS,
        "fatal: No url found for submodule path 'lib' in .gitmodules\n",
        "submodule-not-found",
        "has a .gitmodules that git refuses: No url found for submodule path 'lib' in .gitmodules",
    ),
    "commit of a submodule": (
        HTTPS,
        f"fatal: remote error: upload-pack: not our ref {'1' * 40}\n"
        f"fatal: Fetched in submodule path 'lib', but it did not contain {'1' * 40}. "
        "Direct fetching of that commit failed.\n",
        "ref-not-found",
        "give out that commit",
    ),
    "submodule with ssh": (
        SSH,
        f"Cloning into '/x/into/lib'...\ngit@git.example.org: Permission denied (publickey).\n{OVER_SSH}{INTO}"
        f"Failed to clone 'lib'. Retry scheduled\n{INTO}Failed to clone 'lib' a second time, aborting\n",
        "repo-not-found",
        "Permission denied (publickey)",
    ),
    # Anything else, in its own words
    "unknown": (
        HTTPS,
        f"warning: something\nfatal: pack has bad object at offset 12: inflate returned -5\n{INTO}",
        AGAIN,
        "could not be read: pack has bad object at offset 12: inflate returned -5.",
    ),
    "nothing": (HTTPS, "", AGAIN, "git gave no reason"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_text_of_git_has_its_cause(name: str) -> None:
    url, text, code, words = TEXTS[name]
    error = explained(url, text)
    assert words in str(error)
    assert str(error).startswith(shown(url))
    assert code_of(error) == code


def code_of(error: RingbinderError) -> str:
    if isinstance(error, UserError):
        return error.code
    assert isinstance(error, TransientError)
    return AGAIN


@pytest.mark.parametrize(
    "wrote",
    ["No space left on device", "fatal: write error: No space left on device", "fatal: Out of memory"],
)
def test_host_cannot_blame_this_machine(wrote: str) -> None:
    error = explained(HTTPS, f"remote: {wrote}\n" + access("The requested URL returned error: 403"))
    assert "was not found or is private" in str(error)


@pytest.mark.real("git")
@pytest.mark.parametrize(
    ("wrote", "words"),
    [
        ("Repository unavailable due to DMCA takedown.", "taken down by its host"),
        ("The 'big-lab' organization has enabled or enforced SAML SSO.", "organization big-lab"),
        ("", "was not found or is private"),
    ],
)
async def test_refusal_of_a_real_server_is_explained(ask: Asker, wrote: str, words: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=403, text=wrote)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with pytest.raises(UserError) as caught:
            await ask.resolve(f"http://127.0.0.1:{runner.addresses[0][1]}/r")
    finally:
        await runner.cleanup()
    assert caught.value.code == "repo-not-found"
    assert words in str(caught.value)


@pytest.mark.real("git")
async def test_machine_without_ssh_is_named(
    ask: Asker, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command has a ConnectTimeout in it, which is not the reason. Also in a submodule."""
    repository = server.repository("r")
    repository.submodule("lib", "git@git.example.org:u/lib.git", "1" * 40)
    repository.commit({"x": "1"})
    link_programs(tmp_path / "bin", "git", "sh", "basename", "sed", "uname", "dirname")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UserError, match=r"no ssh program on this machine\..*https://git\.example\.org/u/r\.git"):
        await ask.resolve("git@git.example.org:u/r.git")
    with pytest.raises(UserError) as caught:
        await ask.fetch(await ask.resolve(server.url("r")), tmp_path / "into")
    assert caught.value.code == "submodule-not-found"
    assert str(caught.value).startswith(f"The submodule lib of {server.url('r')} cannot be fetched. git@")
    assert "no ssh program" in str(caught.value)


@pytest.mark.real("git")
async def test_doctor_misses_the_ssh_program(ask: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link_programs(tmp_path / "bin", "git", "sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = [finding.message for finding in await ask.provider.doctor() if finding.level == "warning"]
    assert found == ["there is no ssh program, so ssh addresses cannot be launched"]
    without = ask.configured(GitOptions(allowed_protocols=frozenset({"https"})))
    assert all(finding.level == "ok" for finding in await without.provider.doctor())


def link_programs(folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
