"""The JSON API: what it answers, and that every refusal is a problem with a code, a sentence and an id."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from agentcore.models import Message, Run
from agentcore.services import runs
from agentcore.testing import run_until_idle
from agentcore.web.api import api
from tests.integration.api_room import BASE, BODIES, OPERATIONS, Caller, ok, problem, state
from tests.integration.room import fresh, log, make

pytestmark = pytest.mark.django_db


# --- what works ---------------------------------------------------------------------------------------------------


def test_a_thread_its_messages_and_its_runs_are_read(world, owner):
    thread = ok(owner.get(f"threads/{world.thread.pk}"))
    assert thread["id"] == str(world.thread.pk)
    page = ok(owner.get(f"threads/{world.thread.pk}/messages"))
    assert [(item["author"]["kind"], item["text"]) for item in page["messages"]] == [
        ("user", "Break"),
        ("user", "Pay"),
        ("agent", "Shall I?"),
    ]
    assert page["before"] is None
    listed = ok(owner.get(f"threads/{world.thread.pk}/runs"))["runs"]
    assert [run["id"] for run in listed] == [str(world.waiting.pk), str(world.failed.pk)]
    assert listed[0]["waiting_for"] == ["approval"] and listed[1]["error"]["code"] == "model_failed"
    assert "boom" not in json.dumps(listed)


def test_messages_are_paged_back_to_the_first(world, owner):
    seen, before = [], ""
    while before is not None:
        page = ok(owner.get(f"threads/{world.thread.pk}/messages", limit=1, **({"before": before} if before else {})))
        seen = [item["text"] for item in page["messages"]] + seen
        before = page["before"]
    assert seen == ["Break", "Pay", "Shall I?"]


def test_a_run_and_its_log_are_read(world, owner):
    run = ok(owner.get(f"runs/{world.waiting.pk}"))
    assert (run["status"], run["waiting_for"], run["thread"]) == ("waiting", ["approval"], str(world.thread.pk))
    (asked,) = run["approvals"]
    assert (asked["tool"], asked["arguments"], asked["status"]) == ("pay", {"cents": 5}, "pending")
    page = ok(owner.get(f"runs/{world.waiting.pk}/events"))
    assert page["events"] == log(world.waiting)
    assert not page["done"] and page["next_after"] == len(page["events"]) - 1
    part = ok(owner.get(f"runs/{world.waiting.pk}/events", after=2, limit=2))
    assert part["events"] == page["events"][3:5] and part["next_after"] == 4
    assert ok(owner.get(f"runs/{world.failed.pk}/events"))["done"]


@pytest.mark.covers("promise:P1")
def test_the_same_key_makes_one_run_and_another_text_is_a_conflict(world, owner):
    path = f"threads/{world.thread.pk}/runs"
    body = {"agent": "test", "text": "Hello", "key": "k1"}
    made = ok(owner.post(path, body), 201)
    assert made["status"] == "pending"
    assert ok(owner.post(path, body), 200) == made
    problem(owner.post(path, {**body, "text": "Good bye"}), 409, "key_conflict")
    said = [message.text for message in Message.objects.all()]
    assert Run.objects.filter(key="k1").count() == said.count("Hello") == 1 and "Good bye" not in said


def test_a_run_is_canceled_and_retried(world, owner):
    canceled = ok(owner.post(f"runs/{world.waiting.pk}/cancel", {"reason": "No."}))
    assert (canceled["status"], canceled["approvals"][0]["status"]) == ("canceled", "canceled")
    assert ok(owner.post(f"runs/{world.waiting.pk}/cancel"))["status"] == "canceled"
    again = ok(owner.post(f"runs/{world.waiting.pk}/retry"), 201)
    assert again["id"] != str(world.waiting.pk) and again["status"] == "pending"
    problem(owner.post(f"runs/{again['id']}/retry"), 409, "run_active")


def test_an_operator_sees_the_queue_and_decides(world):
    operator = world.callers["operator"]
    (asked,) = ok(operator.get("approvals"))["approvals"]
    assert (asked["id"], asked["arguments"]) == (str(world.approval.pk), {"cents": 5})
    (decided,) = ok(operator.post("approvals/decide", {"decisions": [world.decision(reason="Fine.")]}))["approvals"]
    assert (decided["status"], decided["decided_by"], decided["reason"]) == ("approved", "olga", "Fine.")
    assert ok(operator.get("approvals"))["approvals"] == []
    assert run_until_idle(world.waiting).status == "succeeded"


@pytest.mark.covers("api:AP3")
def test_edited_arguments_are_shown_beside_the_original_ones(world):
    operator, body = world.callers["operator"], {"decisions": [world.decision(edited_arguments={"cents": 3})]}
    (decided,) = ok(operator.post("approvals/decide", body))["approvals"]
    assert (decided["arguments"], decided["edited_arguments"]) == ({"cents": 5}, {"cents": 3})


def test_the_openapi_document_renders_and_names_every_operation():
    document = api.get_openapi_schema(path_prefix=BASE)
    named = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert {(item.method, BASE + item.path) for item in OPERATIONS} == named
    ok(Client().get(f"{BASE}openapi.json"))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.covers("threat:T3", "threat:T10")
@pytest.mark.parametrize("operation", [item for item in OPERATIONS if item.method == "POST"], ids=str)
@pytest.mark.parametrize("extra", ["status", "owner", "user", "agent_version", "approved", "args", "tool", "arguments"])
def test_a_field_that_is_not_asked_for_is_refused(world, operation, extra):
    caller = world.callers["operator" if "approvals" in operation.path else "owner"]
    before = state()
    body = BODIES[str(operation)](world)
    bodies = [{**body, extra: "x"}]
    if "decisions" in body:
        bodies.append({"decisions": [{**body["decisions"][0], extra: "x"}]})
    for sent in bodies:
        refused = problem(caller.post(operation.at(**world.ids()), sent), 422, "invalid")
        assert refused["errors"][0]["where"].endswith(extra)
    assert state() == before


HUGE = 10**30
BAD_QUERIES = [
    *(("threads/{thread_id}/messages", "before", value) for value in ("x", "1", "1.", ".1", "-1.0", "1.0.0", "١", "²")),
    *(("threads/{thread_id}/messages", "before", value) for value in ("", f"{HUGE}.0", "1.0 ", "1.0'--", "\x00")),
    *((path, "limit", value)
      for path in ("threads/{thread_id}/messages", "threads/{thread_id}/runs", "runs/{run_id}/events", "approvals")
      for value in ("0", "-1", str(HUGE), "x", "", "1e3", "5000")),
    *(("runs/{run_id}/events", "after", value) for value in ("-2", "x", "", str(HUGE), str(2**63), "1.5")),
]  # fmt: skip


@pytest.mark.covers("threat:T24")
@pytest.mark.parametrize("path, name, value", BAD_QUERIES)
def test_a_bad_page_is_a_problem(world, owner, path, name, value):
    answer = owner.get(path.format(**world.ids()), **{name: value})
    problem(answer, 400 if name == "before" else 422, "invalid")


@pytest.mark.parametrize("before", ["0.0", "9999999999.9999999", "2147483648.0", "9223372036854775808"])
def test_a_place_beyond_the_messages_is_an_empty_page_or_a_problem(world, owner, before):
    answer = owner.get(f"threads/{world.thread.pk}/messages", before=before)
    assert answer.status_code in (200, 400), answer.content


def test_a_position_beyond_the_log_is_an_empty_page(world, owner):
    page = ok(owner.get(f"runs/{world.waiting.pk}/events", after=2**63 - 1))
    assert page == {"events": [], "next_after": 2**63 - 1, "done": False}
    page = ok(owner.get(f"runs/{world.failed.pk}/events", after=2**63 - 1))
    assert page == {"events": [], "next_after": 2**63 - 1, "done": True}
    last = ok(owner.get(f"runs/{world.failed.pk}/events"))["next_after"]
    assert not ok(owner.get(f"runs/{world.failed.pk}/events", limit=1))["done"]
    assert ok(owner.get(f"runs/{world.failed.pk}/events", after=last))["done"]


BAD_BODIES = [
    b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"agent":"test"}', b'{"agent":"test","text":1}',
    b'{"agent":"test","text":""}', b'{"agent":"test","text":"   "}', b'{"agent":"test","text":"x","key":null}',
    json.dumps({"agent": "test", "text": "x" * 200_001}).encode(),
    json.dumps({"agent": "test", "text": "x", "key": "k" * 201}).encode(),
]  # fmt: skip


@pytest.mark.covers("threat:T24")
@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_bad_body_is_a_problem(world, owner, body):
    before = state()
    answer = owner.post(f"threads/{world.thread.pk}/runs", raw=body)
    assert answer.status_code in (400, 413, 422)
    problem(answer, answer.status_code)
    assert state() == before


@pytest.mark.covers("fault:D14")
@pytest.mark.parametrize("text", ["\x00", "\ud800", "\x00\ud800 x", "\u202e", "𝕏" * 100])
def test_strange_characters_are_stored_or_refused_and_never_break(world, owner, text):
    path = f"threads/{world.thread.pk}/runs"
    for body in ({"text": f"a{text}"}, {"text": "a", "key": f"k{text}"}):
        answer = owner.post(path, {"agent": "test", **body})
        assert answer.status_code in (201, 400), answer.content
        assert answer.status_code == 201 or problem(answer, 400)
    problem(owner.post(path, {"agent": f"test{text}", "text": "a"}), 404, "agent_unknown")
    ok(owner.post(f"runs/{world.waiting.pk}/cancel", {"reason": text}))


@pytest.mark.covers("threat:T24")
def test_a_body_larger_than_the_project_allows_is_a_problem(world, owner, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = owner.post(f"threads/{world.thread.pk}/runs", {"agent": "test", "text": "x" * 2000})
    problem(answer, 413, "body_too_large")


@pytest.mark.parametrize("decisions", [[], "twice", "many", "digest", "verdict", "uuid", "edit"])
def test_a_bad_decision_is_a_problem(world, decisions):
    operator = world.callers["operator"]
    one = world.decision()
    sent = {
        "twice": [one, one],
        "many": [world.decision(approval=str(uuid4())) for _ in range(1001)],
        "digest": [{**one, "digest": None}],
        "verdict": [{**one, "verdict": "approved"}],
        "uuid": [{**one, "approval": "x"}],
        "edit": [{**one, "edited_arguments": [1]}],
    }.get(str(decisions), decisions)
    problem(operator.post("approvals/decide", {"decisions": sent}), 400 if decisions == "twice" else 422, "invalid")
    assert fresh(world.approval).status == "pending"


@pytest.mark.covers("fault:A3", "fault:A5", "fault:A11")
def test_a_conflict_says_which(world):
    operator = world.callers["operator"]

    def decide(**more: Any) -> Any:
        return operator.post("approvals/decide", {"decisions": [world.decision(**more)]})

    problem(decide(digest="0" * 64), 409, "digest_mismatch")
    ok(decide())
    ok(decide())
    problem(decide(verdict="deny"), 409, "already_decided")
    world.callers["owner"].post(f"runs/{world.waiting.pk}/cancel")
    problem(decide(verdict="deny"), 409, "run_ended")


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_another_method_is_a_problem_that_names_the_right_ones(world, owner, operation):
    same_path = [item.method for item in OPERATIONS if item.path == operation.path]
    path = BASE + operation.at(**world.ids())
    for method in ("PUT", "PATCH", "DELETE"):
        answer = owner.client.generic(method, path, headers={"X-CSRFToken": owner.token})
        problem(answer, 405, "method_not_allowed")
        assert sorted(answer["Allow"].split(", ")) == sorted(same_path)


@pytest.mark.covers("threat:T5")
@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Method-Override"])
def test_a_method_cannot_be_overridden(world, owner, header):
    answer = owner.client.get(f"{BASE}runs/{world.waiting.pk}/cancel", headers={header: "POST"})
    assert answer.status_code == 405 and fresh(world.waiting).status == "waiting"


def test_a_defect_is_a_problem_that_says_nothing_of_its_cause(world, owner, monkeypatch, caplog):
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("the password is hunter2")

    monkeypatch.setattr(runs, "get", broken)
    answer = owner.get(f"runs/{world.waiting.pk}")
    refused = problem(answer, 500, "internal_error")
    assert "hunter2" not in answer.content.decode()
    logged = [record for record in caplog.records if refused["id"] in record.getMessage()]
    assert any(record.exc_info for record in logged)


def test_an_agent_that_is_not_there_is_a_problem(world, owner):
    problem(owner.post(f"threads/{world.thread.pk}/runs", {"agent": "nobody", "text": "x"}), 404, "agent_unknown")


def test_a_busy_thread_is_a_conflict(user):
    room = make([], user=user, on_busy="reject")
    owner = Caller(user)
    for expected in (201, 409):
        answer = owner.post(f"threads/{room.thread.pk}/runs", {"agent": "test", "text": str(expected)})
        assert answer.status_code == expected
    problem(answer, 409, "thread_busy")


def test_every_id_of_a_problem_is_another(world, owner):
    ids = [problem(owner.get(f"runs/{uuid4()}"), 404)["id"] for _ in range(20)]
    assert len(set(ids)) == 20
