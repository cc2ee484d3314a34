"""F9: it is done, and nobody hears of it: the reply to a publish, a claim, a beat, a settlement is lost. SQLite has no
replies: there, a call raises after its commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.model import new_task_id
from celeriac.storage.redis import load
from celeriac.testing import Fault, FaultyBroker, Script
from chaos import lossy
from chaos.application import make_app
from chaos.fleet import POOLS
from chaos.history import Blame
from chaos.network import Network, wait_works
from chaos.producer import Load, Producer
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

AMQP = {"publish": b"\x00\x3c\x00\x28", "ack": b"\x00\x3c\x00\x50", "qos": b"\x00\x3c\x00\x0a"}
"""Class and method of frames, as they begin on the wire."""
REDIS = ("publish", "claim", "settle", "beat")
"""Scripts: a settlement acknowledges and stores the result in one."""


def run(stage: Stage) -> None:
    {"sqlite": run_on_file, "rabbitmq": run_on_rabbit}.get(stage.engine.name, run_on_redis)(stage)


def run_on_redis(stage: Stage) -> None:
    network = Network(stage, everyone=True, long_share=0.0)
    marks = {name: load("celeriac.brokers.redis.lua", name).digest.encode() for name in REDIS}
    marks["publish"] = b"EVALSHA"  # of the scripts that publish, whichever it is
    if stage.engine.name == "redis-celery":
        marks["publish"] = b"LPUSH"
        marks["import"] = load("celeriac.brokers.redis.lua", "import").digest.encode()
    names = list(marks)
    for number in stage.times(len(names)):
        name = names[number % len(names)]
        proxy = network.producers if name == "publish" else network.workers
        stage.pause(0.05, 0.3)
        with stage.nemesis.fault(f"reply-lost-{name}", Blame()):
            proxy.lose_next_reply(marks[name], reset=number % 2 == 0).wait(15.0)
    wait_works(stage)


def run_on_rabbit(stage: Stage) -> None:
    network = Network(stage, everyone=True, long_share=0.0)
    kinds = ("publish", "ack", "deliver")
    for number in stage.times(len(kinds)):
        stage.pause(0.05, 0.3)
        kind = kinds[number % len(kinds)]
        is_publish = kind == "publish"
        proxy = network.producers if is_publish else network.workers
        with stage.nemesis.fault(f"reply-lost-{kind}", Blame() if is_publish else network.blame(cuts=True)):
            if kind == "deliver":
                cut = proxy.cut_after(stage.luck.randrange(1, 4000), "replies", reset=number % 2 == 0)
            else:
                cut = proxy.lose_next_reply(AMQP[kind], reset=number % 2 == 0)
            cut.wait(15.0)
            if not is_publish:
                wait_works(stage)


def run_on_file(stage: Stage) -> None:
    fleet = stage.fleet
    environment = {lossy.FOLDER: str(stage.folder)}
    for pool in POOLS[:2]:
        fleet.start_worker(pool=pool, app="chaos.lossy", environment=environment)
    fleet.start_producer(Load(per_second=100, long_share=0.0))
    script = Script({"publish": [Fault(when="after")] * ((len(stage.times(2)) + 1) // 2)})
    app = make_app(stage.url, stage.notes, **stage.settings)
    app.__dict__["broker"] = FaultyBroker(app.broker, script)
    producer = Producer(app, stage.notes)
    for number in stage.times(2):
        stage.pause(0.05, 0.3)
        if number % 2:
            with stage.nemesis.fault("answer-lost-settle", Blame()):
                lossy.lose(stage.folder, "consumer.settle")
        else:
            task_id = new_task_id()
            with stage.nemesis.fault("answer-lost-publish", Blame()):
                while producer.send("work", 0.0, task_id=task_id) == "info":
                    pass
    if not script.is_spent:
        raise AssertionError("not every publish that should lose its answer was made")
    wait_works(stage)
    app.close()


SCENARIO = Scenario(
    key="F9",
    title="done and never answered: publish, claim, beat, settlement",
    run=run,
    repetitions={"sqlite": 20, "redis": 40, "redis-celery": 15, "rabbitmq": 15},
    seconds={"sqlite": 12, "redis": 25, "redis-celery": 11, "rabbitmq": 18},
)
