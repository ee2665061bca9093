"""FID and Inception Score, by torch-fidelity's own protocol.

Its network's weights are taken from a file, or fetched by torch-fidelity itself where
that is allowed. PyTorch and torch-fidelity come with ``qgenx_jax[fid]``.
"""

import contextlib
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 50_000
"""Pictures of each kind in a number that a paper prints."""

NETWORK = "inception-v3-compat"


def inception_scores(
    samples: np.ndarray,
    real: np.ndarray,
    *,
    weights: str = "",
    download: bool = False,
    seed: int = 2020,
) -> dict[str, float]:
    """The Frechet Inception Distance of samples from real pictures, and their IS.

    What torch-fidelity's command prints for the same pictures in files:
    ``fidelity --fid --isc --input1=SAMPLES --input2=REAL``.

    Args:
        samples: uint8 (n, h, w, 3), truncated from floats as `to_bytes` does.
        real: uint8 (m, h, w, 3).
        weights: path of the network's weights, as torch-fidelity distributes them.
        download: lets torch-fidelity fetch them, where no path is given.
        seed: of the order of samples in the splits of the Inception Score;
            torch-fidelity's own default.

    Returns:
        ``fid``; ``isc`` and ``isc_error``, its mean and deviation over ten splits.

    Raises:
        ImportError: if torch-fidelity or PyTorch is missing.
        ValueError: if pictures are not such, or there are no weights to be had.
    """
    for name, pictures in (("samples", samples), ("real", real)):
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
            raise ValueError(
                f"{name} must be uint8 (n, h, w, 3), got {pictures.dtype} "
                f"{pictures.shape}; take floats through data.pictures.to_bytes"
            )
        if len(pictures) < 2:
            raise ValueError(
                f"{name} must be at least 2 pictures, got {len(pictures)}; take "
                f"{SAMPLES:,} for a number that can be compared"
            )
    check_weights(weights, download=download)
    fidelity, torch = packages()
    # torch-fidelity tells of its progress on both streams
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            values = fidelity.calculate_metrics(
                input1=_dataset(samples, torch),
                input2=_dataset(real, torch),
                fid=True,
                isc=True,
                isc_splits=min(10, len(samples)),
                rng_seed=seed,
                cuda=torch.cuda.is_available(),
                feature_extractor=NETWORK,
                feature_extractor_weights_path=weights or None,
                cache=False,
                save_cpu_ram=True,  # no forks of a process that runs JAX
                verbose=False,
            )
        except (RuntimeError, KeyError, OSError, EOFError) as error:
            what = " ".join(str(error).split())[:200]
            raise ValueError(
                f"fid_weights must be those of {NETWORK}, got {weights!r}, which "
                f"torch-fidelity cannot use ({type(error).__name__}: {what}); fetch "
                "them anew"
            ) from error
    return {
        "fid": float(values["frechet_inception_distance"]),
        "isc": float(values["inception_score_mean"]),
        "isc_error": float(values["inception_score_std"]),
    }


def check_weights(weights: str, *, download: bool) -> None:
    """Checks that there are weights to be had.

    Raises:
        ValueError: if not.
    """
    if not weights and not download:
        raise ValueError(
            "fid_weights must name the file of the Inception network, got none; pass "
            "--fid_weights=PATH, or --fid_download to let torch-fidelity fetch it"
        )
    if weights and not Path(weights).is_file():
        raise ValueError(
            f"fid_weights must name a file, got {weights!r}; pass the one that "
            "torch-fidelity distributes, or --fid_download"
        )


def packages() -> tuple[Any, Any]:
    """torch-fidelity and PyTorch.

    Raises:
        ImportError: if one is missing, or does not fit the other.
    """
    try:
        return importlib.import_module("torch_fidelity"), importlib.import_module(
            "torch"
        )
    # a torchvision that does not fit its PyTorch fails in ways of its own
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            f"fid and isc need torch-fidelity ({error}); pip install 'qgenx_jax[fid]', "
            "or leave them out of the scores"
        ) from error


def _dataset(pictures: np.ndarray, torch: Any) -> Any:
    """Pictures as torch-fidelity takes them: uint8 tensors (3, h, w) by number."""

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, index: int) -> Any:
            picture = pictures[index].transpose(2, 0, 1)
            return torch.from_numpy(np.ascontiguousarray(picture))

    return Pictures()
