"""How an answer ends is said wherever somebody looks: step, message, run, events, API and admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from agentcore import SYSTEM
from agentcore.models import Run
from agentcore.testing import Turn
from agentcore.values.finish import ENDS, FinishReason, reason_of
from tests.integration.room import log, make

pytestmark = [pytest.mark.once, pytest.mark.django_db]


@pytest.mark.covers("fc:B3")
def test_a_text_cut_off_by_its_length_is_kept_and_says_so_everywhere(user: Any, client: Client) -> None:
    room = make([Turn(text="Once upon a ti", finish="length")], user=user)
    run = room.play()
    assert (run.status, run.finish_reason, run.error_code) == ("succeeded", "length", "")
    said = run.messages.get(author_kind="agent")
    assert (said.status, said.finish_reason, said.text) == ("complete", "length", "Once upon a ti")
    events = {event["type"]: event for event in log(run)}
    assert events["step.finished"]["finish_reason"] == "length"
    assert events["done"]["finish_reason"] == "length"
    assert events["message"]["message"]["finish_reason"] == "length"
    client.force_login(user)
    assert client.get(reverse("agentcore:get_run", args=[run.pk])).json()["finish_reason"] == "length"
    listed = client.get(reverse("agentcore:list_messages", args=[room.thread.pk])).json()["messages"]
    assert [item["finish_reason"] for item in listed] == [None, "length"]


@pytest.mark.covers("fc:B3")
def test_the_admin_shows_why_a_run_ended_and_what_its_provider_called_it(client: Client) -> None:
    run = make([Turn(text="Hm.", finish="Guardrail_X" + "y" * 500)]).play()
    assert (run.status, run.finish_reason) == ("succeeded", "other")
    step = run.steps.get()
    assert (step.finish_reason, step.finish_detail) == ("other", ("Guardrail_X" + "y" * 500)[:100])
    client.force_login(get_user_model().objects.create_superuser("root", "root@example.com", "pw"))
    page = client.get(reverse("admin:agentcore_run_change", args=[run.pk])).content.decode()
    assert "other (Guardrail_X" in page


@pytest.mark.covers("fc:B3")
@pytest.mark.parametrize("finish, code", [("content_filter", "content_filter"), ("refusal", "refused")])
def test_an_answer_that_is_none_fails_the_run_and_no_later_model_reads_it(finish: str, code: str) -> None:
    room = make([Turn(text="Half of something bad", finish=finish), Turn(text="Hello.")])
    run = room.play()
    assert (run.status, run.error_code, run.finish_reason) == ("failed", code, finish)
    assert [event["type"] for event in log(run)][-3:] == ["message", "error", "done"]
    assert run.used.total_tokens == 15
    room.play("And now?")
    texts = [part.text for message in room.model.requests[-1].messages for part in message.parts]
    assert texts == ["Go", "And now?"]


@pytest.mark.covers("fc:B3")
def test_a_run_that_no_answer_ended_has_no_finish_reason() -> None:
    room = make([Turn(text="One.")])
    run = room.send()
    room.agent.runs.cancel(run, user=SYSTEM)
    assert Run.objects.get(pk=run.pk).finish_reason == ""
    assert "finish_reason" not in log(run)[-1]


@pytest.mark.covers("fc:B3")
def test_every_reason_has_its_row_in_the_table() -> None:
    assert set(ENDS) == set(FinishReason)


@pytest.mark.parametrize(
    "said, reason",
    [
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("content-filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("tool_use", "tool_calls"),
        ("", "other"),
        ("weird", "other"),
    ],
)
def test_what_providers_say_is_mapped_to_one_word(said: str, reason: str) -> None:
    assert reason_of(said)[0] == reason
