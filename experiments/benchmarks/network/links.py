"""Network namespaces joined by links of a given rate, and the bytes that they carry.

    node 0 [eth0] --- [port0] \\
    node 1 [eth0] --- [port1] - bridge, in a namespace of its own
    node 2 [eth0] --- [port2] /

Each cable is a veth pair; a token bucket (tbf) at either end limits what a node sends,
and what it receives, as a network card of that rate would. Needs root and iproute2.
"""

import contextlib
import json
import subprocess
from typing import NamedTuple

from experiments.benchmarks.network.namespaces import HOSTS, Names, run

UNLIMITED = "unlimited"
INTERFACE = "eth0"

HEADER = 14 + 20 + 20 + 12
"""Bytes before the payload of a counted packet: Ethernet, IPv4, TCP, its timestamps.

A veth counts a packet as the kernel hands it over: with segmentation offload (GSO),
which a veth has and nobody undoes on the way, one "packet" is up to 64 kB of payload
behind a single header, and is counted with that header once. So bytes - HEADER *
packets is TCP's payload whether packets are split or not, and an acknowledgement, which
is a packet as well, counts 0. The token bucket knows better: it charges a packet for
the headers that each of its segments would have on a wire (the kernel's
qdisc_pkt_len_init), so a link of 1 Gbit/s carries 0.956 Gbit/s of payload, as a real
one does. Options other than timestamps, selective acknowledgements, are not subtracted.
"""

_UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


class Counters(NamedTuple):
    """What an interface has carried.

    Attributes:
        sent_bytes: with headers.
        sent_packets: acknowledgements, too.
        received_bytes: with headers.
        received_packets: acknowledgements, too.
    """

    sent_bytes: int
    sent_packets: int
    received_bytes: int
    received_packets: int

    def since(self, before: "Counters") -> "Counters":
        """The difference."""
        return Counters(*(a - b for a, b in zip(self, before, strict=True)))

    def sent_payload(self) -> int:
        """Without headers; see `HEADER`."""
        return self.sent_bytes - HEADER * self.sent_packets

    def received_payload(self) -> int:
        """Without headers."""
        return self.received_bytes - HEADER * self.received_packets


def bits_per_second(rate: str) -> float:
    """The number that a rate stands for; infinity for "unlimited".

    Raises:
        ValueError: if it is neither that nor a number of kbit, mbit or gbit.
    """
    if rate == UNLIMITED:
        return float("inf")
    with contextlib.suppress(KeyError, ValueError):
        value = float(rate[:-4]) * _UNITS[rate[-4:]]
        if 1e5 <= value < float("inf"):
            return value
    raise ValueError(
        f"rates must be numbers of kbit, mbit or gbit of at least 100kbit, or "
        f"{UNLIMITED}, got {rate!r}; pass for instance 100mbit,1gbit,{UNLIMITED}"
    )


def burst_bytes(rate: str) -> int:
    """The depth of a link's token bucket: 0.6 ms, at least two Ethernet frames.

    What a bucket holds passes at once, after each pause, so it must be little beside an
    exchange; and at 1 Gbit/s 0.6 ms are just enough for one packet of 64 kB, which a
    shallower bucket would make the kernel cut into frames, at the cost of a core.
    """
    return max(int(bits_per_second(rate) / 8 * 0.6e-3), 3200)


class Links:
    """Nodes joined by links; as a context manager, removed at its end.

    Attributes:
        nodes: how many.
    """

    def __init__(self, nodes: int) -> None:
        """Nothing is made yet.

        Raises:
            ValueError: for fewer than 2 nodes, or more than 100.
        """
        if not 2 <= nodes <= 100:
            raise ValueError(f"nodes must be in [2, 100], got {nodes}; 3 is usual")
        self.nodes = nodes
        self._names = Names()
        self._switch = self._names.of("switch")

    def __enter__(self) -> "Links":
        """Makes namespaces and cables.

        Raises:
            NotPossible: if a command fails; what was made until then is removed.
        """
        try:
            self._make()
        except BaseException:
            self._names.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Removes everything, and ends what runs inside."""
        self._names.close()

    def name(self, node: int) -> str:
        """Of a node's namespace."""
        return self._names.of(str(node))

    def address(self, node: int) -> str:
        """A node's own."""
        return f"10.77.0.{node + 1}"

    def host(self, node: int) -> str:
        """The name that a process on it is to go by: it resolves to the address."""
        return f"node{node}"

    def command(self, node: int, *command: str) -> list[str]:
        """The command line that runs a command on a node."""
        return ["ip", "netns", "exec", self.name(node), *command]

    def limit(self, rate: str) -> None:
        """Sets the rate of all links, in both directions."""
        bits_per_second(rate)
        for node in range(self.nodes):
            ends = [(self.name(node), INTERFACE), (self._switch, f"port{node}")]
            for name, interface in ends:
                where = ["dev", interface, "root"]
                if rate == UNLIMITED:
                    subprocess.run(  # there may be none to delete
                        ["tc", "-n", name, "qdisc", "del", *where],
                        capture_output=True,
                        check=False,
                    )
                    continue
                # 100 ms of queue: two senders to one port wait, and nothing is dropped
                bucket = ["burst", str(burst_bytes(rate)), "latency", "100ms"]
                shape = ["tbf", "rate", rate, *bucket]
                run("tc", "-n", name, "qdisc", "replace", *where, *shape)

    def counters(self, node: int) -> Counters:
        """What the node's interface has carried."""
        shown = run("ip", "-n", self.name(node), "-s", "-j", "link", "show", INTERFACE)
        stats = json.loads(shown)[0]["stats64"]
        sent, received = stats["tx"], stats["rx"]
        return Counters(
            sent["bytes"], sent["packets"], received["bytes"], received["packets"]
        )

    def _make(self) -> None:
        lines = ["127.0.0.1 localhost"] + [
            f"{self.address(node)} {self.host(node)}" for node in range(self.nodes)
        ]
        switch = self._switch
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "bridge0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "bridge0", "up")
        for node in range(self.nodes):
            name, port = self.name(node), f"port{node}"
            folder = HOSTS / name
            folder.mkdir(parents=True)
            (folder / "hosts").write_text("\n".join(lines) + "\n")
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", switch, "link", "add", port, "type", "veth",
                 "peer", "name", INTERFACE, "netns", name)  # fmt: skip
            run("ip", "-n", switch, "link", "set", port, "master", "bridge0", "up")
            address = f"{self.address(node)}/24"
            run("ip", "-n", name, "addr", "add", address, "dev", INTERFACE)
            run("ip", "-n", name, "link", "set", INTERFACE, "up")
            self._settle(node)

    def _settle(self, node: int) -> None:
        """Linux's usual congestion control, and nothing sent unasked by IPv6."""
        for file, value in (
            ("net/ipv4/tcp_congestion_control", "cubic"),
            ("net/ipv6/conf/all/disable_ipv6", "1"),
        ):
            script = f"echo {value} > /proc/sys/{file}"
            command = self.command(node, "sh", "-c", script)
            subprocess.run(command, capture_output=True, check=False)
