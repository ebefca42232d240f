"""A model by its name: what is missing is said in one sentence, and nothing of a key is ever shown."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from agentcore import Agent
from agentcore.declaration import registry
from agentcore.exceptions import ModelNotConfigured
from agentcore.jobs import prefork
from agentcore.providers import named, origin
from agentcore.providers.pydantic_ai import PydanticAIModel, model
from tests.integration.adapter.scene import events_of, said
from tests.integration.room import make
from tests.wires import WIRES

pytestmark = [pytest.mark.once, pytest.mark.django_db]
KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """There is no key and no base URL in the environment, and no model of before."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)
    named._made.clear()
    yield
    named._made.clear()


SENTENCES = {
    "openai:gpt-5": "The model openai:gpt-5 needs the environment variable OPENAI_API_KEY, which is not set.",
    "openai-chat:gpt-5": "The model openai-chat:gpt-5 needs the environment variable OPENAI_API_KEY, which is not set.",
    "anthropic:claude-sonnet-5": (
        "The model anthropic:claude-sonnet-5 needs the environment variable ANTHROPIC_API_KEY, which is not set."
    ),
    "openrouter:openai/gpt-5": (
        "The model openrouter:openai/gpt-5 needs the environment variable OPENROUTER_API_KEY, which is not set."
    ),
    "groq:llama-4": (
        "The model groq:llama-4 needs the SDK of its provider. "
        'Install it with pip install "pydantic-ai-slim[groq]".'
    ),
    "nobody:gpt-5-nothing": (
        "pydantic-ai knows no model nobody:gpt-5-nothing, for it knows no provider nobody."
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "sentence"), SENTENCES.items(), ids=SENTENCES)
def test_what_is_missing_is_said_in_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(ModelNotConfigured) as raised:
        model(name)
    assert raised.value.message == sentence


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(ModelNotConfigured, match=r"^pydantic-ai knows no model \S+, but \S+:\S+: is that meant\?$"):
        model("openaii:gpt-5")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agentcore.providers.pydantic_ai", None)
    with pytest.raises(ModelNotConfigured, match=r'pip install "django-agentcore\[pydantic-ai\]"'):
        named.model_of("openai:gpt-5")


def test_a_run_without_a_key_fails_with_the_sentence_for_operators_only() -> None:
    run = make(("openai:gpt-5",)).play()
    assert (run.status, run.error_code) == ("failed", "model_not_configured")
    assert run.error_detail == SENTENCES["openai:gpt-5"]
    assert "OPENAI_API_KEY" not in run.error_message


def test_a_worker_says_in_its_log_which_agent_cannot_ask_its_model(caplog: pytest.LogCaptureFixture) -> None:
    with registry.isolated(), caplog.at_level(logging.WARNING):
        Agent(name="keyless", model="openai:gpt-5")
        prefork.make_models()
    assert f"agent keyless cannot ask its model. {SENTENCES['openai:gpt-5']}" in caplog.text


def test_a_string_works_where_the_environment_has_a_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = WIRES["chat"]
    with wire.serve(wire.says("Good day.")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", wire.base(server))
        monkeypatch.setenv("OPENAI_API_KEY", wire.key)
        run = make(("openai-chat:gpt-4.1",)).play()
        assert server.requests[0].headers["authorization"] == f"Bearer {wire.key}"
    assert (run.status, run.messages.get(author_kind="agent").text) == ("succeeded", "Good day.")


def test_a_key_is_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = model("openai:gpt-5")
    assert (made.name, made.provider) == ("gpt-5", "openai")
    assert KEY not in f"{made!r} {made} {made.origin}"


def test_an_origin_is_of_one_address_one_account_and_one_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    def origin_of(name: str, key: str, url: str) -> str:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        return model(name).origin

    base = ("openai:gpt-5", KEY, "https://one.example/v1")
    others = [
        ("openai:gpt-5", "other", base[2]),
        ("openai:gpt-5", KEY, "https://two.example/v1"),
        ("openai-chat:gpt-5", *base[1:]),
    ]
    assert len({origin_of(*given) for given in [base, *others]}) == 4
    assert origin_of(*base) == origin_of("openai:gpt-6", *base[1:])
    assert origin_of(*base) != origin("openai", base[2], KEY)


async def test_settings_of_the_model_the_agent_and_the_run_overrule_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = WIRES["chat"]
    with wire.serve(wire.says("Good day."), wire.says("Good day.")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", wire.base(server))
        monkeypatch.setenv("OPENAI_API_KEY", wire.key)
        one = PydanticAIModel("openai-chat:gpt-4.1", settings={"temperature": 0.2, "max_tokens": 10})
        events = await events_of(one, settings={"temperature": 0.7})
        sent: dict[str, Any] = server.requests[0].body
    assert (sent["temperature"], sent["max_completion_tokens"], said(events)) == (0.7, 10, "Good day.")
