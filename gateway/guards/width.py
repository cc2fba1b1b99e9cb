"""How long can a match of an expression be? What a stream has to hold back follows from the answer.

Reads RE2's syntax (https://github.com/google/re2/wiki/Syntax, 2026-11) as far as custom rules may use it, and errs on
the long side. An expression without a bound is refused: it could only be searched for once an answer is whole.
"""

MAX_WIDTH = 1_000


class UnboundedPattern(Exception):
    """The expression can match any length, or uses what is not understood here; the text says which."""


def widest_match(pattern: str) -> int:
    """Return the most characters that a match can have. Raises UnboundedPattern beyond `MAX_WIDTH`.

    Whether the expression is valid at all is for RE2 to say.
    """
    reader = _Reader(pattern)
    width = reader.read_alternatives()
    if reader.position < len(pattern):
        raise UnboundedPattern("a closing parenthesis has no opening one")
    if width > MAX_WIDTH:
        raise UnboundedPattern(f"a match can have {width} characters, more than {MAX_WIDTH}")
    return width


class _Reader:
    """Recursive descent over the expression; each method returns the width of what it has read."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0

    def read_alternatives(self) -> int:
        widest = self._read_sequence()
        while self._peek() == "|":
            self.position += 1
            widest = max(widest, self._read_sequence())
        return widest

    def _read_sequence(self) -> int:
        width = 0
        while (character := self._peek()) and character not in "|)":
            width += self._read_repeated()
        return width

    def _read_repeated(self) -> int:
        width = self._read_atom()
        while True:
            times = self._read_times()
            if times is None:
                return width
            width *= times

    def _read_atom(self) -> int:
        character = self._take()
        match character:
            case "(":
                return self._read_group()
            case "[":
                self._skip_class()
                return 1
            case "\\":
                return self._read_escape()
            case "^" | "$":
                return 0
        return 1

    def _read_group(self) -> int:
        if self._peek() == "?":
            self.position += 1
            if self._peek() == "P":
                self.position += 1
            if self._peek() == "<":
                self._skip_to(">")
            else:
                end = self._skip_flags()
                if end == ")":
                    return 0
        width = self.read_alternatives()
        if self._take() != ")":
            raise UnboundedPattern("a parenthesis is not closed")
        return width

    def _skip_flags(self) -> str:
        while (character := self._take()) not in ":)":
            if character not in "imsU-":
                raise UnboundedPattern(f"'(?{character}' is not supported")
        return character

    def _skip_class(self) -> None:
        if self._peek() == "^":
            self.position += 1
        if self._peek() == "]":
            self.position += 1
        while (character := self._take()) != "]":
            if character == "\\":
                self._take()
            elif character == "[" and self._peek() == ":":
                self._skip_to("]")

    def _read_escape(self) -> int:
        character = self._take()
        if character in "AzbB":
            return 0
        if character in "QEC":
            raise UnboundedPattern(f"'\\{character}' is not supported")
        if character in "pPx" and self._peek() == "{":
            self._skip_to("}")
        elif character in "pP":
            self._take()
        # An octal or hexadecimal code without braces counts a few characters too many.
        return 1

    def _read_times(self) -> int | None:
        character = self._peek()
        if character and character in "*+":
            raise UnboundedPattern(f"'{character}' has no bound: say how often at most, as in {{0,100}}")
        if character == "?":
            self.position += 1
            return 1
        if character != "{":
            return None
        end = self.pattern.find("}", self.position)
        least, comma, most = self.pattern[self.position + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not _is_number(least) or (comma and most and not _is_number(most)):
            # RE2 takes such a brace for itself.
            return None
        if comma and not most:
            raise UnboundedPattern(f"'{{{least},}}' has no bound: say how often at most")
        self.position = end + 1
        return int(most or least)

    def _peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise UnboundedPattern("it ends too early")
        self.position += 1
        return character

    def _skip_to(self, end: str) -> None:
        while self._take() != end:
            pass


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
