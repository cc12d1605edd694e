from __future__ import annotations

import pytest

from tests.reports.made import MadeResult, make


@pytest.fixture(scope="session")
def made() -> MadeResult:
    return make()
