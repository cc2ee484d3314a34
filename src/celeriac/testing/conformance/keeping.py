"""What a result store promises of joins, of records, and of many results at once."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from celeriac.model import Join, Record, new_task_id
from celeriac.testing.clocks import ManualClock
from celeriac.testing.conformance.stage import DEADLINE_S, ResultStage, arrival, elapse, result_of, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.clock import Clock
    from celeriac.interfaces import ResultStore

LONG_S = 3600.0


class KeepingTests(ResultStage):
    @pytest.fixture
    def join(self) -> str:
        """The id of a join that nobody knows yet."""
        return new_task_id()

    # -- joins

    async def test_the_last_to_arrive_is_told(
        self, store: ResultStore, result_store_factory: Callable[[], ResultStore], join: str
    ) -> None:
        other = result_store_factory()
        store.open_joins([Join(id=join, size=3)])
        assert list(store.arrive([arrival(join, 2)])) == [False]
        assert list(await within(other.aarrive([arrival(join, 0), arrival(join, 2, payload=b"again")]))) == [False] * 2
        assert list(other.members(join) or ()) == [arrival(join, 0).payload, arrival(join, 2).payload]
        assert list(store.arrive([arrival(join, 1)])) == [True]
        for again in (0, 1):
            assert list(other.arrive([arrival(join, again)])) == [True], "until it is closed, every repeat is told"
        await within(other.aclose_joins([join]))
        assert list(store.arrive([arrival(join, 1)])) == [False]
        assert store.members(join) is None
        other.close()

    async def test_answers_are_in_order(self, store: ResultStore) -> None:
        a, b, c = (new_task_id() for _ in range(3))
        await within(store.aopen_joins([Join(id=a, size=1), Join(id=b, size=2), Join(id=c, size=1)]))
        assert list(store.arrive([arrival(a, 0), arrival(b, 0), arrival(c, 0)])) == [True, False, True]
        assert [list(store.members(each) or ()) for each in (a, b, c)] == [
            [arrival(each, 0).payload] for each in (a, b, c)
        ]

    async def test_an_empty_batch_of_joins_is_nothing(self, store: ResultStore) -> None:
        store.open_joins([])
        assert list(store.arrive([])) == []
        await store.aclose_joins([])
        store.save([])
        assert store.load("model", []) == {}
        store.discard("model", [])

    async def test_what_nobody_knows_has_no_members(self, store: ResultStore, join: str) -> None:
        assert store.members(join) is None
        store.open_joins([Join(id=join, size=1)])
        assert list(store.members(join) or ()) == []
        assert store.members(join) is not None

    async def test_opening_again_changes_nothing(self, store: ResultStore, join: str) -> None:
        store.open_joins([Join(id=join, size=2), Join(id=join, size=1)])
        assert list(store.arrive([arrival(join, 0)])) == [False]
        store.open_joins([Join(id=join, size=2)])
        store.open_joins([Join(id=join, size=1)])
        assert list(store.members(join) or ()) == [arrival(join, 0).payload]
        assert list(store.arrive([arrival(join, 1)])) == [True]

    async def test_what_nobody_opened_yet_waits(self, store: ResultStore, join: str) -> None:
        assert list(store.arrive([arrival(join, 0), arrival(join, 1)])) == [False, False]
        store.open_joins([Join(id=join, size=3)])
        assert list(store.arrive([arrival(join, 2)])) == [True]
        assert list(store.members(join) or ()) == [arrival(join, position).payload for position in range(3)]

    async def test_members_without_a_position_come_last(self, store: ResultStore, join: str) -> None:
        store.open_joins([Join(id=join, size=13)])
        mixed = [arrival(join, None, "z"), *(arrival(join, position) for position in (10, 2, 0)), arrival(join, None)]
        assert list(store.arrive(mixed[:1])) == [False]
        assert list(store.arrive(mixed[1:])) == [False] * 4
        assert list(store.arrive([arrival(join, None, "z", payload=b"again")])) == [False]
        expected = [mixed[index].payload for index in (3, 2, 1, 0, 4)]
        assert list(store.members(join) or ()) == expected

    async def test_an_extended_join_waits_for_each_member_once(self, store: ResultStore, join: str) -> None:
        store.open_joins([Join(id=join, size=1)])
        for member in ("x", "y", "x"):
            store.extend_join(join, member)
        assert list(store.arrive([arrival(join, 0)])) == [False]
        assert list(store.arrive([arrival(join, None, "y")])) == [False]
        assert list(store.arrive([arrival(join, None, "x")])) == [True]

    async def test_one_that_is_closed_unknown_stays_closed(self, store: ResultStore, join: str) -> None:
        await within(store.aclose_joins([join, join]))
        store.open_joins([Join(id=join, size=1)])
        store.extend_join(join, "x")
        assert list(store.arrive([arrival(join, 0)])) == [False]
        assert store.members(join) is None

    async def test_of_many_threads_one_is_the_last(self, store: ResultStore, join: str) -> None:
        store.open_joins([Join(id=join, size=20)])
        start = threading.Barrier(20)
        answers: list[bool] = []

        def arrive(position: int) -> None:
            start.wait()
            answers.extend(store.arrive([arrival(join, position)]))

        threads = [threading.Thread(target=arrive, args=(position,)) for position in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join, DEADLINE_S)
        assert sorted(answers) == [False] * 19 + [True]
        assert list(store.members(join) or ()) == [arrival(join, position).payload for position in range(20)]

    async def test_two_thousand_members(self, store: ResultStore, join: str) -> None:
        store.open_joins([Join(id=join, size=2000)])
        arrivals = [arrival(join, position) for position in range(2000)]
        for start in range(1900, -1, -100):
            assert not any(store.arrive(arrivals[start : start + 99]))
        answers = list(store.arrive(arrivals[99::100]))
        assert answers[-1] is True
        assert list(store.members(join) or ()) == [each.payload for each in arrivals]

    async def test_a_join_is_dropped_when_its_time_is_over(
        self, store: ResultStore, clock: Clock, span: float, expires_by_itself: bool
    ) -> None:
        short, kept, prolonged = (new_task_id() for _ in range(3))
        soon, later = clock.time() + span, clock.time() + 100 * span
        store.open_joins([Join(id=short, size=2, expires_at=soon), Join(id=kept, size=1)])
        store.open_joins([Join(id=prolonged, size=2, expires_at=soon)])
        assert not any(store.arrive([arrival(short, 0, expires_at=soon), arrival(prolonged, 0, expires_at=later)]))
        await elapse(clock, span * 1.1)
        assert store.members(short) is None
        assert list(store.members(prolonged) or ()) == [arrival(prolonged, 0).payload]
        assert list(store.members(kept) or ()) == []
        assert store.expire(limit=100) == (0 if expires_by_itself else 1)
        assert store.expire(limit=100) == 0
        store.open_joins([Join(id=short, size=1)])
        assert list(store.members(short) or ()) == [], "it begins anew"
        assert list(store.arrive([arrival(prolonged, 1, expires_at=later)])) == [True]

    async def test_a_join_whose_time_is_over_holds_no_place(
        self, store: ResultStore, clock: Clock, span: float, join: str
    ) -> None:
        soon = clock.time() + span
        store.open_joins([Join(id=join, size=1, expires_at=soon)])
        assert list(store.arrive([arrival(join, 0, expires_at=soon)])) == [True]
        await elapse(clock, span * 1.1)
        store.open_joins([Join(id=join, size=2)])
        assert list(store.members(join) or ()) == []
        assert list(store.arrive([arrival(join, 1)])) == [False]

    async def test_that_it_is_closed_is_known_for_an_hour(
        self, store: ResultStore, clock: Clock, span: float, join: str
    ) -> None:
        store.open_joins([Join(id=join, size=1, expires_at=clock.time() + span)])
        await within(store.aclose_joins([join]))
        await elapse(clock, 3500.0 if isinstance(clock, ManualClock) else span * 1.1)
        store.expire(limit=100)
        store.open_joins([Join(id=join, size=1)])
        assert list(store.arrive([arrival(join, 0)])) == [False]
        assert store.members(join) is None

    # -- records

    async def test_records_are_kept_by_kind_and_id(
        self, store: ResultStore, result_store_factory: Callable[[], ResultStore]
    ) -> None:
        one, two = new_task_id(), new_task_id()
        other = result_store_factory()
        store.save(
            [Record(kind="model", id=one, payload=bytes(range(256))), Record(kind="group", id=one, payload=b"g")]
        )
        await within(other.asave([Record(kind="model", id=two, payload=b"x" * 100_000)]))
        assert store.load("model", [one, two, "unknown"]) == {one: bytes(range(256)), two: b"x" * 100_000}
        assert other.load("group", [one, two]) == {one: b"g"}
        other.save([Record(kind="model", id=one, payload=b"over")])
        assert store.load("model", [one]) == {one: b"over"}
        store.discard("model", [one, "unknown"])
        assert other.load("model", [one, two]) == {two: b"x" * 100_000}
        assert other.load("group", [one]) == {one: b"g"}
        other.close()

    async def test_records_have_their_time(
        self, store: ResultStore, clock: Clock, span: float, expires_by_itself: bool
    ) -> None:
        short, long, ever = (new_task_id() for _ in range(3))
        ends = {short: clock.time() + span, long: clock.time() + 100 * span, ever: None}
        store.save([Record(kind="model", id=key, payload=b"p", expires_at=end) for key, end in ends.items()])
        assert set(store.load("model", list(ends))) == {short, long, ever}
        await elapse(clock, span * 1.1)
        assert set(store.load("model", list(ends))) == {long, ever}
        assert store.expire(limit=100) == (0 if expires_by_itself else 1)
        assert store.expire(limit=100) == 0

    async def test_expire_counts_everything_together(
        self, store: ResultStore, clock: Clock, span: float, expires_by_itself: bool
    ) -> None:
        soon = clock.time() + span
        store.put([result_of(new_task_id(), expires_at=soon) for _ in range(2)])
        store.save([Record(kind="model", id=new_task_id(), payload=b"p", expires_at=soon) for _ in range(2)])
        store.open_joins([Join(id=new_task_id(), size=3, expires_at=soon) for _ in range(2)])
        await elapse(clock, span * 1.1)
        assert [store.expire(limit=4) for _ in range(3)] == ([0] * 3 if expires_by_itself else [4, 2, 0])

    # -- gather

    async def test_gather_hands_out_in_order(self, store: ResultStore) -> None:
        results = [result_of(new_task_id(), ("SUCCESS", "FAILURE", "REVOKED")[index % 3]) for index in range(2500)]
        store.put(results)
        ids = [each.id for each in results]
        assert [each.id for each in store.gather(ids[::-1], timeout_s=LONG_S)] == ids[::-1]
        assert [each.state for each in store.gather(ids[:3], timeout_s=0)] == ["SUCCESS", "FAILURE", "REVOKED"]
        assert [each.id for each in store.gather([ids[0], ids[1], ids[0]], timeout_s=0)] == [ids[0], ids[1], ids[0]]
        assert list(store.gather([], timeout_s=LONG_S)) == []

    @pytest.mark.parametrize("order", ["as asked", "backwards", "in pieces"])
    async def test_gather_waits_for_each(
        self, store: ResultStore, result_store_factory: Callable[[], ResultStore], order: str
    ) -> None:
        results = [result_of(new_task_id()) for _ in range(700)]
        ids = [each.id for each in results]
        got: list[str] = []
        other = result_store_factory()
        other.put([result_of(each, "STARTED") for each in ids])
        thread = threading.Thread(target=lambda: got.extend(each.id for each in store.gather(ids, timeout_s=LONG_S)))
        thread.start()
        size = 7 if order == "in pieces" else 100
        pieces = [results[start : start + size] for start in range(0, 700, size)]
        for piece in reversed(pieces) if order == "backwards" else pieces:
            await within(other.aput(piece))
        await asyncio.to_thread(thread.join, DEADLINE_S)
        assert got == ids
        other.close()

    async def test_gather_hands_out_what_is_there_before_the_rest_comes(self, store: ResultStore) -> None:
        first, second = result_of(new_task_id()), result_of(new_task_id())
        store.put([first])
        gathering = store.gather([first.id, second.id], timeout_s=LONG_S)
        assert (await asyncio.to_thread(next, gathering)).id == first.id
        store.put([second])
        assert (await asyncio.to_thread(next, gathering)).id == second.id
        assert await asyncio.to_thread(next, gathering, None) is None

    async def test_gather_ends_with_the_timeout(self, store: ResultStore) -> None:
        there, started, behind = new_task_id(), new_task_id(), new_task_id()
        store.put([result_of(there), result_of(started, "STARTED"), result_of(behind)])
        for timeout_s in (0.0, 0.05):
            gathered = await asyncio.to_thread(
                lambda timeout_s: list(store.gather([there, started, behind], timeout_s=timeout_s)), timeout_s
            )
            assert [each.id for each in gathered] == [there]
