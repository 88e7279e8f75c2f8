"""Preferences, demonstrations and prompts in the files and layouts that people have.

    for ranking in read_preferences("hh.jsonl.gz", skip_bad=True): ...
    rankings = list(read_preferences("hub:owner/name:train", tokenizer, max_tokens=1024))

A source is a file of JSON lines (or one JSON list), CSV, TSV or Parquet, or a hub data set; the
layout is recognised from its columns (`layouts.py` has them all). Rows are read one at a time, so
the source may be larger than memory:

    sources.py               rows from files and from the hub
    fields.py  layouts.py    what a row holds, by its columns
    chat.py  dialogues.py    chat messages, and whole dialogues as one text
    fitting.py               prompts that are too long keep their end
    reading.py               all of it together, with a count of what came of the rows
"""
