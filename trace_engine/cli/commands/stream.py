"""``trace-engine stream``: events from a Kafka topic, findings to another, exactly once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click

from trace_engine.cli.bilingual import Text, command, common, option, say
from trace_engine.cli.errors import DONE, UserError
from trace_engine.cli.settings import policy_option, registry_option

FORMATS = ("auto", "json", "ndjson", "arrow")  # of trace_engine.cluster.kafka.settings


@command(
    about=Text(
        "从 Kafka 主题读取追溯事件，把线索写入另一主题（恰好一次）。\n\n"
        "每个分区有独立的引擎和状态；同一消费组可运行多个成员，须共用 --state 文件夹。"
        "收到 SIGTERM 时保存检查点后退出。需安装 trace-engine[kafka]；详见 docs/kafka.md。",
        "Read events from a Kafka topic and write findings to another, exactly once.\n\n"
        "Each partition has an engine and a state of its own. Several members of one group share "
        "the folder --state. SIGTERM saves a checkpoint and ends. Needs trace-engine[kafka]; see "
        "docs/kafka.md.",
    )
)
@option(
    "--brokers",
    required=True,
    metavar="HOST:PORT,...",
    about=Text("Kafka 地址。", "Kafka brokers to ask first."),
)
@option("--topic", required=True, about=Text("事件主题。", "Topic of events."))
@option(
    "--findings-topic",
    default="trace-findings",
    show_default=True,
    about=Text("线索主题。", "Topic that findings go to."),
)
@option(
    "--rejects-topic",
    default="trace-rejects",
    show_default=True,
    about=Text("拒收行主题。", "Topic that refused rows go to."),
)
@option(
    "--progress-topic",
    default=None,
    about=Text(
        "可选：每个检查点写入一条进度（线索已完整到哪一天）。",
        "Topic told at each checkpoint through which day findings are complete.",
    ),
)
@option(
    "--group",
    default="trace-engine",
    show_default=True,
    about=Text("消费组。", "Consumer group."),
)
@option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    about=Text("状态文件夹，所有成员共用。", "Folder of states, shared by all members."),
)
@registry_option
@policy_option
@option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    about=Text(
        "消息格式（消息头 content-type 优先）。", "Form of messages (content-type header wins)."
    ),
)
@option(
    "--lateness",
    "lateness_days",
    type=click.IntRange(0, 3660),
    default=2,
    show_default=True,
    about=Text("允许迟到的天数。", "Days that events may come late."),
)
@option(
    "--future",
    "future_days",
    type=click.IntRange(0, 3660),
    default=2,
    show_default=True,
    about=Text(
        "日期超前消息时间多于此天数的事件不推进日期。",
        "Events dated more days ahead of their message close no day.",
    ),
)
@option(
    "--close-after-days",
    type=click.IntRange(1, 36_500),
    default=180,
    show_default=True,
    about=Text(
        "已售出或已销毁的码在最后一次事件后多少天移出内存（归档到状态文件夹，不影响线索）。",
        "Codes sold or destroyed move from memory into the state folder so many days after their "
        "last event; findings are the same.",
    ),
)
@option(
    "--checkpoint-seconds",
    type=click.FloatRange(0.1, 86_400),
    default=30.0,
    show_default=True,
    about=Text("检查点间隔；线索随检查点发布。", "Time between checkpoints, which publish."),
)
@option(
    "--progress-seconds",
    type=click.FloatRange(0.1, 86_400),
    default=10.0,
    show_default=True,
    about=Text("进度行间隔。", "Time between progress lines."),
)
@option(
    "--workers",
    "threads",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    about=Text("每个分区的线程数。", "Threads of each partition."),
)
@option(
    "--property",
    "properties",
    multiple=True,
    metavar="NAME=VALUE",
    about=Text(
        "librdkafka 属性，可重复；密码请放在 --properties 文件中。",
        "Property of librdkafka, repeatable; keep passwords in --properties.",
    ),
)
@option(
    "--properties",
    "properties_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    metavar="FILE",
    about=Text("属性文件，每行 名称=值。", "File of properties, a NAME=VALUE a line."),
)
@option(
    "--rebuild-state",
    "rebuild",
    is_flag=True,
    about=Text(
        "状态缺失时从头重读，已发布的线索不再发布。",
        "Where state is missing, read all again; publish nothing twice.",
    ),
)
@option(
    "--log-format",
    type=click.Choice(("auto", "json", "text")),
    default="auto",
    show_default=True,
    about=Text("日志格式。", "Form of log lines."),
)
@common
def stream(properties: tuple[str, ...], log_format: str, debug: bool, **options: Any) -> int:
    """Run one member of the group until it is told to stop."""
    from trace_engine.cluster.kafka.errors import StreamError

    _need_client()
    from trace_engine.cluster.kafka.lines import show_lines
    from trace_engine.cluster.kafka.member import StreamMember, run_stream
    from trace_engine.cluster.kafka.settings import StreamSettings, parse_properties

    options.pop("lang", None)
    if log_format == "auto":
        log_format = "text" if sys.stderr.isatty() else "json"
    show_lines(log_format, sys.stderr, verbose=debug)
    try:
        given = parse_properties(properties, options.pop("properties_file"))
        settings = StreamSettings(format=options.pop("form"), properties=given, **options)

        def heed(member: StreamMember) -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: member.stop())

        run_stream(settings, heed)
    except StreamError as error:
        raise UserError(say(error.zh or str(error), str(error))) from error
    return DONE


def _need_client() -> None:
    from importlib.util import find_spec

    if find_spec("confluent_kafka") is None:
        raise UserError(
            say(
                "未安装 Kafka 客户端：pip install 'trace-engine[kafka]'",
                "the Kafka client is not installed: pip install 'trace-engine[kafka]'",
            )
        )
