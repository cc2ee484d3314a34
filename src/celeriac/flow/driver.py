"""The tasks that drive runs: each reads what has arrived, decides, and says what is to be done in its own settlement.

None of them waits, and each may be run again at any time: ids are fixed, joins are closed by the settlement that used
them, and what has ended is not ended twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.canvas import Draft
from celeriac.codec import encode_exception
from celeriac.engine.continuation import Continue
from celeriac.errors import (
    BrokerError,
    FlowError,
    FlowFailed,
    NotRegistered,
    StepSkipped,
    TaskRevokedError,
    UpstreamFailed,
)
from celeriac.flow import ids
from celeriac.flow.ending import ENDED, GATHER, SLICE, SPREAD, START, SWEEP, UNDO, Ended, Ending, read_ended
from celeriac.flow.graph import Node, Output
from celeriac.flow.records import (
    CANCELLED,
    EACH,
    OUTCOME,
    PARTIAL,
    RUN,
    SKIPPED,
    STEP,
    UNDOING,
    UPSTREAM_FAILED,
    Arrived,
    EachRecord,
    EndRecord,
    Parent,
    RunRecord,
    decode,
    decode_arrived,
    encode,
)
from celeriac.flow.run import FlowRun
from celeriac.flow.starting import BEGIN, begin_message, starting
from celeriac.flow.verdict import NotRun, Ready, check_over, error_facts, judge
from celeriac.model import Record
from celeriac.model.states import FAILURE, REVOKED, STARTED, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celeriac.flow.host import Host
    from celeriac.model import Outgoing, StoredResult

SUB: Final = "celeriac.flow.sub"
_DEEPEST: Final = 20
"""Runs within runs."""


class Driver:
    """Drives the runs of one application's flows."""

    def __init__(self, host: Host, ending: Ending) -> None:
        self._host = host
        self._codec = host.codec
        self._ending = ending

    def tasks(self) -> Mapping[str, Callable[..., Any]]:
        """What every worker runs for flows, by name; each takes the queue of its own message first."""
        return {
            BEGIN: self.begin,
            START: self.start,
            GATHER: self.gather,
            SPREAD: self.spread,
            SUB: self.sub,
            ENDED: self.ended,
            UNDO: self.undo,
            SWEEP: self.sweep,
        }

    # -- the tasks -------------------------------------------------------------------------------------------------

    def begin(self, queue: str, run: str, generation: int, first: int) -> None:
        """Start a generation of a run: its steps that wait for nothing, or for what an earlier generation has done."""
        store = self._host.store()
        join = ids.begin_id(run, generation)
        if store.members(join) is None:
            return  # done before: this is a second delivery
        record = self._run(run)
        draft = Draft()
        mine = [step for step in range(len(record.steps)) if record.of_step(step) == generation]
        part = mine[first : first + SLICE]
        nodes, cancelled = self._nodes(run, part, generation)
        kept = self._kept(run, record, generation, part)
        for step in record.revived if first == 0 else ():
            parent = self._parent(run, step, generation, None, self._node(run, step, generation)[0])
            FlowRun(ids.task_id(run, step, record.of_step(step)), self._host).revive(parent)
        if first == 0:
            draft.results.append(self._result(run, STARTED, None))
        for step in part:
            node = nodes[step]
            if not node.inputs:
                self._go(self._what(queue, run, step, generation, node), node, [], 0, draft, cancelled, record)
                continue
            if node.of is not None:
                continue  # it waits for a failure, and what was kept has not failed
            for position, one in enumerate(node.inputs):
                if (arrived := kept.get(one.producer)) is not None:
                    what = Ended(run=run, step=one.producer, name="", generation=generation, queue=queue)
                    output = Output(step, position, len(node.inputs), one.data)
                    self._ending.hand_on(what, [output], arrived, draft)
        self._next_slice(queue, run, BEGIN, first + SLICE < len(mine), (generation, first + SLICE), join, draft)
        raise Continue(draft.sequel(), f"began run {run}")

    def start(self, queue: str, run: str, step: int, generation: int, first: int) -> None:
        """Everything a step waits for has ended: run it, or say that it does not run."""
        node, cancelled = self._node(run, step, generation)
        join = ids.join_id(run, step, generation)
        arrived: Sequence[Arrived] = ()
        if node.inputs:
            members = self._host.store().members(join)
            if members is None:
                return  # done before
            arrived = [decode_arrived(self._codec, member) for member in members]
        draft = Draft()
        if node.kind == "end":
            self._end(queue, run, generation, node, arrived, draft, cancelled=cancelled)
            draft.closed.append(join)
        else:
            what = self._what(queue, run, step, generation, node)
            more = self._go(what, node, arrived, first, draft, cancelled)
            if node.inputs and not more:
                draft.closed.append(join)
        raise Continue(draft.sequel(), f"took step {node.name!r} of run {run} up")

    def gather(self, queue: str, run: str, step: int, generation: int, first: int) -> None:
        """All elements of a step have ended."""
        join = ids.join_id(run, step, generation, "each")
        members = self._host.store().members(join)
        if members is None:
            return  # done before
        node, cancelled = self._node(run, step, generation)
        values: list[Any] = []
        failed: list[int] = []
        error: Any = None
        for place, raw in enumerate(members):
            came = decode_arrived(self._codec, raw)
            if came.state == SUCCESS:
                values.append(came.value)
                continue
            values.append(None)
            failed.append(place)
            error = came.value if error is None else error
        if not failed:
            arrived = Arrived(SUCCESS, values)
        elif cancelled:
            arrived = Arrived(CANCELLED)
        else:
            arrived = Arrived(PARTIAL, {"values": values, "failed": failed, "error": error}, node.name)
        draft = Draft()
        if first == 0:
            task_id = ids.task_id(run, step, generation)
            draft.results.append(self._told(task_id, node, arrived.state, arrived.value, node.name))
        # a part of it cannot be read back from its result, so slices are cut here
        what = self._what(queue, run, step, generation, node)
        self._ending.hand_on(what, node.outputs[first : first + SLICE], arrived, draft)
        more = first + SLICE < len(node.outputs)
        self._next_slice(queue, run, GATHER, more, (step, generation, first + SLICE), join, draft)
        raise Continue(draft.sequel(), f"gathered step {node.name!r} of run {run}")

    def spread(self, queue: str, run: str, step: int, generation: int, first: int) -> None:
        """Hand on the result of a step that very many wait for, some at a time."""
        node, cancelled = self._node(run, step, generation)
        task_id = ids.task_id(run, step, self._run(run).of_step(step))
        arrived = self._stored(task_id, node.name)
        if arrived is None:
            gone = FlowError(f"the result of step {node.name!r} was gone before all who need it had it")
            arrived = Arrived(FAILURE, encode_exception(gone), node.name)
        elif arrived.state == FAILURE and cancelled:
            arrived = Arrived(CANCELLED)
        draft = Draft()
        what = self._what(queue, run, step, generation, node)
        self._ending.hand_on(what, node.outputs[first : first + SLICE], arrived, draft)
        if first + SLICE < len(node.outputs):
            draft.messages.append(self._message(queue, run, SPREAD, step, generation, first + SLICE))
        raise Continue(draft.sequel(), f"handed on step {node.name!r} of run {run}")

    def ended(self, queue: str, *given: Any, what: Any, ok: bool) -> None:
        """A step has ended on a worker of Celery's, which sends callbacks as messages."""
        told = read_ended(what)
        draft = Draft()
        arrived = Arrived(SUCCESS, given[0] if given else None)
        if not ok:  # then what is given is the id of the task that failed
            known = self._stored(str(given[0]), told.name) if given else None
            unknown = Arrived(FAILURE, encode_exception(TaskRevokedError("what went wrong was not stored")), told.name)
            arrived = known if known is not None and known.state != SUCCESS else unknown
        self._ending.ended(told, arrived, draft)
        raise Continue(draft.sequel(), f"ended step {told.name!r} of run {told.run}")

    def sub(
        self, queue: str, run: str, step: int, generation: int, element: int | None, args: Any, kwargs: Any
    ) -> None:
        """A step that is a flow: build its graph with the values it was given, and start that as a run of its own."""
        node, cancelled = self._node(run, step, generation)
        child = ids.task_id(run, step, generation, element)
        draft = Draft()
        what = msgspec.structs.replace(self._what(queue, run, step, generation, node), element=element)
        if cancelled:
            self._step_ended(what, node, CANCELLED, None, draft)
            raise Continue(draft.sequel(), f"did not start run {child}: run {run} is cancelled")
        try:
            flow = self._host.flows.get(node.task)
            if flow is None:
                raise NotRegistered(f"flow {node.task!r} is not known on this worker; was its module imported?")
            depth = self._run(run).depth + 1
            if depth > _DEEPEST:
                raise FlowError(f"flow {node.task!r} is within {_DEEPEST} others: does it contain itself?")
            graph = flow.graph(*args, **kwargs)
            parent = self._parent(run, step, generation, element, node)
            made = starting(self._host, self._ending, child, graph, queue=queue, parent=parent, depth=depth)
        except BrokerError:
            raise
        except Exception as exc:  # whatever the user's function raises is how the step ends
            self._step_ended(what, node, FAILURE, encode_exception(exc), draft)
            raise Continue(draft.sequel(), f"could not start run {child}: {exc}") from exc
        if not self._host.store().load(RUN, [child]):  # else it began already, with the graph that was built then
            draft.records.extend(reversed(made.records))  # the run's own last: it says that all others are there
        draft.joins.append(made.join)
        draft.messages.append(begin_message(self._ending, queue, child, 0))
        raise Continue(draft.sequel(), f"started run {child} of flow {node.task!r}")

    @staticmethod
    def _parent(run: str, step: int, generation: int, element: int | None, node: Node) -> Parent:
        outputs = node.outputs if element is None and len(node.outputs) <= SLICE else ()
        return Parent(run=run, step=step, generation=generation, element=element, outputs=outputs)

    def undo(self, queue: str, run: str, generation: int, step: int, part: int) -> None:
        """Undo what has been done, from this step on back to the first, then let the run end."""
        record = self._run(run)
        draft = Draft()
        while step >= 0:
            values, more = self._to_undo(run, record, step, part)
            if values:
                self._undo(queue, run, generation, record, step, part, values, draft, more=more)
                break
            step, part = (step, part + 1) if more else (step - 1, 0)
        else:
            raw = self._host.store().load(OUTCOME, [ids.outcome_id(run, generation)])
            outcome = decode(self._codec, raw[ids.outcome_id(run, generation)], EndRecord)
            self._finish(queue, run, record, outcome.state, outcome.error, draft)
        raise Continue(draft.sequel(), f"undid what run {run} had done")

    def sweep(self, queue: str, run: str, generation: int) -> None:
        """Revoke once more what a cancelled run has sent: a step may have been on its way when it was cancelled."""
        FlowRun(run, self._host).revoke_all(generation, terminate=False)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _go(
        self,
        what: Ended,
        node: Node,
        arrived: Sequence[Arrived],
        first: int,
        draft: Draft,
        cancelled: bool,
        record: RunRecord | None = None,
    ) -> bool:
        """Run a step, or end it; whether there is more of it to send."""
        try:
            verdict = NotRun(CANCELLED) if cancelled and first == 0 else judge(node, arrived)
            if isinstance(verdict, NotRun):
                self._ended_here(what, node, verdict.state, verdict.error, draft, verdict.step)
                return False
            if node.each:
                over = check_over(node, verdict.args[0], self._host.max_steps)
                if not over:
                    self._ended_here(what, node, SUCCESS, [], draft)
                    return False
                rest = Ready(verdict.args[1:], verdict.kwargs)
                return self._each(what, node, over, rest, first, draft, cancelled, record)
            draft.messages.append(self._call(what, node, verdict.args, verdict.kwargs))
            return False
        except BrokerError:
            raise
        except Exception as exc:  # its arguments have no wire form, say
            self._ended_here(what, node, FAILURE, encode_exception(exc), draft)
            return False

    def _each(
        self,
        what: Ended,
        node: Node,
        over: Sequence[Any],
        rest: Ready,
        first: int,
        draft: Draft,
        cancelled: bool,
        record: RunRecord | None,
    ) -> bool:
        """Send a slice of a step's elements; those that an earlier generation has done arrive at once."""
        run, step, generation = what.run, what.step, what.generation
        each_id = ids.each_id(run, step, generation)
        if first == 0:
            kept = self._kept_elements(what, node, len(over), record)
            each = EachRecord(count=len(over), kept=kept)
            draft.joins.append(self._ending.join(ids.join_id(run, step, generation, "each"), len(over)))
            draft.records.append(self._record(EACH, each_id, each))
            draft.results.append(self._result(ids.task_id(run, step, generation), STARTED, None))
        else:
            raw = self._host.store().load(EACH, [each_id])
            each = decode(self._codec, raw[each_id], EachRecord)
        last = min(first + SLICE, len(over))
        done = {one: ids.task_id(run, step, each.kept[one], one) for one in range(first, last) if one in each.kept}
        stored = self._host.store().get(list(done.values())) if done else {}
        for element in range(first, last):
            one = msgspec.structs.replace(what, element=element, outputs=())
            found = stored.get(done[element]) if element in done else None
            if found is not None and found.state == SUCCESS:
                value = self._codec.read_result(found).result
                self._ending.element_ended(one, element, Arrived(SUCCESS, value), draft)
            elif element in done and not cancelled:
                FlowRun(done[element], self._host).revive(self._parent(run, step, generation, element, node))
            elif cancelled:
                self._step_ended(one, node, CANCELLED, None, draft)
            else:
                try:
                    draft.messages.append(self._call(one, node, [over[element], *rest.args], rest.kwargs))
                except BrokerError:
                    raise
                except Exception as exc:  # it has no wire form, say
                    self._step_ended(one, node, FAILURE, encode_exception(exc), draft)
        if last < len(over):
            draft.messages.append(self._message(what.queue, run, START, step, generation, last))
            return True
        return False

    def _kept_elements(self, what: Ended, node: Node, count: int, record: RunRecord | None) -> dict[int, int]:
        """Of a step that runs again over what it ran over before: the elements that succeeded, and when."""
        run, step, generation = what.run, what.step, what.generation
        if generation == 0:
            return {}
        store = self._host.store()
        record = record or self._run(run)
        past = record.generations.get(step, (0,))
        if len(past) < 2 or any(record.of_step(one.producer) == generation for one in node.inputs):
            return {}
        before = past[-2]
        each_id = ids.each_id(run, step, before)
        raw = store.load(EACH, [each_id]).get(each_id)
        each = None if raw is None else decode(self._codec, raw, EachRecord)
        if each is None or each.count != count:
            return {}
        kept: dict[int, int] = {}
        for start in range(0, count, SLICE):
            wanted = {
                ids.task_id(run, step, when, element): (element, when)
                for element in range(start, min(start + SLICE, count))
                for when in (each.kept.get(element, before),)
            }
            runs = store.load(RUN, list(wanted)) if node.kind == "flow" else {}
            for task_id, result in store.get(list(wanted)).items():
                if result.state == SUCCESS or task_id in runs:
                    element, when = wanted[task_id]
                    kept[element] = when
        return kept

    def _call(self, what: Ended, node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Outgoing:
        """The message of a step's task, or of one element's."""
        if node.kind == "flow":
            given = [what.run, what.step, what.generation, what.element, list(args), dict(kwargs)]
            key = (what.run, SUB, what.step, what.generation, what.element)
            options: dict[str, Any] = {"queue": what.queue, "task_id": ids.message_id(*key), "root_id": what.run}
            return self._host.message(SUB, given, {}, {**options, "parent_id": what.run})
        options = {
            **node.options,
            "task_id": ids.task_id(what.run, what.step, what.generation, what.element),
            "link": [*_listed(node.options.get("link")), what.form(ok=True)],
            "link_error": [*_listed(node.options.get("link_error")), what.form(ok=False)],
            "root_id": what.run,
            "parent_id": what.run,
            "ignore_result": False,
        }
        return self._host.message(node.task, args, kwargs, options)

    def _ended_here(self, what: Ended, node: Node, state: str, value: Any, draft: Draft, origin: str = "") -> None:
        """A step has ended without a task of its own that could say so: store it, and hand it on."""
        task_id = ids.task_id(what.run, what.step, what.generation)
        draft.results.append(self._told(task_id, node, state, value, origin))
        self._ending.ended(what, Arrived(state, value, origin or node.name), draft)

    def _step_ended(self, what: Ended, node: Node, state: str, value: Any, draft: Draft) -> None:
        """A run that is a step, or one of its elements, ended before it began."""
        task_id = ids.task_id(what.run, what.step, what.generation, what.element)
        draft.results.append(self._told(task_id, node, state, value, node.name))
        self._ending.ended(what, Arrived(state, value, node.name), draft)

    def _told(self, task_id: str, node: Node, state: str, value: Any, origin: str) -> StoredResult:
        """The stored result of a step that no task could store."""
        if state == SUCCESS:
            return self._result(task_id, SUCCESS, value)
        if state == PARTIAL:
            return self._result(task_id, FAILURE, value["error"])
        if state == UPSTREAM_FAILED:
            said = error_facts(value)
            text = f"step {node.name!r} did not run: step {origin!r} failed with {said['type']}: {said['message']}"
            return self._result(task_id, FAILURE, encode_exception(UpstreamFailed(text)))
        if state == SKIPPED:
            skipped = StepSkipped(f"step {node.name!r} was skipped: what it needs has no value")
            return self._result(task_id, REVOKED, encode_exception(skipped))
        if state == CANCELLED:
            return self._result(task_id, REVOKED, encode_exception(TaskRevokedError("its flow was cancelled")))
        return self._result(task_id, FAILURE, value)

    def _kept(self, run: str, record: RunRecord, generation: int, steps: Sequence[int]) -> dict[int, Arrived]:
        """What earlier generations have done, of what these steps wait for."""
        wanted = {one.producer for step in steps for one in record.steps[step].inputs}
        times = {step: record.of_step(step) for step in wanted}
        by_id = {
            ids.task_id(run, step, when): step
            for step, when in times.items()
            if when != generation and step not in record.revived  # those tell by themselves
        }
        kept: dict[int, Arrived] = {}
        for start in range(0, len(by_id), SLICE):
            for task_id, found in self._host.store().get(list(by_id)[start : start + SLICE]).items():
                if found.state == SUCCESS:
                    value = self._codec.read_result(found).result
                    kept[by_id[task_id]] = Arrived(SUCCESS, value)
        for step in set(by_id.values()) - kept.keys():
            gone = FlowError("the result that its run was resumed with is gone")
            kept[step] = Arrived(FAILURE, encode_exception(gone), record.steps[step].name)
        return kept

    # -- the end of a run ------------------------------------------------------------------------------------------

    def _end(
        self,
        queue: str,
        run: str,
        generation: int,
        node: Node,
        arrived: Sequence[Arrived],
        draft: Draft,
        *,
        cancelled: bool,
    ) -> None:
        record = self._run(run)
        verdict = NotRun(CANCELLED) if cancelled else judge(node, arrived)
        if not isinstance(verdict, NotRun):
            self._finish(queue, run, record, SUCCESS, verdict.args[0], draft)
            return
        if verdict.state == CANCELLED:
            state, error = REVOKED, encode_exception(TaskRevokedError("flow cancelled"))
        else:
            facts = error_facts(verdict.error)
            text = f"step {verdict.step!r} of flow {record.flow!r} failed with {facts['type']}: {facts['message']}"
            state, error = FAILURE, encode_exception(FlowFailed(text))
        if not any(brief.undo for brief in record.steps):
            self._finish(queue, run, record, state, error, draft)
            return
        outcome = EndRecord(state=state, error=error)
        draft.records.append(self._record(OUTCOME, ids.outcome_id(run, generation), outcome))
        draft.results.append(self._result(run, UNDOING, None))
        draft.messages.append(self._message(queue, run, UNDO, generation, len(record.steps) - 1, 0))

    def _finish(self, queue: str, run: str, record: RunRecord, state: str, value: Any, draft: Draft) -> None:
        """Store the run's result, and tell the run that this one is a step of."""
        result = self._result(run, state, value)
        draft.results.append(result)
        parent = record.parent
        if parent is None:
            return
        if state == REVOKED:
            state = CANCELLED if self._is_cancelled(parent.run, parent.generation) else FAILURE
        brief = self._run(parent.run).steps[parent.step]
        what = Ended(
            run=parent.run,
            step=parent.step,
            name=brief.name,
            generation=parent.generation,
            queue=queue,
            element=parent.element,
            outputs=parent.outputs or None,
        )
        self._ending.ended(what, Arrived(state, value, brief.name), draft)

    def _to_undo(self, run: str, record: RunRecord, step: int, part: int) -> tuple[list[tuple[int | None, Any]], bool]:
        """Of a slice of a step's elements, or of the step: those that succeeded, with their results; whether there are
        more slices.
        """
        brief = record.steps[step]
        if not brief.undo:
            return [], False
        when = record.of_step(step)
        store = self._host.store()
        if not brief.each:
            task_id = ids.task_id(run, step, when)
            found = self._stored(task_id, brief.name)
            return ([(None, found.value)] if found is not None and found.state == SUCCESS else []), False
        each_id = ids.each_id(run, step, when)
        raw = store.load(EACH, [each_id]).get(each_id)
        if raw is None:
            return [], False
        each = decode(self._codec, raw, EachRecord)
        first, last = part * SLICE, min((part + 1) * SLICE, each.count)
        wanted = {ids.task_id(run, step, each.kept.get(one, when), one): one for one in range(first, last)}
        values: list[tuple[int | None, Any]] = [
            (wanted[task_id], self._codec.read_result(result).result)
            for task_id, result in store.get(list(wanted)).items()
            if result.state == SUCCESS
        ]
        return values, last < each.count

    def _undo(
        self,
        queue: str,
        run: str,
        generation: int,
        record: RunRecord,
        step: int,
        part: int,
        values: Sequence[tuple[int | None, Any]],
        draft: Draft,
        *,
        more: bool,
    ) -> None:
        brief = record.steps[step]
        following = (step, part + 1) if more else (step - 1, 0)
        join = ids.join_id(run, step, generation, f"undo{part}")
        draft.joins.append(self._ending.join(join, len(values)))
        for place, (element, value) in enumerate(values):
            what = Ended(
                run=run,
                step=step,
                name=brief.name,
                generation=generation,
                queue=queue,
                element=part,
                undo=(place, *following),
            )
            options: dict[str, Any] = {
                "task_id": ids.undo_id(run, step, record.of_step(step), element),
                "link": [what.form(ok=True)],
                "link_error": [what.form(ok=False)],
                "root_id": run,
                "parent_id": run,
                "ignore_result": False,
            }
            draft.messages.append(self._host.message(str(brief.undo), [value], {}, options))

    # -- reading and writing ---------------------------------------------------------------------------------------

    def _run(self, run: str) -> RunRecord:
        raw = self._host.store().load(RUN, [run]).get(run)
        if raw is None:
            raise _gone(run)
        return decode(self._codec, raw, RunRecord)

    def _nodes(self, run: str, steps: Sequence[int], generation: int) -> tuple[dict[int, Node], bool]:
        """Steps' records, and whether the generation is cancelled."""
        wanted = {ids.record_id(run, step): step for step in steps}
        flag = ids.flag_id(run, generation)
        found = dict(self._host.store().load(STEP, [*wanted, flag]))
        is_cancelled = found.pop(flag, None) is not None
        if len(found) < len(wanted):
            raise _gone(run)
        return {wanted[key]: decode(self._codec, raw, Node) for key, raw in found.items()}, is_cancelled

    def _node(self, run: str, step: int, generation: int) -> tuple[Node, bool]:
        nodes, is_cancelled = self._nodes(run, [step], generation)
        return nodes[step], is_cancelled

    def _is_cancelled(self, run: str, generation: int) -> bool:
        return bool(self._host.store().load(STEP, [ids.flag_id(run, generation)]))

    def _stored(self, task_id: str, name: str) -> Arrived | None:
        """A final result, as what goes down an edge."""
        found = self._host.store().get([task_id]).get(task_id)
        if found is None or found.state not in (SUCCESS, FAILURE, REVOKED):
            return None
        value = self._codec.read_result(found).result
        if found.state == SUCCESS:
            return Arrived(SUCCESS, value)
        return Arrived(SKIPPED if error_facts(value)["type"] == "StepSkipped" else FAILURE, value, name)

    def _record(self, kind: str, record_id: str, value: Any) -> Record:
        return self._host.record(kind, record_id, encode(self._codec, value))

    def _result(self, task_id: str, state: str, value: Any) -> StoredResult:
        return self._host.result(task_id, state, value)

    def _what(self, queue: str, run: str, step: int, generation: int, node: Node) -> Ended:
        outputs = node.outputs if len(node.outputs) <= SLICE else None
        return Ended(run=run, step=step, name=node.name, generation=generation, queue=queue, outputs=outputs)

    def _message(self, queue: str, run: str, task: str, *args: Any) -> Outgoing:
        return self._ending.message(run, queue, task, *args)

    def _next_slice(
        self, queue: str, run: str, task: str, more: bool, args: tuple[Any, ...], join: str | None, draft: Draft
    ) -> None:
        if more:
            draft.messages.append(self._message(queue, run, task, *args))
        elif join is not None:
            draft.closed.append(join)


def _gone(run: str) -> FlowError:
    return FlowError(
        f"run {run} is not known, or its records are over: they are kept for flow_expires from its start on"
    )


def _listed(given: Any) -> list[Any]:
    return [] if not given else [given] if isinstance(given, dict) else list(given)
