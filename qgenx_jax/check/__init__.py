"""Whether an exchange does on your own mesh what it is to, and what it is worth there.

    python -m qgenx_jax.check [--mesh=data:4] [--quantizer=best:4] [--link]

The files, each importing only from those before it:

- `verdicts`: what measured errors, bytes and seconds say
- `report`: verdicts and times, as a text to paste into an issue
- `trials`: exchanges run on a mesh, of vectors made for it
- `clock`: how long exchanges take there, and what connects its devices
- `exchanges`: all checks of one exchange
- `__main__`: the same from the command line
"""

from qgenx_jax.check.clock import measure_link as measure_link
from qgenx_jax.check.report import Report as Report
from qgenx_jax.check.verdicts import Verdict as Verdict
