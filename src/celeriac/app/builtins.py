"""Tasks that every worker has: what Celery's workers have under these names, and the release of a chord."""

from __future__ import annotations

import asyncio
import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from celeriac.app.task import make_task
from celeriac.canvas import RELEASE, Draft, Place
from celeriac.engine import report
from celeriac.engine.continuation import Continue
from celeriac.errors import BrokerError, NotRegistered
from celeriac.model import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from celeriac.app.application import Celeriac
    from celeriac.app.task import Task

_EXPIRE: Final = 1_000_000
PATIENT: Final = Retry(attempts=None, on=(BrokerError,), backoff="exponential", delay=0.5, max_delay=30.0)
"""Of what a workflow cannot go on without: it waits for the result store to come back."""

_OF_RELEASE: Final = {
    "ignore_result": True,
    "retry_policy": PATIENT,
    "acks_late": True,  # it may run twice, whatever the settings say of tasks: a chord that it failed for would be lost
    "reject_on_worker_lost": True,
}

MEMBERS: ContextVar[Callable[[str], Sequence[bytes] | None] | None] = ContextVar("members", default=None)
"""Where an eager run finds the members of a join; None: in the result store."""


def make_builtins(app: Celeriac) -> dict[str, Task[Any, Any]]:
    """The tasks, by name, bound to an application."""

    def release(self: Task[Any, Any], join: str) -> None:
        """Call the body of a chord whose members have all arrived."""
        if type(join) is not str:  # anybody can call it, and what a store makes of that may pass, or not
            raise TypeError(f"{RELEASE}: the id of a join is a str, and not {join!r:.80}")
        find = MEMBERS.get() or app._result_store().members
        members = find(join)
        if members is None:
            # done before, and this is a second delivery; or it waited for longer than joins are kept
            report.log.warning("%s[%s]: the members of chord %s are gone", RELEASE, self.request.id, join)
            return
        store = app.results
        shape = None if store is None else store.load("group", [join]).get(join)
        sequel = app.own_links.release(self.request, join, members, shape)
        raise Continue(sequel, f"released chord {join}")

    def expand(self: Task[Any, Any], *args: Any, **kwargs: Any) -> None:
        """Send what a group, chain or chord that came as a task is made of, as old senders have it."""
        attempt, draft = self.request, Draft()
        form = {"task": self.name, "args": list(args), "kwargs": kwargs, "options": {}}
        if attempt.chord or attempt.callbacks or attempt.errbacks:  # somebody waits for it as for one task
            raise Continue(app.replacement(attempt, form), f"sent the parts of {self.name}")
        place = Place(slot="parts", chain=attempt.chain or [])
        app.lowering(app.submitter).lower(form, place, app.origin(attempt), draft)
        raise Continue(draft.sequel(), f"sent {len(draft.messages)} messages")

    def over(task: Any, it: Iterable[Any]) -> list[Any]:
        return _call_each(app, task, ((item,) for item in it))

    def over_tuples(task: Any, it: Iterable[Any]) -> list[Any]:
        return _call_each(app, task, it)

    def accumulate(*args: Any, index: int | None = None) -> Any:
        """Pass on what was given: the end of a group that stands for one task."""
        return list(args) if index is None else args[index]

    def cleanup() -> int:
        """Delete results whose time is over."""
        store = app.results
        return 0 if store is None else store.expire(limit=_EXPIRE)

    made: dict[str, Task[Any, Any]] = {}
    bound: list[tuple[str, Callable[..., Any], dict[str, Any]]] = [
        (RELEASE, release, _OF_RELEASE),
        *((f"celery.{kind}", expand, {}) for kind in ("group", "chain", "chord", "chunks")),
    ]
    plain: list[tuple[str, Callable[..., Any]]] = [
        ("celery.map", over),
        ("celery.starmap", over_tuples),
        ("celery.accumulate", accumulate),
        ("celery.backend_cleanup", cleanup),
    ]
    for name, function, attributes in [*bound, *((name, function, {}) for name, function in plain)]:
        is_bound = function in (release, expand)
        task = make_task(function, base=None, bind=is_bound, attributes={**attributes, "typing": False})
        task.name = name
        task.is_annotated = name == RELEASE  # `task_annotations` for "*" mean the user's tasks
        task.bind(app)
        made[name] = task
    return made


def _call_each(app: Celeriac, form: dict[str, Any], calls: Iterable[Sequence[Any]]) -> list[Any]:
    """Call a task once for each of these argument lists, here, and return what it returned."""
    name = form["task"]
    task = app.tasks.get(name)
    if task is None:
        raise NotRegistered(f"task {name!r}, which is to be called for each item, is not registered on this worker")
    rest, named = form.get("args") or (), form.get("kwargs") or {}
    rebuild = task.plan.rebuild

    def call(item: Sequence[Any]) -> Any:
        args, kwargs = [*item, *rest], dict(named)
        if rebuild is not None:
            args, kwargs = rebuild(args, kwargs)
        return task(*args, **kwargs)

    if not task.is_async:
        return [call(item) for item in calls]

    async def run() -> list[Any]:
        return [await value if inspect.isawaitable(value := call(item)) else value for item in calls]

    return asyncio.run(run())
