"""Where Azure's prices come from, and what Azure Machine Learning adds to them.

The rows of `prices.csv` are prices of virtual machines with Linux in USD for one node and hour, GPUs
included, rounded up to a tenth of a cent. Azure ML bills its machines as such and adds nothing
(azure.microsoft.com/pricing/details/machine-learning). `make prices CLOUD=azure` compares the table
with Azure's list, which anybody may ask.

The column `source`:

    listed      Azure's retail price, as Karpenter's table has it, which is made of that list
                (github.com/Azure/karpenter-provider-azure, pkg/providers/pricing/
                zz_generated.pricing.go, commit 2b431da, made on the date below). Where SkyPilot's
                catalogue has a machine and region too, in the USA, it says the same
                (catalogs/v8/azure/vms.csv).

`spot` is no price that somebody has seen but the most that can be asked: the price on demand. Until
2026-03-31 Azure ML had low-priority machines for a fifth of it; since then `jobTier: Spot` gets Spot
machines (github.com/MicrosoftDocs/azure-ai-docs, pull/806 and pull/791), whose price changes with
region and demand up to that on demand, and Azure ML lets nobody set a lower bound. What they did
cost in the USA by the catalogue: 0.11 to 0.17 of the price on demand for T4 and A100, all of it for
H100. Machines that were taken away are paid for like others, from their start on.

`backends`: the list has a price for these pairs. Whether Azure ML has the machine there for a
subscription, only Azure ML can tell, and is asked before each launch (`quotas.py`). Left out is what
it has not, or nothing was found of: A10 (Standard_NV36ads_A10_v5) is on its own list of sizes, yet it
was refused as "not a supported VM size" in August 2026
(github.com/MicrosoftDocs/azure-ai-docs/blob/main/articles/machine-learning/concept-compute-target.md
names the series that are supported).

Machines without a GPU are of a series that a new subscription has quota for: in a public project's,
pay as you go in northeurope in August 2026, Azure ML allowed 16 vCPUs of FSv2, 20 of ESv3, which costs
half as much again, and 6 to 10 of the others, none of a GPU newer than NC and NV, and 0 on Spot.
"""

from __future__ import annotations

from pathlib import Path

DATE = "2026-06-18"
TABLE = Path(__file__).parent / "prices.csv"
# USD an hour, rounded up to a cent: a disk of 128 GiB (P10: 19.71 a month in eastus) and a public
# address (0.005). A load balancer for 50 nodes (0.33 a day) is counted too, which clusters have; of
# serverless jobs nothing says that they pay for none of the three.
# `online` is no backend but the deployments of online endpoints: machines of the service's own account, of which nothing
# but the hours is billed (azure.microsoft.com/pricing/details/machine-learning), and what is sent out.
EXTRA = {"azureml": 0.05, "online": 0.0}
FEE = ()


def added(backend: str, machine_type: str) -> float:
    """Give USD an hour that is added to a machine: its disk, its address, a load balancer."""
    return EXTRA[backend]
