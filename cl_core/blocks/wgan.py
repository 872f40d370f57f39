"""WGAN-GP: a critic and a generator that train in one phase (Gulrajani et al., NeurIPS 2017).

The critic moves in every step, the generator in one of `n_critic`. Both read the same fakes of a step, and
the generator the critic before its move. Adam has the trainer's betas; GFR has .5 and MeRGAN 0 for the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cl_core.hparams import Float, Int, hp
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task, Term

Scores = Callable[[Tensor], Tensor]
"""A critic: [B, ...] -> [B]."""


@dataclass(frozen=True)
class Adversarial:
    """Hyperparameters of a generator and its critic, a base class for those of a method."""

    gan_lr: float = hp(
        1e-4,
        Float(1e-5, 1e-2, log=True),
        at_boundary=True,
        doc="of Adam, for generator and critic; official 1e-4",
    )
    n_critic: int = hp(
        5, Int(1, 10), at_boundary=True, searched=False, doc="steps of the critic for one of the generator; 5"
    )
    penalty_weight: float = hp(
        10.0, Float(0.1, 100, log=True), at_boundary=True, searched=False, doc="of the gradient penalty; 10"
    )

    def gan_recipe(self, recipe: Recipe, share: float) -> Recipe:
        """The recipe of generator and critic: Adam without decay, at rates that fall as in GFR."""
        steps = {"schedule": "step", "gamma": 0.3, "milestones": "0.4,0.8"}
        return recipe.stage(share, optimizer="adam", lr=self.gan_lr, weight_decay=0.0, **steps)

    def turn(self, g: Streams) -> dict[str, Tensor]:
        """Return the mark of a step in which the generator moves, else nothing; `g` are its streams."""
        return {"turn": torch.zeros(1)} if int(g.within[-1]) % self.n_critic == 0 else {}

    def critic_terms(self, critic: Scores, real: Tensor, fake: Tensor, mix: Tensor) -> dict[str, Term]:
        """The terms of the critic on real and fake inputs [B, ...], with the penalty between them.

        `mix` [B] is the share of the real one in each input of the penalty.
        """
        of_both = critic(torch.cat([real, fake]))
        gap = of_both[len(real) :].mean() - of_both[: len(real)].mean()
        return {
            "critic": Term(gap),
            "penalty": Term(gradient_penalty(critic, between(real, fake, mix)), self.penalty_weight),
        }


def between(real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Return mix real + (1 - mix) fake, [B, ...], for shares [B]."""
    share = mix.view(-1, *[1] * (real.ndim - 1))
    return share * real + (1.0 - share) * fake


def gradient_penalty(critic: Scores, x: Tensor) -> Tensor:
    """Return (|d critic(x)/dx| - 1)^2, the mean over inputs x [B, ...]; its gradient is in the critic."""
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1.0).square().mean()


def fixed(module: nn.Module) -> Callable[..., Tensor]:
    """The module as a function whose gradient passes to its inputs, and not to its parameters."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    return lambda *inputs: torch.func.functional_call(module, parameters, inputs)


def place_pair(
    s: State, make: Callable[[], tuple[nn.Module, nn.Module]], task: Task
) -> tuple[nn.Parameter, ...]:
    """Put generator and critic into `s.modules`, and return their parameters; `make` gives a pair as kept.

    In later tasks a second generator stays frozen beside them, as "old generator".
    """
    generator, critic = make()
    s.modules |= {"generator": generator, "critic": critic}
    if task.index:
        s.modules["old generator"] = make()[0].requires_grad_(False)
    return (*generator.parameters(), *critic.parameters())


def keep_modules(s: State, **modules: nn.Module) -> None:
    """Keep the tensors of modules under the names given."""
    for name, module in modules.items():
        s.kept |= {f"{name}.{key}": t.detach().clone() for key, t in module.state_dict().items()}


def revive(s: State, **modules: nn.Module) -> None:
    """Give fresh modules the tensors that were kept under their names; without any they stay as they are."""
    for name, module in modules.items():
        kept = {key: t for key, t in s.kept.items() if key.startswith(f"{name}.")}
        if kept:
            module.load_state_dict({key.removeprefix(f"{name}."): t for key, t in kept.items()})
