"""Addresses without their secrets, for logs, messages and files. Imports nothing else of the project."""

import logging
import re

HIDDEN = "***"
# user:password@ before the host; a password may hold slashes, but a number behind a colon is a port
_USER = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?:[^\s/?#\"<>]*|[^\s/:@\"<>]+:(?!\d+(?:[/?#\s]|$))[^\s\"<>]*)@"
)
_PARAMETER = re.compile(r"(?P<name>[?&;#][^\s=&;#\"'<>]+=)(?P<value>[^\s&;#\"'<>]*[^\s&;#\"'<>)])")
# what signs or allows a request: ?token=..., &X-Amz-Signature=..., #access_token=...
_SECRET = re.compile(
    r"token|secret|passw|pwd|credential|signature|auth|key|sig\b|pin\b|code\b", re.IGNORECASE
)
_PLAIN = re.compile(r"\d{1,3}|true|false", re.IGNORECASE)  # of ?dl=1 and ?download=true
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"<>]*")


def masked(text: str) -> str:
    """``text`` with ``***`` for user names and passwords in the addresses that it holds, and for the values
    of their queries. Short numbers, true and false are kept if the name of the value does not suggest a
    secret, so that an address in a written config can be used again."""
    return _ADDRESS.sub(_masked_address, text) if "://" in text else text


def _masked_address(match: re.Match[str]) -> str:
    return _PARAMETER.sub(_masked_parameter, _USER.sub(rf"\g<scheme>{HIDDEN}@", match[0]))


def _masked_parameter(match: re.Match[str]) -> str:
    plain = _PLAIN.fullmatch(match["value"]) and not _SECRET.search(match["name"])
    return match[0] if plain else f"{match['name']}{HIDDEN}"


class MaskAddresses(logging.Filter):
    """Passes every log record, with its addresses masked and with characters escaped that no file accepts."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask and escape the record's message and traceback in place; always True."""
        message = record.getMessage()
        # a file of UTF-8 takes no names in other encodings
        shown = masked(message).encode("utf-8", "backslashreplace").decode("utf-8")
        if shown != message:
            record.msg, record.args = shown, None
        if record.exc_info and not record.exc_text:
            record.exc_text = masked(logging.Formatter().formatException(record.exc_info))
        return True
