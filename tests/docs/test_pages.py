"""Every block of every page does what the page says, in a project that `startproject` has made."""

from __future__ import annotations

import pytest

from tests.docs import outcomes
from tests.docs.conftest import ADD
from tests.docs.pages import blocks, pages
from tests.docs.project import Project

# Pages are followed on SQLite; these have blocks for PostgreSQL, and are followed there too.
ON_BOTH = [page for page in pages() if any("PostgreSQL" in block.headings for block in blocks(page))]
# The pages that begin with nothing; all others begin with the project that "Add agentcore to a project" leaves.
FROM_NOTHING = ["docs/tutorial/first-agent.md"]
pytestmark = pytest.mark.timeout(500)


def follow(project: Project, page: str) -> None:
    outcomes.given(project, page)
    project.follow(blocks(page))
    outcomes.check(project, page)


@pytest.mark.once
@pytest.mark.parametrize("page", FROM_NOTHING)
def test_a_page_that_begins_with_nothing_does_what_it_says(page: str, nowhere: Project) -> None:
    follow(nowhere, page)


@pytest.mark.once
@pytest.mark.parametrize("page", [page for page in pages() if page not in {*FROM_NOTHING, ADD}])
def test_a_page_does_what_it_says(page: str, project: Project) -> None:
    follow(project, page)


@pytest.mark.once
def test_agentcore_is_added_on_sqlite_as_the_page_says(project: Project) -> None:
    outcomes.check(project, ADD)


@pytest.mark.postgres
def test_agentcore_is_added_on_postgresql_as_the_page_says(project: Project) -> None:
    outcomes.check(project, ADD)


@pytest.mark.postgres
@pytest.mark.parametrize("page", [page for page in ON_BOTH if page != ADD])
def test_a_page_does_what_it_says_on_postgresql(page: str, project: Project) -> None:
    follow(project, page)
