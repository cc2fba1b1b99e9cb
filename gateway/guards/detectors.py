"""What the platform itself knows how to find: personal data, and secrets of known vendors.

Each detector has a short expression (`hint`) that all texts are tried with at once, and one that finds where a match
begins and ends, which only texts with the hint are searched for. Formats of secrets are those that their vendors
publish for scanners (2026-11); what has no recognisable form is left alone.
"""

from collections.abc import Callable
from typing import NamedTuple

from gateway.guards.validators import (
    check_address,
    check_card,
    check_iban,
    check_jwt,
    check_own_key,
    check_phone,
    check_ssn,
)
from gateway.guards.values import RuleKind


class Detector(NamedTuple):
    """A built-in kind of data. Expressions are RE2's."""

    entity: str
    kind: RuleKind
    pattern: str
    hint: str
    # So many characters from its beginning decide whether something is a match; how long one is may take longer.
    reach: int
    # No match has a space in it.
    is_token: bool = True
    check: Callable[[str], int] | None = None
    # See `gateway.guards.scanner.Probe`.
    is_solid: bool = False


# A secret goes on for as long as its alphabet does, so that no rest of it is left standing.
_REST = "[0-9A-Za-z_-]*"

# Of two that find the same, the first counts: the one with the narrower form.
_PII = (
    Detector(
        "email",
        RuleKind.PII,
        r"[0-9A-Za-z](?:[0-9A-Za-z.!#$%&'*+/=?^_{|}~-]{0,63})@(?:[0-9A-Za-z][0-9A-Za-z-]{0,62}\.){1,3}[A-Za-z]{2,24}",
        "@",
        reach=290,
    ),
    Detector(
        "iban",
        RuleKind.PII,
        r"\b[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]){11,30}\b",
        r"[A-Z]{2}[0-9]{2} ?[0-9A-Z]",
        reach=70,
        is_token=False,
        check=check_iban,
    ),
    Detector(
        "credit_card",
        RuleKind.PII,
        r"\b[2-6][0-9](?:[ -]?[0-9]){11,17}\b",
        r"[2-6][0-9]{3}[ -]?[0-9]{4,6}[ -]?[0-9]",
        reach=40,
        is_token=False,
        check=check_card,
    ),
    Detector(
        "ip_address",
        RuleKind.PII,
        r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}\b|\b(?:[0-9A-Fa-f]{1,4}:){1,7}(?::?[0-9A-Fa-f]{1,4}){1,7}\b",
        r"[0-9]\.[0-9]{1,3}\.[0-9]|[0-9A-Fa-f]:[0-9A-Fa-f:]",
        reach=80,
        check=check_address,
        is_solid=True,
    ),
    Detector(
        "us_ssn",
        RuleKind.PII,
        r"\b[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}\b",
        r"[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}",
        reach=13,
        is_token=False,
        check=check_ssn,
    ),
    Detector(
        "phone",
        RuleKind.PII,
        r"(?:\+|\b00|\b0|\()[0-9](?:[ ()./-]{0,2}[0-9]){6,14}\b|\b[2-9][0-9]{2}[ .-][0-9]{3}[ .-][0-9]{4}\b",
        r"[0-9][ ()./-]?[0-9][ ()./-]{0,2}[0-9][ ()./-]{0,2}[0-9]",
        reach=50,
        is_token=False,
        check=check_phone,
    ),
)
_VENDOR_KEYS = (
    ("anthropic_key", rf"\bsk-ant-[0-9a-z]{{3,10}}-[0-9A-Za-z_-]{{16}}{_REST}", "sk-ant-", 36),
    ("openai_key", rf"\bsk-(?:proj-|svcacct-|admin-|None-)?[0-9A-Za-z_-]{{20}}{_REST}", "sk-", 34),
    ("aws_key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b", "(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]", 21),
    ("google_key", rf"\bAIza[0-9A-Za-z_-]{{35}}{_REST}", "AIza", 40),
    ("github_token", rf"\b(?:gh[pousr]_[0-9A-Za-z]{{30}}|github_pat_[0-9A-Za-z_]{{22}}){_REST}", "gh[pousr]_|hub_pat_", 40),
    ("gitlab_token", rf"\bgl(?:pat|dt|rt|cbt|ptt|soat)-[0-9A-Za-z_-]{{20}}{_REST}", "gl[a-z]{2,4}-", 28),
    ("slack_token", rf"\bxox[abeoprs]-[0-9A-Za-z-]{{10}}{_REST}|\bxapp-[0-9]-[0-9A-Z]{{10}}{_REST}", "xox[abeoprs]-|xapp-", 20),
    ("stripe_key", rf"\b(?:sk|rk|whsec)_(?:live_|test_)?[0-9A-Za-z]{{20}}{_REST}", "(?:sk|rk|whsec)_", 34),
    ("huggingface_token", rf"\bhf_[0-9A-Za-z]{{30}}{_REST}", "hf_", 35),
    ("npm_token", rf"\bnpm_[0-9A-Za-z]{{36}}{_REST}", "npm_", 42),
    ("pypi_token", rf"\bpypi-AgE[0-9A-Za-z_-]{{20}}{_REST}", "pypi-AgE", 30),
    ("sendgrid_key", rf"\bSG\.[0-9A-Za-z_-]{{22}}\.[0-9A-Za-z_-]{{20}}{_REST}", r"SG\.", 50),
    ("groq_key", rf"\bgsk_[0-9A-Za-z]{{40}}{_REST}", "gsk_", 46),
    ("xai_key", rf"\bxai-[0-9A-Za-z]{{40}}{_REST}", "xai-", 46),
)  # fmt: skip
_SECRETS = (
    *(Detector(name, RuleKind.SECRETS, pattern, hint, reach) for name, pattern, hint, reach in _VENDOR_KEYS),
    Detector(
        "private_key",
        RuleKind.SECRETS,
        # Up to the dashes of the line that ends it; lines may be indented, and their breaks written as in JSON.
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----(?:\s{0,4}Proc-Type:[^\n]{0,40}\n\s{0,4}DEK-Info:[^\n]{0,80}\n)?"
        r"(?:[0-9A-Za-z+/=]|(?:\r|\n|\\[nr])[ \t]{0,12})*",
        "-----BEGIN [A-Z ]{0,20}PRIVATE KEY",
        reach=190,
        is_token=False,
    ),
    Detector(
        "jwt",
        RuleKind.SECRETS,
        r"\beyJ[0-9A-Za-z_-]{8}[0-9A-Za-z_.-]*",
        "eyJ",
        reach=13,
        check=check_jwt,
        is_solid=True,
    ),
    Detector(
        "own_key",
        RuleKind.SECRETS,
        r"\btk_(?:live|test)_[0-9A-Za-z]{33}\b",
        "tk_(?:live|test)_",
        reach=43,
        check=check_own_key,
    ),
)

DETECTORS = (*_PII, *_SECRETS)
ENTITIES: dict[RuleKind, tuple[str, ...]] = {
    kind: tuple(detector.entity for detector in DETECTORS if detector.kind is kind)
    for kind in (RuleKind.PII, RuleKind.SECRETS)
}
