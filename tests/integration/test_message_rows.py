"""Messages are read with the calls whose results they tell, and the rows are as any other to Django's queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, transaction
from django.db.models import Count, F, Max, Prefetch
from django.test.utils import CaptureQueriesContext

from agentcore import ToolResultPart, tool
from agentcore.models import Message, Run, Thread, ToolCall
from agentcore.testing import Turn
from tests.integration.room import make

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fc:F1")]
LOOKS = 3
SAID = LOOKS + 3  # the question, the calls, their results, the answer


@pytest.fixture(autouse=True)
def _looked() -> None:
    @tool(effect="pure")
    def look(number: int) -> int:
        """Look something up."""
        return number

    calls = [("look", {"number": number}) for number in range(LOOKS)]
    make([Turn(calls=calls), Turn(text="Done.")], [look]).play()


def results(said: Any) -> list[Any]:
    return [part.result for message in said for part in message.parts if isinstance(part, ToolResultPart)]


def rows() -> Any:
    return Message.objects.in_order()


WITH_CALLS: dict[str, Callable[[], Any]] = {
    "all": rows,
    "a field left out": lambda: rows().defer("status"),
    "a field of the call left out": lambda: rows().defer("tool_call__worker"),
    "some fields and the call": lambda: rows().only("content", "tool_call"),
    "some fields and its key": lambda: rows().only("content", "tool_call_id"),
    "locked": lambda: rows().select_for_update(),
    "locked, by name": lambda: Message.objects.select_for_update(of=("self",)).in_order(),
    "the thread's, locked": lambda: Thread.objects.get().messages.in_order().select_for_update(skip_locked=True),
    "locked with their thread": lambda: rows().select_related("thread").select_for_update(of=("self", "thread")),
    "united": lambda: Message.objects.filter(step_order=2).union(
        Message.objects.filter(step_order__gt=2), all=True).order_by("step_order"),
    "iterated": lambda: rows().iterator(),
    "in bulk": lambda: Message.objects.in_bulk([*rows().values_list("pk", flat=True)]).values(),
    "the thread's, prefetched": lambda: Thread.objects.prefetch_related(
        Prefetch("messages", rows())).get().messages.all(),
    "the run's, prefetched": lambda: Run.objects.prefetch_related("messages").get().messages.all(),
    "counted": lambda: rows().annotate(runs=Count("run")),
    "distinct": lambda: rows().distinct(),
    "excluded": lambda: rows().exclude(status="failed"),
}  # fmt: skip


@pytest.mark.parametrize("read", WITH_CALLS.values(), ids=WITH_CALLS)
def test_results_are_read_with_their_messages(read: Callable[[], Any]) -> None:
    said = list(read())
    with CaptureQueriesContext(connection) as captured:
        assert sorted(results(said)) == [*range(LOOKS)]
    assert len(captured) == 0


WITHOUT_CALLS: dict[str, Callable[[], Any]] = {
    "one field": lambda: rows().only("content"),
    "one field, locked": lambda: rows().only("content").select_for_update(),
    "the call left out": lambda: rows().defer("tool_call"),
    "its key left out": lambda: rows().defer("tool_call_id"),
    "no joins": lambda: rows().select_related(None),
    "another join": lambda: rows().select_related("thread", "run__user").only("content", "thread__title", "run"),
    "asked for in turns": lambda: rows().only("content", "tool_call").defer("tool_call"),
}


@pytest.mark.parametrize("read", WITHOUT_CALLS.values(), ids=WITHOUT_CALLS)
def test_a_call_that_is_left_out_is_read_when_it_is_asked_for(read: Callable[[], Any]) -> None:
    assert ToolCall._meta.db_table not in str(read().query)
    assert sorted(results(read())) == [*range(LOOKS)]


def test_a_join_of_the_readers_own_stays_when_the_call_is_left_out() -> None:
    said = list(rows().select_related("thread").only("content", "thread__title"))
    with CaptureQueriesContext(connection) as captured:
        assert {message.thread.title for message in said} == {""}
    assert len(captured) == 0


def test_a_lock_holds_the_messages_and_not_their_calls() -> None:
    with CaptureQueriesContext(connection) as captured:
        list(Message.objects.select_for_update())
    said = captured[0]["sql"]
    assert said.endswith('FOR UPDATE OF "agentcore_message"') or connection.vendor == "sqlite"


OTHERS: dict[str, tuple[Callable[[], Any], Any]] = {
    "values": (lambda: rows().values("step_order")[0], {"step_order": 0}),
    "values, locked": (lambda: rows().select_for_update().values("step_order")[0], {"step_order": 0}),
    "values of the call": (lambda: rows().values_list("tool_call__name", flat=True)[2], "look"),
    "first": (lambda: rows().first().step_order, 0),
    "first, locked": (lambda: rows().select_for_update().first().step_order, 0),
    "first of one field": (lambda: rows().only("content").first().text, "Go"),
    "last": (lambda: rows().last().text, "Done."),
    "exists": (lambda: rows().select_for_update().exists(), True),
    "count": (lambda: rows().only("content").count(), SAID),
    "aggregate": (lambda: rows().aggregate(last=Max("step_order")), {"last": SAID - 1}),
    "groups": (lambda: [*rows().order_by().values_list("thread").annotate(Count("pk")).values_list("pk__count")],
               [(SAID,)]),
    "update": (lambda: rows().update(author_name="x"), SAID),
    "update, of itself": (lambda: rows().select_for_update().update(author_name=F("author_kind")), SAID),
    "bulk_update": (lambda: Message.objects.bulk_update([*rows()], ["author_name"]), SAID),
    "delete": (lambda: rows().filter(author_kind="tool").delete()[0], LOOKS),
    "delete of one field": (lambda: rows().only("content").filter(author_kind="tool").delete()[0], LOOKS),
    "cascade": (lambda: ToolCall.objects.all().delete()[1]["agentcore.Message"], LOOKS),
    "subquery": (lambda: Run.objects.filter(messages__in=rows().filter(author_kind="tool")).distinct().count(), 1),
    "dates": (lambda: len(rows().datetimes("created_at", "year")), 1),
    "raw": (lambda: len(results(Message.objects.raw("SELECT * FROM agentcore_message"))), LOOKS),
}  # fmt: skip


@pytest.mark.parametrize(("query", "expected"), OTHERS.values(), ids=OTHERS)
def test_any_other_query_is_as_on_any_model(query: Callable[[], Any], expected: Any) -> None:
    assert query() == expected


def test_messages_of_results_are_made_in_bulk() -> None:
    made = [*rows().filter(author_kind="tool")]
    Message.objects.filter(author_kind="tool").delete()
    Message.objects.bulk_create(made)
    assert sorted(results(rows())) == [*range(LOOKS)]


def test_refreshing_reads_the_call_as_it_is_now() -> None:
    said = Message.objects.filter(author_kind="tool").in_order()[0]
    assert results([said]) == [0]
    ToolCall.objects.update(result='"otherwise"')
    said.refresh_from_db()
    with CaptureQueriesContext(connection) as captured:
        assert results([said]) == ["otherwise"]
    assert len(captured) == 0


def test_refreshing_with_a_lock_locks_the_message() -> None:
    said = Message.objects.filter(author_kind="tool").in_order()[0]
    with transaction.atomic():
        said.refresh_from_db(from_queryset=Message.objects.select_for_update())
    assert results([said]) == [0]


@pytest.mark.django_db(transaction=True)
def test_a_loop_reads_results_after_a_refresh_too() -> None:
    async def read() -> list[Any]:
        said = await Message.objects.filter(author_kind="tool").order_by("step_order").afirst()
        assert said is not None
        await said.arefresh_from_db()
        return results([said])

    assert async_to_sync(read)() == [0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("look", ["parts", "to_json", "to_event"])
def test_a_loop_is_told_what_to_do_where_the_call_was_left_out(look: str) -> None:
    def show(said: Message) -> Any:
        found = getattr(said, look)
        return found() if callable(found) else found

    async def read() -> Any:
        said = await Message.objects.select_related(None).filter(author_kind="tool").afirst()
        assert said is not None
        with pytest.raises(SynchronousOnlyOperation, match="and with tool_call where you use only"):
            show(said)
        return await sync_to_async(show)(said)

    assert async_to_sync(read)()
