"""The GAN program with one fault put in, by the variable FAULT: KIND@WHEN[:VALUE].

sleep@5:60    the data source sleeps 60 s before batch 5 of this process's life
data@5        it raises OSError for batch 5
raise@5       the loop raises before iteration 5
kill@5 stop@5 this process gets SIGKILL (SIGSTOP) before iteration 5
term@5:2      it gets SIGTERM twice, 0.3 s apart
flip@5:22     bit 22 of one weight of this process's copy changes before iteration 5
nan@5         that weight becomes NaN
save@5        writing checkpoint 5 fails, as on a full disk
"""

import os
import signal
import sys
import time

import numpy as np


def disturbed(training, change):
    """One weight of this process's copy is another one."""
    import jax

    leaves, treedef = jax.tree.flatten(training.params)
    index = max(range(len(leaves)), key=lambda i: leaves[i].size)
    leaf = leaves[index]
    shards = []
    for shard in leaf.addressable_shards:
        host = np.array(shard.data)
        change(host.reshape(-1))
        shards.append(jax.device_put(host, shard.device))
    leaves[index] = jax.make_array_from_single_device_arrays(
        leaf.shape, leaf.sharding, shards
    )
    return training._replace(params=jax.tree.unflatten(treedef, leaves))


def strike(kind, value, training):
    """Before a step; returns what it goes on with."""
    sys.stderr.write(f"FAULT {kind} at {time.time()}\n")
    sys.stderr.flush()
    if kind == "raise":
        raise RuntimeError("injected: uncaught on this rank")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "term":
        for _ in range(int(value or 1)):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
    if kind == "flip":

        def change(weights):
            weights.view(np.uint32)[3] ^= np.uint32(1 << int(value or 22))

        return disturbed(training, change)
    if kind == "nan":
        return disturbed(training, lambda weights: weights.__setitem__(3, np.nan))
    return training


def inject(fault):
    """Puts it in; the program's modules are imported already."""
    from experiments.cifar10_gan import checkpoints, run
    from experiments.cifar10_gan.data import batches

    kind, _, rest = fault.partition("@")
    at, _, value = rest.partition(":")
    if kind in ("sleep", "data"):
        inner, made = batches.Batches.__next__, []

        def patched(self):
            made.append(None)
            if len(made) == int(at):
                sys.stderr.write(f"FAULT {kind} at {time.time()}\n")
                if kind == "data":
                    raise OSError("injected: the disk with the pictures is gone")
                time.sleep(float(value or 3600))
            return inner(self)

        batches.Batches.__next__ = patched
        return
    if kind == "save":
        saves = checkpoints.Checkpoints.save

        def save(self, iteration, *rest):
            if iteration >= int(at):
                sys.stderr.write(f"FAULT save at {time.time()}\n")
                raise OSError(28, "No space left on device")
            return saves(self, iteration, *rest)

        checkpoints.Checkpoints.save = save
        return
    create = run.Run.__init__

    def created(self, config):
        create(self, config)
        inner = self.step

        def stepping(training, pictures, iteration, measured):
            if self.iteration == int(at):
                training = strike(kind, value, training)
            return inner(training, pictures, iteration, measured)

        self.step = stepping

    run.Run.__init__ = created


if __name__ == "__main__":
    import experiments.cifar10_gan.__main__  # noqa: F401  # its flags, once

    if "FAULT" in os.environ:
        inject(os.environ["FAULT"])
    sys.modules["experiments.cifar10_gan.__main__"].app.run(
        sys.modules["experiments.cifar10_gan.__main__"].main
    )
