from __future__ import annotations

import copy
import pickle
import sys
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac import crontab
from celeriac.errors import ScheduleError
from celeriac.scheduler import schedule_of


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (crontab(), "* * * * *"),
        (crontab(0), "0 * * * *"),
        (crontab(minute=[30, 0]), "0,30 * * * *"),
        (crontab(minute="*/15", hour={9, 10, 11}), "*/15 9-11 * * *"),
        (crontab(minute="1-20/3"), "1-19/3 * * * *"),
        (crontab(minute=5, hour="22-4"), "5 22-4 * * *"),
        (crontab(0, 0, "fri-mon"), "0 0 * * fri-mon"),
        (crontab(0, 0, "sat-0"), "0 0 * * sat,sun"),
        (crontab(0, 0, "mon,wed"), "0 0 * * mon,wed"),
        (crontab(0, 0, "MONDAY , Wednesday"), "0 0 * * mon,wed"),
        (crontab(0, 0, 7), "0 0 * * sun"),
        (crontab(0, 0, "5-7"), "0 0 * * fri-sun"),
        (crontab(0, 0, "0-7"), "0 0 * * *"),
        (crontab(0, 0, "7-2"), "0 0 * * sun-tue"),
        (crontab(0, 0, None, None, None), "0 0 * * *"),
        (crontab(0, 0, "*", "*", "jan,7,Dec"), "0 0 * jan,jul,dec *"),
        (crontab(0, 0, "*", "*", "nov-feb"), "0 0 * jan,feb,nov,dec *"),
        (crontab(0, 0, "*", "l"), "0 0 L * *"),
        (crontab(0, 0, "*", ["L-2", 15, "1"]), "0 0 1,15,L-2 * *"),
        (crontab(0, 0, "*", "L,L-0"), "0 0 L * *"),
        (crontab(0, 0, "*", "*,L"), "0 0 * * *"),
        (crontab(0, 0, "tue#2"), "0 0 * * tue#2"),
        (crontab(0, 0, "Fri#l,2#2"), "0 0 * * tue#2,fri#L"),
        (crontab(0, 0, "fri#L,fri,mon"), "0 0 * * mon,fri"),
        (crontab("30 7 * * mon-fri"), "30 7 * * mon-fri"),
        (crontab("  0,  30   7 * * 1 "), "0,30 7 * * mon"),
        (crontab.from_string("0 5 1 jan mon"), "0 5 1 jan mon"),
        (crontab(minute="*/90"), "0 * * * *"),
        (crontab(minute="7-59/10"), "7-57/10 * * * *"),
        (crontab(minute="0,20,40"), "*/20 * * * *"),
    ],
)
def test_fields(given: crontab, text: str) -> None:
    assert str(given) == text
    assert given == crontab(text) == crontab.from_string(text)
    assert given is crontab(text), "equal ones are one, so that ten thousand are small"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"minute": 60}, "minute='60': 60 is out of range; allowed are 0 to 59"),
        ({"minute": -1}, "minute=-1: it is negative"),
        ({"minute": "-1"}, "minute='-1': a value is missing"),
        ({"minute": ""}, "minute='': a value is missing"),
        ({"minute": "1,,2"}, "a value is missing"),
        ({"minute": "5-"}, "a value is missing"),
        ({"minute": "*/0"}, "the step '0' is not a number above zero"),
        ({"minute": "*/x"}, "the step 'x'"),
        ({"minute": "5/10"}, "a step needs a range: '5-59/10'"),
        ({"minute": "mon"}, "'mon' is not one of its values"),
        ({"minute": True}, "a bool is neither a number, a text, nor several"),
        ({"minute": 1.5}, "a float is neither"),
        ({"minute": [1, None]}, "None is neither a number nor a text"),
        ({"minute": []}, "it is empty"),
        ({"minute": b"5"}, "a bytes is neither"),
        ({"minute": "٣"}, "is not one of its values"),
        ({"hour": 24}, "hour='24': 24 is out of range; allowed are 0 to 23"),
        ({"day_of_month": 0}, "day_of_month='0'.*allowed are 1 to 31, 'L' "),
        ({"day_of_month": "L-31"}, "'L-31' is not 'L' or 'L-1' to 'L-30'"),
        ({"day_of_month": "LW"}, "'LW' is not 'L'"),
        ({"month_of_year": 13}, "month_of_year='13'.*names such as 'feb'"),
        ({"month_of_year": "mon"}, "'mon' is not one of its values"),
        ({"day_of_week": 8}, "day_of_week='8'.*Sunday is 0 or 7"),
        ({"day_of_week": "tu"}, "'tu' is not one of its values"),
        ({"day_of_week": "tue#6"}, "'tue#6' never comes"),
        ({"day_of_week": "tue#0"}, "'tue#0' never comes"),
        ({"day_of_week": "tue#"}, "'tue#' never comes"),
        ({"day_of_week": "#2"}, "a value is missing"),
        ({"minute": "9" * 5000}, "the text has 5000 characters"),
        ({"minute": "1 2 3"}, "'1 2 3' has 3 fields; five are wanted: minute, hour, day of month, month, day of week"),
        ({"minute": "1 2 3 4 5 6"}, "has 6 fields; five are wanted"),
        ({"minute": "1 2 * * *", "hour": 3}, "stands alone; other arguments were given, too"),
    ],
)
def test_what_is_no_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        crontab(**fields)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0 31 2 *", "'0 0 31 feb .' never comes: no day is day_of_month='31'"),
        ("0 0 30 feb *", "never comes"),
        ("0 0 31 apr,jun,sep,nov *", "never comes"),
        ("0 0 1-7 * tue#2", "never comes"),
        ("0 0 L-30 feb-jun/3 *", None),
        ("0 0 L-30 feb,apr *", "never comes"),
        ("0 0 1-21 * fri#L", "never comes"),
        ("0 0 29 2 *", None),
        ("0 0 29 2 sun", None),
        ("0 0 L-28 2 *", None),
        ("0 0 29 2 mon#5", None),
        ("0 0 28 2 mon#5", "never comes"),
        ("0 0 31 * *", None),
    ],
)
def test_what_never_comes(text: str, words: str | None) -> None:
    if words is not None:
        with pytest.raises(ScheduleError, match=words):
            crontab(text)
    else:
        assert crontab(text).next_after(0, ZoneInfo("UTC")) is not None


def test_a_text_of_other_than_five_fields() -> None:
    with pytest.raises(ScheduleError, match=r"^crontab '30 7 \* \*' has 4 fields; five are wanted: minute, hour, day "):
        crontab.from_string("30 7 * *")
    with pytest.raises(ScheduleError, match="'30' has 1 field; five"):
        crontab.from_string("30")


def test_rare_days_are_found() -> None:
    """The 29th of February that is a Sunday, over the year 2100, which is no leap year."""
    days, moment = [], 1_800_000_000 * 1_000_000
    for _ in range(5):
        after = crontab("0 0 29 2 sun").next_after(moment, UTC)
        assert after is not None
        moment = after
        days.append(datetime.fromtimestamp(moment // 1_000_000, UTC).date().isoformat())
    assert days == ["2032-02-29", "2060-02-29", "2088-02-29", "2128-02-29", "2156-02-29"]


def test_the_calendar_ends() -> None:
    far = 253_299_999_999 * 1_000_000
    assert crontab("0 0 29 2 *").next_after(far, ZoneInfo("Asia/Tokyo")) is None
    assert crontab("* * * * *").next_after(10**19, ZoneInfo("Asia/Tokyo")) is None


def test_as_a_value() -> None:
    value = crontab("30 7 * * mon-fri")
    assert hash(value) == hash(crontab(30, 7, "1-5"))
    assert value != crontab("30 7 * * mon-thu")
    assert value != "30 7 * * mon-fri"
    assert pickle.loads(pickle.dumps(value)) is value
    assert copy.deepcopy(value) is value
    assert repr(value) == "crontab('30 7 * * mon-fri')"
    assert not hasattr(value, "__dict__")
    assert sys.getsizeof(value) < 100
    assert value.begun_at(0) is value
    with pytest.raises(AttributeError, match="is a value"):
        value.minute = 5  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="is a value"):
        del value._hours


def test_a_class_of_ones_own() -> None:
    class Mine(crontab):
        __slots__ = ()

        def describe(self) -> str:
            return "mine"

    assert Mine("30 7 * * *").describe() == "mine"
    assert crontab("30 7 * * *").describe() == "every day at 07:30"
    assert Mine("30 7 * * *") != crontab("30 7 * * *")


def test_values_do_not_stay_for_ever() -> None:
    """Those of entries that are gone, when schedules change at run time."""
    import gc

    from celeriac.scheduler.crontab import _crontabs, _months

    gc.collect()
    before = len(_crontabs), len(_months)
    kept = [crontab(minute, hour, "*", 3 + minute % 5) for minute in range(60) for hour in range(10)]
    assert len(_crontabs) >= before[0] + 500
    del kept
    gc.collect()
    assert (len(_crontabs), len(_months)) == before


fields = {
    low_high: st.one_of(
        st.just("*"),
        st.integers(*low_high).map(str),
        st.lists(st.integers(*low_high), min_size=1, max_size=6).map(lambda values: ",".join(map(str, values))),
        st.tuples(st.integers(*low_high), st.integers(*low_high), st.integers(1, 12)).map(
            "{0[0]}-{0[1]}/{0[2]}".format
        ),
        st.integers(1, 40).map("*/{}".format),
    )
    for low_high in ((0, 59), (0, 23), (1, 28), (1, 12), (0, 7))
}


@given(*fields.values())
def test_the_text_says_all(minute: str, hour: str, day: str, month: str, weekday: str) -> None:
    value = crontab(minute, hour, weekday, day, month)
    assert crontab(str(value)) is value
    assert schedule_of(value.form()) is value
    assert value.describe()
