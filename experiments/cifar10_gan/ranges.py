"""Ranges of a configuration's numbers, by field."""

AT_LEAST = {
    "seed": 0,
    "workers": 1,
    "processes": 1,
    "wait_seconds": 1,
    "timeout": 2,
    "iterations": 1,
    "batch_size": 1,
    "global_batch": 0,
    "width": 1,
    "latent": 1,
    "bucket_size": 1,
    "decay_iterations": 1,
    "n_critic": 1,
    "leak": 0,
    "penalty_weight": 0,
    "weight_decay": 0,
    "log_every": 1,
    "score_every": 1,
    "score_samples": 2,
    "checkpoint_every": 1,
    "keep_checkpoints": 1,
    "check_replicas_every": 0,
}
"""The least value of each."""

POSITIVE = (
    "init_deviation",
    "learning_rate_generator",
    "learning_rate_discriminator",
    "gamma0_generator",
    "gamma0_discriminator",
    "initial_sum",
)
"""Those that must be above 0 and finite."""
