"""`celery.Task`: celeriac's task class with Celery's methods and tolerance."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.app import task as core
from celeriac.app.admission import as_wire
from celeriac.app.options import KNOWN
from celeriac.app.task import _OF_A_RETRY
from celeriac.compat.celery._state import current_app
from celeriac.engine.attempt import current_attempt
from celeriac.errors import MaxRetriesExceededError, NotSupportedError, OperationalError
from celeriac.model.states import RETRY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.app.application import Celeriac
    from celeriac.engine.plan import Plan

__all__ = ["Context", "Task"]

_pushed: ContextVar[tuple[Any, ...]] = ContextVar("pushed_requests", default=())


class Context:
    """A request made by hand, with Celery's fields and defaults."""

    logfile = loglevel = hostname = id = args = kwargs = eta = expires = headers = delivery_info = None
    reply_to = shadow = root_id = parent_id = correlation_id = group = group_index = chord = chain = None
    callbacks = errbacks = timelimit = origin = argsrepr = kwargsrepr = ignore_result = stamps = stamped_headers = None
    retries = 0
    utc = None
    is_eager = False
    called_directly = True
    children: Any = None
    taskset = None
    replaced_task_nesting = 0
    properties: Any = None
    _protected = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.update(*args, **kwargs)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set fields."""
        self.__dict__.update(*args, **kwargs)

    def clear(self) -> None:
        """Forget all fields."""
        self.__dict__.clear()

    def get(self, key: str, default: Any = None) -> Any:
        """A field, or a default."""
        return getattr(self, key, default)

    def __repr__(self) -> str:
        return f"<Context: {vars(self)!r}>"

    def as_execution_options(self) -> dict[str, Any]:
        """What a call that follows inherits."""
        return {"task_id": self.id, "root_id": self.root_id, "parent_id": self.parent_id, "reply_to": self.reply_to}


class Task(core.Task[..., Any]):
    """Base class of tasks.

    Attributes are the defaults of every call. Bodies are functions (`@app.task`) or `run` of a subclass, whose
    instance `app.register_task` registers.
    """

    abstract = True
    MaxRetriesExceededError = MaxRetriesExceededError
    OperationalError = OperationalError
    Request: Any = "celery.worker.request:Request"
    Strategy: Any = "celery.worker.strategy:default"
    pydantic: bool = False
    retry_on_worker_lost: bool | None = None
    from_config: Any = ()
    __bound__ = False
    priority: Any = None
    _source: Any = None

    @property
    def __name__(self) -> str:
        return type(self).__qualname__.rpartition(".")[2]

    @classmethod
    def check_option(cls, name: str, where: str) -> None:
        """Anything may be an attribute of a task."""

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Called when the task is registered with an application."""

    @classmethod
    def _get_app(cls) -> Any:
        return getattr(cls, "_app", None) or current_app._get_current_object()

    def bind(self, app: Celeriac) -> None:
        for name in ("Request", "Strategy"):
            if getattr(self, name) is not getattr(Task, name):
                raise NotSupportedError(
                    f"task {self.name!r} sets {name}={getattr(self, name)!r}: celeriac runs tasks itself. Use the "
                    "hooks before_start, on_success, on_failure, on_retry and after_return, or the task signals"
                )
        super().bind(app)
        if not self.pydantic:
            self.parameters.rebuild = None  # Celery hands over what was decoded
        self.__bound__ = True
        self.on_bound(app)

    def _signature_options(self) -> dict[str, Any]:
        """As the base class, without reading the settings: signatures are made while modules are imported."""
        if self._app.configured:  # type: ignore[attr-defined]
            return super()._signature_options()
        own = {name: getattr(self, name) for name in core._CALL_DEFAULTS}
        own = {name: value for name, value in own.items() if value is not None}
        return as_wire(own, own)

    def _make_plan(self) -> Plan:
        """As the base class; Celery does not call `after_return` of an attempt that will be retried."""
        plan = super()._make_plan()
        if plan.hooks is None or plan.hooks.after_return is None:
            return plan
        hook = plan.hooks.after_return

        def after_return(status: str, *more: Any) -> None:
            if status != RETRY:
                hook(status, *more)

        return msgspec.structs.replace(plan, hooks=msgspec.structs.replace(plan.hooks, after_return=after_return))

    @property
    def app(self) -> Any:
        """The application it belongs to; the current one as long as it belongs to none."""
        return self.__dict__.get("_app") or type(self)._get_app()

    @app.setter
    def app(self, value: Any) -> None:
        self._app = value

    # -- calling -------------------------------------------------------------------------------------------------

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task; the short form of `apply_async(args, kwargs)`."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the task with options; what is no option is passed over, as it would be with Celery."""
        named = {"task_id": task_id, "link": link, "link_error": link_error}
        options.update({name: value for name, value in named.items() if value is not None})
        if self.typing:
            self.parameters.check(args or (), kwargs or {})
        shadow = shadow or self.shadow_name(args, kwargs, options)
        if shadow:
            options["shadow"] = shadow
        return self.app.send_task(self.name, args, kwargs, task_type=self, **options)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int | None = None,
        throw: bool | None = None,
        **options: Any,
    ) -> Any:
        """Run the task here, in this process."""
        named = {"task_id": task_id, "link": link, "link_error": link_error, "retries": retries}
        options.update({name: value for name, value in named.items() if value is not None})
        known = {name: value for name, value in options.items() if name in KNOWN}
        return super().apply(args, kwargs, throw=throw, **known)

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str | None:
        """Another name for this call in logs and monitors; for subclasses."""
        return None

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: Any = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """Run this task again later; see celeriac's `Task.retry`. Options that a retry keeps are passed over."""
        kept = {name: value for name, value in options.items() if name in _OF_A_RETRY}
        return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **kept)

    def subtask_from_request(self, request: Any = None, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """A signature of the call that runs, with its arguments."""
        request = request or self.request
        args = request.args if args is None else args
        kwargs = request.kwargs if kwargs is None else kwargs
        options.setdefault("task_id", request.id)
        return self.signature(args, kwargs, **options)

    signature_from_request = subtask_from_request

    # -- inside a running task -----------------------------------------------------------------------------------

    @property
    def request(self) -> Any:
        """The call that runs; what `push_request` has put on top of it, where it was used."""
        pushed = _pushed.get()
        if pushed and pushed[-1][0] is self:
            return pushed[-1][1]
        return super().request

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Make `request` one of these fields, until `pop_request`; for tests of a task's body."""
        _pushed.set((*_pushed.get(), (self, Context(*args, **kwargs))))

    def pop_request(self) -> None:
        """Undo the last `push_request`."""
        _pushed.set(_pushed.get()[:-1])

    @property
    def request_stack(self) -> Any:
        return [request for task, request in _pushed.get() if task is self]

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Store a state of your own, such as progress."""
        super().update_state(task_id, state, meta)

    def send_event(self, type_: str, retry: bool = True, retry_policy: Any = None, **fields: Any) -> None:
        """Send an event of your own to monitors, about the call that runs."""
        with self.app.events.default_dispatcher() as dispatcher:
            dispatcher.send(type_, uuid=self.request.id, **fields)

    def add_trail(self, result: Any) -> Any:
        """Remember a result as a child of the call that runs."""
        attempt = current_attempt.get()
        if self.trail and attempt is not None:
            attempt.children = [*(attempt.children or ()), result.id]
        return result

    def on_replace(self, sig: Any) -> Any:
        """Called by `replace` with what takes this call's place; for subclasses."""
        return self.replace(sig)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> Any:
        """A handle on the result of a call of this task, by id."""
        return self.app.AsyncResult(task_id, **kwargs)

    @property
    def backend(self) -> Any:
        """The result store, with the methods of Celery's backends."""
        return self.app.backend

    def annotate(self) -> None:
        """Annotations are applied when the task is first used."""

    def start_strategy(self, app: Any, consumer: Any, **kwargs: Any) -> Any:
        """Not there: celeriac runs tasks itself."""
        raise NotSupportedError("Task.start_strategy: celeriac runs tasks itself; use the task's hooks or signals")

    def __reduce__(self) -> Any:
        return (_by_name, (self.name,))


def _by_name(name: str) -> Any:
    return current_app.tasks[name]
