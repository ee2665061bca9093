"""What a PyTorch user would pick for slow links: a worker of the network benchmark.

DistributedDataParallel over gloo, of a module that costs no compute: without a hook,
with the hook that sends float16, and with PowerSGD.
"""

# pyright: reportMissingImports=false
import datetime
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from experiments.benchmarks.network import processes

PORT = 1235
SIDE = 1024
HOOKS = ("no hook", "fp16 hook", "PowerSGD")


class Squares(torch.nn.Module):
    """Half the sum of squares of its parameters, matrices of at most SIDE x SIDE."""

    def __init__(self, coordinates: int) -> None:
        super().__init__()
        rows, width = max(coordinates // SIDE, 1), min(coordinates, SIDE)
        self.matrices = torch.nn.ParameterList(
            torch.nn.Parameter(torch.randn(min(SIDE, rows - start), width))
            for start in range(0, rows, SIDE)
        )

    def forward(self) -> torch.Tensor:
        """The loss: its gradient are the parameters."""
        halves = [0.5 * torch.sum(matrix * matrix) for matrix in self.matrices]
        return torch.stack(halves).sum()


class Worker:
    """What the parent may ask for."""

    def __init__(self) -> None:
        self.calls: dict[str, Callable[[], Any]] = {}

    def prepare(self, name: str, hook: str, coordinates: int, rank: int) -> int:
        """Makes a step, and the same without synchronization.

        Returns:
            Coordinates of the module.
        """
        torch.manual_seed(dist.get_rank())
        module = Squares(coordinates)
        # PowerSGD's collectives of several buckets overtake each other under gloo, in
        # another order in each process, and wait for ever: it gets one bucket
        whole = 4 * coordinates // 2**20 + 1 if hook == "PowerSGD" else None
        model = DistributedDataParallel(module, bucket_cap_mb=whole)
        if hook == "fp16 hook":
            model.register_comm_hook(None, default_hooks.fp16_compress_hook)
        if hook == "PowerSGD":
            state = powerSGD_hook.PowerSGDState(
                None, matrix_approximation_rank=rank, start_powerSGD_iter=2
            )
            model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)

        def step() -> None:
            model.zero_grad(set_to_none=True)
            model().backward()

        def alone() -> None:
            with model.no_sync():
                step()

        for _ in range(5):  # beyond what DDP and PowerSGD do only at first
            step()
        self.calls[name], self.calls[f"{name} compute"] = step, alone
        return sum(matrix.numel() for matrix in module.matrices)

    def run(self, name: str, times: int = 1) -> list[float]:
        """Seconds of each of some steps, that all processes begin together."""
        seconds = []
        for _ in range(times):
            dist.barrier()
            start = time.perf_counter()
            self.calls[name]()
            seconds.append(time.perf_counter() - start)
        return seconds

    def wait(self, times: int) -> None:
        """So many barriers alone."""
        for _ in range(times):
            dist.barrier()


def main() -> None:
    """Joins the other processes, and does the parent's jobs."""
    facts = json.loads(sys.argv[1])
    processes.settle(facts["host"])
    torch.set_num_threads(1)  # as torchrun sets it
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://{facts['address']}:{PORT}",
        rank=facts["node"],
        world_size=facts["nodes"],
        timeout=datetime.timedelta(seconds=120),
    )
    worker = Worker()
    processes.serve({"prepare": worker.prepare, "run": worker.run, "wait": worker.wait})


if __name__ == "__main__":
    main()
