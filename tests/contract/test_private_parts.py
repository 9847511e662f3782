"""The claims of docs/reference/private-parts.md are true of the versions that are installed here.

Each test uses the library alone, or one connection to PostgreSQL: none starts a system.
"""

import io
import json
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import adbc_driver_manager
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import redis
import skops.io
from billiard.pool import Pool
from celery.app.task import Context
from celery.concurrency.prefork import TaskPool
from celery.worker import control as celerys_control
from celery.worker.consumer.consumer import Consumer as CeleryConsumer
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle
from celery.worker.request import Request
from flower import app as flower_app
from flower import events as flower_events
from flower.command import extract_settings
from flower.urls import handlers, settings
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES, resolve_transport
from kombu.transport import redis as kombu_redis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from scorebeat.broker.app import make_app, queue
from scorebeat.broker.guard import commands, envelope
from scorebeat.broker.guard.transport import Channel, QoS, Transport
from scorebeat.broker.neighbours import BINDING
from scorebeat.core.errors import InputError, PrefixUnknown
from scorebeat.core.queues import SCORE
from scorebeat.core.settings import Settings
from scorebeat.db.batch_io.columns import begin_query, fetch
from scorebeat.db.connect.database_errors import sqlstate
from scorebeat.db.connect.engine import autocommit, data_connection, run
from scorebeat.db.source.source import Source
from scorebeat.models.formats.sklearn.outputs import estimator_kind
from scorebeat.monitor.handlers import FLOWERS_OWN
from scorebeat.monitor.templates import OURS, PLAIN, templates
from scorebeat.ops.cli.output import _Console
from scorebeat.ops.local.servers import postgres, valkey
from tests.docs.private_parts import ROWS

NO_KEY = Source("job", "", (), pa.schema([]))
NOWHERE = "redis://127.0.0.1:1/0"
"""Nobody listens there: whoever opens a connection to it gets another error than the one that is expected."""
LIBRARIES = {package for row in ROWS for package in row.packages}
NAMED = sorted({name for row in ROWS for name in row.names if "." in name and name.partition(".")[0] in LIBRARIES})


@pytest.fixture
def app() -> Any:
    """An application whose prefix cannot be read."""

    def unknown() -> str:
        raise PrefixUnknown("no ledger")

    return make_app(Settings(_env_file=None, broker_url=NOWHERE), unknown)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith("torch.") else ()) for name in NAMED]
)
def test_each_private_name_is_in_its_library(name: str) -> None:
    library = name.partition(".")[0]
    pytest.importorskip(library, reason=f"{library} is not installed: make install EXTRAS=dev,{library}")

    _found(name)


def test_no_connection_is_opened_before_the_prefix_is_known(app: Any) -> None:
    for connection in (app.connection_for_write(), app.pool.acquire(), app.producer_pool.acquire().connection):
        with pytest.raises(OperationalError) as refused:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_max=0)

        assert isinstance(refused.value.__cause__, PrefixUnknown)


def test_a_connections_own_transport_wins_over_that_of_its_url() -> None:
    connection: Any = Connection(NOWHERE)
    connection.get_transport_cls = lambda: Transport

    assert type(connection.transport) is Transport
    assert Transport.Channel is Channel
    assert Channel.QoS is QoS


def test_kombu_takes_the_transport_of_a_url_from_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("redis", "rediss"):
        monkeypatch.setitem(TRANSPORT_ALIASES, name, "scorebeat.broker.guard.flower_transport:Transport")

        assert resolve_transport(name).__module__ == "scorebeat.broker.guard.flower_transport"


@pytest.fixture
def channel() -> Any:
    """One that was never connected."""

    class Unconnected(Channel):
        Client = redis.Redis
        pool = async_pool = redis.ConnectionPool()
        connection_errors = ()

        def __init__(self) -> None:
            pass

        def __del__(self) -> None:
            pass

    return Unconnected()


def test_kombu_waits_for_messages_with_the_client_that_looks_at_what_is_popped(channel: Any) -> None:
    assert channel.client.response_callbacks["BRPOP"] == channel._popped
    assert channel._popped((b"cpu", b"junk")) is None


def test_kombu_passes_over_what_was_broadcast_and_lost_its_content(channel: Any) -> None:
    message = channel._handle_message(None, [b"message", b"/0.celery.pidbox", b"junk"])

    assert message["data"] is None
    assert channel._handle_message(None, [b"message", b"/0.other", b""])["data"] == b""
    channel.__dict__.update(subclient=_Scripted([b"message", b"/0.celery.pidbox", b"junk"]), _fanout_to_queue={})
    assert channel._receive_one(channel.subclient) is None


def test_messages_that_kombu_restores_are_checked_first_and_junk_is_deleted() -> None:
    deleted: list[tuple[str, ...]] = []
    client = SimpleNamespace(
        hget=lambda *_: b"junk", hdel=lambda *key: deleted.append(key), zrem=lambda *key: deleted.append(key)
    )

    @contextmanager
    def reached(other: Any = None) -> Iterator[Any]:
        yield other or client

    class Unconnected(QoS):
        def __init__(self) -> None:
            self.channel = SimpleNamespace(
                conn_or_acquire=reached,
                unacked_key=kombu_redis.Channel.unacked_key,
                unacked_index_key=kombu_redis.Channel.unacked_index_key,
            )
            self._delivered = OrderedDict(tag=None)

    Unconnected().restore_unacked()  # type: ignore[no-untyped-call]  # kombu types few functions

    assert deleted == [("unacked", "tag"), ("unacked_index", "tag")]


def test_kombus_keys_and_channels_have_the_names_that_we_look_for() -> None:
    assert kombu_redis.Channel.keyprefix_queue == f"{BINDING}%s"
    assert kombu_redis.Channel.keyprefix_fanout == "/{db}."
    assert make_app(Settings(_env_file=None, broker_url=NOWHERE), lambda: "p:").control.mailbox.namespace == "celery"


@pytest.fixture
def within() -> Any:
    """An application whose broker is kombu's own, within this process."""
    made = make_app(Settings(_env_file=None, broker_url=NOWHERE), lambda: "p:")
    made.conf.broker_url = "memory://"
    return made


@pytest.fixture
def broker(within: Any) -> Any:
    with within.connection_for_read() as connection:
        yield connection.default_channel


def test_a_task_travels_as_we_look_for_it(within: Any, broker: Any) -> None:
    within.send_task(SCORE, args=[1], queue=queue("cpu"), expires=3)

    raw = json.dumps(broker._get("cpu"))

    assert envelope.envelope_fault(raw) is None
    headers, body = envelope.opened(raw)
    known = {*envelope._OURS, *envelope._LEFT_OUT, *vars(Context), "shadow", "stamps", "stamped_headers"}
    assert set(headers) <= known
    assert body == [[1], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


@pytest.mark.parametrize("destination", [None, ["a@b"]])
def test_a_command_and_its_reply_travel_as_we_look_for_them(within: Any, broker: Any, destination: Any) -> None:
    mailbox, control = within.control.mailbox, within.control
    mailbox.Node("a@b", channel=broker).listen()
    replies = mailbox(broker.connection.client).get_reply_queue()(broker)
    replies.declare()

    control.broadcast("pool_grow", arguments={"n": 1}, destination=destination)

    raw = json.dumps(broker._get(f"a@b.{commands.MAILBOX}"))
    assert envelope.envelope_fault(raw) is None
    assert commands.command_fault(*envelope.opened(raw)) is None

    mailbox._publish_reply({"a@b": "ok"}, mailbox.reply_exchange.name, replies.routing_key, "a ticket", channel=broker)

    raw = json.dumps(broker._get(replies.name))
    assert replies.name.endswith(commands.REPLIES)
    assert commands.reply_fault(*envelope.opened(raw)) is None


def test_each_command_that_is_kept_is_one_of_celerys_and_takes_those_arguments() -> None:
    for name, known in commands._ARGUMENTS.items():
        assert {*known} <= {*signature(getattr(celerys_control, name)).parameters}, name
    assert all(hasattr(celerys_control, name) for name in commands.KEPT)


def test_celery_has_options_that_silence_a_worker() -> None:
    assert "without_gossip" in signature(Gossip.__init__).parameters
    assert "without_mingle" in signature(Mingle.__init__).parameters


def test_celery_acknowledges_a_task_by_the_methods_that_its_message_has() -> None:
    called: list[str] = []
    message = SimpleNamespace(
        headers={"task": SCORE},
        ack_log_error=lambda *_: called.append("ack"),
        reject_log_error=lambda *_: called.append("reject"),
    )

    def strategy(_message: Any, _payload: Any, ack: Any, reject: Any, _callbacks: Any) -> None:
        ack(None, ())
        reject(None, ())

    consumer = SimpleNamespace(
        strategies={SCORE: strategy}, on_unknown_message=None, on_unknown_task=None, on_invalid_task=None,
        on_task_message=(), call_soon_ack=lambda call, *args: call(*args), restart_count=0,
        _maximum_prefetch_restored=True, _new_prefetch_count=0, max_prefetch_count=0,
        _restore_prefetch_count_after_connection_restart=lambda *_: None,
    )  # fmt: skip

    CeleryConsumer.create_task_handler(consumer)(message)

    assert called == ["ack", "reject"]


def test_a_request_knows_in_which_process_it_was() -> None:
    request = object.__new__(Request)

    assert request.worker_pid is None
    assert {"on_failure", "on_timeout"} <= vars(Request).keys()


def test_the_pools_processes_are_known_by_their_ids() -> None:
    pool = object.__new__(TaskPool)
    pool.limit, pool.putlocks = 2, True
    pool._pool = SimpleNamespace(_pool=[SimpleNamespace(pid=17)], _maxtasksperchild=None, soft_timeout=1, timeout=2)

    assert pool.info["processes"] == [17]


def test_a_process_of_the_pool_has_its_number() -> None:
    assert "index" in Pool._create_worker_process.__code__.co_names


def test_flower_takes_our_parts_instead_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = object()
    monkeypatch.setattr(flower_events, "EventsState", lambda **_: ours)

    kept = flower_events.Events(SimpleNamespace(), None, max_workers_in_memory=1, max_tasks_in_memory=1)

    assert kept.state is ours
    assert "HTTPServer" in flower_app.Flower.start_http_server.__code__.co_names
    assert "template_path" in settings
    assert extract_settings.__globals__["settings"] is settings
    assert all(isinstance(one, tuple) or one.handler_class for one in handlers)


def test_flowers_pages_have_the_navigation_and_the_one_script_that_we_know() -> None:
    folder = Path(settings["template_path"])
    loader = templates(folder)

    assert (OURS / "tab.html").read_text("utf-8") in loader.dict["navbar.html"]
    assert loader.load(f"{PLAIN}task.html").name == f"{PLAIN}task.html"
    written = {text for path in folder.glob("*.html") for text in _scripts(path.read_text("utf-8"))}
    assert {f"\n{text.strip()}\n" for text in written} == {"\nvar autorefresh = {{ autorefresh }};\n"}
    assert {text.replace("0", "{{ autorefresh }}").replace("1", "{{ autorefresh }}") for text in FLOWERS_OWN} == {
        "\nvar autorefresh = {{ autorefresh }};\n"
    }


def test_uvicorns_protocol_has_the_parts_that_we_extend() -> None:
    overridden = {"connection_made", "data_received", "on_response_complete", "connection_lost"}

    assert overridden <= {*dir(AutoHTTPProtocol)}
    assert {"cycle", "loop", "transport", "response_complete"} <= _names_in(import_module(AutoHTTPProtocol.__module__))


def test_scikit_learn_keeps_its_attributes_of_training_where_we_look() -> None:
    rows, classes = np.arange(80.0).reshape(40, 2), np.arange(40) % 2
    words = pd.DataFrame({"word": pd.Categorical(["a", "b"] * 20), "number": rows[:, 0]})
    boosted: Any = HistGradientBoostingClassifier(max_iter=2).fit(rows, classes)
    of_words: Any = HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype").fit(words, classes)
    near: Any = KNeighborsClassifier().fit(rows, classes)
    framed: Any = StandardScaler().set_output(transform="pandas")

    assert [len(edges) > 0 for edges in boosted._bin_mapper.bin_thresholds_] == [True, True]
    assert boosted._preprocessor is None
    assert of_words._preprocessor.transform(words).shape == words.shape
    assert near._fit_X.shape == rows.shape
    assert framed._sklearn_output_config


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_a_class_without_tags_is_classified_as_in_older_versions(kind: str) -> None:
    own = type("Own", (), {"_estimator_type": kind, "fit": lambda self, *_: self, "predict": lambda _, x: x})()

    assert estimator_kind(own) == kind


def test_a_skops_file_has_its_schema_where_we_read_it(tmp_path: Path) -> None:
    skops.io.dump(StandardScaler().fit([[1.0], [2.0]]), tmp_path / "m.skops")

    with zipfile.ZipFile(tmp_path / "m.skops") as archive:
        assert b"_sklearn_version" in archive.read("schema.json")


def test_a_broken_pipe_leaves_rich_as_it_came() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        _Console(file=Gone()).print("a line")


def test_an_error_among_rows_keeps_its_sqlstate(database: str) -> None:
    rows = "SELECT i, repeat('x', 1000), 1 / (199999 - i) FROM generate_series(1, 200000) i"
    with data_connection(database) as connection:
        begin_query(connection)
        with pytest.raises(adbc_driver_manager.Error) as raised:
            fetch(connection, rows, NO_KEY, 200_000, 2**40)

    assert sqlstate(raised.value) == "22012"


def test_the_driver_refuses_an_array_with_another_lower_bound_in_these_words(database: str) -> None:
    with data_connection(database) as connection:
        begin_query(connection)
        with pytest.raises(InputError, match="first index is neither 0 nor 1"):
            fetch(connection, "SELECT 1 AS i, '[3:4]={1,2}'::int[] AS x", NO_KEY, 1, 2**40)


def test_the_driver_runs_several_statements_and_returns_the_rows_of_the_last(database: str) -> None:
    with data_connection(database) as connection, autocommit(connection), connection.cursor() as cursor:
        run(cursor, "CREATE TABLE public.t (i int); INSERT INTO t VALUES (1), (2), (3)")

        assert run(cursor, "BEGIN; SELECT 1 FROM t WHERE i < 3") == 2
        assert run(cursor, "ROLLBACK; DELETE FROM t WHERE i = 3") == 1


def test_the_servers_programs_are_where_their_wheels_keep_them() -> None:
    assert all((postgres.binaries() / program).is_file() for program in ("postgres", "initdb", "psql", "createdb"))
    assert valkey.binary().is_file()


class _Scripted:
    """A subscriber that hears one thing."""

    def __init__(self, response: list[bytes]) -> None:
        self.response = response

    def parse_response(self) -> list[bytes]:
        return self.response


def _found(name: str) -> Any:
    """The object of a dotted name: the longest module that it begins with, and attributes from there."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def _scripts(page: str) -> list[str]:
    """The scripts that are in a page itself."""
    return [part.partition("</script>")[0] for part in page.split('<script type="text/javascript">')[1:]]


def _names_in(module: Any) -> set[str]:
    return {*Path(module.__file__).read_text("utf-8").replace(".", " ").replace("(", " ").split()}
