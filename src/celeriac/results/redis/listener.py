"""One subscribed connection per process for all that its threads and event loops wait for.

A waiter's channel is subscribed and its key read in one write: whatever is stored before the subscription is in the
answer, whatever comes after is pushed. Pub/sub promises nothing beyond the connection, so all keys are read again after
a reconnect, and every two seconds in any case; that is the heartbeat of the connection, too.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import hiredis
from redis import exceptions

from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import BrokerError, BrokerUnavailableError, CeleriacError
from celeriac.results.redis.ear import Ear
from celeriac.results.redis.gatherer import Gatherer
from celeriac.storage import forks
from celeriac.storage.redis import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from celeriac.model import StoredResult, TaskId
    from celeriac.results.waiter import Waiter
    from celeriac.storage.redis import Deployment

_LINGER_S: Final = 60.0
"""Thread and connection stay for the next `get()` this long."""
_CHECK_S: Final = 2.0
_OUTAGE_S: Final = 30.0
"""Who waits is told of an outage that lasts longer."""
_PAUSE_S: Final = (0.02, 1.0)
"""Before the second try to reconnect, and at most before later ones; half of it is chance."""
_MOST: Final = 500
_STALE: Final = 1000

_monotonic = SYSTEM_CLOCK.monotonic


class Listener:
    """Listens for a whole process.

    Args:
        deployment: Where results are.
        prefix: Of their keys and channels.
        final: Makes the result of a task from its meta; None where it is not final.
        read: Reads keys, where they lie on several servers (a cluster).
    """

    def __init__(
        self,
        deployment: Deployment,
        prefix: str,
        final: Callable[[TaskId, bytes], StoredResult | None],
        read: Callable[[Sequence[str]], Sequence[bytes | None]],
    ) -> None:
        self._deployment = deployment
        self._prefix = prefix.encode()
        self._final = final
        self._read = read
        self._start_afresh()
        forks.register(self)

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._waiting: dict[bytes, dict[Waiter, None]] = {}
        self._forget_connection()
        self._trouble: BrokerError | None = None
        self._down_since = 0.0

    def _forget_connection(self) -> None:
        self._ear: Ear | None = None
        self._subscribed: set[bytes] = set()
        self._stale: set[bytes] = set()
        """Subscribed, and nobody waits any more; ended with the next write."""
        self._asked: deque[Sequence[bytes]] = deque()
        """Keys of the questions that are not answered yet."""
        self._answered_at = 0.0

    # -- whoever waits -----------------------------------------------------------------------------------------------

    @property
    def is_hearing(self) -> bool:
        """Whether a connection stands, as far as is known; then `open` has nothing to do."""
        return self._ear is not None

    def open(self) -> None:
        """See to it that somebody listens, or is about to.

        Raises:
            BrokerUnavailableError: The server is not reached.
            StorageError: It refused.
        """
        if self._ear is not None:
            return
        with self._opening:
            if self._thread is not None:
                if self._ear is None:  # it was lost a moment ago, or a while: ask, lest a newcomer waits in vain
                    self._deployment.call("wait for results of", "PING")
                return
            try:
                ear = Ear(self._deployment)
            except (exceptions.RedisError, OSError) as exc:
                self._deployment.look_again()
                raise self._translated(exc) from exc
            with self._lock:
                self._forget_connection()
                self._ear = ear
                self._trouble = None
                self._stopped.clear()
                self._thread = threading.Thread(target=self._listen, name="celeriac-redis-results", daemon=True)
                self._thread.start()

    def add(self, waiter: Waiter) -> bool:
        """Tell `waiter` as soon as one of its results is final; what is final already is found at once.

        Returns:
            False when nobody listens (any more): `open` first.
        """
        keys = [self._prefix + task_id.encode() for task_id in waiter.ids]
        with self._lock:
            if self._thread is None:
                return False
            for key in keys:
                self._waiting.setdefault(key, {})[waiter] = None
            if self._ear is not None:
                self._ask(self._ear, keys)
            return True

    def remove(self, waiter: Waiter) -> None:
        """He no longer waits."""
        with self._lock:
            self._leave(waiter)

    def stop(self) -> None:
        """End the thread and the connection; who still waits is looked after again when the next one comes."""
        with self._lock:
            thread = self._thread
            self._stopped.set()
            if self._ear is not None:
                self._ear.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2 * self._deployment.timeout_s)

    def _leave(self, waiter: Waiter, ids: Iterable[TaskId] | None = None) -> None:
        for task_id in waiter.ids if ids is None else ids:
            key = self._prefix + task_id.encode()
            waiters = self._waiting.get(key)
            if waiters is not None:
                waiters.pop(waiter, None)
                if not waiters:
                    del self._waiting[key]
                    if key in self._subscribed:
                        self._stale.add(key)

    def _ask(self, ear: Ear, keys: Iterable[bytes]) -> None:
        """Subscribe to these and read them; the lock is held."""
        wanted = list(keys)
        commands: list[Sequence[bytes]] = []
        if self._stale:
            self._stale.difference_update(wanted)
            if len(self._stale) > _STALE or len(self._waiting) <= len(wanted):
                commands += self._farewell()
        fresh = [key for key in wanted if key not in self._subscribed]
        self._subscribed.update(fresh)
        commands += [(b"SUBSCRIBE", *fresh[at : at + _MOST]) for at in range(0, len(fresh), _MOST)]
        if self._deployment.is_cluster:
            # the keys are elsewhere: they are read once the subscriptions are known to stand
            commands.append((b"PING",))
            self._note(wanted)
        else:
            for at in range(0, len(wanted), _MOST):
                piece = wanted[at : at + _MOST]
                commands.append((b"MGET", *piece))
                self._note(piece)
        self._say(ear, commands)

    def _farewell(self) -> list[Sequence[bytes]]:
        stale = list(self._stale)
        self._stale.clear()
        self._subscribed.difference_update(stale)
        return [(b"UNSUBSCRIBE", *stale[at : at + _MOST]) for at in range(0, len(stale), _MOST)]

    def _note(self, keys: Sequence[bytes]) -> None:
        if not self._asked:
            self._answered_at = _monotonic()
        self._asked.append(keys)

    def _say(self, ear: Ear, commands: Sequence[Sequence[bytes]]) -> None:
        try:
            ear.say(commands)
        except OSError:
            ear.wake()  # the thread finds it broken, and connects anew for all who wait

    # -- the thread --------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        check_at = _monotonic() + _CHECK_S
        idle_since: float | None = None
        while True:
            ear = self._ear
            if ear is None:
                if not self._reconnect():
                    return
                check_at = _monotonic() + _CHECK_S
                continue
            now = _monotonic()
            try:
                self._take(ear.hear(min(check_at - now, _CHECK_S)))
                now = _monotonic()
                with self._lock:
                    if self._stopped.is_set():
                        self._end(ear)
                        return
                    if self._asked and now - self._answered_at > self._deployment.timeout_s:
                        raise exceptions.TimeoutError("no answer")
                    if self._waiting:
                        idle_since = None
                    elif idle_since is None:
                        idle_since = now
                    elif now - idle_since > _LINGER_S:
                        self._end(ear)
                        return
                    if now < check_at:
                        continue
                    check_at = now + _CHECK_S
                    self._check(ear)
            except (exceptions.RedisError, OSError) as exc:
                self._lose(ear, exc)

    def _check(self, ear: Ear) -> None:
        """Ask for everything again; the lock is held."""
        if self._stale:
            self._say(ear, self._farewell())
        if self._waiting and not self._asked:
            self._ask(ear, list(self._waiting))

    def _end(self, ear: Ear) -> None:
        self._thread = None
        self._forget_connection()
        ear.close()

    def _lose(self, ear: Ear, exc: Exception) -> None:
        with self._lock:
            if self._stopped.is_set():
                exc = exceptions.ConnectionError("closed")
            self._forget_connection()
            self._trouble = self._translated(exc)
            self._down_since = _monotonic()
        ear.close()

    def _reconnect(self) -> bool:
        """Connect again for those who wait; False: nobody does, or not any more, and the thread ends."""
        pause_s = 0.0
        while True:
            with self._lock:
                trouble = self._trouble
                if trouble is not None and (
                    not isinstance(trouble, BrokerUnavailableError) or _monotonic() - self._down_since > _OUTAGE_S
                ):
                    self._fail(trouble)
                if self._stopped.is_set() or not self._waiting:
                    self._thread = None
                    return False
            if pause_s:
                self._stopped.wait(pause_s * (0.5 + 0.5 * ENTROPY.random()))
            pause_s = min(_PAUSE_S[1], max(_PAUSE_S[0], 2 * pause_s))
            try:
                self._deployment.look_again()
                ear = Ear(self._deployment)
            except (exceptions.RedisError, OSError) as exc:
                self._trouble = self._translated(exc)
                continue
            with self._lock:
                self._trouble = None
                self._ear = ear
                self._ask(ear, list(self._waiting))
            return True

    def _fail(self, error: CeleriacError) -> None:
        waiters = {waiter for waiters in self._waiting.values() for waiter in waiters}
        self._waiting.clear()
        for waiter in waiters:
            waiter.error = error
            waiter.tell()

    def _take(self, replies: Sequence[Any]) -> None:
        values: dict[bytes, bytes] = {}
        looked: list[bytes] = []
        elsewhere: list[bytes] = []
        for reply in replies:
            if type(reply) is hiredis.PushNotification:
                if reply[0] == b"message":
                    values[reply[1]] = reply[2]
                continue
            with self._lock:
                keys = self._asked.popleft()
                self._answered_at = _monotonic()
            if self._deployment.is_cluster:
                elsewhere += keys
            else:
                looked += keys
                values.update((key, value) for key, value in zip(keys, reply, strict=True) if value is not None)
        if values or looked:
            self._tell(values, looked)
        if elsewhere:
            self._look(elsewhere)

    def _look(self, keys: Sequence[bytes]) -> None:
        """Read keys that lie elsewhere, where somebody waits for them."""
        keys = [key for key in keys if key in self._waiting]
        if keys:
            try:
                values = self._read([key.decode() for key in keys])
            except BrokerUnavailableError:
                return  # at the next check
            except BrokerError as exc:
                with self._lock:
                    self._fail(exc)
                return
            self._tell({key: value for key, value in zip(keys, values, strict=True) if value is not None}, keys)

    def _tell(self, values: dict[bytes, bytes], looked: Sequence[bytes]) -> None:
        cut = len(self._prefix)
        final: dict[bytes, StoredResult] = {}
        for key, value in values.items():
            if key in self._waiting and (result := self._final(key[cut:].decode(), value)) is not None:
                final[key] = result
        ended: dict[Waiter, dict[TaskId, StoredResult]] = {}
        with self._lock:
            for key in looked:
                for waiter in self._waiting.get(key, ()):
                    waiter.looked = True
            for key, result in final.items():
                for waiter in self._waiting.get(key, ()):
                    ended.setdefault(waiter, {})[result.id] = result
            for waiter, found in ended.items():
                self._leave(waiter, found if isinstance(waiter, Gatherer) else None)
        for waiter, found in ended.items():
            if isinstance(waiter, Gatherer):
                waiter.take(found)
            else:
                waiter.found = found
                waiter.tell()

    def _translated(self, exc: Exception) -> BrokerError:
        return faults.translate(exc, "wait for results of", self._deployment.url, self._deployment.timeout_s)

    # -- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        return

    def after_fork(self) -> None:
        self._start_afresh()  # the connection is the parent's: forgetting it closes this process's copy only
