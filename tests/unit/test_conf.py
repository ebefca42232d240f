"""Settings: a default for every key, read when they are asked for."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore import access, conf
from agentcore.access import OwnerPolicy, get_policy
from agentcore.conf import Settings, get_settings
from agentcore.exceptions import UserError

pytestmark = pytest.mark.once


class Other(OwnerPolicy):
    """Another policy."""


@pytest.mark.covers("dj:SET-1")
def test_every_key_has_a_default_and_none_is_needed(settings: LazySettings) -> None:
    settings.AGENTCORE = {}
    assert get_settings() == Settings()
    conf.get_settings.cache_clear()
    del settings.AGENTCORE
    assert get_settings() == Settings()
    assert set(conf.KEYS) == {field.name.upper() for field in fields(Settings)}


@pytest.mark.covers("dj:SET-2")
def test_a_changed_setting_is_seen_at_once(settings: LazySettings) -> None:
    settings.AGENTCORE = {"LEASE_SECONDS": 99}
    assert get_settings().lease_seconds == 99
    settings.AGENTCORE = {"LEASE_SECONDS": 11}
    assert get_settings().lease_seconds == 11
    assert get_settings().poll_seconds == Settings.poll_seconds


@pytest.mark.covers("dj:SET-2")
def test_a_changed_policy_is_used_at_once(settings: LazySettings) -> None:
    assert type(get_policy()) is OwnerPolicy
    settings.AGENTCORE = {"ACCESS_POLICY": f"{__name__}.Other"}
    assert type(get_policy()) is Other
    settings.AGENTCORE = {}
    assert type(get_policy()) is OwnerPolicy


@pytest.mark.covers("dj:SET-5")
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no.such.Policy", "cannot be imported"),
        ("nodots", "cannot be imported"),
        ("agentcore.values.system.System", "is not an AccessPolicy"),
        ("agentcore.access.AccessPolicy", "makes no policy: .*abstract"),
        ("agentcore.access.SYSTEM", "makes no policy"),
    ],
)
def test_a_policy_that_is_none_is_a_developers_mistake(settings: LazySettings, path: str, says: str) -> None:
    settings.AGENTCORE = {"ACCESS_POLICY": path}
    with pytest.raises(UserError, match=says):
        get_policy()


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_settings_that_are_no_dict_leave_the_defaults_in_force(settings: LazySettings, value: Any) -> None:
    settings.AGENTCORE = value
    assert get_settings() == Settings()


@pytest.mark.parametrize(
    "wrong", [{"QUEUE": 5}, {"QUEUE": []}, {"LEASE_SECONDS": "9"}, {"POISON_AFTER": True}, {"X": 1}]
)
def test_a_wrong_value_leaves_its_default_in_force(settings: LazySettings, wrong: dict[str, Any]) -> None:
    settings.AGENTCORE = wrong
    assert get_settings() == Settings()


def test_nobody_is_not_system() -> None:
    with pytest.raises(UserError, match="needs a user"):
        access.require(None)
    access.require(access.SYSTEM)
