from __future__ import annotations

import pytest

from trace_engine.signatures import SignatureError, sign, verify

# The example of the Standard Webhooks specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"Webhook-Id": ID, "Webhook-Timestamp": str(TIME), "Webhook-Signature": SIGNATURE}


def test_the_example_of_the_specification() -> None:
    assert sign(SECRET, ID, TIME, BODY) == SIGNATURE
    assert verify(SECRET, HEADERS, BODY, now=TIME + 10) == ID


def test_one_right_signature_of_several_is_enough() -> None:
    several = HEADERS | {"Webhook-Signature": f"v1,AAAA v1a,xyz {SIGNATURE}"}
    assert verify(SECRET, several, BODY, now=TIME) == ID


@pytest.mark.parametrize(
    ("changed", "body", "now", "why"),
    [
        ({}, BODY + b" ", TIME, "fit"),
        ({"Webhook-Id": "other"}, BODY, TIME, "fit"),
        ({"Webhook-Timestamp": str(TIME + 1)}, BODY, TIME, "fit"),
        ({"Webhook-Signature": "v1,AAAA"}, BODY, TIME, "fit"),
        ({"Webhook-Signature": "v1,签名"}, BODY, TIME, "fit"),
        ({"Webhook-Signature": ""}, BODY, TIME, "missing"),
        ({"Webhook-Timestamp": "yesterday"}, BODY, TIME, "number"),
        ({"Webhook-Timestamp": "١٢"}, BODY, TIME, "number"),
        ({}, BODY, TIME + 301, "far"),
        ({}, BODY, TIME - 301, "far"),
    ],
)
def test_what_must_not_be_believed(
    changed: dict[str, str], body: bytes, now: int, why: str
) -> None:
    with pytest.raises(SignatureError, match=why):
        verify(SECRET, HEADERS | changed, body, now=now)


def test_a_secret_that_is_none() -> None:
    with pytest.raises(ValueError, match="whsec_"):
        sign("whsec_not base64!", ID, TIME, BODY)
