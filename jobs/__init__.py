"""The pipeline's steps, each a recipe for spark-submit; run as `spark-submit jobs/NAME.py`."""
