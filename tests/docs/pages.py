"""The pages that readers follow, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DATABASES = ("SQLite", "PostgreSQL")
FENCE = re.compile(r"^( *)```(\S*)(.*)$")
HEADING = re.compile(r"^(#{1,6}) +(.+?)$")
ILLUSTRATION = re.compile(r"^ *\*Illustration: (.+)\*$")
# `# shop/settings.py, at the end` or `# orders/agents.py: found by itself`; other comment signs for other languages.
NAMED = re.compile(r"^(?:#|//|<!--|\{#) ((?!/)[\w.-]+(?:/[\w.-]+)*\.\w+)(, at the end)?(?=$|[\s:,;])")


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, what it is written in, and why nobody runs it, where nobody does."""

    page: str
    line: int
    language: str
    text: str
    headings: tuple[str, ...]
    illustration: str = ""

    @property
    def where(self) -> str:
        """Page and line, as an editor takes them."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file its first line names; empty if it names none."""
        named = NAMED.match(self.text)
        return named[1] if named else ""

    @property
    def at_the_end(self) -> bool:
        """Whether it is added to that file, rather than being all of it."""
        named = NAMED.match(self.text)
        return bool(named and named[2])

    def is_for(self, database: str) -> bool:
        """Whether it stands outside the headings of other databases."""
        return not set(self.headings) & (set(DATABASES) - {database})


def pages() -> list[str]:
    """All pages of the project that have blocks, by their path from its top."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    names = sorted(path.relative_to(ROOT).as_posix() for path in found)
    return [name for name in names if blocks(name)]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order; a block in a list is taken without its indentation."""
    return parse(page, (ROOT / page).read_text())


def parse(page: str, text: str) -> list[Block]:
    """The fenced blocks of a text; raises `ValueError` for one that is never closed."""
    found: list[Block] = []
    headings: list[tuple[int, str]] = []
    before, lines = "", iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if fence := FENCE.match(line):
            inside = []
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                inside.append(inner.removeprefix(fence[1]))
            else:
                raise ValueError(f"{page}:{number}: this block is never closed")
            reason = ILLUSTRATION.match(before)
            path = tuple(title for _, title in headings)
            body = "".join(f"{inner}\n" for inner in inside)
            found.append(Block(page, number, fence[2], body, path, reason[1] if reason else ""))
        elif heading := HEADING.match(line):
            headings = [(depth, title) for depth, title in headings if depth < len(heading[1])]
            headings.append((len(heading[1]), heading[2]))
        if line.strip():
            before = line
    return found
