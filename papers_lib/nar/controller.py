"""The LSTM that draws vectors of operators, and REINFORCE: ENAS's macro controller without its skips.

Decision t takes the embedding of operator a_{t−1} (a learned start at t = 0), and

    h_t = LSTM(e_{t−1}, h_{t−1}),   π(a_t | a_<t) = softmax(c tanh(W h_t / T))

with one W for all decisions and no biases (melodyguan/enas, `general_controller.py`, search of whole
channels). The tanh keeps every logit within ±c, which is a floor under every operator's probability: at
c = 1.5 one of four operators never has more than .87, and a vector of 8 never more than a third.

It stays on the CPU: 33,344 weights are smaller than the wait for a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from papers_lib.errors import PapersError


@dataclass(frozen=True)
class Preset:
    """What an implementation fixes. `entropy` is the weight of the sampled entropy in the reward."""

    rate: float
    tanh: float  # c
    temperature: float  # T
    entropy: float
    beta1: float = 0.0
    eps: float = 1e-3
    decay: float = 0.99  # of the baseline, which starts at 0
    samples: int = 20  # per update
    updates: int = 50  # per epoch of the shared weights


# enas_code: scripts/cifar10_macro_search.sh; enas_paper: Pham et al. 2018, where the paper is silent the
# code; nar: "we only set accuracy as the reward of our controller".
PRESETS = {
    "enas_code": Preset(rate=1e-3, tanh=1.5, temperature=1.0, entropy=1e-4),
    "enas_paper": Preset(rate=3.5e-4, tanh=2.5, temperature=5.0, entropy=0.1),
    "nar": Preset(rate=1e-3, tanh=1.5, temperature=1.0, entropy=0.0),
}
SIZE = 64  # of the LSTM's state and of embeddings
START = 0.1  # weights begin in U(−.1, .1)


def preset_of(name: str) -> Preset:
    """The preset of that name.

    Raises:
        PapersError: an unknown name.
    """
    if name not in PRESETS:
        raise PapersError(f"unknown preset '{name}': known are {', '.join(PRESETS)}")
    return PRESETS[name]


def bounded(logits: Tensor, preset: Preset) -> Tensor:
    """c tanh(logits / T), of any shape."""
    return preset.tanh * torch.tanh(logits / preset.temperature)


class Controller(nn.Module):
    """π over vectors of N decisions with K operators each.

    The controller takes tanh and temperature of the preset, one of `PRESETS`; `generator` draws the weights.

    Raises:
        PapersError: an unknown preset, no decision, or fewer than two operators.
    """

    def __init__(
        self,
        decisions: int,
        operators: int = 4,
        preset: str = "enas_code",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if decisions < 1 or operators < 2:
            raise PapersError(f"{decisions} decisions of {operators} operators leave nothing to search")
        self.decisions, self.operators, self.preset = decisions, operators, preset_of(preset)
        self.start = nn.Parameter(torch.empty(SIZE))
        self.embedding = nn.Parameter(torch.empty(operators, SIZE))
        self.lstm = nn.LSTMCell(SIZE, SIZE, bias=False)
        self.head = nn.Parameter(torch.empty(operators, SIZE))  # W
        for p in self.parameters():
            nn.init.uniform_(p, -START, START, generator=generator)

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw `count` vectors a ∼ π: operators [count, N] int64, and log π(a_t | a_<t), [count, N].

        Raises:
            PapersError: a negative count.
        """
        if count < 0:
            raise PapersError(f"{count} vectors cannot be drawn; give a count from 0")
        return self._draw(count, lambda log_p: torch.multinomial(log_p.exp(), 1, generator=generator))

    def argmax(self) -> tuple[int, ...]:
        """The vector whose every operator is the likeliest after those before it."""
        vectors, _ = self._draw(1, lambda log_p: log_p.argmax(1, keepdim=True))
        return tuple(vectors[0].tolist())

    @torch.no_grad()
    def _draw(self, count: int, choose: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        x, state = self.start.expand(count, -1), None  # [count, SIZE]
        vectors, log_probs = [], []
        for _ in range(self.decisions):
            state = self.lstm(x, state)
            log_p = self._log_policy(state[0])  # [count, K]
            a = choose(log_p)  # [count, 1]
            vectors.append(a)
            log_probs.append(log_p.gather(1, a))
            x = self.embedding[a[:, 0]]  # [count, SIZE]
        return torch.cat(vectors, 1), torch.cat(log_probs, 1)

    def distributions(self, vectors: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """log π(· | a_<t) along the given vectors, [B, N, K], with gradient.

        Raises:
            PapersError: vectors that are not [B, N], or an operator that is not one of the K or no int.
        """
        vectors = self._checked(vectors)
        before = self.embedding[vectors[:, :-1]]  # [B, N − 1, SIZE]
        inputs = torch.cat([self.start.expand(len(vectors), 1, -1), before], dim=1)  # [B, N, SIZE]
        state, log_policies = None, []
        for t in range(self.decisions):
            state = self.lstm(inputs[:, t], state)
            log_policies.append(self._log_policy(state[0]))
        return torch.stack(log_policies, dim=1)

    def log_probs(self, vectors: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """log π(a_t | a_<t), [B, N], with gradient; summed over t log π(a). Raises as `distributions`."""
        vectors = self._checked(vectors)
        return self.distributions(vectors).gather(2, vectors[:, :, None]).squeeze(2)

    @torch.no_grad()
    def entropies(self, vectors: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Entropy of each decision in nats, [N]: exact given a_<t, mean over the given vectors.

        Over vectors drawn from π their sum estimates the entropy of π without bias. ln K is uniform.
        """
        log_p = self.distributions(vectors)  # [B, N, K]
        return -(log_p.exp() * log_p).sum(2).mean(0)

    def _log_policy(self, h: Tensor) -> Tensor:
        # log softmax(c tanh(W h / T)), [B, SIZE] → [B, K]
        return bounded(h @ self.head.T, self.preset).log_softmax(1)

    def _checked(self, vectors: Tensor | Sequence[Sequence[int]]) -> Tensor:
        wanted = f"they must be [B, {self.decisions}], whole numbers from 0 to {self.operators - 1}"
        try:
            vectors = torch.as_tensor(vectors)
        except (RuntimeError, TypeError, ValueError):
            raise PapersError(f"vectors are ragged or hold no numbers; {wanted}") from None
        whole = not (vectors.is_floating_point() or vectors.dtype == torch.bool)
        if not whole or vectors.ndim != 2 or vectors.shape[1] != self.decisions:
            raise PapersError(f"vectors are {vectors.dtype} {tuple(vectors.shape)}; {wanted}")
        if not ((vectors >= 0) & (vectors < self.operators)).all():
            raise PapersError(f"vectors hold other operators; {wanted}")
        return vectors.long()


Baseline = Literal["moving", "leave_one_out"]


class Reinforce:
    """∇ of E[R] by sampling, with a baseline, and the Adam that follows it.

    "moving" is the released code's: β from 0 follows the rewards. With rewards above 0 the first advantages
    (about 100 samples) are all positive: whatever was drawn becomes likelier. And rewards of one update share
    their validation images: easy ones raise all of them, which β cannot see.

    "leave_one_out" compares each draw with the others of its update (Kool et al. 2019, "Buy 4 REINFORCE
    samples"): A_b = R_b − mean_{c ≠ b} R_c. What the images add to all draws cancels, and the gradient stays
    unbiased, as the others do not depend on the draw.

    `controller` is what is trained; `preset` gives rate, decay and weights.
    """

    def __init__(self, controller: nn.Module, preset: Preset, baseline: Baseline = "moving") -> None:
        self.controller, self.preset, self.kind, self.baseline = controller, preset, baseline, 0.0
        self.optimiser = torch.optim.Adam(
            controller.parameters(), preset.rate, betas=(preset.beta1, 0.999), eps=preset.eps
        )

    def step(
        self, log_probs: Tensor, rewards: Tensor | Sequence[float], penalty: Tensor | None = None
    ) -> Tensor:
        """One update; returns the advantages A_b, [B].

        Args:
            log_probs: [B, choices] of the drawn vectors, with gradient: `Controller.log_probs`.
            rewards: [B], accuracies as fractions.
            penalty: a scalar added to the loss.

        Raises:
            PapersError: not one finite reward per vector, a penalty that is not finite, or one draw alone
                where each is compared with the others.
        """
        rewards = torch.as_tensor(rewards, dtype=torch.float32).cpu()
        if rewards.shape != log_probs.shape[:1] or not rewards.isfinite().all():
            raise PapersError(
                f"{len(log_probs)} vectors need one finite reward each; got {rewards.tolist()[:8]}"
            )
        if penalty is not None and not penalty.isfinite():
            raise PapersError(f"the penalty is {penalty.item()}; a step needs a finite one")
        if self.kind == "leave_one_out" and len(rewards) < 2:
            raise PapersError("leave_one_out compares a draw with the others; draw two samples or more")

        # -- reward: R_b + weight · entropy, where the entropy is −Σ_t p log p of what was drawn alone --
        drawn = log_probs.detach()  # [B, choices]
        entropy = -(drawn * drawn.exp()).flatten(1).sum(1)  # [B]

        advantages = self._advantages(rewards + self.preset.entropy * entropy)  # [B]

        # -- loss = −mean_b A_b Σ_t log π(a_t | a_<t), one step of Adam for all samples --
        loss = -(advantages * log_probs.flatten(1).sum(1)).mean()
        if penalty is not None:
            loss = loss + penalty
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return advantages

    def _advantages(self, rewards: Tensor) -> Tensor:
        if self.kind == "leave_one_out":
            others = (rewards.sum() - rewards) / (len(rewards) - 1)  # mean_{c ≠ b} R_c
            return rewards - others
        differences = []
        # β ← β − (1 − d)(β − R_b), which every sample moves before it is judged
        for reward in rewards.tolist():
            self.baseline -= (1 - self.preset.decay) * (self.baseline - reward)
            differences.append(reward - self.baseline)
        return torch.tensor(differences)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed search needs, weights of the controller included."""
        return {
            "controller": self.controller.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "baseline": self.baseline,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.controller.load_state_dict(state["controller"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.baseline = float(state["baseline"])
