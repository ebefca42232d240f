"""What a browser sends, checked."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.http import HttpRequest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentcore.web.requests import JSON, read_json
from supportdemo.problems import Problem

from .models import Case

FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
MAX_TEXT = 8_000
MAX_FILES = 5
# Letters and symbols that fonts draw as nothing.
BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")


class CaseForm(forms.ModelForm):
    """A new case."""

    class Meta:
        model = Case
        fields = ("subject", "priority")
        help_texts = {"subject": "A few words, for example “My parcel is late”."}

    def clean_subject(self) -> str:
        """Return the subject on one line without invisible characters; refuse one with nothing to see."""
        subject = _visible(self.cleaned_data["subject"])
        if not any(unicodedata.category(char)[0] in "LNPS" and char not in BLANK for char in subject):
            raise forms.ValidationError("Write a few words that can be read.", code="invisible")
        return subject


class MessageIn(BaseModel):
    """A message as JSON; a field nobody knows is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    text: str = Field(min_length=1, max_length=MAX_TEXT)
    key: str = Field(min_length=8, max_length=128, pattern=r"^[A-Za-z0-9_.:-]+$")
    files: list[UUID] = Field(default_factory=list, max_length=MAX_FILES)


@dataclass(frozen=True)
class Sent:
    """A checked message, and whether a script or a plain form sent it."""

    message: MessageIn
    plain_form: bool


def read_message(request: HttpRequest) -> Sent:
    """Return the message of a JSON body or a form; raises `Problem` naming the first fault, or `Malformed`."""
    plain_form = request.content_type in FORMS
    if not plain_form and request.content_type != JSON:
        raise Problem(415, "unsupported_media_type", "Send {text, key, files} as JSON, or the page's form.")
    data: Any = _form(request) if plain_form else read_json(request)
    try:
        return Sent(MessageIn.model_validate(data), plain_form and "text/html" in request.headers.get("Accept", ""))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(place) for place in first["loc"]) or "body"
        raise Problem(422, "invalid", f"The field “{where[:80]}” is not valid: {first['msg']}.") from error


def _visible(text: str) -> str:
    # Control characters and line ends part words, so each leaves a space; format characters leave nothing.
    spaced = ("" if unicodedata.category(char) in {"Cf", "Cs"} else char for char in text)
    parted = (" " if unicodedata.category(char) in {"Cc", "Zl", "Zp"} else char for char in spaced if char)
    return " ".join("".join(parted).split())


def _form(request: HttpRequest) -> dict[str, Any]:
    # A page without scripts has no key to offer: such a form is sent once, and cannot be told from its repetition.
    return {
        "text": request.POST.get("text", ""),
        "key": request.POST.get("key") or uuid4().hex,
        "files": request.POST.getlist("files"),
    }
