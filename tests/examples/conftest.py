"""What stands in directories of its own here is run by tests/test_docs.py, the way a reader would run it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

collect_ignore_glob = ["readme/careless/*", "control/*", "misdirected/*", "tutorial/*", "xdist/*", "add-*/*"]
collect_ignore = [f"test_{name}.py" for name in ("django", "celery") if find_spec(name) is None]


def pytest_report_header() -> str | None:
    return (
        f"examples that are not run, since what they show is not installed: {collect_ignore}"
        if collect_ignore
        else None
    )


@pytest.fixture(autouse=True)
def as_pytest_django_has_it(request: pytest.FixtureRequest) -> Iterator[None]:
    """Django's settings, and its mail backend swapped, as every project with pytest-django finds them."""
    if request.path.name != "test_django.py":
        yield
        return
    from django.conf import settings
    from django.test.utils import setup_test_environment, teardown_test_environment

    if not settings.configured:
        settings.configure()
    setup_test_environment()
    assert settings.EMAIL_BACKEND.endswith(".locmem.EmailBackend")
    yield
    teardown_test_environment()
