"""Alluvium keeps a recommender model fresh. The rooms, in the order in which data meets them:

settings    conf/*.yaml and mappings -> frozen typed settings, every fault in one error
tables      what a room may ask of the lake; expressions: mapping text -> columns
adapters    the only code that knows Spark sessions, Delta, MLflow and Horovod launching
ingest      raw records -> bronze rows with stable keys and parsed columns
clean       bronze -> silver, or quarantine with a rule and a reason
catalog     items and users as they change
features    growing vocabularies, item counts, histories and sequences ready to train on
increment   which windows are learned when, and from what state
model       what is learned: inputs, network, bundle, scorer (shared by the rooms below)
train       feed, warm start, growth, the rank's training loop
compress    prune, shrink, quantise, export
evaluate    metrics, baselines, intervals, the promotion gate, the report
recommend   slates for histories
serve       the collector, which takes events over HTTP
"""

import os
from pkgutil import extend_path

# A model brings the rooms that answer (see adapters.flavour); beside it the others are found where
# they are installed.
__path__ = extend_path(__path__, __name__)

# tensorflow-model-optimization needs Keras 2; the choice is read when TensorFlow is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
