"""The edge to Hydra: command-line overrides in, plain configurations out. Beside run.py, the only importer of Hydra.

Hydra's own messages speak of its machinery, so the overrides are checked here first: unknown names get their nearest
match and the list of those that exist, in one paragraph.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.edge.settings import nearest
from harness.edge.trial_builder import build
from harness.errors import ConfigurationError
from harness.host.environment import project_root
from harness.options import RunOptions
from harness.trial import Trial
from optimizations.contract import PlanError
from optimizations.plan import available

CONF = project_root() / "conf"
PRIMARY = "config"
LIST_GROUPS = frozenset({"opt"})
"""Groups of which several options may be chosen at once."""


def build_trial(config: DictConfig) -> tuple[Trial, RunOptions]:
    """The frozen values of a composed configuration. Raises ConfigurationError."""
    return build(to_values(config))


def to_values(config: DictConfig) -> dict[str, Any]:
    """Plain nested dicts and lists. Raises ConfigurationError for an interpolation or a value that is missing."""
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigurationError(_first_sentence(error)) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def plan_runs(arguments: Sequence[str], multirun: bool) -> list[dict[str, Any]]:
    """The configurations that the overrides ask for, all checked: one, or with ``multirun`` their product.

    Raises ConfigurationError for anything that Hydra, or nobody, would understand.
    """
    register_plugins(arguments)
    overrides = _parse(arguments)
    groups = config_groups()
    for override in overrides:
        _check_form(override, groups, multirun)
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return [_compose(combination, groups) for combination in _combinations(overrides, groups)]


def config_groups(conf: Path = CONF) -> dict[str, list[str]]:
    """Options of every group of the configuration, from its files and from the plug-ins that are installed."""
    found = {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(conf.iterdir())
        if folder.is_dir()
    }
    found["opt"] = sorted({*found.get("opt", []), *available()})
    return found


def register_plugins(arguments: Sequence[str]) -> None:
    """Give every installed plug-in that has no file in conf/opt its options by code (package ``opt.<name>``): those
    that the command line names, or all where it has a pattern. The others are not even read."""
    words = {word for argument in arguments for word in re.findall(r"\w+", argument)}
    try:
        plugins = available()
        for name in plugins:
            if (name in words or "glob" in words) and not (CONF / "opt" / f"{name}.yaml").is_file():
                options = OmegaConf.to_container(OmegaConf.structured(plugins[name].options()))
                ConfigStore.instance().store(group="opt", name=name, node=options, package=f"opt.{name}")
    except PlanError as error:
        raise ConfigurationError(str(error)) from error


def _parse(arguments: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for argument in arguments:
        try:
            parsed += parser.parse_overrides([argument])
        except (OverrideParseException, HydraException) as error:
            raise ConfigurationError(
                f"{argument!r} cannot be read: write KEY=VALUE, and lists as KEY=[a,b] in quotes "
                f"({_first_sentence(error)})"
            ) from error
    return [override for override in parsed if not override.key_or_group.startswith("hydra")]


def _check_form(override: Override, groups: Mapping[str, list[str]], multirun: bool) -> None:
    """Errors that can be seen without composing: deletions, sweeps without -m, and the values of groups."""
    key, line = override.key_or_group, override.input_line
    if override.is_delete():
        raise ConfigurationError(f"{line}: an option cannot be removed; set {key} to another value")
    if override.is_sweep_override() and not multirun:
        raise ConfigurationError(f"{line}: several values make a sweep; add -m (python run.py -m ...)")
    if key not in groups:
        return
    if override.is_add():
        raise ConfigurationError(f"{line}: {key} is there already; write it without the +")
    values: Iterable[Any] = [override.value()]
    if override.is_sweep_override():
        values = [_parse([f"{key}={text}"])[0].value() for text in _sweep_texts(override, groups)]
    for value in values:
        _check_choice(key, value, groups[key])


def _check_choice(group: str, value: Any, choices: Sequence[str]) -> None:
    names = [str(name) for name in (value if isinstance(value, list) else [value])]
    if group not in LIST_GROUPS and isinstance(value, list):
        raise ConfigurationError(f"{group}=[{','.join(names)}]: {group} takes one of {', '.join(choices)}")
    if value is None and group != "experiment":
        example = "[]" if group in LIST_GROUPS else choices[0]
        raise ConfigurationError(f"{group}=null is no choice; write {group}={example} (there are {', '.join(choices)})")
    for name in names:
        if value is not None and name not in choices:
            raise ConfigurationError(
                f"{group}={name} is unknown{nearest(name, choices)}; available: {', '.join(choices)}"
            )
        if names.count(name) > 1:
            raise ConfigurationError(f"{group}: {name!r} is listed {names.count(name)} times; list it once")


def _combinations(overrides: Sequence[Override], groups: Mapping[str, list[str]]) -> Iterator[list[Override]]:
    """The product of all swept values, the last key turning fastest, as Hydra's basic sweeper has it."""
    lists = []
    for override in overrides:
        if override.is_sweep_override():
            key = override.get_key_element()
            lists.append([_parse([f"{key}={text}"])[0] for text in _sweep_texts(override, groups)])
        else:
            lists.append([override])
    return (list(chosen) for chosen in itertools.product(*lists))


def _sweep_texts(override: Override, groups: Mapping[str, list[str]]) -> list[str]:
    """The swept values of one override as text; a glob stands for the options of its group that match."""
    pattern = override.value()
    if isinstance(pattern, Glob):
        return list(pattern.filter(groups.get(override.key_or_group, [])))
    try:
        return list(override.sweep_string_iterator())
    except (HydraException, AssertionError) as error:
        raise ConfigurationError(f"{override.input_line}: only lists and ranges of values can be swept") from error


def _compose(overrides: Sequence[Override], groups: Mapping[str, list[str]]) -> dict[str, Any]:
    lines = [o.input_line for o in overrides]
    settings = [o for o in overrides if o.key_or_group not in groups]
    if not any(o.is_add() or o.is_force_add() for o in settings):
        # Hydra itself refuses a key that is not there, in words of its own: what is wrong is then said below.
        with contextlib.suppress(HydraException, OmegaConfBaseException):
            return to_values(compose(PRIMARY, overrides=lines))
    try:
        known = to_values(compose(PRIMARY, overrides=[o.input_line for o in overrides if o.key_or_group in groups]))
        for override in settings:
            _check_key(override, known)
        return to_values(compose(PRIMARY, overrides=lines))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(f"the configuration cannot be composed: {_first_sentence(error)}") from error


def _check_key(override: Override, known: Mapping[str, Any]) -> None:
    """Raise ConfigurationError when the key of an override names nothing in the configuration ``known``."""
    *parents, last = override.key_or_group.split(".")
    node: Any = known
    for depth, name in enumerate((*parents, last)):
        where = ".".join(parents[:depth])
        if not isinstance(node, Mapping) or name not in node:
            raise ConfigurationError(_no_such_key(override, where, name, node))
        node = node[name]
    if override.is_add() and not override.is_force_add():
        raise ConfigurationError(f"{override.input_line}: {override.key_or_group} is there already; leave out the +")


def _no_such_key(override: Override, where: str, name: str, node: Any) -> str:
    names = sorted(node) if isinstance(node, Mapping) else []
    line = override.input_line
    if where == "opt" and name in available():
        others = [*names, name]
        return f"{line}: {name} is not switched on; write opt=[{','.join(others)}] as well"
    place = where or "the configuration"
    listed = ", ".join(names) or "no options"
    return f"{line}: {place} has no option {name!r}{nearest(name, names)}; it has: {listed}"


def _first_sentence(error: Exception) -> str:
    """Hydra's message without its advice on adding keys and its internals."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("To append", "full_key", "object_type"))]
    return " ".join(kept[:2]) if kept else type(error).__name__
