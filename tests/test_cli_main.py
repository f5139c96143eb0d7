"""The command itself: help, exit codes, what goes where."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import convcore
from convcore import cli, data
from convcore.cli.terminal import plain, print_table, progress
from convcore.errors import ConvcoreWarning, InputError

RUN = "import sys; from convcore.cli import main; sys.exit(main())"


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from convcore.cli import main; main(['--help']); "
        "heavy = {'numpy', 'h5py', 'cv2', 'pydicom', 'rich', 'tqdm', 'keras'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"    {verb} " in done.stdout for verb in cli.VERBS)


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_command_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    assert f"convcore {verb}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"convcore {convcore.__version__}\n"


@pytest.mark.parametrize("words", [[], ["nonsense"], ["predict"], ["info", "--nonsense"]])
def test_a_wrong_call_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and "usage: convcore" in err


def run_raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    from convcore.cli import info

    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr(info, "run", fail)
    return cli.main(["info"])


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("a.csv", "is empty"), 1, "convcore info: a.csv: is empty"),
        (cli.UsageError("say --at"), 2, "convcore info: say --at"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "out.csv"), 1, "No space left on device: 'out.csv'"),
        (
            InputError("s", "gap", remedy="Or pass allow_gaps=True to fill it."),
            1,
            "Or say --allow-gaps to fill",
        ),
    ],
)
def test_a_failed_run_says_why_on_stderr(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_raising(error, monkeypatch) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err and "Traceback" not in err


def test_warnings_are_messages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from convcore.cli import info

    def warn(args: object) -> int:
        warnings.warn("taken as stored; say kernel_flip=True", ConvcoreWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(info, "run", warn)
    assert cli.main(["info"]) == 0
    assert capsys.readouterr().err == "convcore info: taken as stored; say --kernel-flip yes\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    command = [sys.executable, "-c", RUN, "info"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def run_in_shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run `line` by a shell, CONVCORE standing for the command."""
    if os.name != "posix":
        pytest.skip("the redirections are those of a POSIX shell")
    command = shlex.join([sys.executable, "-c", RUN])
    return subprocess.run(
        ["sh", "-c", line.replace("CONVCORE", command)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def prediction(tmp_path: Path) -> str:
    """A call of predict that prints more rows than a pipe's buffer holds."""
    table = tmp_path / "rows.csv"
    table.write_text((",".join(["0.25"] * 60) + "\n") * 8000)
    return shlex.join(["predict", str(data.path("sonar.keras")), str(table)])


def test_a_closed_stdout_is_one_line(prediction: str) -> None:
    done = run_in_shell("CONVCORE info >&-")
    assert (done.returncode, done.stderr) == (1, "convcore info: stdout is closed\n")
    done = run_in_shell(f"CONVCORE {prediction} >&-")
    assert (done.returncode, done.stderr) == (1, "convcore predict: stdout is closed\n")


def test_the_first_line_of_many_is_no_traceback(prediction: str) -> None:
    done = run_in_shell(f"(CONVCORE {prediction}; echo $? >&2) | head -1")
    assert (done.stdout, done.stderr) == ("input  class  probability\n", "1\n")


def test_messages_do_not_move_to_stdout_where_stderr_is_closed() -> None:
    done = run_in_shell("CONVCORE predict missing.h5 missing.csv 2>&-")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("words", ["--help", "info", "predict missing.h5 missing.csv"])
def test_a_reader_that_has_seen_enough_is_no_traceback(words: str) -> None:
    # The command starts to write only when the reader has gone.
    assert run_in_shell(f"(sleep 0.3; CONVCORE {words} 2>/dev/stderr) | true").stderr.count("\n") <= 1
    assert run_in_shell(f"(sleep 0.3; CONVCORE {words} 2>&1; echo $? >&2) | true").stderr in ("1\n", "0\n")


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    done = run_in_shell("CONVCORE info >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "convcore info: [Errno 28] No space left on device\n"


def test_sigterm_unwinds_and_the_handler_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from convcore.cli import info

    unwound = []

    def stopped(args: object) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
            return 0
        finally:
            unwound.append(True)

    monkeypatch.setattr(info, "run", stopped)
    assert cli.main(["info"]) == 143
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    assert "instruction set" in capsys.readouterr().out
    assert cli.main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["instruction_set"] in found["instruction_sets"]
    assert found["threads"] >= 1
    assert found["packages"]["numpy"] == np.__version__


def test_plain_tables_are_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "n"], [["a[red]", 5], ["long name", None]], title="T")
    assert capsys.readouterr().out == "T\nname       n\na[red]     5\nlong name\n"


def test_tables_on_a_terminal_keep_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(["name", "n"], [["a[red]", 5]], title="T")
    out = capsys.readouterr().out
    assert "a[red]" in out and "─" in out


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), 3, "x")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_json_has_no_nan() -> None:
    value = {"a": np.array([1.0, np.inf]), "b": (np.float32("nan"), np.int8(3)), "c": {1: True}}
    assert plain(value) == {"a": [1.0, None], "b": [None, 3], "c": {"1": True}}


def test_the_current_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["info"]) == 0
    assert list(tmp_path.iterdir()) == []
