"""Samplers that remember what they saw: multistep, singlestep, and predictor with corrector. As numpy_samplers.py has them:

    step(seen, to, noise, order, config) -> x at the level `to`

`seen` is what was seen, the newest first. Lambda is half the logarithm of the signal-to-noise ratio (`Level.half_log_snr`).
"""

import math

import numpy as np


def lagrange(points, j):
    """The polynomial that is 1 at point j and 0 at all others."""
    others = np.delete(points, j)
    return np.poly1d(others, r=True) / np.prod(points[j] - others)


def lms(seen, to, noise, order, config):
    """Adams and Bashforth on uneven steps, in sigma: dx/dsigma = eps, a polynomial through its last values (k-diffusion)."""
    now, seen = seen[0], seen[:4]
    sigmas = np.array([s.level.sigma for s in seen]) - now.level.sigma
    integrals = [lagrange(sigmas, j).integ()(to.sigma - now.level.sigma) for j in range(len(seen))]
    return now.x + sum(float(c) * s.eps for c, s in zip(integrals, seen))


def deis(seen, to, noise, order, config):
    """Zhang and Chen 2023, their multistep method (tAB-DEIS). As rho = sigma/signal changes, x/signal changes by eps drho.

    eps is a polynomial p through its last values: in diffusers of u = ln rho - ln rho_t, in the paper of t. drho = rho du, and
    the integral of p(u) e^u is e^u (p - p' + p'')(u), since p has at most degree 2.
    """
    now, seen = seen[0], seen[:order]
    points = np.array([now.level.half_log_snr - s.level.half_log_snr for s in seen])
    u = now.level.half_log_snr - to.half_log_snr

    def integral(p):
        q = p - p.deriv() + p.deriv(2)
        return float(now.level.ratio * (math.exp(u) * q(u) - q(0)))

    change = sum(integral(lagrange(points, j)) * s.eps for j, s in enumerate(seen))
    return to.signal / now.level.signal * now.x + to.signal * change


# --- DPM-Solver and DPM-Solver++: Lu et al. 2022 ---


def z_phi(z, order):
    """z phi_k(z) for k = 1 to `order`: phi_1 = (e^z - 1)/z, phi_(k+1) = (phi_k - 1/k!)/z (Hochbruck and Ostermann 2010)."""
    found = [math.expm1(z)]
    for k in range(1, order):
        found.append(found[-1] / z - 1 / math.factorial(k))
    return found


def exponential(algorithm, start, to):
    """The integral over lambda from one level to another: the weights of x and of fresh noise, and the scale and z with which

        x_s = of_x x_t + scale (sum over k of z phi_(k+1)(z) D_k) + of_noise noise

    D_k = h^k times derivative k of x_0_hat or eps_hat by lambda (DPM-Solver, Eq. 3.4; DPM-Solver++, Eq. 8). The two with "sde"
    solve the stochastic equation, which adds noise on the way: there eps counts twice, or z is doubled.
    """
    h = max(to.half_log_snr - start.half_log_snr, 0.0)  # rounding makes it -1e-16 where a last step stands still
    of_image, of_eps = to.sigma / start.sigma, to.signal / start.signal
    if algorithm == "dpmsolver":
        return of_eps, 0.0, -to.sigma, h
    if algorithm == "dpmsolver++":
        return of_image, 0.0, -to.signal, -h
    if algorithm == "sde-dpmsolver":
        return of_eps, to.sigma * math.sqrt(math.expm1(2 * h)), -2 * to.sigma, h
    if algorithm == "sde-dpmsolver++":
        return of_image * math.exp(-h), to.sigma * math.sqrt(-math.expm1(-2 * h)), -to.signal, -2 * h
    raise ValueError(f'algorithm_type "{algorithm}": known are dpmsolver, dpmsolver++, sde-dpmsolver, sde-dpmsolver++')


def algorithm_of(config):
    """The integral, and whether it is that of the noise."""
    algorithm = config.get("algorithm_type", "dpmsolver++")
    return algorithm, algorithm in ("dpmsolver", "sde-dpmsolver")


def dpm_multistep(seen, to, noise, order, config):
    """DPM-Solver++, Algorithm 2 (order 2), and its like of order 3: derivatives are divided differences of the last steps."""
    algorithm, of_eps = algorithm_of(config)
    now = seen[0].level
    of_x, of_noise, scale, z = exponential(algorithm, now, to)
    order = order if z else 1  # a step that stands still has no derivatives
    weights = [scale * w for w in z_phi(z, order)]
    m = [s.eps if of_eps else s.x_0 for s in seen[:order]]
    lambdas, h = [s.level.half_log_snr for s in seen[:order]], to.half_log_snr - now.half_log_snr
    x = of_x * seen[0].x + weights[0] * m[0] + of_noise * noise
    if order == 1:
        return x
    r0 = (lambdas[0] - lambdas[1]) / h
    d0 = (m[0] - m[1]) / r0
    if order == 2:
        return x + (weights[0] / 2 if config.get("solver_type") != "heun" else weights[1]) * d0
    r1 = (lambdas[1] - lambdas[2]) / h
    d1 = (m[1] - m[2]) / r1
    # Two slips of published programs are kept. Their D_2 is half of Taylor's. And where z phi_3 = phi_2 - 1/2, diffusers'
    # sde-dpmsolver++ has phi_2 + 1/2.
    first, second = d0 + r0 / (r0 + r1) * (d0 - d1), (d0 - d1) / (r0 + r1)
    slip = scale if algorithm == "sde-dpmsolver++" else 0.0
    return x + weights[1] * first + (weights[2] + slip) * second


def dpm_singlestep(seen, to, noise, order, config):
    """DPM-Solver, Algorithms 1 and 2: step number `order` of a group, from the group's start. "heun" has Taylor's weights."""
    algorithm, of_eps = algorithm_of(config)
    group = seen[:order][::-1]
    start = group[0].level
    of_x, of_noise, scale, z = exponential(algorithm, start, to)
    weights = [scale * w for w in z_phi(z, order)]
    m, h = [s.eps if of_eps else s.x_0 for s in group], to.half_log_snr - start.half_log_snr
    r = [(s.level.half_log_snr - start.half_log_snr) / h for s in group]
    x = of_x * group[0].x + weights[0] * m[0] + of_noise * noise
    if order == 1:
        return x
    heun = config.get("solver_type") == "heun"
    d1 = (m[1] - m[0]) / r[1]
    if order == 2:
        return x + (weights[1] if heun else weights[0] / 2) * d1
    d2 = (m[2] - m[0]) / r[2]
    if not heun:
        return x + weights[1] * d2
    return x + weights[1] * ((r[2] * d1 - r[1] * d2) / (r[2] - r[1])) + weights[2] * (2 * (d2 - d1) / (r[2] - r[1]))


# --- UniPC: Zhao et al. 2023 ---


def unipc(seen, to, noise, order, config, end=None):
    """UniP, or with what was seen at the end of the step UniC: Zhao et al. 2023, Algorithms 1 and 2.

    To the step of first order come differences from m_0, each over its r_k = (lambda_k - lambda_t)/h, by the weights of Theorem 3.1, Eq. 5:

        sum over k of r_k^(i-1) rho_k = i! z phi_(i+1)(z) / B(h),    B(h) = z (bh1) or e^z - 1 (bh2)
    """
    of_image = config.get("predict_x0", True)
    now = seen[0].level
    of_x, _, scale, z = exponential("dpmsolver++" if of_image else "dpmsolver", now, to)
    others = seen[1:order] + ([end] if end else [])
    m0, *m = [s.x_0 if of_image else s.eps for s in (seen[0], *others)]
    weights = z_phi(z, len(others) + 1)
    x = of_x * seen[0].x + scale * weights[0] * m0
    if not others:
        return x
    b = z if config.get("solver_type", "bh2") == "bh1" else math.expm1(z)
    r = np.array([(s.level.half_log_snr - now.half_log_snr) / (to.half_log_snr - now.half_log_snr) for s in others])
    conditions = [math.factorial(i) * weights[i] / b for i in range(1, len(weights))]
    # One unknown alone is 1/2, the limit for short steps.
    rho = np.linalg.solve(np.vander(r, increasing=True).T, conditions) if len(r) > 1 else np.array([0.5])
    return x + scale * b * sum((rho_k * (m_k - m0) for rho_k, m_k in zip((rho / r).tolist(), m)), 0.0)


# --- The order of a step ---


def singlestep_orders(steps, config, ends_clean):
    """Groups of orders 1, 2, ...; the last is shorter if steps are left over, if asked for, or if the chain ends at the image."""
    order = config.get("solver_order", 2)
    orders = [i % order + 1 for i in range(steps)]
    if steps % order == 0 and (config.get("lower_order_final", False) or ends_clean):
        end = {1: [1], 2: [1, 1], 3: [1, 2, 1]}[order]
        orders[steps - len(end) :] = end
    return orders[:-1] + [1] if ends_clean else orders


def order_of(kind, config, i, steps, to):
    """The order of step i, counted from 0; `steps` are infinitely many in the midst of a chain, where nothing lowers it."""
    left, clean = steps - i, to.sigma == 0
    if kind == "DPMSolverSinglestep":
        return singlestep_orders(steps, config, clean if left == 1 else True)[i] if steps < math.inf else 1
    most = math.inf if kind == "UniPCMultistep" else 3
    if config.get("lower_order_final", True) and (steps < 15 or kind == "UniPCMultistep"):
        most = min(most, left)
    if clean and kind != "UniPCMultistep" or left == 1 and config.get("euler_at_final"):
        most = 1
    return min(config.get("solver_order", 2), i + 1, most)
