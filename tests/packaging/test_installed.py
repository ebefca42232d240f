"""The wheel, installed with its base dependencies only, works in an empty project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.environment import make, run

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [pytest.mark.once, pytest.mark.xdist_group("packaging")]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the wheel and its base dependencies."""
    return make(tmp_path_factory.mktemp("installed") / "venv", wheel)


@pytest.fixture(scope="module")
def project(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `startproject` makes, with the two apps added and no other setting touched."""
    directory = tmp_path_factory.mktemp("project")
    run(python, "-m", "django", "startproject", "shop", directory, cwd=directory)
    settings = directory / "shop" / "settings.py"
    settings.write_text(settings.read_text() + "\nINSTALLED_APPS += ['agentcore.streams', 'agentcore']\n")
    return directory


@pytest.mark.longer
@pytest.mark.covers("dj:PKG-4")
def test_check_and_migrate_pass_in_an_empty_project(python: Path, project: Path) -> None:
    run(python, "manage.py", "check", "--fail-level", "ERROR", cwd=project)
    run(python, "manage.py", "migrate", "--verbosity", "0", cwd=project)
    assert "No planned migration operations." in run(python, "manage.py", "migrate", "--plan", cwd=project)


@pytest.mark.covers("dj:PKG-4")
def test_models_and_migrations_agree_in_an_empty_project(python: Path, project: Path) -> None:
    run(python, "manage.py", "makemigrations", "--check", "--dry-run", cwd=project)


@pytest.mark.covers("dj:PKG-4")
def test_the_installed_package_is_the_wheels(python: Path, project: Path) -> None:
    path = run(python, "-c", "import agentcore; print(agentcore.__file__)", cwd=project)
    assert "site-packages" in path and str(ROOT) not in path


@pytest.mark.covers("dj:PKG-8")
def test_importing_the_package_needs_no_settings(python: Path, tmp_path: Path) -> None:
    code = "import agentcore, sys; print(agentcore.__version__); assert 'django.db.models' not in sys.modules"
    assert run(python, "-c", code, cwd=tmp_path).strip() == "0.1.0"


@pytest.mark.covers("dj:PKG-4")
def test_no_provider_is_installed_with_the_core(python: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('openai', 'pydantic_ai', 'psycopg') if u.find_spec(n)])"
    assert run(python, "-c", code, cwd=tmp_path).strip() == "[]"
