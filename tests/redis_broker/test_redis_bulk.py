"""`delay_many` on Redis: the next thousand are built while the server takes the last."""

from __future__ import annotations

import pytest

from celeriac import Celeriac
from celeriac.interfaces.meanwhile import MEANWHILE


@pytest.fixture
def app(redis_url):
    app = Celeriac("bulk", broker=redis_url)

    @app.task(name="bulk.note")
    def note(number: int) -> int:
        return number

    yield app
    app.close()


def test_all_are_sent_in_order_and_once(app) -> None:
    task = app.tasks["bulk.note"]
    handles = task.delay_many([(number,) for number in range(3500)])
    assert len(handles) == len({handle.id for handle in handles}) == 3500
    assert app.broker.depth(["celery"])["celery"].ready == 3500
    assert [each.id for each in app.broker.peek("celery", limit=3500)] == [handle.id for handle in handles]


def test_the_next_are_built_before_the_answer_is_read(app, monkeypatch) -> None:
    publish, inside, seen = app.broker.publish, [], []

    def watched(messages):
        inside.append(messages)
        try:
            return publish(messages)
        finally:
            inside.pop()

    def calls():
        for number in range(2500):
            if number in (0, 1000):  # the first of a batch
                seen.append(len(inside))
                assert MEANWHILE.get() is None, "what is built does not build"
                app.tasks["bulk.note"].delay(-1)  # by another connection, in the midst of it
            yield (number,)

    monkeypatch.setattr(app.broker, "publish", watched)
    assert len(app.tasks["bulk.note"].delay_many(calls())) == 2500
    assert seen == [0, 1], "the second batch was built while the first was on its way"
    assert app.broker.depth(["celery"])["celery"].ready == 2502


def test_what_building_raises_comes_after_what_was_sent(app) -> None:
    def calls():
        for number in range(1500):
            if number == 1200:
                raise LookupError("no more")
            yield (number,)

    with pytest.raises(LookupError, match="no more"):
        app.tasks["bulk.note"].delay_many(calls())
    assert app.broker.depth(["celery"])["celery"].ready == 1000
    assert app.tasks["bulk.note"].delay(1).id, "the connection is sound"
