"""Workflows of a campaign: their tasks, and how they are sent: under ids that are all known, and noted, before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celeriac import chain, chord
from celeriac.flow import ids
from celeriac.model import new_task_id

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from celeriac import Celeriac, Flow, Signature, Step
    from chaos.history import Recorder


class Planned(Exception):
    """A task was told to fail."""


def add_workflows(
    app: Celeriac, recorder: Recorder, begin: Callable[[Any], str], finish: Callable[[Any, str], str]
) -> None:
    """Members, bodies, error callbacks, steps, and a flow."""

    @app.task(bind=True, name="member")
    def member(self: Any, before: Any = None, seconds: float = 0.0, *, fails: bool = False) -> str:
        """Of a header or a chain; a chain's gets the result of the step before it."""
        token = begin(self)
        time.sleep(seconds)
        finish(self, token)
        if fails:
            raise Planned("as it was told to")
        return token

    @app.task(bind=True, name="body")
    def body(self: Any, tokens: list[str], workflow: str) -> str:
        token = begin(self)
        recorder.note("body", id=workflow, token=token, value=tokens)
        return finish(self, token)

    @app.task(bind=True, name="errback")
    def errback(self: Any, failed: str, workflow: str) -> None:
        token = begin(self)
        recorder.note("errback", id=workflow, token=token, value=failed)
        finish(self, token)

    @app.flow(name="diamond")
    def diamond(flow: Flow, run: str, width: int) -> Step[Any]:
        """One, several beside each other, and one that gets their values."""
        first = flow.step(member, name="first")
        beside = [flow.step(member, first, 0.02, name=f"beside{number}") for number in range(width)]
        return flow.step(body, beside, run, name="last")


class Workflows:
    """Sends them and notes what is to come of each.

    Args:
        app: Whose.
        recorder: Where to note.
        luck: How long members take, what fails, what is revoked.
    """

    def __init__(self, app: Celeriac, recorder: Recorder, luck: random.Random) -> None:
        self._app = app
        self._note = recorder.note
        self._luck = luck
        self._member: Any = app.tasks["member"]
        self._body: Any = app.tasks["body"]
        self._errback: Any = app.tasks["errback"]
        self._made: list[tuple[str, str, dict[str, Any]]] = []
        """Ids, tasks and facts of what is about to be sent."""
        self._maybe: list[tuple[str, str]] = []
        """Ids and workflows of error callbacks of these, which may come, or not."""

    def chord(self, size: int, *, ending: str = "body", seconds: Sequence[float] = ()) -> list[str]:
        """Send one.

        Args:
            size: Of its header.
            seconds: How long its members take; drawn unless given.
            ending: `body`; `errback`: a member fails; `either`: who sends it does something to a member.

        Returns:
            The ids of its header.
        """
        workflow = new_task_id()
        signature, header = self._make_chord(workflow, size, ending, seconds)
        self._note("flow", "invoke", id=workflow, what=ending, value=header)
        self._publish(signature.delay)
        return header

    def nested(self) -> None:
        """Send a chain of chains and of a chord: four steps one after another, and three side by side amid them."""
        workflow = new_task_id()
        first = self._step()
        second = self._step(after=[_id(first)])
        middle, header = self._make_chord(workflow, 3, "body", after=[_id(second)])
        third = self._step(after=[_id(middle.body)])
        fourth = self._step(after=[_id(third)])
        self._note("flow", "invoke", id=workflow, what="body", value=header)
        self._publish(chain(first, chain(second, middle, third), fourth).delay)

    def diamond(self, width: int) -> None:
        """Send a flow: one step, several beside each other, one behind them."""
        run = new_task_id()
        steps = [ids.task_id(run, step, 0) for step in range(width + 2)]
        self._note("flow", "invoke", id=run, what="body", value=steps[1:-1])
        self._made += [
            (steps[0], "member", {}),
            *((step, "member", {"after": steps[:1]}) for step in steps[1:-1]),
            (steps[-1], "body", {"after": steps[1:-1]}),
        ]
        self._publish(lambda: self._app.flows["diamond"].start_as(run, run, width))

    def _make_chord(
        self, workflow: str, size: int, ending: str, seconds: Sequence[float] = (), *, after: Sequence[str] = ()
    ) -> tuple[chord, list[str]]:
        ends = "" if ending == "body" else "any"
        unlucky = self._luck.randrange(size) if ending == "errback" else -1
        header = [
            self._step(fails=True, ends="failure", after=after)
            if place == unlucky
            else self._step(ends=ends, seconds=seconds[place] if seconds else None, after=after)
            for place in range(size)
        ]
        members = [_id(one) for one in header]
        body = self._named(self._body.s(workflow=workflow), "failure" if ending == "errback" else ends, members)
        errback = self._errback.s(workflow=workflow).set(task_id=new_task_id())
        self._maybe.append((errback.options["task_id"], workflow))
        body.link_error(errback)
        return chord(header, body), members

    def _step(
        self, *, fails: bool = False, ends: str = "", seconds: float | None = None, after: Sequence[str] = ()
    ) -> Signature:
        seconds = round(self._luck.uniform(0.0, 0.04), 4) if seconds is None else seconds
        return self._named(self._member.s(seconds=seconds, fails=fails), ends, after)

    def _named(self, signature: Signature, ends: str, after: Sequence[str]) -> Signature:
        """Under an id that is known before it is sent."""
        task_id = new_task_id()
        facts = {"ends": ends, "after": list(after)}
        self._made.append((task_id, signature.task, {name: value for name, value in facts.items() if value}))
        return signature.set(task_id=task_id)

    def _publish(self, publish: Callable[[], object]) -> None:
        """Send all that was made since the last time."""
        made, self._made = self._made, []
        maybe, self._maybe = self._maybe, []
        for task_id, task, facts in made:
            self._note("enqueue", "invoke", id=task_id, what=task, value=facts or None)
        for task_id, workflow in maybe:
            self._note("enqueue", "invoke", id=task_id, what="errback", value={"follows": workflow})
            self._note("enqueue", "info", id=task_id)
        began = time.monotonic()
        publish()
        for task_id, _, _ in made:
            self._note("enqueue", "ok", id=task_id, at=round(time.monotonic() - began, 4))


def _id(signature: Signature) -> str:
    task_id: str = signature.options["task_id"]
    return task_id
