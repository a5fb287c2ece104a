# Sourced by every script of Spark in this environment. What the caller has set stays as it is.

# This folder is linked into pyspark as its conf/, so the real path leads back to the repository.
alluvium_root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
ALLUVIUM_SPARK_LOG=${ALLUVIUM_SPARK_LOG:-$alluvium_root/build/logs/spark.log}

# Python workers must be the interpreter that holds this Spark, whatever python3 is on the path.
alluvium_python=$(cd "${SPARK_HOME:-.}/../../../../bin" 2>/dev/null && pwd)/python
[ -x "$alluvium_python" ] && PYSPARK_PYTHON=${PYSPARK_PYTHON:-$alluvium_python}

JAVA_HOME=${JAVA_HOME:-$(bash "$alluvium_root/conf/spark/java-home.sh")}

# TensorFlow and MLflow are started by jobs; they shall be quiet too.
TF_USE_LEGACY_KERAS=${TF_USE_LEGACY_KERAS:-1}
TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
MLFLOW_DISABLE_TELEMETRY=${MLFLOW_DISABLE_TELEMETRY:-true}

# The JVM's own line about its vector module cannot be switched off, only left out. A job's Python
# speaks through the JVM's standard output, so nothing else passes here but the JVM's last words.
exec 2> >(grep --line-buffered -v 'Using incubator modules: jdk.incubator.vector' >&2)
