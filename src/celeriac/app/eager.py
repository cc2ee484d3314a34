"""Running a task here and now: the worker's own executor, without a broker between.

Arguments go through the codec, retries run at once (nothing waits), callbacks are run after their task.
"""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from celeriac.app.builtins import MEMBERS
from celeriac.engine.attempt import Attempt
from celeriac.model import Bury, Delivery, Done, Later
from celeriac.model.states import FAILURE, IGNORED, REJECTED
from celeriac.storage.workflows import WorkflowTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.engine.executor import Executor
    from celeriac.model import Outcome, Outgoing, StoredResult

Ending = tuple[str, Any, str | None]
"""(state, value or exception, traceback)"""


def run_eagerly(executor: Executor, message: Outgoing) -> tuple[Ending, list[StoredResult]]:
    """Run one message to its end, and what follows it after it.

    Returns:
        How it ended, and the encoded results of it and its successors where the executor makes some.
    """
    results: list[StoredResult] = []
    endings: dict[str, Ending] = {}
    waiting: list[Outgoing] = [message]
    joins = WorkflowTable()
    token = MEMBERS.set(lambda join: joins.members(join, executor.clock.time()))
    try:
        while waiting:
            current = waiting.pop(0)
            # what replaces a task has its id and comes later
            endings[current.id], successors = _run_to_end(executor, current, results, joins)
            waiting.extend(successors)
    finally:
        MEMBERS.reset(token)
    return endings[message.id], results


def _run_to_end(
    executor: Executor, message: Outgoing, results: list[StoredResult], joins: WorkflowTable
) -> tuple[Ending, Sequence[Outgoing]]:
    while True:
        delivery = Delivery(
            tag=0,
            id=message.id,
            queue=message.queue,
            headers=message.headers,
            body=message.body,
            priority=message.priority,
        )
        attempt = executor.begin(delivery)
        outcome: Outcome
        ending: Ending | None = None
        if isinstance(attempt, Attempt):
            attempt.is_eager = True
            outcome = _run_coroutine(executor, attempt) if attempt.is_async else executor.run(attempt)
            ending = attempt.ending
        else:
            outcome = attempt
        if isinstance(outcome, Later):
            message = outcome.message
            continue
        if isinstance(outcome, (Done, Bury)):
            if outcome.result is not None:
                results.append(outcome.result)
            if ending is None:
                ending = (FAILURE, outcome.reason, None) if isinstance(outcome, Bury) else (IGNORED, None, None)
            workflow = outcome.workflow
            if workflow is None:
                return ending, outcome.successors
            results.extend(workflow.results)
            now = executor.clock.time()
            joins.open(workflow.joins, now)
            return ending, [*outcome.successors, *joins.settle(workflow.arrivals, now)]
        return (REJECTED, None, None), ()


def _run_coroutine(executor: Executor, attempt: Attempt) -> Outcome:
    """Run an async task to its end from synchronous code, whether or not this thread has a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(executor.arun(attempt))
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, asyncio.run, executor.arun(attempt)).result()
