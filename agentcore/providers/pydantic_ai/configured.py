"""Models by name, and what is missing where one cannot be made: a package, a key, or the model itself."""

from __future__ import annotations

import re

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model

from ...exceptions import ModelNotConfigured

__all__ = ["made"]

EXTRA = re.compile(r"pydantic-ai-slim\[[\w-]+\]")
VARIABLE = re.compile(r"`([A-Z][A-Z0-9_]+)`")
GUESS = re.compile(r"Did you mean '(.+)'\?")
HINT = " To try Pydantic AI without"


def made(name: str) -> Model:
    """Return the model of a name such as "openai:gpt-5".

    Raises `ModelNotConfigured`, which says in one sentence what to install, which key is missing, or what it may
    have been meant to be. Asks nobody.
    """
    try:
        return infer_model(name)
    except ImportError as error:
        raise ModelNotConfigured(_not_installed(name, error)) from error
    except UserError as error:
        raise ModelNotConfigured(_refused(name, error)) from error
    except Exception as error:  # an SDK may refuse what it finds in the environment in its own way
        raise ModelNotConfigured(f"The model {name} cannot be used here: {error}") from error


def _not_installed(name: str, error: ImportError) -> str:
    extra = EXTRA.search(str(error))
    if extra is None:
        return f"The model {name} needs what is not installed: {error}"
    return f'The model {name} needs the SDK of its provider. Install it with pip install "{extra[0]}".'


def _refused(name: str, error: UserError) -> str:
    said = str(error).partition(HINT)[0]
    if said.startswith("Unknown model:"):
        guess = GUESS.search(said)
        provider = name.partition(":")[0]
        return f"pydantic-ai knows no model {name}, " + (
            f"but {guess[1]}: is that meant?" if guess else f"for it knows no provider {provider}."
        )
    if variable := VARIABLE.search(said):
        return f"The model {name} needs the environment variable {variable[1]}, which is not set."
    return f"The model {name} cannot be used here: {said}"
