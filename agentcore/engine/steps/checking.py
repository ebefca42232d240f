"""Where values are validated: on the event loop, or in a thread where functions of the application's have a part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ...conf import get_settings
from ...declaration.conversion import VALIDATORS, Conversion
from ...exceptions import NotKept
from ...values.functions import kind_of
from .. import application
from ..runtime import Runtime
from ..threads import BrokeOff, contained

T = TypeVar("T")


async def checked(runtime: Runtime, conversion: Conversion, function: Callable[[], T]) -> T:
    """Return what `function` makes of values with a conversion, and raise what it raises.

    Validators may block: then it is called in a thread, and has the time of a tool. Raises `NotKept`
    where it takes longer, or ends with what no loop can carry.
    """
    seconds = get_settings().tool_timeout
    limit = asyncio.timeout(seconds)
    try:
        if not conversion.runs_code:
            return contained(function)
        async with limit:
            return await runtime.threads.run(function)
    except BrokeOff as error:
        kind = kind_of(application.cause_of(error))
        raise NotKept(f"{conversion.what}: its validators failed with {kind}. {VALIDATORS}") from error
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise NotKept(f"{conversion.what}: its validators did not end within {seconds:g} seconds.") from error
