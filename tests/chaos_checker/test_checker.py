"""The checker as a whole: sound histories are clean, any harm to one is found, and what is found can be read."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from chaos.checker import check
from chaos.history import Recorder, read
from chaos_tales import done, fault, ran, result, sent, terms, told, verdict_on
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from chaos.history import Event

KINDS = ("plain", "retried", "killed", "killed behind its end", "unknown", "stopped", "delayed", "refused", "revoked")


def story(kind: str, number: int, luck: random.Random) -> list[Event]:
    """What happens to one task, at some moment, in processes of its own."""
    name, pid = f"{kind} {number}", 1000 + 10 * number
    t = luck.uniform(1.0, 50.0)
    began = t + luck.uniform(0.02, 2.0)
    ended = began + luck.uniform(0.01, 3.0)
    again = ended + luck.uniform(0.1, 1.0)
    first = ran(name, began, ended, token=f"{name} first", pid=pid)
    second = ran(name, again, token=f"{name} second", pid=pid + 1)
    stored = result(name, f"{name} second")
    plain = [*first, *result(name, f"{name} first")]
    if kind == "retried":
        first = ran(name, began, ended, token=f"{name} first", pid=pid, again=again - 0.05)
        return told(
            sent(name, t, max_retries=3), first, ran(name, again, token=f"{name} second", n=1, pid=pid + 1), stored
        )
    if kind == "killed":
        first = ran(name, began, 0, token=f"{name} first", pid=pid)
        return told(sent(name, t), first, fault(ended, pids=[pid, 1], number=name), second, stored)
    if kind == "killed behind its end":
        return told(sent(name, t), first, fault(ended + 0.05, pids=[pid], number=name), second, stored)
    if kind == "unknown":
        return told(sent(name, t - 1.0, "info"), sent(name, t), plain)
    if kind == "stopped":  # and goes on when another has begun
        held = ran(name, began, again + 0.2, token=f"{name} first", pid=pid)
        blame = {"kind": "stop", "pids": [pid], "cuts": True, "everyone": False, "number": name}
        return told(sent(name, t), held, fault(began + 0.001, again + 0.1, **blame), second, stored)
    if kind == "delayed":
        return told(sent(name, t, due=began), plain)
    if kind == "refused":
        return sent(name, t, "fail")
    return told(sent(name, t), plain)


def histories(kinds: tuple[str, ...] = KINDS) -> st.SearchStrategy[list[Event]]:
    return st.builds(
        lambda chosen, seed: told(*[story(kind, n, random.Random(f"{seed} {n}")) for n, kind in enumerate(chosen)]),
        st.lists(st.sampled_from(kinds), min_size=1, max_size=30),
        st.integers(0, 2**32),
    )


@given(histories())
@settings(deadline=None)
def test_a_sound_history_is_clean(events: list[Event]) -> None:
    verdict = verdict_on(events)
    assert verdict.is_clean, [one.says for one in verdict.violations]
    assert verdict.explained == sum(event.f == "fault" and event.type == "ok" for event in events)


def pick(events: list[Event], f: str, luck: random.Random, kind: str = "info", **wanted: object) -> Event | None:
    chosen = [e for e in events if e.f == f and e.type == kind and all(getattr(e, k) == v for k, v in wanted.items())]
    return luck.choice(chosen) if chosen else None


def harmed(events: list[Event], how: str, luck: random.Random) -> tuple[list[Event], set[str]] | None:
    """A history with one thing changed, and the invariants of which one has to object."""
    change = msgspec.structs.replace
    if how == "the end of what is stored is missing":
        one = pick(events, "result", luck, "ok")
        return one and ([e for e in events if not (e.f == "end" and e.token == one.token)], {"L3"})
    if how == "the start of what is stored is missing":
        one = pick(events, "result", luck, "ok")
        return one and ([e for e in events if e.token != one.token or e is one], {"L3", "D1"})
    if how == "one more start":
        one = pick(events, "end", luck)
        more = one and ran(one.id, one.t + 30.0, token="more", pid=7, n=one.n)
        return one and (told(events, more), {"L1", "L2", "D4", "D3"})
    if how == "one more start at the same time":
        one = pick(events, "end", luck)
        more = one and ran(one.id, one.t - 0.005, token="more", pid=7, n=one.n)
        return one and (told(events, more), {"L1", "L3", "R1"})
    if how == "the result names another run":
        one = pick(events, "result", luck, "ok")
        return one and ([change(e, token="other") if e is one else e for e in events], {"L3"})
    if how == "the result is that of the run before":
        one = pick(events, "result", luck, "ok")
        first = one and one.token.replace("second", "first")
        return one and one.token != first and ([change(e, token=first) if e is one else e for e in events], {"L3"})
    if how == "a fault is missing":
        one = pick(events, "fault", luck, "ok")
        return one and ([e for e in events if not (e.f == "fault" and e.id == one.id)], {"L1", "L2"})
    if how == "the fault was another one's":
        one = pick(events, "fault", luck, "ok")
        return one and (
            [change(e, value={**e.value, "pids": [1]}) if e.f == "fault" and e.id == one.id else e for e in events],
            {"L1", "L2"},
        )
    if how == "nothing came of it":
        one = pick(events, "enqueue", luck, "ok")
        return one and ([e for e in events if e.id != one.id or e.f == "enqueue"], {"D1"})
    if how == "the result is missing":
        one = pick(events, "result", luck, "ok")
        return one and ([e for e in events if e is not one], {"S2"})
    if how == "nobody sent it":
        one = pick(events, "start", luck)
        return one and ([e for e in events if e.id != one.id or e.f != "enqueue"], {"D2"})
    if how == "it was refused":
        one = pick(events, "enqueue", luck, "fail")
        return one and (told(events, ran(one.id, one.t + 1.0)), {"D3"})
    if how == "it was too early":
        one = next((e for e in events if e.f == "enqueue" and e.value and "due" in e.value), None)
        return one and ([change(e, value={"due": e.value["due"] + 0.02}) if e is one else e for e in events], {"E1"})
    assert how == "it was revoked"
    one = pick(events, "start", luck)
    return one and (told(events, done("x"), [change(one, f="revoke", type="ok", t=one.t - 0.2, value=None)]), {"V1"})


HARMS = (
    "the end of what is stored is missing",
    "the start of what is stored is missing",
    "one more start",
    "one more start at the same time",
    "the result names another run",
    "the result is that of the run before",
    "a fault is missing",
    "the fault was another one's",
    "nothing came of it",
    "the result is missing",
    "nobody sent it",
    "it was refused",
    "it was too early",
    "it was revoked",
)


@pytest.mark.parametrize("how", HARMS)
@given(events=histories(), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_harm_is_found(how: str, events: list[Event], seed: int) -> None:
    luck = random.Random(seed)
    events = told(events, *[story(kind, 100 + n, luck) for n, kind in enumerate(KINDS)])  # so that there is one of each
    found = harmed(events, how, luck)
    if not found:
        return  # the result that was drawn has no run before
    worse, expected = found
    assert expected & verdict_on(worse).counts.keys()


def write(folder: Path, events: list[Event]) -> None:
    (folder / "terms.json").write_bytes(msgspec.json.encode(terms()))
    for event in events:
        name = event.p.partition(":")[0]
        with (folder / f"{name}.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")


HARMFUL = told(
    done("other"),
    [*sent("a"), *ran("a", 2.0, token="1"), *ran("a", 9.0, token="2", pid=200), *result("a", "2")],
    fault(1.5, pids=[5], number="before"),
    fault(4.0, pids=[6], number="amid"),
    fault(20.0, number="after"),
)


def test_a_violation_comes_with_its_history_and_the_seed(tmp_path: Path) -> None:
    write(tmp_path, HARMFUL)
    (violation,) = check(tmp_path).violations
    assert violation.invariant == "L2"
    assert "seed 7" in violation.says
    assert {event.id for event in violation.history} == {"a", "amid"}
    assert [event.t for event in violation.history] == sorted(event.t for event in violation.history)


def test_what_is_not_checked_is_not_called_checked(tmp_path: Path) -> None:
    write(tmp_path, done("a"))
    verdict = check(tmp_path)
    assert verdict.is_clean
    assert verdict.checked["L2"] == 1
    assert not verdict.checked["W1"]


def test_what_does_not_apply_is_left_out() -> None:
    verdict = verdict_on(HARMFUL, skip=("L2",))
    assert verdict.is_clean
    assert "L2" not in verdict.checked


def test_violations_are_all_counted_and_some_shown(tmp_path: Path) -> None:
    write(tmp_path, told(*[ran(f"stranger {n}", 1.0 + n) for n in range(50)]))
    verdict = check(tmp_path)
    assert verdict.counts == {"D2": 50}
    assert verdict.unexpected == 50
    assert len(verdict.violations) == 20


def test_a_line_cut_short_is_no_event_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, done("a"))
    with (tmp_path / "worker1.jsonl").open("ab") as file:
        file.write(b'{"t": 1, "p": "worker1:1", "f": "st')
    assert check(tmp_path).is_clean
    with (tmp_path / "worker1.jsonl").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ValueError, match=r"worker1\.jsonl, line 3"):
        check(tmp_path)


def test_lines_of_a_process_that_come_late_are_put_in_order(tmp_path: Path) -> None:
    write(tmp_path, [])
    recorder = Recorder(tmp_path, "worker1")
    for number in range(3):
        recorder.note("phase", what=str(number))
    recorder.close()
    lines = (tmp_path / "worker1.jsonl").read_text().splitlines()
    (tmp_path / "worker1.jsonl").write_text("\n".join([lines[1], lines[0], lines[2]]) + "\n")
    assert [event.what for event in read(tmp_path)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("events", "code", "says"), [(HARMFUL, 1, "broken: L2 1 times"), (done("a"), 0, "broken: nothing")]
)
def test_who_wants_can_see_for_himself(tmp_path: Path, events: list[Event], code: int, says: str) -> None:
    write(tmp_path, events)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "chaos.checker", str(tmp_path)], capture_output=True, text=True, cwd=root
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout
    if code:
        assert "worker1:200           start info  token=2" in done.stdout
