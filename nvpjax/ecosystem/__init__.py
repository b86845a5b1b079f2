"""Densities and bijectors for other libraries of JAX, and theirs for nvpjax: one module a library.

    from nvpjax.ecosystem.numpyro import FlowDistribution, FlowGuide
    from nvpjax.ecosystem.samplers import among_latents, log_density
    from nvpjax.ecosystem.distrax import FlowBijector, FlowDistribution, ForeignBijector
    from nvpjax.ecosystem.tfp import FlowBijector, FlowDistribution, ForeignBijector

Each module imports its library, and says how to install it where it is absent; this package imports none of them.
"""
