"""Samplers by the names people know → diffusers' scheduler classes. One table; a new sampler is one row."""

from __future__ import annotations

import re
from typing import Any

from reverie.errors import BadInput

_MULTI, _SINGLE = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
_KARRAS = {"use_karras_sigmas": True}

# name → (class, what it is given beside the model's own schedule)
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", _KARRAS),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "heun_karras": ("HeunDiscreteScheduler", _KARRAS),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_karras": ("KDPM2DiscreteScheduler", _KARRAS),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpm2_a_karras": ("KDPM2AncestralDiscreteScheduler", _KARRAS),
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "lms_karras": ("LMSDiscreteScheduler", _KARRAS),
    "dpmpp_2m": (_MULTI, {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_karras": (_MULTI, {"algorithm_type": "dpmsolver++", **_KARRAS}),
    "dpmpp_2m_sde": (_MULTI, {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2m_sde_karras": (_MULTI, {"algorithm_type": "sde-dpmsolver++", **_KARRAS}),
    "dpmpp_3m": (_MULTI, {"algorithm_type": "dpmsolver++", "solver_order": 3}),
    "dpmpp_3m_karras": (_MULTI, {"algorithm_type": "dpmsolver++", "solver_order": 3, **_KARRAS}),
    "dpmpp_2s": (_SINGLE, {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2s_karras": (_SINGLE, {"algorithm_type": "dpmsolver++", **_KARRAS}),
    "dpmpp_sde": (_SINGLE, {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_sde_karras": (_SINGLE, {"algorithm_type": "sde-dpmsolver++", **_KARRAS}),
    "deis": ("DEISMultistepScheduler", {}),
    "deis_karras": ("DEISMultistepScheduler", _KARRAS),
    "unipc": ("UniPCMultistepScheduler", {}),
    "unipc_karras": ("UniPCMultistepScheduler", _KARRAS),
    "lcm": ("LCMScheduler", {}),
}

# The samplers of models trained by flow matching. Euler is the model's own, with its shift.
FLOW: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "euler_a": ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
    "lcm": ("FlowMatchLCMScheduler", {}),
}

MOST_STEPS = {"lcm": 50}  # what its model was distilled from; other samplers take any number

# Other programs' names, after `_plain`.
ALIASES = {
    "euler_ancestral": "euler_a",
    "dpm2_ancestral": "dpm2_a",
    "dpmpp_2s_a": "dpmpp_2s",
    "dpmpp_2s_a_karras": "dpmpp_2s_karras",
    "dpmpp_2s_ancestral": "dpmpp_2s",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_sde_gpu": "dpmpp_sde",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
    "plms": "pndm",
}

# Of a loaded model's schedule only this goes to another scheduler: what the model was trained with.
_MODELS_OWN = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
    "rescale_betas_zero_snr",
)


def names() -> list[str]:
    """Every name in the table, as offered to people."""
    return sorted(TABLE)


def canonical(name: str) -> str:
    """`'DPM++ 2M Karras'` → `'dpmpp_2m_karras'`; the empty name stays empty. BadInput lists the names there are."""
    plain = _plain(name)
    plain = ALIASES.get(plain, plain)
    if plain and plain not in TABLE:
        raise BadInput(f"There is no sampler '{name}'.", f"Choose one of: {', '.join(names())}.")
    return plain


def build_flow(name: str, own_config: dict[str, Any]):
    """The scheduler called `name` for a flow model. BadInput if it is not one of the few that such models have."""
    import diffusers

    name = canonical(name) or "euler"
    if name not in FLOW:
        raise BadInput(f"The sampler '{name}' does not fit models like Flux.", f"Choose one of: {', '.join(FLOW)}.")
    class_name, options = FLOW[name]
    return getattr(diffusers, class_name).from_config({**own_config, **options})


def build(name: str, own_config: dict[str, Any]):
    """The scheduler called `name` for a model whose scheduler has `own_config`; its prediction type is kept."""
    import diffusers

    class_name, options = TABLE[canonical(name)]
    cls = _LMS() if class_name == "LMSDiscreteScheduler" else getattr(diffusers, class_name)
    config = {key: own_config[key] for key in _MODELS_OWN if key in own_config}
    if class_name == "DDIMScheduler":  # SD's latents are not bounded by 1
        options = {**options, "clip_sample": False, "set_alpha_to_one": False}
    return cls.from_config({**config, **options})


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower().replace("++", "pp"))


def _LMS():
    from reverie.engines._lms import scheduler_class

    return scheduler_class()
