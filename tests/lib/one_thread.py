"""One thread for NumPy's linear algebra; to be imported before NumPy is.

Tests run side by side, and threads of OpenBLAS that wait for each other by spinning
make an eigenvalue problem ten times as long.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
