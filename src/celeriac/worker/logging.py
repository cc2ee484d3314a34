"""Logs that a person likes to read, or JSON lines; and the banner at the start.

Every process writes whole lines with one `write`, so lines of different processes do not mix. Control characters in
what a task logs are escaped: a log line cannot be forged by an argument.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from celeriac.engine.attempt import current_attempt
from celeriac.masking import masked

if TYPE_CHECKING:
    from celeriac.worker.runtime import Manifest, WorkerOptions

_COLORS: Final = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029]")
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "task", "taskName"}

_handler: logging.StreamHandler[TextIO] | None = None


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


class PersonFormatter(logging.Formatter):
    """`12:00:01.123 INFO  shop.add[01a2…] succeeded in 12 ms`."""

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color
        self._second = -1
        self._clock = ""

    def format(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._clock = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            text = f"{text}\n{record.stack_info}"
        text = masked(text)
        if _CONTROL.search(text):
            text = _CONTROL.sub(_escape, text)
        if "\n" in text:  # what follows is seen to be no line of the log's own
            text = text.replace("\n", "\n  ")
        attempt = None if record.name == "celeriac.task" else current_attempt.get()
        where = "" if attempt is None else f"{attempt.name}[{attempt.id}] "
        if not record.name.startswith("celeriac"):
            where = f"{where}{record.name}: " if attempt is None else where
        level = f"{record.levelname:<7}"
        moment = f"{self._clock}.{int(record.msecs):03d}"
        if self._color:
            tone = _COLORS.get(record.levelno, "")
            return f"{_DIM}{moment}{_RESET} {tone}{level}{_RESET} {_DIM}{where}{_RESET}{tone}{text}{_RESET}"
        return f"{moment} {level} {where}{text}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, process, the task, and the caller's `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _iso(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
            "pid": record.process,
        }
        task = getattr(record, "task", None)
        if isinstance(task, dict):
            line["task"] = task
        elif (attempt := current_attempt.get()) is not None:
            line["task"] = {"id": attempt.id, "name": attempt.name}
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        extra = {
            key: masked(value) if type(value) is str else value
            for key, value in record.__dict__.items()
            if key not in _PLAIN
        }
        if extra:
            line["extra"] = extra
        return msgspec.json.encode(line, enc_hook=repr).decode()


def _iso(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1e6):06d}Z"


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes each record with one call, and loses it rather than fail when the stream is gone."""

    terminator = ""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record) + "\n"

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A task may have closed the descriptor; a worker does not stop for its log."""


def configure(options: WorkerOptions) -> None:
    """Set up the root logger of a worker's process. A second call replaces the first.

    Handlers that the application has set up itself are left alone, and get everything as well.
    """
    global _handler
    stream = sys.stderr
    if options.log_file is not None:
        stream = open(options.log_file, "a", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115
    color = options.log_color
    if color is None:
        color = options.log_file is None and stream.isatty() and "NO_COLOR" not in os.environ
    handler = LineHandler(stream)
    handler.setFormatter(JsonFormatter() if options.log_json else PersonFormatter(color=color))
    root = logging.getLogger()
    if _handler is not None:
        root.removeHandler(_handler)
    _handler = handler
    root.addHandler(handler)
    level = logging.getLevelName(options.log_level.upper())
    root.setLevel(level)
    if not options.log_tasks:
        logging.getLogger("celeriac.task").setLevel(max(logging.WARNING, level))
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, level))
    logging.captureWarnings(True)


def stream_fd() -> int:
    """The descriptor that the log is written to; for stack dumps."""
    if _handler is not None:
        try:
            return _handler.stream.fileno()
        except (OSError, ValueError):
            pass
    return 2


def get_task_logger(name: str) -> logging.Logger:
    """Celery's `get_task_logger`: an ordinary logger; the task's name and id are added to each line by the worker."""
    return logging.getLogger(name)


def banner(manifest: Manifest, version: str) -> str:
    """What the worker says about itself when it starts."""
    options = manifest.options
    if options.pool == "solo":
        pool = "solo"
    elif options.threads:
        pool = f"{options.processes} x {options.threads} threads"
    else:
        pool = f"{options.processes} process{'' if options.processes == 1 else 'es'}"
    names = sorted(facts.name for facts in manifest.tasks if not facts.name.startswith("celery."))
    shown = names[:20] + ([f"… {len(names) - 20} more"] if len(names) > 20 else [])
    lines = [
        f"celeriac {version}  {options.node}",
        f"  app      {manifest.app}",
        f"  broker   {masked(manifest.broker_url)}",
        f"  results  {masked(manifest.result_url) if manifest.result_url else 'off'}",
        f"  pool     {pool}, {options.async_slots} async slots{'' if options.pool == 'solo' else ' each'}",
        f"  queues   {', '.join(options.queues)}",
        *(["  beat     yes: this worker also runs the schedule"] if options.beat else []),
        f"  tasks    {shown[0] if shown else 'none: was the module with the tasks imported?'}",
    ]
    lines += [f"           {name}" for name in shown[1:]]
    return "\n".join(lines)
