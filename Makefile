# `make article` and `make test` set themselves up; everything else is for those who work on the project.
PYTHON ?= python3
# Noto Color Emoji, for `make pocket` alone: the world's glyphs in twice the size.
FONT   ?= /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
VENV   := .venv
BIN     = $(VENV)/bin
# The versions that are installed: a file of pins, or nothing for the newest that pyproject.toml allows.
CONSTRAINTS := constraints.txt
# pip itself, and what it builds the wheel with, whatever CONSTRAINTS says.
TOOLS := constraints.txt
# Each worker begins with a half of the tests, in order, so that what a file shares is made once.
PYTEST_ARGUMENTS ?= -n 2 --dist worksteal -m "not slow"

# pip would compile every module of every package, for most of a minute, and few are ever imported:
# those are kept as they are imported, also where the environment says that nothing is to be kept.
export PYTHONDONTWRITEBYTECODE :=
INSTALL = $(BIN)/python -m pip install --quiet --no-compile $(if $(CONSTRAINTS),-c $(CONSTRAINTS),--upgrade --upgrade-strategy eager)
INSTALL += --build-constraint $(TOOLS)

.PHONY: article test test-slow test-newest test-oldest constraints check format docs snippets pocket world benchmark clean

COMPILE = $(BIN)/python -c "from unified.engine.backends.cpu.compiling import compile_kernels; compile_kernels()"

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c $(TOOLS) pip
	touch $@

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(VENV)/.pip
	$(INSTALL) -e .
	$(COMPILE)
	touch $@

# All in one go, with what the site needs: every further installation would resolve everything anew.
$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(VENV)/.pip
	$(INSTALL) -e ".[dev,docs]"
	$(COMPILE)
	touch $(VENV)/.installed $(VENV)/.installed-docs $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) -e ".[docs]"
	touch $@

article: $(VENV)/.installed
	$(BIN)/unified write "The giant panda" -o panda.html

test: $(VENV)/.installed-dev
	UNIFIED_CONSTRAINTS=$(CONSTRAINTS) $(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

# What takes seconds to a minute each: two processes that train together, a million draws, a full disk.
test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -m slow

# Both ends of the ranges in pyproject.toml, each in a folder of its own (7 GB).
test-newest:
	rm -f .venv-newest/.installed*
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

test-oldest:
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

# Both files of pins, from pyproject.toml and what is published today, for all systems and versions of Python. Commit
# constraints.txt after `make test-newest` has passed, constraints-oldest.txt after `make test-oldest`.
constraints:
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet uv
	.venv-constraints/bin/python docs/make_constraints.py .venv-constraints/bin/uv

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in build/docs: pages, commands, and the Python reference from docstrings. A warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/make_systems.py
	$(BIN)/python docs/make_map.py
	$(BIN)/python docs/make_commands.py
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Every snippet of README and docs, those included that take too long for `make test`.
snippets: $(VENV)/.installed-dev
	UNIFIED_SLOW_SNIPPETS=1 $(BIN)/python -m pytest tests/test_snippets.py

# The pocket model from nothing: world, tokenizers, decoder (hours on two cores; see configs/pocket).
pocket: $(VENV)/.installed-dev
	$(BIN)/unified data build pocket -o runs/pocket/world
	$(BIN)/unified tokenizer train configs/pocket/image.yaml
	$(BIN)/unified tokenizer train configs/pocket/image_decoder.yaml
	$(BIN)/unified tokenizer train configs/pocket/audio.yaml
	$(BIN)/unified tokenizer train configs/pocket/audio_decoder.yaml
	$(BIN)/unified train configs/pocket/decoder.yaml
	$(BIN)/unified train configs/pocket/decoder_speech.yaml
	$(BIN)/unified train configs/pocket/decoder_articles.yaml
	$(BIN)/unified data build pocket -o runs/pocket/double --only draw --scale 0.35 --double "$(FONT)"
	$(BIN)/unified tokenizer train configs/pocket/diffusion.yaml

# A model of the world of free scenes from nothing, three hours of two cores: `make -j3 world`. Its parts wait for what
# they need alone, so that a tokenizer trains on each core while the rest of the world is built.
WORLD = runs/world/world
world: runs/world/decoder/model/config.json

runs/world/.pictures: $(VENV)/.installed-dev
	$(BIN)/unified data build world -o $(WORLD) --only draw,describe
	touch $@

runs/world/.sounds: runs/world/.pictures
	$(BIN)/unified data build world -o $(WORLD) --workers 1 --only words,listen,speak,salad
	touch $@

runs/world/.all: runs/world/.sounds
	$(BIN)/unified data build world -o $(WORLD) --workers 1 --only text,text_zh,facts,article,article_zh
	$(BIN)/unified data build world -o $(WORLD) --workers 1 --only ask,edit,names,unknown,draw_spoken,say_picture,ask_spoken
	touch $@

runs/world/.image-tokenizer: runs/world/.pictures
	$(BIN)/unified tokenizer train configs/world/image.yaml $(if $(wildcard runs/world/image/checkpoints),--resume)
	touch $@

runs/world/.audio-tokenizer: runs/world/.sounds
	$(BIN)/unified tokenizer train configs/world/audio.yaml $(if $(wildcard runs/world/audio/checkpoints),--resume)
	touch $@

runs/world/decoder/model/config.json: runs/world/.all runs/world/.image-tokenizer runs/world/.audio-tokenizer
	OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node 2 -m unified train configs/world/decoder.yaml $(if $(wildcard runs/world/decoder/checkpoints),--resume)

benchmark: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/pocket.py
	$(BIN)/python benchmarks/sampling.py

clean:
	rm -rf $(VENV) .venv-newest .venv-oldest .venv-constraints runs build dist .pytest_cache .hypothesis .ruff_cache .mypy_cache
