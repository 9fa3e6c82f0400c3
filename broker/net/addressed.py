"""What treq is asked for: it spells every host as an international name, and an IPv6 address is none, so that it would refuse it."""

from __future__ import annotations

from urllib.parse import urlsplit

from hyperlink import EncodedURL


class _AsItIs(EncodedURL):
    """Ours are ASCII already: the configuration sees to that."""

    def to_uri(self) -> EncodedURL:
        return self


def addressed(url: str) -> str | EncodedURL:
    """This URL, in a form in which its host may be an IPv6 address in brackets."""
    return _AsItIs.from_text(url) if "[" in urlsplit(url).netloc else url
