"""What is said of a model's own input is bounded, whatever keys and values the input has."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from agentcore import ModelRetry, tool
from agentcore.values.jsontext import TRUNCATED

pytestmark = [pytest.mark.once, pytest.mark.covers("fc:B9")]
LONG = "k" * 90_000


def echoed(value: str) -> str:
    raise ValueError(f"not {value}")


def advised(value: str) -> str:
    raise ModelRetry(f"not {value}")


def book(city: str) -> str:
    """Book."""
    return city


def counted(rooms: dict[str, int]) -> str:
    """Book."""
    return str(rooms)


def refused(city: Annotated[str, AfterValidator(echoed)]) -> str:
    """Book."""
    return city


def spoken(city: Annotated[str, AfterValidator(advised)]) -> str:
    """Book."""
    return city


FAULTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a key": (book, {"city": "a", LONG: 1}, "Extra inputs are not permitted"),
    "many keys": (book, {"city": "a", **{f"{number}{LONG}": 1 for number in range(9)}}, "Extra inputs"),
    "a key within": (counted, {"rooms": {LONG: "x"}}, "valid integer"),
    "a validator's words": (refused, {"city": LONG}, "not kkk"),
    "a validator's advice": (spoken, {"city": LONG}, "not kkk"),
}


@pytest.mark.parametrize(("function", "given", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_as_long_as_a_sentence(function: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelRetry) as raised:
        tool(name="book", effect="pure")(function).validate(given)
    assert said in raised.value.message and TRUNCATED in raised.value.message
    assert len(raised.value.message) < 2500
