"""The tables of a feedback store, in SQL, and how a file comes to have them."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from rlhf_lab.errors import UserError

APPLICATION = 0x524C4846  # "RLHF", which tells a store from other SQLite files

TABLES = """
-- What was asked. The key of a row, here and below, is a sha256 of its contents: the same in every
-- file, so that files can be merged. The numbers keep the order in which rows came.
CREATE TABLE prompts (
    number INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,
    id     TEXT NOT NULL,
    text   TEXT NOT NULL,
    facts  TEXT NOT NULL               -- JSON
);

-- What was answered: each text once a prompt, whoever wrote it.
CREATE TABLE responses (
    number INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,
    prompt TEXT NOT NULL REFERENCES prompts (key),
    text   TEXT NOT NULL
);

-- Which model wrote a response, with which settings.
CREATE TABLE samples (
    number   INTEGER PRIMARY KEY,
    key      TEXT NOT NULL UNIQUE,
    prompt   TEXT NOT NULL REFERENCES prompts (key),
    response TEXT NOT NULL REFERENCES responses (key),
    model    TEXT NOT NULL,
    settings TEXT NOT NULL             -- JSON
);
CREATE INDEX samples_of_prompt ON samples (prompt);

-- Who ranks: a name of their own choice.
CREATE TABLE labellers (
    number INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE
);

-- History: what labellers did, one row each time. Taking something back is a row too.
CREATE TABLE entries (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,          -- ranking, skip, flag or undo
    labeller   TEXT NOT NULL REFERENCES labellers (name),
    prompt     TEXT NOT NULL REFERENCES prompts (key),
    seconds    REAL NOT NULL,
    pick       TEXT NOT NULL,          -- how the prompt was chosen
    guidelines TEXT NOT NULL,          -- the version that was shown
    flag       TEXT NOT NULL,
    undoes     TEXT REFERENCES entries (id),
    made       TEXT NOT NULL           -- UTC, ISO 8601
) WITHOUT ROWID;
CREATE INDEX entries_of_labeller ON entries (labeller, made);
CREATE INDEX entries_undone ON entries (undoes);

-- The responses of an entry.
CREATE TABLE entry_responses (
    entry    TEXT NOT NULL REFERENCES entries (id),
    place    INTEGER NOT NULL,         -- in stored order, from 0
    response TEXT NOT NULL REFERENCES responses (key),
    rank     INTEGER,                  -- 1 is best, equal ranks are ties, NULL is unranked
    screen   INTEGER,                  -- the place on the screen, from 0; NULL if nobody knows
    PRIMARY KEY (entry, place)
) WITHOUT ROWID;

-- Whoever asked to be forgotten: no name, but a hash that recognises it in a merge.
CREATE TABLE forgotten (
    hash  BLOB PRIMARY KEY,            -- of name and salt
    until TEXT NOT NULL                -- what was made up to then never comes back
);
CREATE TABLE salt (salt BLOB NOT NULL);
INSERT INTO salt VALUES (randomblob(16));

-- The labeller whose rows may be deleted; empty except while forgetting.
CREATE TABLE leaving (name TEXT NOT NULL);
"""

GUARD = """
CREATE TRIGGER {table}_never_change BEFORE UPDATE ON {table}
BEGIN SELECT RAISE (ABORT, 'history is not rewritten'); END;

-- A row that is there stays, even where one says INSERT OR REPLACE.
CREATE TRIGGER {table}_never_replaced BEFORE INSERT ON {table}
WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})
BEGIN SELECT RAISE (IGNORE); END;

CREATE TRIGGER {table}_never_go BEFORE DELETE ON {table}
WHEN NOT ({leaving})
BEGIN SELECT RAISE (ABORT, 'history is not deleted, save by forgetting a labeller'); END;
"""
IS_LEAVING = "EXISTS (SELECT 1 FROM leaving WHERE name = OLD.{column})"
ENTRY_LEAVES = "EXISTS (SELECT 1 FROM entries JOIN leaving ON name = labeller WHERE id = OLD.entry)"

GUARDS = "".join(
    GUARD.format(table=table, same=same, leaving=leaving)
    for table, same, leaving in (
        ("prompts", "NEW.key = key OR NEW.number = number", "0"),
        ("responses", "NEW.key = key OR NEW.number = number", "0"),
        ("samples", "NEW.key = key OR NEW.number = number", "0"),
        ("labellers", "NEW.name = name OR NEW.number = number", IS_LEAVING.format(column="name")),
        ("entries", "NEW.id = id", IS_LEAVING.format(column="labeller")),
        ("entry_responses", "NEW.entry = entry AND NEW.place = place", ENTRY_LEAVES),
    )
)

# In one query, so that somebody who is making the file is seen before or after, not in between.
STATE = """
SELECT (SELECT application_id FROM pragma_application_id),
       (SELECT user_version FROM pragma_user_version),
       (SELECT count(*) FROM sqlite_master)
"""

PEOPLE_AND_USES = """
-- Whether a labeller is a program that ranks like a person. Only this may change of a labeller.
ALTER TABLE labellers ADD COLUMN simulated INTEGER NOT NULL DEFAULT 0;
DROP TRIGGER labellers_never_change;
CREATE TRIGGER labellers_never_change BEFORE UPDATE OF number, name ON labellers
BEGIN SELECT RAISE (ABORT, 'history is not rewritten'); END;

-- Each hash has its salt beside it, so that other stores can recognise the name as well.
ALTER TABLE forgotten ADD COLUMN salt BLOB;
UPDATE forgotten SET salt = (SELECT salt FROM salt);

-- What learned from a labeller's rankings, or holds a copy of them: run folders and exported files.
CREATE TABLE uses (
    labeller TEXT NOT NULL REFERENCES labellers (name),
    place    TEXT NOT NULL,
    made     TEXT NOT NULL,            -- UTC, ISO 8601
    PRIMARY KEY (labeller, place)
) WITHOUT ROWID;
"""

GONE = """
-- Entries that were deleted: a hash of each id, so that no copy brings one back under another name.
-- Some files of version 2 have the table already.
CREATE TABLE IF NOT EXISTS gone (entry BLOB PRIMARY KEY) WITHOUT ROWID;
"""

# Step n takes a file from version n to version n + 1. A step that was released never changes: what
# comes later is a step of its own.
MIGRATIONS = (TABLES + GUARDS, PEOPLE_AND_USES, GONE)


def outdated(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether a file lacks steps of the schema, as an empty one does; nothing is written.

    Raises UserError if the file is not a feedback store, or newer than this code.
    """
    application, version, tables = connection.execute(STATE).fetchone()
    if application != APPLICATION and (application, version, tables) != (0, 0, 0):
        raise UserError(f"{path} is not a feedback store, and stays as it is: name another file")
    if version > len(MIGRATIONS):
        raise UserError(
            f"{path} was written by a newer rlhf-lab (schema {version}, this one knows "
            f"{len(MIGRATIONS)}): update rlhf-lab; the file is as it was"
        )
    return version < len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a file to the newest schema, inside the transaction that is open; see `outdated`."""
    if not outdated(connection, path):  # somebody else was faster
        return
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for step in MIGRATIONS[version:]:
        for statement in _statements(step):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
