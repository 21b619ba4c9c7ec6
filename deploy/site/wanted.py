"""What does this package depend on? `python3 wanted.py EXTRA…` prints it line by line, while an image is built."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def wanted(extras: list[str]) -> list[str]:
    """The requirements in ./pyproject.toml, with those of the extras."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]


if __name__ == "__main__":
    print("\n".join(wanted([extra for text in sys.argv[1:] for extra in text.split(",")])))
