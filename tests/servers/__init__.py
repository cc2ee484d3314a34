"""Real servers for the tests: on free ports of the loopback, in directories of their own, gone with the test run.

`fixtures.py` has the fixtures; what they give is imported from here.
"""

from __future__ import annotations

from servers.celery_env import CeleryCallError, CeleryEnvironment, CeleryShell, CelerySide, Flower
from servers.node_env import NodeEnvironment
from servers.program import Program, ProgramError, wait_until
from servers.rabbit_server import RabbitServer
from servers.redis_cluster import RedisCluster
from servers.redis_sentinel import SentinelSetup
from servers.redis_server import RedisServer

__all__ = [
    "CeleryCallError",
    "CeleryEnvironment",
    "CeleryShell",
    "CelerySide",
    "Flower",
    "NodeEnvironment",
    "Program",
    "ProgramError",
    "RabbitServer",
    "RedisCluster",
    "RedisServer",
    "SentinelSetup",
    "wait_until",
]
