"""Reads the documentation as data: code blocks, commands, links and headings of each Markdown page.

A ```python block is run unless the line above it says why not. Markers, invisible to readers:

    <!-- not run: needs a network -->     only compiled
    <!-- with a worker -->                while an embedded worker serves the page's `app`
    <!-- pytest -->                       as a test file of its own, with celeriac's plugin
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<info>[^`]*)$")
_MARKER = re.compile(r"^\s*<!--\s*(not run: .+|with a worker|pytest)\s*-->\s*$")
_TITLE = re.compile(r'title="([^"]+)"')
_LINK = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`(celeriac [^`]+)`")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$")
_SHELLS = {"console", "shell", "bash", "sh"}


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    """Of its first line of code, from 1."""
    language: str
    title: str | None
    marker: str | None
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Page:
    """One Markdown file."""

    name: str
    """Relative to the repository."""
    blocks: tuple[Block, ...]
    prose: tuple[tuple[int, str], ...]
    """Lines outside of blocks, with their numbers."""

    @property
    def anchors(self) -> set[str]:
        found: set[str] = set()
        for _, line in self.prose:
            if (heading := _HEADING.match(line)) is not None:
                slug = re.sub(r"[^\w\s-]", "", heading[1].replace("`", "").lower()).strip()
                found.add(re.sub(r"[\s-]+", "-", slug))
        return found

    @property
    def links(self) -> list[tuple[int, str]]:
        return [(number, link) for number, line in self.prose for link in _LINK.findall(re.sub(r"`[^`]*`", "", line))]

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Every `celeriac …` line in a block: (where, command)."""
        found: list[tuple[str, str]] = []
        for block in self.blocks:
            if block.language in _SHELLS:
                lines = block.text.replace("\\\n", " ").splitlines()
                for line in lines:
                    text = line.strip().removeprefix("$ ")
                    if text.startswith("celeriac "):
                        found.append((block.where, text))
            elif block.language == "ini":
                found += [
                    (block.where, line.partition("/celeriac ")[2].join(("celeriac ", "")))
                    for line in block.text.splitlines()
                    if line.startswith("Exec") and "/celeriac " in line
                ]
        return found

    @property
    def mentions(self) -> list[tuple[str, str]]:
        """Every `celeriac …` in running text, which need not have all its arguments."""
        return [(f"{self.name}:{number}", span) for number, line in self.prose for span in _SPAN.findall(line)]


def words(command: str) -> list[str]:
    """The arguments of one `celeriac` command: no comment, nothing after a pipe or a redirection."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    arguments: list[str] = []
    for word in lexer:
        if set(word) <= set("|&;<>()"):
            break
        arguments.append(word)
    return arguments[1:]


def read(path: Path) -> Page:
    """Take a page apart."""
    name = path.relative_to(ROOT).as_posix()
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    number = 0
    marker: str | None = None
    while number < len(lines):
        line = lines[number]
        number += 1
        opening = _FENCE.match(line)
        if opening is None:
            found = _MARKER.match(line)
            if found is not None:
                marker = found[1]
            elif line.strip():
                marker = None
            prose.append((number, line))
            continue
        info = opening["info"].strip()
        title = _TITLE.search(info)
        first, indent = number, len(opening["indent"])
        code: list[str] = []
        while number < len(lines) and lines[number].strip() != opening["fence"]:
            code.append(lines[number][indent:] if lines[number][:indent].isspace() or not indent else lines[number])
            number += 1
        if number == len(lines):
            raise ValueError(f"{name}:{first}: the block is not closed")
        number += 1
        blocks.append(
            Block(
                page=name,
                line=first + 1,
                language=info.split()[0] if info else "",
                title=title[1] if title else None,
                marker=marker,
                text="\n".join(code) + "\n",
            )
        )
        marker = None
    return Page(name=name, blocks=tuple(blocks), prose=tuple(prose))


def every_page() -> list[Page]:
    """All of the documentation: the files at the root and everything below docs/."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changes.d").glob("*.md")]
    return [read(path) for path in sorted(found)]
