"""The files of the VADER study, fetched on request through pip (`packages.py`)."""

from pathlib import Path

from rlhf_lab import packages
from rlhf_lab.packages import Source, Wanted

_WITHIN = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
VADER = Source(
    "vaderSentiment", "3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    (Wanted(("vaderSentiment-3.3.2/LICENSE.txt",),
            "74cfe41cdbf7f6925aeb4c18c148ec8db042540edb6739fd81069aa4e3c8b118"),
     Wanted((_WITHIN, "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"),
            "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"),
     Wanted((_WITHIN, "hutto_ICWSM_2014/movieReviewSnippets_anonDataRatings.txt"),
            "658a086bc7239b98b750baa232cab80e6447789020f96a6c847cc1248d7c82f4")),
)  # fmt: skip


def cached() -> Path | None:
    """The folder with the files, if they are all in the cache and as they should be."""
    return packages.cached(VADER)


def fetch(archive: str | Path | None = None) -> Path:
    """The folder with the files, fetched if they are not in the cache yet (`packages.fetch`).

    archive: take them from this file, the source distribution fetched elsewhere. Raises UserError
    if they cannot be had.
    """
    return packages.fetch(VADER, archive)
