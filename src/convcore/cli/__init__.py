"""The command ``convcore``: one module per verb.

Results go to stdout or to files that are written whole or not at all; progress and messages go to
stderr. The exit code is 0 only when everything asked for was done, 2 for a wrong call, 1 for a run
that failed, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from convcore.errors import ConvcoreError, ConvcoreWarning, printable

__all__ = ["main"]

#: Verb and its line in ``convcore --help``. A verb's module is imported only when it is called, so
#: that help needs neither NumPy nor the compiled library.
VERBS = {
    "demo": "run the main job on shipped models and a generated CT phantom (no network, under 20 s)",
    "predict": "classify pictures, class folders, .npy arrays or .csv rows",
    "ct": "mask the lungs of a CT series, or score places in it",
    "inspect": "show a model file's layers, shapes, parameters and FLOPs",
    "verify": "compare every layer of a model with Keras or the reference",
    "info": "show the CPU, the instruction set chosen, threads and versions",
}

#: Messages are written for people who call Python; here is what those words are called on this side.
_IN_OTHER_WORDS = {
    "kernel_flip=True": "--kernel-flip yes",
    "kernel_flip=False": "--kernel-flip no",
    "as weights=": "with --weights",
    "as architecture=": "as the model, and this file with --weights",
    "pass allow_gaps=True": "say --allow-gaps",
    "series_uid= (on the command line --series)": "--series",
}


class UsageError(Exception):
    """The call itself is wrong, in a way that argparse cannot see: exit code 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv
        The words after ``convcore``; None takes them from the command line.

    Examples
    --------
    >>> main(["--version"]) # doctest: +ELLIPSIS
    convcore ...
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    verb = "convcore"
    try:
        args = _parser(words).parse_args(words)
        verb = f"convcore {args.verb}"
        with warnings.catch_warnings():
            # As a message for people: Python's own form shows a line of source code.
            warnings.simplefilter("always", ConvcoreWarning)
            show = warnings.showwarning
            warnings.showwarning = lambda message, category, *rest, **more: (
                _say(verb, str(message))
                if issubclass(category, ConvcoreWarning)
                else show(message, category, *rest, **more)
            )
            code = int(args.run(args))
        # Here and not at exit: a full disk or a closed pipe must still change the exit code.
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except UsageError as error:
        return _fail(verb, str(error), 2)
    except ConvcoreError as error:
        return _fail(verb, str(error), 1)
    except BrokenPipeError:
        # The reader (head, a pager) has seen enough. Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail(verb, "interrupted", 130)
    except MemoryError:
        return _fail(verb, "not enough memory; fewer inputs or a smaller --batch-size may help", 1)
    except OSError as error:
        return _fail(verb, printable(str(error), 400), 1)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convcore",
        description="Runs Keras-trained networks on pictures, tables and CT series, without TensorFlow.",
        epilog="convcore COMMAND --help explains a command. Exit codes: 0 done, 1 failed, 2 wrong call.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    wanted = next((word for word in words if not word.startswith("-")), None)
    for verb, line in VERBS.items():
        command = commands.add_parser(verb, help=line, description=f"{line[0].upper()}{line[1:]}.")
        if verb == wanted:
            module = importlib.import_module(f"convcore.cli.{verb}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


class _Version(argparse.Action):
    """``--version``, looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from convcore import __version__

        print(f"convcore {__version__}")
        parser.exit()


def _fail(verb: str, message: str, code: int) -> int:
    _say(verb, message)
    return code


def _say(verb: str, message: str) -> None:
    for python, here in _IN_OTHER_WORDS.items():
        message = message.replace(python, here)
    print(f"{verb}: {message}", file=sys.stderr)
