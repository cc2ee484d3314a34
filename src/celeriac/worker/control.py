"""Remote control in Celery's form (protocol section 11.4): what `inspect` and `control` ask a worker.

Answered by the supervisor, which is never blocked, from the shared map and from what processes say within half a
second; of one that does not answer, the map still tells what runs there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from celeriac.engine.revoke import revoke
from celeriac.errors import CeleriacError
from celeriac.model import Cancellation
from celeriac.worker.logging import mask

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
        "cancel_consumer",
        "clock",
        "conf",
        "heartbeat",
        "hello",
        "memsample",
        "ping",
        "pool_grow",
        "pool_restart",
        "pool_shrink",
        "query_task",
        "registered",
        "report",
        "reserved",
        "revoke",
        "revoked",
        "scheduled",
        "shutdown",
        "stats",
        "terminate",
    }
)


class Control:
    """Answers commands for one worker. Each command is a method of its name."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._worker = supervisor

    async def handle(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Answer one command; never raises."""
        name = _ALIASES.get(method, method)
        if name not in _COMMANDS:
            return {"error": f"KeyError({method!r})"}
        try:
            return await getattr(self, f"_{name}")(**arguments)
        except CeleriacError as exc:
            return {"error": str(exc)}
        except Exception as exc:
            _log.exception("remote command %s%r failed", method, dict(arguments))
            return {"error": repr(exc)}

    # -- looking -------------------------------------------------------------------------------------------------

    async def _ping(self) -> Any:
        return {"ok": "pong"}

    async def _clock(self) -> Any:
        return {"clock": 0}

    async def _hello(self, from_node: str = "", revoked: Any = None) -> Any:
        if from_node == self._worker.options.node:
            return None
        return {"revoked": self._worker.revoked_ids, "clock": 0}

    async def _heartbeat(self) -> Any:
        return None

    async def _active(self, safe: bool = False) -> Any:
        running, _ = await self._tasks()
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
        if not taskinfoitems:
            return names
        shown = []
        for name in names:
            items = [f"{item}={getattr(facts[name], item)}" for item in taskinfoitems if hasattr(facts[name], item)]
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
        return [_queue(name) for name in self._worker.queues]

    async def _conf(self, with_defaults: bool = False) -> Any:
        return {key: _masked(key, value) for key, value in self._worker.manifest.settings.items()}

    async def _report(self) -> Any:
        worker = self._worker
        return {
            "ok": f"celeriac worker {worker.options.node}, app {worker.manifest.app}, "
            f"broker {mask(worker.manifest.broker_url)}, {len(worker.children)} processes"
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
            "clock": "0",
            "uptime": int(worker.uptime_s),
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
                "virtual_host": url.path.lstrip("/") or "/",
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
        self, task_id: str | Sequence[str], terminate: bool = False, signal: str | None = None, **_: Any
    ) -> Any:
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        name, links = _signal_name(signal), self._worker.links
        await asyncio.to_thread(
            revoke,
            ids,
            broker=links.broker,
            results=links.results,
            fused=links.fused,
            revoked=self._worker.casualties.cancelled,
            terminate=bool(terminate),
            signal=name,
        )
        self._worker.remember([Cancellation(id=one, terminate=bool(terminate), signal=name) for one in ids])
        if terminate:
            return {"ok": f"terminate: {', '.join(ids)}"}
        return {"ok": f"tasks {set(ids)} flagged as revoked"}

    async def _terminate(self, signal: str, task_id: str | Sequence[str]) -> Any:
        return await self._revoke(task_id, terminate=True, signal=signal)

    async def _pool_grow(self, n: int = 1) -> Any:
        self._worker.grow(int(n))
        return {"ok": "pool will grow"}

    async def _pool_shrink(self, n: int = 1) -> Any:
        self._worker.shrink(int(n))
        return {"ok": "pool will shrink"}

    async def _pool_restart(self, **_: Any) -> Any:
        self._worker.restart()
        return {"ok": "reload started"}

    async def _add_consumer(self, queue: str, **_: Any) -> Any:
        self._worker.serve_queue(queue)
        return {"ok": f"add consumer {queue}"}

    async def _cancel_consumer(self, queue: str, **_: Any) -> Any:
        self._worker.leave_queue(queue)
        return {"ok": f"no longer consuming from {queue}"}

    async def _shutdown(self, **_: Any) -> Any:
        _log.warning("shutdown by remote control")
        self._worker.stop()

    # -- parts ---------------------------------------------------------------------------------------------------

    async def _tasks(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
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
                running.append(info)
            for one in answer["waiting"]:
                info = self._info(one["id"], one["name"], one["argsrepr"], one["kwargsrepr"])
                info["acknowledged"] = False
                info["delivery_info"] = one["delivery_info"]
                waiting.append(info)
        return running, waiting

    def _from_map(self, child: Child) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for one in child.slot.running():
            info = self._info(one.id, one.name, None, None, started=one.started)
            info["worker_pid"] = child.pid
            found.append(info)
        return found

    def _scheduled_info(self, one: Peeked) -> dict[str, Any]:
        return {"eta": _headers(one.headers).get("eta"), "priority": one.priority, "request": self._peeked_info(one)}

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


def _headers(raw: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return {}
    return found if isinstance(found, dict) else {}


def _signal_name(signal: Any) -> str:
    name = str(signal or "SIGTERM").upper()
    return name if name.startswith("SIG") else f"SIG{name}"


def _masked(key: str, value: Any) -> Any:
    lowered = key.lower()
    if isinstance(value, str) and "://" in value:
        return mask(value)
    if value and any(word in lowered for word in ("password", "secret", "token", "_key", "apikey")):
        return "********"
    if isinstance(value, dict):
        return {inner: _masked(str(inner), one) for inner, one in value.items()}
    return value


def _queue(name: str) -> dict[str, Any]:
    exchange = {
        "name": name,
        "type": "direct",
        "arguments": None,
        "durable": True,
        "passive": False,
        "auto_delete": False,
        "delivery_mode": None,
        "no_declare": False,
    }
    nothing = (
        "queue_arguments",
        "binding_arguments",
        "consumer_arguments",
        "alias",
        "no_declare",
        "expires",
        "message_ttl",
        "max_length",
        "max_length_bytes",
        "max_priority",
    )
    return {
        "name": name,
        "exchange": exchange,
        "routing_key": name,
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "no_ack": False,
        "bindings": [],
        **dict.fromkeys(nothing),
    }
