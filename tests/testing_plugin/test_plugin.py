"""The fixtures that users get, used as users do: in a project of its own, by a pytest of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOP = """
    from celeriac import Celeriac

    app = Celeriac("shop", broker="sqlite:///never-made.db", task_default_queue="orders")

    @app.task(bind=True, max_retries=2)
    def charge(self, amount, card="none"):
        if card == "later" and self.request.retries < 2:
            raise self.retry(countdown=600)
        if card == "stolen":
            raise PermissionError(card)
        return amount

    @app.task
    async def mail(to):
        return to

    def order(amount):
        charge.delay(amount, card="visa")
        mail.options(countdown=60, queue="mail").delay("me")
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(shop=SHOP)
    pytester.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def run(project: pytest.Pytester, **outcomes: int) -> pytest.RunResult:
    result = project.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", "--strict-markers", "-q")
    result.assert_outcomes(**outcomes)
    return result


def test_an_application_of_its_own_for_each_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        seen = []

        @pytest.mark.parametrize("number", [1, 2])
        def test_app(celeriac_app, number):
            seen.append(celeriac_app.broker_url)
            assert celeriac_app.broker_url.startswith("memory://")
            celeriac_app.send_task("work")
            assert celeriac_app.broker.depth()["configured"].ready == 1
            assert len(set(seen)) == number

        @pytest.fixture
        def celeriac_config():
            return {"task_default_queue": "configured", "task_time_limit": 9}

        class TestMarked:
            pytestmark = pytest.mark.celeriac(task_default_queue="of the class", task_soft_time_limit=5)

            def test_class(self, celeriac_app):
                conf = celeriac_app.settings
                assert (conf.task_default_queue, conf.task_soft_time_limit) == ("of the class", 5)
                assert conf.task_time_limit == 9

            @pytest.mark.celeriac(task_default_queue="of the test")
            def test_method(self, celeriac_app):
                assert celeriac_app.settings.task_default_queue == "of the test"

        @pytest.mark.celeriac(task_defualt_queue="x")
        def test_misspelt(celeriac_app):
            pass
        """
    )
    result = run(project, passed=4, errors=1)
    result.stdout.fnmatch_lines(["*ConfigError*task_default_queue*"])


def test_a_worker_runs_sync_and_async_tasks(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import threading, pytest

        def test_work(celeriac_app, celeriac_worker):
            @celeriac_app.task(bind=True)
            def double(self, x):
                return [2 * x, self.request.hostname]

            @celeriac_app.task
            async def half(x):
                return x / 2

            assert double.delay(2).get(timeout=5) == [4, celeriac_worker.node]
            assert half.delay(2).get(timeout=5) == 1

        def test_drain(celeriac_app, celeriac_worker):
            seen = []
            celeriac_app.task(name="note")(seen.append)
            for number in range(10):
                celeriac_app.send_task("note", (number,))
            celeriac_worker.drain()
            assert seen == list(range(10))

        def test_nothing_is_left_behind():
            assert [one.name for one in threading.enumerate() if one.name.startswith("celeriac")] == []

        class TestThreads:
            @pytest.fixture
            def celeriac_worker_options(self):
                return {"threads": 2}

            def test_side_by_side(self, celeriac_app, celeriac_worker):
                barrier = threading.Barrier(2)
                task = celeriac_app.task(name="meet")(lambda: barrier.wait(10))
                assert sorted(one.get(timeout=10) for one in task.delay_many([(), ()])) == [0, 1]
        """
    )
    run(project, passed=4)


def test_a_worker_says_what_was_left_behind(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import threading, pytest
        from celeriac.testing import RunningWorker

        def test_unknown(celeriac_app, celeriac_worker):
            celeriac_app.send_task("nobody.knows")

        def test_unknown_and_meant(celeriac_app, celeriac_worker):
            celeriac_app.send_task("nobody.knows")
            celeriac_worker.drain()
            assert "not registered" in celeriac_worker.dead_letters()[0].reason

        def test_endless(celeriac_app):
            go_on = threading.Event()
            task = celeriac_app.task(name="endless")(lambda: go_on.wait(20))
            worker = RunningWorker(celeriac_app)
            worker.start()
            task.delay()
            with pytest.raises(AssertionError, match="1 tasks have not ended: endless"):
                worker.stop(timeout_s=0.1)
            go_on.set()

        def test_that_fails_by_itself(celeriac_app, celeriac_worker):
            celeriac_app.send_task("nobody.knows")
            assert 1 == 2
        """
    )
    result = run(project, passed=3, failed=1, errors=2)
    result.stdout.fnmatch_lines(["*buried, and the test has not looked at dead_letters(): nobody.knows*"])


def test_messages(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest, shop

        @pytest.fixture
        def celeriac_app(celeriac_patch):
            return celeriac_patch(shop.app)

        def test_order(celeriac_messages, celeriac_clock):
            celeriac_messages.assert_not_sent()
            shop.order(5)
            charge = celeriac_messages.assert_sent_once(shop.charge, 5, "visa")
            assert celeriac_messages.assert_sent("shop.charge", amount=5, card="visa") is charge
            assert (charge.queue, charge.countdown, charge.kwargs) == ("orders", None, {"card": "visa"})
            mail = celeriac_messages.assert_sent(shop.mail, "me")
            assert (mail.queue, mail.countdown) == ("mail", 60)
            assert mail.eta.timestamp() == celeriac_clock.time() + 60
            assert [one.task for one in celeriac_messages] == ["shop.charge", "shop.mail"]
            assert celeriac_messages.of(shop.mail) == celeriac_messages[1:] == [mail]
            assert repr(celeriac_messages) == "<2 messages: shop.charge(5, card='visa'); shop.mail('me')>"
            celeriac_messages.clear()
            celeriac_messages.assert_not_sent(shop.mail)

        @pytest.mark.parametrize(("check", "says"), [
            (lambda sent: sent.assert_sent(shop.charge, 6), "charge(6) was not sent; sent: shop.charge(5, c"),
            (lambda sent: sent.assert_sent("other"), "other() was not sent; sent: shop.charge"),
            (lambda sent: sent.assert_not_sent(shop.mail), "sent, and should not have been: shop.mail('me')"),
            (lambda sent: sent.assert_sent_once(shop.mail, "me"), "was sent 2 times"),
        ])
        def test_failures(celeriac_messages, check, says):
            shop.order(5)
            if "2 times" in says:
                shop.order(5)
            with pytest.raises(AssertionError) as caught:
                check(celeriac_messages)
            assert says in str(caught.value)

        async def send():
            await shop.mail.adelay("you")
            return 1

        def test_async(celeriac_messages):
            import asyncio
            asyncio.run(send())
            celeriac_messages.assert_sent_once(shop.mail, to="you")
            shop.mail.delay_many(["a", "b"])
            assert len(celeriac_messages) == 3
        """
    )
    run(project, passed=6)


def test_the_clock_moves_countdowns_retries_and_expiry(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest, shop
        from celeriac.errors import TaskRevokedError

        @pytest.fixture
        def celeriac_app(celeriac_patch):
            return celeriac_patch(shop.app)

        def test_countdown(celeriac_clock, celeriac_worker):
            result = shop.charge.apply_async((5,), countdown=86400 * 30)
            celeriac_worker.drain()
            assert result.state == "PENDING"
            celeriac_clock.advance(86400 * 30)
            assert result.get(timeout=5) == 5

        def test_retries(celeriac_clock, celeriac_worker):
            result = shop.charge.delay(5, card="later")
            for _ in range(2):
                celeriac_worker.drain()
                assert result.state == "RETRY"
                celeriac_clock.advance(600)
            assert result.get(timeout=5) == 5

        def test_expiry(celeriac_clock, celeriac_worker):
            result = shop.charge.apply_async((5,), countdown=60, expires=30)
            celeriac_clock.advance(60)
            with pytest.raises(TaskRevokedError, match="expired"):
                result.get(timeout=5)

        def test_many_moves(celeriac_clock, celeriac_worker):
            results = [shop.charge.apply_async((n,), countdown=n) for n in range(1, 40)]
            for number, result in enumerate(results, 1):
                celeriac_clock.advance(1)
                assert result.get(timeout=5) == number
        """
    )
    run(project, passed=4)


def test_the_clock_moves_schedules(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest, shop
        from celeriac import crontab

        shop.app.add_periodic_task(crontab("30 7 * * *"), shop.charge.s(5), name="daily", overlap="skip")

        @pytest.fixture
        def celeriac_app(celeriac_patch):
            return celeriac_patch(shop.app)

        def test_messages(celeriac_clock, celeriac_messages):
            beat = shop.app.make_beat()
            beat.turn()
            celeriac_messages.assert_not_sent()
            celeriac_clock.advance(86400)
            beat.turn()
            message = celeriac_messages.assert_sent_once(shop.charge, 5)
            assert message.headers["periodic_task_name"] == "daily"
            celeriac_clock.advance(86400)
            beat.turn()
            assert len(celeriac_messages) == 1, "the first one has not ended"

        def test_worker(celeriac_clock, celeriac_worker):
            beat = shop.app.make_beat()
            for _ in range(3):
                beat.turn()
                celeriac_worker.drain()
                celeriac_clock.advance(86400)
            assert shop.app.schedules.get("daily").runs == 2
        """
    )
    run(project, passed=2)


def test_eager(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest, shop

        def test_own(celeriac_eager_app):
            @celeriac_eager_app.task
            def double(x):
                return 2 * x
            assert double.delay(2).get() == 4

        class TestShop:
            @pytest.fixture
            def celeriac_app(self, celeriac_patch):
                return celeriac_patch(shop.app)

            def test_retries_at_once(self, celeriac_eager_app):
                assert shop.charge.delay(5, card="later").get() == 5

            def test_exceptions(self, celeriac_eager_app):
                with pytest.raises(PermissionError, match="stolen"):
                    shop.charge.delay(5, card="stolen")

        def test_patched(celeriac_patch):
            celeriac_patch(shop.app, task_always_eager=True)
            assert shop.mail.delay("me").get() == "me"

        def test_and_back():
            assert shop.app.settings.broker_url == "sqlite:///never-made.db"
            assert not shop.app.settings.task_always_eager
        """
    )
    run(project, passed=5)
    assert not list(project.path.glob("*.db"))


def test_collection_imports_nothing_of_celeriacs_but_the_plugin() -> None:
    program = (
        "import sys, pytest\n"
        "import celeriac.testing.pytest_plugin\n"
        "print(sorted(name for name in sys.modules if name.startswith(('celeriac', 'msgspec', 'asyncio'))))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == str(
        ["celeriac", "celeriac._version", "celeriac.testing", "celeriac.testing.pytest_plugin"]
    )


def test_every_name_of_the_package_can_be_imported() -> None:
    import celeriac.testing

    for name in celeriac.testing.__all__:
        assert getattr(celeriac.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = celeriac.testing.nothing


def test_help_lists_the_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    result = pytester.runpytest_subprocess("--fixtures", "-q")
    result.stdout.fnmatch_lines(
        [f"celeriac_{name}*" for name in ("config", "worker_options", "clock", "app", "eager_app", "patch")]
    )
    assert pytester.runpytest_subprocess("--markers").stdout.str().count("celeriac(") == 1
