"""The variational bound and its losses in PyTorch: densities are torch.distributions', gradients autograd's."""

import math

import torch
from diffusers import DDPMScheduler
from torch.distributions import Normal, kl_divergence

import pytorch_float64


def tables(schedule):
    """Beta and alpha_bar in float64 whatever the images are in, as improved-diffusion keeps them."""
    with pytorch_float64.schedules():
        made = DDPMScheduler.from_config(schedule)
    return made.betas, made.alphas_cumprod


def nats_of_pixels(x_0, mean, log_variance, cdf):
    """-ln P of the bin of 1/255 to either side, the first and the last of which are open."""
    p = Normal(mean, torch.exp(0.5 * log_variance))

    def below(edge):
        if cdf == "erf":
            return p.cdf(edge)
        z = (edge - mean) / p.scale
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    upper = torch.where(x_0 > 0.999, 1.0, below(x_0 + 1 / 255))
    lower = torch.where(x_0 < -0.999, 0.0, below(x_0 - 1 / 255))
    return -(upper - lower).clamp(min=1e-12).log()


class Chain:
    """The visited levels, and what each step makes of the image: Nichol and Dhariwal 2021, Section 4."""

    def __init__(self, a, timesteps, dtype):
        self.now = tables(a["schedule"])[1][timesteps.long()]
        self.before = torch.cat([torch.ones(1, dtype=torch.float64), self.now[:-1]])
        self.beta = 1 - self.now / self.before
        self.tilde = self.beta * (1 - self.before) / (1 - self.now)
        self.least = torch.cat([self.tilde[1:2] if len(self.now) > 1 else self.beta[:1], self.tilde[1:]])
        self.a, self.dtype = a, dtype

    def terms(self, i, x_0, noise, mean_half, variance_half, clip):
        """The terms of step i in nats for each element, and x_0_hat."""
        number = lambda x: x.to(self.dtype)  # noqa: E731
        now, before, beta = self.now[i], self.before[i], self.beta[i]
        signal, sigma = number(now.sqrt()), number((1 - now).sqrt())
        x_t = signal * x_0 + sigma * noise
        x_0_hat = {
            "epsilon": lambda: (x_t - sigma * mean_half) / signal,
            "sample": lambda: mean_half,
            "v_prediction": lambda: signal * x_t - sigma * mean_half,
        }[self.a["prediction_type"]]()
        x_0_hat = x_0_hat.clamp(-1, 1) if clip else x_0_hat
        low, high = number(self.least[i].log()), number(beta.log())
        kind = self.a["variance_type"]
        if kind == "learned":
            log_variance = variance_half
        elif kind == "learned_range":
            log_variance = low + (variance_half + 1) / 2 * (high - low)
        else:
            log_variance = (high if kind == "fixed_large" and i > 0 else low).expand_as(x_0)
        weights = number(before.sqrt() * beta / (1 - now)), number((now / before).sqrt() * (1 - before) / (1 - now))
        mean, truth = (weights[0] * x + weights[1] * x_t for x in (x_0_hat, x_0))
        if i == 0:
            return nats_of_pixels(x_0, mean, log_variance, self.a.get("cdf", "erf")), x_0_hat
        deviation = torch.exp(0.5 * log_variance)
        return kl_divergence(Normal(truth, torch.exp(0.5 * low)), Normal(mean, deviation)), x_0_hat


def of_images(x):
    return x.flatten(1).mean(1)


def variational_bound(a, x_0, noise, model_output, timesteps):
    chain, channels = Chain(a, timesteps, x_0.dtype), x_0.shape[1]
    clip = a.get("clip_sample", True)
    found = [chain.terms(i, x_0, noise[i], y[:, :channels], y[:, channels:], clip) for i, y in enumerate(model_output)]
    last = chain.now[-1]
    end = Normal(last.sqrt().to(x_0.dtype) * x_0, (1 - last).sqrt().to(x_0.dtype))
    prior = kl_divergence(end, Normal(torch.zeros_like(x_0), torch.ones_like(x_0)))
    return {
        "output.terms": torch.stack([of_images(nats) / math.log(2) for nats, _ in found]),
        "output.prior": of_images(prior) / math.log(2),
        "output.x_0_mse": torch.stack([of_images((x_0_hat - x_0) ** 2) for _, x_0_hat in found]),
    }


def hybrid_loss(a, x_0, noise, model_output, timesteps):
    """The squared error of the mean, and steps/1000 of a term in which the mean is detached; per image."""
    chain, channels = Chain(a, timesteps, x_0.dtype), x_0.shape[1]
    losses, model_output = [], model_output.detach().requires_grad_()
    for i, y in enumerate(model_output):
        signal, sigma = chain.now[i].sqrt().to(x_0.dtype), (1 - chain.now[i]).sqrt().to(x_0.dtype)
        targets = {"epsilon": noise[i], "sample": x_0, "v_prediction": signal * noise[i] - sigma * x_0}
        mean_half = y[:, :channels]
        nats, _ = chain.terms(i, x_0, noise[i], mean_half.detach(), y[:, channels:], False)
        simple = of_images((mean_half - targets[a["prediction_type"]]) ** 2)
        losses.append(simple + len(timesteps) / 1000 * of_images(nats) / math.log(2))
    losses = torch.stack(losses)
    return {"output.loss": losses, "grad.model_output": torch.autograd.grad(losses.sum(), model_output)[0]}


def loss_weight(a):
    """What the squared error of the output counts at each time, t = 1 first."""
    beta, alpha_bar = tables(a["schedule"])
    snr = alpha_bar / (1 - alpha_bar)
    of_output = {"epsilon": snr, "sample": torch.ones_like(snr), "v_prediction": snr + 1}[a["prediction_type"]]
    if a["weighting"] == "min_snr":
        of_x_0 = snr.clamp(max=a.get("gamma", 5.0))
    elif a["weighting"] == "p2":
        of_x_0 = snr / (a.get("k", 1.0) + snr) ** a.get("gamma", 1.0)
    else:
        before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
        tilde = beta * (1 - before) / (1 - alpha_bar)
        tilde[0] = tilde[1]
        of_x_0 = len(beta) * before * (beta / (1 - alpha_bar)) ** 2 / (2 * tilde * math.log(2))
    return {"output.weight": of_x_0 / of_output}
