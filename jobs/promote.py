"""Judge the candidate against the champion on a scored window, and obey the verdict.

  spark-submit jobs/promote.py --config conf/local.yaml --out build/demo --window 27

Or make a version the champion by hand, to go back to an older one:

  spark-submit jobs/promote.py --config conf/local.yaml --out build/demo --version 3

Newer versions that have been champion, and what learned from them, then sit no exam any more; the
next lesson starts from the version that you named.
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

    A verdict is recorded before the alias moves: after a crash it is read, not made again. The
    alias moves only while the champion is the one of the exam: an old exam is history.
    """
    roles, tracking = scores.roles, context.tracking
    if roles["candidate"] == roles["champion"]:
        return None
    candidate = tracking.version(roles["candidate"])
    late = _too_late(context, roles)
    recorded = tracking.verdict_of(candidate, window)
    verdict = recorded or _judged(context, window, scores, candidate, late)
    if verdict.promote and not late:
        tracking.promote(candidate, verdict, window)
    elif recorded is None or not late:
        tracking.record_verdict(candidate, verdict, window)
    else:
        log.info("window %s was judged before and moves nobody: %s", window, late)
    return verdict


def _too_late(context: Context, roles: dict[str, int]) -> list[str]:
    """Why the exam may not move the alias any more."""
    champion, candidate = context.tracking.champion(), roles["candidate"]
    why: list[str] = []
    if champion is not None and champion.version not in (roles["champion"], candidate):
        why = [f"version {champion.version} has become the champion since the exam"]
    if candidate in context.tracking.withdrawn():
        why = [*why, f"version {candidate} was withdrawn by hand"]
    return why


def _judged(
    context: Context, window: int, scores: Scores, candidate: ModelVersion, late: list[str]
) -> Verdict:
    champion = context.tracking.version(scores.roles["champion"])
    # Strange increments before its last one were left out of the candidate's lesson.
    strange = strange_increments(context).get(candidate.learned, [])
    verdict = judge(
        by_slice(scores.replicates, window, "candidate"),
        by_slice(scores.replicates, window, "champion"),
        context.settings.gate,
        [*strange, *late],
        _may_lose(context.settings, candidate, champion),
    )
    log.info("window %s: %s", window, verdict)
    return verdict


def _may_lose(settings: Settings, candidate: ModelVersion, champion: ModelVersion) -> float | None:
    """A form that is smaller than the champion's may lose as much as compress.floor."""
    smaller = candidate.form == "shrunk" and champion.form != "shrunk"
    return settings.compress.floor if smaller else None


def by_hand(context: Context, number: int) -> str:
    """Make the version of this number the champion; what has changed, in words."""
    tracking = context.tracking
    version, before = tracking.version(number), tracking.champion()
    withdrawn = tracking.appoint(version)
    was = "nobody" if before is None else f"version {before.version}"
    told = f"champion: version {number}, by hand; before: {was}"
    if withdrawn:
        told += f"\nwithdrawn, and in no exam any more: {', '.join(map(str, withdrawn))}"
    log.info("%s", told)
    return f"{told}\nnext: jobs/recommend.py, for slates by this version"


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    how = made.add_mutually_exclusive_group(required=True)
    how.add_argument("--window", type=int, help="the exam; scored first where it was not yet")
    how.add_argument("--version", type=int, help="who is to be champion, by hand, without an exam")
    args = made.parse_args(argv)
    with opened(args, "promote") as context, context.alone_with_models("promote"):
        if args.version is not None:
            print(by_hand(context, args.version))
            return
        scores = evaluate(context, args.window)
        verdict = promote(context, args.window, scores)
        if verdict is None:
            print("the candidate is the champion already")
        else:
            print("promoted" if verdict.promote else "held", *verdict.reasons, sep="\n  ")
            for why in _too_late(context, scores.roles):
                print(f"but nobody moved: {why}")


if __name__ == "__main__":
    run(main)
