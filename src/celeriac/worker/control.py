"""Remote control in Celery's form (protocol section 11.4): what `inspect` and `control` ask a worker.

Answered by the supervisor, which is never blocked, from the shared map and from what processes say within half a
second; of one that does not answer, the map still tells what runs there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal as signals
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from celeriac.engine.revoke import revoke
from celeriac.errors import CeleriacError
from celeriac.masking import masked
from celeriac.model import Cancellation, Cancelled
from celeriac.worker.throttle import interval_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.model import Peeked
    from celeriac.worker.children import Child
    from celeriac.worker.supervisor import Supervisor

_log = logging.getLogger("celeriac.worker")

ASK_S = 0.5
MOST_LISTED = 1000

_ALIASES = {
    "dump_conf": "conf",
    "dump_tasks": "registered",
    "dump_schedule": "scheduled",
    "dump_reserved": "reserved",
    "dump_active": "active",
    "dump_revoked": "revoked",
}
_COMMANDS = frozenset(
    {
        "active",
        "active_queues",
        "add_consumer",
        "autoscale",
        "cancel_consumer",
        "clock",
        "conf",
        "disable_events",
        "election",
        "enable_events",
        "heartbeat",
        "hello",
        "memsample",
        "ping",
        "pool_grow",
        "pool_restart",
        "pool_shrink",
        "query_task",
        "rate_limit",
        "registered",
        "report",
        "reserved",
        "revoke",
        "revoked",
        "scheduled",
        "shutdown",
        "stats",
        "terminate",
        "time_limit",
    }
)


class Control:
    """Answers commands for one worker. Each command is a method of its name."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._worker = supervisor

    async def handle(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Answer one command; never raises."""
        name = _ALIASES.get(method, method)
        if method in self._worker.manifest.commands:
            return await self._worker.ask_application(method, arguments)
        if name not in _COMMANDS:
            return {"error": f"KeyError({method!r})"}
        try:
            return await getattr(self, f"_{name}")(**arguments)
        except CeleriacError as exc:
            return {"error": str(exc)}
        except (TypeError, ValueError) as exc:  # mostly of arguments that do not fit
            _log.warning("remote command %s%r is refused: %r", method, dict(arguments), exc)
            return {"error": repr(exc)}
        except Exception as exc:
            _log.exception("remote command %s%r failed", method, dict(arguments))
            return {"error": repr(exc)}

    # -- looking -------------------------------------------------------------------------------------------------

    async def _ping(self) -> Any:
        return {"ok": "pong"}

    async def _clock(self) -> Any:
        return {"clock": self._worker.clock.value}

    async def _hello(self, from_node: str = "", revoked: Any = None, **_: Any) -> Any:
        """A Celery worker that starts asks its peers what is revoked, and says what it knows itself."""
        if from_node == self._worker.options.node:
            return None
        if isinstance(revoked, (list, dict)):
            known = set(self._worker.revoked_ids)
            if new := [one for one in revoked if isinstance(one, str) and one not in known][:MOST_LISTED]:
                await self._cancel(new, terminate=False, signal="SIGTERM")
        return {"revoked": self._worker.revoked_ids, "clock": self._worker.clock.forward()}

    async def _heartbeat(self, **_: Any) -> Any:
        self._worker.show_life("worker-heartbeat")

    async def _election(self, **_: Any) -> Any:
        """No Celery worker waits for our vote, and what is elected here would be run by none."""

    async def _active(self, safe: bool = False) -> Any:
        running, _ = await self._tasks(safe=safe)
        return running

    async def _reserved(self) -> Any:
        _, waiting = await self._tasks()
        return waiting

    async def _scheduled(self) -> Any:
        found: list[dict[str, Any]] = []
        for queue in self._worker.queues:
            peeked = await asyncio.to_thread(
                self._worker.broker.peek, queue, state="delayed", limit=MOST_LISTED - len(found)
            )
            found += [self._scheduled_info(one) for one in peeked]
        return found

    async def _registered(self, taskinfoitems: Sequence[str] = (), builtins: bool = False) -> Any:
        facts = {one.name: one for one in self._worker.manifest.tasks}
        names = sorted(name for name in facts if builtins or not name.startswith("celery."))
        shown = []
        for name in names:
            values = {item: getattr(facts[name], item, None) for item in taskinfoitems or ("rate_limit",)}
            if "rate_limit" in values:
                values["rate_limit"] = self._worker.rate_of(name)
            items = [f"{item}={value}" for item, value in values.items() if value is not None]
            shown.append(f"{name} [{' '.join(items)}]" if items else name)
        return shown

    async def _revoked(self) -> Any:
        return self._worker.revoked_ids

    async def _query_task(self, ids: Sequence[str] | str) -> Any:
        wanted = {ids} if isinstance(ids, str) else set(ids)
        peeked = await asyncio.to_thread(self._worker.broker.peek, ids=wanted, limit=max(1, len(wanted)))
        running, waiting = await self._tasks()
        found: dict[str, Any] = {}
        for one in peeked if wanted else ():
            if one.state == "delayed":
                found[one.id] = ["scheduled", self._scheduled_info(one)]
            elif one.state == "ready":
                found[one.id] = ["ready", self._peeked_info(one)]
        found.update({one["id"]: ["reserved", one] for one in waiting if one["id"] in wanted})
        found.update({one["id"]: ["active", one] for one in running if one["id"] in wanted})
        return found

    async def _active_queues(self) -> Any:
        return [self._worker.describe_queue(name) for name in self._worker.queues]

    async def _conf(self, with_defaults: bool = False) -> Any:
        return {key: _masked(key, value) for key, value in self._worker.manifest.settings.items()}

    async def _report(self) -> Any:
        worker = self._worker
        return {
            "ok": f"celeriac worker {worker.options.node}, app {worker.manifest.app}, "
            f"broker {masked(worker.manifest.broker_url)}, {len(worker.children)} processes"
        }

    async def _memsample(self) -> Any:
        return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.3f}MB"

    async def _stats(self) -> Any:
        worker = self._worker
        options = worker.options
        lively = [child for child in worker.children if child.pid]
        await asyncio.gather(*(child.ask(ASK_S) for child in lively))
        totals = dict(worker.totals)
        for child in lively:
            for name, count in child.totals.items():
                totals[name] = totals.get(name, 0) + count
        usage = resource.getrusage(resource.RUSAGE_SELF)
        url = urlsplit(worker.manifest.broker_url)
        return {
            "total": totals,
            "pid": os.getpid(),
            "clock": str(worker.clock.value),
            "uptime": int(worker.uptime_s),
            **({"beat": {"pid": worker.beat_pid}} if options.beat else {}),
            "pool": {
                "implementation": "celeriac.worker:threads" if options.threads else "celeriac.worker:processes",
                "max-concurrency": worker.wanted * (options.threads or 1),
                "processes": [child.pid for child in lively],
                "max-tasks-per-child": options.max_tasks_per_child or "N/A",
                "put-guarded-by-semaphore": False,
                "timeouts": [0, 0],
                "async-slots": options.async_slots,
                "writes": {},
            },
            "counters": {
                name: sum(child.slot.counters()[name] for child in lively)
                for name in (lively[0].slot.counters() if lively else ())
            },
            "broker": {
                "hostname": url.hostname,
                "userid": url.username,
                "virtual_host": unquote(url.path[1:]) or "/",
                "port": url.port,
                "insist": False,
                "ssl": url.scheme.endswith("s") and url.scheme != "sqs",
                "transport": url.scheme,
                "connect_timeout": 4,
                "transport_options": {},
                "login_method": None,
                "uri_prefix": None,
                "heartbeat": None,
                "failover_strategy": None,
                "alternates": [],
            },
            "prefetch_count": sum(child.slot.waiting for child in lively),
            "rusage": {
                "utime": usage.ru_utime,
                "stime": usage.ru_stime,
                "maxrss": usage.ru_maxrss,
                "minflt": usage.ru_minflt,
                "majflt": usage.ru_majflt,
                "nvcsw": usage.ru_nvcsw,
                "nivcsw": usage.ru_nivcsw,
            },
        }

    # -- changing ------------------------------------------------------------------------------------------------

    async def _revoke(
        self,
        task_id: str | Sequence[str],
        terminate: bool = False,
        signal: Any = None,
        stored: bool = False,
        **_: Any,
    ) -> Any:
        ids = [task_id] if isinstance(task_id, str) else [str(one) for one in task_id or ()]
        if stored:  # by a client of ours, who tells Celery's workers
            return {"ok": f"tasks {set(ids)} flagged as revoked"}
        running = {one.id for child in self._worker.children for one in child.slot.running()} if terminate else set()
        await self._cancel(ids, terminate=bool(terminate), signal=_signal_name(signal))
        if terminate:
            found = [one for one in ids if one in running]
            return {"ok": f"terminate: {', '.join(found) or 'tasks unknown'}"}
        return {"ok": f"tasks {set(ids)} flagged as revoked"}

    async def _cancel(self, ids: Sequence[str], *, terminate: bool, signal: str) -> None:
        worker, links = self._worker, self._worker.links
        if not ids:
            return
        answers = await asyncio.to_thread(
            revoke,
            ids,
            broker=links.broker,
            results=links.results,
            fused=links.fused,
            revoked=worker.casualties.cancelled,
            codec=worker.casualties.codec,
            terminate=terminate,
            signal=signal,
        )
        for task_id, answer in answers.items():
            if answer is Cancelled.REMOVED:  # no worker will meet it, so this one tells of its end
                worker.tell_of("task-revoked", uuid=task_id, terminated=False, signum=None, expired=False)
        worker.remember([Cancellation(id=one, terminate=terminate, signal=signal) for one in ids])

    async def _terminate(self, signal: str, task_id: str | Sequence[str], **_: Any) -> Any:
        return await self._revoke(task_id, terminate=True, signal=signal)

    async def _rate_limit(self, task_name: str, rate_limit: Any, **_: Any) -> Any:
        try:
            interval_of(rate_limit)
        except ValueError as exc:
            return {"error": f"Invalid rate limit string: {exc!r}"}
        if not self._is_known(task_name):
            return {"error": "unknown task"}
        self._worker.limit_rate(task_name, str(rate_limit or 0))
        if interval_of(rate_limit) is None:
            _log.info("%s has no rate limit any more, by remote control", task_name)
            return {"ok": "rate limit disabled successfully"}
        _log.info("%s has the rate limit %s, by remote control", task_name, rate_limit)
        return {"ok": "new rate limit set successfully"}

    async def _time_limit(self, task_name: str, hard: Any = None, soft: Any = None, **_: Any) -> Any:
        if not self._is_known(task_name):
            return {"error": "unknown task"}
        self._worker.limit_time(task_name, _seconds(hard), _seconds(soft))
        _log.info("%s has the time limits soft=%s hard=%s, by remote control", task_name, soft, hard)
        return {"ok": "time limits set successfully"}

    def _is_known(self, task: str) -> bool:
        return any(one.name == task for one in self._worker.manifest.tasks)

    async def _enable_events(self, **_: Any) -> Any:
        changed = self._worker.switch_events(True)
        return {"ok": "task events enabled" if changed else "task events already enabled"}

    async def _disable_events(self, **_: Any) -> Any:
        changed = self._worker.switch_events(False)
        return {"ok": "task events disabled" if changed else "task events already disabled"}

    async def _autoscale(self, **_: Any) -> Any:
        raise ValueError("Autoscale not enabled")

    async def _pool_grow(self, n: int = 1) -> Any:
        self._worker.grow(int(n))
        return {"ok": "pool will grow"}

    async def _pool_shrink(self, n: int = 1) -> Any:
        self._worker.shrink(int(n))
        return {"ok": "pool will shrink"}

    async def _pool_restart(self, **_: Any) -> Any:
        self._worker.restart()
        return {"ok": "reload started"}

    async def _add_consumer(self, queue: str, **options: Any) -> Any:
        self._worker.serve_queue(queue, {key: value for key, value in options.items() if value is not None})
        return {"ok": f"add consumer {queue}"}

    async def _cancel_consumer(self, queue: str, **_: Any) -> Any:
        self._worker.leave_queue(queue)
        return {"ok": f"no longer consuming from {queue}"}

    async def _shutdown(self, **_: Any) -> Any:
        _log.warning("shutdown by remote control")
        self._worker.stop()

    # -- parts ---------------------------------------------------------------------------------------------------

    async def _tasks(self, *, safe: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        running: list[dict[str, Any]] = []
        waiting: list[dict[str, Any]] = []
        lively = [child for child in self._worker.children if child.pid and not child.ended.done()]
        answers = await asyncio.gather(*(child.ask(ASK_S) for child in lively))
        for child, answer in zip(lively, answers, strict=True):
            if answer is None:
                running.extend(self._from_map(child))
                continue
            for one in answer["running"]:
                info = self._info(one["id"], one["name"], one["argsrepr"], one["kwargsrepr"], started=one["started"])
                info["worker_pid"] = child.pid
                info["delivery_info"] = one["delivery_info"]
                running.append(info if safe else _with_values(info, one))
            for one in answer["waiting"]:
                info = self._info(one["id"], one["name"], one["argsrepr"], one["kwargsrepr"])
                info["acknowledged"] = False
                info["delivery_info"] = one["delivery_info"]
                waiting.append(info if safe else _with_values(info, one))
        return running, waiting

    def _from_map(self, child: Child) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for one in child.slot.running():
            info = self._info(one.id, one.name, None, None, started=one.started)
            info["worker_pid"] = child.pid
            found.append(info)
        return found

    def _scheduled_info(self, one: Peeked) -> dict[str, Any]:
        eta = _headers(one.headers).get("eta")
        if eta is None and one.not_before is not None:
            eta = datetime.fromtimestamp(one.not_before, UTC).isoformat()
        return {"eta": eta, "priority": one.priority, "request": self._peeked_info(one)}

    def _peeked_info(self, one: Peeked) -> dict[str, Any]:
        headers = _headers(one.headers)
        info = self._info(one.id, one.task, headers.get("argsrepr"), headers.get("kwargsrepr"), queue=one.queue)
        info["delivery_info"]["priority"] = one.priority
        return info

    def _info(
        self,
        task_id: str,
        name: str,
        argsrepr: str | None,
        kwargsrepr: str | None,
        *,
        started: float | None = None,
        queue: str | None = None,
    ) -> dict[str, Any]:
        return {
            "id": task_id,
            "name": name,
            "args": argsrepr or "()",
            "kwargs": kwargsrepr or "{}",
            "type": name,
            "hostname": self._worker.options.node,
            "time_start": None if started is None else self._worker.wall_time(started),
            "acknowledged": False,
            "delivery_info": {"exchange": "", "routing_key": queue, "priority": 0, "redelivered": False},
            "worker_pid": None,
        }


def _with_values(info: dict[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments themselves, where the process has sent them."""
    return {**info, "args": facts.get("args", info["args"]), "kwargs": facts.get("kwargs", info["kwargs"])}


def _seconds(value: Any) -> float | None:
    """Raises ValueError where it is no time limit."""
    if value is None:
        return None
    seconds = float(value)
    if not 0.0 < seconds < 1e9:
        raise ValueError(f"{value!r} is not a time limit in seconds")
    return seconds


def _headers(raw: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _signal_name(signal: Any) -> str:
    if isinstance(signal, int) and not isinstance(signal, bool):
        return signals.Signals(signal).name
    name = str(signal or "SIGTERM").upper()
    return name if name.startswith("SIG") else f"SIG{name}"


def _masked(key: str, value: Any) -> Any:
    lowered = key.lower()
    if isinstance(value, str) and "://" in value:
        return masked(value)
    if value and any(word in lowered for word in ("password", "secret", "token", "_key", "apikey")):
        return "********"
    if isinstance(value, dict):
        return {inner: _masked(str(inner), one) for inner, one in value.items()}
    return value
