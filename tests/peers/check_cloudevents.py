"""Reads a batch of CloudEvents from standard input as the CloudEvents SDK does, and prints what it understood.

One line for each event, a JSON object with its attributes and `data`. Ends with 1 and says why when the SDK refuses an
event, or when an attribute is not what the specification's type system allows.
"""

import json
import re
import sys
import unicodedata

from cloudevents.core.formats.json import JSONFormat

# RFC 3986: a relative reference or a URI, here without literal IPv6 addresses, user names and fragments.
PCHAR = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
REFERENCE = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?(?://[A-Za-z0-9\-._~!$&'()*+,;=%]*(?::[0-9]*)?)?{PCHAR}*(?:/{PCHAR}*)*"
    rf"(?:\?(?:{PCHAR}|[/?])*)?"
)

for given in json.load(sys.stdin):
    event = JSONFormat().read(None, json.dumps(given))
    for name, value in event.get_attributes().items():
        # Cc: control characters; Cs: halves of characters; the last are no characters at all.
        if isinstance(value, str) and any(
            unicodedata.category(c) in ("Cc", "Cs") or ord(c) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(c) <= 0xFDEF
            for c in value
        ):
            sys.exit(f"{name} of {event.get_id()} has characters that attributes can't have: {value!r}")
    if not REFERENCE.fullmatch(event.get_source()):
        sys.exit(f"the source of {event.get_id()} is no URI reference: {event.get_source()!r}")
    attributes = dict(event.get_attributes(), time=event.get_time().isoformat(), data=event.get_data())
    print(json.dumps(attributes))
