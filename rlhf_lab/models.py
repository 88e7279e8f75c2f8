"""Load and save policies and scalar models, and get from them what RLHF needs.

Any causal language model of transformers can be used. Weights are safetensors only, nothing is
unpickled, and every folder written here loads with plain transformers.
"""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import NewGELUActivation

from rlhf_lab import maths
from rlhf_lab.disk.storage import (
    AutoModel,
    read_end_ids,
    read_head,
    read_model,
    read_tokenizer,
    write_model,
)
from rlhf_lab.engine import threads
from rlhf_lab.engine.adapters import frozen_twin, has_lora, merged, trainable_copy
from rlhf_lab.engine.packed import headless, hidden_states, in_float32
from rlhf_lab.engine.trial import close, few_tokens, trying, width_of
from rlhf_lab.engine.trial import evaluating as evaluating
from rlhf_lab.errors import UserError
from rlhf_lab.maths import last_index, normalisation
from rlhf_lab.text import end_ids, end_token, position_ids, read_ends

PAD_TOKEN = "<|pad|>"


def load_tokenizer(path_or_id: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub id, with a pad token that is not an end token.

    It knows every id that ends a response: its end token's and those of the generation config
    (`text.end_ids`). Raises UserError if there is no tokenizer, or if it has no end token.
    """
    tokenizer = read_tokenizer(path_or_id)
    end = end_token(tokenizer)
    read_ends(tokenizer, [token for token in read_end_ids(path_or_id) if token != end])
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in end_ids(tokenizer):
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    return tokenizer


def check_same_words(policy: str | Path, reward_model: str | Path) -> None:
    """Raise UserError if the folders of a policy and a reward model hold different tokenizers: the
    reward model would read the policy's tokens as other words. Pad tokens may differ: they are
    never read."""
    tokenizers = [load_tokenizer(place) for place in (policy, reward_model)]
    first, second = (set(tokenizer.get_vocab().items()) for tokenizer in tokenizers)
    differ = {word for word, _ in first ^ second} - {t.pad_token for t in tokenizers}
    if differ:
        raise UserError(
            f"the policy '{policy}' and the reward model '{reward_model}' use different "
            "tokenizers: take a reward model that was trained from a model with the policy's "
            "tokenizer"
        )


def load_policy(
    path_or_id: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """A causal language model from a folder or a hub id: in eval mode, dropout off, on `device`.

    Its vocabulary covers the tokenizer's: where `load_tokenizer` had to add a pad token, the
    embedding gets a row for it. Half-precision files are converted to `dtype`.

    Raises UserError if there is no such model, it is incomplete, or not stored as safetensors.
    """
    threads.watch()
    policy = _load(AutoModelForCausalLM, path_or_id, dtype, "causal language model")
    tokenizer = load_tokenizer(path_or_id)
    _cover_vocabulary(policy, len(tokenizer))
    ends = end_ids(tokenizer)
    for config in (policy.config, policy.config.get_text_config(), policy.generation_config):
        config.eos_token_id = ends if len(ends) > 1 else ends[0]
        config.pad_token_id = tokenizer.pad_token_id
    return policy.to(device)  # type: ignore[arg-type]  # mypy misses self: it is wrapped


def save_policy(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    half: bool = False,
) -> None:
    """Write a folder that plain transformers loads, completely or not at all.

    half: store the weights as float16, half the size. Adapters are merged into the weights, and
    also stored on their own in the folder `adapter`. The model in memory is not changed.
    """
    plain = merged(policy)
    stored = copy.deepcopy(plain).half() if half else plain
    write_model(stored, tokenizer, folder, adapted=policy if has_lora(policy) else None)


class ScalarModel(nn.Module):
    """A transformer with one number per token: a reward model, or a value network.

    backbone: a headless transformers model of width D; head: Linear(D, 1).
    """

    def __init__(self, backbone: PreTrainedModel, head: nn.Linear):
        super().__init__()
        self.backbone = backbone
        self.head = head

    @classmethod
    def from_policy(
        cls, policy: PreTrainedModel, seed: int, zero_head: bool = False
    ) -> "ScalarModel":
        """A copy of the policy's trunk with a new head.

        The head is drawn from N(0, 1 / (D + 1)) with bias 0 (Stiennon et al. 2020), or is all
        zeros, so that every value starts at 0 (Ziegler et al. 2019). If the policy has adapters,
        the copy gets its own, on the same frozen weights.
        """
        trunk = headless(policy)
        still = {id(p): p for p in trunk.parameters() if has_lora(policy) and not p.requires_grad}
        backbone = copy.deepcopy(trunk, still)
        width = width_of(backbone)
        head = nn.Linear(width, 1)
        draws = torch.randn(1, width, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            head.weight.copy_(draws * (0.0 if zero_head else 1 / math.sqrt(width + 1)))
            head.bias.zero_()
        return cls(backbone, head.to(backbone.device, backbone.dtype)).train(policy.training)

    def forward(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """One number per token, (B, T); those of padding mean nothing."""
        hidden = self.backbone(
            input_ids=tokens,
            attention_mask=attention,
            position_ids=position_ids(attention),
            use_cache=False,
        ).last_hidden_state  # (B, T, D)
        return in_float32(self.head, hidden).squeeze(-1)

    def at(self, tokens: Tensor, attention: Tensor, wanted: Tensor) -> Tensor:
        """The numbers of the wanted positions alone, row after row: bool (B, T) -> (W,)."""
        hidden = hidden_states(self.backbone, tokens, attention, wanted)  # (W, D)
        return in_float32(self.head, hidden).squeeze(-1)

    def score(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """The number at each row's last real token, (B,); padding on either side has no effect."""
        return in_float32(self.head, self.last_states(tokens, attention)).squeeze(-1)

    def last_states(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """The hidden state at each row's last real token, which `score` turns into a number, (B,
        D)."""
        columns = torch.arange(tokens.shape[1], device=tokens.device)
        last = columns == last_index(attention)[:, None]
        return hidden_states(self.backbone, tokens, attention, last)

    def normalise(self, mean: float, sd: float) -> None:
        """Rescale scores of this mean and standard deviation to 0 and 1; no ranking changes.

        Gain 1/sd goes into the weight, and the bias b becomes (b - mean)/sd. Raises UserError
        unless sd is positive.
        """
        gain, bias = normalisation(mean, sd)
        with torch.no_grad():
            self.head.weight.mul_(gain)
            self.head.bias.mul_(gain).add_(bias)

    def save(
        self, folder: str | Path, tokenizer: PreTrainedTokenizerBase, half: bool = False
    ) -> None:
        """Write a folder that plain transformers loads, completely or not at all.

        It is a one-label sequence-classification folder. That class of transformers has no bias, so
        ours is stored in config.json as `reward_bias`: transformers' scores are ours minus this
        bias, for rows padded on the right. If transformers has no such class for the family, or its
        class computes other scores, the folder holds the trunk, as AutoModel loads it, and
        `reward_head.safetensors` with the head's weight (1, D) and bias (1,).

        half: store the weights as float16. Adapters are merged into the weights. The model in
        memory is not changed. Raises UserError if transformers cannot load the trunk by itself.
        """
        plain = merged(self)
        shell = plain.classifier(tokenizer)
        stored = copy.deepcopy(plain).half() if half else plain
        if shell is None:
            head = {name: x.detach() for name, x in stored.head.named_parameters()}
            write_model(stored.backbone, tokenizer, folder, head=head)
        else:
            setattr(shell, shell.base_model_prefix, stored.backbone)
            cast(Any, shell).score.weight = stored.head.weight
            write_model(shell, tokenizer, folder)

    def classifier(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel | None:
        """This model as a sequence classifier of transformers, with the same weights; None if it
        must be saved as a trunk and a separate head.

        Raises UserError if transformers cannot load the trunk by itself.
        """
        config = copy.deepcopy(self.backbone.config)
        for part in (config, config.get_text_config()):
            part.num_labels, part.pad_token_id = 1, tokenizer.pad_token_id
        config.reward_bias = self.head.bias.item()
        shell = without_weights(AutoModelForSequenceClassification, config)
        if shell is not None and same_parts(headless(shell), self.backbone):
            setattr(shell, shell.base_model_prefix, self.backbone)
            if self._scores_alike(shell):
                return shell
        alone = without_weights(transformers.AutoModel, self.backbone.config)
        if alone is None or not same_parts(alone, self.backbone):
            raise UserError(
                f"a reward model of {type(self.backbone).__name__} cannot be saved: transformers "
                "would load it as a different model; use a model of another family"
            )
        return None

    def _scores_alike(self, shell: PreTrainedModel) -> bool:
        """Whether a classifier around this trunk, given the head, scores a few tokens as we do."""
        score = getattr(shell, "score", None)
        if not isinstance(score, nn.Linear) or score.weight.shape != self.head.weight.shape:
            return False
        score.weight = self.head.weight
        tokens = torch.tensor([few_tokens(self.backbone, 6)], device=self.backbone.device)
        with trying(self.backbone):
            ours = self.score(tokens, torch.ones_like(tokens))
            theirs = shell.eval()(input_ids=tokens, use_cache=False).logits
        return close(theirs.flatten() + self.head.bias, ours)

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "ScalarModel":
        """Read what `save` wrote, or another one-label sequence classifier, in eval mode. Its
        vocabulary covers the tokenizer's, as that of `load_policy` does.

        Raises UserError if there is no such model or no tokenizer with it, it is incomplete, or not
        stored as safetensors.
        """
        stored = read_head(path_or_id)
        kind = AutoModelForSequenceClassification if stored is None else transformers.AutoModel
        shell = _load(kind, path_or_id, dtype, "reward model")
        if stored is None:
            score = getattr(shell, "score", None)
            if shell.config.num_labels != 1 or not isinstance(score, nn.Linear):
                raise UserError(
                    f"'{path_or_id}' is no reward model: it must give one score (num_labels 1, "
                    "from a linear layer named score)"
                )
            bias = torch.tensor([getattr(shell.config, "reward_bias", 0.0)])
            stored = {"weight": score.weight.detach(), "bias": bias}
        _cover_vocabulary(shell, len(load_tokenizer(path_or_id)))
        head = nn.Linear(stored["weight"].shape[1], 1, dtype=dtype)
        head.load_state_dict(stored)
        return cls(headless(shell), head).eval().to(device)


class SharedValue(nn.Module):
    """A value head on the policy's own trunk; all zeros at the start (Ziegler et al. 2019)."""

    def __init__(self, policy: PreTrainedModel):
        super().__init__()
        self.trunk = [headless(policy)]  # in a list: the policy's parameters are not ours
        self.head = nn.Linear(width_of(self.trunk[0]), 1).to(policy.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def at(self, tokens: Tensor, attention: Tensor, wanted: Tensor) -> Tensor:
        """The values of the wanted positions, row after row: bool (B, T) -> (W,)."""
        hidden = hidden_states(self.trunk[0], tokens, attention, wanted)  # (W, D)
        return in_float32(self.head, hidden).squeeze(-1)


ValueModel = ScalarModel | SharedValue


def frozen_copy(policy: PreTrainedModel) -> PreTrainedModel:
    """A frozen copy of the policy, to be the reference. For a policy with new adapters it shares
    the policy's frozen weights, without the adapters, and so takes no extra memory."""
    if has_lora(policy):
        return frozen_twin(policy)
    return copy.deepcopy(policy).eval().requires_grad_(False)


def new_value_model(
    policy: PreTrainedModel, reward_model: object, seed: int = 0, shared: bool = False
) -> ValueModel:
    """The value network that PPO starts with: a copy of the reward model (of an ensemble's first
    member; Stiennon et al. 2020) or, if the scorer is not a model, of the policy's trunk with a
    zero head. shared: a zero head on the policy's own trunk instead (Ziegler et al. 2019)."""
    if shared:
        return SharedValue(policy)
    if isinstance(reward_model, Ensemble):
        reward_model = reward_model.members[0]
    if isinstance(reward_model, ScalarModel):
        return trainable_copy(reward_model, like=policy, seed=seed)
    return ScalarModel.from_policy(policy, seed, zero_head=True)


def without_weights(auto_class: AutoModel, config: PreTrainedConfig) -> PreTrainedModel | None:
    """A model without weights, to be filled; None if transformers has no such class for the family,
    or cannot build it from this configuration."""
    with torch.device("meta"):
        try:
            return auto_class.from_config(config)
        except Exception:  # families fail in different ways
            return None


def same_parts(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models are of one class and shape, so that either holds the other's weights."""
    shapes = [{name: x.shape for name, x in m.state_dict().items()} for m in (one, other)]
    return type(one) is type(other) and shapes[0] == shapes[1]


def _load(
    auto_class: AutoModel, path_or_id: str | Path, dtype: torch.dtype, what: str
) -> PreTrainedModel:
    """Read a model: eval mode, dropout 0, and GPT-2's GELU as one operation (the same function)."""
    model = read_model(auto_class, path_or_id, dtype, what)
    for module in list(model.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]  # not declared
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))
    return model.eval()


def _cover_vocabulary(model: PreTrainedModel, size: int) -> None:
    """Add embedding rows up to `size`, each the mean of the old ones, so that no new token is
    likely."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    known = embedding.num_embeddings
    if size <= known:
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for layer in {model.get_input_embeddings(), model.get_output_embeddings()} - {None}:
            layer.weight[known:] = layer.weight[:known].mean(dim=0)


# How the scores of M members, (M, B), are combined into one, (B,). The weight of the variance was
# chosen before any run.
COMBINATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": partial(maths.uncertainty_weighted, weight=0.0),
    "worst": maths.worst_case,
    "uncertainty": partial(maths.uncertainty_weighted, weight=0.5),
}


class Ensemble(nn.Module):
    """Reward models whose scores are combined; `train_ppo` and `scores_of` accept it as one model.

    members: each normalised on the same responses, so that their scores have the same unit.
    combine: (M, B) -> (B,), see COMBINATIONS. The combined scores have a different mean and spread
    from the members': normalise the ensemble too (`reward.normalise`).
    """

    def __init__(self, members: Sequence[ScalarModel], combine: Callable[[Tensor], Tensor]):
        super().__init__()
        # torch does not say what is in a ModuleList
        self.members = cast(Sequence[ScalarModel], nn.ModuleList(members))
        self.combine, self.mean, self.sd = combine, 0.0, 1.0

    def score(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """The combined score of each row, (B,); tokens and attention (B, T)."""
        return (self.combine(self.scores(tokens, attention)) - self.mean) / self.sd

    def normalise(self, mean: float, sd: float) -> None:
        """Rescale scores of this mean and standard deviation to 0 and 1, as a ScalarModel does."""
        self.mean, self.sd = self.mean + mean * self.sd, self.sd * sd

    def scores(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """The score of each member, (M, B)."""
        return torch.stack([member.score(tokens, attention) for member in self.members])
