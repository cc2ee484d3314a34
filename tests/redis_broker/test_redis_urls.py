"""What a URL of Redis or Valkey means, and what is wrong with one."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.app.urls import parse
from celeriac.errors import ConfigError
from celeriac.masking import masked
from celeriac.storage.redis import SCHEMES, RedisUrl

LOCAL = (("localhost", 6379),)


@pytest.mark.parametrize(
    ("url", "options", "expected", "normal"),
    [
        ("redis://", {}, {"kind": "server", "hosts": LOCAL, "db": 0}, "redis://localhost:6379/0"),
        ("redis:///2", {}, {"hosts": LOCAL, "db": 2}, "redis://localhost:6379/2"),
        ("redis://h", {}, {"hosts": (("h", 6379),), "tls": False}, "redis://h:6379/0"),
        ("REDIS://h:1/3", {}, {"hosts": (("h", 1),), "db": 3}, "redis://h:1/3"),
        ("redis://h/0?db=4", {}, {"db": 4}, "redis://h:6379/4"),
        ("redis://h/0?virtual_host=5", {}, {"db": 5}, "redis://h:6379/5"),
        ("redis://:pw@h", {}, {"username": None, "password": "pw"}, "redis://:***@h:6379/0"),
        ("redis://u:p%40w@h", {}, {"username": "u", "password": "p@w"}, "redis://u:***@h:6379/0"),
        ("redis://u:p@w@h", {}, {"username": "u", "password": "p@w"}, "redis://u:***@h:6379/0"),
        ("redis://h?username=u&password=pw", {}, {"username": "u", "password": "pw"}, "redis://u:***@h:6379/0"),
        ("redis://[::1]:7/1", {}, {"hosts": (("::1", 7),)}, "redis://[::1]:7/1"),
        ("redis://[::1]", {}, {"hosts": (("::1", 6379),)}, "redis://[::1]:6379/0"),
        ("redis://h?socket_timeout=5&health_check_interval=3", {}, {"tls_options": {}}, "redis://h:6379/0"),
        ("valkey://h", {}, {"kind": "server", "tls": False}, "redis://h:6379/0"),
        ("valkeys://h", {}, {"kind": "server", "tls": True}, "rediss://h:6379/0"),
        ("rediss://h", {}, {"tls": True, "tls_options": {}}, "rediss://h:6379/0"),
        (
            "rediss://h?ssl_cert_reqs=CERT_NONE",
            {},
            {"tls_options": {"ssl_cert_reqs": "none", "ssl_check_hostname": False}},
            "rediss://h:6379/0",
        ),
        (
            "rediss://h?ssl_cert_reqs=required&ssl_ca_certs=/ca&ssl_check_hostname=false",
            {},
            {"tls_options": {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca", "ssl_check_hostname": False}},
            "rediss://h:6379/0",
        ),
        (
            "redis://h",
            {"tls": True, "ssl_ca_certs": "/ca", "ssl_keyfile": "/k"},
            {"tls": True, "tls_options": {"ssl_ca_certs": "/ca", "ssl_keyfile": "/k"}},
            "rediss://h:6379/0",
        ),
        ("unix:///run/redis.sock", {}, {"kind": "socket", "path": "/run/redis.sock"}, "unix:///run/redis.sock?db=0"),
        ("unix:///run/my%20redis?db=2", {}, {"path": "/run/my redis", "db": 2}, "unix:///run/my%20redis?db=2"),
        (
            "redis+socket:///s?virtual_host=3",
            {},
            {"kind": "socket", "path": "/s", "db": 3},
            "unix:///s?db=3",
        ),
        ("valkey+socket:///s", {}, {"kind": "socket"}, "unix:///s?db=0"),
        ("unix://u:pw@/s", {}, {"username": "u", "password": "pw", "path": "/s"}, "unix:///s?db=0"),
        (
            "sentinel://a:1,b/2?master=m",
            {},
            {"kind": "sentinel", "hosts": (("a", 1), ("b", 26379)), "db": 2, "master": "m"},
            "sentinel://a:1,b:26379/2?master=m",
        ),
        (
            "sentinel://:pw@a:1/0;sentinel://:pw@b:2/0",
            {"master_name": "m", "sentinel_kwargs": {"password": "spw"}},
            {"hosts": (("a", 1), ("b", 2)), "password": "pw", "master": "m", "sentinel_password": "spw"},
            "sentinel://:***@a:1,b:2/0?master=m",
        ),
        ("sentinels://a?service_name=m", {}, {"tls": True, "master": "m"}, "sentinels://a:26379/0?master=m"),
        (
            "redis-cluster://a:1,b:2",
            {},
            {"kind": "cluster", "hosts": (("a", 1), ("b", 2))},
            "redis-cluster://a:1,b:2/0",
        ),
        ("rediss-cluster://a/0", {}, {"kind": "cluster", "tls": True}, "rediss-cluster://a:6379/0"),
        ("valkey-cluster://a", {}, {"kind": "cluster"}, "redis-cluster://a:6379/0"),
        (" redis://h ", {}, {"hosts": (("h", 6379),)}, "redis://h:6379/0"),
    ],
)
def test_what_urls_mean(url: str, options: dict[str, Any], expected: dict[str, Any], normal: str) -> None:
    found = RedisUrl.parse(url, options)
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.normal == normal
    if "master_name" not in options and not options.get("tls"):
        location = parse(url)
        assert (location.adapter, location.url) == ("redis", normal)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h/a", "the database 'a'"),
        ("redis://h/-1", "the database '-1'"),
        ("redis://h:0", "port '0'"),
        ("redis://h:65536", "port '65536'"),
        ("redis://h:x", "port 'x'"),
        ("redis://h?colour=red", "unknown option 'colour'"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs='maybe'"),
        ("redis://a;redis://b", "names one server, this one lists 2"),
        ("unix://run/redis.sock", "absolute path"),
        ("redis-cluster://a/1", "only database 0"),
    ],
)
def test_what_is_wrong_with_a_url(url: str, says: str) -> None:
    secret = url.replace("://", "://user:hunter2@", 1) if "unix" not in url else url
    for one in (url, secret):
        with pytest.raises(ConfigError, match=says) as caught:
            RedisUrl.parse(one)
        assert "hunter2" not in str(caught.value)
        with pytest.raises(ConfigError, match=says) as caught:
            parse(one)
        assert "hunter2" not in str(caught.value)


def test_a_sentinel_url_needs_the_name_of_the_master() -> None:
    with pytest.raises(ConfigError, match="master_name"):
        RedisUrl.parse("sentinel://a")
    assert RedisUrl.parse("sentinel://a", {"service_name": "m"}).master == "m"


def test_every_scheme_is_known_to_the_application() -> None:
    for scheme in SCHEMES:
        place = "/s" if "socket" in scheme or scheme == "unix" else "h"
        assert parse(f"{scheme}://{place}?{'master=m' if 'sentinel' in scheme else ''}").adapter == "redis"


def test_passwords_are_masked() -> None:
    assert masked("sentinel://:a@h:1/0;sentinel://:b@h:2/0") == "sentinel://:***@h:1/0;sentinel://:***@h:2/0"
    assert masked("redis://h/0?password=pw") == "redis://h/0?password=***"
    assert "pw" not in parse("redis://u:pw@h").url
