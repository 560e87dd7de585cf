"""Addresses without their secrets, for whatever is written down. Imports nothing of the project."""

import logging
import re

HIDDEN = "***"
# user:password@ before the host; the last @ before the path ends it
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#\"'<>]*@")
# what signs or allows a request: ?token=..., &X-Amz-Signature=..., #access_token=...
_PARAMETER = re.compile(
    r"(?P<name>[?&;#][^\s=&;#\"'<>]*(?:token|secret|passw|pwd|credential|signature|auth|api[_-]?key|access[_-]?key"
    r"|\bsig\b|\bkey\b)[^\s=&;#\"'<>]*=)[^\s&;#\"'<>]+",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """``text`` with ``***`` for user names, passwords and tokens in the addresses that it holds."""
    if "://" not in text:
        return text
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _PARAMETER.sub(rf"\g<name>{HIDDEN}", text)


class MaskAddresses(logging.Filter):
    """Lets every record of a log pass, with the addresses in it masked and characters escaped that no file
    takes."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        # a file of UTF-8 takes no names in other encodings
        shown = masked(message).encode("utf-8", "backslashreplace").decode("utf-8")
        if shown != message:
            record.msg, record.args = shown, None
        if record.exc_info and not record.exc_text:
            record.exc_text = masked(logging.Formatter().formatException(record.exc_info))
        return True
