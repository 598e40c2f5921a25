# Two commands: `make demo` runs the main job on the default data, `make test` checks everything.
# Both make their own environment in .venv, with uv where it is installed and pip otherwise, and reuse it.

PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(if $(shell command -v uv),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)

# a wheel into a folder; editable installs and wheels build the engine alike (tools/build_backend.py, CMakeLists.txt)
WHEEL = $(if $(shell command -v uv),uv build --quiet --wheel --python $(BIN)/python --out-dir,$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir)
ENGINE := src/deeplinear/_engine

.NOTPARALLEL:
.PHONY: demo test test-baseline test-slow search engine sanitize clean

demo: .venv/installed engine
	$(BIN)/deeplinear learn

test: .venv/tested engine
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --threads 2
	$(BIN)/pytest -q -n 2 --dist loadfile -m 'not slow and not alone' --durations=20
	$(MAKE) test-baseline
	XLA_FLAGS= $(BIN)/pytest -q -m alone tests

# the flows once more, by the engine for every processor
test-baseline: .venv/tested engine
	DEEPLINEAR_ENGINE=baseline $(BIN)/pytest -q -n 2 -m 'not slow and not alone' tests/test_flows.py tests/test_engine_flows.py

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

# the compiled engine for all instruction sets, out of a wheel; whoever has an old library open keeps it,
# and sources that change meanwhile are newer
engine: $(ENGINE)/deeplinear_baseline.so

$(ENGINE)/deeplinear_baseline.so: $(wildcard engine/*.cpp engine/*.h) engine/flags CMakeLists.txt tools/build_backend.py | .venv/bin/python
	rm -rf build/engine && mkdir -p build/engine $(ENGINE) && touch build/engine/begun
	$(WHEEL) build/engine --config-settings cmake.define.CMAKE_COMPILE_WARNING_AS_ERROR=ON .
	$(BIN)/python -m zipfile -e build/engine/*.whl build/engine
	mv -f build/engine/deeplinear/_engine/*.so $(ENGINE)
	touch -r build/engine/begun $@ && rm -rf build/engine

# every door of the engine under AddressSanitizer and UBSan, over random problems
SANITIZED ?= 2000
sanitize:
	mkdir -p build
	$(CXX) @engine/flags -Werror -O1 -g -march=native -DDEEPLINEAR_SOURCES='""' -pthread \
		-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -Wl,--wrap=calloc \
		engine/*.cpp tests/engine_sanitize.cpp -o build/sanitize
	build/sanitize $(SANITIZED)

clean:
	rm -rf .venv build $(ENGINE)
