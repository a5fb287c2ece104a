"""Delete files of the lake that nobody needs any more.

spark-submit jobs/vacuum.py --config conf/local.yaml --out build/demo [--hours 168]

A compaction or a merge writes rows anew and leaves the files they were in. Files go that no version
of the last hours has, no model's training data are pinned to, and no step has still to read. Never
use Delta's own VACUUM here: it knows no pins.
"""

from __future__ import annotations

import sys

from tqdm import tqdm

from jobs.context import Context, at_least, log, opened, parser, run


def vacuum(context: Context, hours: int | None = None) -> dict[str, int]:
    """Files that were deleted, by table. Killed anywhere, the next call deletes the rest."""
    hidden = not context.settings.run.progress
    bar = tqdm(context.lake.tables(), desc="vacuum", file=sys.stderr, leave=False, disable=hidden)
    deleted = {table: context.lake.vacuum(table, hours) for table in bar}
    log.info("vacuumed: %s", deleted)
    return deleted


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument(
        "--hours",
        type=at_least(0),
        help="versions of so long stay whole; default: lake.keep_hours",
    )
    args = made.parse_args(argv)
    # What a job is writing is in no version yet: those that recommend or judge are waited for too.
    with (
        opened(args, "vacuum") as context,
        context.alone("vacuum"),
        context.alone_with_models("vacuum"),
    ):
        deleted = vacuum(context, args.hours)
        for table, files in deleted.items():
            if files:
                print(f"{table}: {files} files")
        print(f"deleted {sum(deleted.values())} files of {len(deleted)} tables")


if __name__ == "__main__":
    run(main)
