"""Runs the script in psql: simple protocol, text results; parameters are psql's variables."""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import script

# Between cells, between rows, and in place of NULL.
CELL, ROW, NULL = "\x1f", "\x1e", "\x1d"
MARK = re.compile(r"^@@ (\d+)\n", re.MULTILINE)
# psql's variable SQLSTATE does not tell of a COPY that failed.
ERROR = re.compile(r"^ERROR:  (\w{5}): (.*)$", re.MULTILINE)


def psql(*arguments, text=""):
    command = ["psql", "-X", "-q", "-A", "-h", "127.0.0.1", "-p", sys.argv[1], "-U", "asofdb", *arguments, "asofdb"]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", env=os.environ | {"PGCLIENTENCODING": "UTF8"})


def quoted(text):
    """A psql word of any text."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def commands(step):
    """What psql reads for a step: its parameters, its SQL with them, its data."""
    lines = []

    def variable(name, declared, text):
        if text is None:
            return f"CAST(NULL AS {declared})"
        lines.append(f"\\set {name} {quoted(text)}")
        return f"CAST(:'{name}' AS {declared})"

    def parameter(match):
        if int(match[1]) > len(step.params):
            return match[0]
        declared, value = step.params[int(match[1]) - 1]
        if not isinstance(value, list):
            return variable(f"p{match[1]}", declared, value)
        element = declared.removesuffix("[]")
        items = [variable(f"p{match[1]}_{i}", element, text) for i, text in enumerate(value)]
        return f"CAST(ARRAY[{', '.join(items)}] AS {declared})"

    lines.append(re.sub(r"\$(\d+)", parameter, step.sql) + ";")
    if step.data is not None:
        lines.append(step.data + "\\.")
    lines.append("\\echo @@ :ROW_COUNT")
    return "\n".join(lines) + "\n"


def check(step, answer, count):
    error = ERROR.search(answer)
    if step.kind == "error":
        assert error, f"no error: {step.sql}"
        step.check_error(error[1], error[2])
        return
    assert not error, f"{step.sql}\n{answer}"
    if step.count is not None:
        step.same("rows written", int(count), step.count)
    if step.kind == "query":
        names, *rows = [[None if cell == NULL else cell for cell in row.split(CELL)]
                        for row in answer.removesuffix("\n").split(ROW)]
        step.check_rows(names, rows)


def run_script():
    steps = script.steps()
    done = psql("-F", CELL, "-R", ROW, "-P", f"null={NULL}", "-P", "footer=off", "-v", "VERBOSITY=verbose",
                text="".join(map(commands, steps)))
    *answers, rest = MARK.split(done.stdout)
    for step, answer, count in zip(steps, answers[::2], answers[1::2]):
        check(step, answer, count)
    assert len(answers) == 2 * len(steps), f"psql stopped early:\n{rest}"


def send_a_file():
    """What only psql has: a file of the client, and several statements of one command line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "today.csv"
        path.write_text("id,ts\n1,2025-03-01 12:00:00Z\n", encoding="utf-8")
        done = psql("-t", "-v", "ON_ERROR_STOP=1", "-c", "CREATE SOURCE t (id BIGINT, ts TIMESTAMPTZ) EVENT TIME ts",
                    "-c", f"\\copy t FROM '{path}' WITH (FORMAT csv, HEADER)", "-c", "SELECT * FROM t", "-c", "DROP SOURCE t")
    assert (done.returncode, done.stdout) == (0, "1|2025-03-01 12:00:00+00\n"), done


run_script()
send_a_file()
