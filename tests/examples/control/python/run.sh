openapi-python-client generate --url "$NOTNOW_CONTROL/v1/openapi.json" --output-path client --fail-on-warning
PYTHONPATH=client python outage.py
