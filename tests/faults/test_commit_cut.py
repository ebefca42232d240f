"""What the proxy does to a real database and a real Redis, as the drivers see it."""

from __future__ import annotations

import pytest
import redis
from django.conf import LazySettings
from django.db import connection

from agentcore.testing import FaultProxy
from tests.stack import database_url

pytestmark = pytest.mark.django_db(transaction=True)

LOOK = "SELECT count(*) FROM agentcore_streams_stream WHERE name = 'cut'"
INSERT = (
    "INSERT INTO agentcore_streams_stream (id, name, content_type, sequencer, next_seq, created_at) "
    "VALUES (gen_random_uuid(), 'cut', '', 'own', 0, now())"
)


@pytest.mark.parametrize("mode, committed", [("cut_on_commit", 1), ("cut_before_commit", 0)])
def test_the_outcome_of_a_commit_is_unknown_to_its_client_and_known_to_the_database(mode: str, committed: int) -> None:
    if connection.vendor != "postgresql":
        assert database_url().startswith("sqlite:")  # a file has no connection to cut
        return
    import psycopg

    with FaultProxy(database_url()) as proxy:
        client = psycopg.connect(proxy.url)
        client.execute(INSERT)
        getattr(proxy, mode)(times=1)
        with pytest.raises(psycopg.OperationalError):
            client.commit()
        client.close()
        with psycopg.connect(proxy.url) as again:
            assert again.execute(LOOK).fetchall() == [(committed,)]


@pytest.mark.once
def test_redis_behind_the_proxy_goes_away_and_comes_back(settings: LazySettings) -> None:
    with FaultProxy(settings.REDIS_URL) as proxy:
        with redis.Redis.from_url(proxy.url, retry=None, socket_timeout=5) as client:
            assert client.ping()
            proxy.reset()
            with pytest.raises(redis.ConnectionError):
                client.ping()
            proxy.ok()
            assert client.ping()
