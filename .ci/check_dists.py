"""The wheel holds the library and nothing else; the sdist also its tests and papers.

python .ci/check_dists.py dist
"""

import pathlib
import sys
import tarfile
import zipfile

LIBRARY = "qgenx_jax"
PAPERS = {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml"}
PAPERS |= {"CITATION.cff", "SECURITY.md"}


def files_below(folder: str) -> set[str]:
    """The files of the tree's folder that belong to it."""
    found = pathlib.Path(folder).rglob("*")
    files = {path for path in found if path.is_file() and path.suffix != ".pyc"}
    return {path.as_posix() for path in files}


def only(folder: pathlib.Path, pattern: str) -> pathlib.Path:
    """The one file of a name."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder} must have one {pattern}, got {found}")
    return found[0]


def main() -> None:
    """Compares both with the tree that it is run in."""
    folder = pathlib.Path(sys.argv[1])
    library = files_below(LIBRARY)
    assert f"{LIBRARY}/py.typed" in library
    with zipfile.ZipFile(only(folder, "*.whl")) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licenses = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    if held != library or len(licenses) != 1:
        differs = sorted(held ^ library)
        raise SystemExit(f"the wheel must be {LIBRARY} and its license, not {differs}")
    sdist = only(folder, "*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = [member.name for member in archive.getmembers() if member.isfile()]
    names = {name.partition("/")[2] for name in members}
    wanted = library | files_below("tests") | files_below("docs") | PAPERS
    missing = sorted(wanted - names)
    known = {LIBRARY, "tests", "experiments", "docs", ".ci", ".github"}
    folders = {name.partition("/")[0] for name in names if "/" in name}
    strange = sorted(folders - known)
    if missing or strange:
        raise SystemExit(f"the sdist lacks {missing}, and should not have {strange}")
    print(f"wheel: {len(held)} files; sdist: {len(names)} files, the library's and")
    print(f"{len(files_below('tests'))} of the tests among them")


if __name__ == "__main__":
    main()
