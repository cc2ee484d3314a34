"""Workflows whose steps run on Celery's workers and on ours by turns, called by Celery's client and by ours."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "workflows"))

import canvas_observed
from canvas_better import BETTER
from canvas_fleet import OurCanvas, differences
from canvas_table import TABLE
from record_canvas import EXPECTED, HERE

from servers import CelerySide, RabbitServer, RedisServer
from servers.celery_env import CeleryEnvironment

pytestmark = [pytest.mark.processes, pytest.mark.slow]

CELERYS = json.loads(EXPECTED.read_text())["TABLE"]
QUEUES = ("ours", "theirs")

_CLIENT = """
import canvas_app, canvas_observed, canvas_table, itertools, os
def send(names, queues):
    global sent
    table = {name: canvas_table.TABLE[name] for name in names}
    change = queues and (lambda sig: canvas_app.spread(sig, itertools.cycle(queues)))
    sent = canvas_observed.send(canvas_app, table, change)
def left():
    return canvas_observed.is_over(sent)
def report():
    return canvas_observed.report(sent, os.environ["INTEROP_LEDGER"])
"""


class Mixed:
    """Celery's worker serves `theirs`, ours serves `ours`, and both serve `celery`."""

    def __init__(
        self,
        environment: CeleryEnvironment,
        server: RedisServer,
        folder: Path,
        stack: ExitStack,
        rabbit: tuple[RabbitServer, str] | None,
    ) -> None:
        self.server = server
        self._rabbit = rabbit
        url = server.url if rabbit is None else rabbit[0].url_of(rabbit[1])
        self.celery = stack.enter_context(CelerySide(environment, url, folder, app="canvas_app", path=HERE))
        self.celery.variables["CANVAS_RESULTS"] = server.url
        ledger = Path(self.celery.variables["INTEROP_LEDGER"])
        shared = ["theirs", "celery"] if rabbit is None else ["*"]
        self.ours = stack.enter_context(
            closing(OurCanvas(folder, url, results=server.url, ledger=ledger, task_celery_queues=shared))
        )
        worker = self.celery.worker(
            "-c", "2", "-Q", "theirs,celery", "--without-mingle", "--without-gossip", name="theirs", ready=False
        )
        self.ours.worker("-Q", "ours,celery")
        self.shell = self.celery.shell()
        self.shell.run(_CLIENT)
        worker.wait_for_log(" ready.")

    def is_busy(self) -> bool:
        if self._rabbit is not None:
            server, vhost = self._rabbit
            counts = server.evaluate(
                '[N || Q <- rabbit_amqqueue:list(<<"' + vhost + '">>), amqqueue:get_type(Q) =:= rabbit_classic_queue,'
                " {messages, N} <- rabbit_amqqueue:info(Q, [messages]), N > 0]"
            )
            # what is in the others is counted by the server every few seconds only; who is at work there writes
            ledger = self.ours.ledger
            is_quiet = not ledger.exists() or time.time() - ledger.stat().st_mtime > 0.4
            return counts != "[]" or not is_quiet or bool(self.ours.depths())
        redis: Any = self.server.cli()
        return bool(redis.hlen("unacked") or any(map(redis.llen, (*QUEUES, "celery"))) or self.ours.depths())

    def outcomes(self, client: str, names: list[str], queues: tuple[str, ...] = ()) -> dict[str, Any]:
        """What a client gets, and what ran, when the tasks go to these queues by turns."""
        if client == "celery":
            self.shell("send(names, queues)", names=names, queues=queues, timeout_s=60)
            sent: Any = {}
        else:
            change = (lambda sig: self.ours.module.spread(sig, itertools.cycle(queues))) if queues else None
            sent = canvas_observed.send(self.ours.module, {name: TABLE[name] for name in names}, change)
        try:
            canvas_observed.wait_idle(self.is_busy, sent, 40)
        except TimeoutError as exc:
            raise AssertionError(f"{exc} {self.ours.depths()}\n{self.ours.logs()}") from None
        if client == "celery":
            return dict(self.shell("report()", timeout_s=60))
        return canvas_observed.report(sent, self.ours.ledger)


@pytest.fixture(scope="module")
def mixed(
    celery_env: CeleryEnvironment,
    redis_kind: str,
    broker: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mixed]:
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(binary=redis_kind))
        rabbit = None
        if broker == "rabbit":
            carrier: RabbitServer = request.getfixturevalue("rabbit_server")
            rabbit = carrier, carrier.vhost()
            stack.callback(carrier.delete_vhost, rabbit[1], wait=False)
        yield Mixed(celery_env, server, tmp_path_factory.mktemp("mixed"), stack, rabbit)


@pytest.fixture(scope="module")
def names(celery_env: CeleryEnvironment, broker: str, mixed: Mixed) -> list[str]:
    """What is to be tried: all that is well with this Celery among its own."""
    # an id that is given is the same in each run
    well = [
        name for name in TABLE if name not in BETTER["TABLE"] and not name.endswith(("id given", "id as an option"))
    ]
    if broker == "rabbit":
        return well[::4]  # that results are counted right is tried on Redis
    if celery_env.age == "newest":
        return well
    well = well[::3]  # it takes its time
    alone = mixed.outcomes("celery", well, ("theirs",))
    return [name for name in well if not _differs(alone[name], CELERYS[name], in_order=False)]


def _differs(found: dict[str, Any], wanted: dict[str, Any], *, in_order: bool) -> str:
    """What is not the same. 5.0's workers do not number the members of the headers that they send: no order there."""

    def shown(outcome: dict[str, Any]) -> dict[str, Any]:
        parts = {part: outcome.get(part) for part in ("call", "get", "runs")}
        return parts if in_order else {"sorted": "".join(sorted(json.dumps(parts)))}

    return differences(found, wanted) if shown(found) != shown(wanted) else ""


@pytest.mark.parametrize("first", QUEUES)
@pytest.mark.parametrize("client", ["celery", "celeriac"])
def test_steps_by_turns(mixed: Mixed, names: list[str], client: str, first: str) -> None:
    queues = (first, *(one for one in QUEUES if one != first))
    found = mixed.outcomes(client, names, queues)
    in_order = mixed.celery.environment.age == "newest"
    wrong = {name: _differs(found[name], CELERYS[name], in_order=in_order) for name in names}
    wrong = {name: text for name, text in wrong.items() if text}
    assert "unregistered task" not in (mixed.ours.folder.parent / "theirs.log").read_text()
    assert not wrong, f"{len(wrong)} of {len(names)}\n" + "\n".join(f"{name}\n{wrong[name]}" for name in wrong)


@pytest.mark.parametrize("last", QUEUES)
@pytest.mark.parametrize("client", ["celery", "celeriac"])
def test_who_ends_last_calls_the_body(mixed: Mixed, client: str, last: str) -> None:
    """A header on both kinds of workers, one of which is kept waiting; and the body on the other kind."""
    first = next(one for one in QUEUES if one != last)
    gate = mixed.ours.folder / f"gate-{client}-{last}"
    code = (
        "w.chord([w.add.s(1, 1).set(queue=first), w.gated.s(2, gate).set(queue=last), w.add.s(3, 3).set(queue=first),"
        " w.add.s(4, 4).set(queue=first)], w.echo.s(gate).set(queue=first)).apply_async()"
    )
    names = {"first": first, "last": last, "gate": str(gate)}
    if client == "celery":
        mixed.shell.run(f"import canvas_app as w; waiting = {code}", **names)
        gid = mixed.shell("waiting.parent.id")
    else:
        result = eval(code, {"w": mixed.ours.module, **names})
        gid = result.parent.id

    def runs(task: str) -> list[dict[str, Any]]:
        return [line for line in mixed.ours.lines(task=task) if str(gate) in line["args"]]

    # all but one have arrived
    redis: Any = mixed.server.cli()
    mixed.ours.wait(lambda: redis.zcard(f"celery-taskset-meta-{gid}.j") == 3, "three members to arrive")
    mixed.ours.wait(lambda: runs("gated"), "the last one to run")
    gate.touch()
    value = mixed.shell("waiting.get(timeout=30)") if client == "celery" else result.get(timeout=30)
    assert value == [[2, 2, 6, 8], str(gate)]
    mixed.ours.wait(lambda: not mixed.is_busy(), "the end")
    assert len(runs("echo")) == 1
