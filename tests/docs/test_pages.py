"""What the documentation shows is true: its code runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from pages import ROOT, Page, every_page, words

from celeriac.cli.root import root
from celeriac.compat.install import remove

PAGES = every_page()
WITH_CODE = [page for page in PAGES if any(block.language == "python" for block in page.blocks)]
COMMANDS = [command for page in PAGES for command in page.commands]
MENTIONS = [command for page in PAGES for command in page.mentions]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_of_a_page_runs(page: Page, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).parent / "run_page.py"), page.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(("where", "command"), COMMANDS, ids=[f"{where} {command}" for where, command in COMMANDS])
def test_command_that_is_shown_exists(where: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERIAC_APP", raising=False)
    try:
        _parse(words(command))
    except click.ClickException as exc:
        pytest.fail(f"{where}: {command}\n{exc.format_message()}")


@pytest.mark.parametrize(("where", "command"), MENTIONS, ids=[f"{where} {command}" for where, command in MENTIONS])
def test_command_that_is_mentioned_exists(where: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERIAC_APP", raising=False)
    try:
        _parse([word for word in words(command) if word != "…"], may_break_off=True)
    except click.MissingParameter:
        pass  # `celeriac call` is spoken of without the name of a task
    except click.BadOptionUsage as exc:
        if "requires an argument" not in exc.message:  # `celeriac doctor --celery` likewise
            pytest.fail(f"{where}: {command}\n{exc.format_message()}")
    except click.ClickException as exc:
        pytest.fail(f"{where}: {command}\n{exc.format_message()}")


_ANSWERED = (
    click.exceptions.Exit,  # --help, --version
    getattr(click.exceptions, "NoArgsIsHelpError", click.exceptions.Exit),  # a group without a command, from click 8.2
)


def _parse(arguments: list[str], *, may_break_off: bool = False) -> None:
    """As `celeriac` itself, without calling anything."""
    try:
        _take(arguments, may_break_off=may_break_off)
    finally:
        remove()  # with --as-celery, reading the rest of the line makes `import celery` mean celeriac


def _take(arguments: list[str], *, may_break_off: bool) -> None:
    command: click.Command = root
    name, parent = "celeriac", None
    while True:
        try:
            context = command.make_context(name, arguments, parent=parent)
        except _ANSWERED:
            return
        if not isinstance(command, click.Group):
            return
        state = vars(context)
        first = state.get("_protected_args") or state.get("protected_args", [])  # click 8.2 renamed it
        rest = [*first, *context.args]
        if may_break_off and not rest:
            return
        found, below, arguments = command.resolve_command(context, rest)
        assert found is not None
        assert below is not None
        name, command, parent = found, below, context


def test_an_unknown_option_would_be_found() -> None:
    with pytest.raises(click.ClickException):
        _parse(words("celeriac -A shop worker --no-such-option"))


def test_links_lead_to_pages_and_headings() -> None:
    by_name = {page.name: page for page in PAGES}
    broken = []
    for page in PAGES:
        for line, link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            path = (ROOT / page.name).parent / target if target else ROOT / page.name
            if not path.exists():
                broken.append(f"{page.name}:{line}: {link}")
                continue
            found = by_name.get(path.resolve().relative_to(ROOT).as_posix())
            if anchor and (found is None or anchor not in found.anchors):
                broken.append(f"{page.name}:{line}: {link} (no such heading)")
    assert not broken, "\n".join(broken)


def test_pages_of_the_site_are_in_its_navigation() -> None:
    listed = set(re.findall(r"(?:- |: )([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert listed == there


def _generator():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "_generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()


@pytest.mark.parametrize("name", GENERATOR.PAGES)
def test_generated_page_is_current(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert text == GENERATOR.render(name), f"docs/{name} is out of date: run python docs/_generate.py"


def test_signals_and_settings_that_pages_name_exist() -> None:
    from celeriac import signals
    from celeriac.app.settings import describe

    known = {info.name for info in describe()} | set(vars(signals))
    start = re.compile(r"`((?:task|worker|broker|result|sqlite|beat)_[a-z_]+)`")
    hand_written = [page for page in PAGES if page.name.removeprefix("docs/") not in GENERATOR.PAGES]
    unknown = {
        f"{page.name}:{line}: {name}"
        for page in hand_written
        for line, text in page.prose
        for name in start.findall(text)
        if name not in known and name not in NOT_SETTINGS
    }
    assert not unknown, "\n".join(sorted(unknown))


NOT_SETTINGS = {"task_id", "task_routes", "task_cls", "result_type", "result_from_tuple"}
"""Arguments and fields whose names begin as those of settings do."""


def is_sent(name: str, source: str) -> bool:
    """Signals of the worker as a whole are sent by name, to the process that listens to them."""
    return f"{name}.send(" in source or f'_announce("{name}"' in source


def test_signals_are_sent_as_the_page_says() -> None:
    """A name in the table is sent somewhere in the source; one in the list of those that are not, nowhere."""
    text = (ROOT / "docs" / "how-to" / "middleware-and-signals.md").read_text(encoding="utf-8")
    promised, _, rest = text.partition("Sent in this version:")[2].partition("Not sent yet")
    silent = rest.partition(".")[0]
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "celeriac").rglob("*.py"))
    names = re.compile(r"`([a-z_]+)`")
    assert [name for name in names.findall(promised) if not is_sent(name, source)] == []
    assert [name for name in names.findall(silent) if is_sent(name, source)] == []


def test_the_api_page_names_what_is_public_and_nothing_else() -> None:
    import celeriac
    from celeriac import AsyncResult, Celeriac, GroupResult, Task
    from celeriac.app.options import KNOWN

    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Za-z_]+)", text))
    assert {name for name in celeriac.__all__ if not name.startswith("_")} <= named
    top = set(re.findall(r"`([A-Za-z_]+)", text.partition("\n## ")[0].partition("|---|---|")[2]))
    assert top - {"task", "app", "self", "task_queues"} <= set(celeriac.__all__)
    options = re.findall(r"`(\w+)`", text.partition("Options of a call:")[2].partition(". An unknown")[0])
    assert set(options) <= KNOWN
    options = re.findall(r"`(\w+)`", text.partition("where they make sense, and")[2].partition(".\n")[0])
    assert [name for name in options if not hasattr(Task, name)] == []
    application = text.partition("## The application")[2].partition("## A task")[0]
    assert [
        name for name in re.findall(r"app\.(\w+)", application) if name != "conf" and not hasattr(Celeriac, name)
    ] == []
    result = text.partition("## A result")[2].partition("## Several results")[0]
    names = re.findall(r"`(\w+)(?:\(|`)", result)
    assert [name for name in names if not hasattr(AsyncResult, name) and name != "result_extended"] == []
    several = text.partition("## Several results")[2].partition("## Other")[0]
    handle = GroupResult("id", [])
    assert [name for name in re.findall(r"`(\w+)`", several) if name != "await" and not hasattr(handle, name)] == []


def test_no_page_names_a_path_of_some_machine() -> None:
    private = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users)/")
    found = [
        f"{path.name}"
        for path in ROOT.glob("**/*.md")
        if ".venv" not in path.parts and private.search(path.read_text())
    ]
    assert not found
