"""These tests need torchrec and fbgemm_gpu, which `make test-torchrec` installs beside everything else."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torchrec") else ["test_*.py"]
