"""What `settings.load` makes of a file and of variables, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from stretto.core.errors import SettingsError
from stretto.settings import Settings, load


def write(directory: Path, text: str) -> Path:
    """Write a settings file and return where it is."""
    path = directory / "stretto.toml"
    path.write_text(text, "utf-8")
    return path


def refused(directory: Path, environment: dict[str, str] | None = None) -> SettingsError:
    """Return the error that loading ends with."""
    with pytest.raises(SettingsError) as caught:
        load(environment or {}, directory)
    return caught.value


def test_load_without_file_and_variables_gives_the_defaults(tmp_path: Path) -> None:
    """Only `home` is filled in, from the environment."""
    settings = load({"XDG_DATA_HOME": str(tmp_path / "data")}, tmp_path)
    assert settings == Settings(home=tmp_path / "data" / "stretto")


def test_load_takes_values_and_sections_of_the_file(tmp_path: Path) -> None:
    """Top level, sections, and whole numbers where numbers with a fraction are wanted."""
    write(tmp_path, 'driver = "process"\ngrace_s = 3\n[docker]\nnetwork = "none"\n[keep]\ndays = 0.5\n')
    settings = load({}, tmp_path)
    assert (settings.driver, settings.grace_s) == ("process", 3.0)
    assert isinstance(settings.grace_s, float)
    assert (settings.docker.network, settings.docker.pull) == ("none", "missing")
    assert (settings.keep.days, settings.keep.max_gb) == (0.5, 20.0)


def test_load_lets_variables_win_over_the_file(tmp_path: Path) -> None:
    """A variable replaces its own setting and leaves its neighbours as the file has them."""
    write(tmp_path, 'jobs = 2\n[docker]\ncpus = 1.5\nuser = "1000"\n')
    settings = load({"STRETTO_JOBS": "5", "STRETTO_DOCKER_CPUS": "0.25"}, tmp_path)
    assert (settings.jobs, settings.docker.cpus, settings.docker.user) == (5, 0.25, "1000")


def test_load_reads_the_file_of_the_configuration_directory(tmp_path: Path) -> None:
    """Without a directory it is that of XDG_CONFIG_HOME."""
    (tmp_path / "stretto").mkdir()
    write(tmp_path / "stretto", "jobs = 3")
    assert load({"XDG_CONFIG_HOME": str(tmp_path)}).jobs == 3


def test_load_prefers_the_file_that_was_named(tmp_path: Path) -> None:
    """STRETTO_CONFIG stands in for the usual file, not beside it."""
    write(tmp_path, "jobs = 3\ngrace_s = 1.0")
    other = tmp_path / "other.toml"
    other.write_text("jobs = 4", "utf-8")
    settings = load({"STRETTO_CONFIG": str(other)}, tmp_path)
    assert (settings.jobs, settings.grace_s) == (4, 10.0)


def test_load_expands_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `~` is the person's home, and the path is absolute in the end."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"STRETTO_HOME": "~/state"}, tmp_path).home == tmp_path / "state"


def test_load_passes_over_variables_it_does_not_know(tmp_path: Path) -> None:
    """Other tools, and the tests, have STRETTO_ variables of their own."""
    assert load({"STRETTO_SIM_SEED": "20", "STRETTO_HOME": str(tmp_path)}, tmp_path) == Settings(home=tmp_path)


@pytest.mark.parametrize(
    ("text", "named", "hint"),
    [
        ("drvier = 'process'", "'drvier'", "did you mean 'driver'?"),
        ("[docker]\nmemory = 1", "'docker.memory'", "did you mean 'memory_mb'?"),
        ("colour = 1", "'colour'", "known keys: home, driver, jobs"),
    ],
)
def test_load_refuses_unknown_keys_and_says_what_was_meant(tmp_path: Path, text: str, named: str, hint: str) -> None:
    """The message has the file and the key with its section; the hint a close key, else all of them."""
    path = write(tmp_path, text)
    error = refused(tmp_path)
    assert error.message == f"{path}: unknown setting {named}"
    assert (error.hint or "").startswith(hint)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("jobs = 'many'", "jobs: 'many' is not a whole number"),
        ("jobs = true", "jobs: True is not a whole number"),
        ("jobs = 2.7", "jobs: 2.7 is not a whole number"),
        ("jobs = inf", "jobs: inf is not a whole number"),
        ("keep.days = nan", "keep.days: nan is not a number"),
        ("grace_s = []", "grace_s: [] is not a number"),
        ("driver = 1", "driver: 1 is not a text"),
        ("home = ''", "home: '' is not a path"),
        ("docker = 1", "'docker' is a section of settings, not a value"),
        ("keep.days = {a = 1}", "keep.days: {'a': 1} is not a number"),
    ],
)
def test_load_refuses_values_of_a_wrong_type(tmp_path: Path, text: str, told: str) -> None:
    """File, key, value and what is wanted stand in the message."""
    path = write(tmp_path, text)
    assert refused(tmp_path).message == f"{path}: {told}"


def test_load_names_the_variable_of_a_wrong_value(tmp_path: Path) -> None:
    """Who set a variable is not sent to look into a file."""
    error = refused(tmp_path, {"STRETTO_DOCKER_PIDS": "a few"})
    assert error.message == "STRETTO_DOCKER_PIDS: docker.pids: 'a few' is not a whole number"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("driver = 'podman'", "driver must be docker or process"),
        ("jobs = -1", "jobs must not be negative"),
        ("prepare_ahead = -1", "prepare_ahead must not be negative"),
        ("grace_s = -0.1", "grace_s must not be negative"),
        ("artifacts_limit_mb = 0", "artifacts_limit_mb must be above 0"),
        ("docker.pull = 'sometimes'", "docker.pull must be missing, always or never"),
        ("docker.cpus = -1", "docker.cpus must not be negative"),
        ("docker.memory_mb = -1", "docker.memory_mb must not be negative"),
        ("docker.pids = 0", "docker.pids must be above 0"),
        ("keep.days = -1", "keep.days must not be negative"),
        ("keep.max_gb = -1", "keep.max_gb must not be negative"),
    ],
)
def test_load_refuses_values_without_meaning(tmp_path: Path, text: str, told: str) -> None:
    """A value of the right type that means nothing is told as such."""
    write(tmp_path, text)
    assert refused(tmp_path).message == f"setting {told}"


def test_load_refuses_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    """The usual file may be missing; one that somebody asked for may not."""
    missing = tmp_path / "nowhere.toml"
    assert str(missing) in refused(tmp_path, {"STRETTO_CONFIG": str(missing)}).message


@pytest.mark.parametrize("data", [b"jobs = ", b"\xff\xfe"], ids=["no TOML", "no UTF-8"])
def test_load_refuses_a_file_that_can_not_be_read(tmp_path: Path, data: bytes) -> None:
    """The message names the file."""
    path = tmp_path / "stretto.toml"
    path.write_bytes(data)
    assert refused(tmp_path).message.startswith(f"{path}: ")
