"""The variational bound and what teaches a variance, without a framework: Nichol and Dhariwal 2021, as improved-diffusion has it."""

import math

import numpy as np

erf = np.frompyfunc(math.erf, 1, 1)  # a function of NumPy's: other arrays may bring their own


def normal_cdf(z, form):
    if form == "tanh":
        return 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    return 0.5 * (1 + erf(z / math.sqrt(2)).astype(z.dtype))


def normal_density(z, form):
    if form == "tanh":
        u = math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)
        return 0.5 * (1 - np.tanh(u) ** 2) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)
    return np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def decoder(x_0, mean, log_variance, form):
    """-ln P of each pixel's bin, and its derivative by the logarithm of the variance."""
    inverse = np.exp(-0.5 * log_variance)
    above, below = inverse * (x_0 - mean + 1 / 255), inverse * (x_0 - mean - 1 / 255)
    first, last = x_0 < -0.999, x_0 > 0.999
    p = np.where(last, 1, normal_cdf(above, form)) - np.where(first, 0, normal_cdf(below, form))
    moment = np.where(last, 0, above * normal_density(above, form)) - np.where(first, 0, below * normal_density(below, form))
    floor = np.asarray(1e-12, x_0.dtype)
    slope = np.where(p < floor, 0, 0.5 * moment / np.maximum(p, floor))
    return -np.log(np.maximum(p, floor)), slope


def levels(alpha_bars, timesteps):
    """Of each step of the chain alpha_bar, the one before, beta between them, and the smallest variance."""
    alpha_bar = alpha_bars[timesteps]
    before = np.concatenate([[1.0], alpha_bar[:-1]])
    beta = 1 - alpha_bar / before
    tilde = beta * (1 - before) / (1 - alpha_bar)
    return alpha_bar, before, beta, np.concatenate([tilde[1:2] if len(tilde) > 1 else beta[:1], tilde[1:]])


def terms(x_0, noise, model_output, timesteps, alpha_bars, prediction, variance, clip, form):
    """For each step: the terms in nats per element, their slope by what the network said of the variance, and x_0_hat."""
    real, channels = x_0.dtype.type, x_0.shape[1]
    alpha_bar, before, beta, smallest = levels(alpha_bars, timesteps)
    for i, (a, b) in enumerate(zip(alpha_bar, before)):
        signal, sigma = real(math.sqrt(a)), real(math.sqrt(1 - a))
        x_t, said = signal * x_0 + sigma * noise[i], model_output[i][:, :channels]
        if prediction == "epsilon":
            x_0_hat = (x_t - sigma * said) / signal
        else:
            x_0_hat = said if prediction == "sample" else signal * x_t - sigma * said
        x_0_hat = np.clip(x_0_hat, -1, 1) if clip else x_0_hat
        low, high = real(np.log(smallest[i])), real(np.log(beta[i]))
        slope = real(0)
        if variance == "fixed_small" or variance == "fixed_large" and i == 0:
            s = np.full_like(x_0, low)
        elif variance == "fixed_large":
            s = np.full_like(x_0, high)
        else:
            v, slope = model_output[i][:, channels:], real(1)
            s = v
            if variance == "learned_range":
                share = (v + 1) / 2
                s, slope = share * high + (1 - share) * low, (high - low) / 2
        weights = real(math.sqrt(b) * beta[i] / (1 - a)), real(math.sqrt(a / b) * (1 - b) / (1 - a))
        mean, truth = (weights[0] * x + weights[1] * x_t for x in (x_0_hat, x_0))
        if i == 0:
            nats, by_s = decoder(x_0, mean, s, form)
        else:
            distance = (truth - mean) ** 2 * np.exp(-s)
            nats = 0.5 * (s - low + (np.exp(low - s) - 1) + distance)
            by_s = 0.5 * (1 - np.exp(low - s) - distance)
        yield nats, by_s * slope, x_0_hat


def mean_of_images(x):
    return x.reshape(len(x), -1).mean(1)


def variational_bound(tables, x_0, noise, model_output, timesteps, prediction_type, variance_type, clip_sample=True, cdf="erf"):
    alpha_bars = tables
    last = alpha_bars[timesteps[-1]]
    found = list(
        terms(x_0, noise, model_output, timesteps, alpha_bars, prediction_type, variance_type, clip_sample, cdf)
    )
    real = x_0.dtype.type
    prior = 0.5 * (-1 - real(np.log(1 - last)) + np.exp(real(np.log(1 - last))) + (real(math.sqrt(last)) * x_0) ** 2)
    return {
        "output.terms": np.stack([mean_of_images(nats) / math.log(2) for nats, _, _ in found]),
        "output.prior": mean_of_images(prior) / math.log(2),
        "output.x_0_mse": np.stack([mean_of_images((x_0_hat - x_0) ** 2) for _, _, x_0_hat in found]),
    }


def hybrid_loss(tables, x_0, noise, model_output, timesteps, prediction_type, variance_type, cdf="erf"):
    """Per image: mean((target - mean half)^2) + steps/1000 of a term, in which the mean is held fixed."""
    real, channels, size = x_0.dtype.type, x_0.shape[1], x_0[0].size
    found = terms(x_0, noise, model_output, timesteps, tables, prediction_type, variance_type, False, cdf)
    losses, gradients, share = [], [], len(timesteps) / 1000
    for i, (nats, slope, _) in enumerate(found):
        a = tables[timesteps[i]]
        v = real(math.sqrt(a)) * noise[i] - real(math.sqrt(1 - a)) * x_0
        target = {"epsilon": noise[i], "sample": x_0, "v_prediction": v}[prediction_type]
        error = model_output[i][:, :channels] - target
        losses.append(mean_of_images(error**2) + share * mean_of_images(nats) / math.log(2))
        gradients.append(np.concatenate([2 * error / size, share * slope / (size * math.log(2))], axis=1))
    return {"output.loss": np.stack(losses), "grad.model_output": np.stack(gradients)}


def loss_weight(beta, alpha_bar, prediction_type, weighting, gamma=None, k=1.0):
    """What the squared error of the output counts at each time."""
    snr = alpha_bar / (1 - alpha_bar)
    before = np.concatenate([[1.0], alpha_bar[:-1]])
    tilde = beta * (1 - before) / (1 - alpha_bar)
    tilde[0] = tilde[1]
    of_x_0 = {
        "min_snr": lambda: np.minimum(snr, 5.0 if gamma is None else gamma),
        "p2": lambda: snr / (k + snr) ** (1.0 if gamma is None else gamma),
        "vlb": lambda: len(beta) * (np.sqrt(before) * beta / (1 - alpha_bar)) ** 2 / (2 * tilde * math.log(2)),
        "simple": lambda: {"epsilon": snr, "sample": np.ones_like(snr), "v_prediction": snr + 1}[prediction_type],
    }[weighting]()
    return {"output.weight": of_x_0 / {"epsilon": snr, "sample": 1, "v_prediction": snr + 1}[prediction_type]}
