"""A run of a flow, by its id: where it stands, what it returned, and what can be done about it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from celeriac.errors import FlowError
from celeriac.flow import ids
from celeriac.flow.drawing import drawn, mermaid
from celeriac.flow.ending import SWEEP
from celeriac.flow.index import runs
from celeriac.flow.records import (
    CANCELLED,
    EACH,
    RUN,
    SKIPPED,
    STEP,
    UNDOING,
    UPSTREAM_FAILED,
    EachRecord,
    Parent,
    RunRecord,
    decode,
    encode,
)
from celeriac.flow.starting import begin_message
from celeriac.flow.verdict import error_facts
from celeriac.model.states import FAILURE, PENDING, REVOKED, SUCCESS, is_final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from celeriac.codec import ResultMeta
    from celeriac.flow.host import Host

R = TypeVar("R")

UNUSED = "UNUSED"
"""Of a compensation: what it stands in for has succeeded."""
UNDONE = "UNDONE"
"""It succeeded, and was undone when the run failed."""
_SLICE = 500
_SWEEP_AFTER_S = 1.0


class StepState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a step stands."""

    name: str
    task: str
    """The registered name of its task or flow."""
    state: str
    """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, UPSTREAM_FAILED, SKIPPED, CANCELLED, UNUSED or UNDONE."""
    task_id: str
    error: str | None = None
    ended_at: str | None = None
    """ISO 8601; None where it is not known."""
    total: int | None = None
    """Elements of a step that runs for each; None for others, and before it is known."""
    succeeded: int = 0
    """Of its elements."""
    failed: int = 0
    run: str | None = None
    """The id of the run that a step is which runs a flow once."""
    generation: int = 0
    """How often the run had been resumed when this step last ran."""


class FlowRun(Generic[R]):
    """A handle on a run. Cheap: everything is read when it is asked for."""

    def __init__(self, id: str, app: Any) -> None:
        """Make one.

        Args:
            id: The run's.
            app: The application.
        """
        self.id = id
        self._host: Host = getattr(app, "flow_host", app)

    def __repr__(self) -> str:
        return f"<FlowRun: {self.id}>"

    @classmethod
    def recent(cls, app: Any, *, limit: int = 50) -> list[FlowRun[Any]]:
        """The latest runs of an application's flows, newest first; runs within runs are not among them."""
        host: Host = getattr(app, "flow_host", app)
        known = (run for one in runs(host) if (run := FlowRun[Any](one, host)).exists())
        return list(itertools.islice(known, limit))

    # -- looking ---------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the run is known."""
        return bool(self._host.store().load(RUN, [self.id]))

    @property
    def flow(self) -> str:
        """The flow's name."""
        return self._record().flow

    @property
    def call(self) -> str:
        """The arguments it was started with, shortened, as a person reads them."""
        return self._record().call

    @property
    def created_at(self) -> float:
        """Epoch seconds."""
        return self._record().created_at

    @property
    def generation(self) -> int:
        """How often it was resumed."""
        return self._record().generation

    @property
    def state(self) -> str:
        """PENDING, STARTED, UNDOING, SUCCESS, FAILURE or REVOKED."""
        found = self._host.store().get([self.id]).get(self.id)
        return PENDING if found is None else found.state

    def ready(self) -> bool:
        """Whether it has ended."""
        return is_final(self.state)

    def get(self, timeout: float | None = None) -> R:
        """Wait for the run, and return what it returned.

        Raises:
            ResultTimeout: It has not ended in time; it goes on.
            FlowFailed: A step failed, and no edge took its failure.
            TaskRevokedError: It was cancelled.
        """
        return cast("R", self._host.wait(self.id, timeout))

    async def aget(self, timeout: float | None = None) -> R:  # noqa: ASYNC109 - as AsyncResult has it
        """As `get`, as a coroutine."""
        return cast("R", await self._host.await_(self.id, timeout))

    @property
    def steps(self) -> Mapping[str, StepState]:
        """Where each step stands, by name, in an order in which they can run."""
        return self._steps(self._record())

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart, coloured by state."""
        record = self._record()
        steps = self._steps(record)
        counts = {name: str(step.total) for name, step in steps.items() if step.total is not None}
        return mermaid(record.graph(), {name: step.state for name, step in steps.items()}, counts)

    def draw(self) -> str:
        """The graph as text for a terminal, with the state of each step."""
        return "".join(f"{line}\n" for line, _ in self.drawn())

    def drawn(self) -> Sequence[tuple[str, str | None]]:
        """The same line by line, each with the name of the step that it is of, if it is of one."""
        record = self._record()
        return drawn(record.graph(), {name: note(step) for name, step in self._steps(record).items()})

    # -- acting ----------------------------------------------------------------------------------------------------

    def cancel(self, *, terminate: bool = False) -> bool:
        """Let nothing of it start any more; what succeeded and has an undo is undone.

        Args:
            terminate: Also stop the tasks that run.

        Returns:
            Whether it was still running; False: it had ended, and nothing changed.
        """
        record = self._record()
        if is_final(self.state) or self.state == UNDOING:
            return False
        flag = ids.flag_id(self.id, record.generation)
        self._host.store().save([self._host.record(STEP, flag, encode(self._host.codec, True))])
        self.revoke_all(record.generation, terminate=terminate)
        sweep = {"queue": record.queue, "countdown": _SWEEP_AFTER_S, "root_id": self.id, "parent_id": self.id}
        sweep["task_id"] = ids.message_id(self.id, SWEEP, record.generation)
        self._host.publish([self._host.message(SWEEP, [self.id, record.generation], {}, sweep)])
        return True

    def resume(self) -> FlowRun[R]:
        """Run again what failed and what depended on it, after the cause was mended; what succeeded keeps its results.

        Of a step that runs for each element, only the elements that failed run again, where what it runs over is the
        same. Steps that were undone run again.

        Raises:
            FlowError: It has not ended; or nothing has failed; or a result that is needed is no longer stored.
        """
        record, state = self._record(), self.state
        if state == PENDING and record.generation:  # whoever resumed it before did not come to the end
            self._host.publish([begin_message(self._host.ending, record.queue, self.id, record.generation)])
            return self
        if not is_final(state):
            raise FlowError(f"run {self.id} is {state}, so there is nothing to resume; cancel it first to start over")
        again, revived = self._to_run_again(record, undone=state != SUCCESS)
        if not again:
            raise FlowError(f"run {self.id} has no step that failed, so there is nothing to resume")
        gone = self._gone(record, again, revived)
        if gone:
            raise FlowError(
                f"run {self.id} cannot be resumed: the results of steps {gone} are no longer stored (result_expires); "
                "start the flow anew"
            )
        self._begin_again(record, again, revived)
        return self

    def revive(self, parent: Parent) -> None:
        """Resume a run that is a step of another, when that one is resumed; may be repeated."""
        record = self._record()
        if record.parent == parent:  # done before
            self._host.publish([begin_message(self._host.ending, record.queue, self.id, record.generation)])
            return
        again, revived = self._to_run_again(record, undone=True)
        if not again or self._gone(record, again, revived):
            again, revived = set(range(len(record.steps))), []
        self._begin_again(msgspec.structs.replace(record, parent=parent), again, revived)

    def _begin_again(self, record: RunRecord, again: Collection[int], revived: Sequence[int]) -> None:
        host, store = self._host, self._host.store()
        generation = record.generation + 1
        past = {step: (*record.generations.get(step, (0,)), generation) for step in again}
        record = msgspec.structs.replace(
            record,
            generation=generation,
            generations={**record.generations, **past},
            revived=tuple(revived),
        )
        store.open_joins([host.ending.join(ids.begin_id(self.id, generation), 1)])
        store.save([host.record(RUN, self.id, encode(host.codec, record))])
        store.forget([self.id])  # its failure is final, and would stay
        host.publish([begin_message(host.ending, record.queue, self.id, generation)])

    def _to_run_again(self, record: RunRecord, *, undone: bool) -> tuple[set[int], list[int]]:
        """The steps that run again; and those that are runs, which are resumed in their turn."""
        states = self._metas(record)
        again: set[int] = set()
        revived: list[int] = []
        for step, brief in enumerate(record.steps):
            meta = states.get(step)
            if brief.kind == "end" or (brief.of is not None and meta is None):
                mine = False  # or it was not needed
            else:
                mine = meta is None or meta.status != SUCCESS or (undone and brief.undo is not None)
            waits = {one.producer for one in brief.inputs} | {one.fallback for one in brief.inputs}
            has_new_input = not waits.isdisjoint(again) or not waits.isdisjoint(revived)
            if mine and not has_new_input and brief.kind == "flow" and not brief.each and self._has_run(record, step):
                revived.append(step)
            elif mine or has_new_input:
                again.add(step)
        return again, revived

    def _has_run(self, record: RunRecord, step: int) -> bool:
        """Whether a step that is a run failed as one, and not before it was one."""
        child = FlowRun[Any](ids.task_id(self.id, step, record.of_step(step)), self._host)
        return child.exists() and child.state in (FAILURE, REVOKED)

    def _gone(self, record: RunRecord, again: Collection[int], revived: Sequence[int]) -> list[str]:
        """The names of steps whose results are needed, and no longer stored."""
        needed = {one.producer for step in again for one in record.steps[step].inputs} - {*again, *revived}
        wanted = {ids.task_id(self.id, step, record.of_step(step)): step for step in needed}
        found = set(self._results(list(wanted)))
        return sorted(record.steps[step].name for task_id, step in wanted.items() if task_id not in found)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _record(self) -> RunRecord:
        raw = self._host.store().load(RUN, [self.id]).get(self.id)
        if raw is None:
            raise FlowError(
                f"run {self.id} is not known: its id is wrong, or its records are over (setting flow_expires)"
            )
        return decode(self._host.codec, raw, RunRecord)

    def _results(self, task_ids: Sequence[str]) -> dict[str, ResultMeta]:
        store, found = self._host.store(), {}
        for first in range(0, len(task_ids), _SLICE):
            for task_id, stored in store.get(task_ids[first : first + _SLICE]).items():
                found[task_id] = self._host.codec.read_result(stored)
        return found

    def _metas(self, record: RunRecord) -> dict[int, ResultMeta]:
        """What is stored of each step; the end has none."""
        wanted = {
            ids.task_id(self.id, step, record.of_step(step)): step
            for step, brief in enumerate(record.steps)
            if brief.kind != "end"
        }
        return {wanted[task_id]: meta for task_id, meta in self._results(list(wanted)).items()}

    def _steps(self, record: RunRecord) -> Mapping[str, StepState]:
        metas = self._metas(record)
        cancelled = bool(self._host.store().load(STEP, [ids.flag_id(self.id, record.generation)]))
        undone = self._undone(record, metas)
        has_ended = len(metas) < len(record.steps) - 1 and self.ready()
        states: dict[str, StepState] = {}
        for step, brief in enumerate(record.steps):
            if brief.kind == "end":
                continue
            meta = metas.get(step)
            state, error = _state(meta, cancelled=cancelled)
            if meta is None and brief.of is not None and states[record.steps[brief.of].name].state in (SUCCESS, UNDONE):
                state = UNUSED
            elif meta is None and has_ended:
                state, error = REVOKED, "ended without a result: it raised Ignore or Reject"
            if step in undone:
                state = UNDONE
            total, succeeded, failed = self._counts(record, step, meta)
            generation = record.of_step(step)
            task_id = ids.task_id(self.id, step, generation)
            states[brief.name] = StepState(
                name=brief.name,
                task=brief.task,
                state=state,
                task_id=task_id,
                error=error,
                ended_at=None if meta is None else meta.date_done,
                total=total,
                succeeded=succeeded,
                failed=failed,
                run=task_id if brief.kind == "flow" and not brief.each else None,
                generation=generation,
            )
        return states

    def _undone(self, record: RunRecord, metas: Mapping[int, ResultMeta]) -> set[int]:
        wanted = {
            ids.undo_id(self.id, step, record.of_step(step), element): step
            for step, brief in enumerate(record.steps)
            if brief.undo is not None and step in metas
            for element in ((0,) if brief.each else (None,))
        }
        return {wanted[task_id] for task_id, meta in self._results(list(wanted)).items() if meta.status == SUCCESS}

    def _counts(self, record: RunRecord, step: int, meta: ResultMeta | None) -> tuple[int | None, int, int]:
        """Of a step that runs for each: how many elements, how many succeeded and failed."""
        if not record.steps[step].each or meta is None:
            return None, 0, 0
        if meta.status == SUCCESS and isinstance(meta.result, list):
            return len(meta.result), len(meta.result), 0
        task_ids = list(self._elements(record, step))
        if not task_ids:
            return None, 0, 0
        found = [each.status for each in self._results(task_ids).values()]
        return len(task_ids), found.count(SUCCESS), found.count(FAILURE) + found.count(REVOKED)

    def _elements(self, record: RunRecord, step: int) -> Iterator[str]:
        """The ids of what a step runs for each element, as far as it is known."""
        generation = record.of_step(step)
        each_id = ids.each_id(self.id, step, generation)
        raw = self._host.store().load(EACH, [each_id]).get(each_id)
        if raw is not None:
            each = decode(self._host.codec, raw, EachRecord)
            for element in range(each.count):
                yield ids.task_id(self.id, step, each.kept.get(element, generation), element)

    def revoke_all(self, generation: int, *, terminate: bool) -> None:
        """Forbid everything of a generation that has not ended; what starts later sees that it is cancelled."""
        record = self._record()
        if record.generation != generation:
            return  # it was resumed meanwhile
        metas = self._metas(record)
        wanted: list[str] = []
        for step, brief in enumerate(record.steps):
            meta = metas.get(step)
            if brief.kind == "end" or (meta is not None and is_final(meta.status)):
                continue
            task_ids = [ids.task_id(self.id, step, record.of_step(step))]
            if brief.each:
                task_ids = list(self._elements(record, step))
                ended = {task_id for task_id, one in self._results(task_ids).items() if is_final(one.status)}
                task_ids = [task_id for task_id in task_ids if task_id not in ended]
            if brief.kind == "flow":
                for task_id in task_ids:
                    child: FlowRun[Any] = FlowRun(task_id, self._host)
                    if child.exists():
                        child.cancel(terminate=terminate)
            else:
                wanted += task_ids
        for first in range(0, len(wanted), _SLICE):
            self._host.revoke(wanted[first : first + _SLICE], terminate=terminate)


def note(step: StepState) -> str:
    """A step's state for a person."""
    words = [step.state]
    if step.total is not None:
        words.append(f"{step.succeeded} of {step.total}" + (f", {step.failed} failed" if step.failed else ""))
    if step.error is not None and step.state not in (SKIPPED, CANCELLED):
        words.append(step.error if len(step.error) <= 100 else step.error[:99] + "…")
    return "  ".join(words)


def _state(meta: ResultMeta | None, *, cancelled: bool) -> tuple[str, str | None]:
    if meta is None:
        return PENDING, None
    if meta.status not in (FAILURE, REVOKED):
        return meta.status, None
    facts = error_facts(meta.result)
    error = f"{facts['type']}: {facts['message']}" if facts["message"] else facts["type"]
    if meta.status == FAILURE:
        return (UPSTREAM_FAILED if facts["type"] == "UpstreamFailed" else FAILURE), error
    if facts["type"] == "StepSkipped":
        return SKIPPED, error
    return (CANCELLED if cancelled else REVOKED), error
