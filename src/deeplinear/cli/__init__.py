"""The command line: reads arguments, calls one function of the library, prints. Help never waits for JAX."""

import sys
from typing import Any

from cyclopts import App, CycloptsError, UnknownOptionError, UnusedCliTokensError

from .. import __version__
from ..reproduce import command as reproduce
from .landscape import atlas
from .learning import learn
from .theory import StatementFailed, verify

app = App(
    name="deeplinear",
    version=__version__,
    help="The instrument for studying deep linear neural networks.",
    help_format="plaintext",
    result_action="return_value",
)

app.command(learn)
app.command(atlas)
app.command(verify)
app.command(reproduce.app)


OTHER_NAMES = {"--init": "--start", "--columns": "--inputs", "--features": "--inputs", "--exclude": "--drop"}
"""Options that the functions of this library, or other tools, call otherwise."""


def main() -> None:
    """Entry point: exit code 0, 1 for a failure, 2 for bad usage; bad input is answered by one line."""
    sys.exit(_exit_code(sys.argv[1:]))


def _exit_code(arguments: list[str]) -> int:
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _complain(_in_our_words(error), 2)
    except ValueError as error:
        return _complain(error, 2)
    except (OSError, reproduce.CheckFailed, StatementFailed) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 1)
    return 0


def _in_our_words(error: CycloptsError) -> Any:
    """What the parser says, but for two mistakes of which it does not know the reason."""
    if isinstance(error, UnknownOptionError) and error.token.keyword in OTHER_NAMES:
        return f"Unknown option: {error.token.keyword}. Did you mean {OTHER_NAMES[error.token.keyword]}?"
    if isinstance(error, UnusedCliTokensError):
        unused = " ".join(error.unused_tokens or [])
        return f"Unused: {unused}; write lists with commas and no blanks, such as --hidden 32,32"
    return error


def _complain(error: Any, code: int) -> int:
    print(f"deeplinear: {' '.join(str(error).split())}", file=sys.stderr)
    return code
