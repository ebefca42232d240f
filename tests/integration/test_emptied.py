"""A test that commits leaves the database as the migrations have made it."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import AbstractUser, Group, Permission
from django.contrib.contenttypes.management import create_contenttypes
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from agentcore.models import Message, Run, Thread
from agentcore.testing import Turn
from tests import emptied
from tests.integration.room import make

pytestmark = pytest.mark.django_db(transaction=True)


def rows() -> dict[str, int]:
    """How many rows each table has that has any."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            if "_fts_" not in table and not table.startswith("sqlite_"):  # the inside of SQLite's indexes
                cursor.execute(f"SELECT COUNT(*) FROM {connection.ops.quote_name(table)}")
                found[table] = cursor.fetchone()[0]
    return {table: count for table, count in found.items() if count}


def kept() -> Any:
    return [{*ContentType.objects.values_list()}, {*Permission.objects.values_list()}]


def test_what_a_test_has_written_goes_and_what_migrations_have_made_stays(request: pytest.FixtureRequest) -> None:
    before, made = rows(), kept()
    assert before.keys() == emptied.KEPT
    person: AbstractUser = request.getfixturevalue("user")
    make([Turn(text="Done.")]).play()
    group = Group.objects.create(name="left")
    person.groups.add(group)
    group.permissions.add(Permission.objects.earliest("pk"))
    assert all(model._default_manager.exists() for model in (Thread, Run, Message, type(person), Group))
    emptied.empty("default")
    assert (rows(), kept()) == (before, made)
    assert MigrationRecorder.Migration.objects.filter(app="agentcore").exists()


def test_a_content_type_and_a_permission_that_a_test_adds_go_too() -> None:
    before, made = rows(), kept()
    kind = ContentType.objects.create(app_label="left", model="thing")
    own = Permission.objects.create(content_type=kind, codename="open", name="May open")
    known = Permission.objects.create(
        content_type=ContentType.objects.get_for_model(Run), codename="left", name="Was left"
    )
    Group.objects.create(name="left").permissions.add(own, known)
    assert ContentType.objects.get_by_natural_key("left", "thing") == kind
    emptied.empty("default")
    assert (rows(), kept()) == (before, made)
    with pytest.raises(ContentType.DoesNotExist):
        ContentType.objects.get_by_natural_key("left", "thing")


def test_those_that_are_made_anew_stay_whatever_their_ids() -> None:
    before = rows()
    ContentType.objects.filter(app_label="agentcore").delete()
    config = apps.get_app_config("agentcore")
    create_contenttypes(config, verbosity=0)
    create_permissions(config, verbosity=0)
    made = kept()
    emptied.empty("default")
    assert (rows(), kept()) == (before, made)
