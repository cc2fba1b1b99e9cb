"""Several policies, one guard: the union of their rules, and where two find the same thing the strongest action."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from gateway.guards.detectors import DETECTORS
from gateway.guards.phrases import PHRASES
from gateway.guards.scanner import Probe, Scanner
from gateway.guards.values import SPAN_KINDS, Rule, RuleKind, Surface
from gateway.guards.width import widest_match

_CACHED = 256


class Target(NamedTuple):
    """What a match means to one rule."""

    rule: Rule
    # Of built-in kinds of data; else empty.
    entity: str = ""
    # Of rules with a threshold.
    weight: int = 0

    @property
    def label(self) -> str:
        """Return what a placeholder calls it."""
        return (self.entity or self.rule.name).upper().replace("-", "_").replace(".", "_")


class SurfaceGuard(NamedTuple):
    """All rules for the texts of one surface."""

    scanner: Scanner | None
    # By the scanner's targets.
    targets: tuple[tuple[Target, ...], ...] = ()
    languages: tuple[Rule, ...] = ()
    lengths: tuple[Rule, ...] = ()
    # Asked once all others have let the text through, see `gateway.stages.judge`.
    judges: tuple[Rule, ...] = ()


Guard = Mapping[Surface, SurfaceGuard]


@lru_cache(maxsize=_CACHED)
def combine(rules: tuple[Rule, ...]) -> Guard:
    """Return what checks texts by all of `rules`; surfaces that none is for are absent.

    Raises re2.error or UnboundedPattern for a rule that `check_rule` would have refused.
    """
    found = {}
    for surface in Surface:
        own = [rule for rule in rules if surface in rule.surfaces]
        if own:
            found[surface] = _combine(own)
    return MappingProxyType(found)


def _combine(rules: Iterable[Rule]) -> SurfaceGuard:
    probes: dict[Probe, list[Target]] = {}
    terms: dict[str, list[Target]] = {}
    languages, lengths, judges = [], [], []
    for rule in rules:
        match rule.kind:
            case RuleKind.LANGUAGE:
                languages.append(rule)
            case RuleKind.LENGTH:
                lengths.append(rule)
            case RuleKind.MODEL:
                judges.append(rule)
            case RuleKind.WORDS | RuleKind.TOPIC:
                for term in rule.terms:
                    terms.setdefault(term.lower(), []).append(Target(rule, weight=1))
            case _:
                for probe, target in _probes(rule):
                    probes.setdefault(probe, []).append(target)
    targets = tuple(_strictest(found) for found in (*probes.values(), *terms.values()))
    scanner = _scanner(tuple(probes), tuple(terms)) if targets else None
    return SurfaceGuard(scanner, targets, tuple(languages), tuple(lengths), tuple(judges))


def _strictest(targets: list[Target]) -> tuple[Target, ...]:
    """Return the one rule that decides what becomes of a span, and all that only count it."""
    counting = [target for target in targets if target.rule.kind not in SPAN_KINDS]
    spans = [target for target in targets if target.rule.kind in SPAN_KINDS]
    if spans:
        first = max(spans, key=lambda target: target.rule.action.strength)
        restores = all(target.rule.restores for target in spans)
        counting.append(first._replace(rule=first.rule._replace(restores=restores)))
    return tuple(counting)


def _probes(rule: Rule) -> Iterable[tuple[Probe, Target]]:
    match rule.kind:
        case RuleKind.INJECTION:
            for phrase in PHRASES:
                yield _PHRASE_PROBES[phrase.pattern], Target(rule, weight=phrase.weight)
        case RuleKind.PATTERN:
            yield Probe(rule.pattern, reach=widest_match(rule.pattern)), Target(rule)
        case _:
            for detector in DETECTORS:
                if detector.kind == rule.kind.value and (not rule.entities or detector.entity in rule.entities):
                    yield _DETECTOR_PROBES[detector.entity], Target(rule, entity=detector.entity)


@lru_cache(maxsize=_CACHED)
def _scanner(probes: tuple[Probe, ...], terms: tuple[str, ...]) -> Scanner:
    return Scanner(probes, terms)


_PHRASE_PROBES = {
    phrase.pattern: Probe(phrase.pattern, reach=widest_match(phrase.pattern), ignores_case=True) for phrase in PHRASES
}
_DETECTOR_PROBES = {
    detector.entity: Probe(
        detector.pattern,
        hint=detector.hint,
        reach=detector.reach,
        is_token=detector.is_token,
        check=detector.check,
        is_solid=detector.is_solid,
    )
    for detector in DETECTORS
}
