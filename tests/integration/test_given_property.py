"""A few of the made-up declarations through real runs: stored = shown = digested = approved = given."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcore import SYSTEM, tool
from agentcore.declaration import registry
from agentcore.models import Run
from agentcore.services import approvals
from agentcore.testing import Turn
from agentcore.values import jsontext
from agentcore.web.schemas import ApprovalOut, RunOut
from tests.integration.room import drive_to_the_end, log, make, only_approval
from tests.unit import declarations
from tests.unit.declarations import Declared

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("unhurried"),
    pytest.mark.covers("fc:A2", "fc:A3", "fc:B8"),
]
few = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=6,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@few
@given(declarations.signatures(), st.data())
def test_what_a_person_approved_is_what_the_body_was_given(db: None, signature: Declared, data: st.DataObject) -> None:
    received: list[dict[str, object]] = []
    take = tool(needs_approval=True, name="take")(signature.function(received))
    said = data.draw(signature.said)
    with registry.isolated():
        run = make([Turn(calls=[("take", said)]), Turn(text="Done.")], [take]).play()
        approval = only_approval(run)
        call = approval.tool_call
        text = call.arguments
        shown = [event["arguments"] for event in log(run) if event["type"] in ("tool.call", "approval.request")]
        shown += [
            ApprovalOut.of(approval).arguments,
            RunOut.of(run, SYSTEM).approvals[0].arguments,
            call.arguments_json,
        ]
        assert {jsontext.canonical(arguments) for arguments in shown} == {text} == {approval.arguments}
        bound = (str(run.pk), call.call_id, "take", take.schema_digest, text)
        assert approval.digest == call.digest == jsontext.digest(*bound)
        approvals.approve(approval, user=SYSTEM, digest=approval.digest, edited_arguments=call.arguments_json)
        assert drive_to_the_end(run).status == "succeeded"
        call.refresh_from_db()
        assert (call.status, call.arguments, call.edit) == ("succeeded", text, None)
    (arguments,) = received
    assert jsontext.canonical(signature.dump(arguments)) == text


@few
@given(declarations.models(), st.data())
def test_an_output_is_what_its_class_reads(db: None, model: Declared, data: st.DataObject) -> None:
    said = data.draw(model.said)
    with registry.isolated():
        run = Run.objects.get(pk=make([Turn(output=said)], output=model.type).play().pk)
    assert run.status == "succeeded", run.error_message
    value = model.type.model_validate_json(jsontext.canonical(run.output))
    # Compared as data: a column of PostgreSQL's gives 1e16 back as the whole number it is.
    assert value.model_dump(mode="json", by_alias=True, round_trip=True) == run.output
    (event,) = [event for event in log(run) if event["type"] == "output"]
    assert event["value"] == run.output == RunOut.of(run, SYSTEM).output
