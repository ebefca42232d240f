"""Every block of every page does what the page says, in a project that `startproject` has made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.docs import outcomes
from tests.docs.conftest import ADD
from tests.docs.pages import Block, blocks, pages
from tests.docs.project import Project


def for_postgresql(page: str) -> list[Block]:
    return [block for block in blocks(page) if "PostgreSQL" in block.headings]


# Pages are followed on SQLite; of these the blocks for PostgreSQL are, there.
ON_BOTH = [page for page in pages() if for_postgresql(page)]
# The pages that begin with nothing; all others begin with the project that "Add agentcore to a project" leaves.
FROM_NOTHING = ["docs/tutorial/first-agent.md"]
# Pages that start many processes.
LONG = {"CONTRIBUTING.md", "docs/howto/call-the-api-with-tokens.md", "docs/howto/deploy.md"}
# In one process of pytest: the project that the pages begin with takes as long as several of them.
pytestmark = [pytest.mark.timeout(500), pytest.mark.xdist_group("pages")]


def each(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.longer] if name in LONG else []) for name in names]


def follow(project: Project, page: str, those: Iterable[Block]) -> None:
    outcomes.given(project, page)
    with outcomes.provider(project, page):
        project.follow(those)
        outcomes.check(project, page)


@pytest.mark.once
@pytest.mark.parametrize("page", FROM_NOTHING)
def test_a_page_that_begins_with_nothing_does_what_it_says(page: str, nowhere: Project) -> None:
    follow(nowhere, page, blocks(page))


@pytest.mark.once
@pytest.mark.parametrize("page", each(page for page in pages() if page not in {*FROM_NOTHING, ADD}))
def test_a_page_does_what_it_says(page: str, project: Project) -> None:
    follow(project, page, blocks(page))


@pytest.mark.once
def test_agentcore_is_added_on_sqlite_as_the_page_says(project: Project) -> None:
    outcomes.check(project, ADD)


@pytest.mark.postgres
def test_agentcore_is_added_on_postgresql_as_the_page_says(project: Project) -> None:
    outcomes.check(project, ADD)


@pytest.mark.postgres
@pytest.mark.parametrize("page", each(page for page in ON_BOTH if page != ADD))
def test_what_a_page_says_of_postgresql_holds(page: str, project: Project) -> None:
    follow(project, page, for_postgresql(page))
