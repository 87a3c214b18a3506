"""From Perl's dialect of regular expressions to that of the `regex` package."""

from __future__ import annotations

import re

from lbhealth.errors import SettingError

__all__ = ["translate"]

_MAX_EXPANSION = 100_000
"""Parts to which counted repeats may multiply: each is memory, before any search."""


def translate(text: str, field: str) -> list[tuple[int, str]]:
    """The expression for regex (VERSION1), in pieces, each with its offset in `text`.

    Raises SettingError for `field`, with the place, for what only Perl itself can do.
    """
    return _Translation(text, field).run()


# What regex takes as Perl means it.
_SAME_ESCAPES = frozenset("dDwWsSbBAGhHRKXnrtfa0123456789xpPgN")
_ESCAPES = {
    "z": r"\Z",
    "Z": r"(?=\n?\Z)",
    "e": r"\x1b",
    "v": r"[\n\x0b\f\r]",
    "V": r"[^\n\x0b\f\r]",
    "N": r"[^\n]",
    "h": r"[ \t]",
    "H": r"[^ \t]",
}
_CLASS_ESCAPES = {"e": r"\x1b", "v": r"\n\x0b\f\r", "h": r" \t", "b": r"\x08"}
_ONLY_PERL = {
    r"\L": "case changes",
    r"\U": "case changes",
    r"\F": "case changes",
    "(?{": "code in an expression",
    "(??": "code in an expression",
    "(?^": "resetting the flags",
    "(*": "control verbs",
}
_KNOWN_VERBS = re.compile(r"\(\*(?:PRUNE|SKIP|FAIL|F)\)")
_QUANTIFIER = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_FLAGS = re.compile(r"\(\?((?:[a-zL]|V[01])*)(?:-([a-z]*))?[:)]")
_HEX = re.compile(r"\\x\{\s*([0-9A-Fa-f]+)\s*\}")
_OCTAL = re.compile(r"\\o\{\s*([0-7]+)\s*\}")
_BACK = re.compile(r"\\g(?:\{(-?\d+)\}|(-?\d+))")
_NAMED_BACK = re.compile(r"\\(?:k\{\s*(\w+)\s*\}|k<(\w+)>|k'(\w+)'|g\{\s*([A-Za-z_]\w*)\s*\})")
_QUOTED_NAME = re.compile(r"\(\?'(\w+)'")
_POSIX = re.compile(r"\[:\^?[a-z]+:\]")
_CONTROL = re.compile(r"\\c([@-_a-z?])")


class _Translation:
    """One walk over an expression, from Perl's dialect to that of regex."""

    def __init__(self, text: str, field: str) -> None:
        self.text = text
        self.field = field
        self.at = 0
        self.groups = 0
        self.out: list[tuple[int, str]] = []
        # What counted repeats unroll to, for the open groups and the last atom of each.
        self.sizes: list[int] = [0]
        self.opened: list[int] = []
        self.atom = 0

    def run(self) -> list[tuple[int, str]]:
        """Pieces of the translation, each with its offset in the text."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "\\":
                self.escape()
            elif char == "[":
                self.bracket()
            elif char == "(":
                self.group()
            elif char == "{":
                self.brace()
            elif char == ")":
                size = 0
                if self.opened:
                    self.opened.pop()
                    size = self.sizes.pop()
                self.emit(")", 1, size)
            else:
                self.emit(char, 1)
        if self.opened:
            self.at = self.opened[-1]
            raise self.fault("not a regular expression: missing )")
        return self.out

    def emit(self, piece: str, length: int, size: int = 1) -> None:
        """Write `piece` for the next `length` characters."""
        self.out.append((self.at, piece))
        self.at += length
        self.atom = max(size, 1)
        self.grow(self.atom)

    def grow(self, size: int) -> None:
        self.sizes[-1] += size
        if self.sizes[-1] > _MAX_EXPANSION:
            raise self.fault("the repeats multiply to too large an expression")

    def fault(self, message: str) -> SettingError:
        return SettingError(self.field, message, min(self.at, len(self.text)))

    def unknown(self, construct: str) -> SettingError:
        what = _ONLY_PERL[construct]
        return self.fault(f"{construct} ({what}) needs Perl itself and cannot be used")

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.match(self.text, self.at)

    def brace(self) -> None:
        """A quantifier; any other brace is plain text to Perl, but fuzzy matching to regex."""
        match = self.match(_QUANTIFIER)
        if match is None or not self.out:
            self.emit(r"\{", 1)
            return
        times = int(match[3] or match[1]) if len(match[0]) < 16 else _MAX_EXPANSION
        self.out.append((self.at, match[0]))
        if times > 1:
            self.grow(self.atom * (times - 1))
            self.atom *= times
        self.at = match.end()

    def group(self) -> None:
        """The opening of a group, with its flags and name."""
        text = self.text
        for construct in ("(?{", "(??", "(?^"):
            if text.startswith(construct, self.at):
                raise self.unknown(construct)
        if text.startswith("(*", self.at) and not self.match(_KNOWN_VERBS):
            raise self.unknown("(*")
        if text.startswith("(?#", self.at):
            end = text.find(")", self.at)
            if end < 0:
                raise self.fault("the comment has no end")
            self.emit("(?:)", end + 1 - self.at)
            return
        if match := self.match(_FLAGS):
            if odd := set((match[1] or "") + (match[2] or "")) - set("imsxn"):
                raise self.fault(f"the flag {min(odd)} is not supported; i, m, s and x are")
            piece = match[0].replace("n", "")
            if piece.endswith(")"):
                self.emit(piece, match.end() - self.at)
                return
            self.open(piece, match.end() - self.at)
        elif match := self.match(_QUOTED_NAME):
            self.open(f"(?P<{match[1]}>", match.end() - self.at, captures=True)
        else:
            named = re.compile(r"\(\?P?<\w").match(text, self.at) is not None
            self.open("(", 1, captures=named or not text.startswith(("(?", "(*"), self.at))

    def open(self, piece: str, length: int, *, captures: bool = False) -> None:
        self.out.append((self.at, piece))
        self.opened.append(self.at)
        self.at += length
        self.groups += captures
        self.sizes.append(0)
        self.atom = 1
        # What follows "(?" belongs to the opening and is no text that could be a quantifier.
        if piece == "(" and self.text.startswith("?", self.at):
            match = re.compile(r"\?(?:P?<?[\w=!]+>?|[=!>|]|<[=!]|[+-]?\d+|&\w+|P[>=]\w+)?").match(
                self.text, self.at
            )
            if match:
                self.out.append((self.at, match[0]))
                self.at = match.end()

    def escape(self) -> None:
        """A backslash outside a class."""
        if self.at + 1 >= len(self.text):
            raise self.fault("a backslash at the end")
        name = self.text[self.at + 1]
        if name == "Q":
            end = self.text.find(r"\E", self.at)
            end = len(self.text) if end < 0 else end
            quoted = self.text[self.at + 2 : end]
            self.emit(re.escape(quoted), min(end + 2, len(self.text)) - self.at, len(quoted))
        elif name == "E":
            self.at += 2
        elif f"\\{name}" in _ONLY_PERL:
            raise self.unknown(f"\\{name}")
        elif code := self.coded():
            self.emit(*code)
        elif match := self.match(_NAMED_BACK):
            self.emit(f"(?P={match[match.lastindex or 0]})", match.end() - self.at)
        elif match := self.match(_BACK):
            number = int(match[1] or match[2])
            number = self.groups + 1 + number if number < 0 else number
            self.emit(f"(?:\\{number})", match.end() - self.at)
        elif name == "b" and self.text.startswith("{", self.at + 2):
            raise self.fault(r"\b{...} (Unicode boundaries) is not supported")
        elif name in _ESCAPES:
            self.emit(_ESCAPES[name], 2)
        elif name.isascii() and name.isalnum() and name not in _SAME_ESCAPES:
            self.emit(name, 2)  # Perl lets unknown escapes stand for the letter
        else:
            self.emit(f"\\{name}", 2)

    def coded(self) -> tuple[str, int] | None:
        r"""A character by number (`\x{41}`, `\o{101}`, `\cA`), and the length of its spelling."""
        if match := self.match(_HEX):
            number = int(match[1], 16)
        elif match := self.match(_OCTAL):
            number = int(match[1], 8)
        elif match := self.match(_CONTROL):
            number = ord(match[1].upper()) ^ 64
        else:
            return None
        if number > 0x10FFFF:
            raise self.fault("no such character")
        # The body is searched as bytes: beyond ASCII a character is its UTF-8 form.
        data = bytes([number]) if number < 256 else chr(number).encode("utf-8", "surrogatepass")
        spelled = "".join(f"\\x{byte:02x}" for byte in data)
        return (spelled if len(data) == 1 else f"(?:{spelled})", match.end() - self.at)

    def bracket(self) -> None:
        """A character class; regex would read set operations into it that Perl does not know."""
        text, start = self.text, self.at
        self.at += 1
        parts = ["["]
        if text.startswith("^", self.at):
            parts.append("^")
            self.at += 1
        if text.startswith("]", self.at):
            parts.append(r"\]")
            self.at += 1
        while self.at < len(text) and text[self.at] != "]":
            parts.append(self.member())
        if self.at >= len(text):
            self.at = start
            raise self.fault("the character class has no end")
        parts.append("]")
        length = self.at + 1 - start
        self.at = start
        self.emit("".join(parts), length)

    def member(self) -> str:
        """One member of a character class."""
        if match := self.match(_POSIX):
            self.at = match.end()
            return match[0]
        char = self.text[self.at]
        if char == "\\" and self.at + 1 < len(self.text):
            if code := self.coded():
                self.at += code[1]
                return code[0]
            name = self.text[self.at + 1]
            self.at += 2
            if name in _CLASS_ESCAPES:
                return _CLASS_ESCAPES[name]
            if name.isascii() and name.isalnum() and name not in _SAME_ESCAPES:
                return name
            return f"\\{name}"
        self.at += 1
        return f"\\{char}" if char in "[&|~" else char
