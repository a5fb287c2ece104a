"""Take events over HTTP and make them durable: landing files for the file stream, or Kafka.

  ALLUVIUM_COLLECTOR_TOKENS=secret,next-secret \\
      python -m jobs.collect --config conf/local.yaml [--mapping MAPPING.yaml]

With a mapping, the fields it names for user, item and time are required of every event.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from pathlib import Path

import uvicorn

from jobs.context import parser, run, settings_of
from recsys_lib.adapters.folders import is_remote
from recsys_lib.adapters.landing import LandingFolder
from recsys_lib.adapters.topic import KafkaTopic
from recsys_lib.errors import SettingsError
from recsys_lib.mapping import load_mapping
from recsys_lib.serve.collector import Collector, Sink
from recsys_lib.serve.counters import Counters
from recsys_lib.serve.events import wanted_by
from recsys_lib.settings import CollectorSettings, Settings

SHORTEST_TOKEN = 16


def sinks(settings: Settings, count: Counters) -> tuple[Sink, Sink]:
    """(events, rejected). Raises SettingsError."""
    ours = settings.collector
    if ours.kafka is not None:
        kafka = ours.kafka
        return (
            KafkaTopic(kafka, kafka.topic, count.add),
            KafkaTopic(kafka, kafka.rejected_topic, count.add),
        )
    if ours.folder is None and is_remote(settings.run.out):
        wish = f"must be a local folder where run.out is {settings.run.out}, got null; or set kafka"
        raise SettingsError("collector.folder", [f"collector.folder {wish}"])
    folder = Path(ours.folder or f"{settings.run.out}/collector").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        wish = f"{folder} must be a folder we may write to ({error.strerror})"
        raise SettingsError("collector.folder", [wish]) from None
    every = (ours.rotate_bytes, ours.rotate_seconds, count.add)
    return (
        LandingFolder(folder / "events", "events", *every),
        LandingFolder(folder / "rejected", "rejected", *every),
    )


def tokens_of(settings: CollectorSettings) -> list[str]:
    """Raises SettingsError: a collector that anyone may write to is never started."""
    name = settings.token_env
    found = [token.strip() for token in os.environ.get(name, "").split(",") if token.strip()]
    faults = [] if found else [f"the environment variable {name} must hold a token, got none"]
    if any(len(token) < SHORTEST_TOKEN for token in found):
        faults = [*faults, f"each token in {name} must have {SHORTEST_TOKEN} characters or more"]
    if faults:
        raise SettingsError("collector.token_env", faults)
    return found


def listening(settings: CollectorSettings) -> socket.socket:
    """Raises SettingsError where the address is taken or is not ours."""
    where = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        wish = f"{where} must be free to listen on ({error.strerror}); choose another"
        raise SettingsError("collector.port", [wish]) from None


class AnnouncedServer(uvicorn.Server):
    """Says where it listens, as soon as it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in sockets or []:
            host, port = sock.getsockname()[:2]
            print(f"collector listens on http://{host}:{port}/events", flush=True)


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--mapping", help="what the fields mean; its own are then required")
    args = made.parse_args(argv)
    settings = settings_of(args)
    ours = settings.collector
    wanted = {**(wanted_by(load_mapping(args.mapping)) if args.mapping else {}), **ours.required}
    counters = Counters()
    collector = Collector(ours, wanted, tokens_of(ours), *sinks(settings, counters), counters)
    config = uvicorn.Config(
        collector.app(),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        server_header=False,
        log_level="error",  # a warning for each line that is not HTTP would be a stranger's to send
        limit_concurrency=ours.max_connections,
        timeout_keep_alive=75,  # longer than proxies and balancers keep theirs
        timeout_graceful_shutdown=30,
        proxy_headers=bool(ours.trusted_proxies),
        forwarded_allow_ips=list(ours.trusted_proxies),
    )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    server = AnnouncedServer(config)
    # uvicorn stops gracefully and then raises the signal again, which must not look like a crash;
    # nor may one be lost that comes before uvicorn listens to signals.
    signal.signal(signal.SIGTERM, server.handle_exit)
    with listening(ours) as sock:
        server.run(sockets=[sock])


if __name__ == "__main__":
    run(main)
