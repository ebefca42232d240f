"""What a function's docstring says to a model: of the function, and of each parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import docstring_parser
from docstring_parser import Docstring, DocstringParam, DocstringStyle

STYLES = (DocstringStyle.GOOGLE, DocstringStyle.NUMPYDOC, DocstringStyle.REST, DocstringStyle.EPYDOC)


@dataclass(frozen=True)
class Described:
    """The text of a docstring without its section on parameters, and what that says of each."""

    text: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def describe(function: Callable[..., Any], parameters: Collection[str]) -> Described:
    """Read a docstring in the style that tells most of the parameters; one in no style at all is taken as it is."""
    text = inspect.getdoc(function) or ""
    found = Described(text)
    for style in STYLES:
        try:
            parsed = docstring_parser.parse(text, style)
            described = _told(parsed, parameters)
        except Exception:  # noqa: S112 - broken in this style: a docstring never keeps a tool from being declared
            continue
        if len(described.parameters) > len(found.parameters):
            found = described
    return found


def _told(parsed: Docstring, parameters: Collection[str]) -> Described:
    told = {
        item.arg_name.lstrip("*"): " ".join(item.description.split())
        for item in parsed.meta
        if isinstance(item, DocstringParam) and item.args[0] != "attribute" and item.description
    }
    others = (item for item in parsed.meta if not isinstance(item, DocstringParam) and item.description)
    rest = [f"{' '.join(item.args).capitalize()}: {item.description}" for item in others]
    text = "\n\n".join(filter(None, [parsed.description, *rest]))
    return Described(text, {name: told[name] for name in parameters if name in told})
