from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kafka.brokers import Broker
from tests.cluster.kafka.market import Market
from tests.cluster.kafka.objectstore import ObjectStore


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    return Market(tmp_path_factory.mktemp("market"), 5000)


@pytest.fixture(scope="session")
def short_market(market: Market) -> Market:
    """Two months of it."""
    return market.first(2500)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker whose data survive it."""
    store = ObjectStore()
    started = Broker(tmp_path / "broker.log", "s3://tansu/", **store.environ()).start()
    yield started
    started.kill()
    store.close()
