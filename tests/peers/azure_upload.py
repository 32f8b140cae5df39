"""Uploads a row with Microsoft's own client of the Logs Ingestion API.

azure_upload.py URL TENANT CLIENT SECRET RULE STREAM ROW: the URL is that of the data collection endpoint and of the
token endpoints alike, ROW is a JSON object. Ends with 0 when the row was taken.
"""

import json
import sys
import time

import requests
from azure.core.credentials import AccessToken
from azure.monitor.ingestion import LogsIngestionClient

url, tenant, client, secret, rule, stream, row = sys.argv[1:]


class Credential:
    """Asks the token endpoint as azure-identity does, which refuses authorities without TLS."""

    def get_token(self, *scopes, **_):
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": secret,
            "scope": " ".join(scopes),
        }
        answer = requests.post(f"{url}/{tenant}/oauth2/v2.0/token", data=form, timeout=30)
        answer.raise_for_status()
        token = answer.json()
        return AccessToken(token["access_token"], int(time.time()) + token["expires_in"])


ingestion = LogsIngestionClient(url, Credential(), retry_total=0)
ingestion.upload(rule, stream, [json.loads(row)], enforce_https=False)
