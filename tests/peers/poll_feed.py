"""Polls the feed until a file appears, and then writes down what it got.

    poll_feed.py CLIENT FILE    with FILE a JSON object: tenant, client, secret, until, out

CLIENT is `zizhu`, the PyPI client as it is, or `requests`, a plain poller that keeps its connection and measures. One
Id a line goes to `out`, for a record that was divided the Id that its parts name as CorrelationId; figures go to `out`
with `.json` behind it.
"""

import datetime
import json
import os
import sys
import time


def window():
    now = datetime.datetime.now(datetime.timezone.utc)
    return now - datetime.timedelta(hours=23), now + datetime.timedelta(minutes=1)


class Zizhu:
    """The PyPI client: a new connection for each request, the whole window each time."""

    def __init__(self, given):
        from ZIZHUOffice365ManagementAPI import ZIZHUOffice365ManagementAPI as module

        self.general = module.ContentType.AuditGeneral
        self.client = module.Office365ManagementAPIServiceClient(
            tenantID=given["tenant"], clientId=given["client"], clientsecret=given["secret"]
        )
        self.client.connect()
        self.client.start_subscription(self.general)
        self.figures = {}

    def list(self):
        begin, end = window()
        return [(blob.contentId, blob) for blob in self.client.get_availablecontent(begin, end, self.general)]

    def fetch(self, blob):
        return self.client.receive_content([blob])[0].auditRecords


class Requests:
    """A poller as they are commonly written."""

    def __init__(self, given):
        import requests

        self.session, self.given = requests.Session(), given
        self.root = f"https://manage.office.com/api/v1.0/{given['tenant']}/activity/feed"
        self.lists, self.pages, self.largest, self.fetched = [], 0, 0, 0
        answer = self.session.post(
            f"https://login.microsoftonline.com/{given['tenant']}/oauth2/v2.0/token",
            data={
                "grant_type": "client_credentials",
                "client_id": given["client"],
                "client_secret": given["secret"],
                "scope": "https://manage.office.com/.default",
            },
        )
        answer.raise_for_status()
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        answer = self.session.post(f"{self.root}/subscriptions/start?contentType=Audit.General")
        assert answer.ok or answer.json()["error"]["code"] == "AF20024", answer.text

    def get(self, url):
        answer = self.session.get(url)
        answer.raise_for_status()
        self.largest = max(self.largest, len(answer.content))
        return answer

    def page(self, url):
        began = time.perf_counter()
        answer = self.get(url)
        self.lists.append(time.perf_counter() - began)
        return answer

    def list(self):
        begin, end = (time.strftime("%Y-%m-%dT%H:%M:%S") for time in window())
        url = f"{self.root}/subscriptions/content?contentType=Audit.General&startTime={begin}&endTime={end}"
        listed = []
        while url:
            answer = self.page(url)
            listed.extend((content["contentId"], content["contentUri"]) for content in answer.json())
            self.last, url = url, answer.headers.get("NextPageUri")
            self.pages += url is not None
        return listed

    def fetch(self, uri):
        # Lists among the blobs: enough of them to say how long they take while the server is busy.
        self.fetched += 1
        if self.fetched % 4 == 0:
            self.page(self.last)
        return self.get(uri).json()

    @property
    def figures(self):
        lists = sorted(self.lists)
        return {
            "lists": len(lists),
            "further_pages": self.pages,
            "largest_answer": self.largest,
            "list_p50_ms": 1000 * lists[len(lists) // 2],
            "list_p99_ms": 1000 * lists[len(lists) * 99 // 100],
        }


def main():
    with open(sys.argv[2]) as file:
        given = json.load(file)
    client = {"zizhu": Zizhu, "requests": Requests}[sys.argv[1]](given)
    known, seen, records, doubled = set(), set(), set(), 0
    while True:
        is_last = os.path.exists(given["until"])
        for content_id, blob in client.list():
            if content_id in known:
                continue
            known.add(content_id)
            for record in client.fetch(blob):
                doubled += record["Id"] in seen
                seen.add(record["Id"])
                records.add(record["CorrelationId" if "Part" in record else "Id"])
        if is_last:
            break
        time.sleep(0.2)
    with open(given["out"], "w") as file:
        file.writelines(f"{record}\n" for record in sorted(records))
    with open(f"{given['out']}.json", "w") as file:
        json.dump({"blobs": len(known), "doubled": doubled, **client.figures}, file)


main()
