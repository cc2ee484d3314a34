"""What flows need of the application, and the tasks that drive their runs."""

from __future__ import annotations

import inspect
import typing
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from celeriac.app.admission import OPTIONS as LIMITS
from celeriac.app.builtins import PATIENT
from celeriac.app.task import ConfiguredTask, Task, make_task
from celeriac.canvas import Signature
from celeriac.errors import ConfigError, FlowError, NotRegistered
from celeriac.flow import START, Driver, Edge, Ending, FlowDefinition, Step, Target, hints_of, signature_of
from celeriac.model import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celeriac.app.application import Celeriac
    from celeriac.clock import Clock
    from celeriac.codec import Codec
    from celeriac.engine.submit import Submitter
    from celeriac.interfaces import ResultStore
    from celeriac.model import Outgoing, StoredResult

_UNIQUE = tuple(name for name in LIMITS if name.startswith("unique"))
"""Options that could drop a step's message, and with it the run."""
_KINDS: Final = {"str": (str,), "int": (int,), "int | None": (int, type(None)), "bool": (bool,)}
"""What may be given, by the annotation as `flow.driver` writes it."""


class AppHost:
    """`flow.host.Host`: the application, as flows see it."""

    def __init__(self, app: Celeriac) -> None:
        self._app = app
        self._targets: dict[int, tuple[Any, Target]] = {}

    @property
    def codec(self) -> Codec:
        return self._app.codec

    @property
    def clock(self) -> Clock:
        return self._app.clock

    @property
    def max_steps(self) -> int:
        return self._app.settings.flow_max_steps

    @property
    def flows(self) -> Mapping[str, FlowDefinition[Any, Any]]:
        return self._app.flows

    @property
    def ending(self) -> Ending:
        return self._app.flow_ending

    @property
    def queue(self) -> str:
        return str(self._app.router.route({}, START, (), {}, None)["queue"])

    def target(self, what: Any) -> Target:
        known = self._targets.get(id(what))
        if known is not None and known[0] is what:
            return known[1]
        target = self._target(what)
        self._targets[id(what)] = (what, target)  # `what` is kept, so that its id stays its own
        return target

    def _target(self, what: Any) -> Target:
        app = self._app
        if isinstance(what, FlowDefinition):
            if app.flows.get(what.name) is not what:
                raise NotRegistered(f"flow {what.name!r} belongs to another application than {app.main!r}")
            hints = hints_of(what.function)
            signature = signature_of(what.function, skip=1)
            return Target(
                name=what.name, kind="flow", signature=signature, hints=hints, returns=_returned(hints.get("return"))
            )
        args: Sequence[Any] = ()
        kwargs: Mapping[str, Any] = {}
        options: dict[str, Any] = {}
        name: Any = what
        if isinstance(what, ConfiguredTask):
            name, options = what._task.name, what.s()["options"]
        elif isinstance(what, dict):
            signature_ = Signature(what)
            if type(what) is not Signature and signature_["task"].startswith("celery."):
                raise FlowError(f"{what!r:.80} is a workflow of its own; the steps of a flow are tasks and flows")
            name, args, kwargs, options = signature_.task, signature_.args, signature_.kwargs, signature_.options
        elif isinstance(what, Task):
            if app.tasks.get(what.name) is not what:
                raise NotRegistered(f"task {what.name!r} is not registered in application {app.main!r}")
            name = what.name
        if not isinstance(name, str):
            raise FlowError(f"{what!r:.80} is no task: a step runs what @app.task or @app.flow has made")
        task = app.tasks.get(name)
        if task is None:
            raise NotRegistered(
                f"task {name!r} is not registered in application {app.main!r}, which knows {sorted(app.tasks)[:20]}"
            )
        hints = hints_of(task.run)
        return Target(
            name=name,
            signature=signature_of(task.run) if task.typing else None,
            hints=hints,
            returns=hints.get("return", inspect.Parameter.empty),
            args=args,
            kwargs=kwargs,
            options={key: value for key, value in options.items() if key not in _UNIQUE},
        )

    def check_ready(self, flow: str) -> None:
        app = self._app
        if app.results is None or not app.results.has_joins:
            raise ConfigError(
                f"flow {flow!r} needs a result store to keep its state in, and this application has none that could: "
                "set backend=… (result_backend) to redis://… or sqlite:///…; rpc:// only carries results"
            )
        if app.settings.task_always_eager:
            raise ConfigError(
                f"flow {flow!r} needs a worker, and task_always_eager is on: in tests, use celeriac.testing.in_memory "
                "with a RunningWorker"
            )

    def store(self) -> ResultStore:
        return self._app._result_store()

    def message(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: dict[str, Any]) -> Outgoing:
        app = self._app
        task = app.tasks.get(name)
        if task is not None:
            options = {**task.call_defaults, **options}
        options = {key: value for key, value in options.items() if key not in _UNIQUE}
        return app._message(name, args, kwargs, options, task)

    def record(self, kind: str, record_id: str, payload: bytes) -> Record:
        expires_at = self._app.submitter.after(self._app.settings.flow_expires or None)
        return Record(kind=kind, id=record_id, payload=payload, expires_at=expires_at)

    def result(self, task_id: str, state: str, value: Any) -> StoredResult:
        return self._app.result_writer(None).plain(task_id, state, value)

    def publish(self, messages: Sequence[Outgoing]) -> None:
        self._app._publisher.publish(messages)

    def revoke(self, ids: Sequence[str], *, terminate: bool) -> None:
        self._app.control.revoke(ids, terminate=terminate)

    def wait(self, run: str, timeout: float | None) -> Any:
        return self._app.AsyncResult(run).get(timeout)

    async def await_(self, run: str, timeout: float | None) -> Any:  # noqa: ASYNC109 - as AsyncResult has it
        return await self._app.AsyncResult(run).aget(timeout)


def make_ending(app: Celeriac, submitter: Submitter) -> Ending:
    """What carries out the ends of steps, with messages built by `submitter`."""
    return Ending(app.codec, submitter, expires_s=app.settings.flow_expires or None)


def make_flow_tasks(app: Celeriac) -> dict[str, Task[Any, Any]]:
    """The tasks that drive runs, by name, bound to an application."""
    host = app.flow_host
    made: dict[str, Task[Any, Any]] = {}
    for name, method in Driver(host, host.ending).tasks().items():
        attributes = {"ignore_result": True, "retry_policy": PATIENT, "typing": False}
        task = make_task(_on_own_queue(method), base=None, bind=True, attributes=attributes)
        task.name = name
        task.bind(app)
        made[name] = task
    return made


def _on_own_queue(method: Callable[..., Any]) -> Callable[..., Any]:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    kinds = {each.name: _KINDS[each.annotation] for each in parameters if each.annotation in _KINDS}
    places = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]

    def drive(self: Task[Any, Any], *args: Any, **kwargs: Any) -> None:
        delivery = self.request.delivery
        assert delivery is not None
        # Anybody can call these tasks, and what a store makes of an id that is none may pass, or not
        for name, value in chain(zip(places, args, strict=False), kwargs.items()):
            if name in kinds and type(value) not in kinds[name]:
                raise TypeError(f"{self.name}: {name} is {value!r:.80}, which is no {kinds[name][0].__name__}")
        method(delivery.queue, *args, **kwargs)

    return drive


def _returned(hint: Any) -> Any:
    """What a flow's runs return, by the annotation of its function, which says `Step[str]`."""
    if hint is type(None):
        return hint
    if typing.get_origin(hint) in (Step, Edge):
        return typing.get_args(hint)[0]
    return inspect.Parameter.empty
