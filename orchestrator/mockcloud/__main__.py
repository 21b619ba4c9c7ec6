"""`python -m orchestrator.mockcloud CONFIG.json --folder DIR`: one cloud until a signal. The least way to start one.

The same without a file: `--cloud azure`. The full set of options is the command `orchestrator mock-cloud`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from pydantic import ValidationError

from orchestrator.mockcloud.config import CloudConfig
from orchestrator.mockcloud.profiles import names
from orchestrator.mockcloud.server import serve


def main() -> int:
    """Exit codes: 0 ended by a signal, 2 the configuration is wrong."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.mockcloud", description="A mock cloud over HTTP.")
    parser.add_argument("config", nargs="?", type=Path, help="JSON file with the cloud's configuration")
    parser.add_argument("--cloud", choices=names(), help="instead of a file: this cloud with its own defaults")
    parser.add_argument("--folder", type=Path, required=True, help="where connection.json and the journal go")
    parser.add_argument("--machines", choices=("ray", "process", "paper"), help="what clusters are made of")
    parser.add_argument("--without-ray", action="store_true", help="the same as --machines process")
    args = parser.parse_args()
    if (args.config is None) == (args.cloud is None):
        parser.error("give either a configuration file or --cloud")
    try:
        text = args.config.read_text() if args.config else CloudConfig(cloud=args.cloud).model_dump_json()
        config = CloudConfig.model_validate_json(text)
    except (OSError, ValidationError) as error:
        print(f"mock cloud: {args.config}: {error}", file=sys.stderr)
        return 2
    machines = "process" if args.without_ray else args.machines
    if machines:
        config = CloudConfig.model_validate({**config.model_dump(), "machines": machines})
    asyncio.run(serve(config, args.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
