"""One turn of the whole loop on a live source: land, close windows, judge, learn, recommend.

  spark-submit jobs/turn.py --source kafka --mapping MAPPING.yaml --out FOLDER
      [--config conf/cluster.yaml] [--set section.key=value]

For a scheduler to call as often as it likes. The first window that closes is the history, of which
the first model is learned; each window after it is first the exam of the models that are there,
and then learned. Killed at any moment, the same command goes on where it stopped.
"""

from __future__ import annotations

from pyspark.sql import functions as F

from jobs.context import Context, log, opened, parser, run
from jobs.evaluate import Scores, evaluate
from jobs.ingest import landed
from jobs.land import SOURCES, feeds_of, land, told
from jobs.prepare import settle
from jobs.promote import promote
from jobs.recommend import recommend
from jobs.train import train
from recsys_lib.tables import closed_window


def due(context: Context) -> list[int]:
    """Windows that are closed and not learned yet, in order; without a champion all of them: the
    first version may not have been promoted yet."""
    closed = closed_window(context.lake)
    if closed is None:
        return []
    first = context.lake.read("silver").agg(F.min("window")).collect()[0][0]
    learned = _learned(context) if context.tracking.champion() is not None else []
    since = max(learned) + 1 if learned else first
    return [window for window in range(since, closed + 1) if landed(context, window)]


def _learned(context: Context) -> list[int]:
    return [version.learned for version in context.tracking.versions()]


def learn(context: Context, window: int) -> str:
    """Judge by the window whoever learned before it, then learn it; what came of it.

    One in which nobody came judges nobody and teaches nothing.
    """
    if context.lake.read("sequences").where(F.col("window") == window).isEmpty():
        return f"window {window}: nobody came"
    said = "first"
    if context.tracking.champion() is not None:
        scores = evaluate(context, window)
        verdict = promote(context, window, scores)
        said = "is champion" if verdict is None else _moved(context, scores)
    version = train(context, window)
    found = "nothing to learn" if version is None else f"learned as {version.uri}"
    log.info("window %s: %s, %s", window, said, found)
    return f"window {window}: {said}, {found}"


def _moved(context: Context, scores: Scores) -> str:
    """A verdict to promote moves nobody where another has been made the champion since."""
    champion = context.tracking.champion()
    leads = champion is not None and champion.version == scores.roles["candidate"]
    return "promoted" if leads else "held"


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--source", required=True, choices=SOURCES, help="where records come from")
    made.add_argument("--mapping", required=True, metavar="YAML", help="what their fields mean")
    args = made.parse_args(argv)
    with (
        opened(args, "turn", args.mapping) as context,
        context.alone("turn"),
        context.alone_with_models("turn"),
    ):
        print(told(land(context, feeds_of(context, args.source))), flush=True)
        settle(context)
        windows = due(context)
        for window in windows:
            print(learn(context, window), flush=True)
        if not windows:
            print("no window to learn")
        last = max(windows or _learned(context), default=None)
        if last is not None and context.tracking.champion() is not None:
            print(f"recommended for {recommend(context, last)} users")


if __name__ == "__main__":
    run(main)
