"""Whatever is declared and whatever a model sends: what the body is given is what is stored. No database."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcore import tool
from agentcore.declaration.conversion import Conversion
from agentcore.exceptions import ModelRetry, NotKept
from agentcore.values import jsontext
from tests.unit import declarations
from tests.unit.declarations import Declared
from tests.unit.declared import NOBODY

pytestmark = [pytest.mark.once, pytest.mark.covers("fc:A2", "fc:A3", "fc:A4", "fc:B8")]
every = settings(
    derandomize=True, database=None, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)


@every
@given(declarations.signatures(), st.data())
def test_a_tool_is_given_what_is_stored(signature: Declared, data: st.DataObject) -> None:
    """The dump of what the body really received is the text that was stored, digested and shown."""
    received: list[dict[str, object]] = []
    made = tool(signature.function(received))
    for said in data.draw(st.lists(signature.said, min_size=3, max_size=3)):
        stored = made.validate(json.loads(jsontext.canonical(said)))
        text = jsontext.canonical(stored)
        made.bind(json.loads(text), NOBODY)()
        assert jsontext.canonical(signature.dump(received.pop())) == text
        assert set(stored) == set(made.schema["properties"]), "the schema's own names, defaults included"
        assert jsontext.canonical(made.validate(stored)) == text, "recording what was recorded changes nothing"


@every
@given(declarations.models(), st.data())
def test_an_output_validates_against_its_class_and_dumps_to_itself(model: Declared, data: st.DataObject) -> None:
    output = Conversion.to(model.type, "Output")
    for said in data.draw(st.lists(model.said, min_size=3, max_size=3)):
        text = jsontext.canonical(output.record(json.loads(jsontext.canonical(said))))
        value = model.type.model_validate_json(text)
        assert jsontext.canonical(value.model_dump(mode="json", by_alias=True, round_trip=True)) == text
        assert output.given(json.loads(text)) == value


@every
@given(declarations.signatures(), declarations.anything)
def test_whatever_a_model_sends_is_recorded_or_refused(signature: Declared, said: object) -> None:
    received: list[dict[str, object]] = []
    made = tool(signature.function(received))
    stored = None
    with suppress(ModelRetry, NotKept):
        stored = made.validate(said if isinstance(said, dict) else dict.fromkeys(made.schema["properties"], said))
    assert received == []
    if stored is not None:
        made.bind(stored, NOBODY)()
        assert jsontext.canonical(signature.dump(received[0])) == jsontext.canonical(stored)
