"""Azure on this machine: strict stand-ins at Azure's own hosts, behind a proxy.

    with azure.serve(folder) as world:
        world.make.group("demo")
        subprocess.run([...], env=os.environ | world.environment)   # real clients, unmodified
        with azure.inside(world.environment):
            ...                                                     # the same in this process

No address is overridden anywhere: programs find the proxy by HTTPS_PROXY, and what vouches for its hosts by
REQUESTS_CA_BUNDLE and SSL_CERT_FILE. Hosts that are not Microsoft's are led through; those of Microsoft's that no
stand-in plays are refused, and fail the test.

Not modelled: networks and private endpoints, policies and locks, conditions of role assignments, groups of the directory,
management groups, several subscriptions and tenants, conditional access, propagation of roles (see `Roles.delayed`).

Sources: Azure/azure-rest-api-specs, pages of learn.microsoft.com and their sources on GitHub, and reports of users. Each
rule names its own. Where nothing is known the stand-ins do what is worse for a client, and say so.
"""

from stage.azure.errors import AzureError
from stage.azure.world import World, inside, serve

__all__ = ["AzureError", "World", "inside", "serve"]
