"""Tools that run in a process of their own, and deserve it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from django.contrib.auth import get_user_model
from pydantic import BaseModel, Field

from agentcore import ModelRetry, ToolContext, ToolFailed, isolated, tool


@tool(effect="pure")
@isolated
def who(ctx: ToolContext, text: str, often: int = 1) -> dict[str, Any]:
    """Say who is asking, and from where."""
    print("this is for the log")
    ctx.progress({"half": True})
    return {"pid": os.getpid(), "key": ctx.idempotency_key, "call": ctx.call_id, "text": text * often}


class Address(BaseModel):
    zip_code: str = Field(alias="zipCode")


AMOUNT = Decimal("0.10")


@tool(effect="pure")
@isolated
def post(to: Address, on: date, tags: set[str], schema: Annotated[Decimal, Field(alias="theAmount")] = AMOUNT) -> str:
    """Post."""
    return repr((to.zip_code, on, sorted(tags), schema))


@tool(effect="pure")
@isolated
def count_people() -> int:
    """Use the ORM."""
    return get_user_model().objects.count()


@tool(effect="pure")
@isolated
def hang_with_child(pids: str) -> str:
    """Start another process, a thread, and hang."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    threading.Thread(target=time.sleep, args=[60]).start()
    Path(pids).write_text(f"{os.getpid()} {child.pid}")
    while True:
        time.sleep(1)


@tool
@isolated
def crash(how: str) -> str:
    """Take the process down."""
    if how == "segv":
        ctypes.string_at(0)
    if how == "exit":
        sys.exit(3)
    if how == "_exit":
        os._exit(3)
    raise ValueError("secret detail")


@tool
@isolated
def decline(how: str) -> str:
    """Do nothing, and say so."""
    raise ModelRetry("Say it otherwise.") if how == "retry" else ToolFailed("The account is closed.")


@tool(effect="pure")
@isolated
def give_much() -> str:
    """Give back more than is kept."""
    return "x" * 50_000_000
