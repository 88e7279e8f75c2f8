"""Everything that reads or writes files.

data                       the files that come with the lab
jsonl, files               rows of JSON; prompts, demonstrations, samples and rankings in files
places                     where a command may write; folders are replaced as a whole
storage                    model folders
run_folder, provenance     a run's folder; the versions, settings and data it was made with
checkpoint                 the saved state from which a stopped stage resumes
packages, pretrained       files downloaded with pip on request (gguf_folder converts them)
"""
