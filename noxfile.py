"""The suite on every Python that is supported, and with the newest PyTorch: `make test-all`, or `nox -s tests-3.12`."""

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """With the versions that `[tool.uv]` in pyproject.toml pins."""
    session.run_install("uv", "pip", "install", "pip", "-e", ".[dev]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS[-1])
def newest(session: nox.Session) -> None:
    """With the newest PyTorch and torchvision that there are."""
    session.run_install("uv", "pip", "install", "pip", "-e", ".[dev]")
    # `--no-config`: the pins are those of pyproject.toml. What needs the rest of it is installed by now.
    session.run_install("uv", "pip", "install", "--no-config", "--upgrade", "torch", "torchvision")
    session.run("python", "-m", "pytest", *session.posargs)
