"""The command ``convcore``: one module per verb.

Results go to stdout or to files that are written whole or not at all; progress and messages go to
stderr. The exit code is 0 only when everything asked for was done, 2 for a wrong call, 1 for a run
that failed, 130 after Ctrl-C, and 143 after SIGTERM, which cleans up as Ctrl-C does.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import NoReturn

from convcore.errors import ConvcoreError, ConvcoreWarning, printable

__all__ = ["main"]

#: Verb and its line in ``convcore --help``. A verb's module is imported only when it is called, so
#: that help needs neither NumPy nor the compiled library.
VERBS = {
    "demo": "run the main job on shipped models and a generated CT phantom (no network, under 20 s)",
    "predict": "classify pictures, class folders, .npy arrays or .csv rows",
    "ct": "mask the lungs of a CT series, or score places in it",
    "inspect": "show a model file's layers, shapes, parameters and FLOPs",
    "study": "look inside every layer of a network on one input, or run the article's chapters",
    "verify": "compare every layer of a model with Keras or the reference",
    "bench": "measure the machine's roofline, networks and kernels, and other libraries beside them",
    "info": "show the CPU, the instruction set chosen, the GPU, threads and versions",
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
    _replace_closed_streams()
    with _clean_exit_on_sigterm():
        code = _run(_with_places_joined(sys.argv[1:] if argv is None else argv))
    # Here and not at exit: a full disk or a closed pipe must still change the exit code.
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_stdout()
        if not code and not isinstance(error, BrokenPipeError):
            _say("convcore", printable(str(error), 400))
        return code or 1
    return code


def _run(words: Sequence[str]) -> int:
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
            return int(args.run(args))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except UsageError as error:
        return _fail(verb, str(error), 2)
    except ConvcoreError as error:
        return _fail(verb, str(error), 1)
    except BrokenPipeError:
        # The reader (head, a pager) has seen enough: nobody is left to be told.
        _drop_stdout()
        return 1
    except KeyboardInterrupt:
        return _fail(verb, "interrupted", 130)
    except MemoryError:
        return _fail(verb, "not enough memory; fewer inputs or a smaller --batch-size may help", 1)
    except OSError as error:
        return _fail(verb, printable(str(error), 400), 1)


def _with_places_joined(words: Sequence[str]) -> list[str]:
    """Turn ``--at -60mm,39mm,-116mm`` into ``--at=-60mm,39mm,-116mm``.

    argparse takes a word that starts with a minus for an option, unless it is a plain number.
    """
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--at" and re.match(r"-[\d.]", word):
            joined[-1] = f"--at={word}"
        else:
            joined.append(word)
    return joined


@contextlib.contextmanager
def _clean_exit_on_sigterm() -> Iterator[None]:
    """Make SIGTERM unwind the stack, so that half-written results are removed: exit code 143.

    A handler that the caller of :func:`main` has set stays in force.
    """

    def stop(*_: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    # Python allows handlers in the main thread alone.
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _ClosedStdout(io.TextIOBase):
    """Stands in for a stdout that was closed before the start (``>&-``): to write to it is an error."""

    def write(self, text: str, /) -> int:
        raise OSError("stdout is closed")


def _replace_closed_streams() -> None:
    """Put something in the place of streams that the caller has closed: Python sets them to None.

    Their descriptors are taken as well, or the next file to be opened would become stdout to C code.
    """
    if sys.stdout is None:
        os.open(os.devnull, os.O_WRONLY)
        sys.stdout = _ClosedStdout()
    if sys.stderr is None:
        # print(file=None) would put messages among the results.
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def _drop_stdout() -> None:
    """Send what stdout still holds nowhere: Python flushes at exit, and would complain once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    # Nobody is left to be told where stderr is a closed pipe; the exit code still tells.
    with contextlib.suppress(OSError):
        print(f"{verb}: {message}", file=sys.stderr)
