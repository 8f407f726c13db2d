python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest -n auto
