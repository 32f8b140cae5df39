"""The PyPI client zizhuoffice365managementapi, unmodified, through its whole cycle.

Reads a JSON object from standard input: tenant, client, and secret or key with thumbprint; expected, the number of
Ids to wait for. Writes what it got to standard output, as JSON. Where the service is is told by HTTPS_PROXY and
REQUESTS_CA_BUNDLE alone.
"""

import datetime
import json
import sys
import time

from ZIZHUOffice365ManagementAPI.ZIZHUOffice365ManagementAPI import (
    ContentType,
    Office365ManagementAPIServiceClient,
)

DEADLINE_SECONDS = 120

given = json.load(sys.stdin)
client = Office365ManagementAPIServiceClient(
    tenantID=given["tenant"],
    clientId=given["client"],
    clientsecret=given.get("secret"),
    certificateprivatekey=given.get("key"),
    certificatethumbprint=given.get("thumbprint"),
)
client.connect()
before = client.get_currentsubscriptions()
client.start_subscription(ContentType.AuditGeneral)

blobs = {}
records = []
deadline = time.monotonic() + DEADLINE_SECONDS
while len({record["Id"] for record in records}) < given["expected"] and time.monotonic() < deadline:
    now = datetime.datetime.now(datetime.timezone.utc)
    begin, end = now - datetime.timedelta(hours=23), now + datetime.timedelta(minutes=1)
    listed = client.get_availablecontent(begin, end, ContentType.AuditGeneral)
    new = [blob for blob in listed if blob.contentId not in blobs]
    for blob in client.receive_content(new) or []:
        blobs[blob.contentId] = blob.contentCreated
        records.extend(blob.auditRecords)

now = datetime.datetime.now(datetime.timezone.utc)
notifications = client.get_notifications(now - datetime.timedelta(hours=1), now, ContentType.AuditGeneral)
names = client.receive_resourcefriendlynames()
client.stop_subscriptions()
after = client.get_currentsubscriptions()
json.dump(
    {
        "before": [[subscription.contentType, subscription.status] for subscription in before],
        "after": [[subscription.contentType, subscription.status] for subscription in after],
        "blobs": len(blobs),
        "records": records,
        "notifications": len(notifications),
        "names": [name.name for name in names],
    },
    sys.stdout,
)
