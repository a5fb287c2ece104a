#!/usr/bin/env bash
# Prints the home of a Java that Spark 4.2 runs on (17 or 21); prints nothing where there is none.
# The first fitting one of: JAVA_HOME, the java on the path, the usual folders.
set -u

fits() {
    [ -x "$1/bin/java" ] || return 1
    "$1/bin/java" -version 2>&1 | grep -qE 'version "(17|21)[.".+-]'
}

on_path=$(command -v java || true)
[ -n "$on_path" ] && on_path=$(dirname "$(dirname "$(readlink -f "$on_path")")")
for home in "${JAVA_HOME:-}" "$on_path" /usr/lib/jvm/* /opt/java/* /opt/jdk*; do
    if [ -n "$home" ] && fits "$home"; then
        echo "$home"
        exit 0
    fi
done
exit 1
