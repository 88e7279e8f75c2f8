"""What only a GPU can show: `make gpu-smoke` runs these, and nothing else does."""

import pytest
import torch

from rlhf_lab.cli import main
from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.sequences import Sequences, response_logprobs
from rlhf_lab.training import make_accelerator

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


def test_the_main_job_runs_on_the_gpu(tmp_path):
    assert main(["demo", "--smoke", "--device", "cuda", "--out", str(tmp_path / "run")]) == 0
    first = RunFolder.view(tmp_path / "run").metrics("ppo")[0]
    assert first["val/log_ratio_first"] < 0.5  # rounding of bf16


def test_sampler_and_teacher_forcing_agree_in_float32(gpt2, tokenizer):
    gpt2.to("cuda")
    prompts = [tokenizer.encode(text) for text in ("a", "a longer one", "abc")]
    samples = sample(gpt2, tokenizer, prompts, [1, 2, 3], SamplingConfig(12))
    sequences = Sequences.of_samples(samples, tokenizer.pad_token_id).to(torch.device("cuda"))
    logprobs, _ = response_logprobs(gpt2, sequences)
    torch.testing.assert_close(logprobs.cpu(), samples.logprobs, atol=1e-4, rtol=0)


def test_precision_is_bf16_where_the_gpu_has_it():
    wanted = "bf16" if torch.cuda.is_bf16_supported() else "no"
    assert make_accelerator("cuda").mixed_precision == wanted
