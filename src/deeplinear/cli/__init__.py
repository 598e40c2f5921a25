"""The command line: reads arguments, calls one function of the library, prints.

This file is all that is imported before `main` runs, so that Ctrl-C at any later moment is answered in one line.
"""

import os
import signal
import sys
from typing import Any

PLAIN = {"→": "->", "–": "-", "—": "-", "−": "-", "×": "x", "≤": "<=", "≥": ">=", "…": "..."}
"""What is printed of letters that a terminal cannot show; a question mark for the others."""


def main() -> None:
    """Entry point: exit code 0, 1 for a failure, 2 for bad usage, 130 for Ctrl-C, 143 for SIGTERM; errors are one line.

    A reader that goes away (`deeplinear learn | head -1`) is a failure that nothing is said of.
    """
    stopped: list[int] = []

    def stop(number: int, frame: Any) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    def again(lost: Any) -> None:
        """A callback of the interpreter or of JAX swallowed it: said again as soon as ordinary code runs."""
        if not (stopped and issubclass(lost.exc_type, KeyboardInterrupt)):
            return sys.__unraisablehook__(lost)
        import threading

        threading.Timer(0.02, os.kill, (os.getpid(), stopped[0])).start()

    code, sys.unraisablehook = 1, again
    try:
        for name in ("SIGINT", "SIGTERM"):
            if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:  # ignored: started in the background
                signal.signal(getattr(signal, name), stop)
        _open_streams()
        code = _exit_code(sys.argv[1:])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BrokenPipeError:
        code = 1
    except OSError as error:  # a disk that is full, behind the standard output
        code = _complain(error, 1)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # an import that Ctrl-C stops raises anything
        if not stopped:
            raise
        code = _complain("interrupted", 128 + stopped[0])
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _leave(code)


def _exit_code(arguments: list[str]) -> int:
    from .application import exit_code

    return exit_code(arguments, _complain)


def _complain(error: Any, code: int) -> int:
    try:
        print(f"deeplinear: {' '.join(str(error).split())}", file=sys.stderr)
    except OSError:  # nobody reads the errors either
        pass
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
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="deeplinear")


def _leave(code: int) -> None:
    """Ends the process; what cannot be printed any more is dropped without a word."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1 if stream is sys.stdout else 2)
    sys.exit(code)
