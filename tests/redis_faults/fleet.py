"""Workers as real processes, producers as real threads, and a ledger that knows what ran."""

from __future__ import annotations

import json
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from faulted_shop import LEDGER, SETTINGS, URL, make_app
from history import History, Run, check, read

from celeriac import Celeriac
from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec.kombu import KombuForm
from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.model import new_task_id
from servers import Program, wait_until

HERE = Path(__file__).parent
LEASE_S = 2.0
TIMEOUT_S = 2.0
"""`task_publish_timeout` of producers and workers."""
BACK_S = 5.0
"""So long after a fault is over it may still be the reason of a second run."""
PATIENCE_S = 45.0
"""How long workers get to consume again. What they take is a figure of the machine, and decides no test."""
SLACK_S = 0.5
"""What a producer's call may take beyond its timeout."""


class Worker:
    """A worker of the fleet."""

    def __init__(self, program: Program, node: str) -> None:
        self.program = program
        self.node = node

    @property
    def pids(self) -> list[int]:
        """Its processes: the supervisor, the fork server, those that run tasks."""
        found = [self.program.pid]
        for pid in found:
            try:
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except OSError:
                continue  # it has just ended
        return found

    @property
    def log(self) -> str:
        return self.program.log

    def kill(self) -> None:
        """SIGKILL to all of it at once."""
        self.program.kill()


class Fleet:
    """Workers and producers on one Redis, and what they did.

    Args:
        folder: For logs and the ledger.
        url: The workers' broker.
        settings: Of the application, over those of the tests.
    """

    def __init__(self, folder: Path, url: str, **settings: Any) -> None:
        self.folder = folder
        self.url = url
        self.ledger = folder / "ledger"
        self.settings = {
            "worker_lease": LEASE_S,
            "worker_reap_every": 0.5,
            "task_publish_timeout": TIMEOUT_S,
            "worker_grace": 5.0,
            **settings,
        }
        self.history = History()
        self.trouble: Exception | None = None
        """Of the last publish that was no success."""
        self.workers: list[Worker] = []
        self.killed: set[int] = set()
        self.cut_off: list[tuple[float, float]] = []
        self._apps: list[Celeriac] = []

    # -- who works -----------------------------------------------------------------------------------------------

    def start(self, *options: str, url: str | None = None, ready: bool = True) -> Worker:
        """Start a worker of two processes."""
        node = f"w{len(self.workers)}"
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            LEDGER: str(self.ledger),
            URL: url or self.url,
            SETTINGS: json.dumps(self.settings),
        }
        words = [sys.executable, "-m", "celeriac", "-A", "faulted_shop", "worker", "-n", f"{node}@test", "-c", "2"]
        program = Program([*words, *options], log=self.folder / f"{node}.log", environment=environment)
        worker = Worker(program, node)
        self.workers.append(worker)
        if ready:
            program.wait_until(lambda: re.search(r"\bready\b", worker.log), "the worker to be ready")
        return worker

    def kill(self, worker: Worker) -> None:
        """SIGKILL to a worker's whole group; what it ran may run again."""
        self.killed.update(worker.pids)
        worker.kill()

    # -- who asks ------------------------------------------------------------------------------------------------

    def app(self, url: str | None = None, **settings: Any) -> Celeriac:
        """An application for producers."""
        app = make_app(url or self.url, **{**self.settings, **settings})
        self._apps.append(app)
        return app

    def send(self, app: Celeriac, *args: Any, task: str = "work", task_id: str | None = None, **options: Any) -> str:
        """Publish one task and note what came of it; its id, "" where no id is known and nothing may run.

        Errors that say what they mean are no failures.
        """
        history, which = self.history, self.history.acknowledged
        ids: tuple[str, ...] = () if task_id is None else (task_id,)
        began = time.monotonic()
        try:
            ids = (app.send_task(task, args, task_id=task_id, **options).id,)
        except EnqueueRejectedError as exc:
            which, ids, self.trouble = history.rejected, exc.task_ids, exc
        except EnqueueUnknownError as exc:
            which, ids, self.trouble = history.unknown, exc.task_ids, exc
        except BrokerUnavailableError as exc:
            which, self.trouble = set(), exc  # it says that nothing was stored
        finally:
            took_s = time.monotonic() - began
        history.note(which, ids, took_s)
        assert took_s <= app.settings.task_publish_timeout + SLACK_S, f"publishing took {took_s:.2f} s"
        return ids[0] if ids else ""

    @contextmanager
    def producing(
        self,
        app: Celeriac | None = None,
        *,
        pause_s: float = 0.01,
        seconds: Callable[[random.Random], float] = lambda luck: luck.uniform(0.0, 0.03),
        luck: random.Random | None = None,
        repeats: bool = True,
        **options: Any,
    ) -> Iterator[None]:
        """Publish one task after another in a thread, repeating with the same id what has an unknown outcome."""
        app = app or self.app()
        luck = luck or random.Random(0)
        over = threading.Event()

        def produce() -> None:
            try:
                while not over.is_set():
                    task_id = self.send(app, seconds(luck), task=luck.choice(("work", "awork")), **options)
                    while repeats and task_id in self.history.unknown - self.history.acknowledged:
                        if over.wait(0.05):
                            return
                        self.send(app, 0.0, task_id=task_id, **options)
                    over.wait(pause_s)
            except BaseException as exc:
                self.history.errors.append(exc)

        with self._in_thread(produce, over):
            yield

    @contextmanager
    def producing_for_celery(self, url: str, *, queue: str = "celery", pause_s: float = 0.01) -> Iterator[None]:
        """Write kombu's envelopes to kombu's lists, as Celery's producers do; what is unknown is not repeated."""
        app = self.app(url)
        form = KombuForm(app.codec)
        over = threading.Event()

        def produce() -> None:
            with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S) as client:
                while not over.is_set():
                    message = app.submitter.build("work", (0.01,), {}, queue=queue)
                    which = self.history.acknowledged
                    try:
                        client.lpush(queue, form.encode(message))
                    except redis.RedisError:
                        which = self.history.unknown
                    self.history.note(which, [message.id], 0.0)
                    over.wait(pause_s)

        with self._in_thread(produce, over):
            yield

    @contextmanager
    def _in_thread(self, work: Callable[[], None], over: threading.Event) -> Iterator[None]:
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(30)
        assert not thread.is_alive(), "a producer hangs"

    # -- what came of it -----------------------------------------------------------------------------------------

    def runs(self) -> dict[str, list[Run]]:
        return read(self.ledger)

    def ended(self) -> set[str]:
        return {task_id for task_id, mine in self.runs().items() if any(run.ended is not None for run in mine)}

    def wait_ended(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until so many tasks have ended."""
        self.wait(lambda: len(self.ended()) >= count, f"{count} tasks to end", timeout_s)

    def wait_works(self, within_s: float = PATIENCE_S, *, app: Celeriac | None = None, queue: str = "celery") -> float:
        """Wait until a task that is sent now has run; how long that took."""
        app = app or self.app()
        began = time.monotonic()
        probe = new_task_id()
        while probe not in self.history.acknowledged:
            assert time.monotonic() - began < within_s, (
                f"nothing can be sent for {within_s:g} s: {self.trouble!r}\n{self.logs()}"
            )
            self.send(app, task="work", task_id=probe, priority=9, queue=queue)
        self.wait(lambda: probe in self.ended(), "workers to consume again", within_s - (time.monotonic() - began))
        return time.monotonic() - began

    def wait_all(self, timeout_s: float = 25.0, *, app: Celeriac | None = None) -> None:
        """Wait until everything that was acknowledged has run, and the queues are empty."""
        self.wait(lambda: not self.history.acknowledged - self.ended(), "all acknowledged tasks to run", timeout_s)
        app = app or self.app()

        def is_empty() -> bool:
            return not any(depth.ready + depth.delayed + depth.held for depth in app.broker.depth().values())

        self.wait(is_empty, "empty queues", timeout_s)

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float) -> None:
        try:
            wait_until(condition, what, max(timeout_s, 0.01))
        except TimeoutError as exc:
            missing = self.history.acknowledged - self.ended()
            raise AssertionError(
                f"{exc}; {len(missing)} of {len(self.history.acknowledged)} acknowledged tasks have not run: "
                f"{sorted(missing)[:5]}; depths {self._depths()}\n{self.logs()}"
            ) from None

    def _depths(self) -> Any:
        try:
            return self.app().broker.depth()
        except Exception as exc:
            return exc

    def check(self, **facts: Any) -> int:
        """As `history.check`, with the kills and spans of this fleet."""
        for worker in self.workers:
            assert "the claim loop failed" not in worker.log, worker.log[-60000:]
            assert "a part of the supervisor failed" not in worker.log, worker.log[-60000:]
            assert "the broker refuses the outcome" not in worker.log, worker.log[-60000:]
        try:
            return check(self.history, self.runs(), killed=self.killed, cut_off=self.cut_off, **facts)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.logs()}") from exc

    @contextmanager
    def cut(self, *, before_s: float = 0.5, after_s: float = BACK_S) -> Iterator[None]:
        """A fault that takes leases away: what ran or ended in its span may run again."""
        began = time.monotonic() - before_s
        try:
            yield
        finally:
            self.cut_off.append((began, time.monotonic() + after_s))

    def logs(self) -> str:
        return "\n".join(f"--- {worker.node}\n{worker.log[-4000:]}" for worker in self.workers)

    def close(self) -> None:
        for worker in self.workers:
            worker.program.kill()
        for app in self._apps:
            app.close()


def pause(seconds: float) -> None:
    """Let a fault last; not a wait for something to happen."""
    SYSTEM_CLOCK.pause(seconds)
