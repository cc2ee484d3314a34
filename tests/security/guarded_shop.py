"""An application that signs, on any engine; and the ways into its broker that an attacker would take."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from celeriac import Celeriac, Retry
from celeriac.codec import Key, make_key, write_keys
from celeriac.model import Headers, Outgoing
from celeriac.testing import RunningWorker

_numbers = itertools.count()


def keys_in(folder: Path, *keys: Key) -> Path:
    """A key file with these keys; one for HMAC and one for AES unless there are some."""
    path = folder / f"keys-{next(_numbers)}.json"
    write_keys(path, keys or (make_key("one", "hmac-sha256", status="active"), SEALING))
    return path


SEALING = make_key("box", "aes-256-gcm", status="active")


class Shop:
    """One application and what its tasks were called with."""

    def __init__(self, url: str, keys: Path, *, backend: str | None = None, **settings: Any) -> None:
        self.runs: list[tuple[str, Any]] = []
        defaults = {"security_key_file": str(keys), "security_signing": "require", "task_default_queue": "work"}
        app = self.app = Celeriac("shop", broker=url, backend=backend, **{**defaults, **settings})
        runs = self.runs

        @app.task(name="add")
        def add(x: int, y: int) -> int:
            runs.append(("add", x))
            return x + y

        @app.task(name="total")
        def total(numbers: list[int]) -> int:
            runs.append(("total", tuple(numbers)))
            return sum(numbers)

        @app.task(name="flaky", retry=Retry(attempts=3, delay=0.01, jitter=False))
        def flaky(key: str) -> str:
            runs.append(("flaky", key))
            if runs.count(("flaky", key)) < 3:
                raise LookupError(key)
            return key

        @app.task(name="fail")
        def fail(text: str) -> None:
            runs.append(("fail", text))
            raise LookupError(text)

        @app.task(name="quiet", ignore_result=True)
        def quiet(text: str) -> None:
            runs.append(("quiet", text))

        @app.task(name="told")
        def told(request: Any, exc: Any, traceback: Any) -> None:
            runs.append(("told", str(exc)))

        @app.task(name="parent")
        def parent(x: int) -> None:
            runs.append(("parent", x))
            add.delay(x, 1)

        @app.task(name="replaced", bind=True)
        def replaced(self: Any, x: int) -> None:
            runs.append(("replaced", x))
            self.replace(add.s(x, 100))

        self.add, self.total, self.flaky, self.fail = add, total, flaky, fail
        self.quiet, self.told, self.parent, self.replaced = quiet, told, parent, replaced

    def worker(self, **options: Any) -> RunningWorker:
        return RunningWorker(self.app, **options)

    def message(self, task: Any, *args: Any, **options: Any) -> Outgoing:
        """What `task.apply_async` would publish."""
        message: Outgoing = self.app._message(task.name, args, {}, options, task)
        return message

    def inject(self, *messages: Outgoing) -> None:
        """Put messages into the broker past all that this package does for its senders."""
        self.app.broker.publish([msgspec.structs.replace(message, fresh=False) for message in messages])

    def count(self, task: str) -> int:
        return sum(1 for name, _ in self.runs if name == task)


def headers_of(message: Outgoing) -> Headers:
    return msgspec.json.decode(message.headers, type=Headers)


def with_headers(message: Outgoing, **changes: Any) -> Outgoing:
    """The message with other headers, and the signature that it had."""
    changed = {**msgspec.json.decode(message.headers), **changes}
    return msgspec.structs.replace(
        message, headers=msgspec.json.encode({name: value for name, value in changed.items() if value is not None})
    )


def plain(value: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(value)
