"""Where is the server, and by what token may we speak to it? Called by clients that were not told.

In this order: what the caller says, ORCHESTRATOR_URL with ORCHESTRATOR_TOKEN, the files that `orchestrator serve`
wrote into ORCHESTRATOR_HOME (default ~/.orchestrator). The only file of the SDK that reads the environment.
Never follows a world-readable tokens file.
"""

from __future__ import annotations

import ipaddress
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.sdk.errors import NoServer, NoToken

START = "start one with `orchestrator serve`, or set ORCHESTRATOR_URL and ORCHESTRATOR_TOKEN"


@dataclass(frozen=True, slots=True)
class Address:
    """A server and the right to speak to it."""

    url: str
    token: str = field(repr=False)

    @property
    def here(self) -> bool:
        """Whether it is on this machine: no proxy is asked the way there, nor shown the token."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:  # a name
            return host == "localhost"


def find(url: str | None = None, token: str | None = None) -> Address:
    """The server to talk to. Raises NoServer, NoToken."""
    url = url or os.environ.get("ORCHESTRATOR_URL") or None
    token = token or os.environ.get("ORCHESTRATOR_TOKEN") or None
    if url:
        _check_url(url)
    if token and not (token.isascii() and token.isprintable()):
        raise NoToken("the token holds characters that no token has; copy it again from the server's tokens file")
    if url and token:
        return Address(url.rstrip("/"), token)
    home = home_folder()
    if url and not token:
        if url.rstrip("/") != _served(home):
            raise NoToken(f"no token for {url}; set ORCHESTRATOR_TOKEN")
        return Address(url.rstrip("/"), _own_token(home))
    served = _served(home)
    if served is None:
        raise NoServer(f"no server is running here ({home}/server.json is not there); {START}")
    return Address(served, token or _own_token(home))


def home_folder() -> Path:
    """Where a server on this machine keeps its ledger, tokens and address: ORCHESTRATOR_HOME."""
    return Path(os.environ.get("ORCHESTRATOR_HOME") or "~/.orchestrator").expanduser()


def project() -> str:
    """The project of commands that name none: ORCHESTRATOR_PROJECT, or `default`."""
    return os.environ.get("ORCHESTRATOR_PROJECT") or "default"


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:  # a port that is no number
        fits = False
    if not fits or not url.isprintable():
        raise NoServer(f"{url!r} is no address of a server; write it as http://127.0.0.1:7380")


def _served(home: Path) -> str | None:
    try:
        url = str(json.loads((home / "server.json").read_text())["url"]).rstrip("/")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoServer(f"{home}/server.json cannot be read: {error}; {START}") from error
    _check_url(url)
    return url


def _own_token(home: Path) -> str:
    file = home / "tokens.json"
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise NoToken(f"{file} may be read by others; `chmod 600 {file}` and change its tokens")
        return str(json.loads(file.read_text())["tokens"][0]["token"])
    except FileNotFoundError as error:
        raise NoToken(
            f"the server here keeps its tokens elsewhere ({file} is not there); set ORCHESTRATOR_TOKEN"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise NoToken(f"no token in {file}: {error}; set ORCHESTRATOR_TOKEN") from error
