"""Signs of how good an answer is, where the provider gives any: what is not known is absent, nothing is made up."""

from collections.abc import Mapping
from typing import Any, NamedTuple

_MOST_SOURCES = 50
_MOST_URL_CHARACTERS = 2_000
_MOST_TITLE_CHARACTERS = 200
_TRUNCATED = "length"


class Source(NamedTuple):
    """What an answer cites."""

    url: str
    title: str


class Quality(NamedTuple):
    """The signs of one answer; of several attempts those of the last."""

    # Of each choice that ended, in the order of choices.
    finish_reasons: tuple[str, ...] = ()
    # Of the tokens whose log-probabilities came with the answer.
    mean_logprob: float | None = None
    logprob_tokens: int = 0
    sources: tuple[Source, ...] = ()
    # How often the model was asked for an answer with this shape; 0: any text would do.
    schema_attempts: int = 0


NO_QUALITY = Quality()


class Signs:
    """Collects what pieces of an answer say of its quality; what cannot be read counts as not said."""

    def __init__(self) -> None:
        self._logprob_sum = 0.0
        self._logprob_tokens = 0
        self._titles: dict[str, str] = {}

    def read_logprobs(self, logprobs: object) -> None:
        """Take in the `logprobs` of a choice, or of the part of one that a chunk carries."""
        for entry in _objects(logprobs.get("content") if isinstance(logprobs, Mapping) else None):
            logprob = entry.get("logprob")
            if isinstance(logprob, float | int):
                self._logprob_sum += logprob
                self._logprob_tokens += 1

    def read_annotations(self, annotations: object) -> None:
        """Take in the `annotations` of a message.

        https://platform.openai.com/docs/guides/tools-web-search (2026-11)
        """
        for annotation in _objects(annotations):
            cited = annotation.get("url_citation")
            url = cited.get("url") if isinstance(cited, Mapping) else None
            if not isinstance(url, str) or len(url) > _MOST_URL_CHARACTERS or len(self._titles) >= _MOST_SOURCES:
                continue
            title = cited.get("title") if isinstance(cited, Mapping) else None
            self._titles.setdefault(url, title[:_MOST_TITLE_CHARACTERS] if isinstance(title, str) else "")

    def sum_up(self, finish_reasons: Mapping[int, str], *, schema_attempts: int) -> Quality:
        """Return the signs of a whole answer."""
        tokens = self._logprob_tokens
        return Quality(
            finish_reasons=tuple(reason for _, reason in sorted(finish_reasons.items())),
            mean_logprob=self._logprob_sum / tokens if tokens else None,
            logprob_tokens=tokens,
            sources=tuple(Source(url, title) for url, title in self._titles.items()),
            schema_attempts=schema_attempts,
        )


def write_quality(quality: Quality) -> dict[str, Any]:
    """Return the signs that there are, as a JSON object."""
    found: dict[str, Any] = {}
    if quality.finish_reasons:
        found["finish_reasons"] = list(quality.finish_reasons)
        found["truncated"] = _TRUNCATED in quality.finish_reasons
    if quality.mean_logprob is not None:
        found["mean_logprob"] = round(quality.mean_logprob, 6)
        found["logprob_tokens"] = quality.logprob_tokens
    if quality.schema_attempts:
        found["schema_reasks"] = quality.schema_attempts - 1
    if quality.sources:
        found["sources"] = [source._asdict() for source in quality.sources]
    return found


def read_quality(found: Mapping[str, Any]) -> Quality:
    """Return the signs that `write_quality` wrote."""
    return Quality(
        finish_reasons=tuple(found.get("finish_reasons", ())),
        mean_logprob=found.get("mean_logprob"),
        logprob_tokens=found.get("logprob_tokens", 0),
        sources=tuple(Source(**source) for source in found.get("sources", ())),
        schema_attempts=found["schema_reasks"] + 1 if "schema_reasks" in found else 0,
    )


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
