"""Judge the candidate against the champion on a scored window, and obey the verdict.

spark-submit jobs/promote.py --config conf/local.yaml --out build/demo --window 27
"""

from __future__ import annotations

from jobs.context import Context, log, opened, parser, run
from jobs.evaluate import Scores, evaluate
from jobs.shop import strange_increments
from recsys_lib.evaluate.gate import judge
from recsys_lib.evaluate.intervals import by_slice
from recsys_lib.settings import Settings
from recsys_lib.types import ModelVersion, Verdict


def promote(context: Context, window: int, scores: Scores) -> Verdict | None:
    """The verdict of `window`; None where the candidate is the champion already.

    A verdict is recorded before the alias moves: after a crash it is read, not made again.
    """
    roles, tracking = scores.roles, context.tracking
    if roles["candidate"] == roles["champion"]:
        return None
    candidate = tracking.version(roles["candidate"])
    verdict = tracking.verdict_of(candidate, window)
    if verdict is None:
        ours = by_slice(scores.replicates, window, "candidate")
        theirs = by_slice(scores.replicates, window, "champion")
        # Strange increments before its last one were left out of the candidate's lesson.
        strange = strange_increments(context).get(candidate.learned, [])
        verdict = judge(
            ours,
            theirs,
            context.settings.gate,
            strange,
            _may_lose(context.settings, candidate, tracking.version(roles["champion"])),
        )
        log.info("window %s: %s", window, verdict)
    if verdict.promote:
        tracking.promote(candidate, verdict, window)
    else:
        tracking.record_verdict(candidate, verdict, window)
    return verdict


def _may_lose(settings: Settings, candidate: ModelVersion, champion: ModelVersion) -> float | None:
    """A form that is smaller than the champion's may lose as much as compress.floor."""
    smaller = candidate.form == "shrunk" and champion.form != "shrunk"
    return settings.compress.floor if smaller else None


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument(
        "--window", type=int, required=True, help="the exam; scored first where it was not yet"
    )
    args = made.parse_args(argv)
    with opened(args, "promote") as context:
        verdict = promote(context, args.window, evaluate(context, args.window))
        if verdict is None:
            print("the candidate is the champion already")
        else:
            print("promoted" if verdict.promote else "held", *verdict.reasons, sep="\n  ")


if __name__ == "__main__":
    run(main)
