"""The kinds of values a setting can have: how each is checked, read from text, and written as text again.

Text is how environment variables carry values, and what tables show.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from datetime import timedelta, tzinfo
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from celeriac.app.queues import Binding, Exchange, Queue, as_queues, check_queue_name
from celeriac.app.routing import check_routes
from celeriac.errors import ScheduleError
from celeriac.masking import is_secret, masked

T = TypeVar("T")


def _read_json(text: str) -> Any:
    import json  # a millisecond that most processes never need

    return json.loads(text)


def _write_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    import json

    return json.dumps(value, default=default)


class FrozenDict(dict[str, Any]):
    """A dict that says how to change it instead of changing: a setting is set, not edited in place."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("settings are not changed in place; assign a whole new dict to the setting")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenDict, (dict(self),))


class Kind(Generic[T]):
    """One kind of value. `convert` and `parse` raise ValueError with what is wrong, in a few words or none."""

    expected = "a value"
    """For messages: "expected …"."""
    secret = False
    """Never shown."""

    def convert(self, value: Any) -> T:
        """Check a Python value and bring it into its one form."""
        raise NotImplementedError

    def parse(self, text: str) -> T:
        """Read the value from an environment variable's text."""
        return self.convert(text)

    def render(self, value: T) -> str:
        """Write a value so that `parse` gives it back; where it has parts without a text form, something to look at."""
        return str(value)

    def notice(self, value: Any) -> str | None:
        """What to tell the user about this accepted value, if anything."""
        return None


class Flag(Kind[bool]):
    """True or False."""

    expected = "True or False"

    def convert(self, value: Any) -> bool:
        if value is True or value is False:
            return value
        raise ValueError

    def parse(self, text: str) -> bool:
        word = text.strip().lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        raise ValueError("in text: true, yes, on, 1 or false, no, off, 0")

    def render(self, value: bool) -> str:
        return "true" if value else "false"


class Whole(Kind[int]):
    """An integer in a range."""

    def __init__(self, low: int = 0, high: int | None = None, unit: str = "") -> None:
        self.low, self.high = low, high
        span = f"from {low} to {high}" if high is not None else f"not below {low}"
        self.expected = f"an integer{f' of {unit}' if unit else ''} {span}"

    def convert(self, value: Any) -> int:
        if type(value) is not int or value < self.low or (self.high is not None and value > self.high):
            raise ValueError
        return value

    def parse(self, text: str) -> int:
        return self.convert(int(text.strip().replace("_", "")))


class Seconds(Kind[float]):
    """A duration: seconds, or a timedelta; kept as float seconds."""

    def __init__(self, low: float = 0.0, high: float | None = None) -> None:
        self.low, self.high = low, high
        span = f" from {low:g} to {high:g} seconds" if high is not None else f", at least {low:g} s" if low else ""
        self.expected = f"a number of seconds or a timedelta{span}"

    def convert(self, value: Any) -> float:
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError
        if value < self.low or (self.high is not None and value > self.high):
            raise ValueError
        return float(value)

    def parse(self, text: str) -> float:
        return self.convert(float(text.strip()))

    def render(self, value: float) -> str:
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


class Text(Kind[str]):
    """Text that is not blank."""

    expected = "text that is not blank"

    def __init__(self, *, secret: bool = False) -> None:
        self.secret = secret

    def convert(self, value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ValueError
        return value


class QueueName(Text):
    """The name of a queue."""

    expected = "a queue's name, of 1 to 255 printable characters"

    def convert(self, value: Any) -> str:
        value = getattr(value, "name", value)  # Celery takes a Queue as task_default_queue
        check_queue_name(value)
        return str(value)


class Address(Text):
    """A broker's or store's URL; several are joined by `;`."""

    expected = "a URL"

    def convert(self, value: Any) -> str:
        if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
            value = ";".join(value)
        return super().convert(value)

    def render(self, value: str) -> str:
        return value


class Choice(Kind[str]):
    """One word of several.

    Args:
        words: The valid ones.
        aliases: Other spellings, each for one of `words`.
        hints: Words that are refused, each with the reason.
        notices: Spellings that are accepted, each with something to tell the user.
    """

    def __init__(
        self,
        *words: str,
        aliases: Mapping[str, str] | None = None,
        hints: Mapping[str, str] | None = None,
        notices: Mapping[str, str] | None = None,
    ) -> None:
        self.words, self.aliases, self.hints, self.notices = words, aliases or {}, hints or {}, notices or {}
        self.expected = f"one of {', '.join(repr(word) for word in words)}" if len(words) > 1 else repr(words[0])

    def convert(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError
        word = self.aliases.get(value, value)
        if word not in self.words:
            raise ValueError(self.hints.get(value, ""))
        return word

    def notice(self, value: Any) -> str | None:
        return self.notices.get(value) if isinstance(value, str) else None


class Names(Kind[tuple[str, ...]]):
    """A sequence of texts, in their order; in the environment separated by commas, or a JSON list.

    Args:
        item: What each must be.
        read: Makes the text of other values that stand for one, such as a class.
    """

    def __init__(self, item: Kind[str] | None = None, read: Callable[[Any], Any] | None = None) -> None:
        self.item = item or Text()
        self.read = read
        self.expected = "a list of texts" if item is None else f"a list, each {self.item.expected}"

    def convert(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            raise ValueError(f"for one, write [{value!r}]")
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise ValueError
        items = value if isinstance(value, (list, tuple)) else sorted(value)
        if self.read is not None:
            items = [self.read(item) for item in items]
        return tuple(self.item.convert(item) for item in items)

    def parse(self, text: str) -> tuple[str, ...]:
        if text.lstrip().startswith("["):
            return self.convert(_read_json(text))
        return self.convert([part.strip() for part in text.split(",") if part.strip()])

    def render(self, value: tuple[str, ...]) -> str:
        plain = all(part == part.strip() and "," not in part for part in value)
        if not plain or not value or value[0].startswith("["):
            return _write_json(list(value))
        return ",".join(value)


class Table(Kind[Mapping[str, Any]]):
    """A dict with text keys; in the environment, a JSON object."""

    expected = "a dict with text keys"

    def convert(self, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ValueError
        return FrozenDict(value)

    def parse(self, text: str) -> Mapping[str, Any]:
        return self.convert(_read_json(text))

    def render(self, value: Mapping[str, Any]) -> str:
        return _write_json(value, default=repr)


class FlagOrTable(Kind["bool | Mapping[str, Any]"]):
    """Celery's way of TLS: True, or a dict of options."""

    expected = "True, False or a dict of TLS options"

    def convert(self, value: Any) -> bool | Mapping[str, Any]:
        return Flag().convert(value) if isinstance(value, bool) else Table().convert(value)

    def parse(self, text: str) -> bool | Mapping[str, Any]:
        return Table().parse(text) if text.lstrip().startswith("{") else Flag().parse(text)

    def render(self, value: bool | Mapping[str, Any]) -> str:
        return Flag().render(value) if isinstance(value, bool) else Table().render(value)


class RateLimit(Kind[str]):
    """Celery's rate: `10/s`, `100/m`, `1000/h`, or a number per second."""

    expected = "a rate such as '10/s', '100/m' or '1000/h', or a number per second"

    def convert(self, value: Any) -> str:
        if type(value) in (int, float) and math.isfinite(value) and value >= 0:
            return f"{abs(value):f}".rstrip("0").rstrip(".") + "/s"  # abs: of -0.0
        if not isinstance(value, str):
            raise ValueError
        number, slash, unit = value.partition("/")
        if (
            not number.replace(".", "", 1).isdecimal()
            or not number.isascii()
            or (slash and unit not in ("s", "m", "h"))
        ):
            raise ValueError
        return value if slash else f"{value}/s"


class Zone(Kind[str]):
    """The IANA name of a time zone."""

    expected = "the IANA name of a time zone, such as 'Europe/Rome'"

    def convert(self, value: Any) -> str:
        if isinstance(value, tzinfo):
            value = getattr(value, "key", None) or str(value)
        if not isinstance(value, str) or not value:
            raise ValueError
        if value == "UTC":
            return value  # also where the host has no zone files
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):  # KeyError: ZoneInfoNotFoundError
            from celeriac.scheduler.walltime import zone_advice

            raise ValueError(zone_advice(value)) from None
        return value


class Processors(Whole):
    """How many processes; `auto` and 0 count the processors that may be used."""

    def __init__(self, count: Callable[[], int]) -> None:
        super().__init__(1)
        self.count = count
        self.expected = "a positive integer, or 'auto'"

    def convert(self, value: Any) -> int:
        return self.count() if value == "auto" or (value == 0 and value is not False) else super().convert(value)

    def parse(self, text: str) -> int:
        return self.count() if text.strip().lower() == "auto" else super().parse(text)


class DeliveryMode(Kind[int]):
    """AMQP's delivery mode: 1 or `transient`, 2 or `persistent`."""

    expected = "2 ('persistent') or 1 ('transient')"

    def convert(self, value: Any) -> int:
        if value in (1, "transient") and value is not True:
            return 1
        if value in (2, "persistent"):
            return 2
        raise ValueError

    def parse(self, text: str) -> int:
        return self.convert({"1": 1, "2": 2}.get(text.strip(), text.strip()))


class Queues(Kind[tuple[Queue, ...]]):
    """`task_queues`: names, `Queue`s, or options by name; in the environment, names or JSON."""

    expected = "a list of queue names or Queues, or a dict of options by name"

    def convert(self, value: Any) -> tuple[Queue, ...]:
        return as_queues(value)

    def parse(self, text: str) -> tuple[Queue, ...]:
        start = text.lstrip()[:1]
        return as_queues(_read_json(text) if start in ("[", "{") else Names().parse(text))

    def render(self, value: tuple[Queue, ...]) -> str:
        names = [queue.name for queue in value]
        if value and all(queue == Queue(queue.name) for queue in value) and not any(name[0] in "[{" for name in names):
            return Names().render(tuple(names))
        return _write_json([_said(queue) for queue in value], default=repr)


def _said(value: Queue | Exchange | Binding) -> dict[str, Any]:
    """What it says that is not understood."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(value)}
    said: dict[str, Any] = {}
    for field, default in defaults.items():
        found = getattr(value, field)
        if field == "name" or found != default:
            said[field] = _said(found) if isinstance(found, Exchange) else found
    if isinstance(value, Queue) and value.bindings:
        said["bindings"] = [_said(one) for one in value.bindings]
    return said


class Routes(Kind[Any]):
    """`task_routes`: kept as it was given; `routing.Router` reads it. In the environment, JSON."""

    expected = "a dict of routes by task name or pattern, a routing function or its dotted name, or a list of these"

    def convert(self, value: Any) -> Any:
        check_routes(value)
        if isinstance(value, Mapping):
            return FrozenRoutes(value)
        return tuple(value) if isinstance(value, list) else value

    def parse(self, text: str) -> Any:
        return self.convert(_read_json(text) if text.lstrip()[:1] in ("[", "{") else text.strip())

    def render(self, value: Any) -> str:
        return value if isinstance(value, str) else _write_json(_texts(value), default=repr)


class FrozenRoutes(FrozenDict):
    """As its base; keys may also be compiled patterns."""

    def __init__(self, routes: Mapping[Any, Any]) -> None:
        super().__init__(routes)


def _texts(value: Any) -> Any:
    """JSON has text keys only."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): _texts(item) for key, item in value.items()}
    return [_texts(item) for item in value] if isinstance(value, (list, tuple)) else value


class Annotations(Kind[Any]):
    """`task_annotations`: task options by task name, objects with `annotate(task)`, or a list of these."""

    expected = "a dict of task options by task name ('*' is every task), an object with annotate(), or a list of these"

    def convert(self, value: Any) -> Any:
        for entry in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(entry, Mapping):
                for name, options in entry.items():
                    if not isinstance(name, str) or not (isinstance(options, Mapping) or callable(options)):
                        raise ValueError(f"{name!r}: {options!r} is not a dict of options")
            elif not (isinstance(entry, str) or hasattr(entry, "annotate")):
                raise ValueError
        if isinstance(value, Mapping):
            return FrozenDict(value)
        return tuple(value) if isinstance(value, list) else value

    def parse(self, text: str) -> Any:
        return self.convert(_read_json(text) if text.lstrip()[:1] in ("[", "{") else text.strip())

    def render(self, value: Any) -> str:
        return value if isinstance(value, str) else _write_json(_texts(value), default=repr)


class Schedule(Table):
    """`beat_schedule`: an entry by name, each with at least `task` and `schedule`."""

    expected = "a dict of entries by name, each a dict with 'task' and 'schedule'"

    def convert(self, value: Any) -> Mapping[str, Any]:
        table = super().convert(value)
        for name, entry in table.items():
            from celeriac.scheduler.entry import check_keys  # the arithmetic of schedules is not for who has none

            if not isinstance(entry, Mapping):
                raise ScheduleError(
                    f"schedule entry {name!r}: expected a dict with 'task' and 'schedule', found "
                    f"{reprlib.repr(entry)} ({type(entry).__name__})"
                )
            check_keys(name, entry)
            if lacking := [key for key in ("task", "schedule") if key not in entry]:
                raise ScheduleError(f"schedule entry {name!r} has no {lacking[0]!r}")
        return table


class Maybe(Kind["T | None"]):
    """Another kind, or None; in the environment, None is the empty text (`none` too, where that is no value)."""

    def __init__(self, inner: Kind[T]) -> None:
        self.inner = inner
        self.expected = f"{inner.expected}, or None"
        self.secret = inner.secret

    def convert(self, value: Any) -> T | None:
        return None if value is None else self.inner.convert(value)

    def parse(self, text: str) -> T | None:
        word = text.strip().lower()
        if not word or (word == "none" and not isinstance(self.inner, (Text, Routes, Annotations, Names, Queues))):
            return None
        return self.inner.parse(text)

    def render(self, value: T | None) -> str:
        return "" if value is None else self.inner.render(value)

    def notice(self, value: Any) -> str | None:
        return self.inner.notice(value)


def hide(name: str, value: Any) -> Any:
    """A value as it may be shown: passwords in URLs, and what stands under a secret name, as `***`."""
    if isinstance(value, Mapping):
        return {key: hide(str(key), item) for key, item in value.items()}
    if value is not None and value != "" and is_secret(name) and not isinstance(value, (bool, int)):
        return "***"
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list):
        return [hide("", item) for item in value]
    if isinstance(value, tuple):
        return tuple(hide("", item) for item in value)
    return value
