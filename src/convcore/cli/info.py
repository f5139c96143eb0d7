"""``convcore info``: the machine as convcore sees it."""

from __future__ import annotations

import argparse

from convcore.cli.terminal import print_json
from convcore.config import show_config

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the configuration."""
    if args.json:
        print_json(show_config("dicts"))
    else:
        show_config()
    return 0
