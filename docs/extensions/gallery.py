"""Examples that are run when the site is built: text, figure, code, and what it prints.

They run by `python -m experiments.examples NAME --output=FOLDER`, each in a process of
its own, two at a time, and again only where the example or the library has changed.
"""

import concurrent.futures
import hashlib
import inspect
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from docs.extensions.docstrings import converted

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "examples"
SHOWN = re.compile(r"^\.\. example:: (\w+)$", re.MULTILINE)


def shown(docs: pathlib.Path) -> list[str]:
    """The examples that pages show."""
    pages = sorted(docs.rglob("*.md"))
    return [name for page in pages for name in SHOWN.findall(page.read_text())]


def place_of(name: str, doctrees: pathlib.Path) -> pathlib.Path:
    """Where an example's output lies; another folder after any change."""
    digest = hashlib.sha256((FOLDER / f"{name}.py").read_bytes())
    common = ROOT / "experiments" / "common"
    for folder in (ROOT / "qgenx_jax", common):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    digest.update((FOLDER / "__main__.py").read_bytes())
    return doctrees / "examples" / f"{name}-{digest.hexdigest()[:16]}"


def run(name: str, folder: pathlib.Path) -> None:
    """Runs one, unless it has been run.

    Raises:
        RuntimeError: if it fails, with what it says.
    """
    if (folder / f"{name}.txt").exists():
        return
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    program = [sys.executable, "-m", "experiments.examples", name, f"--output={folder}"]
    done = subprocess.run(
        program,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the example {name} failed:\n{done.stderr[-4000:]}")


def _run_all(app: Any) -> None:
    doctrees = pathlib.Path(app.doctreedir)
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        started = [
            pool.submit(run, name, place_of(name, doctrees))
            for name in shown(pathlib.Path(app.srcdir))
        ]
    for each in started:
        each.result()


class Example(Directive):
    """`.. example:: NAME`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes."""
        name = self.arguments[0]
        env = self.state.document.settings.env
        source = FOLDER / f"{name}.py"
        env.note_dependency(str(source))
        folder = place_of(name, pathlib.Path(env.app.doctreedir))
        text = source.read_text()
        _, docstring, code = text.split('"""', 2)
        lines = converted(inspect.cleandoc(docstring).splitlines())
        container = nodes.container()
        container.document = self.state.document
        self.state.nested_parse(StringList(lines, source=name), 0, container)
        found: list[nodes.Node] = list(container.children)
        figure = folder / f"{name}.png"
        if figure.exists():
            uri = os.path.relpath(
                figure, pathlib.Path(env.doc2path(env.docname)).parent
            )
            found.append(nodes.image(uri=uri, alt=f"What {name} draws"))
        found.append(nodes.literal_block(code.strip(), code.strip(), language="python"))
        printed = (folder / f"{name}.txt").read_text().rstrip()
        output = nodes.container(classes=["example-output"])
        output += nodes.literal_block(printed, printed, language="text")
        return [*found, nodes.paragraph("", "It prints:"), output]


def setup(app: Any) -> dict[str, bool]:
    """The directive, and the runs before pages are read."""
    app.add_directive("example", Example)
    app.connect("builder-inited", _run_all)
    return {"parallel_read_safe": True}
