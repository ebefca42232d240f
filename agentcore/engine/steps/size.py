"""How large an answer is, counted as it comes, and the end of one that becomes too large."""

from __future__ import annotations

from dataclasses import dataclass

from ...conf import get_settings
from ...exceptions import RunError
from ...values import jsontext
from ...values.parts import ProviderDetails

ANSWER_TOO_LONG = "The answer became too long and was broken off. Ask for less at once."
TOO_MANY_CALLS = "The model asked for too much at once, and was stopped. Ask for less at once."


@dataclass
class Size:
    """The bytes of JSON that an answer takes, and those of the files it makes."""

    json: int = 0
    files: int = 0

    def grow(self, more: int, details: ProviderDetails | None = None) -> None:
        """Count more bytes, and those of details; raises `RunError` where that is too much."""
        size = self.json + more + (0 if details is None else jsontext.size(details))
        limit = get_settings().answer_limit
        if size > limit:
            detail = f"The answer takes more than the {limit} bytes of ANSWER_LIMIT."
            raise RunError(ANSWER_TOO_LONG, code="answer_too_long", detail=detail)
        self.json = size

    @property
    def room(self) -> int:
        """How many more bytes there may be."""
        return max(get_settings().answer_limit - self.json, 0)

    def grow_files(self, more: int) -> None:
        """Count the bytes of one more file; raises `RunError` where that is too much."""
        self.files += more
        limit = get_settings().files_limit
        if self.files > limit:
            detail = f"The files of the answer take more than the {limit} bytes of FILES_LIMIT."
            raise RunError(ANSWER_TOO_LONG, code="answer_too_long", detail=detail)


def check_calls(count: int) -> None:
    """Raise `RunError` for more calls than one answer may ask for."""
    limit = get_settings().calls_limit
    if count > limit:
        detail = f"The answer asks for more than the {limit} calls of CALLS_LIMIT."
        raise RunError(TOO_MANY_CALLS, code="too_many_calls", detail=detail)
