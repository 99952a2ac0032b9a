"""The settings of the server as deployments name them."""

from __future__ import annotations

from ratus.core.durations import parse_duration
from ratus.runtime import config

OPTIONS = [o for group in config.groups(config.catalogue().plugins.values()) for o in group.options]
VARIABLES = {option.environment for option in OPTIONS}
FLAGS = {option.flag for option in OPTIONS} | {option.short for option in OPTIONS if option.short}


def seconds(duration: str) -> float:
    """A duration as the server, Compose and systemd write them."""
    return parse_duration(duration) / 1_000_000
