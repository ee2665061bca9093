"""Codes as streams of fewer bits, on the host: to measure, and to store.

The files, each importing only from those before it:

- `prefix_codes`: canonical Huffman codes, Elias gamma and omega codes, as tables
- `bitstream`: bit strings to bytes, and tables that read many places at once
- `streams`: codes to checked streams and back

`Quantizer.records(payload)` gives the codes. All is NumPy; lengths are in bits.
"""

from qgenx_jax.entropy.prefix_codes import elias_gamma as elias_gamma
from qgenx_jax.entropy.prefix_codes import elias_omega as elias_omega
from qgenx_jax.entropy.prefix_codes import huffman_lengths as huffman_lengths
from qgenx_jax.entropy.streams import body_bits as body_bits
from qgenx_jax.entropy.streams import decode as decode
from qgenx_jax.entropy.streams import encode as encode
