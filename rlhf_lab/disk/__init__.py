"""Whatever touches the disk.

data                       the files that come with the lab
jsonl, files               rows of JSON; prompts, demonstrations, samples and rankings in files
places                     where a command may write; folders replaced whole
storage                    model folders
run_folder, provenance     a run's folder, and what it was made with
checkpoint                 the state from which a stopped stage goes on
packages, pretrained       what is fetched through pip on request (gguf_folder: its conversion)
"""
