"""A YAML file as plain data that remembers its lines.

Scalars stay the text that the author wrote: amounts are parsed exactly from it and never pass through a float, and
YAML's surprises (`no` is false, `1:30` is 90, `010` is 8) cannot happen. Only an empty or `null` scalar is None.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Data = str | list["Data"] | dict[str, "Data"] | None
# Where a value is: names of mappings and positions of lists, from the root down.
Path = tuple[str | int, ...]

_NULL_TAG = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that keeps a file from being applied."""

    line: int
    field: str
    message: str


class DeclarationsInvalid(Exception):
    """The file cannot be applied; nothing was changed. Carries every problem that was found, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.field)))
        super().__init__(f"{len(self.problems)} problems")


class Document:
    """One parsed file: its data, and the line of every place in it."""

    def __init__(self, text: str) -> None:
        """Parse `text`. Raises DeclarationsInvalid for what is not YAML."""
        self.problems: list[Problem] = []
        self._root: Node | None = _compose(text)
        self.data: Data = None if self._root is None else self._plain(self._root, (), frozenset())

    def line_of(self, path: Path) -> int:
        """Return the line (from 1) of the place, or of the nearest thing around it that is in the file."""
        node = self._root
        line = 1 if node is None else node.start_mark.line + 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            marked, node = found
            line = marked.start_mark.line + 1
        return line

    def problem(self, path: Path, message: str) -> Problem:
        """Return a problem at a place."""
        return Problem(line=self.line_of(path), field=describe_path(path), message=message)

    def _plain(self, node: Node, path: Path, above: frozenset[int]) -> Data:
        if id(node) in above:
            self.problems.append(_at(node, path, "contains itself"))
            return None
        inside = above | {id(node)}
        if isinstance(node, MappingNode):
            return self._plain_mapping(node, path, inside)
        if isinstance(node, SequenceNode):
            return [self._plain(item, (*path, i), inside) for i, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return None if node.tag == _NULL_TAG else str(node.value)

    def _plain_mapping(self, node: MappingNode, path: Path, inside: frozenset[int]) -> dict[str, Data]:
        found: dict[str, Data] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.problems.append(_at(key, path, "a field's name must be plain text"))
                continue
            name = str(key.value)
            if name in found:
                self.problems.append(_at(key, (*path, name), "is given twice"))
            found[name] = self._plain(value, (*path, name), inside)
        return found


def describe_path(path: Path) -> str:
    """Return a place as people write it: `models[0].deployments[1].upstream`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _compose(text: str) -> Node | None:
    try:
        node: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise DeclarationsInvalid([Problem(line=line, field="", message=f"not valid YAML: {what}")]) from None
    return node


def _child(node: Node | None, step: str | int) -> tuple[Node, Node] | None:
    """Return the node that marks a step's line (a field's name, a list's item) and the node of its value."""
    if isinstance(node, MappingNode):
        return next(((key, value) for key, value in node.value if key.value == step), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        item: Node = node.value[step]
        return item, item
    return None


def _at(node: Node, path: Path, message: str) -> Problem:
    return Problem(line=node.start_mark.line + 1, field=describe_path(path), message=message)
