"""Where a Redis is, and synchronous calls to it: one server, the master of some sentinels, the nodes of a cluster."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import BrokerUnavailableError
from celeriac.interfaces.deadline import GIVE_UP_AT
from celeriac.interfaces.meanwhile import MEANWHILE
from celeriac.storage import forks
from celeriac.storage.redis import faults
from celeriac.storage.redis.url import RedisUrl
from celeriac.storage.redis.wire import packed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celeriac.storage.redis.scripts import Script

    Address = tuple[str, int] | str
    """Host and port, or the path of a socket."""

_IDLE: Final = 16
"""Connections that are kept open while nobody uses them."""
_LEAST_S: Final = 0.01
"""What a connection gets whose caller has no time left."""
_SLACK_S: Final = 0.05
_KEEPALIVE: Final = {
    name: value
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if (name := getattr(socket, option, None)) is not None
}


class ReplyLostError(BrokerUnavailableError):
    """The command was sent and its reply was lost: it may have been carried out or not."""


class Deployment:
    """A Redis as its URL describes it. Safe to use from any number of threads; reconnects after `fork()`.

    Args:
        url: See `RedisUrl.parse`.
        timeout_s: How long one call may take, connecting included.
        options: Celery's transport options.

    Nothing is connected before the first call.

    Raises:
        ConfigError: The URL is wrong.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0, options: Mapping[str, Any] | None = None) -> None:
        self.where = RedisUrl.parse(url, options)
        self.url = self.where.normal
        self.timeout_s = timeout_s
        self.is_cluster = self.where.kind == "cluster"
        self._map: Any = None
        self._start_afresh()
        forks.register(self)

    def _start_afresh(self) -> None:
        self._gate = threading.Lock()
        self._idle: dict[Address, deque[redis.Connection]] = {}
        self._address: Address | None = None
        self._map = None

    # -- where ------------------------------------------------------------------------------------------------------

    def settings(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """What a connection of redis-py is made with, but for the address."""
        where = self.where
        made: dict[str, Any] = {
            "db": where.db,
            "username": where.username,
            "password": where.password,
            "socket_timeout": self.timeout_s if timeout_s is None else timeout_s,
            "socket_connect_timeout": self.timeout_s if timeout_s is None else timeout_s,
            "retry": Retry(NoBackoff(), 0),  # what is repeated, and how, is decided above
            "protocol": 2,
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        if where.kind != "socket":
            made |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
        if where.tls:
            made |= where.tls_options
        return made

    def address(self, key: str) -> Address:
        """Where `key` lives; asks the sentinels, or the cluster's nodes, unless it is known.

        Raises:
            redis.exceptions.RedisError: Nobody could be asked.
        """
        where = self.where
        if where.kind == "socket":
            return where.path or ""
        if where.kind == "server":
            return where.hosts[0]
        if where.kind == "sentinel":
            found = self._address
            if found is None:
                found = self._address = self._discover()
            return found
        cluster = self._map
        if cluster is None:
            with self._gate:
                cluster = self._map = self._map or self._read_map()
        node = cluster.get_node_from_key(key)
        if node is None:
            raise exceptions.ClusterDownError(f"no node of the cluster serves the slot of {key!r}")
        return node.host, node.port

    def _discover(self) -> Address:
        from redis.sentinel import Sentinel

        where = self.where
        each_s = min(1.0, self.timeout_s / (len(where.hosts) + 1))  # the master must be asked, too
        kwargs: dict[str, Any] = {"socket_timeout": each_s, "socket_connect_timeout": each_s, "protocol": 2}
        if where.sentinel_password:
            kwargs |= {"password": where.sentinel_password, "username": where.sentinel_username}
        if where.tls:
            kwargs |= {"ssl": True, **where.tls_options}
        sentinels = Sentinel(where.hosts, sentinel_kwargs=kwargs)
        try:
            host, port = sentinels.discover_master(where.master)
            return str(host), int(port)
        finally:
            for each in sentinels.sentinels:
                each.close()

    def _read_map(self) -> Any:
        from redis.cluster import ClusterNode, RedisCluster

        where = self.where
        # A node that hangs is asked, too, and after a call that waited for it: little may be added to that time.
        each_s = min(1.0, self.timeout_s / 10.0)
        kwargs: dict[str, Any] = {
            "username": where.username,
            "password": where.password,
            "socket_timeout": each_s,
            "socket_connect_timeout": each_s,
            "protocol": 2,
        }
        if where.tls:
            kwargs |= {"ssl": True, **where.tls_options}
        nodes = [ClusterNode(host, port) for host, port in where.hosts]
        return RedisCluster(startup_nodes=nodes, **kwargs)

    def look_again(self) -> None:
        """Forget where things are: after a fail-over, or when a slot has moved."""
        self._address = None
        cluster = self._map
        if cluster is not None:
            try:
                cluster.nodes_manager.initialize()
            except exceptions.RedisError:
                self._map = None

    # -- calls ------------------------------------------------------------------------------------------------------

    def run(
        self,
        script: Script,
        keys: Sequence[Any],
        args: Sequence[Any],
        doing: str,
        *,
        repeat: Callable[[], tuple[Script, Sequence[Any]]] | None = None,
        calls: list[str] | None = None,
    ) -> Any:
        """Run a script where its first key lives.

        Args:
            script: Loaded where the server does not know it.
            keys: All of one slot.
            args: Strings, bytes or numbers.
            doing: For messages: "could not `doing` redis://…".
            repeat: What to run for a second try, when the first one's connection had been idle and turned out broken,
                and with which arguments; None: the same.
            calls: For a script that must not be carried out twice: the names, "connection number", of earlier calls
                with the same content whose replies were lost. The names of those that are made now are added. The
                script's last three arguments are the earlier ones, and connection and number of the call.

        Raises:
            ReplyLostError: It may have run.
            BrokerUnavailableError: It did not run; the server cannot be reached, or refused for now.
            StorageError: The server refused for good.
            EnqueueRejectedError: The server is out of memory.
        """
        count = len(keys)

        def work(link: redis.Connection, again: bool, until: float) -> Any:
            what, how = repeat() if again and repeat is not None else (script, args)
            if calls is None:
                return self._evaluate(link, what, (count, *keys, *how), until)
            name, number = self._sign(link)
            try:
                return self._evaluate(link, what, (count, *keys, *how, " ".join(calls), name, number), until)
            except BaseException:
                calls.append(f"{name} {number}")
                raise

        return self._try(str(keys[0]) if keys else "", work, doing)

    def call(self, doing: str, *command: Any) -> Any:
        """Send one command; its second part is the key that says where. Raises as `run`."""
        return self._try(
            str(command[1]) if len(command) > 1 else "",
            lambda link, _, until: self._exchange(link, until, *command),
            doing,
        )

    @staticmethod
    def _sign(link: Any) -> tuple[str, int]:
        """Number the next call of a connection."""
        calls = link.celeriac_calls
        calls[1] += 1
        return calls[0], calls[1]

    def _evaluate(self, link: redis.Connection, script: Script, rest: tuple[Any, ...], until: float) -> Any:
        try:
            return self._exchange(link, until, "EVALSHA", script.digest, *rest)
        except exceptions.NoScriptError:
            return self._exchange(link, until, "EVAL", script.text, *rest)

    def _exchange(self, link: redis.Connection, until: float, *command: Any) -> Any:
        link.send_packed_command((packed(command),), check_health=False)
        if (work := MEANWHILE.get()) is not None:
            MEANWHILE.set(None)
            began = SYSTEM_CLOCK.monotonic()
            work()
            until += SYSTEM_CLOCK.monotonic() - began  # the answer is there by now, or has its time yet
        left_s = until - SYSTEM_CLOCK.monotonic()
        if left_s > self.timeout_s - _SLACK_S:  # nearly always; setting the timeout anew would take a microsecond
            return link.read_response(disable_decoding=True)
        return link.read_response(disable_decoding=True, timeout=max(left_s, _LEAST_S))

    def _try(self, key: str, work: Callable[[redis.Connection, bool, float], Any], doing: str) -> Any:
        until = min(SYSTEM_CLOCK.monotonic() + self.timeout_s, GIVE_UP_AT.get())
        again = is_unknown = False
        while True:
            link: redis.Connection | None = None
            used = False
            try:
                address, link, used = self._take(key, until)
                reply = work(link, again, until)
            except (exceptions.RedisError, OSError) as exc:
                if link is not None:
                    link.disconnect()
                is_lost = link is not None and faults.is_connection_lost(exc)
                is_unknown = is_unknown or is_lost
                is_elsewhere = isinstance(exc, exceptions.MovedError | exceptions.AskError) or faults.is_passing(exc)
                if link is None or is_elsewhere or self.where.kind != "server":
                    self.look_again()
                if is_lost:
                    self._drop_idle()
                # One that had been idle: most likely the server was started anew meanwhile.
                may_help = is_elsewhere or (is_lost and used and not faults.is_timeout(exc))
                if may_help and not again and SYSTEM_CLOCK.monotonic() < until:
                    again = True
                    continue
                reason = faults.translate(exc, doing, self.url, self.timeout_s)
                if is_unknown:  # whatever the second try was told: the first one may have been carried out
                    raise ReplyLostError(str(reason)) from exc
                raise reason from exc
            except BaseException:
                if link is not None:
                    link.disconnect()
                raise
            self._give(address, link)
            return reply

    def _take(self, key: str, until: float) -> tuple[Address, redis.Connection, bool]:
        address = self.address(key)
        idle = self._idle.get(address)
        if idle:
            try:
                return address, idle.pop(), True
            except IndexError:
                pass  # another thread was quicker
        left_s = max(until - SYSTEM_CLOCK.monotonic(), _LEAST_S)
        link = self.connect(address, timeout_s=min(left_s, self.timeout_s))
        link.update_current_socket_timeout(self.timeout_s)
        return address, link, False

    def _give(self, address: Address, link: redis.Connection) -> None:
        if link.pid != os.getpid():
            return
        idle = self._idle.get(address)
        if idle is None:
            idle = self._idle.setdefault(address, deque())
        if len(idle) < _IDLE:
            idle.append(link)
        else:
            link.disconnect()

    def _drop_idle(self) -> None:
        for idle in list(self._idle.values()):
            while idle:
                try:
                    idle.pop().disconnect()
                except IndexError:
                    break

    def connect(self, address: Address, *, timeout_s: float | None = None) -> redis.Connection:
        """Open a synchronous connection of the caller's own."""
        settings = self.settings(timeout_s=timeout_s)
        link: Any  # redis-py's classes have no type in common that says what they share
        if isinstance(address, str):
            link = redis.UnixDomainSocketConnection(path=address, **settings)  # type: ignore[abstract]
        else:
            kind = redis.SSLConnection if self.where.tls else redis.Connection
            link = kind(host=address[0], port=address[1], **settings)
        link.celeriac_calls = [f"{ENTROPY.getrandbits(64):x}", 0]
        link.connect()
        if self.where.kind == "sentinel":
            try:
                link.send_command("ROLE")
                role = link.read_response(disable_decoding=True)
                if role[0] != b"master":
                    raise exceptions.ReadOnlyError(f"{address[0]}:{address[1]} is no longer the master")
            except BaseException:
                link.disconnect()
                raise
        return cast("redis.Connection", link)

    def close(self) -> None:
        """Close this process's idle connections; calls open them again."""
        self._drop_idle()
        cluster, self._map = self._map, None
        if cluster is not None:
            cluster.close()

    def before_fork(self) -> None:
        return

    def after_fork(self) -> None:
        # The parent's sockets must not be used or shut down here: forgetting them closes this process's copies only.
        self._start_afresh()
