"""What a tool gives back is kept as JSON: rows of the database too, read where the body ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group

from agentcore import Tool, tool
from agentcore.declaration import registry
from agentcore.testing import Turn
from agentcore.values.jsontext import TRUNCATED
from tests.integration.room import make

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fc:A9")]


@pytest.fixture(autouse=True)
def _groups() -> None:
    Group.objects.bulk_create(Group(name=f"group {number:03}") for number in range(40))


def made(give: Callable[[], Any], kind: str) -> Tool:
    async def rows() -> Any:
        """Give rows."""
        return give()

    def rows_in_a_thread() -> Any:
        """Give rows."""
        return give()

    effect = "atomic" if kind == "atomic" else "pure"
    return tool(name="rows", effect=effect)(rows if kind == "async" else rows_in_a_thread)


def result(give: Callable[[], Any], kind: str = "sync") -> Any:
    run = make([Turn(calls=[("rows", {})]), Turn(text="Done.")], [made(give, kind)]).play()
    call = run.tool_calls.get()
    assert (run.status, call.status) == ("succeeded", "succeeded"), call.error
    return call.result_json


@pytest.mark.parametrize("kind", ["sync", "async", "atomic"])
def test_a_queryset_is_written_in_full(kind: str) -> None:
    found = result(lambda: Group.objects.order_by("name").values("name"), kind)
    assert found == [{"name": f"group {number:03}"} for number in range(40)]


def test_rows_of_every_kind() -> None:
    ordered = Group.objects.order_by("name")
    first = ordered[0]
    as_object = {"model": "auth.group", "pk": first.pk, "text": "group 000"}
    gives: list[tuple[Callable[[], Any], Any]] = [
        (lambda: ordered.values_list("name", flat=True)[:2], ["group 000", "group 001"]),
        (lambda: {"rows": ordered.values_list("pk", "name")[:1]}, {"rows": [[first.pk, "group 000"]]}),
        (lambda: ordered[:1], [as_object]),
        (lambda: first, as_object),
        (lambda: Group.objects.raw("SELECT id, name FROM auth_group ORDER BY name LIMIT 1"), [as_object]),
        (lambda: Group.objects.none(), []),
    ]
    for give, expected in gives:
        with registry.isolated():
            assert result(give) == expected


def test_what_is_left_out_of_rows_is_counted_by_the_database(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "RESULT_LIMIT": 100}
    *kept, last = result(lambda: Group.objects.order_by("name").values_list("name", flat=True))
    assert kept[0] == "group 000" and 1 < len(kept) < 20
    assert last == f"{TRUNCATED} {40 - len(kept)} more"
