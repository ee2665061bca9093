"""The network benchmark in real network namespaces, where they are permitted."""

import contextlib
import csv
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from experiments.benchmarks.network import links as network_links
from experiments.benchmarks.network import namespaces, processes
from tests.lib.helpers import plainly_compiled


@pytest.fixture(autouse=True, scope="module")
def _permitted():
    try:
        namespaces.check_possible()
    except namespaces.NotPossible as error:
        pytest.skip(str(error))


def made_by(process):
    start = f"{namespaces.PREFIX}-{process}-"
    return [x for x in namespaces.existing() if x.startswith(start)]


@contextlib.contextmanager
def running(program, *arguments):
    """A program of our own in Python; killed at the end, and what it left removed."""
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=plainly_compiled(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        namespaces.sweep()


MAKES_AND_WAITS = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
from experiments.benchmarks.network import links as network_links, namespaces
with namespaces.terminated_as_interrupted(), network_links.Links(2) as links:
    print("made", flush=True)
    time.sleep(60)
"""


def test_links_are_made_limited_counted_and_removed():
    with network_links.Links(2) as links:
        names = made_by(os.getpid())
        assert len(names) == 3
        hosts = subprocess.run(
            links.command(1, "cat", "/etc/hosts"), capture_output=True, check=True
        )
        assert hosts.stdout.decode().splitlines()[1:] == [
            "10.77.0.1 node0",
            "10.77.0.2 node1",
        ]
        links.limit("100mbit")
        shown = subprocess.run(
            ["tc", "-n", links.name(0), "qdisc", "show", "dev", "eth0"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "tbf" in shown
        assert "100Mbit" in shown
        links.limit("unlimited")
        links.limit("unlimited")  # nothing to remove is no mistake
        before = links.counters(0), links.counters(1)
        sent = 300_000
        receive(links, 1, sent)
        difference = [links.counters(k).since(before[k]) for k in (0, 1)]
        # within ARP, the opening of a connection, and a segment that a busy machine
        # sends twice: what is promised of counters is 2 %
        assert abs(difference[0].sent_payload() - sent) < 0.02 * sent
        assert abs(difference[1].received_payload() - sent) < 0.02 * sent
        assert abs(difference[1].sent_payload()) < 200
    assert made_by(os.getpid()) == []
    assert not any((namespaces.HOSTS / name).exists() for name in names)


def receive(links, node, count):
    """Sends bytes from the other node to one by a plain socket."""
    address = links.address(node)
    server = (
        "import socket, sys\n"
        f"with socket.create_server(({address!r}, 9)) as listening:\n"
        "    print('ready', flush=True)\n"
        "    stream, _ = listening.accept()\n"
        "    while stream.recv(65536): pass\n"
    )
    client = (
        "import socket\n"
        f"with socket.create_connection(({address!r}, 9)) as stream:\n"
        f"    stream.sendall(bytes({count}))\n"
    )
    listening = subprocess.Popen(
        links.command(node, sys.executable, "-c", server), stdout=subprocess.PIPE
    )
    try:
        assert listening.stdout.readline() == b"ready\n"
        subprocess.run(
            links.command(1 - node, sys.executable, "-c", client),
            check=True,
            timeout=30,
        )
        assert listening.wait(30) == 0
    finally:
        listening.kill()
        listening.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_removes_its_namespaces(number):
    with running(["-c", MAKES_AND_WAITS]) as process:
        assert process.stdout.readline() == "made\n"
        assert len(made_by(process.pid)) == 3
        process.send_signal(number)
        process.wait(30)
        assert made_by(process.pid) == []


def test_what_a_killed_run_left_is_swept_and_nothing_else():
    with running(["-c", MAKES_AND_WAITS]) as process, network_links.Links(2) as links:
        assert process.stdout.readline() == "made\n"
        left = made_by(process.pid)
        inside = subprocess.Popen(
            ["ip", "netns", "exec", left[0], "sleep", "60"], stdin=subprocess.DEVNULL
        )
        try:
            assert not set(namespaces.sweep()) & set(left), "it still runs"
            process.kill()
            process.wait()
            deadline = time.monotonic() + 10
            while "sleep" not in in_namespace(left[0]) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert set(left) <= set(namespaces.sweep())
            assert inside.wait(10) == -signal.SIGKILL
        finally:
            inside.kill()
            inside.wait()
        assert made_by(process.pid) == []
        assert len(made_by(os.getpid())) == 3, "the sweep took what is in use"
        assert links.counters(0)


def test_checking_leaves_what_is_in_use():
    with network_links.Links(2) as links:
        namespaces.check_possible()
        assert len(made_by(os.getpid())) == 3
        assert links.counters(1)


def in_namespace(name):
    """The names of the processes in a namespace."""
    pids = subprocess.run(
        ["ip", "netns", "pids", name], capture_output=True, text=True, check=True
    ).stdout.split()
    return [pathlib.Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids]


def test_a_worker_that_fails_is_reported_with_its_output():
    with network_links.Links(2) as links:
        module = "tests.experiments.no_such_module"
        with (
            processes.Fleet(links, module) as fleet,
            pytest.raises(processes.WorkerFailed, match=r"(?s)node [01].*no_such"),
        ):
            fleet.ask("anything", timeout=30)
        assert in_namespace(links.name(0)) == []


def test_a_whole_run_counts_what_traffic_says(tmp_path):
    """Two nodes, small vectors: exact and quantized bytes within 2 %."""
    flags = ["--nodes=2", "--bits=4", "--collective=auto", "--rates=1gbit,100mbit"]
    flags += ["--sizes=65536", "--most_rounds=2", "--nogan", "--nopeers"]
    program = ["-m", "experiments.benchmarks.network", f"--output={tmp_path}"]
    with running(program, *flags) as process:
        printed = process.stdout.read()
        assert process.wait(120) == 0, printed
        assert made_by(process.pid) == []
    with (tmp_path / "network_exchange.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [(row["rate"], row["bits"], row["collective"]) for row in rows]
    assert found == [
        (rate, bits, collective)
        for rate in ("1gbit", "100mbit")
        for bits, collective in (
            ("exact", "exact"),
            ("bf16", "bf16"),
            ("4", "all_gather"),  # what "auto" is for two workers
        )
    ]
    for row in rows:
        # 65,536 coordinates by a ring of two: all bytes once; 4 bits and 64 norms
        expected = {"exact": 262_144, "bf16": 131_072, "4": 32_768 + 64 * 4}
        assert int(row["sent bytes"]) == expected[row["bits"]]
        if row["bits"] != "bf16":  # XLA sends as it likes on a CPU
            assert abs(float(row["counted / sent"]) - 1) < 0.02, row
        parts = [row[f"seconds {part}"] for part in ("encode", "wire", "decode")]
        if row["bits"] == "4":
            assert all(float(part) > 0 for part in parts)
        else:
            assert parts == ["", "", ""]
    assert "compression pays below" in printed
    assert (tmp_path / "network_break_even.csv").exists()
    assert (tmp_path / "network_exchange.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_peers_send_what_their_hooks_say(tmp_path):
    flags = ["--nodes=2", "--bits=8", "--collective=auto", "--rates=1gbit"]
    flags += ["--sizes=65536", "--most_rounds=2", "--nogan"]
    program = ["-m", "experiments.benchmarks.network", f"--output={tmp_path}"]
    with running(program, *flags) as process:
        printed = process.stdout.read()
        assert process.wait(200) == 0, printed
    with (tmp_path / "network_exchange.csv").open(newline="") as file:
        rows = {row["collective"]: row for row in csv.DictReader(file)}
    for hook, sent in (("no hook", 262_144), ("fp16 hook", 131_072)):
        row = rows[f"DDP, {hook}"]
        assert int(row["sent bytes"]) == sent
        assert abs(float(row["counted / sent"]) - 1) < 0.02, row
    # rank 1 of a matrix of 64 x 1024: two vectors, of 64 and of 1024 numbers
    counted = rows["DDP, PowerSGD"]
    assert 4_352 <= int(counted["sent bytes"]) < 8_000
