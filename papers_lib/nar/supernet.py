"""One network that holds every vector's: all operators at every place, of which one runs at a time.

Each convolution's place holds K operators with their own batch normalisation; stem, shortcuts and
classifier are shared by all vectors (Pham et al. 2018, Section 2.3; NAR, Section 3). A forward pass takes
a vector and costs what that vector's network costs, in time and in memory.

`begin`, `step` and `finish` are the same pass in pieces, one decision after the other: vectors that start
alike can share the beginning (`papers_lib.nar.enumeration`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.errors import PapersError
from papers_lib.nar.arcface import ArcFace
from papers_lib.nar.networks import Stem, lresnet50e_ir, resnet18
from papers_lib.nar.operators import CODED, LRESNET50E_IR, RESNET18, Rule, check


class State(NamedTuple):
    """Between two decisions: the maps that the next operator takes, and the shortcut of its block."""

    maps: Tensor  # [B, C, H, W]
    shortcut: Tensor | None  # what is added at the end of the block; None behind the last block


class SuperBlock(nn.Module):
    """torchvision's basic block with K operators and K batch normalisations at each of its two places."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = (
            nn.ModuleList([block.get_submodule(name) for block in blocks])
            for name in ("conv1", "bn1", "conv2", "bn2")
        )
        self.downsample: nn.Module | None = dict(blocks[0].named_children()).get("downsample")

    def enter(self, maps: Tensor) -> State:
        """The block's input; its shortcut is computed here, so that all operators that follow share it."""
        return State(maps, maps if self.downsample is None else self.downsample(maps))

    def first(self, state: State, code: int) -> State:
        """ReLU(BN(operator)) at the first place."""
        maps = self.bn1[code](self.conv1[code](state.maps))  # [B, outside, H / stride, W / stride]
        return State(F.relu(maps, inplace=True), state.shortcut)

    def second(self, state: State, code: int) -> Tensor:
        """ReLU(BN(operator) + shortcut) at the second place: the block's output."""
        assert state.shortcut is not None
        maps = self.bn2[code](self.conv2[code](state.maps))  # [B, outside, H / stride, W / stride]
        return F.relu(maps + state.shortcut, inplace=True)


class SuperIRBlock(SuperBlock):
    """ArcFace's block likewise; what lies before, between and beside its two places is shared."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__(blocks)
        self.bn0, self.prelu, self.shortcut = map(blocks[0].get_submodule, ("bn0", "prelu", "shortcut"))

    def enter(self, maps: Tensor) -> State:
        """Normalised input, and the shortcut of the input as it came."""
        return State(self.bn0(maps), self.shortcut(maps))

    def first(self, state: State, code: int) -> State:
        """PReLU(BN(operator)) at the first place."""
        return State(self.prelu(self.bn1[code](self.conv1[code](state.maps))), state.shortcut)

    def second(self, state: State, code: int) -> Tensor:
        """BN(operator) + shortcut at the second place, where the stride is."""
        assert state.shortcut is not None
        maps: Tensor = self.bn2[code](self.conv2[code](state.maps))  # [B, outside, H / stride, W / stride]
        return maps + state.shortcut


class SuperNet(nn.Module):
    """All networks `resnet18(vector, rule, stem, classes, width)` with one set of weights.

    Parameters have the names of `resnet18`'s with the operator's code behind the place,
    "layer1.0.conv1.3.weight", and its initialisation. Weights of an operator that was not run have no
    gradient (None), so that an optimiser leaves them, momentum and decay included, as they are.

    Args:
        decisions: N: 16 convolutions, 8 blocks (one operator for both convolutions), or 6 blocks of the
            first three stages.
        operators: K: the first K codes; the other arguments are those of `resnet18`.

    Raises:
        PapersError: a number of decisions or operators that there is not, an unknown rule or stem, a rule
            that cannot change channels with one of the operators, or sizes as `resnet18` refuses them.
    """

    def __init__(
        self,
        decisions: int = 8,
        width: int = 64,
        stem: Stem = "cifar",
        classes: int = 10,
        rule: Rule = "A",
        operators: int = CODED,
    ) -> None:
        super().__init__()
        self._check(decisions, operators, RESNET18)
        self.decisions, self.operators, self.classes = decisions, operators, classes
        # One whole network per operator: its convolutions give the places, the first one all that is shared.
        nets = [resnet18((code,) * decisions, rule, stem, classes, width) for code in range(operators)]
        self.fc = self._take(nets, SuperBlock)["fc"]  # one classifier for all vectors

    @staticmethod
    def _check(decisions: int, operators: int, known: tuple[int, ...]) -> None:
        if decisions not in known or operators < 1:
            raise PapersError(
                f"no supernet has {decisions} decisions of {operators} operators; decisions can be "
                f"{', '.join(map(str, known))}"
            )

    def _take(self, nets: Sequence[nn.Module], kind: type[SuperBlock]) -> dict[str, nn.Module]:
        """Stem and stages of networks that differ in their operators alone; what lies behind, by name."""
        children = [dict(net.named_children()) for net in nets]
        self.stem = nn.Sequential()  # what comes before the first stage
        self._blocks: list[SuperBlock] = []  # those of the stages, in order
        behind = {}
        for name, child in children[0].items():
            if isinstance(child, nn.Sequential):  # a stage
                blocks = [kind(same) for same in zip(*(c[name] for c in children), strict=True)]
                self.add_module(name, nn.Sequential(*blocks))
                self._blocks += blocks
            elif not self._blocks:
                self.stem.add_module(name, child)
            else:
                behind[name] = child
        return behind

    def forward(self, images: Tensor, vector: Sequence[int]) -> Tensor:
        """Logits [B, classes] float32 of the vector's network, for images [B, 3, H, W].

        Raises:
            PapersError: a vector too short, too long or with an unknown operator.
        """
        state = self.begin(images)  # [B, width, H, W]
        for decision, code in enumerate(check(vector, self.decisions, self.operators)):
            state = self.step(state, decision, code)
        return self.finish(state)

    def begin(self, images: Tensor) -> State:
        """Before the first decision."""
        return self._blocks[0].enter(self.stem(images))

    def step(self, state: State, decision: int, code: int) -> State:
        """Behind one more decision: a block, or, with 16 decisions, a convolution. `state` stays as it is."""
        if self.decisions != 2 * len(self._blocks):
            return self._leave(self._blocks[decision].first(state, code), decision, code)
        number, second = divmod(decision, 2)  # a decision is half a block
        return self._leave(state, number, code) if second else self._blocks[number].first(state, code)

    def _leave(self, state: State, number: int, code: int) -> State:
        """From within a block to the beginning of the next one."""
        maps = self._blocks[number].second(state, code)
        return State(maps, None) if number + 1 == len(self._blocks) else self._blocks[number + 1].enter(maps)

    def finish(self, state: State) -> Tensor:
        """Logits behind the last decision; in float32 also under autocast."""
        logits: Tensor = self.fc(state.maps.mean((2, 3)))  # [B, C, H, W] → [B, C] → [B, classes]
        return logits


class FaceSuperNet(SuperNet):
    """All networks `lresnet50e_ir(vector, rule, width, embedding)` and ArcFace's head, one set of weights.

    A forward pass gives the cosines to all identities, [B, C]: the largest is the answer, and the head's
    margin makes them a loss (`ArcFace.loss`). Parameters are named as those of `SuperNet`.

    Args:
        decisions: N: 24 blocks (one operator for both convolutions) or 48 convolutions.
        identities: C.
        image_size: side of the square images; the last linear layer fits its map.
        scale, margin: of ArcFace; the other arguments are those of `lresnet50e_ir`.

    Raises:
        PapersError: as `SuperNet`, `lresnet50e_ir` and `ArcFace`.
    """

    def __init__(
        self,
        identities: int,
        decisions: int = 24,
        width: int = 64,
        embedding: int = 512,
        image_size: int = 112,
        rule: Rule = "A",
        operators: int = CODED,
        scale: float = 64.0,
        margin: float = 0.5,
    ) -> None:
        nn.Module.__init__(self)
        self._check(decisions, operators, LRESNET50E_IR)
        self.decisions, self.operators, self.classes = decisions, operators, identities
        nets = [
            lresnet50e_ir((code,) * decisions, rule, width, embedding, image_size)
            for code in range(operators)
        ]
        self.embed = nn.Sequential(OrderedDict(self._take(nets, SuperIRBlock)))  # [B, C, H, W] → [B, d]
        self.head = ArcFace(embedding, identities, scale, margin)

    def finish(self, state: State) -> Tensor:
        """Cosines behind the last decision, [B, C] float32."""
        return self.head.cosines(self.embed(state.maps))


# -- statistics of batch normalisation ---------------------------------------------------------------------


@contextmanager
def running_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, the network is in evaluation mode; behind it, every module is in the mode it was in."""
    modes = {module: module.training for module in network.modules()}
    network.eval()  # dropout and the statistics of normalisation
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, batch normalisation uses the batch's own statistics and leaves the running ones alone.

    Everything else is as for evaluation. A shared network's running statistics mix those of all vectors
    that were trained, and fit none of them.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [norm.track_running_stats for norm in norms]
    with running_statistics(network):
        for norm in norms:
            norm.training, norm.track_running_stats = True, False  # the batch's own, and none are kept
        try:
            yield
        finally:
            for norm, track in zip(norms, kept, strict=True):
                norm.track_running_stats = track


@contextmanager
def recalibrated(supernet: SuperNet, vector: Sequence[int], batches: Sequence[Tensor]) -> Iterator[None]:
    """Inside, running statistics on the vector's path are the mean over these batches of its own.

    Guo et al. 2020 ("SPOS"), Section 3.4. On leaving, the old ones are back. The network is in evaluation
    mode inside; the momentum of its normalisations is not used.

    Raises:
        PapersError: no batch, or a vector as `SuperNet.forward` refuses it.
    """
    if not batches:
        raise PapersError("recalibration needs a batch of images")
    norms = [m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [({k: v.clone() for k, v in norm.named_buffers()}, norm.momentum) for norm in norms]
    with running_statistics(supernet):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean
            supernet.train()  # running statistics move, on the vector's path alone
            with torch.no_grad():
                for images in batches:  # [B, 3, H, W]
                    supernet(images, vector)
            supernet.eval()
            yield
        finally:
            for norm, (buffers, momentum) in zip(norms, kept, strict=True):
                norm.load_state_dict(buffers, strict=False)
                norm.momentum = momentum
