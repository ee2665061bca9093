"""The connection of one process to process 0 is cut: all end in time, by one code.

It goes through a proxy on loopback, which carries what the processes tell each other
and JAX's own service; the arrays' way (gloo) is another, as it is on a cluster.
"""

import re
import time

import pytest

from experiments.faults.runs import last_row, save_pictures
from tests.faults.proxy import Proxy
from tests.faults.ranks import running
from tests.faults.test_faults import BUSY, T, checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("cuts")
    save_pictures(where / "pictures.npz")
    return where


@pytest.mark.parametrize(
    ("how", "least", "most", "said"),
    [
        ("silence", T - 1, T + 2, "has been silent for"),
        ("reset", 0, 2, "is gone without a word"),
    ],
)
def test_a_process_that_is_cut_off_ends_and_so_do_the_others(
    folder, tmp_path, how, least, most, said
):
    workdir, proxy = tmp_path / "run", Proxy()
    try:
        with running(folder, workdir, through={2: proxy}) as ranks:
            until = time.monotonic() + 240
            while last_row(workdir) < 8:
                assert time.monotonic() < until, ranks.report()
                assert ranks.codes == [None] * 3, ranks.report()
                time.sleep(0.02)
            began = time.time()
            getattr(proxy, how)()
            ranks.wait()
    finally:
        proxy.close()
    assert ranks.codes == [75, 75, 75], ranks.report()
    seconds = max(rank.ended for rank in ranks) - began
    print(f"{how}: ended after {seconds:.1f} s")
    assert least < seconds < most + BUSY
    # what process 0 says of it may still reach the one that is being cut off
    for number, others in ((0, "2"), (1, "2"), (2, "[02]")):
        told = re.search(f"process {others}( of 3)? {said}", ranks[number].text)
        assert told is not None, ranks.report()
        assert "start all processes again with --resume" in ranks[number].text
    assert checkpoints(workdir)
