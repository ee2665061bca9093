"""What tests and their processes are told by the environment; import it before JAX."""

import os
import pathlib

# Tests run side by side, and threads of OpenBLAS that wait for each other by spinning
# make an eigenvalue problem ten times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# What one process has compiled the others read, and the next run, which takes half the
# time for it. JAX knows entries by program, options and version.
CACHE = pathlib.Path(__file__).parents[2] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
