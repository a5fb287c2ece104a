from __future__ import annotations

from recsys_lib.adapters.folders import file_system


def test_an_hdfs_is_opened_once_and_told_the_path_alone() -> None:
    (one, first), (two, second) = (
        file_system("hdfs://shop:8020/a/b"),
        file_system("hdfs://shop:8020"),
    )
    assert one is two
    assert (first, second) == ("/a/b", "/")
    assert (one.host, one.port) == ("shop", 8020)


def test_a_forked_child_does_not_close_the_hdfs_of_its_parent() -> None:
    # It clears the cache of file systems, and a client's end waits for threads it does not have.
    held, _ = file_system("hdfs://shop:8020/a")
    assert held not in type(held)._cache.values()
