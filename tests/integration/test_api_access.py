"""The JSON API: who may do what at every address there is, generated from the router."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission

from tests.integration.api_room import BODIES, OPERATIONS, Caller, ok, problem, state

pytestmark = pytest.mark.django_db


# What each may do with somebody's thread; an operator of this policy decides approvals and sees nothing else.
EXPECTED = {
    "owner": {"POST threads/{thread_id}/runs": 201, "POST runs/{run_id}/retry": 409, "POST approvals/decide": 403},
    "stranger": {"GET approvals": 200},
    "operator": {"GET approvals": 200, "POST approvals/decide": 200},
    "anonymous": {},
}
OTHERWISE = {"owner": 200, "stranger": 404, "operator": 404, "anonymous": 401}


@pytest.mark.covers("threat:T1", "promise:P9")
@pytest.mark.parametrize("who", ["owner", "stranger", "operator", "anonymous"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_who_may_do_what_at_every_address(world, operation, who):
    body = BODIES[str(operation)](world) if operation.method == "POST" else None
    before = state()
    answer = world.callers[who].call(operation.method, operation.at(**world.ids()), body)
    expected = EXPECTED[who].get(str(operation), OTHERWISE[who])
    if expected >= 400:
        problem(answer, expected)
        assert state() == before
    else:
        ok(answer, expected)
    if who in ("stranger", "anonymous"):
        for secret in ("Pay", "Shall I?", str(world.thread.pk), str(world.waiting.pk), world.approval.digest):
            assert secret not in answer.content.decode().replace(answer.request["PATH_INFO"], "")


@pytest.mark.covers("threat:T31", "threat:T1")
@pytest.mark.parametrize("who", ["stranger", "operator"])
@pytest.mark.parametrize("operation", [item for item in OPERATIONS if item.is_of_one_object], ids=str)
def test_what_is_somebody_elses_answers_exactly_as_what_is_not_there(world, operation, who):
    caller = world.callers[who]
    body = BODIES[str(operation)](world) if operation.method == "POST" else None
    missing = {name: uuid4() for name in ("thread_id", "run_id")}
    answers = [
        caller.call(operation.method, operation.at(**ids), body)
        for ids in (world.ids(), missing, dict.fromkeys(missing, "not-a-uuid"))
    ]
    bodies = [{**problem(answer, 404, "not_found"), "id": ""} for answer in answers]
    assert bodies[0] == bodies[1] == bodies[2]
    headers = [{key: value for key, value in answer.items() if key != "Content-Length"} for answer in answers]
    assert headers[0] == headers[1] == headers[2]


@pytest.mark.covers("threat:T31")
def test_an_approval_of_somebody_else_answers_as_one_that_is_not_there(world):
    stranger = world.callers["stranger"]
    foreign = problem(stranger.post("approvals/decide", {"decisions": [world.decision()]}), 404, "not_found")
    missing = problem(
        stranger.post("approvals/decide", {"decisions": [world.decision(approval=str(uuid4()))]}), 404, "not_found"
    )
    assert {**foreign, "id": ""} == {**missing, "id": ""}


def test_whoever_may_read_every_thread_may_not_write_to_it(world, operator):
    operator.user_permissions.add(Permission.objects.get(codename="view_any_thread"))
    caller = Caller(operator)
    ok(caller.get(f"threads/{world.thread.pk}"))
    ok(caller.get(f"runs/{world.waiting.pk}/events"))
    for path, body in (
        (f"threads/{world.thread.pk}/runs", {"agent": "test", "text": "x"}),
        (f"runs/{world.waiting.pk}/cancel", {}),
        (f"runs/{world.failed.pk}/retry", {}),
    ):
        problem(caller.post(path, body), 403, "not_allowed")


@pytest.mark.covers("threat:T5")
@pytest.mark.parametrize("operation", [item for item in OPERATIONS if item.method == "POST"], ids=str)
def test_a_command_without_the_csrf_token_is_a_problem_and_does_nothing(world, operation):
    before = state()
    for who in ("owner", "operator", "anonymous"):
        caller = world.callers[who]
        answer = caller.post(operation.at(**world.ids()), BODIES[str(operation)](world), csrf=False)
        if who == "anonymous":
            problem(answer, 401, "not_signed_in")
        else:
            problem(answer, 403, "csrf_failed")
    assert state() == before


@pytest.mark.covers("threat:T5")
def test_reading_never_needs_the_token_and_never_writes(world, owner):
    del owner.client.cookies[django_settings.CSRF_COOKIE_NAME]
    before = state()
    for operation in OPERATIONS:
        if operation.method == "GET":
            ok(owner.get(operation.at(**world.ids())))
    assert state() == before
