"""A task: the object that `@app.task` makes of a function, and the base class of a user's own."""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, ParamSpec, TypeVar

import msgspec

from celeriac.app.admission import OPTIONS as LIMITS
from celeriac.app.admission import admission_of, as_wire, check_limits
from celeriac.app.annotations import annotate
from celeriac.app.options import CallOptions, check_options
from celeriac.app.settings.kinds import RateLimit
from celeriac.canvas import Signature, chunks, signatures, xmap, xstarmap
from celeriac.codec import Parameters
from celeriac.engine.attempt import Attempt, current_attempt
from celeriac.engine.casualties import TaskFacts
from celeriac.engine.continuation import Continue
from celeriac.engine.plan import Hooks, Plan
from celeriac.errors import ConfigError, MaxRetriesExceededError, Retry
from celeriac.model import EMPTY_EMBED, Headers
from celeriac.model import Retry as RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from typing import Unpack

    from celeriac.app.application import Celeriac
    from celeriac.app.result import AsyncResult, EagerResult
    from celeriac.model import Admission, Limit

P = ParamSpec("P")
R = TypeVar("R")

_KEPT_BY_NAME = ("priority", "expires", "headers", "ignore_result", "shadow")
_OF_A_RETRY = (
    *_KEPT_BY_NAME,
    "queue",
    "exchange",
    "routing_key",
    "time_limit",
    "soft_time_limit",
    "link",
    "link_error",
)
_CALL_DEFAULTS = ("queue", "exchange", "routing_key", "priority", "expires", "serializer", "compression", *LIMITS)
_PROPERTIES = (property, cached_property)
_HOOKS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")


class Task(Generic[P, R]):
    """A function that can be called here, or sent to a worker.

    Subclass it for hooks or shared behaviour (`@app.task(base=MyTask)`), or for a class-based task with `run` and a
    `name`, registered with `app.register_task(MyTask())`. Attributes are the defaults of every call, as in Celery; None
    leaves the decision to the settings.
    """

    name: str = ""
    abstract: ClassVar[bool] = True
    max_retries: int | None = 3
    """For `self.retry()` and `autoretry_for`; None never gives up."""
    default_retry_delay: float = 180.0
    """Seconds, for `self.retry()` without a countdown."""
    retry_policy: RetryPolicy | None = None
    """From `@app.task(retry=…)`."""
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600.0
    retry_jitter: bool = True
    throws: tuple[type[BaseException], ...] = ()
    """Expected exceptions: the task fails with them, but no traceback is logged."""
    ignore_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    track_started: bool | None = None
    acks_late: bool | None = None
    """False makes it at most once: a task that may have started is never run again."""
    reject_on_worker_lost: bool | None = None
    """False: a task whose process died is failed, not run again."""
    acks_on_failure: bool | None = None
    """False: a task that fails becomes a dead letter."""
    acks_on_failure_or_timeout: bool | None = None
    """Celery's older name for this one and the next together."""
    acks_on_timeout: bool | None = None
    """The same for one that is killed at its hard time limit."""
    max_deliveries: int | None = None
    """How often the message may be handed out before it is buried."""
    time_limit: float | None = None
    soft_time_limit: float | None = None
    rate_limit: str | float | None = None
    """How often it may start on one worker: `10/s`, `100/m`, `1000/h` or a number per second."""
    limit: Limit | None = None
    """What holds for all its calls of one key, on all workers together."""
    unique_for: float | timedelta | None = None
    """Seconds: a call is not sent while another of its `unique_key` is there, at most so long."""
    unique_until: str | None = None
    """`end` or `start`; see `CallOptions`."""
    unique_key: Any = None
    expires: float | None = None
    priority: int | None = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    serializer: str | None = None
    compression: str | None = None
    store_eager_result: bool | None = None
    send_events: bool = True
    trail: bool = True
    typing: bool = True
    """Check the arguments against the signature when the task is sent."""
    resultrepr_maxsize: int = 1024

    _app: Celeriac
    parameters: Parameters
    is_annotated: bool = False
    """`task_annotations` are on it; set True before, they never are."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "abstract" not in cls.__dict__:
            cls.abstract = False

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"

    # -- what the user writes ------------------------------------------------------------------------------------

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The body of the task."""
        raise NotImplementedError(f"task class {type(self).__name__} has no run()")

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker before the body runs."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker when the body has returned."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker when the task has failed for good; `einfo` has `.exception` and `.traceback`."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker when the task will run again."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker at the end of every attempt."""

    # -- calling -------------------------------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body here and now, as a plain function call."""
        return self.run(*args, **kwargs)  # type: ignore[no-any-return]

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task to its queue.

        Returns:
            A handle on the result; the message is stored when this returns.

        Raises:
            TypeError: The arguments do not fit the function's signature.
            EncodeError: An argument has no wire form; the message names it.
            BrokerError: See `interfaces.Broker.publish`.
        """
        return self._app._send(self, args, kwargs, self.call_defaults)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As `delay`, without blocking the event loop."""
        return await self._app._asend(self, args, kwargs, self.call_defaults)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[R]:
        """Send the task with options (see `CallOptions`); raises as `delay`, and TypeError for an unknown option."""
        return self._app._send(self, args or (), kwargs or {}, self._with(options))

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[R]:
        """As `apply_async`, without blocking the event loop."""
        return await self._app._asend(self, args or (), kwargs or {}, self._with(options))

    def options(self, **options: Unpack[CallOptions]) -> ConfiguredTask[P, R]:
        """The same task with call options fixed: `thumbnail.options(countdown=60).delay(42)`."""
        return ConfiguredTask(self, self._with(options))

    def delay_many(self, calls: Iterable[Any]) -> list[AsyncResult[R]]:
        """Send many calls in few round trips.

        Args:
            calls: One element per call: a tuple of positional arguments, a dict of keyword arguments, or any other
                value as the only argument. To pass a tuple or dict as the argument, wrap it: `((1, 2),)`.

        Returns:
            Handles, in order. All messages of one round trip are stored, or none.
        """
        return self._app._send_many(self, calls, self.call_defaults)

    async def adelay_many(self, calls: Iterable[Any]) -> list[AsyncResult[R]]:
        """As `delay_many`, without blocking the event loop."""
        return await self._app._asend_many(self, calls, self.call_defaults)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        throw: bool | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the task here and now, through the codec and with its retries, hooks and callbacks, without a broker.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            throw: Raise the task's exception; None: as `task_eager_propagates` says.
            options: As of `apply_async`; `retries` says how many retries it counts as having made.
        """
        check_options(options, self.name)
        return self._app._apply(self, args or (), kwargs or {}, {**self.call_defaults, **options}, throw)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature of this task with these arguments."""
        return Signature(self.name, args, kwargs, self._signature_options(), app=self._app)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """An immutable signature: it takes no parent's result."""
        return Signature(self.name, args, kwargs, self._signature_options(), immutable=True, app=self._app)

    def signature(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Signature:
        """A signature with options, which may be keywords, or `immutable=True`."""
        given = {**(options or {}), **more}
        immutable = bool(given.pop("immutable", False))
        check_options(given, self.name)
        given = as_wire({**self._signature_options(), **given}, {})
        return Signature(self.name, args, kwargs, given, immutable=immutable, app=self._app)

    subtask = signature

    def map(self, it: Iterable[Any]) -> xmap:
        """One message that calls the task with each element in turn."""
        return xmap(self.s(), it, app=self._app)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """As `map`, where each element is a list of positional arguments."""
        return xstarmap(self.s(), it, app=self._app)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """Calls with the argument lists of `it`, `n` in one message."""
        return chunks(self.s(), it, n, app=self._app)

    # -- inside a running task -----------------------------------------------------------------------------------

    @property
    def app(self) -> Celeriac:
        """The application it belongs to."""
        return self._app

    @property
    def request(self) -> Attempt:
        """The attempt that runs in this thread or coroutine; an empty one when the task was called as a function."""
        attempt = current_attempt.get()
        if attempt is not None and attempt.plan.task is self:
            return attempt
        direct = Attempt(None, Headers(task=self.name, id=""), self.plan, None)
        direct.id = None  # type: ignore[assignment] # as in Celery: how tasks tell that they were called as functions
        direct.called_directly = True
        return direct

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | timedelta | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Run this task again later: `raise self.retry(exc=exc, countdown=5)`.

        Args:
            args: Other positional arguments for the next run.
            kwargs: Other keyword arguments.
            exc: What went wrong; raised when there are no retries left.
            throw: False returns the exception for the caller to raise.
            eta: When, as a moment.
            countdown: When, in seconds from now; else the task's retry policy or `default_retry_delay` decides.
            max_retries: Overrides the task's.
            options: `queue`, `routing_key`, `exchange`, `priority`, `expires`, `time_limit`, `soft_time_limit`,
                `headers`, `ignore_result`, `shadow`, `link`, `link_error`: in place of the message's own.

        Raises:
            Retry: Unless `throw` is false.
            MaxRetriesExceededError: No retries left and no `exc`.
            BaseException: `exc`, when no retries are left or the task was called as a function.
            TypeError: An option is unknown, or a retry cannot change it.
        """
        attempt = self.request
        if attempt.called_directly:
            raise exc or Retry(f"task {self.name!r} was called as a function; there is no message to send again")
        changes = self._changes(options)
        policy = self.plan.retry
        if max_retries is None:
            max_retries = policy.max_retries if self.retry_policy is not None and policy else self.max_retries
        if max_retries is not None and attempt.retries >= max_retries:
            if exc is not None:
                raise exc
            raise MaxRetriesExceededError(
                f"task {self.name}[{attempt.id}] has used its {max_retries} retries", task_id=attempt.id
            )
        when = eta if eta is not None else countdown
        if when is None and self.retry_policy is None:
            when = self.default_retry_delay
        asked = Retry(exc=exc, when=when)
        if args is not None:
            changes["args"] = list(args)
        if kwargs is not None:
            changes["kwargs"] = dict(kwargs)
        if "link" in options or "link_error" in options:
            embed = attempt.embed or EMPTY_EMBED
            changes["embed"] = msgspec.structs.replace(
                embed,
                callbacks=signatures("link", options["link"]) if "link" in options else embed.callbacks,
                errbacks=signatures("link_error", options["link_error"]) if "link_error" in options else embed.errbacks,
            )
        asked.changes = changes  # type: ignore[attr-defined]
        if throw:
            raise asked
        return asked

    def replace(self, sig: Signature) -> NoReturn:
        """Run `sig` in place of this task: `raise self.replace(other.s(x))`.

        What it returns becomes this task's result, under this task's id; what follows this task follows it, and it is
        a member of this task's chord. A group stands for the list of its results.

        Raises:
            Continue: Always; nothing of this task comes after it.
            ConfigError: `sig` is part of a chord already, or an empty chain.
            DecodeError: It is no signature.
            EncodeError: An argument has no wire form; the message names it.
        """
        attempt = self.request
        raise Continue(self._app.replacement(attempt, sig), f"is replaced by {sig['task']}")

    def add_to_chord(self, sig: Signature, lazy: bool = False) -> Any:
        """Make `sig` another member of the chord that this task is a member of; its body waits for it, too.

        Args:
            sig: The member; its result comes behind those of the header.
            lazy: Do not send it; the caller does.

        Returns:
            The handle on it; the signature itself where `lazy`.

        Raises:
            ValueError: This task is not a member of a chord, or `sig` is a group: add each of its members.
        """
        return self._app._add_to_chord(self.request, sig, lazy)

    def _changes(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What options of a retry change in its message, as `Submitter.again` takes it."""
        check_options(options, self.name)
        for name in options:
            if name not in _OF_A_RETRY:
                raise TypeError(f"task {self.name!r}: a retry keeps its message's {name}; it may change {_OF_A_RETRY}")
        changes = {name: options[name] for name in _KEPT_BY_NAME if options.get(name) is not None}
        where = {name: options[name] for name in ("queue", "exchange", "routing_key") if options.get(name) is not None}
        if where:
            changes["queue"] = self._app.router.route(where, self.name, (), {}, self)["queue"]
        limits = options.get("time_limit"), options.get("soft_time_limit")
        if limits != (None, None):
            changes["timelimit"] = limits
        return changes

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Store a state of your own, such as progress: `self.update_state(state="PROGRESS", meta={"done": 5})`."""
        attempt = self.request
        self._app._update_state(attempt, task_id or attempt.id, state or "PROGRESS", meta)

    async def aupdate_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """As `update_state`, without blocking the event loop."""
        attempt = self.request
        await self._app._aupdate_state(attempt, task_id or attempt.id, state or "PROGRESS", meta)

    def AsyncResult(self, task_id: str) -> AsyncResult[R]:  # noqa: N802 - Celery's name
        """A handle on the result of a call of this task, by id."""
        return self._app.AsyncResult(task_id)

    # -- registration --------------------------------------------------------------------------------------------

    def bind(self, app: Celeriac) -> None:
        """Attach it to an application. Called once by the application."""
        self._app = app
        self.parameters = Parameters.of(self.run, bind=False)
        check_limits(self.name, self.parameters, {name: getattr(self, name) for name in LIMITS})

    @classmethod
    def check_option(cls, name: str, where: str) -> None:
        """Refuse what `@app.task` and `task_annotations` cannot set.

        Raises:
            ConfigError: It is not an attribute of a task; the message names the nearest one.
        """
        known = [one for one in dir(cls) if not one.startswith("_") and _is_option(cls, one)]
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, [*known, "bind", "base", "retry", "pydantic"], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where}: option {name!r} is unknown{hint}")

    @property
    def takes_error(self) -> bool:
        """Whether it is an error callback of the form `(request, exc, traceback)`.

        Celery's rule: a function that is not bound to its task and takes more than one positional argument. All others
        are sent as tasks, with the id of the task that failed.
        """
        return not self.is_async and not inspect.ismethod(self.run) and self.parameters.most > 1

    @property
    def source_file(self) -> str | None:
        """The file that defines its body, where that is known."""
        code = getattr(inspect.unwrap(self.run), "__code__", None)
        return None if code is None else str(code.co_filename)

    @cached_property
    def call_defaults(self) -> dict[str, Any]:
        """Options of every call; worked out at first use, when the settings are final."""
        self._annotate()
        defaults = {name: getattr(self, name) for name in _CALL_DEFAULTS}
        return {name: value for name, value in defaults.items() if value is not None}

    @cached_property
    def plan(self) -> Plan:
        """How a worker runs it; worked out at first use, when the settings are final."""
        self._annotate()
        return self._make_plan()

    def _annotate(self) -> None:
        if not self.is_annotated:
            self.is_annotated = True
            annotations = self._app.settings.task_annotations
            if annotations is not None:
                annotate(self, annotations)

    @property
    def is_async(self) -> bool:
        """Whether the body is a coroutine function."""
        return inspect.iscoroutinefunction(inspect.unwrap(self.run))

    @property
    def rerun_when_lost(self) -> bool:
        """Whether it runs again when its worker was lost: unless it is acknowledged early or said not to."""
        conf = self._app.settings
        late = _first(self.acks_late, conf.task_acks_late)
        return bool(late and _first(self.reject_on_worker_lost, conf.task_reject_on_worker_lost) is not False)

    def facts(self) -> TaskFacts:
        """What the supervisor must know of it."""
        conf = self._app.settings
        plan = self.plan
        return TaskFacts(
            name=self.name,
            ignore_result=plan.ignore_result,
            store_errors_even_if_ignored=plan.store_errors_even_if_ignored,
            rerun_when_lost=plan.rerun_when_lost,
            acks_on_timeout=self._acks(self.acks_on_timeout, conf.task_acks_on_timeout),
            max_deliveries=plan.max_deliveries,
            rate_limit=self._rate(),
        )

    def _rate(self) -> str | None:
        """Its rate limit, where rate limits are not disabled.

        Raises:
            ConfigError: It is no rate.
        """
        conf = self._app.settings
        rate = _first(self.rate_limit, conf.task_default_rate_limit)
        if rate is None or conf.worker_disable_rate_limits:
            return None
        try:
            return RateLimit().convert(rate)
        except ValueError:
            raise ConfigError(f"task {self.name!r}: rate_limit={rate!r} is not {RateLimit.expected}") from None

    def _acks(self, own: bool | None, setting: bool | None) -> bool:
        both = _first(
            self.acks_on_failure_or_timeout, _first(setting, self._app.settings.task_acks_on_failure_or_timeout)
        )
        return bool(_first(own, both))

    def _make_plan(self) -> Plan:
        conf = self._app.settings
        overridden = type(self).__call__ is not Task.__call__
        hooks = {name: getattr(self, name) for name in _HOOKS}
        hooks = {
            name: hook for name, hook in hooks.items() if getattr(hook, "__func__", hook) is not getattr(Task, name)
        }
        return Plan(
            name=self.name,
            task=self,
            call=self.__call__ if overridden else self.run,
            is_async=self.is_async,
            rebuild=self.parameters.rebuild,
            retry=self._effective_retry(),
            max_retries=self.max_retries if self.retry_policy is None else self.retry_policy.max_retries,
            retry_changes=self._changes(
                {name: value for name, value in self.retry_kwargs.items() if name not in ("max_retries", "countdown")}
            ),
            throws=tuple(self.throws),
            ignore_result=_first(self.ignore_result, conf.task_ignore_result),
            store_errors_even_if_ignored=_first(
                self.store_errors_even_if_ignored, conf.task_store_errors_even_if_ignored
            ),
            track_started=_first(self.track_started, conf.task_track_started),
            trail=self.trail,
            soft_limit_s=_first(self.soft_time_limit, conf.task_soft_time_limit),
            hard_limit_s=_first(self.time_limit, conf.task_time_limit),
            rerun_when_lost=self.rerun_when_lost,
            acks_on_failure=self._acks(self.acks_on_failure, conf.task_acks_on_failure),
            max_deliveries=_first(self.max_deliveries, conf.task_max_deliveries),
            admission=None if self.limit is None else self._admission,
            hooks=Hooks(**hooks) if hooks else None,
        )

    def _admission(self, args: list[Any], kwargs: dict[str, Any]) -> Admission:
        """Of a call whose sender did not know the limit."""
        assert self.limit is not None
        if self.parameters.rebuild is not None:
            args, kwargs = self.parameters.rebuild(args, kwargs)
        return admission_of(self.name, self.limit, args, kwargs, self.parameters)

    def _effective_retry(self) -> RetryPolicy | None:
        if self.retry_policy is not None:
            return self.retry_policy
        if not self.autoretry_for:
            return None
        most = self.retry_kwargs.get("max_retries", self.max_retries)
        attempts = None if most is None else int(most) + 1
        if self.retry_backoff:
            factor = min(1.0 if self.retry_backoff is True else float(self.retry_backoff), self.retry_backoff_max)
            return RetryPolicy(
                attempts=attempts,
                on=tuple(self.autoretry_for),
                never=tuple(self.dont_autoretry_for),
                backoff="exponential",
                delay=factor,
                max_delay=self.retry_backoff_max,
                jitter=self.retry_jitter,
            )
        delay = float(self.retry_kwargs.get("countdown", self.default_retry_delay))
        return RetryPolicy(
            attempts=attempts,
            on=tuple(self.autoretry_for),
            never=tuple(self.dont_autoretry_for),
            backoff="constant",
            delay=delay,
            max_delay=max(delay, 600.0),
            jitter=False,
        )

    def _with(self, options: Mapping[str, Any]) -> dict[str, Any]:
        check_options(options, self.name)
        return {**self.call_defaults, **options}

    def _signature_options(self) -> dict[str, Any]:
        """Call defaults that travel with a signature, so that a worker without this code routes it alike."""
        return as_wire(self.call_defaults, self.call_defaults)


class AsyncTask(Task[P, R]):
    """A task whose body is a coroutine function: calling it gives a coroutine, sending it is the same."""

    abstract = True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """Make the body's coroutine, to be awaited here."""
        return self.run(*args, **kwargs)  # type: ignore[no-any-return]


class ConfiguredTask(Generic[P, R]):
    """A task with call options fixed."""

    __slots__ = ("_options", "_task")

    def __init__(self, task: Task[P, R], options: dict[str, Any]) -> None:
        self._task = task
        self._options = options

    def __repr__(self) -> str:
        return f"<@task: {self._task.name} with {self._options}>"

    def options(self, **options: Unpack[CallOptions]) -> ConfiguredTask[P, R]:
        """More options, over these."""
        check_options(options, self._task.name)
        return ConfiguredTask(self._task, {**self._options, **options})

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As `Task.delay`."""
        return self._task._app._send(self._task, args, kwargs, self._options)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As `Task.adelay`."""
        return await self._task._app._asend(self._task, args, kwargs, self._options)

    def delay_many(self, calls: Iterable[Any]) -> list[AsyncResult[R]]:
        """As `Task.delay_many`."""
        return self._task._app._send_many(self._task, calls, self._options)

    async def adelay_many(self, calls: Iterable[Any]) -> list[AsyncResult[R]]:
        """As `Task.adelay_many`."""
        return await self._task._app._asend_many(self._task, calls, self._options)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature with these options."""
        options = as_wire(self._options, self._task.call_defaults)
        return Signature(self._task.name, args, kwargs, options, app=self._task._app)


def make_task(
    function: Callable[..., Any], *, base: type[Task[Any, Any]] | None, bind: bool, attributes: Mapping[str, Any]
) -> Task[Any, Any]:
    """Build the task object of a decorated function: an instance of a subclass made for it.

    Raises:
        ConfigError: An option is not an attribute of a task; names the nearest one.
    """
    is_async = inspect.iscoroutinefunction(function)
    parent = base or (AsyncTask if is_async else Task)
    for name in attributes:
        parent.check_option(name, f"@task on {getattr(function, '__qualname__', function)}")
    body = function if bind else staticmethod(function)
    namespace: dict[str, Any] = {
        "run": body,
        "abstract": False,
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": getattr(function, "__qualname__", function.__name__),
        **attributes,
    }
    if callable(namespace.get("unique_key")):
        namespace["unique_key"] = staticmethod(namespace["unique_key"])  # a function of the arguments, not a method
    task: Task[Any, Any] = type(function.__name__, (parent,), namespace)()
    return task


def _is_option(cls: type[Task[Any, Any]], name: str) -> bool:
    """Hooks, plain attributes, and whatever a base class of the user's has."""
    value = getattr(cls, name)
    return name in _HOOKS or not hasattr(Task, name) or not (callable(value) or isinstance(value, _PROPERTIES))


def _first(own: Any, default: Any) -> Any:
    return default if own is None else own
