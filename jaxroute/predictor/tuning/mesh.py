"""The mesh of devices, and where every array lives on it."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxroute.errors import TableError
from jaxroute.predictor.tuning.config import MeshConfig

AXES = ("data", "fsdp")
SMALL = 2**14
"""Arrays with fewer elements are copied to every device."""


@dataclass(frozen=True)
class Devices:
    """A mesh with the axes `data` and `fsdp`."""

    mesh: Mesh

    @property
    def count(self) -> int:
        return self.mesh.size

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def rows(self) -> NamedSharding:
        """Of a batch: its first axis split over all devices."""
        return NamedSharding(self.mesh, PartitionSpec(AXES))

    def weight(self, shape: tuple[int, ...]) -> NamedSharding:
        """Split over `fsdp` along the largest axis that divides; stacked weights never along the layers, which are scanned."""
        parts, first = self.mesh.shape["fsdp"], 1 if len(shape) == 3 else 0
        fitting = [axis for axis in range(first, len(shape)) if shape[axis] % parts == 0]
        if parts == 1 or not fitting or np.prod(shape) < SMALL:
            return self.replicated
        split = max(fitting, key=lambda axis: shape[axis])
        return NamedSharding(self.mesh, PartitionSpec(*("fsdp" if axis == split else None for axis in range(len(shape)))))

    def place(self, _: str, array: np.ndarray) -> Array:
        """Put one weight where it belongs; every process holds the whole of it on the host."""
        return self.put(array, self.weight(array.shape))

    def put(self, array: np.ndarray, sharding: NamedSharding) -> Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def put_batch(self, array: np.ndarray) -> Array:
        return self.put(array, self.rows)

    def keep(self, tree):
        """Inside a jitted function: every array of `tree` stays where `weight` puts it."""
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, self.weight(leaf.shape)), tree)

    def abstract(self, tree):
        """Abstract arrays of `tree`, each with its sharding."""
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.weight(leaf.shape)), tree)


def connect(config: MeshConfig) -> None:
    """Join the other processes, where the configuration names any; before JAX first looks at its devices."""
    if config.coordinator == "auto":
        jax.distributed.initialize()
    elif config.coordinator is not None:
        jax.distributed.initialize(config.coordinator, config.processes, config.process)


def devices(config: MeshConfig) -> Devices:
    """The mesh that `config` asks for. Raises `TableError` where there are too few devices."""
    available = jax.devices()
    data = len(available) // config.fsdp if config.data == -1 else config.data
    wanted = data * config.fsdp
    if wanted > len(available) or wanted < 1:
        raise TableError(
            f"mesh: data={config.data} x fsdp={config.fsdp} needs {max(wanted, config.fsdp)} devices, there are "
            f"{len(available)} ({available[0].platform}); on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count=N makes N"
        )
    if wanted < len(available) and jax.process_count() > 1:
        raise TableError(
            f"mesh: data={config.data} x fsdp={config.fsdp} leaves devices of some processes unused: use all {len(available)}"
        )
    return Devices(Mesh(np.array(available[:wanted]).reshape(data, config.fsdp), AXES))
