"""Everybody who may knock at a door of agentcore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import AnonymousUser

from tests.integration.office import staff

# Django's own permissions open the admin's pages; of whose rows they show, they say nothing.
PAGES = ("view_thread", "view_run", "view_approval")


def staff_but(name: str, *permissions: str, **wrong: bool) -> Any:
    """Make a member of staff with these permissions; `wrong` says what else differs."""
    person = staff(name, *PAGES, "view_any_thread", "decide_approval", *permissions)
    for field, value in wrong.items():
        setattr(person, field, value)
    person.save()
    return person


PEOPLE: dict[str, Callable[[], Any]] = {
    "owner": lambda: staff("ada", *PAGES),
    "stranger": lambda: staff("bob", *PAGES),
    "operator": lambda: staff("olga", *PAGES, "view_any_thread"),
    "decider": lambda: staff("dora", *PAGES, "decide_approval"),
    "canceller": lambda: staff("carl", *PAGES, "view_any_thread", "cancel_any_run"),
    "inactive": lambda: staff_but("ina", is_active=False),
    "permitted but no staff": lambda: staff_but("nora", "cancel_any_run", is_staff=False),
    "anonymous": AnonymousUser,
}


class People(dict[str, Any]):
    """Everybody by what they are: each is made when a test first asks for them."""

    def __missing__(self, who: str) -> Any:
        person = self[who] = PEOPLE[who]()
        return person
