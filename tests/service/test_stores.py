"""The keys that pseudonyms are made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from trace_engine.events.privacy import KEY_VARIABLE
from trace_engine.service.settings import ServiceSettings
from trace_engine.service.stores import hash_key
from trace_engine.store.migrate import StoreError


@pytest.mark.parametrize("given", ["environment", "file"])
def test_a_key_of_pseudonyms_that_could_be_guessed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    file = tmp_path / "short.key" if given == "file" else None
    for key, good in (("k" * 31, False), ("k" * 32, True)):
        monkeypatch.setenv(KEY_VARIABLE, key)
        if file is not None:
            file.write_text(key)
        settings = ServiceSettings(data=tmp_path, hash_key_file=file)
        if good:
            assert hash_key(settings) == key.encode()
            continue
        with pytest.raises(StoreError, match="at least 32 characters") as refused:
            hash_key(settings)
        assert key not in str(refused.value)
