"""YAML as people write it in study files and behind --set; without pydantic, for the Ray-free runner."""

from __future__ import annotations

import re
from typing import Any

import yaml

from cl_core.errors import BadRequest


class _Loader(yaml.SafeLoader):
    """YAML without its two traps: 5e-4 is a number, and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice in one mapping", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would otherwise read as a number, such as the digest 12e45."""


for _end in (_Loader, _Dumper):
    _end.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def write_yaml(value: Any) -> str:
    """The text that `read_yaml` reads back as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def read_yaml(text: str, source: str) -> Any:
    """The value of a YAML text. Raises BadRequest, one line, with the line number."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise BadRequest(f"{source}{line}: {error.problem or error.context}; is it valid YAML?") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadRequest(f"{source}: {str(error).splitlines()[0]}; is it valid YAML?") from None
