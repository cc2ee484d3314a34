"""The key file: who may read it, what is told of a wrong one, and that a change reaches what runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from guarded_shop import Shop, headers_of, keys_in

from celeriac import Celeriac
from celeriac.cli.root import root
from celeriac.codec import Key, KeyFile, make_key, read_keys, write_keys
from celeriac.errors import ConfigError
from celeriac.testing import ManualClock
from servers import wait_until

SECRET = "A" * 43 + "="


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o602])
def test_a_file_that_others_can_read_or_change(tmp_path: Path, mode: int) -> None:
    path = keys_in(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"has mode {mode:04o}: others could"):
        KeyFile(path)
    for fine in (0o600, 0o400, 0o640, 0o440):
        path.chmod(fine)
        KeyFile(path)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ([{"kid": "a b", "alg": "hmac-sha256", "secret": SECRET}], "1 to 64 letters"),
        ([{"kid": "a", "alg": "none"}], r"Invalid enum value 'none'"),
        ([{"kid": "a", "alg": "hmac-sha256", "secret": "c2hvcnQ="}], "32 bytes or more"),
        ([{"kid": "a", "alg": "hmac-sha256"}], "32 bytes or more"),
        ([{"kid": "a", "alg": "hmac-sha256", "secret": "no base64"}], "'secret' is not base64"),
        ([{"kid": "a", "alg": "aes-256-gcm", "secret": "c2hvcnQ="}], "secret of 32 bytes"),
        ([{"kid": "a", "alg": "ed25519"}], "a public key, a secret, or both"),
        ([{"kid": "a", "alg": "ed25519", "public": "c2hvcnQ="}], "no key of Ed25519"),
        ([{"kid": "a", "alg": "ed25519", "public": SECRET, "status": "active"}], "without its secret"),
        ([{"kid": "a", "alg": "hmac-sha256", "secret": SECRET}] * 2, "two keys have the id 'a'"),
        ([{"kid": "a", "alg": "hmac-sha256", "secret": SECRET, "state": "active"}], "unknown field"),
    ],
)
def test_a_wrong_file_says_what_is_wrong_and_no_secret(tmp_path: Path, keys: list[dict[str, Any]], why: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(msgspec.json.encode({"keys": keys}))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=why) as raised:
        KeyFile(path)
    assert SECRET not in str(raised.value)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    key = make_key("one", "hmac-sha256", status="active")
    assert key.secret is not None
    app = Celeriac("shop", security_key_file=str(keys_in(tmp_path, key)), security_signing="require")
    assert key.secret not in repr([key, app, app.codec.signer, app.conf])


def test_settings_that_need_it(tmp_path: Path) -> None:
    for wrong in ({"security_signing": "sign"}, {"security_encryption": True}):
        app = Celeriac("shop", broker="memory://keyless", **wrong)
        with pytest.raises(ConfigError, match="needs security_key_file; `celeriac keys generate FILE` makes one"):
            app.codec  # noqa: B018
    app = Celeriac("shop", security_key_file=str(tmp_path / "none.json"), security_signing="sign")
    with pytest.raises(ConfigError, match=r"none\.json cannot be read: No such file"):
        app.codec  # noqa: B018


def test_a_change_is_seen_within_a_second_and_a_broken_one_ignored(tmp_path: Path, caplog: Any) -> None:
    clock = ManualClock()
    one, two = (make_key(kid, "hmac-sha256", status="active") for kid in ("one", "two"))
    path = keys_in(tmp_path, one)
    file = KeyFile(path, clock=clock)
    write_keys(path, [two])
    assert set(file.ring.by_kid) == {"one"}
    clock.advance(1.0)
    assert set(file.ring.by_kid) == {"two"}
    for wrong in (b"{", b'{"keys": [{"kid": "x", "alg": "none"}]}'):
        path.write_bytes(wrong)
        clock.advance(1.0)
        assert set(file.ring.by_kid) == {"two"}
        assert file.fault is not None
    path.unlink()
    clock.advance(1.0)
    assert set(file.ring.by_kid) == {"two"}
    assert caplog.text.count("the keys that were read before stay in use") == 3
    write_keys(path, [one])
    clock.advance(1.0)
    assert set(file.ring.by_kid) == {"one"}
    assert file.fault is None


def test_the_last_active_key_cannot_be_taken_away(tmp_path: Path, caplog: Any) -> None:
    """A worker that cannot sign could bring no task to its end."""
    clock = ManualClock()
    one, box = make_key("one", "hmac-sha256", status="active"), make_key("box", "aes-256-gcm", status="active")
    path = keys_in(tmp_path, one, box)
    file = KeyFile(path, clock=clock)
    for left, what in (
        ([msgspec.structs.replace(one, status="verify"), box], "sign results"),
        ([msgspec.structs.replace(one, results=False), box], "sign results"),
        ([one], "encrypt"),
    ):
        write_keys(path, left)
        clock.advance(1.0)
        assert file.ring.by_kid["one"].key == one
        assert f"no active key to {what} with any more" in str(file.fault)


def test_a_worker_without_a_key_does_not_start(start_shop: Callable[..., Shop], tmp_path: Path) -> None:
    public = msgspec.structs.replace(make_key("web", "ed25519"), secret=None)
    shop = start_shop(keys=keys_in(tmp_path, public))
    with pytest.raises(ConfigError, match="could bring no task to its end"):
        shop.worker()


def test_commands(tmp_path: Path) -> None:
    def run(*args: str) -> str:
        result = CliRunner().invoke(root, ["keys", *args], standalone_mode=False)
        assert result.exit_code == 0 or isinstance(result.exception, SystemExit), result.output
        return result.output

    keys, web = tmp_path / "keys.json", tmp_path / "web.json"
    run("generate", str(keys), "--kid", "a")
    run("generate", str(keys), "--kid", "b")
    run("generate", str(keys), "--kid", "box", "--kind", "aes")
    run("generate", str(web), "--kid", "web", "--kind", "ed25519", "--task", "shop.*", "--queue", "web")
    run("public", str(web), str(keys))
    found = {key.kid: key for key in read_keys(keys)}
    assert {kid: key.status for kid, key in found.items()} == {
        "a": "active", "b": "verify", "box": "active", "web": "verify",
    }  # fmt: skip
    assert found["web"].secret is None
    assert found["web"].tasks == ("shop.*",)
    run("mark", str(keys), "a", "gone")
    gone = next(key for key in read_keys(keys) if key.kid == "a")
    assert (gone.status, gone.secret) == ("gone", None)
    assert found["b"].secret is not None
    assert found["b"].secret not in run("list", str(keys)) + run("list", str(keys), "--json")


def test_rotation_under_load(start_shop: Callable[..., Shop], tmp_path: Path) -> None:
    """Sender and worker have key files of their own, each changed when nobody looks; no valid message is refused."""
    old = make_key("old", "hmac-sha256", status="active")
    new = make_key("new", "hmac-sha256")
    files = [keys_in(tmp_path, old), keys_in(tmp_path, old)]
    sender, worker = (start_shop(keys=path) for path in files)

    def change(path: Path, *keys: Key) -> None:
        write_keys(path, keys)

    def marked(key: Key, status: str) -> Key:
        return msgspec.structs.replace(key, status=status)

    sent: list[Any] = []
    signers: list[str] = []
    stop = threading.Event()

    def send() -> None:
        n = 0
        while not stop.is_set() and n < 20_000:
            message = sender.message(sender.add, n, 1)
            signers.append((headers_of(message).signature or "").split(".")[2])
            sender.app._publisher.publish([message])
            sent.append(message.id)
            if n % 10 == 0:
                sent.append(sender.flaky.delay(str(n)).id)  # signed again by the worker
            n += 1

    thread = threading.Thread(target=send)
    with worker.worker():
        thread.start()
        try:
            wait_until(lambda: len(sent) > 100, "the first messages")
            for path in files:  # the sender's first
                change(path, old, new)
                change(path, marked(old, "verify"), marked(new, "active"))
            wait_until(lambda: signers[-1] == "new", "messages by the new key")
            last_old = len(sent)
            wait_until(lambda: len(sent) > last_old + 100, "more of them")
        finally:
            stop.set()
            thread.join()
        assert {"old", "new"} <= set(signers)
        wait_until(lambda: len(worker.app.results.get(sent)) == len(sent), "all results", 60)
        wait_until(
            lambda: all(one.state == "SUCCESS" for one in worker.app.results.get(sent).values()), "the retries", 60
        )
        assert worker.app.broker.dead_letters(limit=10) == []
        for path in files:
            change(path, marked(msgspec.structs.replace(old, secret=None), "gone"), marked(new, "active"))
        assert sender.add.delay(1, 1).get(timeout=20) == 2
