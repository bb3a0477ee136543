"""XML of S3: answers are built from nested values, requests are parsed within limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.sax.saxutils import escape

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from storj.s3.errors import S3Error

NAMESPACE: Final = 'http://s3.amazonaws.com/doc/2006-03-01/'

#: Bytes of a document in a request: 10,000 parts or 1,000 keys need less.
MAX_XML: Final = 4 * 1024 * 1024

# Elements that the largest document needs: 10,000 parts with five checksums each, beside number and
# ETag; and levels, of which S3's documents have four.
_MAX_ELEMENTS: Final = 100_000
_MAX_DEPTH: Final = 10


def build(name: str, content: Mapping[str, Any], *, namespace: bool = True) -> bytes:
    """Return a document.

    Args:
        name (str): of its root.
        content (Mapping[str, Any]): element -> text, number, another mapping, or a list for an
            element that is repeated; None leaves an element out.
        namespace (bool): whether the root has S3's namespace; errors have none.
    """
    attribute = f' xmlns="{NAMESPACE}"' if namespace else ''
    inner = _render(content)
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}{attribute}>{inner}</{name}>'
    # An address that is no UTF-8 is told in errors.
    return text.encode('utf-8', 'replace')


def _render(content: Any) -> str:
    if isinstance(content, Mapping):
        return ''.join(
            f'<{name}>{_render(item)}</{name}>'
            for name, value in content.items()
            if value is not None
            for item in (value if isinstance(value, list) else [value])
        )
    if isinstance(content, bool):
        return 'true' if content else 'false'
    # XML 1.0 has no way to write these; S3 sends them as references all the same.
    return ''.join(
        f'&#x{ord(character):x};' if ord(character) < 32 and character not in '\t\n' else character
        for character in escape(str(content))
    )


class _Builder(TreeBuilder):
    """Builds elements without namespaces, and ends a document that has too many of them."""

    def __init__(self) -> None:
        super().__init__()
        self._count = self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._count += 1
        self._depth += 1
        if self._count > _MAX_ELEMENTS or self._depth > _MAX_DEPTH:
            raise S3Error('MalformedXML', 'The document has too many elements, or levels.')
        return super().start(tag.rpartition('}')[2], attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag.rpartition('}')[2])


def parse(data: bytes, root: str) -> Element:
    """Return the root of a document, its elements without namespaces.

    Raises:
        S3Error: If it is not well formed, too large, or has another root.
    """
    if len(data) > MAX_XML:
        raise S3Error('MalformedXML', 'The document is too large.')
    parser = DefusedXMLParser(target=_Builder(), forbid_dtd=True)
    try:
        parser.feed(data)
        found: Element = parser.close()
    except (ParseError, DefusedXmlException, ValueError):
        raise S3Error('MalformedXML') from None
    if found.tag != root:
        raise S3Error('MalformedXML')
    return found


def text_of(element: Element, name: str) -> str | None:
    """Return the text of a child, None if there is none."""
    found = element.find(name)
    return None if found is None else (found.text or '')
