"""ENAS's macro controller with its skips, whose KL from one half Figure 1 draws.

Layer i takes two steps of the LSTM: one gives the operator, as in `papers_lib.nar.controller`; the other,
fed with that operator, an anchor h_i, and for each earlier layer j a logit

    q_ij = c tanh(v · tanh(W₁ h_j + W₂ h_i) / T),   skip_ij ~ softmax(−q, q), a skip with σ(2 q_ij)

The next layer starts from the sum of the anchors skipped to, divided by one more than their number
(melodyguan/enas, `general_controller.py`). The penalty of the same code takes σ(q_ij), not σ(2 q_ij), for
the probability:

    mean over layers of  Σ_j KL(Bern(σ(q_ij)) ‖ Bern(target))

Figure 1 is that sum with target ½ where the penalty has no weight. The tanh ends it, see
`papers_lib.nar.study.printed.skip_ceiling`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.errors import PapersError
from papers_lib.nar.controller import SIZE, START, Reinforce, bounded, preset_of
from papers_lib.nar.options import SkipSettings

LAYERS, OPERATORS = 12, 6  # of the macro search
LEVEL = 0.5  # accuracy of the simulated child without skips


class Drawn(NamedTuple):
    """B architectures of L layers; S = L (L − 1) / 2 skips, those of layer 1 first, then layer 2's two …"""

    operators: Tensor  # [B, L] int64
    skips: Tensor  # [B, S] bool
    log_probs: Tensor  # [B, L + S] of all choices, with gradient
    logits: Tensor  # [B, S], q, with gradient


class SkipController(nn.Module):
    """π over operators and skips of L layers.

    `preset` is one of `controller.PRESETS`; `generator` draws the weights.

    Raises:
        PapersError: an unknown preset, or fewer than two layers.
    """

    def __init__(
        self, layers: int = LAYERS, preset: str = "enas_code", generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if layers < 2:
            raise PapersError(f"{layers} layers have no skips; give two or more")
        self.layers, self.preset = layers, preset_of(preset)
        self.start = nn.Parameter(torch.empty(SIZE))
        self.embedding = nn.Parameter(torch.empty(OPERATORS, SIZE))
        self.lstm = nn.LSTMCell(SIZE, SIZE, bias=False)
        self.head = nn.Parameter(torch.empty(OPERATORS, SIZE))
        self.attention = nn.ParameterDict({"w1": torch.empty(SIZE, SIZE), "w2": torch.empty(SIZE, SIZE)})
        self.v = nn.Parameter(torch.empty(SIZE))
        for p in self.parameters():
            nn.init.uniform_(p, -START, START, generator=generator)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Drawn:
        """Draw `count` architectures; log-probabilities and logits carry the gradient."""
        x, state = self.start.expand(count, -1), None  # [B, SIZE]
        operators, skips, logits, log_probs = [], [], [], []
        anchors: list[Tensor] = []  # of the layers before, [B, SIZE] each
        for _ in range(self.layers):
            # -- operator: π(a) = softmax(c tanh(W h / T)) --
            state = self.lstm(x, state)
            log_p = bounded(state[0] @ self.head.T, self.preset).log_softmax(1)  # [B, 6]
            a = torch.multinomial(log_p.detach().exp(), 1, generator=generator)  # [B, 1]
            operators.append(a)
            log_probs.append(log_p.gather(1, a))

            # -- skips to the i layers before --
            state = self.lstm(self.embedding[a[:, 0]], state)
            x = self.start.expand(count, -1)
            if anchors:
                before = torch.stack(anchors, 1)  # [B, i, SIZE]
                # q_ij = c tanh(v · tanh(W₁ h_j + W₂ h_i) / T)
                query = before @ self.attention["w1"] + (state[0] @ self.attention["w2"])[:, None]
                q = bounded(torch.tanh(query) @ self.v, self.preset)  # [B, i]
                skip = torch.rand(q.shape, generator=generator) < torch.sigmoid(2 * q.detach())
                skips.append(skip)
                logits.append(q)
                log_probs.append(F.logsigmoid(torch.where(skip, 2 * q, -2 * q)))
                # the next input: Σ anchors skipped to / (1 + their number)
                chosen = skip.to(q.dtype)
                x = torch.einsum("bi,bis->bs", chosen, before) / (1 + chosen.sum(1, keepdim=True))
            anchors.append(state[0])  # h_i
        return Drawn(*(torch.cat(parts, 1) for parts in (operators, skips, log_probs, logits)))


def kl_of_skips(logits: Tensor, layers: int = LAYERS, target: float = 0.5) -> Tensor:
    """The released penalty, a scalar in nats: mean over layers 1 … L − 1 of the sum over their skips.

    Args:
        logits: [..., L (L − 1) / 2], q; the mean is over all that comes before, too.
        target: the probability of a skip that costs nothing. The code that samples skips with σ(2q) and
            counts σ(q) means another one than it says unless this is ½.

    Raises:
        PapersError: another number of logits, or a target that is no probability between 0 and 1.
    """
    skips = layers * (layers - 1) // 2
    if logits.shape[-1] != skips or not 0 < target < 1:
        raise PapersError(
            f"{logits.shape[-1]} logits and target {target}; {layers} layers have {skips} skips, and a "
            "target lies between 0 and 1"
        )
    # KL(Bern(p) ‖ Bern(t)) = p (log p − log t) + (1 − p) (log (1 − p) − log (1 − t))
    p = torch.sigmoid(logits)
    log_t = torch.tensor([target, 1 - target], dtype=logits.dtype).log()
    kl = p * (F.logsigmoid(logits) - log_t[0]) + (1 - p) * (F.logsigmoid(-logits) - log_t[1])
    return kl.sum(-1).mean() / (layers - 1)


def simulate(settings: SkipSettings) -> dict[str, Any]:
    """REINFORCE on skips where accuracy rises with their share.

    The child is simulated: its accuracy is LEVEL + gain · (share of skips) + a normal error. What this can
    show is what the controller makes of such a reward, and where its KL ends, not that real skips have it.

    Returns:
        `history`: per epoch the means over its architectures of `kl` from ½ in nats, whatever the penalty's
        target, `rate`, the share of skips drawn, and `reward`.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    controller = SkipController(settings.layers, settings.preset, generator)
    reinforce = Reinforce(controller, controller.preset)
    history = []
    for _ in range(settings.epochs):
        means = torch.zeros(3)  # of KL, share and reward
        for _ in range(settings.updates):
            drawn = controller.sample(settings.samples, generator)
            share = drawn.skips.float().mean(1)  # [B]
            noise = settings.noise * torch.randn(settings.samples, generator=generator)
            rewards = LEVEL + settings.gain * share + noise  # [B], accuracy of the simulated child
            penalty = None
            if settings.weight:
                penalty = settings.weight * kl_of_skips(drawn.logits, settings.layers, settings.target)
            reinforce.step(drawn.log_probs, rewards, penalty)
            kl = kl_of_skips(drawn.logits, settings.layers).detach()
            means += torch.stack([kl, share.mean(), rewards.mean()]) / settings.updates
        kl_mean, rate, reward = (round(value, 5) for value in means.tolist())
        history.append({"kl": kl_mean, "rate": rate, "reward": reward})
    return {"history": history}
