"""Who gets the new version while a label is rolled out: the same caller always gets the same answer.

The share of a caller is `sha256("<prompt>\\n<label>\\n<new version>\\n<subject>")`, its first eight bytes as a
big-endian number modulo 10,000; it gets the new version when that is below a hundred times the percentage. So a
caller that is in at 10 % stays in at 50 %, every process agrees without asking, and the next rollout draws other
callers. The subject is "<customer id>:<session id>" when a session is named, else "<customer id>".
"""

import hashlib


def is_in_rollout(
    *, prompt: str, label: str, number: str, percent: int, customer_id: int, session_id: str | None
) -> bool:
    """Return whether the caller belongs to the `percent` of callers that get version `number`."""
    subject = f"{customer_id}:{session_id}" if session_id else str(customer_id)
    digest = hashlib.sha256(f"{prompt}\n{label}\n{number}\n{subject}".encode()).digest()
    return int.from_bytes(digest[:8]) % 10_000 < percent * 100
