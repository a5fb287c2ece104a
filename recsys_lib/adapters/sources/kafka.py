"""Events of a Kafka topic, as JSON. Partition and offset of each stay with it in bronze."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_lib.adapters.sources.feed import Feed, text_record
from recsys_lib.errors import SettingsError
from recsys_lib.settings import KafkaSettings


def kafka_feed(spark: SparkSession, settings: KafkaSettings) -> Feed:
    """From the earliest offset the broker still has. Raises SettingsError."""
    topic, servers = settings.topic, settings.servers
    if topic is None or servers is None:
        wanted = {"servers": servers, "topic": topic}
        lacking = [f"kafka.{name} must be set" for name, value in wanted.items() if value is None]
        raise SettingsError("--source kafka", lacking)

    def stream() -> DataFrame:
        return (
            spark.readStream.format("kafka")
            .options(**settings.options)
            .option("kafka.bootstrap.servers", servers)
            .option("subscribe", topic)
            .option("startingOffsets", "earliest")
            .option("maxOffsetsPerTrigger", settings.max_offsets_per_batch)
            .option("failOnDataLoss", str(settings.fail_on_data_loss).lower())
            .load()
        )

    def explain(text: str) -> str | None:
        if "Failed to find" in text and "kafka" in text:
            return (
                "Spark lacks the Kafka connector; `make setup` brings it where Maven is installed"
            )
        if "DATA_LOSS" in text or "failOnDataLoss" in text:
            return (
                f"topic {topic}: the broker no longer has records that were due (retention was "
                "shorter than the pause between two landings, or the topic was made anew); nothing "
                "was skipped. To go on with what is left: --set kafka.fail_on_data_loss=false"
            )
        if "UnknownTopicOrPartition" in text:
            return f"topic {topic} is not on {servers}; make it, or set kafka.topic"
        if "TimeoutException" in text or "No resolvable bootstrap" in text:
            return f"no answer from {servers}; look at kafka.servers, then start this again"
        return None

    brokers = ",".join(sorted(server.strip() for server in servers.split(",")))
    told = {"kafka.servers": brokers, "kafka.topic": topic}
    return Feed("kafka", topic, stream, _records, explain=explain, settings=told)


def _records(batch: DataFrame) -> DataFrame:
    place = {"partition": F.col("partition"), "offset": F.col("offset")}
    return batch.select(*text_record(F.col("value").cast("string"), F.col("topic"), **place))
