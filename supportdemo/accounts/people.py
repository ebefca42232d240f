"""The people of the demo; their passwords are their names."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db.models import Q

OPERATORS = "Support operators"
OPERATOR_PERMISSIONS = (
    "agentcore.view_any_thread",
    "agentcore.decide_approval",
    "agentcore.cancel_any_run",
    "agentcore.add_run",  # trying a failed one again
    "agentcore.view_thread",
    "agentcore.view_message",
    "agentcore.view_run",
    "agentcore.view_step",
    "agentcore.view_toolcall",
    "agentcore.view_approval",
)


@dataclass(frozen=True)
class Person:
    """A demo login."""

    name: str
    role: str
    operator: bool = False

    @property
    def password(self) -> str:
        return self.name


PEOPLE = (
    Person("ada", "customer"),
    Person("bob", "another customer"),
    Person("olga", "support operator: approves refunds, opens every case and the admin", operator=True),
)


def seed_people() -> None:
    """Create the logins and the operators' group; what is there already keeps its password."""
    group, _ = Group.objects.get_or_create(name=OPERATORS)
    wanted = Q()
    for label in OPERATOR_PERMISSIONS:
        app, codename = label.split(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    group.permissions.set(Permission.objects.filter(wanted))
    users = get_user_model().objects
    for person in PEOPLE:
        user = users.filter(username=person.name).first()
        if user is None:
            user = users.create_user(person.name, password=person.password, first_name=person.name.capitalize())
        if person.operator:
            user.groups.add(group)
            if not user.is_staff:
                user.is_staff = True
                user.save(update_fields=["is_staff"])
