"""YAML of study files and of --set: plain values by the core schema of YAML 1.2 (section 10.3.2).

PyYAML itself reads YAML 1.1, where 1:30 is 90, 010 is 8, and a key named `on` is True.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from itertools import accumulate
from typing import Any

import yaml

from cl_core.errors import BadRequest

_TAG = "tag:yaml.org,2002:"
_PLAIN = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


_DEEPEST = 1000  # libyaml recurses without a limit, and would end the process


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Read YAML 1.2 and merge keys. A key that occurs twice in one mapping is an error.

    Where PyYAML has it, libyaml reads: ten times faster than Python.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}
    yaml_constructors = {  # the core schema has no timestamp
        tag: made for tag, made in yaml.SafeLoader.yaml_constructors.items() if tag != f"{_TAG}timestamp"
    }

    def get_single_node(self) -> yaml.Node | None:
        """Return the node of the document. Raises ConstructorError for a key that occurs twice."""
        root: yaml.Node | None = super().get_single_node()
        # Merge keys are not resolved yet: a mapping may override the keys that it merges.
        for mapping in _mappings(root):
            seen = set()
            for key, _ in mapping.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != f"{_TAG}merge":
                    value = self.construct_object(key)
                    if not isinstance(value, Hashable):  # refused as a key when it is constructed
                        continue
                    if value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"the key {key.value!r} occurs twice in one mapping", key.start_mark
                        )
                    seen.add(value)
        return root


def _mappings(root: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """Yield every mapping of a document once, in the order of the text."""
    left, known = [root], set[int]()
    while left:
        node = left.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in known:
            continue
        known.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            left += [part for pair in reversed(node.value) for part in reversed(pair)]
        else:
            left += reversed(node.value)


def _depth(text: str) -> int:
    """Return how deep the values of a YAML text can be nested at most, unless texts hold brackets."""
    brackets = re.findall(r"[\[\]{}]", text)
    inline = max(accumulate((1 if bracket in "[{" else -1 for bracket in brackets), initial=0))
    return inline + max(map(len, re.findall(r"^[ ?-]+", text, re.MULTILINE)), default=0)


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    text = str(loader.construct_scalar(node))
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


_Loader.add_constructor(f"{_TAG}bool", _bool)
_Loader.add_constructor(f"{_TAG}int", _int)
_Loader.add_constructor(f"{_TAG}float", _float)


class _Dumper(yaml.SafeDumper):
    """Quote texts that YAML 1.1 or 1.2 would read as another type, such as the digest 12e45."""

    def analyze_scalar(self, scalar: str) -> Any:
        found = super().analyze_scalar(scalar)
        if "\x85" in scalar:  # a line break in YAML 1.1; single quotes would turn it into a space
            found.allow_single_quoted = found.allow_block = False
        return found


for _end in (_Loader, _Dumper):
    for _name, (_pattern, _first) in _PLAIN.items():
        _end.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)


def write_yaml(value: Any) -> str:
    """Return the text that `read_yaml` reads as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def read_yaml(text: str, source: str) -> Any:
    """Return the value of a YAML text. Raises BadRequest, one line, with the line number."""
    if _depth(text) > _DEEPEST:
        raise BadRequest(f"{source}: values must be nested less than {_DEEPEST} deep; is it valid YAML?")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise BadRequest(f"{source}{line}: {error.problem or error.context}; is it valid YAML?") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadRequest(f"{source}: {str(error).splitlines()[0]}; is it valid YAML?") from None


def read_value(text: str, source: str) -> Any:
    """Return the value of `--set key=value`. Raises BadRequest.

    It is YAML if it begins with [, { or a quote. Otherwise it is one scalar, where `#` and `: ` are ordinary.
    """
    text = text.strip()
    if text.startswith(("[", "{", '"', "'")):
        return read_yaml(text, source)
    loader = _Loader("")
    try:
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        return text if tag == f"{_TAG}merge" else loader.construct_object(yaml.ScalarNode(tag, text))
    except ValueError as error:  # a number of thousands of digits
        raise BadRequest(f"{source}: {str(error).splitlines()[0]}; write another value") from None
    finally:
        loader.dispose()
