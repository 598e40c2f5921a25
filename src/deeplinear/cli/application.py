"""The commands, and what their errors end as. Help never waits for JAX."""

from collections.abc import Callable
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
    suppress_keyboard_interrupt=False,
)

app.command(learn)
app.command(atlas)
app.command(verify)
app.command(reproduce.app)

OTHER_NAMES = {"--init": "--start", "--columns": "--inputs", "--features": "--inputs", "--exclude": "--drop"}
"""Options that the functions of this library, or other tools, call otherwise."""


def exit_code(arguments: list[str], complain: Callable[[Any, int], int]) -> int:
    """Runs a command; bad usage is 2 and a failure 1, each told in one line by `complain`."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return complain(_in_our_words(error), 2)
    except ValueError as error:
        return complain(error, 2)
    except BrokenPipeError:
        raise
    except MemoryError as error:
        return complain(f"out of memory ({error}); take smaller layers or fewer data", 1)
    except (OSError, reproduce.CheckFailed, StatementFailed) as error:
        return complain(error, 1)
    return 0


def _in_our_words(error: CycloptsError) -> Any:
    """What the parser says, but for two mistakes of which it does not know the reason."""
    if isinstance(error, UnknownOptionError) and error.token.keyword in OTHER_NAMES:
        return f"Unknown option: {error.token.keyword}. Did you mean {OTHER_NAMES[error.token.keyword]}?"
    if isinstance(error, UnusedCliTokensError):
        unused = " ".join(error.unused_tokens or [])
        return f"Unused: {unused}; write lists with commas and no blanks, such as --hidden 32,32"
    return error
