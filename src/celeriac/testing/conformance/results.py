"""What a result store promises."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from celeriac.model import new_task_id
from celeriac.model.states import MOVES, READY_STATES, may_follow
from celeriac.testing.conformance.keeping import KeepingTests
from celeriac.testing.conformance.stage import DEADLINE_S, background, elapse, result_of, told, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.clock import Clock
    from celeriac.interfaces import ResultStore

STATES = [*MOVES, "PROGRESS"]
LONG_S = 3600.0


class ResultStoreSuite(KeepingTests):
    """What `interfaces.ResultStore` promises, sentence by sentence."""

    async def test_what_was_put_is_read(
        self, store: ResultStore, result_store_factory: Callable[[], ResultStore], clock: Clock
    ) -> None:
        results = [
            result_of(new_task_id(), "SUCCESS", bytes(range(256))),
            result_of(new_task_id(), "PROGRESS", b"", expires_at=clock.time() + 1000),
            result_of("own.id:1_2-3", "FAILURE", b"x" * 100_000),
        ]
        assert list(store.put(results)) == [True] * 3
        ids = [each.id for each in results]
        other = result_store_factory()
        assert other.url == store.url
        for reader in (store, other):
            assert told(reader.get([*ids, "unknown"])) == told(dict(zip(ids, results, strict=True)))
            assert await within(reader.aget(ids[:1])) == {ids[0]: results[0]}
        assert store.get([]) == {}
        other.close()

    async def test_aput_does_the_same(self, store: ResultStore) -> None:
        task_id = new_task_id()
        final = result_of(task_id)
        assert list(await within(store.aput([final, result_of(task_id, "FAILURE")]))) == [True, False]
        assert store.get([task_id]) == {task_id: final}

    async def test_an_empty_batch_is_nothing(self, store: ResultStore) -> None:
        assert list(store.put([])) == []
        store.forget([])

    @pytest.mark.parametrize(("old", "new"), list(itertools.product(STATES, STATES)))
    async def test_states_follow_the_table(self, store: ResultStore, old: str, new: str) -> None:
        task_id = new_task_id()
        first, second = result_of(task_id, old, b"old"), result_of(task_id, new, b"new")
        assert list(store.put([first])) == [True]
        allowed = may_follow(old, new)
        assert list(store.put([second])) == [allowed]
        assert store.get([task_id]) == {task_id: second if allowed else first}

    async def test_answers_of_a_batch_are_in_order(self, store: ResultStore) -> None:
        final, fresh = new_task_id(), new_task_id()
        store.put([result_of(final)])
        batch = [result_of(final, "STARTED"), result_of(fresh, "STARTED"), result_of(fresh), result_of(fresh, "RETRY")]
        assert list(store.put(batch)) == [False, True, True, False]
        assert {key: value.state for key, value in store.get([final, fresh]).items()} == dict.fromkeys(
            (final, fresh), "SUCCESS"
        )

    async def test_a_thousand_at_once(self, store: ResultStore) -> None:
        results = {each.id: each for each in (result_of(new_task_id(), value=b"%d" % index) for index in range(1000))}
        assert list(store.put(list(results.values()))) == [True] * 1000
        assert store.get(list(results)) == results
        assert store.wait(list(results), timeout_s=0) == results

    async def test_of_many_threads_one_has_the_last_word(self, store: ResultStore) -> None:
        task_id, start = new_task_id(), threading.Barrier(20)
        answers: list[tuple[bool, bytes]] = []

        def write(number: int) -> None:
            start.wait()
            result = result_of(task_id, ("SUCCESS", "FAILURE")[number % 2], b"%d" % number)
            (written,) = store.put([result])
            answers.append((written, result.payload))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join, DEADLINE_S)
        assert len(answers) == 20
        (winner,) = [payload for written, payload in answers if written]
        assert store.get([task_id])[task_id].payload == winner

    async def test_expired_results_are_not_seen(
        self, store: ResultStore, clock: Clock, span: float, expires_by_itself: bool
    ) -> None:
        short, long, ever = new_task_id(), new_task_id(), new_task_id()
        store.put(
            [
                result_of(short, expires_at=clock.time() + span),
                result_of(long, expires_at=clock.time() + 100 * span),
                result_of(ever),
            ]
        )
        assert set(store.get([short, long, ever])) == {short, long, ever}
        await elapse(clock, span * 1.1)
        assert set(store.get([short, long, ever])) == {long, ever}
        assert store.wait([short], timeout_s=0) == {}
        assert store.expire(limit=100) == (0 if expires_by_itself else 1)
        assert store.expire(limit=100) == 0
        assert set(store.get([short, long, ever])) == {long, ever}

    async def test_expired_results_hold_no_place(self, store: ResultStore, clock: Clock, span: float) -> None:
        task_id = new_task_id()
        store.put([result_of(task_id, "FAILURE", expires_at=clock.time() + span)])
        await elapse(clock, span * 1.1)
        again = result_of(task_id, "STARTED")
        assert list(store.put([again])) == [True]
        assert store.get([task_id]) == {task_id: again}
        assert store.expire(limit=100) == 0

    async def test_expire_deletes_at_most_so_many(
        self, store: ResultStore, clock: Clock, span: float, expires_by_itself: bool
    ) -> None:
        store.put([result_of(new_task_id(), expires_at=clock.time() + span) for _ in range(5)])
        assert store.expire(limit=10) == 0
        await elapse(clock, span * 1.1)
        assert [store.expire(limit=2) for _ in range(4)] == ([0] * 4 if expires_by_itself else [2, 2, 1, 0])

    async def test_a_later_write_decides_the_expiry(self, store: ResultStore, clock: Clock, span: float) -> None:
        task_id = new_task_id()
        store.put([result_of(task_id, "STARTED", expires_at=clock.time() + span)])
        store.put([final := result_of(task_id, expires_at=clock.time() + 100 * span)])
        await elapse(clock, span * 1.1)
        assert store.expire(limit=10) == 0
        assert told(store.get([task_id])) == told({task_id: final})

    async def test_forget(self, store: ResultStore) -> None:
        gone, kept = new_task_id(), new_task_id()
        store.put([result_of(gone), result_of(kept)])
        store.forget([gone, "unknown"])
        assert set(store.get([gone, kept])) == {kept}
        assert list(store.put([result_of(gone, "STARTED")])) == [True]

    @pytest.mark.parametrize("state", sorted(READY_STATES))
    async def test_a_final_result_wakes_who_waits(
        self, store: ResultStore, result_store_factory: Callable[[], ResultStore], state: str
    ) -> None:
        other = result_store_factory()
        for writer in (store, other):
            task_id, unrelated = new_task_id(), new_task_id()
            final = result_of(task_id, state)
            found: list[Any] = []
            thread = threading.Thread(
                target=lambda: found.append(store.wait([task_id, unrelated], timeout_s=LONG_S))  # noqa: B023
            )
            thread.start()
            async with background(store.await_final([unrelated, task_id], timeout_s=LONG_S)) as waiting:
                writer.put([result_of(task_id, "STARTED")])
                writer.put([final])
                assert await within(asyncio.wait_for(waiting, None)) == {task_id: final}
            await asyncio.to_thread(thread.join, DEADLINE_S)
            assert found == [{task_id: final}]
        other.close()

    async def test_all_that_are_final_come_at_once(self, store: ResultStore) -> None:
        first, second, third, started = (new_task_id() for _ in range(4))
        store.put([result_of(first), result_of(second, "FAILURE"), result_of(started, "STARTED")])
        wanted = [first, second, third, started]
        assert set(store.wait(wanted, timeout_s=LONG_S)) == {first, second}
        assert set(await within(store.await_final(wanted, timeout_s=LONG_S))) == {first, second}

    async def test_waiting_ends_with_the_timeout(self, store: ResultStore) -> None:
        started = new_task_id()
        store.put([result_of(started, "STARTED")])
        for timeout_s in (0.0, 0.05):
            assert await asyncio.to_thread(store.wait, [started, "unknown"], timeout_s=timeout_s) == {}
            assert await within(store.await_final([started, "unknown"], timeout_s=timeout_s)) == {}

    async def test_many_waiters_for_many_results(self, store: ResultStore) -> None:
        ids = [new_task_id() for _ in range(50)]
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            waiting = [group.create_task(store.await_final([task_id], timeout_s=LONG_S)) for task_id in ids]
            await asyncio.sleep(0)
            await asyncio.to_thread(store.put, [result_of(task_id) for task_id in reversed(ids)])
        assert [list(task.result()) for task in waiting] == [[task_id] for task_id in ids]

    async def test_a_cancelled_wait_leaves_the_store_alone(self, store: ResultStore) -> None:
        task_id = new_task_id()
        async with background(store.await_final([task_id], timeout_s=LONG_S)):
            pass
        store.put([final := result_of(task_id)])
        assert await within(store.await_final([task_id], timeout_s=LONG_S)) == {task_id: final}

    async def test_a_closed_store_opens_again(
        self, store: ResultStore, result_store_factory: Callable[[], ResultStore]
    ) -> None:
        keeper = result_store_factory()
        store.put([final := result_of(new_task_id())])
        store.close()
        store.close()
        assert store.get([final.id]) == {final.id: final}
        keeper.close()
