"""Files and disks that cannot be a store, and those of older versions."""

import os
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import refusal
from stored import made, ranking, skip, sql

from rlhf_lab.cli import main
from rlhf_lab.feedback import database, network, schema
from rlhf_lab.feedback.store import FeedbackStore, contents_of_store
from rlhf_lab.records import Prompt

ROOT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(
    not hasattr(os, "setresuid") or os.getuid() != 0, reason="only root can put on another user"
)


# ---- files that are something else --------------------------------------------------------------


def foreign(path):
    sql(path, "CREATE TABLE diary (day)")
    sql(path, "INSERT INTO diary VALUES ('Monday')")


def foreign_with_log(path):
    sql(path, "PRAGMA journal_mode = WAL")
    foreign(path)


def newer(path):
    made(path, "ann")
    sql(path, f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")


NEWEST = len(schema.MIGRATIONS)
STRANGERS = {
    "text": (lambda path: path.write_text("dear diary"), "is not a feedback store"),
    "long text": (lambda path: path.write_text("dear diary\n" * 1000), "is not a feedback store"),
    "foreign": (foreign, "is not a feedback store"),
    "foreign with log": (foreign_with_log, "is not a feedback store"),
    "version alone": (lambda path: sql(path, "PRAGMA user_version = 1"), "is not a feedback store"),
    "newer": (
        newer,
        f"newer rlhf-lab (schema {NEWEST + 1}, this one knows {NEWEST}): update rlhf-lab",
    ),
    "folder": (lambda path: path.mkdir(), ""),
    "cut off": (lambda path: path.write_bytes(made(path).path.read_bytes()[:5000]), "damaged"),
}


@pytest.mark.parametrize("make, why", STRANGERS.values(), ids=STRANGERS)
def test_a_file_that_is_no_store_of_ours_is_refused_and_stays(store, tmp_path, make, why):
    path = tmp_path / "stranger"
    make(path)
    before = path.is_file() and path.read_bytes()
    contents, listing = store.contents(), sorted(os.listdir(tmp_path))
    for call in (FeedbackStore, store.merge):
        message = refusal(call, path)
        assert why in message and str(path) in message
    assert (path.is_file() and path.read_bytes()) == before
    assert store.contents() == contents and sorted(os.listdir(tmp_path)) == listing


def test_a_file_that_is_not_there_is_not_made_by_merging(store, tmp_path):
    assert "there is no file" in refusal(store.merge, tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    assert "its folder is there" in refusal(FeedbackStore, tmp_path / "none" / "a.sqlite")


def test_a_store_that_vanished_is_not_made_anew(store):
    store.path.unlink()
    assert "cannot use" in refusal(store.write, ranking())
    assert not store.path.exists()


def test_an_empty_file_and_an_odd_name_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("what? #1 100%20&mode=ro;é.sqlite")
    path.touch()
    store = made(path, "ann")
    entry = store.write(ranking())
    assert FeedbackStore(str(path)).entries() == [entry]
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "query",
    [
        "UPDATE prompts SET facts = '{'",
        "UPDATE entry_responses SET rank = 'first'",
        "UPDATE entry_responses SET screen = 'left'",
        "UPDATE entries SET kind = 'rank'",
        "UPDATE entries SET seconds = 'long'",
        "UPDATE entries SET prompt = 'none'",
        "UPDATE prompts SET text = x'ff'",
        "DROP TABLE samples",
    ],
)
def test_a_store_that_somebody_tampered_with_is_refused_whole(store, tmp_path, query):
    other = made(tmp_path / "b.sqlite", "cat")
    other.add(Prompt("p2", "More?"), [])
    other.write(ranking("cat"))
    for (name,) in sql(other.path, "SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        sql(other.path, f"DROP TRIGGER {name}")
    sql(other.path, query)
    before = store.contents()
    assert refusal(store.merge, other.path)
    assert store.contents() == before


@contextmanager
def another_user():
    """As somebody who may not write in folders of ours."""
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@needs_root
def test_a_folder_where_nothing_may_be_written(store, tmp_path):
    entry, mine = store.write(ranking()), tmp_path / "mine"
    tmp_path.chmod(0o755)
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    before = store.path.read_bytes()
    with another_user():
        assert "check the permissions of" in refusal(FeedbackStore, store.path)
        assert "check who may write" in refusal(store.write, ranking())
        assert "check the permissions of" in refusal(FeedbackStore, tmp_path / "new.sqlite")
        own = FeedbackStore(mine / "b.sqlite")
        assert own.merge(store.path).new["ranking"] == 1  # whereas taking it in is no harm
        assert own.entries() == [entry]
    assert store.path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.sqlite", "mine"]


# ---- older and newer schemas --------------------------------------------------------------------

MOOD = (
    "ALTER TABLE entries ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'; -- a later idea\n"
    "CREATE INDEX moods ON entries (mood);\n"
)


def test_an_older_file_is_brought_up_with_all_it_holds(store, monkeypatch):
    entry = store.write(ranking())
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, MOOD))
    FeedbackStore(store.path)
    assert sql(store.path, "PRAGMA user_version") == [(NEWEST + 1,)]
    assert sql(store.path, "SELECT id, mood FROM entries") == [(entry.id, "calm")]
    FeedbackStore(store.path)  # and a second time there is nothing to do
    monkeypatch.undo()
    assert "newer rlhf-lab" in refusal(FeedbackStore, store.path)


def test_a_migration_that_fails_leaves_the_older_file(store, monkeypatch):
    store.write(ranking())
    before = store.contents()
    steps = (*schema.MIGRATIONS, MOOD, "CREATE TABLE entries (x);\n")
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    assert "already exists" in refusal(FeedbackStore, store.path)
    assert sql(store.path, "PRAGMA user_version") == [(NEWEST,)]
    assert store.contents() == before


def test_an_older_file_is_merged_and_stays_old(store, tmp_path, monkeypatch):
    other = made(tmp_path / "old.sqlite", "cat")
    before = other.path.read_bytes()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "DELETE FROM salt;\n"))
    assert FeedbackStore(tmp_path / "new.sqlite").merge(other.path).new["labellers"] == 1
    assert other.path.read_bytes() == before


# ---- disks --------------------------------------------------------------------------------------

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
//pc/my\\040files /mnt/my\\040files cifs rw 0 0
C: /mnt/c 9p rw 0 0
me@pc: /mnt/ssh fuse.sshfs rw 0 0
/dev/sda1 /media/stick fuseblk rw 0 0
systemd-1 /auto autofs rw 0 0
server:/auto /auto nfs rw 0 0
/dev/vdc /srv/data ext4 rw 0 0
server:/srv /srv nfs rw 0 0
"""


@pytest.mark.parametrize(
    "path, kind",
    [
        ("/tmp/a.sqlite", ""),
        ("/home/ann/a.sqlite", "nfs4"),
        ("/home/ann/not/yet/there/a.sqlite", "nfs4"),
        ("/homework/a.sqlite", ""),
        ("/home/local/a.sqlite", ""),
        ("/mnt/my files/a.sqlite", "cifs"),
        ("/mnt/c/a.sqlite", "9p"),
        ("/mnt/ssh/a.sqlite", "fuse.sshfs"),
        ("/media/stick/a.sqlite", ""),
        ("/auto/a.sqlite", "nfs"),
        ("/srv/data/a.sqlite", "nfs"),
        ("/tmp/../home/a.sqlite", "nfs4"),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(tmp_path, path, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert network.network(Path(path), mounts) == kind


def test_where_no_table_of_mounts_is_everything_is_local(tmp_path):
    assert network.network(tmp_path / "a.sqlite", tmp_path / "none") == ""


def test_a_link_into_a_network_is_seen_through(tmp_path):
    mounts, link = tmp_path / "mounts", tmp_path / "link"
    (tmp_path / "far").mkdir()
    link.symlink_to("far")
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/ {tmp_path}/far nfs rw 0 0\n")
    assert network.network(link / "a.sqlite", mounts) == "nfs"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder that counts as a network's, and a scratch folder on a disk of this machine."""
    folder = tmp_path / "home"
    folder.mkdir()
    real = network.network
    monkeypatch.setattr(
        network,
        "network",
        lambda path, *rest: "nfs4" if path.absolute().is_relative_to(folder) else real(path, *rest),
    )
    monkeypatch.setenv(network.SCRATCH, str(tmp_path / "scratch"))
    monkeypatch.setattr(network, "_told", set())
    return folder


def copy_of(path):
    """Everything in the copy on the network, which has to be one file alone."""
    assert os.listdir(path.parent) == [path.name]
    assert sql(path, "PRAGMA journal_mode") == [("delete",)]
    return contents_of_store(path)


def test_on_a_network_the_store_works_here_and_is_copied_back(home, tmp_path, capsys):
    path = home / "a.sqlite"
    store = made(path, "ann")
    said = capsys.readouterr().err
    assert "on a network file system (nfs4)" in said and said.count("\n") == 1
    assert str(tmp_path / "scratch") in said and network.SCRATCH in said
    assert stat.S_IMODE((tmp_path / "scratch").stat().st_mode) == 0o700
    for change in (lambda: store.write(ranking()), lambda: store.undo("ann")):
        change()
        assert copy_of(path) == store.contents() == FeedbackStore(path).contents()
    store.forget("ann")
    assert b"ann" not in path.read_bytes() and store.labellers() == []
    assert capsys.readouterr() == ("", "")


def test_a_scratch_folder_that_is_gone_is_filled_again_from_the_copy(home, tmp_path):
    entry = made(home / "a.sqlite", "ann").write(ranking())
    shutil.rmtree(tmp_path / "scratch")
    store = FeedbackStore(home / "a.sqlite")
    again = store.write(skip())
    assert store.entries() == [entry, again] and copy_of(home / "a.sqlite") == store.contents()


def test_a_copy_that_somebody_deleted_does_not_come_back(home, tmp_path, capsys):
    path = home / "a.sqlite"
    made(path, "ann").write(ranking())
    path.unlink()
    capsys.readouterr()
    store = FeedbackStore(path)
    assert store.labellers() == [] and store.prompts() == []
    said = capsys.readouterr().err
    assert "was deleted since it was last used" in said
    [kept] = (tmp_path / "scratch").glob("*/a.sqlite.removed-*[0-9]")
    assert str(kept) in said and FeedbackStore(kept).labellers() == ["ann"]
    store.add_labeller("bob")
    assert FeedbackStore(path).labellers() == ["bob"]


def test_two_machines_that_work_at_the_same_time_lose_nothing(home, tmp_path, monkeypatch):
    stores = []
    for name in ("one", "two"):
        monkeypatch.setenv(network.SCRATCH, str(tmp_path / name))
        stores.append(made(home / "a.sqlite", "ann", "bob"))
    written = [
        store.write(ranking(who)) for _ in range(3) for store, who in zip(stores, ["ann", "bob"])
    ]
    stores[0].add_labeller("cat")  # takes in what the other wrote last
    assert stores[0].entries() == sorted(written, key=lambda entry: entry.made)
    assert copy_of(home / "a.sqlite") == stores[0].contents()
    stores[1].forget("ann")
    stores[0].add_labeller("dan")
    assert stores[0].labellers() == ["bob", "cat", "dan"]
    assert {entry.labeller for entry in stores[0].entries()} == {"bob"}


def test_what_comes_while_the_copy_is_being_read_is_not_lost(home, tmp_path, monkeypatch):
    """Another machine copies back between the reading of a copy and the noting of that."""
    stores = []
    for name in ("one", "two"):
        monkeypatch.setenv(network.SCRATCH, str(tmp_path / name))
        stores.append(made(home / "a.sqlite", "ann", "bob"))
    written, take_up = [stores[1].write(ranking("bob"))], network.take_up

    def slowly(file, path, take_in):
        def taken():
            take_in()
            if len(written) == 1:
                written.append(stores[1].write(ranking("bob")))

        return take_up(file, path, taken)

    monkeypatch.setattr(network, "take_up", slowly)
    monkeypatch.setenv(network.SCRATCH, str(tmp_path / "one"))
    FeedbackStore(home / "a.sqlite").add_labeller("cat")
    assert len(written) == 2
    assert {e.id for e in copy_of(home / "a.sqlite").entries} == {e.id for e in written}


def test_a_copy_that_cannot_be_made_is_said_and_made_next_time(home, tmp_path, capsys):
    store = made(home / "a.sqlite", "ann")
    capsys.readouterr()
    home.rename(tmp_path / "away")
    home.write_text("in its place")  # as where a home is not there for a while
    entry = store.write(ranking())
    said = capsys.readouterr().err
    assert "could not be copied back" in said and str(store.file) in said
    assert store.entries() == [entry]
    home.unlink()
    (tmp_path / "away").rename(home)
    store.write(skip())
    assert copy_of(home / "a.sqlite") == store.contents() and len(store.entries()) == 2


def test_a_network_store_of_another_making_is_taken_up_or_refused(home, tmp_path):
    """One that was copied there with what its log still holds, and one that is no store."""
    outside = made(tmp_path / "b.sqlite", "ann")
    with database.reading(outside.path) as connection:
        connection.execute("SELECT * FROM entries").fetchall()
        outside.write(ranking())
        for end in ("", "-wal"):
            shutil.copy(f"{outside.path}{end}", f"{home / 'b.sqlite'}{end}")
    assert FeedbackStore(home / "b.sqlite").contents() == outside.contents()
    assert copy_of(home / "b.sqlite") == outside.contents()
    (home / "diary").write_text("dear diary")
    assert "is not a feedback store" in refusal(FeedbackStore, home / "diary")
    assert (home / "diary").read_text() == "dear diary"


@pytest.mark.parametrize("why", ["a link", "open to others", "a file", "on the network"])
def test_a_scratch_folder_that_is_not_ones_own_is_refused(home, tmp_path, monkeypatch, why):
    place = tmp_path / "scratch"
    if why == "a link":
        (tmp_path / "real").mkdir()
        place.symlink_to(tmp_path / "real")
    elif why == "open to others":
        place.mkdir()
        place.chmod(0o777)
    elif why == "a file":
        place.touch()
    else:
        monkeypatch.setenv(network.SCRATCH, str(home / "scratch"))
    message = refusal(FeedbackStore, home / "a.sqlite")
    assert "scratch" in message and network.SCRATCH in message
    assert not (home / "a.sqlite").exists()


def test_a_new_file_is_for_its_owner_and_the_group_and_so_is_its_log(tmp_path):
    path = tmp_path / "a.sqlite"
    before = os.umask(0)
    try:
        made(path, "ann")
        with database.reading(path) as connection:
            connection.execute("SELECT * FROM entries").fetchall()
            files = [path, *tmp_path.glob("a.sqlite-*")]
            assert len(files) == 3
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o640}
        path.chmod(0o600)
        FeedbackStore(path).write(ranking())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600  # what was chosen stays
    finally:
        os.umask(before)


@needs_root
def test_a_store_that_may_only_be_read_is_shown_and_exported(store, tmp_path, capsys):
    store.write(ranking())
    tmp_path.chmod(0o755)
    store.path.chmod(0o644)
    mine = tmp_path / "mine"
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    before = store.path.read_bytes()
    with another_user():
        assert main(["feedback", "show", str(store.path)]) == 0
        assert main(["feedback", "export", str(store.path), str(mine / "a.jsonl")]) == 0
    out, err = capsys.readouterr()
    assert "1 entry" in out and "wrote 7 lines" in out and "could not record" in err
    assert store.path.read_bytes() == before


FULL = """
import resource, sys
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.store import FeedbackStore, Sample
from rlhf_lab.records import Prompt
store = FeedbackStore(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    store.add(Prompt("big", "Big?"), [Sample("word " * 100_000)])
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="there are no limits on files here")
def test_a_disk_that_takes_no_more_keeps_what_was_there(store):
    store.write(ranking())
    before = store.contents()
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(store.path)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "or is full" in ran.stdout and ran.stdout.count("\n") == 1
    assert store.contents() == before
    store.write(ranking())


def test_a_file_system_without_a_log_is_refused(tmp_path, monkeypatch):
    """In memory SQLite keeps no log, and says so as it does where a disk cannot hold one."""
    real = database._connection
    monkeypatch.setattr(database, "_connection", lambda path, mode: real(path, "memory"))
    message = refusal(FeedbackStore, tmp_path / "a.sqlite")
    assert "'memory'" in message and "local disk" in message
