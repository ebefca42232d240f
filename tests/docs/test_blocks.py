"""No block of a page escapes: each is run, or says to its readers why not; and what differs from its page is found."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks, pages, parse
from tests.docs.project import APPLIED, Project

# By page: how many blocks nobody runs. Each says so above itself, for its readers, and why.
ILLUSTRATIONS = {"docs/howto/deploy.md": 4}
ALL = [block for page in pages() for block in blocks(page)]
pytestmark = pytest.mark.once


def test_every_block_is_run_or_counted_as_an_illustration() -> None:
    assert Counter(block.page for block in ALL if block.illustration) == ILLUSTRATIONS
    run = [block for block in ALL if not block.illustration]
    assert len(run) > 50
    assert [block.where for block in run if not block.file and block.language not in APPLIED] == []


def test_there_is_no_other_way_to_write_a_block() -> None:
    for page in pages():
        outside = re.sub(r"^( *)```.*?^\1```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r"^ *(~~~|```)|^(    |\t)", outside, re.MULTILINE), page


def test_blocks_are_read_with_their_place_their_file_and_their_headings() -> None:
    text = """# Page

## SQLite

```python
# shop/settings.py, at the end
A = 1
```

- an item

  ```sh
  echo "# not/a/file.py"
  ```

## PostgreSQL

*Illustration: needs another machine.*

```ini
# /etc/systemd/system/x.service
```
"""
    settings, shell, unit = parse("page.md", text)
    assert settings == Block("page.md", 5, "python", "# shop/settings.py, at the end\nA = 1\n", ("Page", "SQLite"))
    assert (settings.file, settings.at_the_end, settings.where) == ("shop/settings.py", True, "page.md:5")
    assert settings.is_for("SQLite") and not settings.is_for("PostgreSQL")
    assert (shell.file, shell.text, shell.headings) == ("", 'echo "# not/a/file.py"\n', ("Page", "SQLite"))
    assert (unit.file, unit.illustration) == ("", "needs another machine.")


def test_a_block_that_is_never_closed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"page\.md:1"):
        parse("page.md", "```sh\ntrue\n")


@pytest.mark.parametrize(
    "language, text, trouble",
    [
        ("sh", "true\nfalse\n", "ended with 1"),
        ("console", "$ echo one\ntwo\n", "The page has\ntwo"),
        ("console", "echo one\n", "begins with a command"),
        ("python", "# shop/settings.py, at the end\n", "no shop/settings.py to add to"),
        ("python", "A = 1\n", "Nobody knows what to do"),
        ("", "make coffee\n", "Nobody knows what to do"),
        ("json", '{"v": 1, "seq": 7, "type": "done", "ts": "", "colour": "red"}\n', "colour"),
    ],
)
def test_a_block_that_does_not_do_what_it_says_is_found(tmp_path: Path, language: str, text: str, trouble: str) -> None:
    with Project(tmp_path / "site", os.environ) as project:
        project.directory.mkdir()
        with pytest.raises(AssertionError, match=re.escape(trouble)) as found:
            project.follow([Block("page.md", 7, language, text, ("Page",))])
    assert "page.md:7" in str(found.value)


def test_a_file_is_written_whole_or_added_to(tmp_path: Path) -> None:
    with Project(tmp_path / "site", os.environ) as project:
        project.follow(
            [
                Block("page.md", 1, "python", "# shop/a.py: yours\nA = 'http://127.0.0.1:8000'\n", ()),
                Block("page.md", 5, "python", "# shop/a.py, at the end\nB = 2\n", ()),
                Block("page.md", 9, "console", "$ cat shop/a.py\n# shop/a.py: yours\n...\nB = 2\n", ()),
            ]
        )
        assert f"http://127.0.0.1:{project.port}" in (project.directory / "shop" / "a.py").read_text()
