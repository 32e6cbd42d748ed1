"""The linear multistep sampler (LMS) without SciPy, which diffusers' own class needs for one integral.

Same recurrence (Katherine Crowson's k-diffusion, `sample_lms`): the last four derivatives are extrapolated by Lagrange
polynomials over sigma, whose integrals from one sigma to the next are exact here.
"""

from __future__ import annotations

import functools

ORDER = 4


@functools.lru_cache(maxsize=1)
def scheduler_class():
    """`LMSDiscreteScheduler`: Euler's schedule and scaling with a multistep `step`. Made here, as diffusers loads late."""
    from diffusers import EulerDiscreteScheduler
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteSchedulerOutput

    class LMSDiscreteScheduler(EulerDiscreteScheduler):
        def set_timesteps(self, *args, **kwargs):
            super().set_timesteps(*args, **kwargs)
            self._derivatives = []

        def step(self, model_output, timestep, sample, generator=None, return_dict=True, **_):
            if self.step_index is None:
                self._init_step_index(timestep)
            sample, output = sample.float(), model_output.float()
            sigma = self.sigmas[self.step_index]
            predict = {"epsilon": lambda: sample - sigma * output, "sample": lambda: output}
            velocity = lambda: output * (-sigma / (sigma**2 + 1) ** 0.5) + sample / (sigma**2 + 1)
            original = predict.get(self.config.prediction_type, velocity)()
            self._derivatives = [(sample - original) / sigma, *self._derivatives[: ORDER - 1]]
            sigmas = [float(s) for s in self.sigmas]
            weights = coefficients(sigmas, self.step_index, len(self._derivatives))
            previous = sample + sum(w * d for w, d in zip(weights, self._derivatives))
            self._step_index += 1
            previous = previous.to(model_output.dtype)
            return EulerDiscreteSchedulerOutput(previous, original) if return_dict else (previous, original)

    return LMSDiscreteScheduler


def coefficients(sigmas: list[float], index: int, order: int) -> list[float]:
    """Integral from sigmas[index] to sigmas[index+1] of each Lagrange polynomial over the last `order` sigmas."""
    from numpy.polynomial import Polynomial

    nodes = [sigmas[index - j] for j in range(order)]
    weights = []
    for j, node in enumerate(nodes):
        basis = Polynomial([1.0])
        for k, other in enumerate(nodes):
            if k != j:
                basis *= Polynomial([-other, 1.0]) / (node - other)
        integral = basis.integ()
        weights.append(float(integral(sigmas[index + 1]) - integral(sigmas[index])))
    return weights
