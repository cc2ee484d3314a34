"""Commands to workers and to queues: `app.control`, with Celery's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.canvas import ids_in
from celeriac.engine.revoke import revoke
from celeriac.errors import CodecError
from celeriac.model import Outgoing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.app.application import Celeriac
    from celeriac.model import Cancelled, DeadLetter


class Control:
    """Reaches the workers and queues of one application."""

    def __init__(self, app: Celeriac) -> None:
        self._app = app

    def revoke(
        self, task_id: str | Sequence[str], *, terminate: bool = False, signal: str = "SIGTERM"
    ) -> dict[str, Cancelled]:
        """Durably forbid tasks to start, on this and every other worker, now and later.

        Celery's workers are told, too, where there are some (`task_celery_queues`); they remember it as Celery does.

        Args:
            task_id: One id, or several.
            terminate: Also stop those that run: a process task's process gets `signal`, an async task is cancelled.
            signal: For `terminate`.

        Returns:
            Per id: `REMOVED` (it was waiting and is gone) or `MARKED` (held by a worker, or not known yet).
        """
        app = self._app
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        answers = revoke(
            ids,
            broker=app.broker,
            results=app.results,
            fused=app.fused,
            revoked=app.result_writer(None).cancelled,
            codec=app.codec,
            terminate=terminate,
            signal=signal,
        )
        if app.settings.task_celery_queues:
            # Celery's workers know of an order only if they hear it; ours need not do again what is done
            self.broadcast("revoke", {"task_id": ids, "terminate": terminate, "signal": signal, "stored": True})
        return answers

    def terminate(self, task_id: str | Sequence[str], signal: str = "SIGTERM") -> dict[str, Cancelled]:
        """`revoke` with `terminate=True`."""
        return self.revoke(task_id, terminate=True, signal=signal)

    def revive(self, ids: Sequence[str], *, sign: bool = False) -> int:
        """Put dead letters back into their queues, as if they had never run; returns how many there were.

        With signatures, what was signed and has become too old is signed anew, by a key of this process.

        Args:
            ids: Of dead letters; others are fine.
            sign: Also sign what nobody has signed who may. Look at it first: it runs as if this process had sent it.

        What was stored when they were given up is forgotten: their failures, and those of the rest of their chains,
        which goes on when they succeed. A chord that such a task was a member of has failed, and stays so.
        """
        app = self._app
        letters = app.broker.dead_letters(ids=ids, limit=len(ids)) if ids else ()
        if letters and app.results is not None:
            # First: a stored failure is final, so the store would refuse what the second run returns, and would take
            # the message for one that has run already.
            app.results.forget([task_id for letter in letters for task_id in (letter.id, *self._behind(letter))])
        again = self._signed_again(letters, trusted=sign)
        if again:
            app.broker.drop_dead([message.id for message in again])  # as long as it is there, no other has its id
            app.broker.publish(again)
        done = {message.id for message in again}
        return len(again) + app.broker.revive([letter.id for letter in letters if letter.id not in done])

    def _signed_again(self, letters: Sequence[DeadLetter], *, trusted: bool) -> list[Outgoing]:
        codec, again = self._app.codec, list[Outgoing]()
        signer = codec.signer
        if signer is None:
            return again
        for letter in letters:
            try:
                head = codec.decode_headers(letter.headers)
            except CodecError:
                continue  # it will be refused again, for that
            renewed = signer.renew(head, letter.body, letter.queue, trusted=trusted)
            if renewed is not None:
                head, priority = renewed
                again.append(
                    Outgoing(
                        id=letter.id,
                        task=letter.task,
                        queue=letter.queue,
                        headers=codec.encode_headers(head),
                        body=letter.body,
                        priority=priority,
                        native=True,  # it was ours that buried it, so ours know its task
                    )
                )
        return again

    def _behind(self, letter: DeadLetter) -> list[str]:
        """The ids of the steps that follow a task in its chain, where its message can be read."""
        codec = self._app.codec
        try:
            embed = codec.decode_embed(codec.decode_headers(letter.headers), letter.body)
            return [task_id for step in embed.chain or () for task_id in ids_in(step)]
        except CodecError:
            return []

    def purge(self, queues: Sequence[str] | None = None) -> int:
        """Delete the waiting messages of these queues (None: of all configured ones) for good; returns how many."""
        return self._app.broker.purge(list(queues or self._app.router.queues))

    discard_all = purge

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        *,
        reply: bool = False,
        timeout: float = 1.0,
    ) -> list[dict[str, Any]]:
        """Send any command to workers; with `reply`, collect `{node: answer}` until `timeout` seconds are over."""
        answers = self._app.control_channel.call(
            command, arguments, destination=destination, timeout_s=timeout, reply=reply
        )
        return [{node: answer} for node, answer in answers.items()]

    def ping(self, destination: Sequence[str] | None = None, timeout: float = 1.0) -> list[dict[str, Any]]:
        """`[{node: {"ok": "pong"}}, …]` of the workers that are up."""
        return self.broadcast("ping", None, destination, reply=True, timeout=timeout)

    def shutdown(self, destination: Sequence[str] | None = None) -> None:
        """Ask workers to stop warmly: running tasks finish first."""
        self.broadcast("shutdown", None, destination)

    def pool_grow(self, n: int = 1, destination: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Add `n` processes to each worker."""
        return self.broadcast("pool_grow", {"n": n}, destination, reply=True)

    def pool_shrink(self, n: int = 1, destination: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Take `n` processes from each worker, once their tasks have ended."""
        return self.broadcast("pool_shrink", {"n": n}, destination, reply=True)

    def add_consumer(self, queue: str, destination: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Make workers serve one more queue."""
        return self.broadcast("add_consumer", {"queue": queue}, destination, reply=True)

    def cancel_consumer(self, queue: str, destination: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Make workers leave a queue."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, reply=True)

    def rate_limit(
        self, task_name: str, rate_limit: str | float, destination: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Change how often a task may start on each worker: `10/s`, `10/m`, `10/h`; 0 takes the limit away."""
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, reply=True)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Change a task's time limits in seconds, for runs that begin from now on; None: what the settings say."""
        arguments = {"task_name": task_name, "soft": soft, "hard": hard}
        return self.broadcast("time_limit", arguments, destination, reply=True)

    def enable_events(self, destination: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Make workers send task events."""
        return self.broadcast("enable_events", None, destination, reply=True)

    def disable_events(self, destination: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Make workers send no more task events."""
        return self.broadcast("disable_events", None, destination, reply=True)

    def heartbeat(self, destination: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Make workers show at once that they live."""
        return self.broadcast("heartbeat", None, destination, reply=True)

    def inspect(self, destination: Sequence[str] | None = None, timeout: float = 1.0) -> Inspect:
        """Ask workers what they do."""
        return Inspect(self, destination, timeout)


class Inspect:
    """Questions to workers; each answer is `{node: reply}`, empty when no worker is up."""

    def __init__(self, control: Control, destination: Sequence[str] | None, timeout: float) -> None:
        self._control = control
        self._destination = destination
        self._timeout = timeout

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Any command by name."""
        answers = self._control.broadcast(command, arguments, self._destination, reply=True, timeout=self._timeout)
        return {node: reply for answer in answers for node, reply in answer.items()}

    def ping(self) -> dict[str, Any]:
        return self.ask("ping")

    def active(self) -> dict[str, Any]:
        """The tasks that run now."""
        return self.ask("active")

    def reserved(self) -> dict[str, Any]:
        """The tasks that were taken from the queue and have not started."""
        return self.ask("reserved")

    def scheduled(self) -> dict[str, Any]:
        """The tasks that are not due yet; the store holds them, so every worker names the same."""
        return self.ask("scheduled")

    def registered(self) -> dict[str, Any]:
        """The names of the tasks each worker knows."""
        return self.ask("registered")

    def stats(self) -> dict[str, Any]:
        return self.ask("stats")

    def active_queues(self) -> dict[str, Any]:
        return self.ask("active_queues")

    def revoked(self) -> dict[str, Any]:
        return self.ask("revoked")

    def conf(self) -> dict[str, Any]:
        return self.ask("conf")

    def report(self) -> dict[str, Any]:
        """What each worker is, in a line."""
        return self.ask("report")

    def clock(self) -> dict[str, Any]:
        """Each worker's logical clock."""
        return self.ask("clock")

    def memsample(self) -> dict[str, Any]:
        """The most memory that each worker's supervisor has held."""
        return self.ask("memsample")

    def query_task(self, *ids: str) -> dict[str, Any]:
        """Where these tasks are: active, reserved, scheduled or ready."""
        return self.ask("query_task", {"ids": list(ids)})
