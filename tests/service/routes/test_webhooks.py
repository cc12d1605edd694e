from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.routes.answers import all_pages, fits, problem
from tests.service.routes.conftest import Api
from tests.service.routes.receiver import Receiver
from tests.service.routes.worlds import finding
from trace_engine.service import webhooks as sending
from trace_engine.service.outbound import networks
from trace_engine.service.routes.webhooks import (
    CreatedWebhook,
    DeliveriesPage,
    Webhooks,
    WebhookView,
)
from trace_engine.signatures import verify

HOOKS = "/v1/webhooks"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A local receiver that may be called, and pauses that do not keep a test waiting."""
    plain = sending.WebhookLimits(
        allowed=networks(["127.0.0.0/8"]), first_pause=0.02, longest_pause=0.05, most=3
    )
    monkeypatch.setattr(
        sending.WebhookLimits, "of", classmethod(lambda cls, settings: plain), raising=True
    )
    with Receiver().running() as receiver:
        yield receiver


# The receiver stands before the app, which reads the limits when it starts.
@pytest.fixture
def hooked(receiver: Receiver, api: Api) -> Api:
    return api


def add(api: Api, **body: Any) -> Any:
    return api.client.post(HOOKS, json=body, headers=api.officer)


def officer_get(api: Api) -> Any:
    return lambda path, **more: api.client.get(path, headers=api.officer, **more)


def test_a_subscription_from_its_beginning_to_its_end(hooked: Api, receiver: Receiver) -> None:
    api, get = hooked, officer_get(hooked)
    api.world.store(finding(1))
    asked = {"url": receiver.url, "filters": {"severity_min": 0.4, "region": "37"}}
    answer = add(api, **asked)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = fits(CreatedWebhook, answer)
    path = answer.headers["location"]
    assert path == f"{HOOKS}/{made['webhook_id']}"
    assert (made["url"], made["created_by"], made["active"]) == (receiver.url, "case desk", True)
    assert made["filters"]["region"] == "37"
    assert made["queued_through"] == 1
    api.world.store(finding(2), finding(3, severity=0.1))
    (request,) = receiver.wait(1)
    assert request.findings == ["f000002"]
    one = verify(made["secret"], request.headers, request.body)
    deliveries = fits(DeliveriesPage, get(f"{path}/deliveries"))["deliveries"]
    assert [row["delivery_id"] for row in deliveries] == [one]
    assert "secret" not in fits(WebhookView, get(path))
    listed = fits(Webhooks, get(HOOKS))["webhooks"]
    assert [row["webhook_id"] for row in listed] == [made["webhook_id"]]
    assert made["secret"] not in get(HOOKS).text
    assert made["secret"] not in str(api.noted("webhook.add"))
    gone = api.client.delete(path, headers=api.officer)
    assert (gone.status_code, gone.content) == (204, b"")
    problem(get(path), 404, "not-found")
    problem(api.client.delete(path, headers=api.officer), 404, "not-found")
    assert api.noted("webhook.remove")["subject"] == made["webhook_id"]


def test_all_there_is_can_be_asked_for(hooked: Api, receiver: Receiver) -> None:
    hooked.world.store(finding(1), finding(2))
    add(hooked, url=receiver.url, after=0)
    assert receiver.wait(1)[0].findings == ["f000001", "f000002"]
    answer = add(hooked, url=receiver.url, after=3)
    assert problem(answer, 422, "invalid")["errors"][0]["where"] == "body.after"


def test_pausing_keeps_what_is_found_meanwhile(hooked: Api, receiver: Receiver) -> None:
    path = add(hooked, url=receiver.url).headers["location"]

    def change(active: bool) -> Any:
        return hooked.client.patch(path, json={"active": active}, headers=hooked.officer)

    assert fits(WebhookView, change(False))["active"] is False
    hooked.world.store(finding(1))
    assert receiver.requests == []
    assert fits(WebhookView, change(True))["active"] is True
    assert receiver.wait(1)[0].findings == ["f000001"]
    unknown = f"{HOOKS}/wh-0"
    answer = hooked.client.patch(unknown, json={"active": True}, headers=hooked.officer)
    problem(answer, 404, "not-found")


def test_dead_letters_are_shown_and_can_be_sent_again(hooked: Api, receiver: Receiver) -> None:
    api, get = hooked, officer_get(hooked)
    deliverer = api.client.app.state.webhooks  # type: ignore[attr-defined]
    deliverer.limits = sending.WebhookLimits(allowed=deliverer.limits.allowed, give_up=0.0)
    path = add(api, url=receiver.url).headers["location"]
    receiver.answers.extend([(500, {}), (200, {}), (503, {})])
    numbers = []
    for i in range(3):
        api.world.store(finding(i))
        receiver.wait(i + 1)
    while len(numbers) < 2:
        dead = get(f"{path}/deliveries", params={"state": "given_up"}).json()["deliveries"]
        numbers = [row["number"] for row in dead]
    assert [row["last_error"] for row in dead] == ["answered 503", "answered 500"]
    assert fits(WebhookView, get(path))["given_up"] == 2
    paged = all_pages(get, f"{path}/deliveries", "deliveries", limit=1, state="given_up")
    assert paged == dead
    again = api.client.post(f"{path}/deliveries/{numbers[1]}/retry", headers=api.officer)
    assert again.status_code == 202
    assert receiver.wait(4)[3].findings == ["f000000"]
    for number in (numbers[0] + 10**6, numbers[1] + 1):
        answer = api.client.post(f"{path}/deliveries/{number}/retry", headers=api.officer)
        problem(answer, 404, "not-found")


def test_addresses_and_filters_that_cannot_be_used(api: Api) -> None:
    for body in (
        {},
        {"url": "ftp://desk/hook"},
        {"url": "http://127.0.0.1:9/hook"},
        {"url": "http://169.254.169.254/latest"},
        {"url": "http://[::1]/hook/"},
        {"url": "https://user:password@desk/hook"},
        {"url": "https://desk/hook", "filters": {"severity_min": 2}},
        {"url": "https://desk/hook", "filters": {"detector": []}},
        {"url": "https://desk/hook", "filters": {"what": 1}},
        {"url": "https://desk/hook", "filters": {"detector": ["repeated_transfers"]}},
        {"url": "https://desk/hook", "secret": "mine"},
        {"url": "https://desk/hook", "after": -1},
    ):
        answer = add(api, **body)
        problem(answer, 422, "invalid")
        assert "user:password" not in answer.text
    assert api.client.get(HOOKS, headers=api.officer).json() == {"webhooks": []}


def test_there_are_only_so_many(hooked: Api, receiver: Receiver) -> None:
    for _ in range(3):
        assert add(hooked, url=receiver.url).status_code == 201
    problem(add(hooked, url=receiver.url), 409, "conflict")


def test_webhooks_are_for_officers(api: Api) -> None:
    path = f"{HOOKS}/wh-0"
    for key in (api.reader, api.sender):
        problem(api.client.get(HOOKS, headers=key), 403, "forbidden")
        problem(api.client.post(HOOKS, json={"url": "https://x"}, headers=key), 403, "forbidden")
        problem(api.client.delete(path, headers=key), 403, "forbidden")
    problem(api.client.get(path, headers=api.officer), 404, "not-found")
    problem(api.client.get(f"{path}/deliveries", headers=api.officer), 404, "not-found")
    assert api.client.get(HOOKS, headers=api.admin).status_code == 200
