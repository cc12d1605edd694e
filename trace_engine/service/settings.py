"""Settings of the service: command line before environment before file before defaults.

Every field has an environment variable, ``TRACE_ENGINE_`` and its name in capitals. The file is
TOML with the fields' names, named by ``--config`` or ``TRACE_ENGINE_CONFIG``. A wrong value is one
:class:`SettingsError` that names the field, never the value of a secret.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from limits import parse_many
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX = "TRACE_ENGINE_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
MIB = 1 << 20


class SettingsError(Exception):
    """A setting cannot be used; the text is one line and names it."""


def _processors() -> int:
    """Return how many threads the engine gets: one processor is left to requests."""
    affinity = getattr(os, "sched_getaffinity", None)
    there = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, there - 1)


class ServiceSettings(BaseSettings):
    """All that an operator may set. Sizes in bytes, times in seconds unless a name says else."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=False,
    )
    # The file of this reading; set for one call by `load`, as pydantic reads sources by class.
    file: ClassVar[Path | None] = None

    # Where things are.
    data: Path = Field(Path("trace-engine-data"), description="journal, state, default database")
    database: str | None = Field(None, description="SQLAlchemy URL; default: SQLite inside data")
    registry: Path | None = Field(None, description="registry folder")
    policy: str | None = Field(None, description="policy file; default: the one shipped")
    hash_key_file: Path | None = Field(
        None, description="key that hashes personal numbers; default: data/hash.key, made once"
    )

    # Who is listened to.
    host: str = "127.0.0.1"
    port: int = Field(8420, ge=0, le=65535, description="0: any free port, printed")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="names accepted in the header Host; empty: any (without keys: localhost)"
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="addresses whose X-Forwarded-For and -Proto are believed"
    )
    public_metrics: bool = Field(False, description="/metrics without a key")
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = Field(None, description="callers must show a certificate of it")

    # When days close, and what is kept.
    lateness_days: int = Field(
        2, ge=0, le=366, description="so many days before the latest one seen stay open"
    )
    future_days: int | None = Field(
        1, ge=0, description="an event further ahead of its receipt than this closes no day"
    )
    close_after_days: int = Field(
        180,
        ge=1,
        le=36_500,
        description="codes sold or destroyed leave memory after their last event",
    )
    threads: int = Field(
        default_factory=_processors, ge=1, le=1024, description="of the engine, when days close"
    )
    checkpoint_seconds: float = Field(300.0, ge=1, le=86_400)
    checkpoint_rows: int = Field(10_000_000, ge=1)
    retention_years: int = Field(5, ge=5, le=100)
    most_waiting_bytes: int = Field(1 << 30, ge=MIB, description="journal not yet taken: then 429")
    most_waiting_rows: int = Field(20_000_000, ge=1000)

    # Limits of one caller and one request.
    rate_per_key: str = Field("1000/second", description="requests of one key")
    rate_per_address: str = Field("100/second", description="of one address without a valid key")
    rate_of_refusals: str = Field("20/minute", description="wrong keys of one address")
    most_body_bytes: int = Field(64 * MIB, ge=1024, description="of POST /v1/events, as sent")
    most_small_body_bytes: int = Field(MIB, ge=1024, description="of every other body")
    most_url_bytes: int = Field(8192, ge=256, le=65_536)
    most_header_bytes: int = Field(16_384, ge=1024, le=65_536)
    most_in_flight: int = Field(256, ge=1, description="requests worked on at once: then 503")
    most_connections: int = Field(1024, ge=1)
    body_seconds: float = Field(60.0, gt=0, description="for a body to arrive")
    header_seconds: float = Field(10.0, gt=0, description="for the headers to arrive")
    keep_alive_seconds: int = Field(30, ge=1)
    stop_seconds: int = Field(30, ge=1, description="for open requests to end when stopping")
    close_seconds: float = Field(240.0, gt=0, description="then for the engine, and a checkpoint")

    # Findings on their way out.
    most_streams: int = Field(64, ge=1, description="listeners of GET /v1/stream at once")
    most_streams_per_key: int = Field(8, ge=1)
    stream_heartbeat_seconds: float = Field(15.0, gt=0)
    stream_send_seconds: float = Field(30.0, gt=0, description="a listener that takes nothing")
    stream_lifetime_seconds: float = Field(900.0, gt=0, description="then it must connect again")
    most_webhooks: int = Field(50, ge=0)
    webhook_allowed_networks: tuple[str, ...] = Field(
        (), description="private networks that webhooks may call, like 10.1.0.0/16"
    )
    webhook_seconds: float = Field(10.0, gt=0, description="for one try of a delivery")
    webhook_give_up_seconds: float = Field(259_200.0, gt=0, description="after the first try")

    # What is written down.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = True

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        if cls.file is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, cls.file)

    @field_validator("rate_per_key", "rate_per_address", "rate_of_refusals")
    @classmethod
    def _rate(cls, value: str) -> str:
        try:
            parse_many(value)
        except ValueError:
            raise ValueError("expected like '1000/second' or '20/minute'") from None
        return value

    @model_validator(mode="after")
    def _tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can reach the address to listen on."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def database_url(self) -> str:
        """Return where findings, keys and the audit log are kept."""
        return self.database or f"sqlite:///{self.data.resolve() / 'trace-engine.sqlite3'}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the context to listen with; None without TLS. At least TLS 1.2.

        Raises :class:`SettingsError` for a file that cannot be read or is not what it should be.
        """
        if self.tls_certificate is None or self.tls_key is None:
            return None
        for name in ("tls_certificate", "tls_key", "tls_client_ca"):  # ssl would not say which one
            path: Path | None = getattr(self, name)
            try:
                if path is not None:
                    path.read_bytes()
            except OSError as error:
                raise SettingsError(f"{name}: {path}: {error.strerror}") from error
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.tls_certificate, self.tls_key, _no_passphrase)
            if self.tls_client_ca is not None:
                context.load_verify_locations(self.tls_client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except ssl.SSLError as error:
            raise SettingsError(f"TLS: {error.reason or error}") from error
        return context


def _no_passphrase() -> str:
    """Refuse a key that is encrypted: nobody is there whom ``ssl`` could ask."""
    raise SettingsError(
        "tls_key: is encrypted; give one without a passphrase that only the user of the service can read"
    )


def load(config: Path | None = None, **given: Any) -> ServiceSettings:
    """Return the settings; ``given`` values that are None count as not given.

    Raises :class:`SettingsError` for a wrong value, an unknown name in the file or an unreadable
    file.
    """
    named = config or (
        Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None
    )
    if named is not None:
        _check_file(named)
    source = type("ServiceSettings", (ServiceSettings,), {"file": named, "__module__": __name__})
    try:
        settings: ServiceSettings = source(**{k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        raise SettingsError(_told(error)) from None
    return settings


def _check_file(path: Path) -> None:
    try:
        names = tomllib.loads(path.read_text("utf-8")).keys()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    unknown = sorted(set(names) - set(ServiceSettings.model_fields))
    if unknown:
        raise SettingsError(f"{path}: no setting is named {', '.join(unknown)}")


def _told(error: ValidationError) -> str:
    """Return the first faults as one line, without the values (a URL may hold a password)."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}"
        for fault in error.errors()[:3]
    )
