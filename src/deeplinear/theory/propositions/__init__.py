"""The statements, one module a chapter; every `Statement` in a module here is found by `theory.statements`."""
