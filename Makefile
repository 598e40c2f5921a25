# Two commands: `make demo` runs the main job on the default data, `make test` checks everything.
# Both make their own environment in .venv, with uv where it is installed and pip otherwise, and reuse it.

PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(if $(shell command -v uv),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)

# the compiled engine, once for each instruction set: no C++ runtime, nothing but the C library
ENGINE := src/deeplinear/_engine
ENGINE_SOURCES := $(sort $(wildcard engine/*.cpp engine/*.h))
ENGINE_FLAGS := @engine/flags -Werror \
	-DDEEPLINEAR_SOURCES='"$(shell cat $(ENGINE_SOURCES) | sha256sum | cut -c 1-16)"'
ENGINE_LINK := -shared -s -nodefaultlibs -lm -lc
ifeq ($(shell uname -m),x86_64)
LEVELS := baseline v3 v4
MARCH_baseline := -march=x86-64
MARCH_v3 := -march=x86-64-v3
MARCH_v4 := -march=x86-64-v4
else
LEVELS := baseline
endif

.PHONY: demo test test-slow search engine sanitize clean

demo: .venv/installed
	$(BIN)/deeplinear learn

test: .venv/tested engine
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --threads 2
	$(BIN)/pytest -q -n 2 --dist loadfile -m 'not slow and not alone' --durations=20
	XLA_FLAGS= $(BIN)/pytest -q -m alone tests

search: .venv/tested engine
	$(BIN)/pytest -q -n 2 --dist worksteal -m search --hypothesis-profile search --durations=20 tests

test-slow: .venv/tested engine
	XLA_FLAGS= $(BIN)/pytest -q -n 2 --dist loadfile -m 'not alone' --hypothesis-profile thorough --durations=20

.venv/bin/python:
	$(if $(shell command -v uv),uv venv --quiet --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --constraint constraints.txt --editable .
	@touch $@

.venv/tested: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --constraint constraints.txt --editable '.[test]'
	@touch $@ .venv/installed

engine: $(LEVELS:%=$(ENGINE)/deeplinear_%.so)

$(ENGINE)/deeplinear_%.so: $(ENGINE_SOURCES) engine/flags Makefile
	@mkdir -p $(ENGINE)
	$(CXX) $(ENGINE_FLAGS) $(MARCH_$*) $(filter %.cpp,$^) $(ENGINE_LINK) -o $@.$$$$ && mv $@.$$$$ $@

# every door of the engine under AddressSanitizer and UBSan, over random problems
SANITIZED ?= 2000
sanitize:
	@mkdir -p $(ENGINE)
	$(CXX) $(ENGINE_FLAGS) -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
		$(MARCH_v3) $(wildcard engine/*.cpp) tests/engine_sanitize.cpp -o $(ENGINE)/sanitize
	$(ENGINE)/sanitize $(SANITIZED)

clean:
	rm -rf .venv $(ENGINE)
