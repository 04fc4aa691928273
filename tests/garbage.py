"""What is imported before the first test stays: collecting garbage through torch and jax took a tenth of a run."""

import gc


def leave_imports_alone() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


pytest_collection_finish = leave_imports_alone
