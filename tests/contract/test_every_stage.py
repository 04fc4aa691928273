"""A skip, or a case left out, can hide a whole stage."""

from recis_core.backends.selection import NAMES
from tests.contract.recorded import RAN, STAGES


def test_every_stage_ran_on_every_backend() -> None:
    missing = {name: sorted(set(STAGES) - RAN.get(name, set())) for name in NAMES}
    assert not any(missing.values()), f"stages no case of this run reached: {missing}"
