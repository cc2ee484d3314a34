"""Task ids and incarnations: unique in threads and forked children, ordered in time, valid UUIDs."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import uuid
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.model import ids, new_incarnation, new_task_id


def milliseconds(task_id):
    return uuid.UUID(task_id).int >> 80


def test_an_id_is_a_uuid_of_version_7():
    for _ in range(2000):
        task_id = new_task_id()
        parsed = uuid.UUID(task_id)
        assert str(parsed) == task_id
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


@given(st.floats(0, 2**47 / 1000, allow_nan=False))
def test_it_begins_with_the_time(now):
    original, ids._time = ids._time, lambda: now
    try:
        task_id = new_task_id()
    finally:
        ids._time = original
    assert milliseconds(task_id) == int(now * 1000.0)
    assert uuid.UUID(task_id).version == 7


@given(st.lists(st.integers(1_600_000_000_000_000, 4_000_000_000_000_000), min_size=2, max_size=20, unique=True))
def test_ids_sort_by_the_microsecond_of_their_making(moments):
    original, made = ids._time, []
    try:
        for moment in sorted(moments):
            ids._time = lambda moment=moment: moment / 1e6
            made.append((moment, new_task_id()))
    finally:
        ids._time = original
    for (earlier, first), (later, second) in itertools.pairwise(made):
        if later - earlier >= 2:  # a double holds the epoch's microseconds to about a quarter
            assert first < second


def test_ids_of_many_threads_are_unique():
    made, start = [], threading.Barrier(8)

    def make():
        start.wait()
        made.append([new_task_id() for _ in range(5000)] + [new_incarnation() for _ in range(500)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [each for batch in made for each in batch]
    assert len(everything) == 8 * 5500
    assert len(set(everything)) == len(everything)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_forked_children_draw_other_numbers_than_each_other_and_their_parent():
    new_incarnation()
    drawn = []
    for _ in range(3):
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns when other threads are running
            pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(20)
                os.write(writer, new_incarnation().encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            drawn.append(pipe.read())
        os.waitpid(pid, 0)
    drawn.append(new_incarnation())
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in drawn)
    assert len(set(drawn)) == 4
