"""Every other router, one file each; `jaxroute.routers` says what such a file holds and finds it by its name."""
