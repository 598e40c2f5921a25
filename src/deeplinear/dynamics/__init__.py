"""How networks move: the compiled engine and what drives it."""
