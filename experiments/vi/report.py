"""One HTML file of a run, with its figures in it: nothing is loaded from elsewhere."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.tables import Row
from experiments.vi.lab import Result

STYLE = """body{font:15px/1.5 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}
img{max-width:100%}table{border-collapse:collapse;font-size:13px;margin:1em 0}
td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}
.holds{background:#dff2e1}.not{background:#f9dcdc}"""


def write(
    path: Path, results: Mapping[str, Result], pictures: Mapping[str, Path], about: str
) -> None:
    """Writes the report of the figures that were made.

    Args:
        path: of the file.
        results: by figure.
        pictures: by figure, PNG.
        about: the run: seeds, machine, versions, time.
    """
    claims = [claim.row for result in results.values() for claim in result.claims]
    held = sum(row["verdict"] == "holds" for row in claims)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>The VI laboratory</title><style>{STYLE}</style>",
        "<h1>The VI laboratory</h1>",
        f"<p>{html.escape(about)}</p>",
        f"<p>{held} of {len(claims)} claims hold.</p>",
    ]
    for name, result in results.items():
        picture = base64.b64encode(pictures[name].read_bytes()).decode()
        parts += [
            f"<h2 id='{name}'>{html.escape(name)}</h2>",
            *(f"<p>{html.escape(p)}</p>" for p in result.text.split("\n\n")),
            f"<img alt='{name}' src='data:image/png;base64,{picture}'>",
            table([claim.row for claim in result.claims]),
            table(result.table),
        ]
    path.write_text("\n".join([*parts, "</html>\n"]))


def table(rows: Sequence[Row]) -> str:
    """Rows as HTML; verdicts are coloured."""
    if not rows:
        return ""
    columns = list(rows[0])
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    lines = [f"<tr>{head}</tr>"]
    for row in rows:
        kind = {"holds": "holds", "does not": "not"}.get(row.get("verdict", ""), "")
        cells = "".join(f"<td>{html.escape(text(row[name]))}</td>" for name in columns)
        lines.append(f"<tr class='{kind}'>{cells}</tr>")
    return "<table>" + "\n".join(lines) + "</table>"


def text(value: Any) -> str:
    """A cell; floats with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
