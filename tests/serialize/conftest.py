from __future__ import annotations

from pathlib import Path

import pytest

from recis_core.serialize import save_state
from tests.serialize.states import STEP, content


@pytest.fixture
def there(tmp_path: Path) -> Path:
    save_state(tmp_path, STEP, content(1))
    return tmp_path
