"""What an AMQP URL means, and what is wrong with one."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from celeriac.errors import ConfigError
from celeriac.storage.amqp import AmqpUrl

LOCAL = (("localhost", 5672),)


@pytest.mark.parametrize(
    ("url", "expected", "normal"),
    [
        ("amqp://", {"addresses": LOCAL, "vhost": "/", "user": "guest"}, "amqp://guest:guest@localhost:5672/%2F"),
        ("amqp", {"addresses": LOCAL}, "amqp://guest:guest@localhost:5672/%2F"),
        ("pyamqp://h", {"addresses": (("h", 5672),)}, "amqp://guest:guest@h:5672/%2F"),
        ("librabbitmq://h/", {"vhost": "/"}, "amqp://guest:guest@h:5672/%2F"),
        ("AMQP://h//", {"vhost": "/"}, "amqp://guest:guest@h:5672/%2F"),
        ("amqp://h/%2F", {"vhost": "/"}, "amqp://guest:guest@h:5672/%2F"),
        ("amqp://h/shop", {"vhost": "shop"}, "amqp://guest:guest@h:5672/shop"),
        ("amqp://h//shop", {"vhost": "/shop"}, "amqp://guest:guest@h:5672/%2Fshop"),
        ("amqp://h/a%20b%2Fc", {"vhost": "a b/c"}, "amqp://guest:guest@h:5672/a%20b%2Fc"),
        ("amqp://u:p%40w%2F@h:7/v", {"user": "u", "password": "p@w/"}, "amqp://u:p%40w%2F@h:7/v"),
        ("amqp://u:p@w@h", {"user": "u", "password": "p@w"}, "amqp://u:p%40w@h:5672/%2F"),
        ("amqp://u@h", {"user": "u", "password": "guest"}, "amqp://u:guest@h:5672/%2F"),
        ("amqp://u:@h", {"password": ""}, "amqp://u:@h:5672/%2F"),
        ("amqp://[::1]:7/v", {"addresses": (("::1", 7),)}, "amqp://guest:guest@[::1]:7/v"),
        ("amqp://[::1]", {"addresses": (("::1", 5672),)}, "amqp://guest:guest@[::1]:5672/%2F"),
        ("amqps://h", {"tls": True, "addresses": (("h", 5671),)}, "amqps://guest:guest@h:5671/%2F"),
        (
            "amqp://u:p@a,b:7/v",
            {"addresses": (("a", 5672), ("b", 7)), "vhost": "v", "user": "u"},
            "amqp://u:p@a:5672,b:7/v",
        ),
        ("amqp://a:1;amqp://b:2", {"addresses": (("a", 1), ("b", 2))}, "amqp://guest:guest@a:1,b:2/%2F"),
        ("amqp://a?heartbeat=5", {"options": {"heartbeat": 5.0}}, "amqp://guest:guest@a:5672/%2F"),
        ("amqp://a?confirm_publish=no", {"options": {"confirm_publish": False}}, "amqp://guest:guest@a:5672/%2F"),
        (
            "amqps://a?ssl_ca_certs=/x&ssl_cert_reqs=CERT_NONE",
            {"tls": True, "options": {"ssl": {"ca_certs": "/x", "cert_reqs": "CERT_NONE"}}},
            "amqps://guest:guest@a:5671/%2F",
        ),
    ],
)
def test_urls(url: str, expected: dict[str, Any], normal: str) -> None:
    found = AmqpUrl.parse(url)
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.normal == normal
    assert AmqpUrl.parse(found.normal).normal == normal
    assert found.shown == normal.replace(f":{normal.split(':')[2].split('@')[0]}@", ":***@")


def test_a_list_of_urls() -> None:
    assert AmqpUrl.parse(["amqp://u:p@a/v", "amqp://u:p@b:1/v"]).addresses == (("a", 5672), ("b", 1))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ssl": True}, {}),
        ({"tls": True}, {}),
        (
            {"ssl": {"ca_certs": "/c", "cert_reqs": ssl.CERT_REQUIRED}},
            {"ca_certs": "/c", "cert_reqs": ssl.CERT_REQUIRED},
        ),
        ({"tls": True, "ca_certs": "/c", "keyfile": "/k", "certfile": None}, {"ca_certs": "/c", "keyfile": "/k"}),
        ({"ssl_ca_certs": "/c"}, {"ca_certs": "/c"}),
    ],
)
def test_options_can_ask_for_tls(options: dict[str, Any], expected: dict[str, Any]) -> None:
    found = AmqpUrl.parse("amqp://h", options)
    assert (found.tls, found.addresses, found.options.get("ssl", {})) == (True, (("h", 5671),), expected)


def test_other_options_stay() -> None:
    assert AmqpUrl.parse("amqp://h?heartbeat=3", {"heartbeat": 60, "x": 1}).options == {"heartbeat": 3.0, "x": 1}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://u:secret@h:x", "port after the host 'h'"),
        ("amqp://u:secret@h:0", "1 to 65535"),
        ("amqp://u:secret@h?hartbeat=3", "unknown option 'hartbeat'.*heartbeat"),
        ("amqp://u:secret@h?heartbeat=soon", "heartbeat='soon'"),
        ("redis://u:secret@h", "amqp:// or amqps://"),
        ("amqp://u:secret@a/v;amqp://b/v", "different users, passwords, virtual hosts"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        AmqpUrl.parse(url)
    assert "secret" not in str(refused.value)


def test_the_context_of_tls() -> None:
    assert AmqpUrl.parse("amqp://h").ssl_context() is None
    context = AmqpUrl.parse("amqps://h").ssl_context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    context = AmqpUrl.parse("amqps://h?ssl_cert_reqs=none").ssl_context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    with pytest.raises(ConfigError, match="cert_reqs='perhaps'"):
        AmqpUrl.parse("amqps://h?ssl_cert_reqs=perhaps").ssl_context()
    with pytest.raises(ConfigError, match=r"ca_certs='/nowhere\.pem'"):
        AmqpUrl.parse("amqps://h?ssl_ca_certs=/nowhere.pem").ssl_context()
