# `make article` and `make test` set themselves up; everything else is for those who work on the project.
PYTHON ?= python3
# Noto Color Emoji, for `make pocket` alone: the world's glyphs in twice the size.
FONT   ?= /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: article test check format pocket benchmark clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	$(BIN)/python -c "from unified.decoder import compile_kernels; compile_kernels()"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

article: $(VENV)/.installed
	$(BIN)/unified write "The giant panda" -o panda.html

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

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

benchmark: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/pocket.py
	$(BIN)/python benchmarks/sampling.py

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .hypothesis .ruff_cache .mypy_cache
