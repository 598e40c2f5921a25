"""The command line: reads arguments, calls one function of the library, prints.

This file is all that is imported before `main` runs, so that Ctrl-C at any later moment is answered in one line.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import Any

PLAIN = {"→": "->", "–": "-", "—": "-", "−": "-", "×": "x", "≤": "<=", "≥": ">=", "…": "..."}
"""What is printed of letters that a terminal cannot show; a question mark for the others."""


def main() -> None:
    """Entry point: exit code 0, 1 for a failure, 2 for bad usage, 130 for Ctrl-C, 143 for SIGTERM; errors are one line.

    A reader that goes away (`deeplinear learn | head -1`) is a failure that nothing is said of.
    """
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # ignored: started in the background
                signal.signal(number, _stop)
        _open_streams()
        code = _exit_code(sys.argv[1:])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BrokenPipeError:
        code = 1
    except OSError as error:  # a disk that is full, behind the standard output
        code = _complain(error, 1)
    except KeyboardInterrupt:
        code = _complain("interrupted", 128 + signal.SIGINT)
    _leave(code)


def _stop(number: int, frame: Any) -> None:
    """Ends the process at once: an exception would pass through callbacks and imports of others, which swallow it.

    (While a flow runs, Ctrl-C is its own: it ends the run and keeps what there is.)
    """
    give_up = getattr(sys.modules.get("deeplinear._files"), "give_up", None)
    if give_up is not None:
        give_up()
    try:
        os.write(2, b"deeplinear: interrupted\n")
    finally:
        os._exit(128 + number)


def _exit_code(arguments: list[str]) -> int:
    from .application import exit_code

    return exit_code(arguments, _complain)


def _complain(error: Any, code: int) -> int:
    with suppress(OSError):  # nobody reads the errors either
        print(f"deeplinear: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _open_streams() -> None:
    """Streams that are closed lead nowhere, and no letter is more than they can show."""
    import codecs

    def plainly(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return "".join(PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end

    codecs.register_error("deeplinear", plainly)
    for number in range(3):  # otherwise the next file that is opened would get the number of the closed stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin, sys.stdout, sys.stderr = (
        open(os.devnull, mode) if stream is None else stream  # noqa: SIM115
        for stream, mode in ((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w"))
    )
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="deeplinear")


def _leave(code: int) -> None:
    """Ends the process; what cannot be printed any more is dropped without a word."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1 if stream is sys.stdout else 2)
    sys.exit(code)
