"""Import roots: recis_core.compat.recis, and recis after install()."""

from __future__ import annotations

import importlib
import sys
from importlib import import_module
from pathlib import Path

import pytest

import recis_core.compat as compat
from tests.hygiene.blocks import blocks_of, run

MODULES = """
features.feature features.feature_engine features.fused_op_impl features.op framework.checkpoint_manager framework.metrics
framework.trainer hooks.filter_hook hooks.hook hooks.logger_hook hooks.profiler_hook io.dataset_base io.filter_dataset
io.map_dataset io.orc_dataset io.state_dataset io.window_io io.wrap_end_dataset metrics.auroc metrics.gauc
nn.functional.array_ops nn.functional.embedding_ops nn.functional.fused_ops nn.functional.hash_ops nn.functional.ragged_ops
nn.hashtable_hook nn.initializers nn.modules.embedding nn.modules.embedding_engine nn.modules.hashtable
nn.modules.hashtable_hook_impl optim.adamw_tf optim.sparse_adam optim.sparse_adamw optim.sparse_adamw_tf optim.sparse_optim
ragged.tensor serialize.checkpoint_reader serialize.loader serialize.saver utils.data_utils utils.logger utils.parser
"""  # by package


@pytest.mark.parametrize("module", MODULES.split())
def test_modules_have_recis_paths(module: str) -> None:
    assert import_module(f"recis_core.compat.recis.{module}").__doc__


PROGRAM = """
recis_core.compat.install("recis")
import recis.optim.sparse_adamw as by_alias
import recis_core.compat.recis.optim.sparse_adamw as by_name
print(by_alias is by_name, by_name.__spec__.name == by_name.__name__)
from recis.nn import EmbeddingOption as aliased
print(aliased is EmbeddingOption)
print(recis.__version__, recis.get_build_info()["version"], float(engine.eval()({"item": torch.tensor([[7]])})["item"][0, 0]))
try:
    import recis.nothing
except ModuleNotFoundError as error:
    print(error.name)
"""


def test_the_pages_programs_run_and_both_names_give_the_same_modules(tmp_path: Path) -> None:
    page = blocks_of(Path(__file__).parents[2] / "docs" / "compat-recis.md")
    printed = run([*page, ("python", PROGRAM)], tmp_path, RECIS_BACKEND="torch")[-1].splitlines()
    assert printed[:2] == ["True True", "True"]
    version, build, weight = printed[2].split()
    assert (version, build, float(weight)) == ("1.0.0", "1.0.0", pytest.approx(0.01, abs=1e-4))
    assert printed[3] == "recis.nothing"


def test_install_refuses_other_names_and_a_package_imported_before(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="name must be one of recis, torchrec; got 'torch'"):
        compat.install("torch")
    monkeypatch.setitem(sys.modules, "recis", importlib)
    with pytest.raises(ImportError, match="imported already"):
        compat.install("recis")


def test_names_of_alibabas_services_say_the_way_out() -> None:
    with pytest.raises(ImportError, match="MLTrackerHook reports to Alibaba's services"):
        from recis_core.compat.recis.hooks import MLTrackerHook  # noqa: F401
