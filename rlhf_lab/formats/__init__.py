"""Preferences, demonstrations and prompts in the files and layouts that people have.

    for ranking in read_preferences("hh.jsonl.gz", skip_bad=True): ...
    rankings = list(read_preferences("hub:owner/name:train", tokenizer, max_tokens=1024))

A source is a file of JSON lines (or one JSON list), CSV, TSV or Parquet, or a hub data set. Its
columns tell its layout. Rows are read one at a time, so the source may be larger than memory:

    sources                rows from files and from the hub
    fields, layouts        what a row holds, depending on its columns
    chat, dialogues        chat messages, and whole dialogues as one text
    fitting                prompts that are too long keep their end
    reading                the whole way from a source to rankings, with counts of used and bad rows
"""
