"""conf/*.yaml -> frozen typed settings. A section is a room; every fault in one error."""

from __future__ import annotations

import re
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from recsys_lib.errors import SettingsError
from recsys_lib.types import Place


class Section(BaseModel):
    """Frozen, and strict about names: an unknown key is a fault, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSettings(Section):
    """Where a run keeps everything it makes, and the seed of everything random."""

    out: str = Field(
        "build/demo", description="folder of tables, models, MLflow store, report, log"
    )
    name: str = Field("alluvium", description="name of the registered model")
    seed: int = 7
    progress: bool = Field(True, description="show progress bars")


class SparkSettings(Section):
    """The session. `conf` passes any further Spark option through."""

    master: str | None = Field("local[2]", description="null: what spark-submit says")
    driver_memory: str = Field("2g", description="used when the job starts its own JVM")
    shuffle_partitions: int = Field(2, ge=1)
    conf: dict[str, str] = {}


class LakeSettings(Section):
    """Delta tables. `root` null means `run.out`/lake."""

    root: str | None = None
    file_mib: int = Field(128, ge=1, description="size of a file after compaction")
    max_small_files: int = Field(64, ge=2, description="more of them in a table are compacted")
    keep_hours: int = Field(168, ge=0, description="a vacuum leaves what was removed since")
    keep_versions: int = Field(3, ge=1, description="models whose training rows stay readable")
    wait_seconds: float = Field(60.0, ge=0, description="for another job that changes the lake")


class IngestSettings(Section):
    """The landing stream."""

    max_files_per_batch: int = Field(1000, ge=1)
    max_fields: int = Field(500, ge=1, description="fields of records that become columns")


class KafkaSettings(Section):
    """A topic of JSON events (see `recsys_lib.adapters.sources.kafka`)."""

    servers: str | None = Field(None, description="bootstrap servers: host:port,host:port")
    topic: str | None = None
    max_offsets_per_batch: int = Field(500_000, ge=1)
    fail_on_data_loss: bool = Field(True, description="stop where the broker dropped what is due")
    options: dict[str, str] = Field({}, description="further options of the client: kafka.x.y")


class FilesSettings(Section):
    """A folder in which files land (see `recsys_lib.adapters.sources.folder`)."""

    path: str | None = Field(None, description="folder on local disk or hdfs://")
    max_files_per_batch: int = Field(100, ge=1)


class HttpSettings(Section):
    """An API that answers for a span of time (see `recsys_lib.adapters.sources.http`)."""

    url: str | None = None
    token_variable: str | None = Field(None, description="environment variable of the token")
    start: str | None = Field(None, description="ISO time of the first window")
    window_hours: float = Field(24.0, gt=0)
    settle_seconds: float = Field(300.0, ge=0, description="a window is asked this long after it")
    max_windows_per_batch: int = Field(16, ge=1)
    records: str = Field("data", description="path to the list of records in an answer; '': all")
    start_parameter: str = "start_date"
    end_parameter: str = "end_date"
    page_parameter: str = "page"
    next_page: str | None = Field(
        None, description="path to the next page's name; null: 1, 2, … until a page is empty"
    )
    parameters: dict[str, str] = Field({}, description="sent with every request")
    retries: int = Field(8, ge=0, description="of one request, on 429, 5xx and lost connections")
    max_wait_seconds: float = Field(60.0, gt=0, description="longest pause before a retry")
    timeout_seconds: float = Field(30.0, gt=0)


class JdbcSettings(Section):
    """MySQL tables with a time of change (see `recsys_lib.adapters.sources.jdbc`)."""

    url: str | None = Field(None, description="jdbc:mysql://… or jdbc:mariadb://…")
    user: str | None = None
    password_variable: str | None = Field(None, description="environment variable")
    events: str | None = Field(None, description="table of behaviour")
    items: str | None = Field(None, description="table of items")
    users: str | None = Field(None, description="table of users")
    updated: str = Field("updated_at", description="column: when the row was written last")
    id: str = Field("id", description="column: tells rows of one moment apart")
    settle_seconds: float = Field(
        10.0, ge=0, description="younger rows wait: one of an earlier moment may be committed yet"
    )
    look_back_seconds: float = Field(
        600.0, ge=0, description="rows committed so much later than they were written still land"
    )
    max_rows_per_batch: int = Field(200_000, ge=1)


class ColumnSettings(Section):
    """How outliers of a number are found, and what is derived from it.

    Judged by statistics of the increments before; what fewer than `min_count` values say is not
    taken for known. `log`: on a logarithmic scale, for skewed values.
    """

    outlier: Literal["off", "box", "zscore"] = "off"
    k: float = Field(3.0, gt=0, description="fences: so many quartile ranges or deviations away")
    by: Literal["all", "item"] = Field("all", description="whose statistics count")
    log: bool = False
    min_count: int = Field(30, ge=2)
    normalise: Literal["off", "zscore", "minmax", "log"] = "off"


class FilledSettings(ColumnSettings):
    """A column of the events, whose gaps can be filled."""

    fill: Literal["off", "mean", "median", "interpolate"] = "off"


class CrossSettings(Section):
    """Columns hashed together into one feature; numbers are cut at the known deciles first."""

    of: tuple[
        Literal["user", "item", "type", "source", "hour", "weekday", "value", "quantity", "price"],
        ...,
    ] = Field(..., min_length=2)
    buckets: int = Field(1000, ge=2)


class WatermarkSettings(Section):
    """How long a window is held open for late events, after the newest event of the source."""

    windows: float = Field(0.0, ge=0)
    seconds: float = Field(0.0, ge=0)
    idle_windows: float = Field(
        4.0, ge=0, description="a source so far behind the others is waited for no more"
    )


class CleanSettings(Section):
    """Rules are named in `recsys_lib.clean.rules`; a name listed in `off` is not applied."""

    off: tuple[str, ...] = ()
    earliest: str = Field("1990-01-01", description="events before are quarantined")
    max_quantity: float | None = Field(None, gt=0)
    max_value: float | None = Field(None, gt=0)
    near_seconds: float = Field(0.0, ge=0, description="near duplicates; 0: none are looked for")
    max_user_events: int | None = Field(None, ge=1, description="a user with more is a bot")
    user_events_per: Literal["hour", "window"] = "hour"
    return_windows: int | None = Field(None, ge=0, description="how far back a sale is looked for")
    watermark: WatermarkSettings = WatermarkSettings()
    watermarks: dict[str, WatermarkSettings] = Field({}, description="source: its own watermark")
    value: FilledSettings = FilledSettings()
    quantity: FilledSettings = FilledSettings()
    price: ColumnSettings = Field(ColumnSettings(), description="of one piece: value / quantity")
    crosses: dict[str, CrossSettings] = Field({}, description="silver column cross_<name>: of what")

    @field_validator("earliest")
    @classmethod
    def _iso(cls, value: str) -> str:
        """As Spark reads it too; of what it does not read, no event would have a window."""
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"must be an ISO date or time, 1990-01-01, got {value!r}") from None
        return value if value == found.date().isoformat() else found.isoformat()


class FeatureSettings(Section):
    """Histories and item statistics."""

    max_history: int = Field(2000, ge=1, description="latest events kept for a user")
    count_windows: int = Field(52, ge=1, description="windows back that a model may learn from")
    neighbours: int = Field(32, ge=1, description="neighbours of an item that a model sees")
    neighbours_kept: int = Field(64, ge=1, description="neighbours of an item that are counted")
    neighbour_distance: int = Field(5, ge=1, description="positions apart that are still near")
    neighbour_decay: float = Field(0.98, gt=0, le=1, description="weight of a pair per window")


class ModelSettings(Section):
    """The network (see `recsys_lib.model.network`)."""

    embedding_size: int = Field(64, ge=4)
    blocks: int = Field(2, ge=0)
    heads: int = Field(2, ge=1)
    feed_forward_size: int = Field(128, ge=4)
    copy_size: int = Field(64, ge=4, description="hidden width of the copy head")
    recent_events: int = Field(64, ge=1, description="latest events the Transformer reads")
    copy_items: int = Field(512, ge=1, description="distinct past items the copy head ranks")
    near_events: int = Field(32, ge=1, description="latest events whose neighbours are looked at")
    near_items: int = Field(256, ge=1, description="neighbours the near head ranks")
    own_items: int = Field(0, ge=0, description="items with table rows of their own; 0: all")
    shared_rows: int = Field(65_536, ge=1, description="table rows that all other items share")
    dropout: float = Field(0.1, ge=0, lt=1)
    id_dropout: float = Field(0.1, ge=0, lt=1)
    decay: float = Field(0.94, gt=0, lt=1, description="weight of a count, per window of age")


Strategy = Literal["frozen", "finetune", "rehearse", "rehearse+distil", "full"]


class TrainSettings(Section):
    """The rank's loop. `epochs` is for the first model, `increment_epochs` for fine-tunes.

    Strategies: `frozen` learns only the first model; `finetune` the increment alone; `rehearse`
    old examples too; `rehearse+distil` keeps the parent's answers on these; `full` starts anew
    from everything so far, each time.
    """

    strategy: Strategy = "rehearse+distil"
    ranks: int = Field(2, ge=1)
    rank_rows: int = Field(4000, ge=1, description="to learn; of fewer, fewer ranks are started")
    threads_per_rank: int = Field(1, ge=1)
    epochs: float = Field(2.0, gt=0)
    min_steps: int = Field(300, ge=1, description="of a first model that has few examples")
    min_steps_epochs: float = Field(
        32.0, gt=0, description="passes over few examples that min_steps may make of a lesson"
    )
    min_steps_targets: float = Field(
        2.0, gt=0, description="examples it may see for each target there is to get there"
    )
    increment_epochs: float = Field(1.0, gt=0)
    increment_steps: int = Field(30, ge=1, description="of a fine-tune, however few examples")
    batch_size: int = Field(128, ge=1, description="examples a step over all ranks")
    learning_rate: float = Field(2e-3, gt=0)
    increment_learning_rate: float = Field(3e-4, gt=0)
    increment_rate_steps: int = Field(
        200, ge=0, description="fine-tunes of fewer learn in proportion faster; 0: all at one rate"
    )
    increment_share: float = Field(
        0.5, gt=0, le=1, description="of a fast fine-tune's way from its parent that is kept"
    )
    heads_rate: float = Field(
        3.0, ge=1, description="rate of the heads of past and near items, in times others', at most"
    )
    optimizer: Literal["adam", "sgd"] = "adam"
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="in which dense layers multiply; weights and sums are float32"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of steps with rising rate")
    clip_norm: float = Field(5.0, gt=0)
    negatives: int = Field(2048, ge=1)
    full_softmax_items: int = Field(8000, ge=0, description="at or below: no sampling")
    max_targets: int = Field(64, ge=1, description="targets of one example that are learned")
    basket_weight: float = Field(
        0.5, ge=0, le=1, description="power of its targets that an example counts; 0: all alike"
    )
    type_weights: dict[str, float] = Field({}, description="of targets by event type; else 1")
    value_weight: float = Field(
        0.0, ge=0, description="of the squared error of the log value; 0: it is not learned"
    )
    rehearsal: float = Field(1.0, ge=0, description="old examples mixed in, per new example")
    rehearsal_rows: int = Field(30_000, ge=1, description="old rows of a pass, at most")
    rehearsal_fading: float = Field(
        0.97, gt=0, le=1, description="how much less often a window is rehearsed that is one older"
    )
    distillation: float = Field(0.5, ge=0, description="weight of the parent's word, at most")
    crop: float = Field(0.0, ge=0, le=1, description="share of histories that lose older events")
    mask: float = Field(0.0, ge=0, lt=1, description="share of past events that are hidden")
    reorder: float = Field(0.0, ge=0, le=1, description="share of histories with a part shuffled")
    validation_windows: float = Field(
        0.0, ge=0, description="at a lesson's end, kept to stop in time; 0: all is learned"
    )
    patience: int = Field(3, ge=1, description="looks at these without a better loss")
    start_seconds: float = Field(600.0, gt=0, description="ranks must have started by then")

    @property
    def half(self) -> bool:
        return self.precision == "bfloat16"

    @property
    def rehearses(self) -> bool:
        return self.strategy.startswith("rehearse") and self.rehearsal > 0

    @property
    def distils(self) -> bool:
        return self.strategy == "rehearse+distil" and self.distillation > 0


class RanksSettings(Section):
    """How ranks are launched, watched and joined (see `recsys_lib.adapters.ranks`)."""

    stall_seconds: float = Field(60.0, gt=0, description="a rank without a step so long hangs")
    relaunches: int = Field(3, ge=0, description="after a lost rank, until it is an error")
    wait_seconds: float = Field(30.0, ge=0, description="for a lost slot to come back")
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="between two checkpoints; 0: each step"
    )
    max_batch: int | None = Field(None, ge=1, description="examples of one rank's step, at most")
    passes: int = Field(1, ge=1, description="parts of a rank's batch, learned one after another")
    compression: Literal["none", "fp16"] = Field("none", description="of gradients on the network")
    fusion_mib: int = Field(64, ge=0, description="what is sent at once goes as one up to this")
    cycle_ms: float = Field(
        5.0, gt=0, description="between two looks for something to send; with cores to spare: 1"
    )
    interface: str | None = Field(None, description="network interface between the ranks")


class PruneSettings(Section):
    """tensorflow-model-optimization, polynomial schedule over the steps of each fine-tune."""

    enabled: bool = True
    final_sparsity: float = Field(0.5, ge=0, lt=1)
    step: float = Field(0.15, gt=0, le=1, description="sparsity that one increment may add")
    begin: float = Field(0.1, ge=0, le=1, description="share of a fine-tune's steps before pruning")
    end: float = Field(0.7, ge=0, le=1, description="share of steps at which sparsity is final")
    frequency: int = Field(5, ge=1, description="steps between mask updates")
    embeddings: bool = Field(False, description="prune embedding tables too")
    heads: bool = Field(False, description="and the heads of past and near items")
    pattern: Literal["single", "2:4", "block"] = Field(
        "single", description="what is removed together; 2:4 follows no schedule"
    )
    block: tuple[int, int] = Field((1, 16), description="inputs and outputs of a block")


class CompressSettings(Section):
    """How a version becomes what is shipped (see `recsys_lib.compress`)."""

    shrink: bool = Field(False, description="remove heads and neurons after the first fine-tune")
    heads: float = Field(0.5, gt=0, le=1, description="share of each block's heads that stays")
    neurons: float = Field(0.25, gt=0, le=1, description="share of its neurons that stays")
    copy_neurons: float = Field(
        0.375, gt=0, le=1, description="share of the neurons of the heads of past and near items"
    )
    copy_items: int = Field(128, ge=1, description="past items that a shrunk model ranks, at most")
    read_events: int = Field(32, ge=1, description="latest events that its Transformer reads")
    steps: int = Field(1, ge=1, description="fine-tunes in which they go, a part in each")
    distil_epochs: float = Field(2.0, gt=0, description="of each such fine-tune")
    distil_rate: float = Field(0.0015, gt=0, description="highest learning rate of a long one")
    distil_windows: int = Field(8, ge=1, description="latest windows that it learns from")
    distillation: float = Field(0.3, ge=0, description="weight of the dense model's word in it")
    bits: Literal[8, 32] = Field(8, description="of item vectors and tables that are shipped")
    encoder_bits: Literal[8, 32] = Field(32, description="of the encoder's weights")
    ann_items: int = Field(
        10_000, ge=0, description="of catalogues above, the sum over all items is estimated"
    )
    floor: float = Field(0.01, ge=0, description="relative loss at which a smaller form still wins")


class EvaluateSettings(Section):
    """All items are ranked; intervals are bootstrapped by user."""

    ks: tuple[int, ...] = Field((10, 20), description="depths of lists; 10 must be among them")
    batch_rows: int = Field(128, ge=1)
    bootstrap: int = Field(500, ge=10)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    popularity_windows: int = Field(4, ge=1)
    category: str | None = Field(None, description="item attribute of diversity and calibration")


DEPTH = 10
"""Of the lists that reports tell of."""
RIGHT = ("precision", "recall", "f1", "request_f1", "ndcg", "hit", "mrr")
MEASURES = (*RIGHT, *(f"new:{kind}" for kind in RIGHT), "novelty", "diversity", "calibration")
"""What `gate.weights` may name, at any of `evaluate.ks`; of slates as such, nothing is new."""


class GateSettings(Section):
    """Promote only what is proven better. Weights make one composite of the metrics named."""

    weights: dict[str, float] = {"ndcg@10": 0.5, "f1@10": 0.5}
    confidence: float = Field(0.9, gt=0.5, lt=1, description="one-sided")
    min_gain: float = Field(0.0, description="relative gain the lower bound must exceed")
    slice_floor: float = Field(0.1, ge=0, description="largest relative loss allowed on a slice")
    min_slice_users: int = Field(50, ge=1, description="smaller slices are shown, not judged")
    min_users: int = Field(20, ge=1, description="fewer judged users: no promotion")
    max_deviation: float | None = Field(
        6.0, gt=0, description="of an increment's numbers from usual, in standard deviations"
    )


Answering = Literal["shipped", "learned"]


class RecommendSettings(Section):
    form: Answering = Field("shipped", description="learned: the network itself, in TensorFlow")
    k: int = Field(20, ge=1)
    exclude_seen: bool = False
    only_available: bool = Field(
        True, description="leave out what the catalogue says is off the shelf or sold out"
    )
    batch_rows: int = Field(512, ge=1)


class WriteBackSettings(Section):
    """Tables in MySQL (see `jobs/write_back.py`); where it is, the section jdbc says."""

    prefix: str = Field("alluvium_", pattern=r"^\w*$", description="beginning of table names")


class TrackingSettings(Section):
    """MLflow. Null: SQLite store and local artefacts in `run.out`."""

    uri: str | None = None
    experiment: str = "alluvium"


Kind = Literal["id", "text", "number", "integer", "boolean", "time", "any"]


class CollectorTopics(Section):
    """Topics that the collector writes to; `conf` is passed to the client (librdkafka)."""

    servers: str = Field(..., description="host:port, several with commas")
    topic: str = "events"
    rejected_topic: str = "events-rejected"
    conf: dict[str, str] = {}


class CollectorSettings(Section):
    """The HTTP service that takes events. `folder` null means `run.out`/collector."""

    host: str = "127.0.0.1"
    port: int = Field(8081, ge=0, le=65535, description="0: any free one")
    token_env: str = Field(
        "ALLUVIUM_COLLECTOR_TOKENS",
        description="environment variable that holds the Bearer tokens, several with commas",
    )
    folder: str | None = Field(None, description="local folder of events/ and rejected/")
    kafka: CollectorTopics | None = Field(None, description="topics instead of the folder")
    required: dict[str, Kind] = Field({}, description="fields every event must have")
    max_body_bytes: int = Field(1_048_576, ge=1)
    max_batch: int = Field(1000, ge=1, description="events of one request")
    max_unwritten_bytes: int = Field(
        134_217_728, ge=1, description="bodies held in memory; beyond it 503"
    )
    max_connections: int = Field(1000, ge=1, description="open at once; beyond it 503")
    read_seconds: float = Field(10.0, gt=0, description="a body must have arrived by then")
    rate: float = Field(500.0, gt=0, description="events a second of one client address")
    burst: int = Field(5000, ge=1, description="events a client may send at once")
    rotate_seconds: float = Field(10.0, gt=0, description="a file is handed over after")
    rotate_bytes: int = Field(67_108_864, ge=1, description="or when it is this large")
    origins: tuple[str, ...] = Field((), description="web pages that may send (CORS)")
    trusted_proxies: tuple[str, ...] = Field((), description="whose X-Forwarded-For is believed")

    @model_validator(mode="after")
    def _possible(self) -> CollectorSettings:
        if self.burst < self.max_batch:
            raise ValueError(
                f"burst must be at least max_batch ({self.max_batch}), or a full batch never "
                f"passes; got {self.burst}"
            )
        if self.folder is not None and "://" in self.folder:
            raise ValueError(f"folder must be a local one, got {self.folder}; else set kafka")
        return self


class Settings(Section):
    """All of conf/*.yaml."""

    run: RunSettings = RunSettings()
    spark: SparkSettings = SparkSettings()
    lake: LakeSettings = LakeSettings()
    ingest: IngestSettings = IngestSettings()
    kafka: KafkaSettings = KafkaSettings()
    files: FilesSettings = FilesSettings()
    http: HttpSettings = HttpSettings()
    jdbc: JdbcSettings = JdbcSettings()
    clean: CleanSettings = CleanSettings()
    features: FeatureSettings = FeatureSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    ranks: RanksSettings = RanksSettings()
    prune: PruneSettings = PruneSettings()
    compress: CompressSettings = CompressSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gate: GateSettings = GateSettings()
    recommend: RecommendSettings = RecommendSettings()
    write_back: WriteBackSettings = WriteBackSettings()
    tracking: TrackingSettings = TrackingSettings()
    collector: CollectorSettings = CollectorSettings()

    @model_validator(mode="after")
    def _measured(self) -> Settings:
        if DEPTH not in self.evaluate.ks:
            raise ValueError(
                f"evaluate.ks must hold {DEPTH}, because the report, coverage and jobs/sweep.py "
                f"tell of lists of {DEPTH}, got {list(self.evaluate.ks)}"
            )
        known = {f"{kind}@{k}" for k in self.evaluate.ks for kind in MEASURES}
        unknown = sorted(n for n in self.gate.weights if n not in known)
        if unknown:
            raise ValueError(
                f"gate.weights must name measures at one of evaluate.ks {list(self.evaluate.ks)}, "
                f"such as ndcg@{self.evaluate.ks[0]}, got {', '.join(unknown)}"
            )
        return self


S = TypeVar("S", bound=Section)


class _PlainYaml(yaml.SafeLoader):
    """YAML in which only true and false are booleans: `off`, `no` and `on` are words, as in 1.2.
    Dates are words too."""


_NO_WORDS = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
_PlainYaml.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] not in _NO_WORDS]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainYaml.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_settings(
    path: str | Path | None = None,
    overrides: list[str] | None = None,
    given: dict[str, Any] | None = None,
) -> Settings:
    """Read base.yaml beside `path`, then `path`, then `section.key=value` overrides, then what is
    `given` as it is to be.

    Raises SettingsError with every fault of all of them at once.
    """
    faults: list[str] = []
    merged: dict[str, Any] = {}
    files = []
    if path is not None:
        base = Path(path).parent / "base.yaml"
        files = [base] if base.exists() and base != Path(path) else []
        files = [*files, Path(path)]
    for file in files:
        merged = _merged(merged, _mapping_of(file, faults))
    for text in overrides or []:
        merged = _merged(merged, _override(text, faults))
    merged = _merged(merged, given or {})
    source = ", ".join(str(file) for file in files) or "settings"
    return validate(Settings, merged, source, faults)


def validate(kind: type[S], values: dict[str, Any], source: str, faults: list[str]) -> S:
    """Build `kind` from plain values; every fault, with the nearest valid key, in one error."""
    try:
        built = kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(source, [*faults, *(_fault(kind, e) for e in error.errors())]) from None
    if faults:
        raise SettingsError(source, faults)
    return built


def read_yaml(file: str | Place) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises SettingsError."""
    faults: list[str] = []
    values = _mapping_of(Path(file) if isinstance(file, str) else file, faults)
    if faults:
        raise SettingsError(str(file), faults)
    return values


def _mapping_of(file: Place, faults: list[str]) -> dict[str, Any]:
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=_PlainYaml)
    except OSError as error:
        faults.append(
            f"{file} cannot be read ({error.strerror or error}); name an existing YAML file"
        )
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        faults.append(f"{file} is not valid YAML: {' '.join(str(error).split())}")
        return {}
    if values is None:
        return {}
    if not isinstance(values, dict):
        faults.append(f"{file} must hold sections with keys, got {type(values).__name__}")
        return {}
    return values


def _override(text: str, faults: list[str]) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    parts = key.strip().split(".")
    if not separator or len(parts) < 2:
        faults.append(f"--set must be section.key=value, got {text!r}")
        return {}
    try:
        nested: Any = yaml.load(value, Loader=_PlainYaml)
    except yaml.YAMLError:
        nested = value
    for part in reversed(parts):
        nested = {part: nested}
    return dict(nested)


def _merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in top.items():
        nested = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if nested else value
    return out


def _fault(kind: type[BaseModel], error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    name = ".".join(location)
    if error["type"] == "value_error":  # our own words, which say what they got
        said = str(error["ctx"]["error"])
        return f"{name}: {said}" if name else said
    if error["type"] != "extra_forbidden":
        got = "" if error["type"] == "missing" else f", got {error['input']!r}"
        return f"{name}: {error['msg'].lower()}{got}"
    valid = _keys_at(kind, location[:-1])
    near = get_close_matches(location[-1], valid, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(sorted(valid))}"
    return f"{name}: unknown key; {hint}"


def _keys_at(kind: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        field = kind.model_fields.get(part)
        annotation = field.annotation if field else None
        choices = get_args(annotation) or (annotation,)  # a section may be optional: Table | None
        found = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return []
        kind = found[0]
    return list(kind.model_fields)
