"""A body that gives back what is lazy: an iterator is listed, and what nobody can list is no result."""

from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group

from agentcore import Checkable, tool
from agentcore.declaration import registry
from agentcore.values.jsontext import TRUNCATED
from tests.integration.room import played

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.covers("fc:A1")]
PAID: list[str] = []
KINDS = ["sync", "async", "atomic"]


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    PAID.clear()


def paying(give: Callable[[], Any], kind: str = "sync", **options: Any) -> Any:
    """A tool that has acted when it gives something back."""

    def pay() -> Any:
        """Pay."""
        PAID.append("paid")
        return give()

    async def pay_later() -> Any:
        """Pay."""
        return pay()

    effect = options.pop("effect", "atomic" if kind == "atomic" else "unsafe")
    return tool(name="pay", effect=effect, **options)(pay_later if kind == "async" else pay)


ITERATORS: dict[str, tuple[Callable[[], Any], Any]] = {
    "map": (lambda: map(str, [1, 2]), ["1", "2"]),
    "zip": (lambda: zip([1], ["a"], strict=True), [[1, "a"]]),
    "filter": (lambda: filter(None, [0, 1]), [1]),
    "an iterator of a list": (lambda: iter([1, 2]), [1, 2]),
    "reversed": (lambda: reversed([1, 2]), [2, 1]),
    "nested": (lambda: {"ok": 1, "rows": iter([1])}, {"ok": 1, "rows": [1]}),
    "rows": (lambda: {"a": map(str, [1]), "b": Group.objects.values_list("name", flat=True)}, {"a": ["1"], "b": ["g"]}),
    "reads rows": (lambda: map(lambda name: Group.objects.get(name=name).name, ["g", "g"]), ["g", "g"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_iterator_is_listed_where_the_body_ran(kind: str) -> None:
    Group.objects.create(name="g")
    for give, expected in ITERATORS.values():
        with registry.isolated():
            run, call = played(paying(give, kind))
        assert (run.status, call.status, call.result_json) == ("succeeded", "succeeded", expected), call.error


@pytest.mark.parametrize("kind", KINDS)
def test_an_iterator_without_an_end_is_listed_up_to_the_limit(kind: str, settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "RESULT_LIMIT": 100}
    _, call = played(paying(itertools.count, kind))
    *kept, last = call.result_json
    assert call.status == "succeeded" and kept == [*range(len(kept))] and 10 < len(kept) < 100
    assert last == f"{TRUNCATED} more"


def test_what_an_iterator_writes_is_in_the_transaction_of_its_body() -> None:
    def writes(name: str) -> str:
        Group.objects.create(name=name)
        if name == "b":
            raise ValueError
        return name

    _, call = played(paying(lambda: map(writes, ["a", "b"]), "atomic"))
    assert (call.status, Group.objects.count()) == ("failed", 0) and "ValueError" in call.error


def rows() -> Iterator[int]:
    yield 1


async def looks() -> int:
    return 1


async def rows_later() -> Any:
    yield 1


UNUSABLE: dict[str, Callable[[], Any]] = {
    "a generator": rows,
    "a generator expression": lambda: (number for number in [1]),
    "an async generator": rows_later,
    "a generator in a list": lambda: [rows()],
    "a coroutine in a list": lambda: [looks()],
    "a coroutine in an iterator": lambda: iter([looks()]),
    "a submitted future": concurrent.futures.Future,
    "a future in an object": lambda: {"ok": concurrent.futures.Future()},
}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("give", UNUSABLE.values(), ids=UNUSABLE)
def test_a_body_that_ran_and_gave_back_no_result_may_have_acted(give: Callable[[], Any], kind: str) -> None:
    run, call = played(paying(give, kind))
    assert (run.status, call.status, PAID) == ("succeeded", "failed", ["paid"])
    assert "has not run" not in call.error and "It may have acted in part before that." in call.error


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("options", [{"needs_approval": True}, {"on_error": "ask"}], ids=["approved", "asks"])
def test_a_person_is_asked_where_an_exception_would_ask_one(options: dict[str, Any], kind: str) -> None:
    run, call = played(paying(rows, kind, **options))
    assert (run.status, call.status, PAID) == ("waiting", "effect_unverified", ["paid"])


def test_the_check_of_a_checkable_is_asked() -> None:
    effect = Checkable(lambda arguments, ctx: "it happened")
    _, call = played(paying(rows, effect=effect))
    assert (call.status, call.result_json) == ("succeeded", "it happened")


def test_it_is_not_repeated_for_a_result_that_would_be_as_unusable() -> None:
    played(paying(rows, effect="idempotent", retries=3))
    assert PAID == ["paid"]


def test_an_atomic_body_leaves_nothing_and_says_so() -> None:
    _, call = played(paying(lambda: [rows()], "atomic", needs_approval=True))
    assert call.status == "failed" and "in part" not in call.error
