"""docs/settings.md lists the settings there are, with their defaults and variables."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from stretto.settings import PREFIX, Settings, load

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "settings.md").read_text("utf-8")


def documented() -> dict[str, tuple[str, str]]:
    """Return default and variable of every row of the tables, by the setting's path."""
    found: dict[str, tuple[str, str]] = {}
    for section in PAGE.split("\n## ")[1:]:
        heading = section.split("\n", 1)[0]
        prefix = "" if heading == "Top level" else heading.strip("`[]") + "."
        for key, unit, default, variable in re.findall(
            r"^\| `(\w+)` \| ([^|]+) \| ([^|]*) \| `(\w+)` \|", section, re.M
        ):
            assert unit.strip(), f"{prefix}{key} has no unit"
            found[prefix + key] = (default.strip().strip("`"), variable)
    return found


def actual() -> dict[str, tuple[str, str]]:
    """Return the same of the dataclasses; `home` has its default from the environment."""

    def walk(section: Any, path: tuple[str, ...]) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        for item in fields(section):
            value, names = getattr(section, item.name), (*path, item.name)
            if is_dataclass(value):
                found |= walk(value, names)
            else:
                found[".".join(names)] = (str(value), PREFIX + "_".join(names).upper())
        return found

    return walk(Settings(), ()) | {"home": ("~/.local/share/stretto", f"{PREFIX}HOME")}


def test_settings_page_lists_every_setting_with_default_and_variable() -> None:
    """The tables have every setting and no other, each with what holds when nothing is set, and its variable."""
    assert documented() == actual()


def test_settings_page_variables_are_read(tmp_path: Path) -> None:
    """Each variable of the page, set to a value that differs from the default, changes the setting it names."""
    words = {"driver": "process", "docker.pull": "never", "conductor.abandon_s": "77"}
    plain = load({"HOME": str(tmp_path)}, tmp_path)
    for path, (_, variable) in documented().items():
        before = _value(plain, path)
        text = words.get(path, str(tmp_path / "other") if path == "home" else "7")
        after = _value(load({variable: text}, tmp_path), path)
        assert after != before, path


def test_settings_page_example_is_a_settings_file(tmp_path: Path) -> None:
    """The file that the page shows can be loaded and says what it seems to."""
    block = re.search(r"^```toml\n(.*?)^```$", PAGE, re.S | re.M)
    assert block is not None
    (tmp_path / "stretto.toml").write_text(block[1], "utf-8")
    settings = load({}, tmp_path)
    told = tomllib.loads(block[1])
    assert (settings.driver, settings.jobs) == (told["driver"], told["jobs"])
    assert (settings.docker.user, settings.keep.days) == (told["docker"]["user"], told["keep"]["days"])


def _value(settings: Settings, path: str) -> Any:
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value
