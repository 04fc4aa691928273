"""Commands in this process; what is loaded for them lies in memory already, however loaded the machine is."""

import pytest

from recis_core.cli import slow_start


@pytest.fixture(autouse=True)
def _loading_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_start, "AFTER", 600.0)
