"""What all settings share: how they are refused, and how they go into a checkpoint and come back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from nerfad.errors import NerfadError


class ConfigError(NerfadError):
    """A setting is out of its range, or two settings contradict each other."""


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ConfigError(sentence)


def require_within(group: str, config: Any, **limits: tuple[float, float]) -> None:
    """Each named setting of `group` lies between its two limits; NaN lies nowhere."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        require(low <= value <= high, f"{group}.{name} must be between {low} and {high}, not {value}.")


def require_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    require(value in choices, f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def require_threads(threads: int) -> None:
    require(threads >= 0, f"--threads must be 0 (torch's choice) or more, not {threads}.")


CLOCKS = ("wall", "cpu")


def require_clock(clock: str, device: str) -> None:
    require_one_of("--clock", clock, CLOCKS)
    require(clock == "wall" or device == "cpu", f"--clock cpu needs --device cpu, not {device}.")


def require_budget(minutes: float | None, steps: int | None, clock: str, device: str) -> None:
    require(minutes is None or minutes > 0, "--minutes must be more than 0.")
    require(steps is None or steps > 0, "--steps must be more than 0.")
    require(minutes is None or steps is None, "give --minutes or --steps, not both.")
    require_clock(clock, device)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as JSON values."""
    values = dataclasses.asdict(config)
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """The inverse of `to_dict`; entries that this version does not know are left out."""
    arguments = {}
    for item in dataclasses.fields(kind):
        if item.name in values:
            value, nested = values[item.name], item.default_factory
            if isinstance(nested, type) and dataclasses.is_dataclass(nested) and isinstance(value, dict):
                value = from_dict(nested, value)
            arguments[item.name] = value
    return kind(**arguments)


def resumed(old: Any, new: Any, *names: str) -> Any:
    """The settings of an earlier call with the budget of a new one, where it gives one, and its `names`."""
    budget = ("minutes", "steps", "clock") if new.minutes is not None or new.steps is not None else ()
    return dataclasses.replace(old, **{name: getattr(new, name) for name in (*budget, *names)})
