"""Which model the demo asks, and what it says where that one cannot be asked."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from agentcore.providers import model_of
from supportdemo.providers import choose_model, label_of, reads_files

pytestmark = pytest.mark.once

VARIABLES = (
    *("DEMO_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL", "OPENROUTER_MODEL"),
    *("OPENROUTER_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_MODEL"),
)
OFFLINE = "Offline model (no API key)"
KEY = "sk-canary-5ecret"
LOCAL = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "environment, label, provider",
    [
        ({}, OFFLINE, "supportdemo"),
        ({"OPENAI_API_KEY": KEY}, "openai:gpt-5-mini", "openai"),
        ({"OPENAI_API_KEY": KEY, "OPENAI_MODEL": "gpt-5"}, "openai:gpt-5", "openai"),
        ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": LOCAL, "OPENAI_MODEL": "llama"}, "openai-chat:llama", "openai"),
        ({"OPENAI_BASE_URL": LOCAL, "OPENAI_MODEL": "llama"}, "openai-chat:llama", "openai"),
        ({"OPENROUTER_API_KEY": KEY, "OPENROUTER_MODEL": "some/model"}, "openrouter:some/model", "openrouter"),
        ({"ANTHROPIC_API_KEY": KEY}, "anthropic:claude-haiku-5-5", "anthropic"),
        ({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_MODEL": "claude-opus-5-5"}, "anthropic:claude-opus-5-5", "anthropic"),
        ({"OPENAI_API_KEY": KEY, "DEMO_MODEL": "offline"}, OFFLINE, "supportdemo"),
        ({"OPENAI_API_KEY": KEY, "DEMO_MODEL": "openai-chat:gpt-5"}, "openai-chat:gpt-5", "openai"),
        ({"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "DEMO_MODEL": ""}, OFFLINE, "supportdemo"),
    ],
)
def test_environment_chooses_the_model(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], label: str, provider: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    model = choose_model()
    assert (label_of(model), model_of(model).provider) == (label, provider)
    assert KEY not in repr(model_of(model))


@pytest.mark.parametrize(
    "environment, reads",
    [
        ({}, False),
        ({"OPENAI_API_KEY": KEY}, True),
        ({"ANTHROPIC_API_KEY": KEY}, True),
        ({"OPENAI_BASE_URL": LOCAL}, False),
    ],
)
def test_files_go_to_providers_that_are_known_to_read_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], reads: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert reads_files(choose_model()) is reads


@pytest.mark.parametrize(
    "named, says",
    [
        ("anthropic:claude-opus-5-5", "environment variable ANTHROPIC_API_KEY"),
        ("openai:gpt-5", "environment variable OPENAI_API_KEY"),
        ("antropic:claude-opus-5-5", "knows no model antropic:claude-opus-5-5"),
        ("gpt5", "knows no provider gpt5"),
        ("mistral:mistral-large-latest", 'pip install "pydantic-ai-slim[mistral]"'),
    ],
)
def test_a_model_that_cannot_be_asked_stops_the_demo_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, named: str, says: str
) -> None:
    monkeypatch.setenv("DEMO_MODEL", named)
    output = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("demo", port=0, stdout=output)
    assert says in str(caught.value) and "DEMO_MODEL=offline" in str(caught.value)
    assert "Redis" not in output.getvalue()
